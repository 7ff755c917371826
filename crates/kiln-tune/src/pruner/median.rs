use super::{PercentilePruner, Pruner};
use crate::context::Context;
use crate::error::Result;
use crate::trial::FrozenTrial;

/// Prunes a trial whose best report so far is worse than the median of the complete trials' reports at the same step.
/// The default pruner; a [`PercentilePruner`] of 50.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `n_startup_trials` | 5 | nothing is pruned before so many trials are complete |
/// | `n_warmup_steps` | 0 | nothing is pruned before this step |
/// | `interval_steps` | 1 | steps between two looks, counted from the warm-up; at least 1 |
/// | `n_min_trials` | 1 | complete trials which must have reported this step; at least 1 |
///
/// Golovin et al., "Google Vizier" (2017), call it the median stopping rule.
#[derive(Debug, Clone)]
pub struct MedianPruner(PercentilePruner);

impl Default for MedianPruner {
    fn default() -> Self {
        Self::new()
    }
}

impl MedianPruner {
    /// With the defaults of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self(PercentilePruner::new(50.0))
    }

    /// Complete trials before anything is pruned.
    #[must_use]
    pub fn n_startup_trials(self, n: usize) -> Self {
        Self(self.0.n_startup_trials(n))
    }

    /// The first step at which a trial may be pruned.
    #[must_use]
    pub fn n_warmup_steps(self, n: u32) -> Self {
        Self(self.0.n_warmup_steps(n))
    }

    /// Steps between two looks.
    #[must_use]
    pub fn interval_steps(self, n: u32) -> Self {
        Self(self.0.interval_steps(n))
    }

    /// Complete trials which must have reported the step.
    #[must_use]
    pub fn n_min_trials(self, n: usize) -> Self {
        Self(self.0.n_min_trials(n))
    }
}

impl Pruner for MedianPruner {
    fn prune(&self, study: &Context, trial: &FrozenTrial) -> Result<bool> {
        self.0.prune(study, trial)
    }

    fn judges_several_objectives(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}
