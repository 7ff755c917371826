//! Channel normalization: BatchNorm, on `[batch, channels, span]` without a transpose.
//!
//! Three schedules:
//!
//! - *by channel*: a thread takes a channel through the whole batch, statistics first, then the output, backwards, so that
//!   what it read last is still in its cache;
//! - *by piece*, where there are too few channels for that: statistics of every `span` elements, then their output;
//! - *by column*, where `span` is shorter than a vector is worth: a sample is a row of `channels * span` columns, and
//!   loops run along it.

use core::mem::MaybeUninit;

use rayon::prelude::*;

use super::simd::{
    BLOCK, Dots, Moments, Pull, Stats, affine as affine_piece, block_dots, block_moments, pull,
    uninit, vectorized, written,
};
use crate::norm::ChannelSpec;

/// Elements that are worth a task of their own.
const TASK: usize = 16 * 1024;

/// Shorter runs go by column.
const SHORT: usize = 16;

enum Schedule {
    Channel,
    Piece,
    Column,
}

fn schedule(spec: ChannelSpec) -> Schedule {
    if spec.span < SHORT {
        Schedule::Column
    } else if spec.channels < 2 * rayon::current_num_threads() && spec.count() > TASK {
        Schedule::Piece
    } else {
        Schedule::Channel
    }
}

pub(super) fn forward(
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    spec: ChannelSpec,
) -> (Vec<f32>, Vec<Stats>) {
    let mut out = uninit(x.len());
    let scale = |c: usize, stats: Stats| stats.rstd * weight.map_or(1.0, |weight| weight[c]);
    let shift = |c: usize, stats: Stats| {
        bias.map_or(0.0, |bias| bias[c]) - stats.mean_rest * scale(c, stats)
    };
    let stats = match schedule(spec) {
        Schedule::Channel => {
            let mut stats = vec![Stats::default(); spec.channels];
            by_channel(&mut out, spec)
                .into_par_iter()
                .zip(stats.par_iter_mut())
                .with_min_len(TASK.div_ceil(spec.count()))
                .enumerate()
                .for_each(|(c, (out, stats))| {
                    let pieces: Vec<&[f32]> = pieces_of(x, c, spec).collect();
                    vectorized!(|| {
                        *stats = Stats::of(moments(&pieces), spec.eps);
                        let (scale, shift) = (scale(c, *stats), shift(c, *stats));
                        for (out, x) in out.into_iter().zip(pieces).rev() {
                            affine_piece(out, x, stats.mean, scale, shift);
                        }
                    });
                });
            stats
        }
        Schedule::Piece => {
            let pieces: Vec<Moments> = x
                .par_chunks(spec.span)
                .map(|x| match x.len() > 4 * TASK {
                    true => {
                        let parts: Vec<Moments> = x
                            .par_chunks(TASK)
                            .map(|x| vectorized!(|| moments(&[x])))
                            .collect();
                        parts.into_iter().fold(Moments::default(), Moments::merge)
                    }
                    false => vectorized!(|| moments(&[x])),
                })
                .collect();
            let stats: Vec<Stats> = (0..spec.channels)
                .map(|c| {
                    let own = pieces.iter().skip(c).step_by(spec.channels).copied();
                    Stats::of(own.fold(Moments::default(), Moments::merge), spec.eps)
                })
                .collect();
            let pairs = out.par_chunks_mut(spec.span).zip(x.par_chunks(spec.span));
            pairs.enumerate().for_each(|(i, (out, x))| {
                let c = i % spec.channels;
                let (mean, scale, shift) = (stats[c].mean, scale(c, stats[c]), shift(c, stats[c]));
                out.par_chunks_mut(TASK)
                    .zip(x.par_chunks(TASK))
                    .for_each(|(out, x)| {
                        vectorized!(|| affine_piece(out, x, mean, scale, shift));
                    });
            });
            stats
        }
        Schedule::Column => {
            let stats = columns_of(spec, |channels| column_stats(x, channels, spec));
            let mean = expand(spec, |c| stats[c].mean);
            let scale_of = expand(spec, |c| scale(c, stats[c]));
            let shift_of = expand(spec, |c| shift(c, stats[c]));
            columns_affine(&mut out, x, &mean, &scale_of, &shift_of);
            stats
        }
    };
    (written(out), stats)
}

/// Writes the gradient of the input over `grad`; returns those of weight and bias.
pub(super) fn backward(
    grad: &mut [f32],
    x: &[f32],
    weight: Option<&[f32]>,
    mean: &[f32],
    rstd: &[f32],
    spec: ChannelSpec,
) -> (Vec<f32>, Vec<f32>) {
    let n = spec.count() as f64;
    let scale = |c: usize| rstd[c] * weight.map_or(1.0, |weight| weight[c]);
    // The weight is a factor of both sums.
    let settle = |c: usize, dots: &mut Dots| {
        let w = weight.map_or(1.0, |weight| f64::from(weight[c]));
        let weighted = Dots {
            g: w * dots.g,
            gx: w * dots.gx,
            x: dots.x,
        };
        let p = Pull::of(weighted, n, mean[c], rstd[c], true);
        dots.gx -= f64::from(p.offset) * dots.g;
        p
    };
    let sums: Vec<Dots> = match schedule(spec) {
        Schedule::Channel => {
            let mut sums = vec![Dots::default(); spec.channels];
            by_channel(grad, spec)
                .into_par_iter()
                .zip(sums.par_iter_mut())
                .with_min_len(TASK.div_ceil(spec.count()))
                .enumerate()
                .for_each(|(c, (gs, sums))| {
                    let xs: Vec<&[f32]> = pieces_of(x, c, spec).collect();
                    vectorized!(|| {
                        *sums = dots(&gs, &xs, mean[c], rstd[c]);
                        let (p, scale) = (settle(c, sums), scale(c));
                        for (g, x) in gs.into_iter().zip(xs).rev() {
                            pull(g, x, scale, p);
                        }
                    });
                });
            sums
        }
        Schedule::Piece => {
            let pieces: Vec<Dots> = grad
                .par_chunks(spec.span)
                .zip(x.par_chunks(spec.span))
                .enumerate()
                .map(|(i, (g, x))| {
                    let c = i % spec.channels;
                    let parts: Vec<Dots> = g
                        .par_chunks(TASK)
                        .zip(x.par_chunks(TASK))
                        .map(|(g, x)| vectorized!(|| dots(&[g], &[x], mean[c], rstd[c])))
                        .collect();
                    let mut all = Dots::default();
                    parts.into_iter().for_each(|part| all += part);
                    all
                })
                .collect();
            let mut sums = vec![Dots::default(); spec.channels];
            for sample in pieces.chunks(spec.channels) {
                for (sum, &piece) in sums.iter_mut().zip(sample) {
                    *sum += piece;
                }
            }
            let pulls: Vec<Pull> = sums
                .iter_mut()
                .enumerate()
                .map(|(c, sum)| settle(c, sum))
                .collect();
            let pairs = grad.par_chunks_mut(spec.span).zip(x.par_chunks(spec.span));
            pairs.enumerate().for_each(|(i, (g, x))| {
                let c = i % spec.channels;
                let (p, scale) = (pulls[c], scale(c));
                g.par_chunks_mut(TASK)
                    .zip(x.par_chunks(TASK))
                    .for_each(|(g, x)| vectorized!(|| pull(g, x, scale, p)));
            });
            sums
        }
        Schedule::Column => {
            let mut sums = columns_of(spec, |channels| {
                column_dots(grad, x, mean, rstd, channels, spec)
            });
            let pulls: Vec<Pull> = sums
                .iter_mut()
                .enumerate()
                .map(|(c, sum)| settle(c, sum))
                .collect();
            // dx = g * scale - constant - (x - mean) * along, one column at a time.
            let scale_of = expand(spec, scale);
            let mean_of = expand(spec, |c| mean[c]);
            let rstd_of = expand(spec, |c| rstd[c]);
            let along = expand(spec, |c| pulls[c].along);
            let constant = expand(spec, |c| pulls[c].constant);
            let width = spec.channels * spec.span;
            let rows = TASK.div_ceil(width);
            grad.par_chunks_mut(rows * width)
                .zip(x.par_chunks(rows * width))
                .for_each(|(g, x)| {
                    vectorized!(|| {
                        for (g, x) in g.chunks_mut(width).zip(x.chunks(width)) {
                            for j in 0..width {
                                let xhat = (x[j] - mean_of[j]) * rstd_of[j];
                                g[j] = g[j] * scale_of[j] - constant[j] - xhat * along[j];
                            }
                        }
                    });
                });
            sums
        }
    };
    let column = |f: fn(&Dots) -> f64| sums.iter().map(|sum| f(sum) as f32).collect();
    (column(|sum| sum.gx), column(|sum| sum.g))
}

/// `(x - mean) * scale + shift` for each channel.
pub(super) fn affine(
    x: &[f32],
    mean: &[f32],
    scale: &[f32],
    shift: &[f32],
    spec: ChannelSpec,
) -> Vec<f32> {
    let mut out = uninit(x.len());
    if spec.span < SHORT {
        let [mean, scale, shift] = [mean, scale, shift].map(|p| expand(spec, |c| p[c]));
        columns_affine(&mut out, x, &mean, &scale, &shift);
        return written(out);
    }
    let each = TASK.div_ceil(spec.span) * spec.span;
    out.par_chunks_mut(each)
        .zip(x.par_chunks(each))
        .enumerate()
        .for_each(|(task, (out, x))| {
            vectorized!(|| {
                let pairs = out.chunks_mut(spec.span).zip(x.chunks(spec.span));
                for (i, (out, x)) in pairs.enumerate() {
                    let c = (task * (each / spec.span) + i) % spec.channels;
                    affine_piece(out, x, mean[c], scale[c], shift[c]);
                }
            });
        });
    written(out)
}

/// The same, over its input.
pub(super) fn affine_over(
    x: &mut [f32],
    mean: &[f32],
    scale: &[f32],
    shift: &[f32],
    spec: ChannelSpec,
) {
    let width = spec.span;
    let each = TASK.div_ceil(width) * width;
    x.par_chunks_mut(each).enumerate().for_each(|(task, x)| {
        vectorized!(|| {
            for (i, x) in x.chunks_mut(width).enumerate() {
                let c = (task * (each / width) + i) % spec.channels;
                for x in x {
                    *x = (*x - mean[c]) * scale[c] + shift[c];
                }
            }
        });
    });
}

/// The pieces of an array that belong to a channel, for every channel.
fn by_channel<T>(data: &mut [T], spec: ChannelSpec) -> Vec<Vec<&mut [T]>> {
    let mut all: Vec<Vec<&mut [T]>> = (0..spec.channels)
        .map(|_| Vec::with_capacity(spec.batch))
        .collect();
    for sample in data.chunks_mut(spec.channels * spec.span) {
        for (channel, piece) in all.iter_mut().zip(sample.chunks_mut(spec.span)) {
            channel.push(piece);
        }
    }
    all
}

fn pieces_of(x: &[f32], c: usize, spec: ChannelSpec) -> impl Iterator<Item = &[f32]> {
    x.chunks(spec.span).skip(c).step_by(spec.channels)
}

/// The moments of a channel: its pieces cut into blocks where they are long, put together where they are short.
#[inline(always)]
fn moments(pieces: &[&[f32]]) -> Moments {
    let mut all = Moments::default();
    if pieces.first().is_some_and(|piece| piece.len() > BLOCK / 4) {
        for block in pieces.iter().flat_map(|piece| piece.chunks(BLOCK)) {
            all = all.merge(block_moments(core::iter::once(block), true));
        }
    } else {
        let each = BLOCK / pieces.first().map_or(1, |piece| piece.len().max(1));
        for group in pieces.chunks(each.max(1)) {
            all = all.merge(block_moments(group.iter().copied(), true));
        }
    }
    all
}

/// The sums of a channel, cut and put together like [`moments`].
#[inline(always)]
fn dots<G: core::ops::Deref<Target = [f32]>>(
    gs: &[G],
    xs: &[&[f32]],
    mean: f32,
    rstd: f32,
) -> Dots {
    let mut all = Dots::default();
    let each = BLOCK / xs.first().map_or(1, |piece| piece.len().max(1));
    if each <= 4 {
        for (g, x) in gs.iter().zip(xs) {
            for pair in g.chunks(BLOCK).zip(x.chunks(BLOCK)) {
                all += block_dots(core::iter::once(pair), mean, rstd);
            }
        }
    } else {
        for (gs, xs) in gs.chunks(each).zip(xs.chunks(each)) {
            let pairs = gs.iter().map(|g| &**g).zip(xs.iter().copied());
            all += block_dots(pairs, mean, rstd);
        }
    }
    all
}

/// Runs a task for each range of channels, and puts the results together in order.
fn columns_of<T: Send>(
    spec: ChannelSpec,
    run: impl Fn(core::ops::Range<usize>) -> Vec<T> + Sync,
) -> Vec<T> {
    // At least a few cache lines of a row, and enough of the batch.
    let wide = 64usize.div_ceil(spec.span);
    let tall = TASK.div_ceil(spec.count());
    let each = wide.max(tall);
    let results: Vec<Vec<T>> = (0..spec.channels.div_ceil(each))
        .into_par_iter()
        .map(|i| vectorized!(|| run(i * each..((i + 1) * each).min(spec.channels))))
        .collect();
    results.into_iter().flatten().collect()
}

/// Adds up a function of every element of a range of columns: in `f32` over some samples, then in `f64`, then over the
/// columns of a channel.
#[inline(always)]
fn column_sums<const K: usize>(
    channels: core::ops::Range<usize>,
    spec: ChannelSpec,
    term: impl Fn(usize, usize) -> [f32; K],
) -> Vec<[f64; K]> {
    let columns = channels.start * spec.span..channels.end * spec.span;
    let mut wide = vec![[0.0f64; K]; columns.len()];
    let samples: Vec<usize> = (0..spec.batch).collect();
    for samples in samples.chunks(128) {
        let mut narrow = vec![[0.0f32; K]; columns.len()];
        for &sample in samples {
            let row = sample * spec.channels * spec.span;
            for (sum, column) in narrow.iter_mut().zip(columns.clone()) {
                let term = term(row + column, column / spec.span);
                for k in 0..K {
                    sum[k] += term[k];
                }
            }
        }
        for (wide, narrow) in wide.iter_mut().zip(narrow) {
            for k in 0..K {
                wide[k] += f64::from(narrow[k]);
            }
        }
    }
    wide.chunks(spec.span)
        .map(|columns| {
            let mut all = [0.0; K];
            for column in columns {
                for k in 0..K {
                    all[k] += column[k];
                }
            }
            all
        })
        .collect()
}

#[inline(always)]
fn column_stats(x: &[f32], channels: core::ops::Range<usize>, spec: ChannelSpec) -> Vec<Stats> {
    let n = spec.count() as f64;
    let first = channels.start;
    let sums = column_sums(channels.clone(), spec, |i, _| [x[i]]);
    let rough: Vec<f32> = sums.iter().map(|[sum]| (sum / n) as f32).collect();
    let sums = column_sums(channels.clone(), spec, |i, c| {
        let d = x[i] - rough[c - first];
        [d, d * d]
    });
    let all = sums.iter().zip(&rough).zip(channels);
    all.map(|(([first, second], &rough), c)| {
        let moments = match first.is_finite() && second.is_finite() {
            true => Moments {
                n,
                mean: f64::from(rough) + first / n,
                m2: second - first / n * first,
            },
            false => {
                let pieces: Vec<&[f32]> = pieces_of(x, c, spec).collect();
                block_moments(pieces.into_iter(), true)
            }
        };
        Stats::of(moments, spec.eps)
    })
    .collect()
}

#[inline(always)]
fn column_dots(
    g: &[f32],
    x: &[f32],
    mean: &[f32],
    rstd: &[f32],
    channels: core::ops::Range<usize>,
    spec: ChannelSpec,
) -> Vec<Dots> {
    let sums = column_sums(channels, spec, |i, c| {
        let xhat = (x[i] - mean[c]) * rstd[c];
        [g[i], g[i] * xhat, xhat]
    });
    sums.into_iter()
        .map(|[g, gx, x]| Dots { g, gx, x })
        .collect()
}

/// One number for each column from one for each channel.
fn expand(spec: ChannelSpec, of: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..spec.channels)
        .flat_map(|c| core::iter::repeat_n(of(c), spec.span))
        .collect()
}

/// `(x - mean) * scale + shift` for each column of each row.
fn columns_affine(
    out: &mut [MaybeUninit<f32>],
    x: &[f32],
    mean: &[f32],
    scale: &[f32],
    shift: &[f32],
) {
    let width = mean.len();
    let each = TASK.div_ceil(width) * width;
    let tasks = out.par_chunks_mut(each).zip(x.par_chunks(each));
    tasks.for_each(|(out, x)| {
        vectorized!(|| {
            for (out, x) in out.chunks_mut(width).zip(x.chunks(width)) {
                let params = mean.iter().zip(scale).zip(shift);
                for ((out, &x), ((&mean, &scale), &shift)) in out.iter_mut().zip(x).zip(params) {
                    out.write((x - mean) * scale + shift);
                }
            }
        });
    });
}
