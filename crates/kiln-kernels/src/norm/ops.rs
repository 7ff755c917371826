//! The backend extension: what a backend may do better than with plain tensor operations.

// Without either, the extension has no backend to hand the arguments to.
#![cfg_attr(
    not(any(feature = "flex", feature = "cubecl")),
    allow(unused_variables)
)]

#[cfg(feature = "cubecl")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};
#[cfg(feature = "cubecl")]
use burn::tensor::{DType, Shape};

use super::plain;
use super::{ChannelSpec, RowSpec};

/// The weight and bias of a normalization, or their gradients.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cubecl"))]
pub enum Affine<B: Backend> {
    /// Neither.
    None,
    /// A weight.
    Weight(FloatTensor<B>),
    /// A weight and a bias.
    Full(FloatTensor<B>, FloatTensor<B>),
}

/// Normalization as operations of a backend. The default bodies are those of [`plain`].
///
/// Use [`row_norm`](crate::row_norm), [`channel_norm`](crate::channel_norm) and
/// [`channel_affine`](crate::channel_affine) on tensors; they also serve backends without an implementation.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cubecl"),
    Autodiff,
    Fusion: cfg(feature = "cubecl")
)]
pub trait NormOps: Backend {
    /// Output, mean, biased variance, and `1 / sqrt(var + eps)`, the last three of shape `[rows]`.
    #[fusion(meta = meta::row_norm)]
    fn row_norm(
        x: FloatTensor<Self>,
        #[extension_type] affine: Affine<Self>,
        spec: RowSpec,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        plain::row_norm::<Self>(x, affine, spec)
    }

    /// The gradients of [`row_norm`](NormOps::row_norm) with respect to `x` and to what `affine` holds.
    #[fusion(meta = meta::row_norm_backward)]
    fn row_norm_backward(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        #[extension_type] affine: Affine<Self>,
        mean: FloatTensor<Self>,
        rstd: FloatTensor<Self>,
        spec: RowSpec,
    ) -> (FloatTensor<Self>, Affine<Self>) {
        plain::row_norm_backward::<Self>(grad, x, affine, mean, rstd, spec)
    }

    /// Output, mean, biased variance, and `1 / sqrt(var + eps)`, the last three of shape `[channels]`.
    #[fusion(meta = meta::channel_norm)]
    fn channel_norm(
        x: FloatTensor<Self>,
        #[extension_type] affine: Affine<Self>,
        spec: ChannelSpec,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        plain::channel_norm::<Self>(x, affine, spec)
    }

    /// The gradients of [`channel_norm`](NormOps::channel_norm) with respect to `x` and to what `affine` holds.
    #[fusion(meta = meta::channel_norm_backward)]
    fn channel_norm_backward(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        #[extension_type] affine: Affine<Self>,
        mean: FloatTensor<Self>,
        rstd: FloatTensor<Self>,
        spec: ChannelSpec,
    ) -> (FloatTensor<Self>, Affine<Self>) {
        plain::channel_norm_backward::<Self>(grad, x, affine, mean, rstd, spec)
    }

    /// `(x - mean) * scale + shift` for each channel. Fusion makes one kernel of the plain body.
    #[fusion(default)]
    fn channel_affine(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        spec: ChannelSpec,
    ) -> FloatTensor<Self> {
        plain::channel_affine::<Self>(x, mean, scale, shift, spec)
    }
}

/// The shapes and types that Fusion needs before the kernels run.
#[cfg(feature = "cubecl")]
mod meta {
    use super::*;

    type Statistics = (TensorSpec, TensorSpec, TensorSpec, TensorSpec);

    fn statistics(x: &TensorSpec, len: usize) -> Statistics {
        let dtype = match x.dtype {
            DType::F64 => DType::F64,
            _ => DType::F32,
        };
        let spec = TensorSpec::new(Shape::from([len]), dtype);
        (x.clone(), spec.clone(), spec.clone(), spec)
    }

    pub(super) fn row_norm(x: &TensorSpec, _: &AffineMetadata, spec: &RowSpec) -> Statistics {
        statistics(x, spec.rows)
    }

    pub(super) fn channel_norm(
        x: &TensorSpec,
        _: &AffineMetadata,
        spec: &ChannelSpec,
    ) -> Statistics {
        statistics(x, spec.channels)
    }

    pub(super) fn row_norm_backward(
        _grad: &TensorSpec,
        x: &TensorSpec,
        affine: &AffineMetadata,
        _mean: &TensorSpec,
        _rstd: &TensorSpec,
        _spec: &RowSpec,
    ) -> (TensorSpec, AffineMetadata) {
        (x.clone(), affine.clone())
    }

    pub(super) fn channel_norm_backward(
        _grad: &TensorSpec,
        x: &TensorSpec,
        affine: &AffineMetadata,
        _mean: &TensorSpec,
        _rstd: &TensorSpec,
        _spec: &ChannelSpec,
    ) -> (TensorSpec, AffineMetadata) {
        (x.clone(), affine.clone())
    }
}
