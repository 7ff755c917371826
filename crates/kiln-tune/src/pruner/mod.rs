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

mod hyperband;
mod interval;
mod median;
mod nop;
mod patient;
mod percentile;
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

    fn check(&self) -> Result<()> {
        (**self).check()
    }
}

impl<P: Pruner + ?Sized> Pruner for Box<P> {
    fn prune(&self, context: &Context, trial: &FrozenTrial) -> Result<bool> {
        (**self).prune(context, trial)
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }
}
