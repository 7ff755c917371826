use super::Pruner;
use super::interval::{Interval, best};
use super::several::{is_among_best, is_comparable};
use crate::context::Context;
use crate::direction::StudyDirection;
use crate::error::{Error, Result};
use crate::trial::{FrozenTrial, TrialState};

/// Keeps the trials whose best report so far is within the best `percentile` of the complete trials' reports at the
/// current step.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `percentile` | | share of trials to keep, 0 to 100 |
/// | `n_startup_trials` | 5 | nothing is pruned before so many trials are complete |
/// | `n_warmup_steps` | 0 | nothing is pruned before this step |
/// | `interval_steps` | 1 | steps between two looks, counted from the warm-up; at least 1 |
/// | `n_min_trials` | 1 | complete trials which must have reported this step; at least 1 |
///
/// NaN reports are left out; a trial whose reports are all NaN is pruned.
///
/// ```
/// use kiln_tune::{Study, pruner::PercentilePruner};
///
/// // Keep the top quarter, but only from the fourth step on.
/// let study = Study::builder().pruner(PercentilePruner::new(25.0).n_warmup_steps(3)).create()?;
/// assert!(Study::builder().pruner(PercentilePruner::new(101.0)).create().is_err());
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PercentilePruner {
    percentile: f64,
    n_startup_trials: usize,
    interval: Interval,
    n_min_trials: usize,
}

impl PercentilePruner {
    /// Keeps the best `percentile` percent.
    #[must_use]
    pub fn new(percentile: f64) -> Self {
        Self {
            percentile,
            n_startup_trials: 5,
            interval: Interval::default(),
            n_min_trials: 1,
        }
    }

    /// Complete trials before anything is pruned.
    #[must_use]
    pub fn n_startup_trials(mut self, n: usize) -> Self {
        self.n_startup_trials = n;
        self
    }

    /// The first step at which a trial may be pruned.
    #[must_use]
    pub fn n_warmup_steps(mut self, n: u32) -> Self {
        self.interval.n_warmup_steps = n;
        self
    }

    /// Steps between two looks.
    #[must_use]
    pub fn interval_steps(mut self, n: u32) -> Self {
        self.interval.interval_steps = n;
        self
    }

    /// Complete trials which must have reported the step.
    #[must_use]
    pub fn n_min_trials(mut self, n: usize) -> Self {
        self.n_min_trials = n;
        self
    }

    fn percentile_at(&self, study: &Context, step: i64, maximize: bool) -> Result<Option<f64>> {
        let at_step = study.with_trials(|trials| {
            let complete = trials
                .iter()
                .filter(|trial| trial.state == TrialState::Complete);
            let mut n_complete = 0;
            let mut values: Vec<f64> = Vec::new();
            for trial in complete {
                n_complete += 1;
                values.extend(trial.intermediate_values.get(&step));
            }
            let enough = n_complete > 0
                && n_complete >= self.n_startup_trials
                && values.len() >= self.n_min_trials;
            enough.then_some(values)
        })?;
        let Some(mut values) = at_step else {
            return Ok(None);
        };
        values.retain(|value| !value.is_nan());
        Ok(percentile(
            &mut values,
            if maximize {
                100.0 - self.percentile
            } else {
                self.percentile
            },
        ))
    }
}

impl PercentilePruner {
    /// Judges the report at the step by non-domination.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    fn prune_several(&self, study: &Context, trial: &FrozenTrial) -> Result<bool> {
        let Some((step, own)) = self.interval.step_to_judge(&trial.reported_values()) else {
            return Ok(false);
        };
        let directions = study.directions();
        let (n_complete, mut others) = study.with_trials(|trials| {
            let complete = || {
                let trials = trials.iter();
                trials.filter(|trial| trial.state == TrialState::Complete)
            };
            let others: Vec<Vec<f64>> = complete()
                .filter_map(|other| other.reported_at(step))
                .collect();
            (complete().count(), others)
        })?;
        if n_complete < self.n_startup_trials.max(1) {
            return Ok(false);
        }
        if !is_comparable(&own, directions) {
            return Ok(true);
        }
        if others.len() < self.n_min_trials {
            return Ok(false);
        }
        others.retain(|other| is_comparable(other, directions));
        // In this order whole percentiles stay exact.
        let share = self.percentile * (others.len() + 1) as f64 / 100.0;
        let n_best = (share.ceil() as usize).max(1);
        Ok(!is_among_best(&own, &others, n_best, directions))
    }
}

impl Pruner for PercentilePruner {
    fn judges_several_objectives(&self) -> bool {
        true
    }

    fn prune(&self, study: &Context, trial: &FrozenTrial) -> Result<bool> {
        if study.is_multi_objective() {
            return self.prune_several(study, trial);
        }
        let Some((step, _)) = self.interval.step_to_judge(&trial.intermediate_values) else {
            return Ok(false);
        };
        let maximize = study.direction() == StudyDirection::Maximize;
        let own = best(trial.intermediate_values.values().copied(), maximize);
        if own.is_none() {
            let n_complete = study.with_trials(|trials| {
                trials
                    .iter()
                    .filter(|trial| trial.state == TrialState::Complete)
                    .count()
            })?;
            return Ok(n_complete >= self.n_startup_trials.max(1));
        }
        let limit = self.percentile_at(study, step, maximize)?;
        Ok(match (own, limit) {
            (Some(own), Some(limit)) if maximize => own < limit,
            (Some(own), Some(limit)) => own > limit,
            _ => false,
        })
    }

    fn check(&self) -> Result<()> {
        if !(0.0..=100.0).contains(&self.percentile) {
            return Err(Error::invalid(format!(
                "percentile must be between 0 and 100 inclusive, but got {}",
                self.percentile
            )));
        }
        if self.n_min_trials == 0 {
            return Err(Error::invalid("n_min_trials must be at least 1, but got 0"));
        }
        self.interval.check()
    }
}

/// The percentile with linear interpolation; None for no value, and where infinities leave it undefined.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn percentile(values: &mut [f64], percent: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let position = percent / 100.0 * (values.len() - 1) as f64;
    let below = values[position.floor() as usize];
    let above = values[(position.floor() as usize + 1).min(values.len() - 1)];
    let share = position - position.floor();
    // The form of numpy: from the nearer end, so that both ends are exact.
    let difference = above - below;
    let value = if share >= 0.5 {
        above - difference * (1.0 - share)
    } else {
        below + difference * share
    };
    Some(value).filter(|value| !value.is_nan())
}
