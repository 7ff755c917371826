use super::Pruner;
use crate::context::Context;
use crate::error::Result;
use crate::trial::FrozenTrial;

/// Never prunes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NopPruner;

impl Pruner for NopPruner {
    fn prune(&self, _study: &Context, _trial: &FrozenTrial) -> Result<bool> {
        Ok(false)
    }

    fn judges_several_objectives(&self) -> bool {
        true
    }
}
