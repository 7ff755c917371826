//! Maximum pooling and ReLU: one pass over memory, by all threads.

use core::mem::MaybeUninit;
use core::ops::Range;

use rayon::prelude::*;

use super::simd::{uninit, vectorized, written};
use crate::cnn::PoolSpec;

/// Values that are worth a task of their own.
const TASK: usize = 16 * 1024;

/// The sizes of a plane before and after.
#[derive(Clone, Copy)]
pub(super) struct Planes {
    size: [usize; 2],
    out: [usize; 2],
    spec: PoolSpec,
}

impl Planes {
    pub(super) fn of(size: [usize; 2], spec: PoolSpec) -> Self {
        let out = [0, 1].map(|axis| {
            (size[axis] + 2 * spec.padding[axis] - spec.kernel[axis]) / spec.stride[axis] + 1
        });
        Self { size, out, spec }
    }

    pub(super) fn out(&self) -> [usize; 2] {
        self.out
    }

    /// Planes that a task takes.
    fn together(&self) -> usize {
        TASK.div_ceil(self.size[0] * self.size[1])
    }

    /// Whether windows are 2×2 and lie side by side: the common case, without any bounds.
    fn is_halving(&self) -> bool {
        let two = [2, 2];
        self.spec.kernel == two && self.spec.stride == two && self.spec.padding == [0, 0]
    }

    /// What a window covers of an axis.
    fn window(&self, axis: usize, at: usize) -> Range<usize> {
        let start = at * self.spec.stride[axis];
        let end = (start + self.spec.kernel[axis]).saturating_sub(self.spec.padding[axis]);
        start.saturating_sub(self.spec.padding[axis])..end.min(self.size[axis])
    }

    /// Where a window's largest value is in the plane: the first of equal ones, and the last NaN.
    #[inline(always)]
    fn largest(&self, plane: &[f32], y: usize, x: usize) -> usize {
        let (rows, columns) = (self.window(0, y), self.window(1, x));
        let mut best = rows.start * self.size[1] + columns.start;
        for row in rows {
            for at in row * self.size[1] + columns.start..row * self.size[1] + columns.end {
                if plane[at] > plane[best] || plane[at].is_nan() {
                    best = at;
                }
            }
        }
        best
    }

    #[inline(always)]
    fn forward(&self, plane: &[f32], y: &mut [MaybeUninit<f32>]) {
        let [_, width] = self.size;
        for (row, line) in y.chunks_exact_mut(self.out[1]).enumerate() {
            if self.is_halving() {
                let [top, bottom] = [0, 1].map(|i| pairs(&plane[(2 * row + i) * width..][..width]));
                for ((to, [a, b]), [c, d]) in line.iter_mut().zip(top).zip(bottom) {
                    to.write(larger(larger(larger(*a, *b), *c), *d));
                }
                continue;
            }
            for (column, to) in line.iter_mut().enumerate() {
                to.write(plane[self.largest(plane, row, column)]);
            }
        }
    }

    /// Adds to `dx`, which is zero before.
    #[inline(always)]
    fn backward(&self, plane: &[f32], grad: &[f32], dx: &mut [f32]) {
        let [_, width] = self.size;
        for (row, line) in grad.chunks_exact(self.out[1]).enumerate() {
            if self.is_halving() {
                let [top, bottom] = [0, 1].map(|i| pairs(&plane[(2 * row + i) * width..][..width]));
                let (above, below) = dx[2 * row * width..][..2 * width].split_at_mut(width);
                let (above, below) = (above.as_chunks_mut().0, below.as_chunks_mut().0);
                let values = line.iter().zip(top).zip(bottom);
                for (((&g, [a, b]), [c, d]), (above, below)) in
                    values.zip(above.iter_mut().zip(below))
                {
                    let (b_wins, left) = (is_larger(*b, *a), larger(*a, *b));
                    let (c_wins, left) = (is_larger(*c, left), larger(left, *c));
                    let d_wins = is_larger(*d, left);
                    let first = |wins: bool, g: f32| if wins { g } else { 0.0 };
                    *above = [
                        first(!b_wins & !c_wins & !d_wins, g),
                        first(b_wins & !c_wins & !d_wins, g),
                    ];
                    *below = [first(c_wins & !d_wins, g), first(d_wins, g)];
                }
                continue;
            }
            for (column, g) in line.iter().enumerate() {
                dx[self.largest(plane, row, column)] += g;
            }
        }
    }
}

fn pairs(row: &[f32]) -> &[[f32; 2]] {
    row.as_chunks().0
}

#[inline(always)]
fn is_larger(value: f32, than: f32) -> bool {
    (value > than) | value.is_nan()
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if is_larger(b, a) { b } else { a }
}

/// The largest value of each window of every plane.
pub(super) fn max_pool(x: &[f32], planes: Planes) -> Vec<f32> {
    let (from, to) = (
        planes.size[0] * planes.size[1],
        planes.out[0] * planes.out[1],
    );
    let mut y = uninit(x.len() / from * to);
    let tasks = y
        .par_chunks_mut(to * planes.together())
        .zip(x.par_chunks(from * planes.together()));
    tasks.for_each(|(y, x)| {
        vectorized(|| {
            let each = y.chunks_exact_mut(to).zip(x.chunks_exact(from));
            each.for_each(|(y, x)| planes.forward(x, y));
        })
    });
    written(y)
}

/// The gradient of the images.
pub(super) fn max_pool_backward(x: &[f32], grad: &[f32], planes: Planes) -> Vec<f32> {
    let (from, to) = (
        planes.size[0] * planes.size[1],
        planes.out[0] * planes.out[1],
    );
    let mut dx = vec![0.0; x.len()];
    let tasks = dx
        .par_chunks_mut(from * planes.together())
        .zip(x.par_chunks(from * planes.together()))
        .zip(grad.par_chunks(to * planes.together()));
    tasks.for_each(|((dx, x), grad)| {
        vectorized(|| {
            let each = dx.chunks_exact_mut(from).zip(x.chunks_exact(from));
            let each = each.zip(grad.chunks_exact(to));
            each.for_each(|((dx, x), grad)| planes.backward(x, grad, dx));
        })
    });
    dx
}

pub(super) fn relu(x: &[f32]) -> Vec<f32> {
    let mut y = uninit(x.len());
    let tasks = y.par_chunks_mut(TASK).zip(x.par_chunks(TASK));
    tasks.for_each(|(y, x)| {
        vectorized(|| {
            y.iter_mut().zip(x).for_each(|(y, &x)| {
                y.write(rectified(x, x));
            })
        })
    });
    written(y)
}

pub(super) fn relu_over(x: &mut [f32]) {
    x.par_chunks_mut(TASK)
        .for_each(|x| vectorized(|| x.iter_mut().for_each(|x| *x = rectified(*x, *x))));
}

/// Writes the gradient of the input over that of the output.
pub(super) fn relu_backward(output: &[f32], grad: &mut [f32]) {
    let tasks = grad.par_chunks_mut(TASK).zip(output.par_chunks(TASK));
    tasks.for_each(|(grad, output)| {
        vectorized(|| {
            let each = grad.iter_mut().zip(output);
            each.for_each(|(grad, &output)| *grad = rectified(output, *grad));
        })
    });
}

/// The value where `x` is positive or NaN.
#[inline(always)]
fn rectified(x: f32, value: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { value }
}
