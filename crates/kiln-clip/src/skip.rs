//! Steps that are not taken.

use std::collections::HashMap;

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Bool, Tensor};

use crate::grads::{Each, Place, walk};

/// The module after a step, or as it was before where the step's norm was not finite: chosen on the device.
///
/// `finite` is `[1]`, as [`Clipped::finite`](crate::Clipped) has it. Zeroed gradients alone do not stop an optimizer that has
/// momentum; this does. Only trained parameters are kept; running statistics, which a forward pass has changed already,
/// stay as they are, and so does the optimizer's own state, which has seen a gradient of 0.
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
pub fn keep_if_nonfinite<M: Module>(before: &M, after: M, finite: &Tensor<1, Bool>) -> M {
    struct Values<'a>(&'a mut HashMap<ParamId, DispatchTensor>);
    impl Each for Values<'_> {
        fn see<const D: usize>(&mut self, place: &Place<'_>, param: &Param<Tensor<D>>) {
            let value = param.val();
            if value.is_require_grad() || !value.is_autodiff() {
                self.0.insert(place.id, value.inner().into_dispatch());
            }
        }
    }
    struct Choose<'a> {
        before: HashMap<ParamId, DispatchTensor>,
        finite: &'a Tensor<1, Bool>,
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
            let after = after.inner();
            let finite = match self.finite.device() == after.device() {
                true => self.finite.clone(),
                false => self.finite.clone().to_device(&after.device()),
            };
            let finite = finite.reshape([1; D]).expand(after.shape());
            let mut chosen = before.mask_where(finite, after);
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
    }
    let mut values = HashMap::new();
    walk(before, false, Values(&mut values));
    after.map(&mut Choose {
        before: values,
        finite,
    })
}
