//! Normalization for Burn's CPU backend.
//!
//! What costs time here is memory, so the schedules are made for the caches:
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
mod rows;
mod simd;

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape};
use burn_backend::Bytes;
use burn_backend::ops::FloatTensorOps;
use burn_flex::{FlexTensor, Layout};

use crate::norm::{Affine, ChannelSpec, NormOps, RowSpec, plain};
use simd::Stats;

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
