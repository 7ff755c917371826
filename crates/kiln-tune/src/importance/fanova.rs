//! Functional analysis of variance over a random forest.

use super::forest::{Forest, Tree};
use super::{ImportanceEvaluator, Importances, Samples, Target, sorted};
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::study::Study;
use crate::transform::{BoxOptions, BoxTransform};

/// Cells up to which a joint marginal is enumerated cell by cell.
const MAX_CELLS: usize = 4096;

/// So many trials at most when a parameter has more choices than that, as every pair of leaves is looked at then.
const MAX_ROWS_OF_PAIRS: usize = 4000;

/// fANOVA: the share of the variance of a random forest, over the whole search space, that each
/// parameter explains alone (Hutter, Hoos and Leyton-Brown, *An Efficient Approach for Assessing
/// Hyperparameter Importance*, 2014).
///
/// Parameters are those of all complete trials, on their raw scale (no logarithm); single-valued
/// ones get 0. Trials with a non-finite value are left out.
#[derive(Debug, Clone)]
pub struct FanovaEvaluator {
    n_trees: usize,
    max_depth: usize,
    seed: Option<u64>,
}

impl FanovaEvaluator {
    /// An evaluator with 64 trees of depth 64; `None` seeds from the operating system.
    #[must_use]
    pub fn new(seed: impl Into<Option<u64>>) -> Self {
        Self {
            n_trees: 64,
            max_depth: 64,
            seed: seed.into(),
        }
    }

    /// Sets the number of trees, at least 1. Default 64.
    #[must_use]
    pub fn n_trees(mut self, n_trees: usize) -> Self {
        self.n_trees = n_trees.max(1);
        self
    }

    /// Sets the largest depth of a tree. Default 64.
    #[must_use]
    pub fn max_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth;
        self
    }
}

impl ImportanceEvaluator for FanovaEvaluator {
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when the forest is constant, besides
    /// the errors of every evaluator.
    fn evaluate(
        &self,
        study: &Study,
        params: Option<&[String]>,
        target: Option<&Target<'_>>,
    ) -> Result<Importances> {
        let mut samples = Samples::collect(study, params, target)?;
        let n_columns = BoxTransform::new(&samples.space, raw_scale()).n_columns();
        let is_long =
            |d: &Distribution| matches!(d, Distribution::Categorical(d) if d.choices().len() > 12);
        let pairs = samples.space.iter().any(|(_, d)| is_long(d));
        samples.limit(
            n_columns,
            if pairs { MAX_ROWS_OF_PAIRS } else { usize::MAX },
        );
        let all_zero = || {
            samples
                .space
                .iter()
                .map(|(name, _)| (name.to_string(), 0.0))
                .collect::<Importances>()
        };
        let mut space = samples.space.clone();
        space.retain(|_, d| !d.is_single());
        if space.is_empty() || samples.x.len() <= 1 {
            return Ok(all_zero());
        }
        let varied: Vec<usize> = (samples.space.iter().enumerate())
            .filter(|(_, (_, d))| !d.is_single())
            .map(|(i, _)| i)
            .collect();
        let transform = BoxTransform::new(&space, raw_scale());
        let x: Vec<Vec<f64>> = samples
            .x
            .iter()
            .map(|row| {
                let values: Vec<f64> = varied.iter().map(|&i| row[i]).collect();
                transform.transform(&values)
            })
            .collect();
        let forest = Forest::fit(&x, &samples.y, self.n_trees, self.max_depth, self.seed);
        let bounds = transform.bounds();
        let trees: Vec<FanovaTree> = forest
            .trees
            .iter()
            .map(|tree| FanovaTree::new(tree, &bounds))
            .filter(|tree| tree.variance() > 0.0)
            .collect();
        if trees.is_empty() {
            return Err(Error::invalid(
                "the objective does not vary between the complete trials, so no parameter can be \
                 said to matter",
            ));
        }
        let mut importances: Importances = space
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                let columns: Vec<usize> = transform.columns(i).collect();
                let sum: f64 = trees
                    .iter()
                    .map(|tree| tree.marginal_variance(&columns).max(0.0) / tree.variance())
                    .sum();
                (name.to_string(), sum / trees.len() as f64)
            })
            .collect();
        importances = sorted(importances);
        importances.extend(
            samples
                .space
                .iter()
                .filter(|(_, d)| d.is_single())
                .map(|(name, _)| (name.to_string(), 0.0)),
        );
        Ok(importances)
    }
}

/// The forests see parameters on their raw scale, as Optuna's do.
pub(super) fn raw_scale() -> BoxOptions {
    BoxOptions {
        log: false,
        step: false,
        unit: false,
    }
}

/// The share of `whole` that `part` covers; a range without width is covered.
fn share([low, high]: [f64; 2], [from, to]: [f64; 2]) -> f64 {
    if to > from {
        (high - low) / (to - from)
    } else {
        1.0
    }
}

/// A tree as a piecewise constant function over a box, whose variance can be decomposed.
///
/// ```
/// use kiln_tune::importance::{FanovaTree, Tree};
///
/// // 0 left of 0.5 in the first column, 1 right of it.
/// let tree = Tree {
///     feature: vec![0, -1, -1],
///     threshold: vec![0.5, f64::NAN, f64::NAN],
///     left: vec![1, 0, 0],
///     right: vec![2, 0, 0],
///     value: vec![0.5, 0.0, 1.0],
///     ..Tree::default()
/// };
/// let tree = FanovaTree::new(&tree, &[[0.0, 1.0], [0.0, 1.0]]);
/// assert_eq!((tree.variance(), tree.marginal_variance(&[0]), tree.marginal_variance(&[1])), (0.25, 0.25, 0.0));
/// ```
#[derive(Debug, Clone)]
pub struct FanovaTree {
    bounds: Vec<[f64; 2]>,
    leaves: Vec<Leaf>,
    variance: f64,
}

#[derive(Debug, Clone)]
struct Leaf {
    cell: Vec<[f64; 2]>,
    value: f64,
    /// The share of the box that the leaf covers, in each column where that is not all of it.
    shares: Vec<(usize, f64)>,
}

impl Leaf {
    fn new(cell: Vec<[f64; 2]>, value: f64, bounds: &[[f64; 2]]) -> Self {
        let shares = cell
            .iter()
            .zip(bounds)
            .map(|(own, whole)| share(*own, *whole));
        let shares = shares
            .enumerate()
            .filter(|(_, share)| *share != 1.0)
            .collect();
        Self {
            cell,
            value,
            shares,
        }
    }

    /// The share of the box that is covered in all columns but some.
    fn covered_without(&self, columns: &[usize]) -> f64 {
        let others = self.shares.iter().filter(|(j, _)| !columns.contains(j));
        others.map(|(_, share)| share).product()
    }
}

impl FanovaTree {
    /// Reads the leaves of a tree over a box with low and high of every column. What the tree splits outside of the box
    /// does not count.
    pub fn new(tree: &Tree, bounds: &[[f64; 2]]) -> Self {
        let mut leaves = Vec::new();
        let mut pending = vec![(0, bounds.to_vec())];
        while let Some((node, cell)) = pending.pop() {
            let Ok(feature) = usize::try_from(tree.feature[node]) else {
                leaves.push(Leaf::new(cell, tree.value[node], bounds));
                continue;
            };
            let (mut left, mut right) = (cell.clone(), cell);
            let [low, high] = left[feature];
            let threshold = tree.threshold[node].max(low).min(high);
            left[feature][1] = threshold;
            right[feature][0] = threshold;
            pending.push((tree.right[node], right));
            pending.push((tree.left[node], left));
        }
        // Shares of the box, as the product of a thousand widths overflows.
        let cells: Vec<(f64, f64)> = leaves
            .iter()
            .map(|leaf| (leaf.value, leaf.covered_without(&[])))
            .collect();
        Self {
            bounds: bounds.to_vec(),
            variance: weighted_variance(&cells),
            leaves,
        }
    }

    /// Variance of the function over the box.
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// Variance of the function of some columns that is left when all others are averaged out.
    ///
    /// # Panics
    /// When a column does not exist.
    pub fn marginal_variance(&self, columns: &[usize]) -> f64 {
        // Nothing varies along a column without width.
        let has_width = |j: &usize| self.bounds[*j][1] > self.bounds[*j][0];
        let columns: Vec<usize> = columns.iter().copied().filter(has_width).collect();
        if columns.is_empty() {
            return 0.0;
        }
        let columns = columns.as_slice();
        // A leaf counts with its value times the share of the averaged columns that it covers.
        let shares: Vec<f64> = self
            .leaves
            .iter()
            .map(|leaf| leaf.value * leaf.covered_without(columns))
            .collect();
        let edges: Vec<Vec<f64>> = columns.iter().map(|&j| self.edges(j)).collect();
        let n_cells = edges
            .iter()
            .fold(1usize, |n, e| n.saturating_mul(e.len().saturating_sub(1)));
        if let ([column], [edges]) = (columns, edges.as_slice()) {
            return self.single_variance(*column, edges, &shares);
        }
        if n_cells <= MAX_CELLS {
            let all: Vec<usize> = (0..self.leaves.len()).collect();
            let mut cells = Vec::with_capacity(n_cells);
            self.enumerate(columns, &edges, &all, 1.0, &shares, &mut cells);
            weighted_variance(&cells)
        } else {
            self.pairwise_variance(columns, &shares)
        }
    }

    /// Sorted borders of the leaves in a column, with both ends of the box.
    fn edges(&self, column: usize) -> Vec<f64> {
        let mut edges: Vec<f64> = self.leaves.iter().flat_map(|l| l.cell[column]).collect();
        edges.extend(self.bounds[column]);
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        edges
    }

    /// Adds every leaf to the cells it spans, by differences at its borders.
    fn single_variance(&self, column: usize, edges: &[f64], shares: &[f64]) -> f64 {
        let position = |v: f64| edges.partition_point(|e| *e < v);
        let mut steps = vec![0.0; edges.len()];
        let mut order: Vec<(usize, usize, f64)> = self
            .leaves
            .iter()
            .zip(shares)
            .map(|(l, s)| (position(l.cell[column][0]), position(l.cell[column][1]), *s))
            .collect();
        let n_cells = edges.len() - 1;
        // Few cells are summed directly, which rounds less than running differences.
        if n_cells.saturating_mul(order.len()) <= 1 << 16 {
            for (from, to, share) in order {
                for s in &mut steps[from..to] {
                    *s += share;
                }
            }
        } else {
            order.sort_by_key(|o| o.0);
            for (from, to, share) in order {
                steps[from] += share;
                steps[to] -= share;
            }
            for i in 1..steps.len() {
                steps[i] += steps[i - 1];
            }
        }
        let cells: Vec<(f64, f64)> = (0..n_cells)
            .map(|i| (steps[i], edges[i + 1] - edges[i]))
            .collect();
        weighted_variance(&cells)
    }

    fn enumerate(
        &self,
        columns: &[usize],
        edges: &[Vec<f64>],
        leaves: &[usize],
        volume: f64,
        shares: &[f64],
        cells: &mut Vec<(f64, f64)>,
    ) {
        let ([column, columns @ ..], [own, edges @ ..]) = (columns, edges) else {
            cells.push((leaves.iter().map(|&i| shares[i]).sum(), volume));
            return;
        };
        for pair in own.windows(2) {
            let inside: Vec<usize> = leaves
                .iter()
                .copied()
                .filter(|&i| {
                    let [low, high] = self.leaves[i].cell[*column];
                    low <= pair[0] && pair[1] <= high
                })
                .collect();
            self.enumerate(
                columns,
                edges,
                &inside,
                volume * (pair[1] - pair[0]),
                shares,
                cells,
            );
        }
    }

    /// The second moment as a sum over all pairs of leaves, for many joint cells.
    fn pairwise_variance(&self, columns: &[usize], shares: &[f64]) -> f64 {
        let overlap = |a: &Leaf, b: &Leaf| -> f64 {
            columns
                .iter()
                .map(|&j| {
                    let low = a.cell[j][0].max(b.cell[j][0]);
                    let high = a.cell[j][1].min(b.cell[j][1]);
                    share([low, high.max(low)], self.bounds[j])
                })
                .product()
        };
        let mean: f64 = self
            .leaves
            .iter()
            .zip(shares)
            .map(|(l, s)| s * overlap(l, l))
            .sum();
        let mut second = 0.0;
        for (i, a) in self.leaves.iter().enumerate() {
            second += shares[i] * shares[i] * overlap(a, a);
            for (b, s) in self.leaves[..i].iter().zip(shares) {
                second += 2.0 * shares[i] * s * overlap(a, b);
            }
        }
        second - mean * mean
    }
}

fn weighted_variance(cells: &[(f64, f64)]) -> f64 {
    let total: f64 = cells.iter().map(|(_, w)| w).sum();
    let mean = cells.iter().map(|(v, w)| v * w).sum::<f64>() / total;
    cells
        .iter()
        .map(|(v, w)| (v - mean).powi(2) * w)
        .sum::<f64>()
        / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_leaves_and_cells_give_the_same_joint_variance() {
        let x: Vec<Vec<f64>> = (0..60u32)
            .map(|i| {
                vec![
                    f64::from(i * 7 % 60) / 60.0,
                    f64::from(i * 11 % 60) / 60.0,
                    f64::from(i % 2),
                ]
            })
            .collect();
        let y: Vec<f64> = x.iter().map(|r| (6.0 * r[0]).sin() + r[1] * r[2]).collect();
        let forest = Forest::fit(&x, &y, 3, 64, Some(1));
        for tree in &forest.trees {
            let tree = FanovaTree::new(tree, &[[0.0, 1.0]; 3]);
            let all = tree.marginal_variance(&[0, 1, 2]);
            assert!((all / tree.variance() - 1.0).abs() < 1e-9);
            let shares: Vec<f64> = tree
                .leaves
                .iter()
                .map(|l| l.value * (l.cell[1][1] - l.cell[1][0]))
                .collect();
            let pairs = tree.pairwise_variance(&[0, 2], &shares);
            assert!((pairs / tree.marginal_variance(&[0, 2]) - 1.0).abs() < 1e-9);
        }
    }
}
