//! Gradients as a list, whatever their ranks, and back.

use std::collections::HashSet;

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

/// A gradient of any rank, on its way through the operations on many tensors.
pub(crate) struct Grad {
    pub(crate) head: Head,
    pub(crate) tensor: DispatchTensor,
}

/// All of a gradient but its values.
pub(crate) struct Head {
    pub(crate) id: ParamId,
    pub(crate) device: Device,
    put: fn(&mut GradientsParams, ParamId, DispatchTensor),
}

impl Grad {
    pub(crate) fn new<const D: usize>(id: ParamId, tensor: Tensor<D>) -> Self {
        Self {
            head: Head {
                id,
                device: tensor.device(),
                put: |grads, id, tensor| grads.register(id, Tensor::<D>::from_dispatch(tensor)),
            },
            tensor: tensor.into_dispatch(),
        }
    }

    pub(crate) fn split(self) -> (Head, DispatchTensor) {
        (self.head, self.tensor)
    }

    /// Puts it back.
    pub(crate) fn give(self, grads: &mut GradientsParams) {
        (self.head.put)(grads, self.head.id, self.tensor);
    }
}

impl Head {
    pub(crate) fn with(self, tensor: DispatchTensor) -> Grad {
        Grad { head: self, tensor }
    }
}

/// Where a parameter is in its module.
pub(crate) struct Place<'a> {
    pub(crate) id: ParamId,
    names: &'a [(String, String)],
}

impl Place<'_> {
    /// The path under Burn's names, as [`burn::module::ParamGroup`] matches it.
    pub(crate) fn path(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(|(name, _)| name.as_str()).collect();
        names.join(".")
    }

    /// The path under PyTorch's names, to which the variant of an enum adds nothing.
    pub(crate) fn name(&self) -> String {
        let outside_enums = self.names.iter().filter(|(_, c)| !c.starts_with("Enum:"));
        let names: Vec<&str> = outside_enums.map(|(name, _)| name.as_str()).collect();
        names.join(".")
    }

    /// The axis whose entries are the units of a weight: outputs. Burn stores a linear layer's weight as
    /// `[in, out]` and a transposed convolution's as `[in, out, ...]`; all else has its units first, as PyTorch.
    pub(crate) fn unit_axis(&self, rank: usize) -> usize {
        let layer = self
            .names
            .iter()
            .rev()
            .find_map(|(_, c)| c.strip_prefix("Struct:"));
        match layer {
            Some(layer)
                if rank >= 2 && (layer == "Linear" || layer.starts_with("ConvTranspose")) =>
            {
                1
            }
            _ => 0,
        }
    }
}

/// Calls `each` with every float parameter of a module once, in the order of its fields.
///
/// A parameter that a module holds twice (tied weights) is seen at its first place only.
pub(crate) fn walk<M: Module>(module: &M, names: bool, each: impl Each) {
    struct Walk<E> {
        names: Vec<(String, String)>,
        keep: bool,
        seen: HashSet<ParamId>,
        each: E,
    }
    impl<E: Each> ModuleVisitor for Walk<E> {
        fn enter_module(&mut self, name: &str, container: &str) {
            if self.keep {
                self.names.push((name.into(), container.into()));
            }
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.names.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.seen.insert(param.id) {
                let place = Place {
                    id: param.id,
                    names: &self.names,
                };
                self.each.see(&place, param);
            }
        }
    }
    module.visit(&mut Walk {
        names: Vec::new(),
        keep: names,
        seen: HashSet::new(),
        each,
    });
}

/// What is done with a parameter of any rank.
pub(crate) trait Each {
    fn see<const D: usize>(&mut self, place: &Place<'_>, param: &Param<Tensor<D>>);
}

/// Every gradient, which stays where it is.
pub(crate) fn borrow<M: Module>(grads: &GradientsParams, module: &M) -> Vec<Grad> {
    struct Borrow<'a>(&'a GradientsParams, &'a mut Vec<Grad>);
    impl Each for Borrow<'_> {
        fn see<const D: usize>(&mut self, place: &Place<'_>, _: &Param<Tensor<D>>) {
            let grad = self.0.get::<D>(place.id);
            self.1.extend(grad.map(|g| Grad::new(place.id, g)));
        }
    }
    let mut list = Vec::with_capacity(grads.len());
    walk(module, false, Borrow(grads, &mut list));
    list
}

/// Takes every gradient out; nothing else holds on to it then, so that it may be changed in place.
pub(crate) fn take<M: Module>(grads: &mut GradientsParams, module: &M) -> Vec<Grad> {
    struct Take<'a>(&'a mut GradientsParams, &'a mut Vec<Grad>);
    impl Each for Take<'_> {
        fn see<const D: usize>(&mut self, place: &Place<'_>, _: &Param<Tensor<D>>) {
            let grad = self.0.remove::<D>(place.id);
            self.1.extend(grad.map(|g| Grad::new(place.id, g)));
        }
    }
    let mut list = Vec::with_capacity(grads.len());
    walk(module, false, Take(grads, &mut list));
    list
}

/// Puts gradients back.
pub(crate) fn give(grads: &mut GradientsParams, list: Vec<Grad>) {
    list.into_iter().for_each(|grad| grad.give(grads));
}

/// The device of a number about gradients that do not exist.
pub(crate) fn device_of<M: Module>(module: &M) -> Device {
    let first = module.devices().into_iter().next();
    // A module without a parameter has no device; then Burn's default is as good as any.
    first.unwrap_or_default().inner()
}
