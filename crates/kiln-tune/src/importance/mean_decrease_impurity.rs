//! Mean decrease impurity of a random forest.

use super::fanova::raw_scale;
use super::forest::Forest;
use super::{ImportanceEvaluator, Importances, Samples, Target, sorted};
use crate::error::Result;
use crate::study::Study;
use crate::transform::BoxTransform;

/// Mean decrease impurity: how much variance the splits on a parameter remove in a random forest, as
/// a share of all (L. Breiman, *Random Forests*, 2001).
///
/// Parameters are those of all complete trials, on their raw scale. It favours parameters with many
/// values; [`FanovaEvaluator`](super::FanovaEvaluator) does not.
#[derive(Debug, Clone)]
pub struct MeanDecreaseImpurityEvaluator {
    n_trees: usize,
    max_depth: usize,
    seed: Option<u64>,
}

impl MeanDecreaseImpurityEvaluator {
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

impl ImportanceEvaluator for MeanDecreaseImpurityEvaluator {
    fn evaluate(
        &self,
        study: &Study,
        params: Option<&[String]>,
        target: Option<&Target<'_>>,
    ) -> Result<Importances> {
        let mut samples = Samples::collect(study, params, target)?;
        let transform = BoxTransform::new(&samples.space, raw_scale());
        samples.limit(transform.n_columns(), usize::MAX);
        let names = samples.space.iter().map(|(name, _)| name.to_string());
        if samples.space.is_empty() || samples.x.len() <= 1 {
            return Ok(names.map(|name| (name, 0.0)).collect());
        }
        let x: Vec<Vec<f64>> = samples
            .x
            .iter()
            .map(|row| transform.transform(row))
            .collect();
        let forest = Forest::fit(&x, &samples.y, self.n_trees, self.max_depth, self.seed);
        let by_column = forest.feature_importances(transform.n_columns());
        let importances = names
            .enumerate()
            .map(|(i, name)| (name, by_column[transform.columns(i)].iter().sum()))
            .collect();
        Ok(sorted(importances))
    }
}
