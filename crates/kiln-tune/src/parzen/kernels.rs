//! The density of many kernels at a few points, the innermost loop of TPE.

use std::collections::HashMap;
use std::ops::Range;

use super::column::{CategoricalKernels, Column, NumericKernels, PRIOR, to_index};
use super::truncnorm::log_cell_mass;

/// Kernels are worked on in blocks which stay in the first-level cache.
const BLOCK: usize = 256;

/// Terms this far below the largest one cannot be seen in the sum of 10^5 others.
const NEGLIGIBLE: f64 = -52.0;

/// After so many parameters most kernels of a block are usually negligible already.
const HEAD: usize = 3;

/// The log-density of the mixture at `points[parameter][point]`. `base` is what does not depend on the point: the log
/// weight of each kernel with the normalizations of its components.
pub(crate) fn log_pdf(base: &[f64], columns: &[Column], points: &[Vec<f64>]) -> Vec<f64> {
    let n_points = points.first().map_or(0, Vec::len);
    let mut prepared: Vec<Prepared> = columns
        .iter()
        .zip(points)
        .map(|(column, points)| Prepared::new(column, points))
        .collect();
    // The cheap and sharp ones go first.
    prepared.sort_by_key(|column| !matches!(column, Prepared::Continuous { .. }));
    let (head, tail) = prepared.split_at(HEAD.min(prepared.len()));

    let mut sums = vec![LogSum::new(); n_points];
    let mut buffer = [0.0; BLOCK];
    let mut survivors = Vec::with_capacity(BLOCK);
    for start in (0..base.len()).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(base.len());
        let terms = &mut buffer[..block.len()];
        for (point, sum) in sums.iter_mut().enumerate() {
            terms.copy_from_slice(&base[block.clone()]);
            for column in head {
                column.add(point, block.clone(), terms);
            }
            // Every further parameter can only lower a term, so that a negligible one stays negligible.
            let floor = sum.floor();
            survivors.clear();
            survivors.extend((0..terms.len()).filter(|i| terms[*i] > floor));
            if survivors.len() * 4 > terms.len() {
                for column in tail {
                    column.add(point, block.clone(), terms);
                }
                sum.add(terms);
            } else {
                for i in &survivors {
                    let mut term = terms[*i];
                    for column in tail {
                        column.add(
                            point,
                            start + i..start + i + 1,
                            std::slice::from_mut(&mut term),
                        );
                    }
                    sum.add(&[term]);
                }
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
        points: Vec<f64>,
        cells: Cells,
    },
    Categorical {
        kernels: &'a CategoricalKernels,
        points: Vec<u32>,
        logs: [f64; 3],
    },
}

/// The log-mass of each distinct value among the points under each distinct kernel.
struct Cells {
    /// The row of each point.
    row_of: Vec<u32>,
    /// The column of each kernel.
    column_of: Vec<u32>,
    n_columns: usize,
    table: Vec<f64>,
}

impl<'a> Prepared<'a> {
    fn new(column: &'a Column, points: &[f64]) -> Self {
        match column {
            Column::Numeric(kernels) if kernels.range.step == 0.0 => {
                let points = points.iter().map(|x| kernels.range.scale(*x)).collect();
                Self::Continuous { kernels, points }
            }
            Column::Numeric(kernels) => Self::Discrete {
                points: points.to_vec(),
                cells: Cells::new(kernels, points),
            },
            Column::Categorical(kernels) => Self::Categorical {
                kernels,
                points: points.iter().copied().map(to_index).collect(),
                logs: kernels.logs(),
            },
        }
    }

    /// Adds the log-density of the point under each kernel of the block, up to the normalization.
    fn add(&self, point: usize, block: Range<usize>, terms: &mut [f64]) {
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
            Self::Discrete { cells, .. } => {
                let row = cells.row_of[point] as usize * cells.n_columns;
                let table = &cells.table[row..row + cells.n_columns];
                for (term, column) in terms.iter_mut().zip(&cells.column_of[block]) {
                    *term += table[*column as usize];
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

    /// A point outside of the range has no density.
    fn is_outside(&self, point: usize) -> bool {
        match self {
            Self::Continuous { kernels, points } => {
                let x = points[point];
                !(kernels.range.lo <= x && x <= kernels.range.hi)
            }
            Self::Discrete { points, .. } => points[point].is_nan(),
            Self::Categorical {
                kernels, points, ..
            } => points[point] as usize >= kernels.n_choices,
        }
    }
}

impl Cells {
    fn new(kernels: &NumericKernels, points: &[f64]) -> Self {
        let mut rows: HashMap<u64, u32> = HashMap::new();
        let mut values = Vec::new();
        let row_of = points
            .iter()
            .map(|x| {
                *rows
                    .entry(x.to_bits())
                    .or_insert_with(|| number_of(&mut values, *x))
            })
            .collect();
        let mut columns: HashMap<(u64, u64), u32> = HashMap::new();
        let mut distinct = Vec::new();
        let column_of = kernels
            .mus
            .iter()
            .zip(&kernels.sigmas)
            .map(|(mu, sigma)| {
                let key = (mu.to_bits(), sigma.to_bits());
                *columns
                    .entry(key)
                    .or_insert_with(|| number_of(&mut distinct, (*mu, *sigma)))
            })
            .collect();
        let range = kernels.range;
        let mut table = Vec::with_capacity(values.len() * distinct.len());
        for x in values {
            let (left, right) = (
                range.scale(x - range.step / 2.0),
                range.scale(x + range.step / 2.0),
            );
            let (middle, width) = (0.5 * (left + right), right - left);
            table.extend(distinct.iter().map(|(mu, sigma)| {
                let inverse = 1.0 / sigma;
                log_cell_mass((middle - mu) * inverse, width * inverse)
            }));
        }
        Self {
            row_of,
            column_of,
            n_columns: distinct.len(),
            table,
        }
    }
}

#[allow(clippy::cast_possible_truncation)]
fn number_of<T>(list: &mut Vec<T>, item: T) -> u32 {
    list.push(item);
    list.len() as u32 - 1
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
