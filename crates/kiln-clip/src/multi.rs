//! Operations on many tensors at once, of plain tensor operations: right on every backend, on none the fastest.
//!
//! Nothing here reads a tensor: every number stays on the device.

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape, Tensor};

use crate::NormType;

/// The norm of each tensor, `[tensors.len()]`, in f32, or f64 if all are f64. All are on one device.
pub(crate) fn norms(tensors: &[DispatchTensor], p: NormType) -> Tensor<1> {
    let each = tensors.iter().map(|tensor| norm(flat(tensor.clone()), p));
    Tensor::cat(each.collect(), 0)
}

/// Each tensor multiplied by a number: the only one of `factors`, `[1]`, or its own, `[tensors.len()]`.
///
/// With `zero`, a factor of 0 gives zeros, also where a tensor is not finite; IEEE's 0 · ∞ is NaN.
pub(crate) fn scale(
    tensors: Vec<DispatchTensor>,
    factors: &Tensor<1>,
    zero: bool,
) -> Vec<DispatchTensor> {
    let [count] = factors.dims();
    let scaled = tensors.into_iter().enumerate().map(|(i, tensor)| {
        let shape = tensor.shape();
        let tensor = flat(tensor);
        let factor = match count {
            1 => factors.clone(),
            _ => factors.clone().slice([i..i + 1]),
        };
        let scaled = times(tensor, factor.clone());
        let scaled = match zero {
            true => {
                let none = factor.equal_elem(0.0).expand(scaled.shape());
                scaled.mask_fill(none, 0.0)
            }
            false => scaled,
        };
        Dispatch::float_reshape(scaled.into_dispatch(), shape)
    });
    scaled.collect()
}

/// Each value of a tensor between `-limit` and `limit`; NaN stays NaN.
pub(crate) fn clamp(tensor: DispatchTensor, limit: f64) -> DispatchTensor {
    let shape = tensor.shape();
    let tensor = flat(tensor);
    let nan = tensor.clone().is_nan();
    // Shading languages leave the clamp of NaN open.
    let clamped = tensor.clamp(-limit, limit).mask_fill(nan, f32::NAN);
    Dispatch::float_reshape(clamped.into_dispatch(), shape)
}

/// `tensor · factor`, computed in the factor's precision and given in the tensor's.
fn times(tensor: Tensor<1>, factor: Tensor<1>) -> Tensor<1> {
    let dtype = tensor.dtype();
    match (dtype, factor.dtype()) {
        (a, b) if a == b => tensor * factor,
        (DType::F64, _) => tensor * factor.cast(FloatDType::F64),
        (DType::F32, _) => tensor * factor.cast(FloatDType::F32),
        // A factor such as 1e-5 has few digits in f16, and bf16 has few in any case.
        _ => (tensor.cast(FloatDType::F32) * factor.cast(FloatDType::F32)).cast(dtype),
    }
}

/// All values in one row.
pub(crate) fn flat(tensor: DispatchTensor) -> Tensor<1> {
    let values = tensor.shape().num_elements();
    Tensor::from_dispatch(Dispatch::float_reshape(tensor, Shape::from([values])))
}

/// At least f32, in which a sum of f16 or bf16 values keeps its digits and its range.
pub(crate) fn widen<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.cast(FloatDType::F32),
        _ => tensor,
    }
}

/// The norm of all values, `[1]`.
///
/// Values are divided by the largest first, since the square of 1e30 is not finite in f32 and that of 1e-30 is 0.
pub(crate) fn norm(tensor: Tensor<1>, p: NormType) -> Tensor<1> {
    let abs = widen(tensor).abs();
    if p == NormType::L1 {
        return abs.sum();
    }
    let largest = abs.clone().max();
    if p == NormType::INF {
        // Not every backend's maximum lets NaN through.
        let nan = abs.is_nan().float().max().greater_elem(0.0);
        return largest.mask_fill(nan, f32::NAN);
    }
    let unit = unit(largest);
    let ratio = abs / unit.clone();
    if p == NormType::L2 {
        return ratio.square().sum().sqrt() * unit;
    }
    let p = p.p();
    ratio.powf_scalar(p).sum().powf_scalar(1.0 / p) * unit
}

/// What to divide by: the largest value, or 1 where that is of no use. If the largest is not finite, the sum is not either.
pub(crate) fn unit<const D: usize>(largest: Tensor<D>) -> Tensor<D> {
    let useless = largest
        .clone()
        .is_finite()
        .bool_not()
        .bool_or(largest.clone().equal_elem(0.0));
    largest.mask_fill(useless, 1.0)
}
