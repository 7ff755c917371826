//! Steps that are not taken.

use std::collections::HashMap;

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::kind::Numeric;
use burn::tensor::{Bool, Int, Tensor};

/// The module after a step, or as it was before where the step's norm was not finite: chosen on the device.
///
/// `finite` is `[1]`, as [`Clipped::finite`](crate::Clipped) has it. Zeroed gradients alone do not stop an optimizer that has
/// momentum; this does. All that `before` holds is kept, the whole module or a part of it: parameters, running statistics
/// and counters. A forward pass changes statistics, so a copy made before it restores them too; one made after it keeps what
/// a bad batch made of them. The optimizer's own state is not restored; it has seen a gradient of 0.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Tensor;
/// # let device = kiln_testing::devices().remove(0);
/// let before = LinearConfig::new(2, 2).init(&device);
/// let mut after = before.clone();
/// after.weight = after.weight.map(|weight| weight + 1.0);
/// let norm = Tensor::<1>::from_floats([f32::NAN], &device);
/// let kept = kiln_clip::keep_if_nonfinite(&before, after, &norm.is_finite());
/// kept.weight.val().into_data().assert_eq(&before.weight.val().into_data(), true);
/// ```
pub fn keep_if_nonfinite<M: Module>(before: &impl Module, after: M, finite: &Tensor<1, Bool>) -> M {
    let mut values = Values(HashMap::new());
    before.visit(&mut values);
    let before = values.0;
    after.map(&mut Choose { before, finite })
}

/// The values of a module by their parameters, without autodiff.
struct Values(HashMap<ParamId, DispatchTensor>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.insert(param.id, param.val().inner().into_dispatch());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.0.insert(param.id, param.val().into_dispatch());
    }
}

struct Choose<'a> {
    before: HashMap<ParamId, DispatchTensor>,
    finite: &'a Tensor<1, Bool>,
}

impl Choose<'_> {
    /// `after` where the step's norm is finite, else `before`.
    fn choose<const D: usize, K: Numeric>(
        &self,
        before: Tensor<D, K>,
        after: Tensor<D, K>,
    ) -> Tensor<D, K> {
        let finite = match self.finite.device() == after.device() {
            true => self.finite.clone(),
            false => self.finite.clone().to_device(&after.device()),
        };
        let finite = finite.reshape([1; D]).expand(after.shape());
        before.mask_where(finite, after)
    }
}

impl ModuleMapper for Choose<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(before) = self.before.get(&param.id) else {
            return param;
        };
        let before = Tensor::<D>::from_dispatch(before.clone());
        let (id, after, mapper) = param.consume();
        let (require_grad, autodiff) = (after.is_require_grad(), after.is_autodiff());
        let strategy = after.gradient_checkpointing_strategy();
        let mut chosen = self.choose(before, after.inner());
        if autodiff {
            chosen = Tensor::from_inner(chosen);
            if let Some(strategy) = strategy {
                chosen = chosen.with_gradient_checkpointing_strategy(strategy);
            }
        }
        if require_grad {
            chosen = chosen.require_grad();
        }
        Param::from_mapped_value(id, chosen, mapper)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let Some(before) = self.before.get(&param.id) else {
            return param;
        };
        let before = Tensor::<D, Int>::from_dispatch(before.clone());
        let (id, after, mapper) = param.consume();
        Param::from_mapped_value(id, self.choose(before, after), mapper)
    }
}
