//! Clipping each value.

use burn::backend::TensorMetadata;
use burn::module::Module;
use burn::optim::GradientsParams;

use kiln_kernels::multi_tensor::plain;

use crate::grads;

/// Clips every value of every gradient into `[-clip_value, clip_value]`: `torch.nn.utils.clip_grad_value_`.
///
/// NaN stays NaN, and an infinity becomes the limit. It turns the direction of the step; what papers mean by gradient
/// clipping is mostly [`clip_grad_norm`](crate::clip_grad_norm). Nothing is read back.
///
/// # Panics
///
/// If `clip_value` is negative or NaN.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::Tensor;
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// let linear = LinearConfig::new(2, 1).with_bias(false).init(&device);
/// let loss = linear.forward(Tensor::<2>::from_floats([[-3.0, 0.25]], &device)).sum();
/// let mut grads = GradientsParams::from_grads(loss.backward(), &linear);
/// kiln_clip::clip_grad_value(&mut grads, &linear, 0.5);
/// let clipped = grads.get::<2>(linear.weight.id).unwrap();
/// assert_eq!(clipped.try_into_vec_as::<f32>().unwrap(), [-0.5, 0.25]);
/// ```
#[doc(alias = "clip_grad_value_")]
pub fn clip_grad_value<M: Module>(grads: &mut GradientsParams, module: &M, clip_value: f64) {
    assert!(
        clip_value >= 0.0,
        "clip_value ({clip_value}) must be at least 0"
    );
    for grad in grads::take(grads, module) {
        let (head, mut tensor) = grad.split();
        if tensor.shape().num_elements() > 0 {
            tensor = plain::clamp(tensor, clip_value);
        }
        head.with(tensor).give(grads);
    }
}
