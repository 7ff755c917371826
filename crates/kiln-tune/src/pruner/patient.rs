use super::Pruner;
use super::interval::best;
use crate::context::Context;
use crate::direction::StudyDirection;
use crate::error::{Error, Result};
use crate::trial::FrozenTrial;

/// Waits `patience` steps without an improvement by more than `min_delta` before it lets another pruner decide, or
/// prunes if there is none.
///
/// ```
/// use kiln_tune::{MedianPruner, Study, pruner::PatientPruner};
///
/// let study = Study::builder().pruner(PatientPruner::new(MedianPruner::new(), 3)).create()?;
/// let early_stopping = PatientPruner::alone(5).min_delta(0.01);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct PatientPruner {
    wrapped: Option<Box<dyn Pruner>>,
    patience: usize,
    min_delta: f64,
}

impl PatientPruner {
    /// Asks `wrapped` when `patience` further reports brought no improvement.
    #[must_use]
    pub fn new(wrapped: impl Pruner + 'static, patience: usize) -> Self {
        Self {
            wrapped: Some(Box::new(wrapped)),
            patience,
            min_delta: 0.0,
        }
    }

    /// Prunes when `patience` further reports brought no improvement.
    #[must_use]
    pub fn alone(patience: usize) -> Self {
        Self {
            wrapped: None,
            patience,
            min_delta: 0.0,
        }
    }

    /// By how much a report must be worse than the earlier best to count as no improvement. Default 0.
    #[must_use]
    pub fn min_delta(mut self, min_delta: f64) -> Self {
        self.min_delta = min_delta;
        self
    }
}

impl Pruner for PatientPruner {
    fn prune(&self, study: &Context, trial: &FrozenTrial) -> Result<bool> {
        let n = trial.intermediate_values.len();
        if n <= self.patience.saturating_add(1) {
            return Ok(false);
        }
        let split = n - self.patience - 1;
        let maximize = study.direction() == StudyDirection::Maximize;
        let before = best(
            trial.intermediate_values.values().copied().take(split),
            maximize,
        );
        let after = best(
            trial.intermediate_values.values().copied().skip(split),
            maximize,
        );
        // Where one side is only NaN nothing can be said, and the trial goes on.
        let (Some(before), Some(after)) = (before, after) else {
            return Ok(false);
        };
        let stagnates = if maximize {
            before - self.min_delta > after
        } else {
            before + self.min_delta < after
        };
        match &self.wrapped {
            Some(wrapped) if stagnates => wrapped.prune(study, trial),
            _ => Ok(stagnates),
        }
    }

    fn check(&self) -> Result<()> {
        if self.min_delta.is_nan() || self.min_delta < 0.0 {
            return Err(Error::invalid(format!(
                "min_delta must not be negative, but got {}",
                self.min_delta
            )));
        }
        self.wrapped
            .as_ref()
            .map_or(Ok(()), |wrapped| wrapped.check())
    }
}
