//! How the parameters of a trial are chosen.

mod brute_force;
pub mod cmaes;
pub mod ga;
pub mod gp;
mod grid;
mod nsga2;
mod nsga3;
mod partial_fixed;
pub mod qmc;
mod random;
mod tpe;

use std::sync::Arc;

pub use brute_force::{BruteForceSampler, finite_values};
pub use cmaes::{CmaEsSampler, RestartStrategy};
pub use gp::GpSampler;
pub use grid::GridSampler;
pub use nsga2::NsgaIiSampler;
pub use nsga3::NsgaIiiSampler;
pub use partial_fixed::PartialFixedSampler;
pub use qmc::{QmcSampler, QmcType};
pub use random::RandomSampler;
pub use tpe::{TpeAcquisition, TpeSampler};

use crate::context::Context;
use crate::distribution::Distribution;
use crate::error::Result;
use crate::trial::{FrozenTrial, ParamSpace, TrialState};

/// The internal values which a sampler chose together, by name.
pub type RelativeSample = Vec<(Arc<str>, f64)>;

/// Chooses the parameters of a trial.
///
/// A sampler has two ways. *Relative*: it names a search space it wants to sample jointly
/// ([`infer_relative_search_space`](Self::infer_relative_search_space)) and samples it at once
/// ([`sample_relative`](Self::sample_relative)); both happen at the first suggestion which needs them. *Independent*:
/// every parameter outside of that space is sampled alone. All values are internal ones; the study checks them.
///
/// Samplers are shared by the threads of a study, so they keep what changes behind a lock.
pub trait Sampler: Send + Sync {
    /// The parameters to be sampled together in this trial; empty when there are none.
    ///
    /// # Errors
    /// When the storage fails.
    fn infer_relative_search_space(
        &self,
        context: &Context,
        trial: &FrozenTrial,
    ) -> Result<ParamSpace> {
        let _ = (context, trial);
        Ok(ParamSpace::new())
    }

    /// Internal values for the space above; names may be left out.
    ///
    /// # Errors
    /// When the storage fails or the space cannot be sampled.
    fn sample_relative(
        &self,
        context: &Context,
        trial: &FrozenTrial,
        space: &ParamSpace,
    ) -> Result<RelativeSample> {
        let _ = (context, trial, space);
        Ok(RelativeSample::new())
    }

    /// The internal value of one parameter that is not part of the relative sample.
    ///
    /// # Errors
    /// When the storage fails or the parameter cannot be sampled.
    fn sample_independent(
        &self,
        context: &Context,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64>;

    /// Called when a trial starts, before anything is suggested.
    ///
    /// # Errors
    /// When the storage fails.
    fn before_trial(&self, context: &Context, trial: &FrozenTrial) -> Result<()> {
        let _ = (context, trial);
        Ok(())
    }

    /// Called when the objective has ended, just before the state is written; it is written even after an error here.
    ///
    /// # Errors
    /// When the storage fails.
    fn after_trial(
        &self,
        context: &Context,
        trial: &FrozenTrial,
        state: TrialState,
        values: Option<&[f64]>,
    ) -> Result<()> {
        let _ = (context, trial, state, values);
        Ok(())
    }

    /// Checks the settings; called once, when a study is created or loaded with this sampler.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) which names the setting, what was given and what is
    /// allowed.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Starts the random numbers afresh from the operating system; called per trial when several threads work, which
    /// would otherwise draw the same numbers in different workers.
    fn reseed(&self) {}
}

impl<S: Sampler + ?Sized> Sampler for Arc<S> {
    fn infer_relative_search_space(
        &self,
        context: &Context,
        trial: &FrozenTrial,
    ) -> Result<ParamSpace> {
        (**self).infer_relative_search_space(context, trial)
    }

    fn sample_relative(
        &self,
        context: &Context,
        trial: &FrozenTrial,
        space: &ParamSpace,
    ) -> Result<RelativeSample> {
        (**self).sample_relative(context, trial, space)
    }

    fn sample_independent(
        &self,
        context: &Context,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        (**self).sample_independent(context, trial, name, distribution)
    }

    fn before_trial(&self, context: &Context, trial: &FrozenTrial) -> Result<()> {
        (**self).before_trial(context, trial)
    }

    fn after_trial(
        &self,
        context: &Context,
        trial: &FrozenTrial,
        state: TrialState,
        values: Option<&[f64]>,
    ) -> Result<()> {
        (**self).after_trial(context, trial, state, values)
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }

    fn reseed(&self) {
        (**self).reseed();
    }
}
