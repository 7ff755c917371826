//! Operations on many tensors at once: the norm of each, and each times a number.
//!
//! A network has hundreds of gradients, most of them small. Taken one by one, each costs several operations; these take
//! all of them together.
//!
//! | backend | body |
//! |---|---|
//! | any | plain tensor operations, the reference of the tests ([`plain`]) |
//! | `flex` (feature `flex`), f32 | one pass over all values for the norms and one for the products, in place where nothing else holds the tensor |
//!
//! Tensors are [`DispatchTensor`]s, so that one list holds tensors of any rank. They hold floats and are not tracked by
//! autodiff. Nothing here reads a tensor back.

#[cfg(feature = "flex")]
mod flex;
pub mod plain;

use burn::backend::DispatchTensor;
use burn::tensor::Tensor;

/// The norm of order `p` (any `p > 0`, also infinity) of each tensor, `[tensors.len()]`, in f32, or in f64 if all
/// tensors are f64.
///
/// Values are squared without overflow or underflow, and f16 and bf16 summed in f32. NaN in a tensor makes its norm NaN.
/// All tensors are on one device and have at least one value each; there is at least one tensor.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_kernels::multi_tensor::norms;
/// # let device = kiln_testing::devices().remove(0);
/// let a = Tensor::<2>::from_floats([[3.0, 4.0]], &device);
/// let b = Tensor::<1>::from_floats([-2e30], &device);
/// let norms = norms(&[a.into_dispatch(), b.into_dispatch()], 2.0);
/// assert_eq!(norms.try_into_vec_as::<f32>().unwrap(), [5.0, 2e30]);
/// ```
///
/// # Panics
///
/// If there is no tensor, or one has no values.
pub fn norms(tensors: &[DispatchTensor], p: f64) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if let Some(norms) = flex::norms(tensors, p) {
        return norms;
    }
    plain::norms(tensors, p)
}

/// Each tensor multiplied by a number: the only one of `factors`, `[1]`, or its own, `[tensors.len()]`. All are on one
/// device.
///
/// With `zero`, a factor of 0 gives zeros, also where a tensor is not finite; without, 0 · ∞ is NaN. A product is
/// computed in f32 at least and has the tensor's type.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_kernels::multi_tensor::scale;
/// # let device = kiln_testing::devices().remove(0);
/// let tensors = [[3.0, 4.0], [f32::NAN, 1.0]].map(|v| Tensor::<1>::from_floats(v, &device).into_dispatch());
/// let factors = Tensor::from_floats([0.5, 0.0], &device);
/// let scaled = scale(tensors.to_vec(), &factors, true).into_iter().map(Tensor::<1>::from_dispatch);
/// let scaled: Vec<f32> = scaled.flat_map(|t| t.try_into_vec_as::<f32>().unwrap()).collect();
/// assert_eq!(scaled, [1.5, 2.0, 0.0, 0.0]);
/// ```
pub fn scale(tensors: Vec<DispatchTensor>, factors: &Tensor<1>, zero: bool) -> Vec<DispatchTensor> {
    #[cfg(feature = "flex")]
    let tensors = match flex::scale(tensors, factors, zero) {
        Ok(scaled) => return scaled,
        Err(tensors) => tensors,
    };
    plain::scale(tensors, factors, zero)
}
