use super::BaseTerminator;
use crate::error::{Error, Result};
use crate::multi_objective::{UniqueRows, is_pareto_front, to_losses};
use crate::study::{Study, StudyDirection};
use crate::trial::TrialState;

/// Ends a study when as many trials as this, one after the other, have brought nothing better.
///
/// Complete and pruned trials count, in the order in which they ended, also those of other workers and of earlier runs. A
/// trial is better when it is complete, violates no constraint and has a value that no earlier one reached; with several
/// objectives, when it joins the Pareto front. Trials do not count before there is a first such trial, nor do duplicates
/// that were not evaluated.
///
/// ```
/// use kiln_tune::terminator::{NoBetterTerminator, terminator_callback};
/// use kiln_tune::{Budget, Study};
///
/// let study = Study::builder().create()?;
/// let budget = Budget::trials(1000).callback(terminator_callback(NoBetterTerminator::new(5)?));
/// study.optimize(|trial| trial.suggest_float_step("x", 0.0, 3.0, 1.0), budget)?;
/// assert!(study.trials()?.len() < 1000);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NoBetterTerminator {
    n_trials: usize,
}

impl NoBetterTerminator {
    /// Ends a study after so many trials without a better one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0.
    pub fn new(n_trials: usize) -> Result<Self> {
        if n_trials == 0 {
            return Err(Error::invalid(
                "the number of trials without a better one must be at least 1, but got 0",
            ));
        }
        Ok(Self { n_trials })
    }
}

impl BaseTerminator for NoBetterTerminator {
    fn should_terminate(&self, study: &Study) -> Result<bool> {
        let mut ended = study.trials_in(&[TrialState::Complete, TrialState::Pruned])?;
        ended.retain(|trial| trial.duplicate_of().is_none());
        ended.sort_by_key(|trial| (trial.datetime_complete, trial.number));
        let maximize: Vec<bool> = study
            .directions()
            .iter()
            .map(|direction| *direction == StudyDirection::Maximize)
            .collect();
        let (places, values): (Vec<usize>, Vec<Vec<f64>>) = ended
            .iter()
            .enumerate()
            .filter(|(_, trial)| trial.state == TrialState::Complete && trial.is_feasible())
            .filter_map(|(place, trial)| Some((place, trial.values.clone()?)))
            .filter(|(_, values)| values.len() == maximize.len())
            .unzip();
        let losses = to_losses(&values, &maximize);
        let on_front = is_pareto_front(&losses);
        // The last trial that was better is still on the front, or a later one has replaced it; of equal ones the first was it.
        let last_better = UniqueRows::new(&losses)
            .first_index
            .into_iter()
            .filter(|row| on_front[*row])
            .map(|row| places[row])
            .max();
        Ok(last_better.is_some_and(|place| ended.len() - 1 - place >= self.n_trials))
    }
}

/// Ends a study when a complete trial that violates no constraint has reached a value: at most it where the objective is
/// minimized, at least it where it is maximized. With several objectives one trial must reach all.
///
/// ```
/// use kiln_tune::terminator::{TargetTerminator, terminator_callback};
/// use kiln_tune::{Budget, Study};
///
/// let study = Study::builder().create()?;
/// let budget = Budget::trials(1000).callback(terminator_callback(TargetTerminator::new([0.5])?));
/// study.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), budget)?;
/// assert!(study.best_value()? <= 0.5 && study.trials()?.len() < 1000);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TargetTerminator {
    targets: Vec<f64>,
}

impl TargetTerminator {
    /// Ends a study at these values, one per objective.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without a value and for NaN.
    pub fn new(targets: impl Into<Vec<f64>>) -> Result<Self> {
        let targets = targets.into();
        if targets.is_empty() || targets.iter().any(|target| target.is_nan()) {
            return Err(Error::invalid(format!(
                "a target must be a number, one per objective, but got {targets:?}"
            )));
        }
        Ok(Self { targets })
    }
}

impl BaseTerminator for TargetTerminator {
    /// # Errors
    /// [`Error::InvalidArgument`] when there is not one target per objective, and errors of the storage.
    fn should_terminate(&self, study: &Study) -> Result<bool> {
        let directions = study.directions();
        if self.targets.len() != directions.len() {
            return Err(Error::invalid(format!(
                "one target per objective is needed: got {} for {} objectives",
                self.targets.len(),
                directions.len()
            )));
        }
        let reached = |values: &[f64]| {
            values.len() == directions.len()
                && values.iter().zip(&self.targets).zip(directions).all(
                    |((value, target), direction)| match direction {
                        StudyDirection::Minimize => value <= target,
                        StudyDirection::Maximize => value >= target,
                    },
                )
        };
        study.with_trials(|trials| {
            trials.iter().any(|trial| {
                trial.state == TrialState::Complete
                    && trial.values.as_deref().is_some_and(reached)
                    && trial.is_feasible()
            })
        })
    }
}
