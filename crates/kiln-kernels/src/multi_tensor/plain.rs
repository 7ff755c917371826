//! The plain bodies: tensor operations that are right on every backend, and the reference of the tests.

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape, Tensor};

/// The norm of each tensor, `[tensors.len()]`, in f32, or f64 if all are f64. All are on one device.
pub fn norms(tensors: &[DispatchTensor], p: f64) -> Tensor<1> {
    let each = tensors.iter().map(|tensor| norm(flat(tensor.clone()), p));
    Tensor::cat(each.collect(), 0)
}

/// Each tensor multiplied by a number: the only one of `factors`, `[1]`, or its own, `[tensors.len()]`.
///
/// With `zero`, a factor of 0 gives zeros, also where a tensor is not finite; IEEE's 0 · ∞ is NaN.
pub fn scale(tensors: Vec<DispatchTensor>, factors: &Tensor<1>, zero: bool) -> Vec<DispatchTensor> {
    let [count] = factors.dims();
    let scaled = tensors.into_iter().enumerate().map(|(i, tensor)| {
        let shape = tensor.shape();
        let tensor = flat(tensor);
        let factor = match count {
            1 => factors.clone(),
            _ => factors.clone().narrow(0, i, 1),
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

/// Each value of a tensor between `-limit` and `limit`; NaN stays NaN. The tensor has values.
pub fn clamp(tensor: DispatchTensor, limit: f64) -> DispatchTensor {
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
pub fn flat(tensor: DispatchTensor) -> Tensor<1> {
    let values = tensor.shape().num_elements();
    Tensor::from_dispatch(Dispatch::float_reshape(tensor, Shape::from([values])))
}

/// At least f32, in which a sum of f16 or bf16 values keeps its digits and its range.
pub fn widen<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.cast(FloatDType::F32),
        _ => tensor,
    }
}

/// The norm of order `p` of all values, `[1]`; there is at least one.
///
/// Values are divided by the largest first, since the square of 1e30 is not finite in f32 and that of 1e-30 is 0.
pub fn norm(tensor: Tensor<1>, p: f64) -> Tensor<1> {
    let abs = widen(tensor).abs();
    if p == 1.0 {
        return abs.sum();
    }
    let largest = abs.clone().max();
    if p == f64::INFINITY {
        // Not every backend's maximum lets NaN through.
        let nan = abs.is_nan().float().max().greater_elem(0.0);
        return largest.mask_fill(nan, f32::NAN);
    }
    let unit = unit(largest);
    let ratio = abs / unit.clone();
    if p == 2.0 {
        return ratio.square().sum().sqrt() * unit;
    }
    ratio.powf_scalar(p).sum().powf_scalar(1.0 / p) * unit
}

/// What to divide by: the largest value, or 1 where that is of no use. If the largest is not finite, the sum is not either.
pub fn unit<const D: usize>(largest: Tensor<D>) -> Tensor<D> {
    let useless = largest
        .clone()
        .is_finite()
        .bool_not()
        .bool_or(largest.clone().equal_elem(0.0));
    largest.mask_fill(useless, 1.0)
}
