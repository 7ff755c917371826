//! A step of an optimizer in one pass over its tensors.

use burn::tensor::Tensor;

/// The numbers of one step of Adam, after what depends on the step's number has been worked out.
///
/// With the gradient `g + l2 · w` for `g`:
///
/// ```text
/// m = betas[0] · m + (1 - betas[0]) · g
/// v = betas[1] · v + (1 - betas[1]) · g²
/// w = keep · w - size · m / (sqrt(v) + eps)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// How much of the moments is kept.
    pub betas: [f64; 2],
    /// The learning rate, corrected for the moments' start at zero.
    pub size: f64,
    /// Added to the root, corrected as it is.
    pub eps: f64,
    /// How much of the weight is added to the gradient.
    pub l2: f64,
    /// How much of the weight is kept.
    pub keep: f64,
}

/// The weights and both moments after a step of Adam
/// ([Kingma and Ba 2015](https://arxiv.org/abs/1412.6980)) or AdamW
/// ([Loshchilov and Hutter 2019](https://arxiv.org/abs/1711.05101)).
///
/// All tensors have one shape. Without moments they are zero. On `flex`, `f32` tensors take one pass by all threads, in
/// place where nothing else holds them; everything else is tensor operations, which Burn fuses on a GPU.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_kernels::{AdamStep, adam};
/// # let device = kiln_testing::devices().remove(0);
/// let [weight, grad] = [1.0, 0.5].map(|v| Tensor::<1>::from_floats([v], &device));
/// let step = AdamStep { betas: [0.9, 0.999], size: 0.1, eps: 0.0, l2: 0.0, keep: 1.0 };
/// let (weight, [mean, _]) = adam(weight, grad, None, step);
/// assert!((mean.into_scalar::<f32>() - 0.05).abs() < 1e-6);
/// assert!((weight.into_scalar::<f32>() - (1.0 - 0.1 * 0.05 / (0.001f32 * 0.25).sqrt())).abs() < 1e-5);
/// ```
///
/// # Panics
///
/// If the shapes differ.
pub fn adam<const D: usize>(
    weight: Tensor<D>,
    grad: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
    step: AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    assert_eq!(weight.dims(), grad.dims(), "adam: weight and gradient");
    for moment in moments.iter().flatten() {
        assert_eq!(weight.dims(), moment.dims(), "adam: weight and moment");
    }
    #[cfg(feature = "flex")]
    let (weight, grad, moments) = match crate::flex::adam(weight, grad, moments, step) {
        Ok(done) => return done,
        Err(given) => given,
    };
    plain_adam(weight, grad, moments, step)
}

/// [`adam`] by tensor operations, the reference of the tests.
pub fn plain_adam<const D: usize>(
    weight: Tensor<D>,
    grad: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
    step: AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let [beta1, beta2] = step.betas;
    let grad = match step.l2 == 0.0 {
        true => grad,
        false => grad + weight.clone() * step.l2,
    };
    let weight = match step.keep == 1.0 {
        true => weight,
        false => weight * step.keep,
    };
    let mean = grad.clone() * (1.0 - beta1);
    let square = grad.square() * (1.0 - beta2);
    let (mean, square) = match moments {
        None => (mean, square),
        Some([old_mean, old_square]) => (old_mean * beta1 + mean, old_square * beta2 + square),
    };
    let denominator = square.clone().sqrt() + step.eps;
    let update = mean.clone() / denominator * step.size;
    (weight - update, [mean, square])
}
