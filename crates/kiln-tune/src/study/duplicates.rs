//! How a study ends in which nothing new is suggested.

use std::collections::HashSet;

use super::Study;
use crate::error::{Error, Result};
use crate::sampler::gp::GpSpace;
use crate::trial::{FrozenTrial, Params, TrialDuplicate, TrialState};

/// Duplicates in a row that end a study, unless [`Budget::max_duplicates`](super::Budget::max_duplicates) says otherwise.
pub const MAX_DUPLICATES: u64 = 100;

/// What an objective says of its trial when it is a duplicate, as its error or the cause of it.
pub(super) fn duplicate<'a>(
    mut causes: impl Iterator<Item = &'a (dyn std::error::Error + 'static)>,
) -> Option<TrialDuplicate> {
    causes.find_map(|cause| match cause.downcast_ref() {
        Some(Error::Duplicate(duplicate)) => Some(duplicate.clone()),
        _ => cause.downcast_ref::<TrialDuplicate>().cloned(),
    })
}

impl Study {
    /// Whether all combinations of the parameters of a trial are complete. A space with conditional parameters is never
    /// known to be, nor is one with a continuous parameter.
    ///
    /// ```
    /// use kiln_tune::{Study, Trial};
    ///
    /// let study = Study::builder().create()?;
    /// study.optimize(|trial: &mut Trial| Ok::<_, kiln_tune::Error>(trial.suggest_int("n", 7, 7)? as f64), 1)?;
    /// assert!(study.is_exhausted(&study.trials()?[0])?);
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub fn is_exhausted(&self, trial: &FrozenTrial) -> Result<bool> {
        let space = trial
            .params
            .iter()
            .filter(|param| !param.distribution.is_single())
            .map(|param| (param.name.clone(), param.distribution.clone()))
            .collect();
        let axes = GpSpace::new(&space).axes;
        if axes.iter().any(|axis| axis.is_continuous()) {
            return Ok(false);
        }
        let n_combinations = axes
            .iter()
            .try_fold(1_u64, |n, axis| n.checked_mul(axis.n_values()));
        let Some(n_combinations) = n_combinations else {
            return Ok(false);
        };
        self.with_trials(|trials| {
            let mut tried = HashSet::new();
            for other in trials {
                if other.state != TrialState::Complete {
                    continue;
                }
                if other.params.len() != trial.params.len() {
                    return false;
                }
                match of_the_same_space(&trial.params, &other.params) {
                    Some(values) => tried.insert(values),
                    None => return false,
                };
            }
            tried.len() as u64 >= n_combinations
        })
    }
}

/// The values of a trial in the order of another one, if both have the same parameters with the same distributions.
fn of_the_same_space(params: &Params, other: &Params) -> Option<Vec<u64>> {
    params
        .iter()
        .map(|param| {
            let other = other.get(&param.name)?;
            let is_same = other.distribution == param.distribution
                && param.distribution.contains(other.internal);
            // Adding zero makes the two zeros one.
            is_same.then(|| (other.internal + 0.0).to_bits())
        })
        .collect()
}
