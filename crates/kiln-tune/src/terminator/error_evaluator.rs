use std::sync::{Arc, Mutex};

use super::{ErrorEvaluator, ImprovementEvaluator, UNKNOWN_ERROR, complete, none_complete};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::study::StudyDirection;
use crate::sync::lock;
use crate::trial::{FrozenTrial, Trial, TrialState};

/// The system attribute of a trial with the scores of its folds, a list.
pub(crate) const CROSS_VALIDATION_SCORES_KEY: &str = "terminator:cv_scores";

/// Notes the cross-validation scores of a trial, whose mean its value is, for [`CrossValidationErrorEvaluator`].
///
/// # Errors
/// [`Error::InvalidArgument`] for fewer than two scores and for one that is not finite, and errors of the storage.
pub fn report_cross_validation_scores(trial: &mut Trial, scores: &[f64]) -> Result<()> {
    let scores = cross_validation_scores(scores)?;
    let storage = trial.study().storage();
    storage.set_trial_system_attr(trial.id(), CROSS_VALIDATION_SCORES_KEY, &scores)
}

/// Cross-validation scores as [`report_cross_validation_scores`] stores them with a trial.
///
/// # Errors
/// [`Error::InvalidArgument`] for fewer than two scores and for one that is not finite.
pub fn cross_validation_scores(scores: &[f64]) -> Result<Json> {
    if scores.len() < 2 {
        return Err(Error::invalid(format!(
            "there must be at least 2 cross-validation scores, one per fold, but got {}",
            scores.len()
        )));
    }
    if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
        return Err(Error::invalid(format!(
            "a cross-validation score must be finite, but got {score}"
        )));
    }
    Ok(scores.iter().copied().collect())
}

/// The error of the best value when it is the mean of cross-validation scores: the standard deviation of the best
/// trial's `k` scores times `sqrt(1 / k + 1 / (k - 1))`. The trials report their scores by
/// [`report_cross_validation_scores`].
#[derive(Debug, Clone, Copy, Default)]
pub struct CrossValidationErrorEvaluator;

impl ErrorEvaluator for CrossValidationErrorEvaluator {
    /// # Errors
    /// [`Error::NoTrials`] without a complete trial, [`Error::InvalidArgument`] when the best one has not reported its
    /// scores.
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64> {
        let best = complete(trials)
            .into_iter()
            .reduce(|best, next| {
                let is_better = match direction {
                    StudyDirection::Minimize => next.1 < best.1,
                    StudyDirection::Maximize => next.1 > best.1,
                };
                if is_better { next } else { best }
            })
            .ok_or_else(|| none_complete("the error"))?
            .0;
        let scores: Vec<f64> = best
            .system_attrs
            .get(CROSS_VALIDATION_SCORES_KEY)
            .and_then(Json::as_array)
            .map(|scores| scores.iter().filter_map(Json::as_f64).collect())
            .unwrap_or_default();
        if scores.len() < 2 {
            return Err(Error::invalid(format!(
                "the best trial, {}, has reported no cross-validation scores; call report_cross_validation_scores in the objective, or choose another error, such as a StaticErrorEvaluator",
                best.number
            )));
        }
        let k = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / k;
        let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / k;
        Ok(((1.0 / k + 1.0 / (k - 1.0)) * variance).sqrt())
    }
}

/// An error that is known beforehand, or the improvement below which a study is to end.
#[derive(Debug, Clone, Copy)]
pub struct StaticErrorEvaluator {
    constant: f64,
}

impl StaticErrorEvaluator {
    /// Always this error.
    #[must_use]
    pub fn new(constant: f64) -> Self {
        Self { constant }
    }
}

impl ErrorEvaluator for StaticErrorEvaluator {
    fn evaluate(&self, _: &[Arc<FrozenTrial>], _: StudyDirection) -> Result<f64> {
        Ok(self.constant)
    }
}

/// A share of the median that the improvement had at first, for improvements whose scale is not known beforehand
/// ([`EmmrEvaluator`](super::EmmrEvaluator)). It is calculated once, when there are enough complete trials, and kept.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | paired improvement evaluator | | the one that the error is compared with |
/// | [`warm_up_trials`](Self::warm_up_trials) | 10 | so many complete trials are left out first, since they are often random |
/// | [`n_initial_trials`](Self::n_initial_trials) | 20 | trials after these whose improvements have the median; at least 1 |
/// | [`threshold_ratio`](Self::threshold_ratio) | 0.01 | share of the median; positive and finite |
pub struct MedianErrorEvaluator {
    paired: Arc<dyn ImprovementEvaluator>,
    warm_up_trials: usize,
    n_initial_trials: usize,
    threshold_ratio: f64,
    threshold: Mutex<Option<f64>>,
}

impl MedianErrorEvaluator {
    /// With the defaults of the table above.
    #[must_use]
    pub fn new(paired: Arc<dyn ImprovementEvaluator>) -> Self {
        Self {
            paired,
            warm_up_trials: 10,
            n_initial_trials: 20,
            threshold_ratio: 0.01,
            threshold: Mutex::new(None),
        }
    }

    /// Complete trials that are left out first.
    #[must_use]
    pub fn warm_up_trials(mut self, n: usize) -> Self {
        self.warm_up_trials = n;
        self
    }

    /// Trials whose improvements have the median.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0.
    pub fn n_initial_trials(mut self, n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::invalid(
                "n_initial_trials must be at least 1, but got 0",
            ));
        }
        self.n_initial_trials = n;
        Ok(self)
    }

    /// The share of the median that is the error.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is not positive and finite.
    pub fn threshold_ratio(mut self, ratio: f64) -> Result<Self> {
        if !(ratio > 0.0 && ratio.is_finite()) {
            return Err(Error::invalid(format!(
                "threshold_ratio must be positive and finite, but got {ratio}"
            )));
        }
        self.threshold_ratio = ratio;
        Ok(self)
    }
}

impl ErrorEvaluator for MedianErrorEvaluator {
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64> {
        let mut threshold = lock(&self.threshold);
        if let Some(threshold) = *threshold {
            return Ok(threshold);
        }
        let mut known: Vec<Arc<FrozenTrial>> = trials
            .iter()
            .filter(|trial| trial.state == TrialState::Complete)
            .cloned()
            .collect();
        known.sort_by_key(|trial| trial.number);
        let Some(initial) = known
            .get(self.warm_up_trials..)
            .and_then(|after| after.get(..self.n_initial_trials))
        else {
            return Ok(UNKNOWN_ERROR);
        };
        let mut improvements = (1..=initial.len())
            .map(|n| self.paired.evaluate(&initial[..n], direction))
            .collect::<Result<Vec<f64>>>()?;
        improvements.sort_by(f64::total_cmp);
        let median = improvements[improvements.len() / 2];
        Ok(*threshold.insert((median * self.threshold_ratio).min(f64::MAX)))
    }
}
