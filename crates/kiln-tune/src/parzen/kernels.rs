//! The density of many kernels at a few points, the innermost loop of TPE.

use std::ops::Range;

use super::column::{CategoricalKernels, Column, NumericKernels, NumericRange, PRIOR, to_index};
use super::truncnorm::log_cell_mass;

/// Kernels are worked on in blocks which stay in the first-level cache.
const BLOCK: usize = 256;

/// Terms this far below the largest one cannot be seen in the sum of 10^5 others.
const NEGLIGIBLE: f64 = -52.0;

/// After so many parameters most kernels of a block are usually negligible already.
const HEAD: usize = 3;

/// Grids up to this size have a table of cell masses.
const SMALL_GRID: f64 = 256.0;

/// The log-density of the mixture at `points[parameter][point]`. `base` is what does not depend on the point: the log
/// weight of each kernel with the normalizations of its components.
///
/// Every parameter can only lower a term, and a term that is negligible next to the largest one so far is dropped.
/// Discrete parameters, whose cells need the distribution function, are first replaced by an upper bound.
pub(crate) fn log_pdf(base: &[f64], columns: &[Column], points: &[Vec<f64>]) -> Vec<f64> {
    let n_points = points.first().map_or(0, Vec::len);
    let mut prepared: Vec<Prepared> = columns
        .iter()
        .zip(points)
        .map(|(column, points)| Prepared::new(column, points))
        .collect();
    // The sharp ones go first.
    prepared.sort_by_key(|column| matches!(column, Prepared::Categorical { .. }));
    let is_exact = !prepared
        .iter()
        .any(|column| matches!(column, Prepared::Discrete { .. }));
    let n_head = HEAD.min(prepared.len());

    let mut sums = vec![LogSum::new(); n_points];
    let mut buffer = [0.0; BLOCK];
    let mut survivors = Vec::with_capacity(BLOCK);
    for start in (0..base.len()).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(base.len());
        let terms = &mut buffer[..block.len()];
        for (point, sum) in sums.iter_mut().enumerate() {
            terms.copy_from_slice(&base[block.clone()]);
            for column in &prepared[..n_head] {
                column.add_bound(point, block.clone(), terms);
            }
            let floor = sum.floor();
            survivors.clear();
            survivors.extend((0..terms.len()).filter(|i| terms[*i] > floor));
            if survivors.len() * 4 > terms.len() {
                for column in &prepared[n_head..] {
                    column.add_bound(point, block.clone(), terms);
                }
                if is_exact {
                    sum.add(terms);
                    continue;
                }
                survivors.retain(|i| terms[*i] > floor);
            } else {
                for i in &survivors {
                    let kernel = start + i..start + i + 1;
                    for column in &prepared[n_head..] {
                        column.add_bound(
                            point,
                            kernel.clone(),
                            std::slice::from_mut(&mut terms[*i]),
                        );
                    }
                }
            }
            for i in &survivors {
                let mut term = terms[*i];
                for column in &mut prepared {
                    // The floor rises with what is found, so that few cells are needed.
                    if term > sum.floor() {
                        term += column.correction(point, start + i);
                    }
                }
                sum.add(&[term]);
            }
        }
    }
    for column in &prepared {
        for (point, sum) in sums.iter_mut().enumerate() {
            if column.is_outside(point) {
                *sum = LogSum::new();
            }
        }
    }
    sums.into_iter().map(LogSum::value).collect()
}

/// One parameter with its points on the scale of the kernels.
enum Prepared<'a> {
    Continuous {
        kernels: &'a NumericKernels,
        points: Vec<f64>,
    },
    Discrete {
        kernels: &'a NumericKernels,
        cells: Vec<Cell>,
        table: Vec<f64>,
        n_values: usize,
    },
    Categorical {
        kernels: &'a CategoricalKernels,
        points: Vec<u32>,
        logs: [f64; 3],
    },
}

/// The interval around a value of a discrete parameter, on the scale of the kernels.
struct Cell {
    middle: f64,
    width: f64,
}

impl<'a> Prepared<'a> {
    fn new(column: &'a Column, points: &[f64]) -> Self {
        match column {
            Column::Numeric(kernels) if kernels.range.step == 0.0 => {
                let points = points.iter().map(|x| kernels.range.scale(*x)).collect();
                Self::Continuous { kernels, points }
            }
            Column::Numeric(kernels) => {
                let range = kernels.range;
                let cell = |x: &f64| {
                    let (left, right) = range.cell(*x);
                    Cell {
                        middle: 0.5 * (left + right),
                        width: right - left,
                    }
                };
                let cells: Vec<Cell> = points.iter().map(cell).collect();
                let n_values = (range.high - range.low) / range.step + 1.0;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let n_values = if n_values <= SMALL_GRID {
                    n_values.round() as usize
                } else {
                    0
                };
                let table = vec![f64::NAN; cells.len() * n_values];
                Self::Discrete {
                    kernels,
                    cells,
                    table,
                    n_values,
                }
            }
            Column::Categorical(kernels) => Self::Categorical {
                kernels,
                points: points.iter().copied().map(to_index).collect(),
                logs: kernels.logs(),
            },
        }
    }

    /// Adds the log-density of the point under each kernel of the block, up to the normalization; for a discrete
    /// parameter an upper bound of it.
    fn add_bound(&self, point: usize, block: Range<usize>, terms: &mut [f64]) {
        match self {
            Self::Continuous { kernels, points } => {
                let x = points[point];
                let mus = &kernels.mus[block.clone()];
                let scales = &kernels.scales[block];
                for ((term, mu), scale) in terms.iter_mut().zip(mus).zip(scales) {
                    let t = (x - mu) * scale;
                    *term -= t * t;
                }
            }
            Self::Discrete { kernels, cells, .. } => {
                let Cell { middle, width } = cells[point];
                let mus = &kernels.mus[block.clone()];
                let scales = &kernels.scales[block];
                for ((term, mu), scale) in terms.iter_mut().zip(mus).zip(scales) {
                    *term -= cell_bound(middle - mu, width, *scale);
                }
            }
            Self::Categorical {
                kernels,
                points,
                logs: [hit, miss, prior],
            } => {
                let x = points[point];
                for (term, observed) in terms.iter_mut().zip(&kernels.observed[block]) {
                    let other = if *observed == PRIOR { prior } else { miss };
                    *term += if *observed == x { hit } else { other };
                }
            }
        }
    }

    /// What the bound was too high by; 0 where it is exact.
    fn correction(&mut self, point: usize, kernel: usize) -> f64 {
        let Self::Discrete {
            kernels,
            cells,
            table,
            n_values,
        } = self
        else {
            return 0.0;
        };
        let Cell { middle, width } = cells[point];
        let (mu, sigma) = (kernels.mus[kernel], kernels.sigmas[kernel]);
        let exact = || log_cell_mass((middle - mu) / sigma, width / sigma);
        let bound = cell_bound(middle - mu, width, kernels.scales[kernel]);
        // With many observations on a small grid nearly all kernels have the smallest bandwidth, and are then told
        // apart by their value only.
        if *n_values > 0 && sigma == kernels.min_sigma {
            let NumericRange { low, step, log, .. } = kernels.range;
            let value = if log { mu.exp() } else { mu };
            let index = ((value - low) / step).round();
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            if index >= 0.0 && index < *n_values as f64 && is_on_grid(value, low + index * step) {
                let mass = &mut table[point * *n_values + index as usize];
                if mass.is_nan() {
                    *mass = exact();
                }
                return *mass + bound;
            }
        }
        exact() + bound
    }

    /// A point outside of the range has no density.
    fn is_outside(&self, point: usize) -> bool {
        match self {
            Self::Continuous { kernels, points } => {
                let x = points[point];
                !(kernels.range.lo <= x && x <= kernels.range.hi)
            }
            Self::Discrete { cells, .. } => cells[point].middle.is_nan(),
            Self::Categorical {
                kernels, points, ..
            } => points[point] as usize >= kernels.n_choices,
        }
    }
}

/// What the log-mass of a cell is below zero at least: the square of the scaled distance to its nearer end.
fn cell_bound(distance: f64, width: f64, scale: f64) -> f64 {
    let t = (distance.abs() - 0.5 * width).max(0.0) * scale;
    t * t
}

/// An enqueued value may lie between the points of the grid.
fn is_on_grid(value: f64, point: f64) -> bool {
    (value - point).abs() <= 1e-12 * point.abs().max(1e-3)
}

/// The logarithm of a sum of exponentials, block by block.
#[derive(Clone, Copy)]
struct LogSum {
    max: f64,
    sum: f64,
}

impl LogSum {
    fn new() -> Self {
        Self {
            max: f64::NEG_INFINITY,
            sum: 0.0,
        }
    }

    /// Terms at most this large do not matter any more.
    fn floor(&self) -> f64 {
        self.max + NEGLIGIBLE
    }

    fn add(&mut self, terms: &[f64]) {
        let max = maximum(terms);
        if max > self.max {
            self.sum *= (self.max - max).exp();
            self.max = max;
        }
        let floor = self.floor();
        if max <= floor || self.max == f64::NEG_INFINITY {
            return;
        }
        for term in terms {
            if *term > floor {
                self.sum += (term - self.max).exp();
            }
        }
    }

    fn value(self) -> f64 {
        if self.max == f64::NEG_INFINITY {
            self.max
        } else {
            self.max + self.sum.ln()
        }
    }
}

/// The largest term. Four independent chains, because one would wait for each comparison.
fn maximum(terms: &[f64]) -> f64 {
    let mut lanes = [f64::NEG_INFINITY; 4];
    let chunks = terms.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, term) in lanes.iter_mut().zip(chunk) {
            *lane = if *term > *lane { *term } else { *lane };
        }
    }
    rest.iter().chain(&lanes).fold(
        f64::NEG_INFINITY,
        |max, term| if *term > max { *term } else { max },
    )
}
