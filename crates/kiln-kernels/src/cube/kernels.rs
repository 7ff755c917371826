//! The kernels. Read [the schedule](super) first.
//!
//! Lengths ending in `_v` count vectors of `N` elements. Everything is computed in `f32`.

use cubecl::prelude::*;

/// Sums one value of each unit of a cube, by halves; every unit gets the sum.
#[cube]
pub(crate) fn tree_sum(shared: &mut Shared<[f32]>, value: f32, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS_X as usize;
    // Others may still read the sum before.
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let levels = comptime![units.ilog2() as usize];
    let mut level = 1usize;
    while level <= levels {
        let half = units >> level;
        if unit < half {
            shared[unit] += shared[unit + half];
        }
        sync_cube();
        level += 1usize;
    }
    shared[0]
}

/// Adds the lanes of a vector.
#[cube]
pub(crate) fn lanes<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for k in 0..N::value() {
        sum += vector.extract(k);
    }
    sum
}

/// Where the `i`th vector of a unit lies. A row is one piece; a channel is a piece of each sample.
#[cube]
fn place(i: usize, base: usize, span_v: usize, stride_v: usize, #[comptime] pieces: bool) -> usize {
    if comptime!(pieces) {
        base + (i / span_v) * stride_v + i % span_v
    } else {
        base + i
    }
}

/// Partial sums of one unit's part: the sum of differences from the first element, and of their squares. A cube takes one
/// part; `parts` of them make a unit. Each thread takes its own first element for a reference, and the differences
/// between the references of threads are settled in the tree.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn moments<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    part_mean: &mut Tensor<f32>,
    part_m2: &mut Tensor<f32>,
    cubes: usize,
    parts: usize,
    part_v: usize,
    len_v: usize,
    span_v: usize,
    stride_v: usize,
    base_v: usize,
    #[comptime] units: usize,
    #[comptime] pieces: bool,
    #[comptime] centered: bool,
    #[define(F)] _dtype: ElemType,
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS_X as usize;
    let base = (CUBE_POS / parts) * base_v;
    let start = (CUBE_POS % parts) * part_v;
    let mut end = start + part_v;
    if end > len_v {
        end = len_v;
    }
    let mut first = Vector::<f32, N>::new(0.0f32);
    let mut second = Vector::<f32, N>::new(0.0f32);
    let mut reference = Vector::<f32, N>::new(0.0f32);
    let mut count = 0.0f32;
    let mut i = start + unit;
    if comptime!(centered) && i < end {
        reference = Vector::cast_from(x[place(i, base, span_v, stride_v, pieces)]);
    }
    while i < end {
        let value = Vector::<f32, N>::cast_from(x[place(i, base, span_v, stride_v, pieces)]);
        let d = value - reference;
        first += d;
        second += d * d;
        count += 1.0f32;
        i += units;
    }
    // Of each lane its mean and the squares around it, then the same of all lanes of the cube.
    let mut each = count;
    if each < 0.5f32 {
        each = 1.0f32;
    }
    let inverse = Vector::<f32, N>::new(1.0f32 / each);
    let mut mean = reference + first * inverse;
    let mut m2 = second - first * first * inverse;
    if comptime!(!centered) {
        mean = Vector::<f32, N>::new(0.0f32);
        m2 = second;
    }
    let n = f32::cast_from((end - start) * N::value());
    let mut all_mean = 0.0f32;
    let mut all_m2 = tree_sum(&mut shared, lanes(m2), units);
    if comptime!(centered) {
        // The mean of lane means, once roughly and once around that, so that it is exact for a mean far from zero.
        let rough = tree_sum(&mut shared, lanes(mean) * count, units) / n;
        let delta = mean - Vector::<f32, N>::new(rough);
        let rest = tree_sum(&mut shared, lanes(delta) * count, units) / n;
        all_mean = rough + rest;
        let spread = tree_sum(&mut shared, lanes(delta * delta) * count, units);
        all_m2 += spread - rest * rest * n;
    }
    if unit == 0 {
        part_mean[CUBE_POS] = all_mean;
        part_m2[CUBE_POS] = all_m2;
    }
}

/// Mean, variance and its inverse root of each unit from those of its parts; one thread for a unit.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn finish(
    part_mean: &Tensor<f32>,
    part_m2: &Tensor<f32>,
    mean: &mut Tensor<f32>,
    var: &mut Tensor<f32>,
    rstd: &mut Tensor<f32>,
    rows: usize,
    parts: usize,
    part: usize,
    len: usize,
    eps: f32,
) {
    if ABSOLUTE_POS >= rows {
        terminate!();
    }
    let from = ABSOLUTE_POS * parts;
    let mut all_n = f32::cast_from(part);
    if parts == 1 {
        all_n = f32::cast_from(len);
    }
    let mut all_mean = part_mean[from];
    let mut all_m2 = part_m2[from];
    for p in 1..parts {
        let mut n = part;
        if p == parts - 1 {
            n = len - p * part;
        }
        let n = f32::cast_from(n);
        let both = all_n + n;
        let delta = part_mean[from + p] - all_mean;
        all_mean += delta * (n / both);
        all_m2 += part_m2[from + p] + delta * delta * all_n * (n / both);
        all_n = both;
    }
    // Rounding may leave less than nothing of a constant.
    let mut variance = all_m2 / f32::cast_from(len);
    if variance < 0.0f32 {
        variance = 0.0f32;
    }
    mean[ABSOLUTE_POS] = all_mean;
    var[ABSOLUTE_POS] = variance;
    rstd[ABSOLUTE_POS] = 1.0f32 / (variance + eps).sqrt();
}

/// `y = (x - mean) * rstd * weight + bias`; one thread for a vector.
///
/// The vector `i` belongs to the unit `(i / unit_v) % unit_n` and has the parameters `(i / param_v) % param_n`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn apply<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    mean: &Tensor<f32>,
    rstd: &Tensor<f32>,
    weight: &Tensor<f32>,
    bias: &Tensor<f32>,
    y: &mut Tensor<Vector<F, N>>,
    total_v: usize,
    unit_v: usize,
    unit_n: usize,
    param_v: usize,
    param_n: usize,
    #[comptime] params: u32,
    #[comptime] elementwise: bool,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= total_v {
        terminate!();
    }
    let unit = (i / unit_v) % unit_n;
    let value = Vector::<f32, N>::cast_from(x[i]);
    let shifted = value - Vector::<f32, N>::new(mean[unit]);
    let mut out = shifted * Vector::<f32, N>::new(rstd[unit]);
    if comptime!(params > 0) {
        out *= load::<N>(weight, i, param_v, param_n, elementwise);
    }
    if comptime!(params > 1) {
        out += load::<N>(bias, i, param_v, param_n, elementwise);
    }
    y[i] = Vector::cast_from(out);
}

/// The parameters of the vector `i`: `(i / param_v) % param_n` counts vectors of them, or single ones.
#[cube]
fn load<N: Size>(
    params: &Tensor<f32>,
    i: usize,
    param_v: usize,
    param_n: usize,
    #[comptime] elementwise: bool,
) -> Vector<f32, N> {
    let at = (i / param_v) % param_n;
    let mut out = Vector::<f32, N>::new(0.0f32);
    if comptime!(elementwise) {
        #[unroll]
        for k in 0..N::value() {
            out.insert(k, params[at * N::value() + k]);
        }
    } else {
        out = Vector::<f32, N>::new(params[at]);
    }
    out
}

/// A whole row in the registers of a cube: one read for statistics and output.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn row_forward<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    weight: &Tensor<f32>,
    bias: &Tensor<f32>,
    y: &mut Tensor<Vector<F, N>>,
    mean_out: &mut Tensor<f32>,
    var_out: &mut Tensor<f32>,
    rstd_out: &mut Tensor<f32>,
    rows: usize,
    len_v: usize,
    param_v: usize,
    param_n: usize,
    eps: f32,
    #[comptime] units: usize,
    #[comptime] items: usize,
    #[comptime] centered: bool,
    #[comptime] params: u32,
    #[comptime] elementwise: bool,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS_X as usize;
    let base = row * len_v;
    let n = f32::cast_from(len_v * N::value());
    let mut values = Array::<Vector<f32, N>>::new(items);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for k in 0..items {
        let i = unit + k * units;
        values[k] = Vector::<f32, N>::new(0.0f32);
        if i < len_v {
            values[k] = Vector::cast_from(x[base + i]);
            sum += values[k];
        }
    }
    let mut mean = 0.0f32;
    if comptime!(centered) {
        let rough = tree_sum(&mut shared, lanes(sum), units) / n;
        // The rounding of a mean far from zero is found by the mean of what is left.
        let mut rest = Vector::<f32, N>::new(0.0f32);
        #[unroll]
        for k in 0..items {
            if unit + k * units < len_v {
                values[k] -= Vector::<f32, N>::new(rough);
                rest += values[k];
            }
        }
        let rest = tree_sum(&mut shared, lanes(rest), units) / n;
        #[unroll]
        for k in 0..items {
            values[k] -= Vector::<f32, N>::new(rest);
        }
        mean = rough + rest;
    }
    let mut squares = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for k in 0..items {
        if unit + k * units < len_v {
            squares += values[k] * values[k];
        }
    }
    let var = tree_sum(&mut shared, lanes(squares), units) / n;
    let rstd = 1.0f32 / (var + eps).sqrt();
    #[unroll]
    for k in 0..items {
        let i = unit + k * units;
        if i < len_v {
            let mut out = values[k] * Vector::<f32, N>::new(rstd);
            if comptime!(params > 0) {
                out *= load::<N>(weight, base + i, param_v, param_n, elementwise);
            }
            if comptime!(params > 1) {
                out += load::<N>(bias, base + i, param_v, param_n, elementwise);
            }
            y[base + i] = Vector::cast_from(out);
        }
    }
    if unit == 0 {
        mean_out[row] = mean;
        var_out[row] = var;
        rstd_out[row] = rstd;
    }
}

/// Whole rows in the registers of a cube, which takes every `cubes`th one: one read of gradient and input. With a weight
/// for each element its gradients stay in the registers too, and are written once for each cube.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn row_backward<F: Float, N: Size>(
    grad: &Tensor<Vector<F, N>>,
    x: &Tensor<Vector<F, N>>,
    weight: &Tensor<f32>,
    mean_in: &Tensor<f32>,
    rstd_in: &Tensor<f32>,
    dx: &mut Tensor<Vector<F, N>>,
    dweight: &mut Tensor<Vector<f32, N>>,
    dbias: &mut Tensor<Vector<f32, N>>,
    rows: usize,
    cubes: usize,
    len_v: usize,
    #[comptime] units: usize,
    #[comptime] items: usize,
    #[comptime] centered: bool,
    #[comptime] weighted: bool,
    #[define(F)] _dtype: ElemType,
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS_X as usize;
    let n = f32::cast_from(len_v * N::value());
    let zero = Vector::<f32, N>::new(0.0f32);
    let mut dw = Array::<Vector<f32, N>>::new(items);
    let mut db = Array::<Vector<f32, N>>::new(items);
    let mut hs = Array::<Vector<f32, N>>::new(items);
    let mut xs = Array::<Vector<f32, N>>::new(items);
    #[unroll]
    for k in 0..items {
        dw[k] = zero;
        db[k] = zero;
    }
    let mut row = CUBE_POS;
    while row < rows {
        let base = row * len_v;
        let mean = Vector::<f32, N>::new(mean_in[row]);
        let rstd = Vector::<f32, N>::new(rstd_in[row]);
        let mut sum = zero;
        let mut along = zero;
        #[unroll]
        for k in 0..items {
            let i = unit + k * units;
            hs[k] = zero;
            xs[k] = zero;
            if i < len_v {
                let g = Vector::<f32, N>::cast_from(grad[base + i]);
                let value = Vector::<f32, N>::cast_from(x[base + i]);
                xs[k] = (value - mean) * rstd;
                hs[k] = g;
                if comptime!(weighted) {
                    dw[k] += g * xs[k];
                    db[k] += g;
                    hs[k] = g * load::<N>(weight, i, 1, len_v, true);
                }
                sum += hs[k];
                along += hs[k] * xs[k];
            }
        }
        let along = tree_sum(&mut shared, lanes(along), units) / n;
        let mut constant = 0.0f32;
        if comptime!(centered) {
            constant = tree_sum(&mut shared, lanes(sum), units) / n;
        }
        #[unroll]
        for k in 0..items {
            let i = unit + k * units;
            if i < len_v {
                let left =
                    hs[k] - Vector::<f32, N>::new(constant) - xs[k] * Vector::<f32, N>::new(along);
                dx[base + i] = Vector::cast_from(left * rstd);
            }
        }
        row += cubes;
    }
    if comptime!(weighted) {
        #[unroll]
        for k in 0..items {
            let i = unit + k * units;
            if i < len_v {
                dweight[CUBE_POS * len_v + i] = dw[k];
                dbias[CUBE_POS * len_v + i] = db[k];
            }
        }
    }
}

/// Partial sums of the gradient and of its product with the normalized input, for a part of a run. The statistics of
/// the run `u` are those of the unit `u / runs`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn dots<F: Float, N: Size>(
    grad: &Tensor<Vector<F, N>>,
    x: &Tensor<Vector<F, N>>,
    weight: &Tensor<f32>,
    mean: &Tensor<f32>,
    rstd: &Tensor<f32>,
    part_g: &mut Tensor<f32>,
    part_gx: &mut Tensor<f32>,
    cubes: usize,
    runs: usize,
    parts: usize,
    part_v: usize,
    len_v: usize,
    span_v: usize,
    stride_v: usize,
    base_v: usize,
    #[comptime] units: usize,
    #[comptime] pieces: bool,
    #[comptime] weighted: bool,
    #[define(F)] _dtype: ElemType,
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(units);
    let run = CUBE_POS / parts;
    let base = run * base_v;
    let start = (CUBE_POS % parts) * part_v;
    let mut end = start + part_v;
    if end > len_v {
        end = len_v;
    }
    let mean = Vector::<f32, N>::new(mean[run / runs]);
    let rstd = Vector::<f32, N>::new(rstd[run / runs]);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut along = Vector::<f32, N>::new(0.0f32);
    let mut i = start + UNIT_POS_X as usize;
    while i < end {
        let at = place(i, base, span_v, stride_v, pieces);
        let mut g = Vector::<f32, N>::cast_from(grad[at]);
        let value = Vector::<f32, N>::cast_from(x[at]);
        if comptime!(weighted) {
            g *= load::<N>(weight, i, 1, len_v, true);
        }
        sum += g;
        along += g * ((value - mean) * rstd);
        i += units;
    }
    let sum = tree_sum(&mut shared, lanes(sum), units);
    let along = tree_sum(&mut shared, lanes(along), units);
    if UNIT_POS_X == 0 {
        part_g[CUBE_POS] = sum;
        part_gx[CUBE_POS] = along;
    }
}

/// The sums of each run from its parts, and the two numbers of each unit from its runs; one thread for a unit.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn settle(
    part_g: &Tensor<f32>,
    part_gx: &Tensor<f32>,
    weight: &Tensor<f32>,
    rstd: &Tensor<f32>,
    run_g: &mut Tensor<f32>,
    run_gx: &mut Tensor<f32>,
    constant: &mut Tensor<f32>,
    along: &mut Tensor<f32>,
    rows: usize,
    runs: usize,
    parts: usize,
    param_n: usize,
    count: f32,
    #[comptime] weighted: bool,
    #[comptime] centered: bool,
) {
    let unit = ABSOLUTE_POS;
    if unit >= rows {
        terminate!();
    }
    let mut all_g = 0.0f32;
    let mut all_gx = 0.0f32;
    for r in 0..runs {
        let run = unit * runs + r;
        let mut g = 0.0f32;
        let mut gx = 0.0f32;
        for p in 0..parts {
            g += part_g[run * parts + p];
            gx += part_gx[run * parts + p];
        }
        run_g[run] = g;
        run_gx[run] = gx;
        if comptime!(weighted) {
            let w = weight[run % param_n];
            g *= w;
            gx *= w;
        }
        all_g += g;
        all_gx += gx;
    }
    let scale = rstd[unit] / count;
    along[unit] = all_gx * scale;
    constant[unit] = 0.0f32;
    if comptime!(centered) {
        constant[unit] = all_g * scale;
    }
}

/// `dx = g * weight * rstd - constant - x̂ * along`; one thread for a vector, indices as in [`apply`].
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn apply_backward<F: Float, N: Size>(
    grad: &Tensor<Vector<F, N>>,
    x: &Tensor<Vector<F, N>>,
    weight: &Tensor<f32>,
    mean: &Tensor<f32>,
    rstd: &Tensor<f32>,
    constant: &Tensor<f32>,
    along: &Tensor<f32>,
    dx: &mut Tensor<Vector<F, N>>,
    total_v: usize,
    unit_v: usize,
    unit_n: usize,
    param_v: usize,
    param_n: usize,
    #[comptime] weighted: bool,
    #[comptime] elementwise: bool,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= total_v {
        terminate!();
    }
    let unit = (i / unit_v) % unit_n;
    let rstd = Vector::<f32, N>::new(rstd[unit]);
    let value = Vector::<f32, N>::cast_from(x[i]);
    let xhat = (value - Vector::<f32, N>::new(mean[unit])) * rstd;
    let mut h = Vector::<f32, N>::cast_from(grad[i]) * rstd;
    if comptime!(weighted) {
        h *= load::<N>(weight, i, param_v, param_n, elementwise);
    }
    let left =
        h - Vector::<f32, N>::new(constant[unit]) - xhat * Vector::<f32, N>::new(along[unit]);
    dx[i] = Vector::cast_from(left);
}
