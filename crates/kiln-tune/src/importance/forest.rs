//! Regression forests: bagged trees that are grown fully by squared error.

use std::num::NonZero;

use crate::rng::Rng;

/// Values closer than this are not split, as in scikit-learn.
const FEATURE_THRESHOLD: f64 = 1e-7;
/// A node whose variance is at most this is a leaf.
const PURE: f64 = f64::EPSILON;

/// A binary regression tree in arrays; node 0 is the root.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tree {
    /// The column a node splits, negative for a leaf.
    pub feature: Vec<i64>,
    /// Rows with at most this value go left.
    pub threshold: Vec<f64>,
    /// The left child.
    pub left: Vec<usize>,
    /// The right child.
    pub right: Vec<usize>,
    /// Mean target of the node.
    pub value: Vec<f64>,
    /// Variance of the target in the node.
    pub impurity: Vec<f64>,
    /// Weighted number of rows in the node.
    pub weight: Vec<f64>,
}

/// Random forest regression: every tree is grown on a bootstrap sample, looking at all columns at
/// every split (L. Breiman, *Random Forests*, 2001).
#[derive(Debug, Clone)]
pub struct Forest {
    /// The trees.
    pub trees: Vec<Tree>,
}

impl Forest {
    /// Grows `n_trees` trees of at most `max_depth` levels below the root on rows `x` and targets `y`.
    ///
    /// The same seed gives the same forest on any number of cores.
    ///
    /// # Panics
    /// When there is no row.
    pub fn fit(
        x: &[Vec<f64>],
        y: &[f64],
        n_trees: usize,
        max_depth: usize,
        seed: Option<u64>,
    ) -> Self {
        assert!(!x.is_empty(), "a forest needs at least one row");
        let mut rng = Rng::new(seed);
        let seeds: Vec<u64> = (0..n_trees).map(|_| u64::from(rng.next_u32())).collect();
        let mut trees: Vec<Tree> = vec![Tree::default(); n_trees];
        let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let share = n_trees.div_ceil(n_threads).max(1);
        std::thread::scope(|scope| {
            for (trees, seeds) in trees.chunks_mut(share).zip(seeds.chunks(share)) {
                scope.spawn(move || {
                    for (tree, seed) in trees.iter_mut().zip(seeds) {
                        *tree = Grower::new(x, y, *seed).grow(max_depth);
                    }
                });
            }
        });
        Self { trees }
    }

    /// Mean over the trees of the share of variance that the splits of each column remove.
    pub fn feature_importances(&self, n_columns: usize) -> Vec<f64> {
        let mut sum = vec![0.0; n_columns];
        for tree in self.trees.iter().filter(|t| t.feature.len() > 1) {
            let own = tree.feature_importances(n_columns);
            for (s, v) in sum.iter_mut().zip(own) {
                *s += v;
            }
        }
        normalized(sum)
    }
}

fn normalized(mut values: Vec<f64>) -> Vec<f64> {
    let total: f64 = values.iter().sum();
    if total > 0.0 {
        values.iter_mut().for_each(|v| *v /= total);
    }
    values
}

impl Tree {
    fn feature_importances(&self, n_columns: usize) -> Vec<f64> {
        let mut sum = vec![0.0; n_columns];
        for (node, &feature) in self.feature.iter().enumerate() {
            let Ok(feature) = usize::try_from(feature) else {
                continue;
            };
            let spread = |i: usize| self.weight[i] * self.impurity[i];
            sum[feature] += spread(node) - spread(self.left[node]) - spread(self.right[node]);
        }
        normalized(sum)
    }
}

struct Grower<'a> {
    x: &'a [Vec<f64>],
    y: &'a [f64],
    /// How often each row is in the bootstrap sample.
    count: Vec<f64>,
    rng: Rng,
}

struct Split {
    feature: usize,
    threshold: f64,
    gain: f64,
}

impl<'a> Grower<'a> {
    fn new(x: &'a [Vec<f64>], y: &'a [f64], seed: u64) -> Self {
        let mut rng = Rng::new(Some(seed));
        let mut count = vec![0.0; x.len()];
        for _ in 0..x.len() {
            count[rng.below(x.len())] += 1.0;
        }
        Self { x, y, count, rng }
    }

    fn grow(mut self, max_depth: usize) -> Tree {
        let mut tree = Tree::default();
        let rows: Vec<usize> = (0..self.x.len()).filter(|&i| self.count[i] > 0.0).collect();
        let root = self.add(&mut tree, &rows);
        let mut pending = vec![(root, rows, 0)];
        while let Some((node, mut rows, depth)) = pending.pop() {
            if depth >= max_depth || tree.weight[node] < 2.0 || tree.impurity[node] <= PURE {
                continue;
            }
            let Some(split) = self.best_split(&mut rows, &tree, node) else {
                continue;
            };
            let (left, right): (Vec<usize>, Vec<usize>) = rows
                .into_iter()
                .partition(|&i| self.x[i][split.feature] <= split.threshold);
            tree.feature[node] = split.feature as i64;
            tree.threshold[node] = split.threshold;
            tree.left[node] = self.add(&mut tree, &left);
            tree.right[node] = self.add(&mut tree, &right);
            pending.push((tree.right[node], right, depth + 1));
            pending.push((tree.left[node], left, depth + 1));
        }
        tree
    }

    /// Appends a leaf with the statistics of some rows.
    fn add(&self, tree: &mut Tree, rows: &[usize]) -> usize {
        let weight: f64 = rows.iter().map(|&i| self.count[i]).sum();
        let mean = rows.iter().map(|&i| self.count[i] * self.y[i]).sum::<f64>() / weight;
        let spread: f64 = rows
            .iter()
            .map(|&i| self.count[i] * (self.y[i] - mean).powi(2))
            .sum();
        tree.feature.push(-1);
        tree.threshold.push(0.0);
        tree.left.push(0);
        tree.right.push(0);
        tree.value.push(mean);
        tree.impurity.push(spread / weight);
        tree.weight.push(weight);
        tree.feature.len() - 1
    }

    /// The split that removes most variance; of equal ones a random column wins.
    fn best_split(&mut self, rows: &mut [usize], tree: &Tree, node: usize) -> Option<Split> {
        let n_columns = self.x[rows[0]].len();
        let (mean, total) = (tree.value[node], tree.weight[node]);
        let mut best: Option<Split> = None;
        for feature in self.rng.permutation(n_columns) {
            let value = |i: usize| self.x[i][feature];
            rows.sort_unstable_by(|&a, &b| value(a).total_cmp(&value(b)));
            if value(rows[rows.len() - 1]) - value(rows[0]) <= FEATURE_THRESHOLD {
                continue;
            }
            let (mut sum, mut weight) = (0.0, 0.0);
            for pair in rows.windows(2) {
                let (i, next) = (pair[0], pair[1]);
                sum += self.count[i] * (self.y[i] - mean);
                weight += self.count[i];
                if value(next) - value(i) <= FEATURE_THRESHOLD {
                    continue;
                }
                // With centred targets the right sum is minus the left one.
                let gain = sum * sum * (1.0 / weight + 1.0 / (total - weight));
                if best.as_ref().is_none_or(|b| gain > b.gain) {
                    let middle = value(i) / 2.0 + value(next) / 2.0;
                    best = Some(Split {
                        feature,
                        // Rounding may reach the upper value, which must go right.
                        threshold: if middle >= value(next) {
                            value(i)
                        } else {
                            middle
                        },
                        gain,
                    });
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_reproduces_distinct_rows() {
        let x: Vec<Vec<f64>> = (0..40)
            .map(|i| vec![f64::from(i), f64::from(i % 5)])
            .collect();
        let y: Vec<f64> = x.iter().map(|r| r[0] * 0.5 + r[1]).collect();
        let grower = Grower::new(&x, &y, 3);
        let seen: Vec<usize> = (0..40).filter(|&i| grower.count[i] > 0.0).collect();
        let tree = grower.grow(64);
        for i in seen {
            let mut node = 0;
            while tree.feature[node] >= 0 {
                let goes_left = x[i][tree.feature[node] as usize] <= tree.threshold[node];
                node = if goes_left {
                    tree.left[node]
                } else {
                    tree.right[node]
                };
            }
            assert!((tree.value[node] - y[i]).abs() < 1e-12);
        }
    }

    #[test]
    fn the_depth_is_limited_and_the_seed_decides() {
        let x: Vec<Vec<f64>> = (0..30).map(|i| vec![f64::from(i)]).collect();
        let y: Vec<f64> = (0..30).map(|i| f64::from(i * i % 11)).collect();
        let forest = Forest::fit(&x, &y, 5, 1, Some(1));
        assert!(forest.trees.iter().all(|t| t.feature.len() <= 3));
        assert_eq!(forest.trees, Forest::fit(&x, &y, 5, 1, Some(1)).trees);
        assert_ne!(forest.trees, Forest::fit(&x, &y, 5, 1, Some(2)).trees);
    }
}
