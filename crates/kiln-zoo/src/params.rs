//! Counting parameters.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::pass::product;

/// The number of values in a model's parameters, frozen or not, as PyTorch counts them: running
/// statistics are buffers, not parameters (Burn's `num_params` includes them).
///
/// ```
/// # let device = kiln_testing::devices().remove(0);
/// let linear = burn::nn::LinearConfig::new(3, 4).init(&device);
/// assert_eq!(kiln_zoo::num_params(&linear), 3 * 4 + 4);
/// let norm = burn::nn::BatchNormConfig::new(8).init(&device);
/// assert_eq!(kiln_zoo::num_params(&norm), 2 * 8);
/// ```
pub fn num_params<M: Module>(model: &M) -> usize {
    #[derive(Default)]
    struct Count {
        path: Vec<String>,
        parameters: usize,
    }
    impl ModuleVisitor for Count {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            // Burn visits buffers as it visits parameters; their names are PyTorch's.
            let buffer = self
                .path
                .last()
                .is_some_and(|name| name.starts_with("running_"));
            if !buffer {
                let values = product(param.lazy_shape().as_slice());
                self.parameters = self.parameters.saturating_add(values);
            }
        }
    }
    let mut count = Count::default();
    model.visit(&mut count);
    count.parameters
}
