//! Kernels for Burn's CPU backend: normalization here, convolution in `conv`, pooling and ReLU in `pool`, optimizers in
//! `optim`.
//!
//! What costs time in normalization is memory, so the schedules are made for the caches:
//!
//! - statistics are taken in blocks of 4,096 elements: the block's mean, then, while it is in the first-level cache, the
//!   squares around that mean; blocks are merged in `f64` (Chan, Golub and LeVeque). That is one read of memory, as
//!   exact as two passes;
//! - a row, or a channel over the whole batch, is finished by one thread before the next: its second reading comes
//!   from the second-level cache;
//! - a few long rows are cut into blocks for all threads instead;
//! - outputs are not cleared first, and the backward writes `dx` over the gradient that it was given, where nobody
//!   else holds it;
//! - sums of one output element are made in an order that does not depend on the number of threads.
//!
//! Loops run over arrays of 32 lanes, which the compiler turns into vector instructions; `simd` compiles them a second
//! time for AVX2 and chooses at run time.

mod channels;
mod conv;
mod optim;
mod pool;
mod rows;
mod simd;

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, FloatDType, Shape};
use burn_backend::Bytes;
use burn_backend::ops::FloatTensorOps;
use burn_flex::{FlexTensor, Layout};

use crate::cnn::{CnnOps, PoolSpec};
use crate::norm::{Affine, ChannelSpec, NormOps, RowSpec, plain};
use simd::Stats;

pub(crate) use optim::adam;

type Outputs = (FlexTensor, FlexTensor, FlexTensor, FlexTensor);

impl NormOps for Flex {
    fn row_norm(x: FlexTensor, affine: Affine<Self>, spec: RowSpec) -> Outputs {
        let (shape, dtype) = (x.shape(), x.dtype());
        if dtype == DType::F64 {
            return plain::row_norm::<Self>(x, affine, spec);
        }
        let (x, affine) = (single(x), singles(affine));
        let (weight, bias) = slices(&affine);
        let (y, stats) = rows::forward(floats(&x), weight, bias, spec);
        outputs(y, shape, dtype, &stats)
    }

    fn row_norm_backward(
        grad: FlexTensor,
        x: FlexTensor,
        affine: Affine<Self>,
        mean: FlexTensor,
        rstd: FlexTensor,
        spec: RowSpec,
    ) -> (FlexTensor, Affine<Self>) {
        let dtype = x.dtype();
        if dtype == DType::F64 {
            return plain::row_norm_backward::<Self>(grad, x, affine, mean, rstd, spec);
        }
        let (x, mean, rstd) = (single(x), single(mean), single(rstd));
        let (mut grad, params) = (single(grad), singles(affine.clone()));
        let (weight, _) = slices(&params);
        let (dweight, dbias) = rows::backward(
            grad.storage_mut::<f32>(),
            floats(&x),
            weight,
            floats(&mean),
            floats(&rstd),
            spec,
        );
        (like(grad, dtype), gradients(affine, dweight, dbias))
    }

    fn channel_norm(x: FlexTensor, affine: Affine<Self>, spec: ChannelSpec) -> Outputs {
        let (shape, dtype) = (x.shape(), x.dtype());
        if dtype == DType::F64 {
            return plain::channel_norm::<Self>(x, affine, spec);
        }
        let (x, affine) = (single(x), singles(affine));
        let (weight, bias) = slices(&affine);
        let (y, stats) = channels::forward(floats(&x), weight, bias, spec);
        outputs(y, shape, dtype, &stats)
    }

    fn channel_norm_backward(
        grad: FlexTensor,
        x: FlexTensor,
        affine: Affine<Self>,
        mean: FlexTensor,
        rstd: FlexTensor,
        spec: ChannelSpec,
    ) -> (FlexTensor, Affine<Self>) {
        let dtype = x.dtype();
        if dtype == DType::F64 {
            return plain::channel_norm_backward::<Self>(grad, x, affine, mean, rstd, spec);
        }
        let (x, mean, rstd) = (single(x), single(mean), single(rstd));
        let (mut grad, params) = (single(grad), singles(affine.clone()));
        let (weight, _) = slices(&params);
        let (dweight, dbias) = channels::backward(
            grad.storage_mut::<f32>(),
            floats(&x),
            weight,
            floats(&mean),
            floats(&rstd),
            spec,
        );
        (like(grad, dtype), gradients(affine, dweight, dbias))
    }

    fn channel_affine(
        x: FlexTensor,
        mean: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        spec: ChannelSpec,
    ) -> FlexTensor {
        let (shape, dtype) = (x.shape(), x.dtype());
        if dtype == DType::F64 {
            return plain::channel_affine::<Self>(x, mean, scale, shift, spec);
        }
        let (mean, scale, shift) = (single(mean), single(scale), single(shift));
        let (mean, scale, shift) = (floats(&mean), floats(&scale), floats(&shift));
        let mut x = single(x);
        if x.is_unique() {
            channels::affine_over(x.storage_mut::<f32>(), mean, scale, shift, spec);
            return like(x, dtype);
        }
        let y = channels::affine(floats(&x), mean, scale, shift, spec);
        like(tensor(y, shape), dtype)
    }
}

/// Only `f32`, and convolutions of one group, come here.
impl CnnOps for Flex {
    fn fused_conv2d(x: FlexTensor, weights: Affine<Self>, options: ConvOptions<2>) -> FlexTensor {
        let (x, weights) = (single(x), singles(weights));
        let (Some(weight), bias) = slices(&weights) else {
            panic!("a convolution has a weight");
        };
        let geometry = match &weights {
            Affine::Weight(w) | Affine::Full(w, _) => sizes(&x, w, &options),
            Affine::None => unreachable!("checked above"),
        };
        let y = conv::forward(floats(&x), weight, bias, geometry);
        tensor(y, Shape::from(geometry.output_shape()))
    }

    fn fused_conv2d_x_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        options: ConvOptions<2>,
    ) -> FlexTensor {
        let geometry = sizes(&x, &weight, &options);
        let (weight, grad) = (single(weight), single(grad));
        let dx = conv::x_backward(floats(&grad), floats(&weight), geometry);
        tensor(dx, x.shape())
    }

    fn fused_conv2d_weight_backward(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        options: ConvOptions<2>,
    ) -> FlexTensor {
        let geometry = sizes(&x, &weight, &options);
        let (x, grad) = (single(x), single(grad));
        let dweight = conv::weight_backward(floats(&grad), floats(&x), geometry);
        tensor(dweight, weight.shape())
    }

    fn fused_conv2d_bias_backward(
        _x: FlexTensor,
        bias: FlexTensor,
        grad: FlexTensor,
    ) -> FlexTensor {
        let [batch, channels] = [grad.shape()[0], grad.shape()[1]];
        let dbias = conv::bias_backward(floats(&single(grad)), batch, channels);
        tensor(dbias, bias.shape())
    }

    fn fused_max_pool2d(x: FlexTensor, spec: PoolSpec) -> FlexTensor {
        let planes = planes(&x, spec);
        let [batch, channels, _, _] = x.shape().dims();
        let [height, width] = planes.out();
        let y = pool::max_pool(floats(&single(x)), planes);
        tensor(y, Shape::from([batch, channels, height, width]))
    }

    fn fused_max_pool2d_backward(x: FlexTensor, grad: FlexTensor, spec: PoolSpec) -> FlexTensor {
        let (planes, shape) = (planes(&x, spec), x.shape());
        let (x, grad) = (single(x), single(grad));
        tensor(
            pool::max_pool_backward(floats(&x), floats(&grad), planes),
            shape,
        )
    }

    fn fused_relu(x: FlexTensor) -> FlexTensor {
        let mut x = single(x);
        if x.is_unique() {
            pool::relu_over(x.storage_mut::<f32>());
            return x;
        }
        tensor(pool::relu(floats(&x)), x.shape())
    }

    fn fused_relu_backward(output: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let (output, mut grad) = (single(output), single(grad));
        pool::relu_backward(floats(&output), grad.storage_mut::<f32>());
        grad
    }
}

fn planes(x: &FlexTensor, spec: PoolSpec) -> pool::Planes {
    let [_, _, height, width] = x.shape().dims();
    pool::Planes::of([height, width], spec)
}

fn sizes(x: &FlexTensor, weight: &FlexTensor, options: &ConvOptions<2>) -> conv::Geometry {
    conv::Geometry::of(x.shape().as_slice(), weight.shape().as_slice(), options)
}

/// The tensor as contiguous `f32` that fill their storage. A tensor that is so already keeps its only handle.
fn single(x: FlexTensor) -> FlexTensor {
    match x.dtype() {
        DType::F32 => x.to_contiguous(),
        _ => Flex::float_cast(x, FloatDType::F32).to_contiguous(),
    }
}

fn singles(affine: Affine<Flex>) -> Affine<Flex> {
    match affine {
        Affine::None => Affine::None,
        Affine::Weight(weight) => Affine::Weight(single(weight)),
        Affine::Full(weight, bias) => Affine::Full(single(weight), single(bias)),
    }
}

fn floats(x: &FlexTensor) -> &[f32] {
    x.storage::<f32>()
}

fn slices(affine: &Affine<Flex>) -> (Option<&[f32]>, Option<&[f32]>) {
    match affine {
        Affine::None => (None, None),
        Affine::Weight(weight) => (Some(floats(weight)), None),
        Affine::Full(weight, bias) => (Some(floats(weight)), Some(floats(bias))),
    }
}

fn tensor(data: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(data),
        Layout::contiguous(shape),
        DType::F32,
    )
}

fn like(x: FlexTensor, dtype: DType) -> FlexTensor {
    match dtype {
        DType::F16 => Flex::float_cast(x, FloatDType::F16),
        DType::BF16 => Flex::float_cast(x, FloatDType::BF16),
        _ => x,
    }
}

fn outputs(y: Vec<f32>, shape: Shape, dtype: DType, stats: &[Stats]) -> Outputs {
    let column =
        |f: fn(&Stats) -> f32| tensor(stats.iter().map(f).collect(), Shape::from([stats.len()]));
    (
        like(tensor(y, shape), dtype),
        column(|s| s.mean),
        column(|s| s.var),
        column(|s| s.rstd),
    )
}

/// The gradients of what `affine` holds, each of its type.
fn gradients(affine: Affine<Flex>, dweight: Vec<f32>, dbias: Vec<f32>) -> Affine<Flex> {
    let grad = |data: Vec<f32>, param: FlexTensor| {
        let shape = Shape::from([data.len()]);
        like(tensor(data, shape), param.dtype())
    };
    match affine {
        Affine::None => Affine::None,
        Affine::Weight(weight) => Affine::Weight(grad(dweight, weight)),
        Affine::Full(weight, bias) => Affine::Full(grad(dweight, weight), grad(dbias, bias)),
    }
}
