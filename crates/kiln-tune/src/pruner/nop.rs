use super::Pruner;
use crate::error::Result;
use crate::study::Study;
use crate::trial::FrozenTrial;

/// Never prunes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NopPruner;

impl Pruner for NopPruner {
    fn prune(&self, _study: &Study, _trial: &FrozenTrial) -> Result<bool> {
        Ok(false)
    }

    fn judges_several_objectives(&self) -> bool {
        true
    }
}
