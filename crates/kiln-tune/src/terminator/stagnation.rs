use std::sync::Arc;

use super::{ImprovementEvaluator, complete, none_complete};
use crate::error::Result;
use crate::study::StudyDirection;
use crate::trial::FrozenTrial;

/// How many more complete trials the best value may stand before it has stood too long; negative once it has.
/// [`Terminator::stagnation`](super::Terminator::stagnation) compares it with 0.
///
/// `max_stagnation_trials` is 30 by default.
#[derive(Debug, Clone)]
pub struct BestValueStagnationEvaluator {
    max_stagnation_trials: usize,
}

impl Default for BestValueStagnationEvaluator {
    fn default() -> Self {
        Self::new(30)
    }
}

impl BestValueStagnationEvaluator {
    /// Lets the best value stand for so many trials.
    #[must_use]
    pub fn new(max_stagnation_trials: usize) -> Self {
        Self {
            max_stagnation_trials,
        }
    }
}

impl ImprovementEvaluator for BestValueStagnationEvaluator {
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64> {
        let complete = complete(trials);
        let is_better = |a: f64, b: f64| match direction {
            StudyDirection::Minimize => a < b,
            StudyDirection::Maximize => a > b,
        };
        let best = complete
            .iter()
            .enumerate()
            .reduce(|best, next| {
                if is_better(next.1.1, best.1.1) {
                    next
                } else {
                    best
                }
            })
            .ok_or_else(|| none_complete("the improvement"))?
            .0;
        let stood = complete.len() - 1 - best;
        Ok(self.max_stagnation_trials as f64 - stood as f64)
    }
}
