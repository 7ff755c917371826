//! Row normalization: LayerNorm, RMSNorm, GroupNorm, InstanceNorm.
//!
//! A thread takes whole rows. Where there are fewer rows than would keep the threads busy, each row in turn is cut into
//! pieces for all of them. Weights either belong to one element each, or to a run of `span` elements (a channel); for
//! these the backward keeps two sums for each run, from which the gradients of weight and bias follow without another
//! pass. For the others every block of rows adds into gradients of its own, which are added up in the end.

use core::mem::MaybeUninit;

use rayon::prelude::*;

use super::simd::{
    BLOCK, Dots, Moments, Pull, Stats, affine, block_dots, block_moments, elementwise, pull,
    pull_elementwise, uninit, vectorized, weighted_dots, written,
};
use crate::norm::RowSpec;

/// Elements that are worth a task of their own.
const TASK: usize = 16 * 1024;

pub(super) fn forward(
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    spec: RowSpec,
) -> (Vec<f32>, Vec<Stats>) {
    let len = spec.len();
    let mut out = uninit(x.len());
    let mut stats = vec![Stats::default(); spec.rows];
    if few_long(spec) {
        let rows = out.chunks_mut(len).zip(x.chunks(len));
        for (row, ((out, x), stats)) in rows.zip(&mut stats).enumerate() {
            let blocks: Vec<Moments> = x
                .par_chunks(TASK)
                .map(|x| vectorized!(|| moments(x, spec.centered)))
                .collect();
            let all = blocks.into_iter().fold(Moments::default(), Moments::merge);
            *stats = Stats::of(all, spec.eps);
            write_pieces(
                out,
                x,
                *stats,
                params(weight, row, spec),
                params(bias, row, spec),
                spec,
            );
        }
    } else {
        let rows_each = TASK.div_ceil(len);
        let tasks = out
            .par_chunks_mut(rows_each * len)
            .zip(x.par_chunks(rows_each * len))
            .zip(stats.par_chunks_mut(rows_each));
        #[allow(clippy::type_complexity)] // what rayon zips; a name for it would be used once
        let run = |(task, ((out, x), stats)): (usize, ((&mut [_], &[f32]), &mut [Stats]))| {
            vectorized!(|| {
                let rows = out.chunks_mut(len).zip(x.chunks(len)).zip(stats);
                for (i, ((out, x), stats)) in rows.enumerate() {
                    let row = task * rows_each + i;
                    *stats = Stats::of(moments(x, spec.centered), spec.eps);
                    let (weight, bias) = (params(weight, row, spec), params(bias, row, spec));
                    write_row(out, x, *stats, weight, bias, spec);
                }
            })
        };
        tasks.enumerate().for_each(run);
    }
    (written(out), stats)
}

/// Writes the gradient of the input over `grad`; returns those of weight and bias (empty without a weight).
pub(super) fn backward(
    grad: &mut [f32],
    x: &[f32],
    weight: Option<&[f32]>,
    mean: &[f32],
    rstd: &[f32],
    spec: RowSpec,
) -> (Vec<f32>, Vec<f32>) {
    match weight {
        Some(weight) if spec.span == 1 => backward_elementwise(grad, x, weight, mean, rstd, spec),
        _ => backward_spans(grad, x, weight, mean, rstd, spec),
    }
}

fn few_long(spec: RowSpec) -> bool {
    spec.rows < 2 * rayon::current_num_threads() && spec.len() > 2 * TASK
}

/// The weights of a row.
fn params(all: Option<&[f32]>, row: usize, spec: RowSpec) -> Option<&[f32]> {
    let from = (row % spec.groups) * spec.chunks;
    all.map(|all| &all[from..from + spec.chunks])
}

#[inline(always)]
fn moments(x: &[f32], centered: bool) -> Moments {
    // A loop, since the closures of an iterator's `fold` would not be compiled for AVX2.
    let mut all = Moments::default();
    for block in x.chunks(BLOCK) {
        let block = block_moments(core::iter::once(block), centered);
        all = match centered {
            true => all.merge(block),
            // Mean squares have one mean, zero.
            false => Moments {
                n: all.n + block.n,
                mean: 0.0,
                m2: all.m2 + block.m2,
            },
        };
    }
    all
}

#[inline(always)]
fn write_row(
    out: &mut [MaybeUninit<f32>],
    x: &[f32],
    stats: Stats,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    spec: RowSpec,
) {
    match weight {
        None => write_span(out, x, stats, 1.0, 0.0),
        Some(weight) if spec.span == 1 => elementwise(out, x, stats, weight, bias),
        Some(weight) => {
            let spans = out.chunks_mut(spec.span).zip(x.chunks(spec.span));
            for (i, (out, x)) in spans.enumerate() {
                let shift = bias.map_or(0.0, |bias| bias[i]);
                write_span(out, x, stats, weight[i], shift);
            }
        }
    }
}

#[inline(always)]
fn write_span(out: &mut [MaybeUninit<f32>], x: &[f32], stats: Stats, weight: f32, bias: f32) {
    let scale = weight * stats.rstd;
    let shift = bias - stats.mean_rest * scale;
    affine(out, x, stats.mean, scale, shift);
}

/// [`write_row`] with all threads.
fn write_pieces(
    out: &mut [MaybeUninit<f32>],
    x: &[f32],
    stats: Stats,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    spec: RowSpec,
) {
    match weight {
        Some(weight) if spec.span == 1 => {
            let pieces = out.par_chunks_mut(TASK).zip(x.par_chunks(TASK));
            pieces.enumerate().for_each(|(i, (out, x))| {
                let range = i * TASK..i * TASK + x.len();
                let bias = bias.map(|bias| &bias[range.clone()]);
                vectorized!(|| elementwise(out, x, stats, &weight[range], bias));
            });
        }
        _ => {
            let span = if weight.is_some() { spec.span } else { x.len() };
            let spans = out.par_chunks_mut(span).zip(x.par_chunks(span));
            spans.enumerate().for_each(|(i, (out, x))| {
                let scale = weight.map_or(1.0, |weight| weight[i]);
                let shift = bias.map_or(0.0, |bias| bias[i]);
                let pieces = out.par_chunks_mut(TASK).zip(x.par_chunks(TASK));
                pieces.for_each(|(out, x)| {
                    vectorized!(|| write_span(out, x, stats, scale, shift));
                });
            });
        }
    }
}

/// Sums of one run of elements.
#[inline(always)]
fn dots(g: &[f32], x: &[f32], mean: f32, rstd: f32) -> Dots {
    let mut all = Dots::default();
    for pair in g.chunks(BLOCK).zip(x.chunks(BLOCK)) {
        all += block_dots(core::iter::once(pair), mean, rstd);
    }
    all
}

/// The sums of a row from those of its runs.
#[inline(always)]
fn weigh(runs: &[Dots], weight: Option<&[f32]>) -> Dots {
    let mut all = Dots::default();
    for (i, run) in runs.iter().enumerate() {
        let w = weight.map_or(1.0, |weight| f64::from(weight[i]));
        all += Dots {
            g: w * run.g,
            gx: w * run.gx,
            x: run.x,
        };
    }
    all
}

fn backward_spans(
    grad: &mut [f32],
    x: &[f32],
    weight: Option<&[f32]>,
    mean: &[f32],
    rstd: &[f32],
    spec: RowSpec,
) -> (Vec<f32>, Vec<f32>) {
    let len = spec.len();
    // Without weights a row is one run.
    let (chunks, span) = match weight {
        Some(_) => (spec.chunks, spec.span),
        None => (1, len),
    };
    let mut runs = vec![Dots::default(); spec.rows * chunks];
    if few_long(spec) {
        let rows = grad.chunks_mut(len).zip(x.chunks(len));
        for (row, ((g, x), runs)) in rows.zip(runs.chunks_mut(chunks)).enumerate() {
            let (mean, rstd) = (mean[row], rstd[row]);
            let weight = params(weight, row, spec);
            let pairs = g.par_chunks(span).zip(x.par_chunks(span));
            pairs.zip(runs.par_iter_mut()).for_each(|((g, x), run)| {
                let pieces: Vec<Dots> = g
                    .par_chunks(TASK)
                    .zip(x.par_chunks(TASK))
                    .map(|(g, x)| vectorized!(|| dots(g, x, mean, rstd)))
                    .collect();
                pieces.into_iter().for_each(|piece| *run += piece);
            });
            let p = settle(runs, weight, len, mean, rstd, spec);
            let pairs = g.par_chunks_mut(span).zip(x.par_chunks(span));
            pairs.enumerate().for_each(|(i, (g, x))| {
                let scale = rstd * weight.map_or(1.0, |weight| weight[i]);
                g.par_chunks_mut(TASK)
                    .zip(x.par_chunks(TASK))
                    .for_each(|(g, x)| vectorized!(|| pull(g, x, scale, p)));
            });
        }
    } else {
        let rows_each = TASK.div_ceil(len);
        let tasks = grad
            .par_chunks_mut(rows_each * len)
            .zip(x.par_chunks(rows_each * len))
            .zip(runs.par_chunks_mut(rows_each * chunks));
        #[allow(clippy::type_complexity)] // as in `forward`
        let run = |(task, ((g, x), runs)): (usize, ((&mut [f32], &[f32]), &mut [Dots]))| {
            vectorized!(|| {
                let rows = g.chunks_mut(len).zip(x.chunks(len));
                for (i, ((g, x), runs)) in rows.zip(runs.chunks_mut(chunks)).enumerate() {
                    let row = task * rows_each + i;
                    let (mean, rstd) = (mean[row], rstd[row]);
                    let weight = params(weight, row, spec);
                    for ((g, x), run) in g.chunks(span).zip(x.chunks(span)).zip(&mut *runs) {
                        *run = dots(g, x, mean, rstd);
                    }
                    let p = settle(runs, weight, len, mean, rstd, spec);
                    let pairs = g.chunks_mut(span).zip(x.chunks(span));
                    for (i, (g, x)) in pairs.enumerate() {
                        let scale = rstd * weight.map_or(1.0, |weight| weight[i]);
                        pull(g, x, scale, p);
                    }
                }
            })
        };
        tasks.enumerate().for_each(run);
    }
    match weight {
        Some(_) => sum_runs(&runs, spec.params()),
        None => Default::default(),
    }
}

/// The row's numbers for the second pass; the runs' sums become those with the exact normalized input.
#[inline(always)]
fn settle(
    runs: &mut [Dots],
    weight: Option<&[f32]>,
    len: usize,
    mean: f32,
    rstd: f32,
    spec: RowSpec,
) -> Pull {
    let n = len as f64;
    let p = Pull::of(weigh(runs, weight), n, mean, rstd, spec.centered);
    for run in runs {
        run.gx -= f64::from(p.offset) * run.g;
    }
    p
}

/// The gradients of weights and biases: the sums of their runs over all rows.
fn sum_runs(runs: &[Dots], params: usize) -> (Vec<f32>, Vec<f32>) {
    let mut sums = vec![Dots::default(); params];
    for row in runs.chunks(params) {
        for (sum, &run) in sums.iter_mut().zip(row) {
            *sum += run;
        }
    }
    let column = |f: fn(&Dots) -> f64| sums.iter().map(|sum| f(sum) as f32).collect();
    (column(|sum| sum.gx), column(|sum| sum.g))
}

fn backward_elementwise(
    grad: &mut [f32],
    x: &[f32],
    weight: &[f32],
    mean: &[f32],
    rstd: &[f32],
    spec: RowSpec,
) -> (Vec<f32>, Vec<f32>) {
    let (len, params_len) = (spec.len(), spec.params());
    let row_weight = |row| params(Some(weight), row, spec).unwrap_or_default();
    if few_long(spec) {
        let (mut dweight, mut dbias) = (vec![0.0; params_len], vec![0.0; params_len]);
        for (row, (g, x)) in grad.chunks_mut(len).zip(x.chunks(len)).enumerate() {
            let (mean, rstd, weight) = (mean[row], rstd[row], row_weight(row));
            let pieces: Vec<Dots> = g
                .par_chunks(TASK)
                .zip(weight.par_chunks(TASK))
                .zip(x.par_chunks(TASK))
                .map(|((g, w), x)| vectorized!(|| weighted_dots(g, w, x, mean, rstd)))
                .collect();
            let mut all = Dots::default();
            pieces.into_iter().for_each(|piece| all += piece);
            let p = Pull::of(all, len as f64, mean, rstd, spec.centered);
            let from = (row % spec.groups) * len;
            g.par_chunks_mut(TASK)
                .zip(x.par_chunks(TASK))
                .zip(weight.par_chunks(TASK))
                .zip(dweight[from..from + len].par_chunks_mut(TASK))
                .zip(dbias[from..from + len].par_chunks_mut(TASK))
                .for_each(|((((g, x), w), dw), db)| {
                    vectorized!(|| pull_elementwise(g, x, w, dw, db, p));
                });
        }
        return (dweight, dbias);
    }
    // Blocks of rows, each a multiple of the groups, whose number depends on the shape only: so does the result.
    let outer = spec.rows / spec.groups;
    let blocks = (outer / 4).clamp(1, 64).max(outer / 512);
    let rows_each = outer.div_ceil(blocks) * spec.groups;
    let blocks = spec.rows.div_ceil(rows_each);
    let mut partial = vec![0.0f32; 2 * params_len * blocks];
    grad.par_chunks_mut(rows_each * len)
        .zip(x.par_chunks(rows_each * len))
        .zip(partial.par_chunks_mut(2 * params_len))
        .enumerate()
        .for_each(|(block, ((g, x), partial))| {
            let (dweight, dbias) = partial.split_at_mut(params_len);
            vectorized!(|| {
                for (i, (g, x)) in g.chunks_mut(len).zip(x.chunks(len)).enumerate() {
                    let row = block * rows_each + i;
                    let (mean, rstd, weight) = (mean[row], rstd[row], row_weight(row));
                    let all = weighted_dots(g, weight, x, mean, rstd);
                    let p = Pull::of(all, len as f64, mean, rstd, spec.centered);
                    let range = (row % spec.groups) * len..(row % spec.groups + 1) * len;
                    let (dw, db) = (&mut dweight[range.clone()], &mut dbias[range]);
                    pull_elementwise(g, x, weight, dw, db, p);
                }
            });
        });
    let mut sums = vec![0.0f64; 2 * params_len];
    for block in partial.chunks(2 * params_len) {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += f64::from(x);
        }
    }
    let narrow = |sums: &[f64]| sums.iter().map(|&sum| sum as f32).collect();
    (narrow(&sums[..params_len]), narrow(&sums[params_len..]))
}
