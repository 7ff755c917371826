//! Counting parameters.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// The number of trainable values in a model, as PyTorch counts them: running statistics are
/// buffers, not parameters (Burn's `num_params` includes them).
///
/// ```
/// # let device = kiln_testing::devices().remove(0);
/// let linear = burn::nn::LinearConfig::new(3, 4).init(&device);
/// assert_eq!(kiln_zoo::num_params(&linear), 3 * 4 + 4);
/// let norm = burn::nn::BatchNormConfig::new(8).init(&device);
/// assert_eq!(kiln_zoo::num_params(&norm), 2 * 8);
/// ```
pub fn num_params<M: Module>(model: &M) -> usize {
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0 += param.shape().num_elements();
            }
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    count.0
}
