//! Normalization of plain tensor operations: right on every backend, the reference that kernels are tested against.
//!
//! Two passes, first the mean, then the mean square of the difference from it: `E[x²] - E[x]²` would lose every digit
//! where the mean is large and the variance small.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape};

use super::{Affine, ChannelSpec, RowSpec};

/// Output, mean, biased variance and `1 / sqrt(var + eps)` of rows.
pub fn row_norm<B: Backend>(
    x: FloatTensor<B>,
    affine: Affine<B>,
    spec: RowSpec,
) -> (
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
) {
    let (shape, dtype) = (x.shape(), x.dtype());
    let x = B::float_reshape(wide::<B>(x), Shape::from([spec.rows, spec.len()]));
    let (x, mean) = match spec.centered {
        true => {
            let mean = B::float_mean_dim(x.clone(), 1);
            (B::float_sub(x, mean.clone()), mean)
        }
        false => {
            let mean = B::float_mul_scalar(B::float_mean_dim(x.clone(), 1), 0.0.into());
            (x, mean)
        }
    };
    let var = B::float_mean_dim(B::float_mul(x.clone(), x.clone()), 1);
    let rstd = inverse_root::<B>(var.clone(), spec.eps);
    let y = B::float_mul(x, rstd.clone());
    let y = scaled::<B>(y, affine, row_view(spec), row_params(spec));
    let y = like::<B>(y, shape, dtype);
    let flat = |t| B::float_reshape(t, Shape::from([spec.rows]));
    (y, flat(mean), flat(var), flat(rstd))
}

/// The gradients of [`row_norm`].
///
/// With `h = grad * weight` and `x̂` the normalized row: `dx = rstd * (h - mean(h) - x̂ * mean(h * x̂))`, where the first
/// mean is left out for rows that are not centered; `dweight = Σ grad * x̂`, `dbias = Σ grad`.
pub fn row_norm_backward<B: Backend>(
    grad: FloatTensor<B>,
    x: FloatTensor<B>,
    affine: Affine<B>,
    mean: FloatTensor<B>,
    rstd: FloatTensor<B>,
    spec: RowSpec,
) -> (FloatTensor<B>, Affine<B>) {
    let (shape, dtype) = (x.shape(), x.dtype());
    let rows = Shape::from([spec.rows, spec.len()]);
    let column = Shape::from([spec.rows, 1]);
    let grad = B::float_reshape(wide::<B>(grad), rows.clone());
    let rstd = B::float_reshape(rstd, column.clone());
    let x = B::float_reshape(wide::<B>(x), rows.clone());
    let x = match spec.centered {
        true => B::float_sub(x, B::float_reshape(mean, column)),
        false => x,
    };
    let x = B::float_mul(x, rstd.clone());
    let scaled_grad = scaled::<B>(
        grad.clone(),
        weight_only(&affine),
        row_view(spec),
        row_params(spec),
    );
    let h = B::float_reshape(scaled_grad, rows);
    let along = B::float_mean_dim(B::float_mul(h.clone(), x.clone()), 1);
    let mut dx = B::float_sub(h.clone(), B::float_mul(x.clone(), along));
    if spec.centered {
        dx = B::float_sub(dx, B::float_mean_dim(h, 1));
    }
    let dx = like::<B>(B::float_mul(dx, rstd), shape, dtype);
    let sum = |t: FloatTensor<B>, like: &FloatTensor<B>| {
        let t = B::float_reshape(
            t,
            Shape::from([spec.rows / spec.groups, spec.params(), spec.span]),
        );
        let t = B::float_sum_dim(B::float_sum_dim(t, 2), 0);
        narrow::<B>(
            B::float_reshape(t, Shape::from([spec.params()])),
            like.dtype(),
        )
    };
    (dx, param_gradients::<B>(affine, grad, x, sum))
}

/// Output, mean, biased variance and `1 / sqrt(var + eps)` of channels.
pub fn channel_norm<B: Backend>(
    x: FloatTensor<B>,
    affine: Affine<B>,
    spec: ChannelSpec,
) -> (
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
) {
    let (shape, dtype) = (x.shape(), x.dtype());
    let x = B::float_reshape(wide::<B>(x), channel_view(spec));
    let mean = channel_mean::<B>(x.clone());
    let x = B::float_sub(x, mean.clone());
    let var = channel_mean::<B>(B::float_mul(x.clone(), x.clone()));
    let rstd = inverse_root::<B>(var.clone(), spec.eps);
    let y = B::float_mul(x, rstd.clone());
    let y = scaled::<B>(y, affine, channel_view(spec), channel_params(spec));
    let y = like::<B>(y, shape, dtype);
    let flat = |t| B::float_reshape(t, Shape::from([spec.channels]));
    (y, flat(mean), flat(var), flat(rstd))
}

/// The gradients of [`channel_norm`]; the formulas are those of [`row_norm_backward`].
pub fn channel_norm_backward<B: Backend>(
    grad: FloatTensor<B>,
    x: FloatTensor<B>,
    affine: Affine<B>,
    mean: FloatTensor<B>,
    rstd: FloatTensor<B>,
    spec: ChannelSpec,
) -> (FloatTensor<B>, Affine<B>) {
    let (shape, dtype) = (x.shape(), x.dtype());
    let params = channel_params(spec);
    let grad = B::float_reshape(wide::<B>(grad), channel_view(spec));
    let rstd = B::float_reshape(rstd, params.clone());
    let x = B::float_reshape(wide::<B>(x), channel_view(spec));
    let x = B::float_sub(x, B::float_reshape(mean, params.clone()));
    let x = B::float_mul(x, rstd.clone());
    let h = scaled::<B>(
        grad.clone(),
        weight_only(&affine),
        channel_view(spec),
        params,
    );
    let along = channel_mean::<B>(B::float_mul(h.clone(), x.clone()));
    let dx = B::float_sub(h.clone(), B::float_mul(x.clone(), along));
    let dx = B::float_sub(dx, channel_mean::<B>(h));
    let dx = like::<B>(B::float_mul(dx, rstd), shape, dtype);
    let sum = |t: FloatTensor<B>, like: &FloatTensor<B>| {
        let t = B::float_sum_dim(B::float_sum_dim(t, 2), 0);
        narrow::<B>(
            B::float_reshape(t, Shape::from([spec.channels])),
            like.dtype(),
        )
    };
    (dx, param_gradients::<B>(affine, grad, x, sum))
}

/// `(x - mean) * scale + shift` for each channel.
pub fn channel_affine<B: Backend>(
    x: FloatTensor<B>,
    mean: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    spec: ChannelSpec,
) -> FloatTensor<B> {
    let (shape, dtype) = (x.shape(), x.dtype());
    let param = |t| B::float_reshape(wide::<B>(t), channel_params(spec));
    let x = B::float_reshape(wide::<B>(x), channel_view(spec));
    let y = B::float_mul(B::float_sub(x, param(mean)), param(scale));
    like::<B>(B::float_add(y, param(shift)), shape, dtype)
}

fn row_view(spec: RowSpec) -> Shape {
    Shape::from([spec.rows / spec.groups, spec.groups, spec.chunks, spec.span])
}

fn row_params(spec: RowSpec) -> Shape {
    Shape::from([1, spec.groups, spec.chunks, 1])
}

fn channel_view(spec: ChannelSpec) -> Shape {
    Shape::from([spec.batch, spec.channels, spec.span])
}

fn channel_params(spec: ChannelSpec) -> Shape {
    Shape::from([1, spec.channels, 1])
}

/// Over batch and space; both means are over equally many elements, so their order does not matter.
fn channel_mean<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mean_dim(B::float_mean_dim(x, 2), 0)
}

fn inverse_root<B: Backend>(var: FloatTensor<B>, eps: f64) -> FloatTensor<B> {
    B::float_recip(B::float_sqrt(B::float_add_scalar(var, eps.into())))
}

/// `x * weight + bias`, both seen in the shape `params`, `x` in the shape `view`.
fn scaled<B: Backend>(
    x: FloatTensor<B>,
    affine: Affine<B>,
    view: Shape,
    params: Shape,
) -> FloatTensor<B> {
    let param = |t| B::float_reshape(wide::<B>(t), params.clone());
    match affine {
        Affine::None => x,
        Affine::Weight(weight) => B::float_mul(B::float_reshape(x, view), param(weight)),
        Affine::Full(weight, bias) => {
            let y = B::float_mul(B::float_reshape(x, view), param(weight));
            B::float_add(y, param(bias))
        }
    }
}

fn weight_only<B: Backend>(affine: &Affine<B>) -> Affine<B> {
    match affine {
        Affine::None => Affine::None,
        Affine::Weight(weight) | Affine::Full(weight, _) => Affine::Weight(weight.clone()),
    }
}

fn param_gradients<B: Backend>(
    affine: Affine<B>,
    grad: FloatTensor<B>,
    normalized: FloatTensor<B>,
    sum: impl Fn(FloatTensor<B>, &FloatTensor<B>) -> FloatTensor<B>,
) -> Affine<B> {
    match affine {
        Affine::None => Affine::None,
        Affine::Weight(weight) => Affine::Weight(sum(B::float_mul(grad, normalized), &weight)),
        Affine::Full(weight, bias) => Affine::Full(
            sum(B::float_mul(grad.clone(), normalized), &weight),
            sum(grad, &bias),
        ),
    }
}

/// Half precision is too short to sum in: 16 bits hold no more than 2048 whole numbers in a row.
fn wide<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    match x.dtype() {
        DType::F16 | DType::BF16 => B::float_cast(x, FloatDType::F32),
        _ => x,
    }
}

fn narrow<B: Backend>(x: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    match dtype {
        DType::F16 => B::float_cast(x, FloatDType::F16),
        DType::BF16 => B::float_cast(x, FloatDType::BF16),
        _ => x,
    }
}

fn like<B: Backend>(x: FloatTensor<B>, shape: Shape, dtype: DType) -> FloatTensor<B> {
    B::float_reshape(narrow::<B>(x, dtype), shape)
}
