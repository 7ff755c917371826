//! Which unpromising trials are stopped early.

mod nop;

use std::sync::Arc;

pub use nop::NopPruner;

use crate::error::Result;
use crate::study::Study;
use crate::trial::FrozenTrial;

/// Decides from the intermediate values of a running trial whether it should stop.
pub trait Pruner: Send + Sync {
    /// Whether `trial`, as it is now, should be pruned.
    ///
    /// # Errors
    /// When the storage fails.
    fn prune(&self, study: &Study, trial: &FrozenTrial) -> Result<bool>;
}

impl<P: Pruner + ?Sized> Pruner for Arc<P> {
    fn prune(&self, study: &Study, trial: &FrozenTrial) -> Result<bool> {
        (**self).prune(study, trial)
    }
}
