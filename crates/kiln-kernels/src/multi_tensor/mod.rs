//! Operations on many tensors at once: the norm of each, and each times a number.
//!
//! A network has hundreds of gradients, most of them small. Taken one by one, each costs several operations; these take
//! all of them together.
//!
//! | backend | body |
//! |---|---|
//! | any | plain tensor operations, the reference of the tests ([`plain`]) |
//! | CubeCL's runtimes (features `wgpu`, `cuda`, `rocm`, `cpu`); f32, f16, bf16 | kernels that take many tensors at once, in place where nothing else holds the tensor: a launch for up to 64 tensors and one more for the norms |
//! | `flex` (feature `flex`), f32 | one pass over all values for the norms and one for the products, in place where nothing else holds the tensor |
//!
//! Tensors are [`DispatchTensor`]s, so that one list holds tensors of any rank. They hold floats and are not tracked by
//! autodiff. Nothing here reads a tensor back.

#[cfg(feature = "cubecl")]
mod cube;
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
    #[cfg(feature = "cubecl")]
    if let Some(norms) = cube::norms(tensors, p) {
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
    #[cfg(feature = "cubecl")]
    let tensors = match cube::scale(tensors, factors, zero) {
        Ok(scaled) => return scaled,
        Err(tensors) => tensors,
    };
    plain::scale(tensors, factors, zero)
}

/// Whether the axes of a tensor are only in another order than memory has them, so that its values lie without gaps.
#[cfg(any(feature = "flex", feature = "cubecl"))]
fn is_permuted(shape: &[usize], strides: impl IntoIterator<Item = isize>) -> bool {
    let axes = strides.into_iter().zip(shape);
    let mut axes: Vec<(isize, usize)> = axes
        .map(|(stride, &size)| (stride, size))
        .filter(|(_, size)| *size > 1)
        .collect();
    axes.sort_unstable();
    let mut expected = 1;
    axes.into_iter().all(|(stride, size)| {
        let fits = stride == expected;
        expected *= size as isize;
        fits
    })
}

#[cfg(all(test, any(feature = "flex", feature = "cubecl")))]
mod tests {
    use super::*;

    #[test]
    fn a_permuted_tensor_has_no_gaps_and_a_part_or_a_broadcast_has() {
        assert!(is_permuted(&[2, 3, 4], [12, 4, 1]));
        assert!(is_permuted(&[4, 1, 3], [1, 77, 4]));
        assert!(!is_permuted(&[2, 3], [4, 1]));
        assert!(!is_permuted(&[2, 2, 3], [3, 2, 3]));
        assert!(!is_permuted(&[3, 3], [0, 1]));
        assert!(!is_permuted(&[3], [-1]));
    }
}
