//! Normalization for CubeCL's runtimes: CUDA, ROCm, Vulkan, Metal, WebGPU.
//!
//! A *unit* is what has one mean: a row, or a channel over the whole batch. Where memory allows, 2 or 4 consecutive
//! elements are loaded as one vector. The schedules:
//!
//! - **A row that fits in the registers of a workgroup** (8,192 elements forward, 4,096 backward): one workgroup loads it
//!   once, makes the sums by a tree in shared memory, and writes the output. The backward of a layer with a weight for
//!   each element starts about 1,024 workgroups, each of which takes many rows and keeps its share of the gradients of
//!   weight and bias in registers, so that they cost no further pass; the shares are summed in the end.
//! - **Any other unit**: `moments` (forward) or `dots` (backward) makes partial sums, `parts` workgroups to a unit, as many
//!   as it takes to fill the device when units are few and long; `finish` or `settle`, one thread to a unit, merges
//!   them; `apply` writes the output. That is two reads.
//! - **Weights of runs** (GroupNorm, InstanceNorm): the backward sums runs of elements with one weight, from which those of
//!   the row follow as well as the gradients of weight and bias.
//!
//! There are no atomics, so the same input gives the same bits. Means are found twice, the second time around the first,
//! and variances around means (merged as Chan, Golub and LeVeque do), all in `f32`.
//!
//! The plain body runs for `f64`, for channels or weighted runs shorter than 4 elements, which these kernels would read
//! against the grain of memory, and for the gradients of weights of rows longer than 4,096.

// Launching a kernel without bounds checks. Its indices come from lengths that `norm::row_norm` and its siblings have
// checked against the tensors, every thread past the end stops first, and tests compare every schedule at uneven lengths.
#![allow(unsafe_code)]

pub(crate) mod kernels;

use burn::backend::TensorMetadata;
use burn::tensor::{DType, FloatDType, Shape};
use burn_backend::cubecl::dtype_to_storage_type;
use burn_backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use crate::norm::{Affine, ChannelSpec, NormOps, RowSpec, plain};

/// Vectors that a thread of the forward keeps of its row.
const FORWARD_ITEMS: usize = 8;

/// Vectors that a thread of the backward keeps of its row, four times.
const BACKWARD_ITEMS: usize = 4;

/// Workgroups that fill a large GPU.
const CUBES: usize = 1024;

/// Runs shorter than this are left to the plain body.
const SHORT: usize = 4;

type Outputs = (CubeTensor, CubeTensor, CubeTensor, CubeTensor);

/// How the elements of units lie, in vectors.
#[derive(Clone, Copy)]
struct Plan {
    /// Elements of a vector.
    vector: usize,
    /// How many units there are.
    units: usize,
    /// Elements of a unit.
    len: usize,
    /// Elements of a unit that lie together, where it is in pieces.
    span: usize,
    /// From one piece of a unit to the next.
    stride: usize,
    /// From one unit to the next.
    base: usize,
    /// After how many elements the next unit's begin, and after how many units the first one's come again.
    unit_every: usize,
    unit_again: usize,
    /// The same for weights.
    param_every: usize,
    param_again: usize,
    /// Whether each element has a weight of its own.
    elementwise: bool,
    centered: bool,
    eps: f64,
}

impl Plan {
    fn rows(spec: RowSpec, affine: bool) -> Self {
        let elementwise = spec.span == 1;
        let together = match affine && !elementwise {
            true => spec.span,
            false => spec.len(),
        };
        let vector = vector_for(together);
        Self {
            vector,
            units: spec.rows,
            len: spec.len(),
            span: spec.len(),
            stride: spec.len(),
            base: spec.len(),
            unit_every: spec.len(),
            unit_again: spec.rows,
            param_every: if elementwise { vector } else { spec.span },
            param_again: match elementwise {
                true => spec.params() / vector,
                false => spec.params(),
            },
            elementwise,
            centered: spec.centered,
            eps: spec.eps,
        }
    }

    fn channels(spec: ChannelSpec) -> Self {
        Self {
            vector: vector_for(spec.span),
            units: spec.channels,
            len: spec.count(),
            span: spec.span,
            stride: spec.channels * spec.span,
            base: spec.span,
            unit_every: spec.span,
            unit_again: spec.channels,
            param_every: spec.span,
            param_again: spec.channels,
            elementwise: false,
            centered: true,
            eps: spec.eps,
        }
    }

    fn len_v(&self) -> usize {
        self.len / self.vector
    }

    fn pieces(&self) -> bool {
        self.span < self.len
    }

    /// Threads of a workgroup, and vectors for each, if a row fits in `most` vectors for each.
    fn registers(&self, client: &Client, most: usize) -> Option<(usize, usize)> {
        let threads = threads(client, self.len_v());
        let items = self.len_v().div_ceil(threads).next_power_of_two();
        (!self.pieces() && items <= most).then_some((threads, items))
    }

    /// Vectors of a part and how many parts a unit of `len_v` has, so that units and parts fill the device and a part is
    /// worth a workgroup.
    fn parts(units: usize, len_v: usize) -> (usize, usize) {
        let wanted = CUBES.div_ceil(units).min(len_v.div_ceil(1024)).max(1);
        let part = len_v.div_ceil(wanted);
        (part, len_v.div_ceil(part))
    }
}

fn vector_for(len: usize) -> usize {
    [4, 2]
        .into_iter()
        .find(|v| len.is_multiple_of(*v))
        .unwrap_or(1)
}

/// A power of two from 32 to 256, no more than it takes for one vector each.
pub(crate) fn threads(client: &Client, vectors: usize) -> usize {
    let most = client.properties().hardware.max_units_per_cube as usize;
    let most = if most >= 256 {
        256
    } else {
        1 << most.max(1).ilog2()
    };
    vectors.next_power_of_two().clamp(32.min(most), most)
}

pub(crate) fn cubes(count: usize) -> CubeCount {
    const MOST: usize = 65_535;
    let x = count.min(MOST);
    CubeCount::Static(x as u32, count.div_ceil(x) as u32, 1)
}

pub(crate) fn cube_dim(threads: usize) -> CubeDim {
    CubeDim::new_1d(threads as u32)
}

fn floats(like: &CubeTensor, len: usize) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        Shape::from([len]),
        DType::F32,
    )
}

fn same(like: &CubeTensor) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        like.shape(),
        like.dtype,
    )
}

fn single(x: CubeTensor) -> CubeTensor {
    match x.dtype {
        DType::F32 => into_contiguous(x),
        _ => into_contiguous(CubeBackend::float_cast(x, FloatDType::F32)),
    }
}

/// How many parameters there are, and both; one that is not used is a single number.
fn params(affine: &Affine<CubeBackend>, x: &CubeTensor) -> (u32, CubeTensor, CubeTensor) {
    let unused = || floats(x, 1);
    match affine {
        Affine::None => (0, unused(), unused()),
        Affine::Weight(weight) => (1, single(weight.clone()), unused()),
        Affine::Full(weight, bias) => (2, single(weight.clone()), single(bias.clone())),
    }
}

fn supported(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

fn rows_supported(dtype: DType, spec: RowSpec, affine: &Affine<CubeBackend>) -> bool {
    let weighted = !matches!(affine, Affine::None);
    let elementwise = spec.span == 1 && spec.groups == 1;
    supported(dtype) && (!weighted || elementwise || spec.span >= SHORT)
}

fn channels_supported(dtype: DType, spec: ChannelSpec) -> bool {
    supported(dtype) && spec.span >= SHORT
}

/// Sums of parts, merged: mean, variance and its inverse root of each unit.
fn statistics(x: &CubeTensor, plan: Plan) -> (CubeTensor, CubeTensor, CubeTensor) {
    let client = &x.client;
    let (part, parts) = Plan::parts(plan.units, plan.len_v());
    let count = plan.units * parts;
    let (part_mean, part_m2) = (floats(x, count), floats(x, count));
    let threads_ = threads(client, part);
    let v = plan.vector;
    unsafe {
        kernels::moments::launch_unchecked(
            client,
            cubes(count),
            cube_dim(threads_),
            v,
            x.clone().into_tensor_arg(),
            part_mean.clone().into_tensor_arg(),
            part_m2.clone().into_tensor_arg(),
            count,
            parts,
            part,
            plan.len_v(),
            plan.span / v,
            plan.stride / v,
            plan.base / v,
            threads_,
            plan.pieces(),
            plan.centered,
            dtype_to_storage_type(x.dtype),
        );
    }
    let [mean, var, rstd] = [(); 3].map(|()| floats(x, plan.units));
    let dim = CubeDim::new(client, plan.units);
    unsafe {
        kernels::finish::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, plan.units, dim),
            dim,
            part_mean.into_tensor_arg(),
            part_m2.into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            var.clone().into_tensor_arg(),
            rstd.clone().into_tensor_arg(),
            plan.units,
            parts,
            part * v,
            plan.len,
            plan.eps as f32,
        );
    }
    (mean, var, rstd)
}

fn forward(x: CubeTensor, affine: Affine<CubeBackend>, plan: Plan) -> Outputs {
    let x = into_contiguous(x);
    let client = x.client.clone();
    let (count, weight, bias) = params(&affine, &x);
    let y = same(&x);
    let dtype = dtype_to_storage_type(x.dtype);
    let v = plan.vector;
    if let Some((threads, items)) = plan.registers(&client, FORWARD_ITEMS) {
        let [mean, var, rstd] = [(); 3].map(|()| floats(&x, plan.units));
        unsafe {
            kernels::row_forward::launch_unchecked(
                &client,
                cubes(plan.units),
                cube_dim(threads),
                v,
                x.into_tensor_arg(),
                weight.into_tensor_arg(),
                bias.into_tensor_arg(),
                y.clone().into_tensor_arg(),
                mean.clone().into_tensor_arg(),
                var.clone().into_tensor_arg(),
                rstd.clone().into_tensor_arg(),
                plan.units,
                plan.len_v(),
                plan.param_every / v,
                plan.param_again,
                plan.eps as f32,
                threads,
                items,
                plan.centered,
                count,
                plan.elementwise,
                dtype,
            );
        }
        return (y, mean, var, rstd);
    }
    let (mean, var, rstd) = statistics(&x, plan);
    let total = plan.units * plan.len_v();
    let dim = CubeDim::new(&client, total);
    unsafe {
        kernels::apply::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, total, dim),
            dim,
            v,
            x.into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            rstd.clone().into_tensor_arg(),
            weight.into_tensor_arg(),
            bias.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            total,
            plan.unit_every / v,
            plan.unit_again,
            plan.param_every / v,
            plan.param_again,
            count,
            plan.elementwise,
            dtype,
        );
    }
    (y, mean, var, rstd)
}

/// What a backward is made of.
struct Inputs {
    grad: CubeTensor,
    x: CubeTensor,
    affine: Affine<CubeBackend>,
    mean: CubeTensor,
    rstd: CubeTensor,
}

/// Rows in registers, with a weight for each element or none.
fn backward_registers(
    inputs: Inputs,
    plan: Plan,
    (threads, items): (usize, usize),
) -> (CubeTensor, Affine<CubeBackend>) {
    let Inputs {
        grad,
        x,
        affine,
        mean,
        rstd,
    } = inputs;
    let client = x.client.clone();
    let (count, weight, _) = params(&affine, &x);
    let weighted = count > 0;
    let dx = same(&x);
    // Without a weight nothing is gained by more rows for a workgroup.
    let workgroups = match weighted {
        true => plan.units.min(CUBES),
        false => plan.units,
    };
    let shares = if weighted {
        workgroups * plan.len
    } else {
        plan.vector
    };
    let (dweight, dbias) = (floats(&x, shares), floats(&x, shares));
    unsafe {
        kernels::row_backward::launch_unchecked(
            &client,
            cubes(workgroups),
            cube_dim(threads),
            plan.vector,
            grad.into_tensor_arg(),
            x.clone().into_tensor_arg(),
            weight.into_tensor_arg(),
            mean.into_tensor_arg(),
            rstd.into_tensor_arg(),
            dx.clone().into_tensor_arg(),
            dweight.clone().into_tensor_arg(),
            dbias.clone().into_tensor_arg(),
            plan.units,
            workgroups,
            plan.len_v(),
            threads,
            items,
            plan.centered,
            weighted,
            dtype_to_storage_type(x.dtype),
        );
    }
    (dx, gradients(affine, dweight, dbias, workgroups, plan.len))
}

/// Sums of `runs` runs for each unit, then the gradient of the input from them.
fn backward_sums(inputs: Inputs, plan: Plan, spec: Runs) -> (CubeTensor, Affine<CubeBackend>) {
    let Inputs {
        grad,
        x,
        affine,
        mean,
        rstd,
    } = inputs;
    let client = x.client.clone();
    let (count, weight, _) = params(&affine, &x);
    let weighted = count > 0;
    let v = plan.vector;
    let dtype = dtype_to_storage_type(x.dtype);
    let (runs, run_len) = (plan.units * spec.each, spec.len);
    let (part, parts) = Plan::parts(runs, run_len / v);
    let total = runs * parts;
    let (part_g, part_gx) = (floats(&x, total), floats(&x, total));
    let threads_ = threads(&client, part);
    unsafe {
        kernels::dots::launch_unchecked(
            &client,
            cubes(total),
            cube_dim(threads_),
            v,
            grad.clone().into_tensor_arg(),
            x.clone().into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            rstd.clone().into_tensor_arg(),
            part_g.clone().into_tensor_arg(),
            part_gx.clone().into_tensor_arg(),
            total,
            spec.each,
            parts,
            part,
            run_len / v,
            plan.span / v,
            plan.stride / v,
            spec.base / v,
            threads_,
            plan.pieces(),
            weighted && plan.elementwise,
            dtype,
        );
    }
    let (run_g, run_gx) = (floats(&x, runs), floats(&x, runs));
    let (constant, along) = (floats(&x, plan.units), floats(&x, plan.units));
    let dim = CubeDim::new(&client, plan.units);
    unsafe {
        kernels::settle::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, plan.units, dim),
            dim,
            part_g.into_tensor_arg(),
            part_gx.into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            rstd.clone().into_tensor_arg(),
            run_g.clone().into_tensor_arg(),
            run_gx.clone().into_tensor_arg(),
            constant.clone().into_tensor_arg(),
            along.clone().into_tensor_arg(),
            plan.units,
            spec.each,
            parts,
            plan.param_again,
            plan.len as f32,
            weighted && !plan.elementwise,
            plan.centered,
        );
    }
    let dx = same(&x);
    let total = plan.units * plan.len_v();
    let dim = CubeDim::new(&client, total);
    unsafe {
        kernels::apply_backward::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, total, dim),
            dim,
            v,
            grad.clone().into_tensor_arg(),
            x.clone().into_tensor_arg(),
            weight.into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            rstd.clone().into_tensor_arg(),
            constant.into_tensor_arg(),
            along.into_tensor_arg(),
            dx.clone().into_tensor_arg(),
            total,
            plan.unit_every / v,
            plan.unit_again,
            plan.param_every / v,
            plan.param_again,
            weighted,
            plan.elementwise,
            dtype,
        );
    }
    if plan.elementwise && weighted {
        let affine = long_gradients(grad, x, affine, mean, rstd, plan);
        return (dx, affine);
    }
    let rows = runs / plan.param_again.min(runs);
    (dx, gradients(affine, run_gx, run_g, rows, runs / rows))
}

/// How the backward cuts units into runs with one weight.
#[derive(Clone, Copy)]
struct Runs {
    /// Runs of a unit.
    each: usize,
    /// Elements of a run.
    len: usize,
    /// From one run to the next.
    base: usize,
}

/// The gradients of what `affine` holds: the columns' sums of their shares `[rows, params]`.
fn gradients(
    affine: Affine<CubeBackend>,
    dweight: CubeTensor,
    dbias: CubeTensor,
    rows: usize,
    params: usize,
) -> Affine<CubeBackend> {
    let sum = |shares: CubeTensor, param: CubeTensor| {
        let shares = CubeBackend::float_reshape(shares, Shape::from([rows, params]));
        let sum = CubeBackend::float_sum_dim(shares, 0);
        narrow(
            CubeBackend::float_reshape(sum, Shape::from([params])),
            param.dtype,
        )
    };
    match affine {
        Affine::None => Affine::None,
        Affine::Weight(weight) => Affine::Weight(sum(dweight, weight)),
        Affine::Full(weight, bias) => Affine::Full(sum(dweight, weight), sum(dbias, bias)),
    }
}

/// The gradients of elementwise weights of rows that are too long for registers, by tensor operations.
fn long_gradients(
    grad: CubeTensor,
    x: CubeTensor,
    affine: Affine<CubeBackend>,
    mean: CubeTensor,
    rstd: CubeTensor,
    plan: Plan,
) -> Affine<CubeBackend> {
    let rows = |t| CubeBackend::float_reshape(single(t), Shape::from([plan.units, plan.len]));
    let column = |t| CubeBackend::float_reshape(t, Shape::from([plan.units, 1]));
    let (grad, x) = (rows(grad), rows(x));
    let xhat = CubeBackend::float_mul(CubeBackend::float_sub(x, column(mean)), column(rstd));
    let product = CubeBackend::float_mul(grad.clone(), xhat);
    gradients(affine, product, grad, plan.units, plan.len)
}

fn narrow(x: CubeTensor, dtype: DType) -> CubeTensor {
    match dtype {
        DType::F16 => CubeBackend::float_cast(x, FloatDType::F16),
        DType::BF16 => CubeBackend::float_cast(x, FloatDType::BF16),
        _ => x,
    }
}

impl NormOps for CubeBackend {
    fn row_norm(x: CubeTensor, affine: Affine<Self>, spec: RowSpec) -> Outputs {
        if !rows_supported(x.dtype, spec, &affine) {
            return plain::row_norm::<Self>(x, affine, spec);
        }
        let plan = Plan::rows(spec, !matches!(affine, Affine::None));
        forward(x, affine, plan)
    }

    fn row_norm_backward(
        grad: CubeTensor,
        x: CubeTensor,
        affine: Affine<Self>,
        mean: CubeTensor,
        rstd: CubeTensor,
        spec: RowSpec,
    ) -> (CubeTensor, Affine<Self>) {
        if !rows_supported(x.dtype, spec, &affine) {
            return plain::row_norm_backward::<Self>(grad, x, affine, mean, rstd, spec);
        }
        let weighted = !matches!(affine, Affine::None);
        let plan = Plan::rows(spec, weighted);
        let inputs = Inputs {
            grad: into_contiguous(grad),
            x: into_contiguous(x),
            affine,
            mean: into_contiguous(mean),
            rstd: into_contiguous(rstd),
        };
        let in_spans = weighted && !plan.elementwise;
        match plan.registers(&inputs.x.client, BACKWARD_ITEMS) {
            Some(registers) if !in_spans => backward_registers(inputs, plan, registers),
            _ => {
                let (each, len) = match in_spans {
                    true => (spec.chunks, spec.span),
                    false => (1, spec.len()),
                };
                let runs = Runs {
                    each,
                    len,
                    base: len,
                };
                backward_sums(inputs, plan, runs)
            }
        }
    }

    fn channel_norm(x: CubeTensor, affine: Affine<Self>, spec: ChannelSpec) -> Outputs {
        match channels_supported(x.dtype, spec) {
            true => forward(x, affine, Plan::channels(spec)),
            false => plain::channel_norm::<Self>(x, affine, spec),
        }
    }

    fn channel_norm_backward(
        grad: CubeTensor,
        x: CubeTensor,
        affine: Affine<Self>,
        mean: CubeTensor,
        rstd: CubeTensor,
        spec: ChannelSpec,
    ) -> (CubeTensor, Affine<Self>) {
        if !channels_supported(x.dtype, spec) {
            return plain::channel_norm_backward::<Self>(grad, x, affine, mean, rstd, spec);
        }
        let inputs = Inputs {
            grad: into_contiguous(grad),
            x: into_contiguous(x),
            affine,
            mean: into_contiguous(mean),
            rstd: into_contiguous(rstd),
        };
        let plan = Plan::channels(spec);
        let runs = Runs {
            each: 1,
            len: plan.len,
            base: plan.base,
        };
        backward_sums(inputs, plan, runs)
    }
}
