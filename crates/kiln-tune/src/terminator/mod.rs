//! When a study has searched enough: it ends itself when what is left to gain is less than the error of its values.
//!
//! A [`Terminator`] compares two numbers after each trial. An [`ImprovementEvaluator`] says how much better the best
//! value could still become; an [`ErrorEvaluator`] says how exact the values are. The study ends when the first is
//! smaller than the second. Names, defaults and numbers are those of `optuna.terminator`.
//!
//! | improvement | what it is | usual error |
//! |---|---|---|
//! | [`RegretBoundEvaluator`] | upper bound of the regret of the best trial, by a Gaussian process | [`CrossValidationErrorEvaluator`] |
//! | [`EmmrEvaluator`] | expected minimum model regret, by two Gaussian processes | [`MedianErrorEvaluator`] |
//! | [`BestValueStagnationEvaluator`] | trials left until the best value has stood too long | [`StaticErrorEvaluator`] of 0 |
//!
//! Two simpler rules need no model: [`NoBetterTerminator`] and [`TargetTerminator`]. Any of them ends
//! [`Study::optimize`] as a callback:
//!
//! ```
//! use kiln_tune::terminator::{
//!     RegretBoundEvaluator, StaticErrorEvaluator, Terminator, terminator_callback,
//! };
//! use kiln_tune::{Budget, Study};
//!
//! let study = Study::builder().create()?;
//! // Ends when no more than 0.5 can be gained, with high probability.
//! let terminator = Terminator::new(RegretBoundEvaluator::new().seed(1), StaticErrorEvaluator::new(0.5));
//! let budget = Budget::trials(200).callback(terminator_callback(terminator));
//! study.optimize(
//!     |trial| trial.suggest_float("x", -1.0, 1.0).map(|x| x * x),
//!     budget,
//! )?;
//! assert!(study.trials()?.len() < 200);
//! # Ok::<(), kiln_tune::Error>(())
//! ```

mod emmr;
mod error_evaluator;
#[cfg(test)]
mod golden;
mod observed;
mod regret_bound;
mod rules;
mod stagnation;

use std::sync::Arc;

pub use emmr::EmmrEvaluator;
pub(crate) use error_evaluator::CROSS_VALIDATION_SCORES_KEY;
pub use error_evaluator::{
    CrossValidationErrorEvaluator, MedianErrorEvaluator, StaticErrorEvaluator,
    cross_validation_scores, report_cross_validation_scores,
};
pub use regret_bound::RegretBoundEvaluator;
pub use rules::{NoBetterTerminator, TargetTerminator};
pub use stagnation::BestValueStagnationEvaluator;

use crate::error::{Error, Result};
use crate::study::{Study, StudyDirection};
use crate::trial::{FrozenTrial, TrialState};

/// Complete trials before a study may end.
pub const DEFAULT_MIN_N_TRIALS: usize = 20;

/// An error while none is known: below every improvement, which is not negative, so that the study goes on.
pub(crate) const UNKNOWN_ERROR: f64 = -f64::MIN_POSITIVE;

/// Says how much better the best value of a study could still become.
pub trait ImprovementEvaluator: Send + Sync {
    /// The possible improvement, in units of the objective unless the evaluator says otherwise. `trials` are those of a
    /// study with one objective, ordered by number; only complete ones count.
    ///
    /// # Errors
    /// [`Error::NoTrials`] without a complete trial, and what the evaluator says.
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64>;
}

/// Says how exact the values of a study are.
pub trait ErrorEvaluator: Send + Sync {
    /// The statistical error of the best value, in the units of the improvement that it is compared with. `trials` are
    /// those of a study with one objective, ordered by number; only complete ones count.
    ///
    /// # Errors
    /// What the evaluator says.
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64>;
}

impl<E: ImprovementEvaluator + ?Sized> ImprovementEvaluator for Arc<E> {
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64> {
        (**self).evaluate(trials, direction)
    }
}

impl<E: ErrorEvaluator + ?Sized> ErrorEvaluator for Arc<E> {
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64> {
        (**self).evaluate(trials, direction)
    }
}

/// A rule that says when a study is to end (Optuna's `BaseTerminator`).
pub trait BaseTerminator: Send + Sync {
    /// Whether the study is to end now.
    ///
    /// # Errors
    /// When the storage fails, or the rule cannot be applied to the study.
    fn should_terminate(&self, study: &Study) -> Result<bool>;
}

impl<T: BaseTerminator + ?Sized> BaseTerminator for Arc<T> {
    fn should_terminate(&self, study: &Study) -> Result<bool> {
        (**self).should_terminate(study)
    }
}

/// Ends a study when the possible improvement is smaller than the error of the values (Makarova et al., "Automatic
/// Termination for Hyperparameter Optimization", 2022).
///
/// | setting | default | meaning |
/// |---|---|---|
/// | improvement evaluator | [`RegretBoundEvaluator`] | what is left to gain |
/// | error evaluator | [`CrossValidationErrorEvaluator`] | how exact the values are |
/// | [`min_n_trials`](Self::min_n_trials) | 20 | the study does not end before so many trials are complete; at least 1 |
///
/// With the default error evaluator the objective reports the scores of its folds, from which the error of their mean
/// follows:
///
/// ```
/// use kiln_tune::terminator::{Terminator, report_cross_validation_scores, terminator_callback};
/// use kiln_tune::{Budget, Study, Trial};
///
/// # fn score(x: f64, fold: usize) -> f64 { x * x + 0.2 * fold as f64 }
/// fn objective(trial: &mut Trial) -> kiln_tune::Result<f64> {
///     let x = trial.suggest_float("x", -1.0, 1.0)?;
///     let scores = [0, 1, 2, 3].map(|fold| score(x, fold));
///     report_cross_validation_scores(trial, &scores)?;
///     Ok(scores.iter().sum::<f64>() / 4.0)
/// }
///
/// let study = Study::builder().create()?;
/// let budget = Budget::trials(100).callback(terminator_callback(Terminator::default()));
/// study.optimize(objective, budget)?;
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct Terminator {
    improvement: Box<dyn ImprovementEvaluator>,
    error: Box<dyn ErrorEvaluator>,
    min_n_trials: usize,
}

impl Default for Terminator {
    fn default() -> Self {
        Self::new(RegretBoundEvaluator::new(), CrossValidationErrorEvaluator)
    }
}

impl Terminator {
    /// Compares these two numbers.
    #[must_use]
    pub fn new(
        improvement: impl ImprovementEvaluator + 'static,
        error: impl ErrorEvaluator + 'static,
    ) -> Self {
        Self {
            improvement: Box::new(improvement),
            error: Box::new(error),
            min_n_trials: DEFAULT_MIN_N_TRIALS,
        }
    }

    /// Ends a study whose best value has stood for more than `max_stagnation_trials` trials.
    #[must_use]
    pub fn stagnation(max_stagnation_trials: usize) -> Self {
        Self::new(
            BestValueStagnationEvaluator::new(max_stagnation_trials),
            StaticErrorEvaluator::new(0.0),
        )
    }

    /// Complete trials before the study may end. Default 20.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0.
    pub fn min_n_trials(mut self, n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::invalid("min_n_trials must be at least 1, but got 0"));
        }
        self.min_n_trials = n;
        Ok(self)
    }
}

impl BaseTerminator for Terminator {
    /// # Errors
    /// [`Error::MultiObjective`], and those of both evaluators.
    fn should_terminate(&self, study: &Study) -> Result<bool> {
        require_one_objective(study)?;
        let trials = study.trials()?;
        let complete = trials
            .iter()
            .filter(|trial| trial.state == TrialState::Complete);
        if complete.count() < self.min_n_trials {
            return Ok(false);
        }
        let improvement = self.improvement.evaluate(&trials, study.direction())?;
        let error = self.error.evaluate(&trials, study.direction())?;
        Ok(improvement < error)
    }
}

/// Improvement and error are numbers of one objective.
pub(crate) fn require_one_objective(study: &Study) -> Result<()> {
    study.require_single(
        "a terminator",
        "use NoBetterTerminator or TargetTerminator, which take several",
    )
}

/// A callback for [`Budget::callback`](crate::Budget::callback) that stops the study when the terminator says so
/// (Optuna's `TerminatorCallback`).
pub fn terminator_callback(
    terminator: impl BaseTerminator + 'static,
) -> impl Fn(&Study, &FrozenTrial) -> Result<()> + Send + Sync {
    move |study, _| {
        if terminator.should_terminate(study)? {
            log::info!("The study has been stopped by the terminator.");
            study.stop()?;
        }
        Ok(())
    }
}

/// The complete trials that have a value, in their order.
fn complete(trials: &[Arc<FrozenTrial>]) -> Vec<(&FrozenTrial, f64)> {
    trials
        .iter()
        .filter(|trial| trial.state == TrialState::Complete)
        .filter_map(|trial| Some((&**trial, trial.value()?)))
        .collect()
}

fn none_complete(what: &str) -> Error {
    Error::NoTrials(format!(
        "no trial is complete yet, so that {what} cannot be evaluated"
    ))
}
