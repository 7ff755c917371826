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

    /// `above` has room for a row of the plane.
    #[inline(always)]
    fn forward(&self, plane: &[f32], y: &mut [MaybeUninit<f32>], above: &mut [f32]) {
        let [_, width] = self.size;
        for (row, line) in y.chunks_exact_mut(self.out[1]).enumerate() {
            if self.is_halving() {
                let (top, bottom) = (
                    pairs(plane, 2 * row, width),
                    pairs(plane, 2 * row + 1, width),
                );
                let len = line.len();
                let (top, bottom) = (&top[..len], &bottom[..len]);
                for i in 0..len {
                    let ([a, b], [c, d]) = (top[i], bottom[i]);
                    line[i].write(larger(larger(larger(a, b), c), d));
                }
                continue;
            }
            // Of all rows of the windows first, then along the line.
            let rows = self.window(0, row);
            let (first, rest) = (rows.start, rows.start + 1..rows.end);
            above.copy_from_slice(&plane[first * width..][..width]);
            for row in rest {
                for (a, &b) in above.iter_mut().zip(&plane[row * width..][..width]) {
                    *a = larger(*a, b);
                }
            }
            for (column, to) in line.iter_mut().enumerate() {
                let window = &above[self.window(1, column)];
                to.write(window.iter().fold(window[0], |a, &b| larger(a, b)));
            }
        }
    }

    /// Adds to `dx`, which is zero before.
    #[inline(always)]
    fn backward(&self, plane: &[f32], grad: &[f32], dx: &mut [f32]) {
        let [_, width] = self.size;
        for (row, line) in grad.chunks_exact(self.out[1]).enumerate() {
            if self.is_halving() {
                let (top, bottom) = (
                    pairs(plane, 2 * row, width),
                    pairs(plane, 2 * row + 1, width),
                );
                let (above, below) = dx[2 * row * width..][..2 * width].split_at_mut(width);
                let (above, below) = (above.as_chunks_mut().0, below.as_chunks_mut().0);
                let len = line.len();
                let (top, bottom) = (&top[..len], &bottom[..len]);
                let (above, below) = (&mut above[..len], &mut below[..len]);
                for i in 0..len {
                    let ([a, b], [c, d], g) = (top[i], bottom[i], line[i]);
                    let (b_wins, ab) = (is_larger(b, a), larger(a, b));
                    let (d_wins, cd) = (is_larger(d, c), larger(c, d));
                    let g = split(g, is_larger(cd, ab));
                    above[i] = split(g[0], b_wins);
                    below[i] = split(g[1], d_wins);
                }
                continue;
            }
            for (column, g) in line.iter().enumerate() {
                dx[self.largest(plane, row, column)] += g;
            }
        }
    }
}

#[inline(always)]
fn pairs(plane: &[f32], row: usize, width: usize) -> &[[f32; 2]] {
    plane[row * width..][..width].as_chunks().0
}

#[inline(always)]
fn is_larger(value: f32, than: f32) -> bool {
    (value > than) | value.is_nan()
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if is_larger(b, a) { b } else { a }
}

/// The value for the second if that wins, otherwise for the first; without a branch, which no processor could foresee.
#[inline(always)]
fn split(value: f32, second: bool) -> [f32; 2] {
    let mask = 0u32.wrapping_sub(u32::from(second));
    [!mask, mask].map(|mask| f32::from_bits(value.to_bits() & mask))
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
        let mut above = vec![0.0; planes.size[1]];
        vectorized!(|| {
            for (y, x) in y.chunks_exact_mut(to).zip(x.chunks_exact(from)) {
                planes.forward(x, y, &mut above);
            }
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
        vectorized!(|| {
            let each = dx.chunks_exact_mut(from).zip(x.chunks_exact(from));
            for ((dx, x), grad) in each.zip(grad.chunks_exact(to)) {
                planes.backward(x, grad, dx);
            }
        })
    });
    dx
}

pub(super) fn relu(x: &[f32]) -> Vec<f32> {
    let mut y = uninit(x.len());
    let tasks = y.par_chunks_mut(TASK).zip(x.par_chunks(TASK));
    tasks.for_each(|(y, x)| {
        vectorized!(|| {
            for (y, &x) in y.iter_mut().zip(x) {
                y.write(rectified(x, x));
            }
        })
    });
    written(y)
}

pub(super) fn relu_over(x: &mut [f32]) {
    x.par_chunks_mut(TASK).for_each(|x| {
        vectorized!(|| {
            for x in x {
                *x = rectified(*x, *x);
            }
        })
    });
}

/// Writes the gradient of the input over that of the output.
pub(super) fn relu_backward(output: &[f32], grad: &mut [f32]) {
    let tasks = grad.par_chunks_mut(TASK).zip(output.par_chunks(TASK));
    tasks.for_each(|(grad, output)| {
        vectorized!(|| {
            for (grad, &output) in grad.iter_mut().zip(output) {
                *grad = rectified(output, *grad);
            }
        })
    });
}

/// The value where `x` is positive or NaN.
#[inline(always)]
fn rectified(x: f32, value: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { value }
}
