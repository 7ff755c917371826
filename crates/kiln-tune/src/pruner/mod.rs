//! Which unpromising trials are stopped early.
//!
//! | pruner | prunes a trial |
//! |---|---|
//! | [`NopPruner`] | never |
//! | [`MedianPruner`] | whose best report is worse than the median of the others at this step |
//! | [`PercentilePruner`] | whose best report is worse than a percentile of the others at this step |
//! | [`SuccessiveHalvingPruner`] | which is not among the best fraction at a rung (ASHA) |
//! | [`HyperbandPruner`] | as successive halving, in brackets with different first rungs |
//! | [`ThresholdPruner`] | whose report is out of bounds |
//! | [`PatientPruner`] | which has not improved for some steps |
//! | [`WilcoxonPruner`] | which a signed-rank test finds worse than the best one |
//!
//! # Several objectives
//!
//! Trials that report all objectives ([`Trial::report_multi`](crate::Trial::report_multi)) are compared at one step. Their
//! reports are sorted into non-domination ranks: rank 0 is what no other report dominates, rank 1 what only those of rank 0
//! do, and so on. *The best k* are the lowest ranks that fit in whole. Of the next rank the rest is chosen one by one, each the
//! report that adds most hypervolume to those of this rank chosen so far. For that, each objective is scaled to 0 for the best
//! and 1 for the worst of all reports compared, and the reference point is 1.1 times the worst of the rank. A report that equals
//! one of the best is one of them. One with NaN is the worst, and prunes its trial.
//!
//! | pruner | k, the number of trials that go on |
//! |---|---|
//! | [`SuccessiveHalvingPruner`] | of `n` that reached the rung, this one included: `n / reduction_factor` rounded down, at least 1 |
//! | [`HyperbandPruner`] | the same, within a bracket |
//! | [`PercentilePruner`] | of `n` that reported the step, complete trials and this one: `n * percentile / 100` rounded up, at least 1 |
//! | [`MedianPruner`] | the same with 50 |
//! | [`NopPruner`] | all |
//!
//! The percentile counts the report at the step alone; with one objective it is the trial's best one so far. The other pruners
//! judge one objective only. A pruned trial has its last report as its values.
//!
//! Successive halving by non-domination is MO-ASHA (Schmucker et al., "Multi-objective Asynchronous Successive Halving",
//! 2021), which breaks ties within a rank by its own net of distances; hypervolume is what NSGA-like selection of TPE uses
//! for the same end. Optuna has no such pruning ([optuna#3450](https://github.com/optuna/optuna/issues/3450)).

mod hyperband;
mod interval;
mod median;
mod nop;
mod patient;
mod percentile;
mod several;
mod successive_halving;
mod threshold;
mod wilcoxon;

use std::sync::Arc;

pub use hyperband::{HyperbandPruner, crc32};
pub use median::MedianPruner;
pub use nop::NopPruner;
pub use patient::PatientPruner;
pub use percentile::PercentilePruner;
pub use successive_halving::SuccessiveHalvingPruner;
pub use threshold::ThresholdPruner;
pub use wilcoxon::{Alternative, WilcoxonPruner, wilcoxon_p_value};

use crate::context::Context;
use crate::error::Result;
use crate::trial::FrozenTrial;

/// Decides from the intermediate values of a running trial whether it should stop.
///
/// ```
/// use kiln_tune::{Context, FrozenTrial, Pruner, Study};
///
/// /// Stops trials whose last report is negative.
/// struct Positive;
///
/// impl Pruner for Positive {
///     fn prune(&self, _: &Context, trial: &FrozenTrial) -> kiln_tune::Result<bool> {
///         Ok(trial.intermediate_values.last_key_value().is_some_and(|(_, value)| *value < 0.0))
///     }
/// }
///
/// let study = Study::builder().pruner(Positive).create()?;
/// let mut trial = study.ask()?;
/// trial.report(-1.0, 0)?;
/// assert!(trial.should_prune()?);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub trait Pruner: Send + Sync {
    /// Whether `trial`, as this worker knows it, should be pruned. System attributes which a pruner has written are
    /// to be read back from the storage.
    ///
    /// # Errors
    /// When the storage fails.
    fn prune(&self, context: &Context, trial: &FrozenTrial) -> Result<bool>;

    /// Whether [`prune`](Self::prune) can judge reports of several objectives
    /// ([`reported_values`](FrozenTrial::reported_values)). Without it such a study is not asked.
    fn judges_several_objectives(&self) -> bool {
        false
    }

    /// Checks the settings; called once, when a study is created or loaded with this pruner.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) which names the setting, what was given and what is
    /// allowed.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl<P: Pruner + ?Sized> Pruner for Arc<P> {
    fn prune(&self, context: &Context, trial: &FrozenTrial) -> Result<bool> {
        (**self).prune(context, trial)
    }

    fn judges_several_objectives(&self) -> bool {
        (**self).judges_several_objectives()
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }
}

impl<P: Pruner + ?Sized> Pruner for Box<P> {
    fn prune(&self, context: &Context, trial: &FrozenTrial) -> Result<bool> {
        (**self).prune(context, trial)
    }

    fn judges_several_objectives(&self) -> bool {
        (**self).judges_several_objectives()
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }
}
