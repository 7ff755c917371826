use std::collections::BTreeMap;
use std::sync::Arc;

use super::{RelativeSample, Sampler};
use crate::context::Context;
use crate::distribution::{Distribution, ParamValue};
use crate::error::Result;
use crate::trial::{FrozenTrial, ParamSpace, TrialState};

/// Fixes some parameters and leaves the others to another sampler.
///
/// A fixed value outside of its distribution is used nevertheless, with a warning.
///
/// ```
/// use kiln_tune::{PartialFixedSampler, Study, TpeSampler};
///
/// let sampler = PartialFixedSampler::new([("momentum", 0.9)], TpeSampler::new());
/// let study = Study::builder().sampler(sampler).create()?;
/// assert_eq!(study.ask()?.suggest_float("momentum", 0.0, 1.0)?, 0.9);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct PartialFixedSampler {
    fixed: BTreeMap<String, ParamValue>,
    base: Arc<dyn Sampler>,
}

impl PartialFixedSampler {
    /// Fixes these parameters.
    #[must_use]
    pub fn new<N: Into<String>, V: Into<ParamValue>>(
        fixed: impl IntoIterator<Item = (N, V)>,
        base: impl Sampler + 'static,
    ) -> Self {
        let fixed = fixed
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            fixed,
            base: Arc::new(base),
        }
    }
}

impl Sampler for PartialFixedSampler {
    fn infer_relative_search_space(
        &self,
        study: &Context,
        trial: &FrozenTrial,
    ) -> Result<ParamSpace> {
        let mut space = self.base.infer_relative_search_space(study, trial)?;
        space.retain(|name, _| !self.fixed.contains_key(name));
        Ok(space)
    }

    fn sample_relative(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        space: &ParamSpace,
    ) -> Result<RelativeSample> {
        self.base.sample_relative(study, trial, space)
    }

    fn sample_independent(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        let Some(value) = self.fixed.get(name) else {
            return self
                .base
                .sample_independent(study, trial, name, distribution);
        };
        let internal = distribution.to_internal(value)?;
        if !distribution.contains(internal) {
            log::warn!(
                "the fixed value {value} of parameter {name:?} is outside of {distribution}"
            );
        }
        Ok(internal)
    }

    fn before_trial(&self, study: &Context, trial: &FrozenTrial) -> Result<()> {
        self.base.before_trial(study, trial)
    }

    fn after_trial(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        state: TrialState,
        values: Option<&[f64]>,
    ) -> Result<()> {
        self.base.after_trial(study, trial, state, values)
    }

    fn reseed(&self) {
        self.base.reseed();
    }

    fn check(&self) -> Result<()> {
        self.base.check()
    }
}
