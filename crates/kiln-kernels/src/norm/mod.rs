//! Normalization of rows and of channels, on tensors.

mod autodiff;
mod ops;
pub mod plain;
mod spec;

#[cfg(any(feature = "flex", feature = "cubecl"))]
use burn::backend::DispatchTensorKind;
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::Tensor;

#[cfg(any(feature = "flex", feature = "cubecl"))]
use crate::graph::below_autodiff;
pub use ops::{Affine, NormOps};
pub use spec::{ChannelSpec, RowSpec};

/// What a normalization returns: its output and the statistics that it used.
///
/// The statistics are not differentiable. They are `f32`, or `f64` for an `f64` input.
#[derive(Clone, Debug)]
pub struct Normalized<const D: usize> {
    /// The normalized tensor, of the input's shape and type.
    pub output: Tensor<D>,
    /// The mean of each row or channel (0 where the rows were not centered).
    pub mean: Tensor<1>,
    /// The biased variance of each row or channel (the mean square where the rows were not centered).
    pub var: Tensor<1>,
}

/// Normalizes rows: `y = (x - mean) / sqrt(var + eps) * weight + bias`, mean and variance over each row.
///
/// The input, seen as a contiguous array, is cut into [`RowSpec::rows`] rows. One weight and one bias serve
/// [`RowSpec::span`] consecutive elements; see [`RowSpec`] for which.
///
/// # Shapes
///
/// - `x`, output: any shape of `spec.rows * spec.len()` elements
/// - `weight`, `bias`: `[spec.params()]`
/// - `mean`, `var`: `[spec.rows]`
///
/// # Panics
///
/// If the number of elements differs from the specification, or there is a bias without a weight.
///
/// # Example
///
/// ```no_run
/// use burn::tensor::{Device, Tensor};
/// use kiln_kernels::{RowSpec, row_norm};
///
/// let device = Device::default();
/// let x = Tensor::<2>::from_floats([[1.0, 3.0], [-2.0, 2.0]], &device);
/// let y = row_norm(x, None, None, RowSpec::rows_of(2, 2, 1e-5)).output; // [[-1, 1], [-1, 1]]
/// ```
pub fn row_norm<const D: usize>(
    x: Tensor<D>,
    weight: Option<Tensor<1>>,
    bias: Option<Tensor<1>>,
    spec: RowSpec,
) -> Normalized<D> {
    let shape = x.shape();
    assert_eq!(
        shape.num_elements(),
        spec.rows * spec.len(),
        "row_norm: an input of shape {:?} does not have {} rows of {} elements",
        shape.as_slice(),
        spec.rows,
        spec.len(),
    );
    check_params("row_norm", &weight, &bias, spec.params());
    if shape.num_elements() == 0 {
        return empty(x, spec.rows);
    }
    let fused = has_kernels(&x);
    let (x, affine) = (x.into_dispatch(), affine(weight, bias));
    let (y, mean, var, _) = match fused {
        true => <Dispatch as NormOps>::row_norm(x, affine, spec),
        false => plain::row_norm::<Dispatch>(x, affine, spec),
    };
    wrap(y, mean, var)
}

/// Normalizes channels: `y = (x - mean) / sqrt(var + eps) * weight + bias`, mean and variance over batch and space.
///
/// # Shapes
///
/// - `x`, output: `[batch, channels, ...]`, as `spec` has it
/// - `weight`, `bias`, `mean`, `var`: `[channels]`
///
/// # Panics
///
/// If the number of elements differs from the specification, or there is a bias without a weight.
pub fn channel_norm<const D: usize>(
    x: Tensor<D>,
    weight: Option<Tensor<1>>,
    bias: Option<Tensor<1>>,
    spec: ChannelSpec,
) -> Normalized<D> {
    check_channels("channel_norm", &x, spec);
    check_params("channel_norm", &weight, &bias, spec.channels);
    if x.shape().num_elements() == 0 {
        return empty(x, spec.channels);
    }
    let fused = has_kernels(&x);
    let (x, affine) = (x.into_dispatch(), affine(weight, bias));
    let (y, mean, var, _) = match fused {
        true => <Dispatch as NormOps>::channel_norm(x, affine, spec),
        false => plain::channel_norm::<Dispatch>(x, affine, spec),
    };
    wrap(y, mean, var)
}

/// Scales and shifts channels: `y = (x - mean) * scale + shift`, differentiable in all four.
///
/// It is BatchNorm with statistics that are already there: `scale = weight / sqrt(var + eps)`, `shift = bias`.
///
/// # Shapes
///
/// - `x`, output: `[batch, channels, ...]`
/// - `mean`, `scale`, `shift`: `[channels]`
///
/// # Panics
///
/// If a shape differs from these.
pub fn channel_affine<const D: usize>(
    x: Tensor<D>,
    mean: Tensor<1>,
    scale: Tensor<1>,
    shift: Tensor<1>,
) -> Tensor<D> {
    let [channels] = scale.dims();
    let shape = x.shape();
    assert!(
        D >= 2 && shape[1] == channels,
        "channel_affine: {channels} channels expected on the second axis of {:?}",
        shape.as_slice()
    );
    let spec = ChannelSpec::of(shape.as_slice(), 0.0);
    if shape.num_elements() == 0 {
        return x;
    }
    let fused = has_kernels(&x);
    let (x, mean) = (x.into_dispatch(), mean.into_dispatch());
    let (scale, shift) = (scale.into_dispatch(), shift.into_dispatch());
    Tensor::from_dispatch(match fused {
        true => <Dispatch as NormOps>::channel_affine(x, mean, scale, shift, spec),
        false => plain::channel_affine::<Dispatch>(x, mean, scale, shift, spec),
    })
}

/// Whether this build has kernels for the backend that a tensor lives on.
#[cfg(any(feature = "flex", feature = "cubecl"))]
fn has_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    match below_autodiff(&x.clone().into_dispatch().kind) {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        #[cfg(feature = "cubecl")]
        DispatchTensorKind::Cube(_) => true,
        #[allow(unreachable_patterns)] // A build may have no other backend.
        _ => false,
    }
}

#[cfg(not(any(feature = "flex", feature = "cubecl")))]
fn has_kernels<const D: usize>(_: &Tensor<D>) -> bool {
    false
}

fn affine(weight: Option<Tensor<1>>, bias: Option<Tensor<1>>) -> Affine<Dispatch> {
    match (weight, bias) {
        (None, _) => Affine::None,
        (Some(weight), None) => Affine::Weight(weight.into_dispatch()),
        (Some(weight), Some(bias)) => Affine::Full(weight.into_dispatch(), bias.into_dispatch()),
    }
}

fn wrap<const D: usize>(
    y: DispatchTensor,
    mean: DispatchTensor,
    var: DispatchTensor,
) -> Normalized<D> {
    Normalized {
        output: Tensor::from_dispatch(y),
        mean: Tensor::from_dispatch(mean).detach(),
        var: Tensor::from_dispatch(var).detach(),
    }
}

/// Nothing to normalize: the empty input itself, and statistics of zero.
fn empty<const D: usize>(x: Tensor<D>, len: usize) -> Normalized<D> {
    let zeros = Tensor::zeros([len], &x.device());
    Normalized {
        mean: zeros.clone(),
        var: zeros,
        output: x,
    }
}

fn check_params(op: &str, weight: &Option<Tensor<1>>, bias: &Option<Tensor<1>>, len: usize) {
    assert!(
        weight.is_some() || bias.is_none(),
        "{op}: a bias needs a weight beside it"
    );
    for (name, param) in [("weight", weight), ("bias", bias)] {
        if let Some(param) = param {
            let [given] = param.dims();
            assert_eq!(
                given, len,
                "{op}: {name} has {given} elements, expected {len}"
            );
        }
    }
}

fn check_channels<const D: usize>(op: &str, x: &Tensor<D>, spec: ChannelSpec) {
    let shape = x.shape();
    assert!(
        D >= 2 && ChannelSpec::of(shape.as_slice(), spec.eps) == spec,
        "{op}: an input of shape {:?} is not [{}, {}, ...] with {} elements after these axes",
        shape.as_slice(),
        spec.batch,
        spec.channels,
        spec.span,
    );
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn flex_has_kernels_with_and_without_autodiff() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            assert!(has_kernels(&Tensor::<2>::zeros([2, 3], &device)));
        }
    }
}
