use std::sync::{Arc, Mutex};

use super::{Pruner, SuccessiveHalvingPruner};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::sync::lock;
use crate::trial::{FrozenTrial, TrialState};

/// Hyperband: several [`SuccessiveHalvingPruner`]s ("brackets") whose first rungs differ, so that it need not be known
/// how early a trial can be judged. A trial belongs to one bracket, by a checksum of the study's name and its number.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `min_resource` | 1 | steps a trial gets at least |
/// | `max_resource` | automatic | steps of a whole trial; automatic: those of the longest complete trial, fixed when it is first known, and nothing is pruned before |
/// | `reduction_factor` | 3 | at least 2 |
/// | `bootstrap_count` | 0 | as in successive halving; needs an explicit `max_resource` |
///
/// Li et al., "Hyperband" (2018).
#[derive(Debug)]
pub struct HyperbandPruner {
    min_resource: u64,
    max_resource: Option<u64>,
    reduction_factor: u64,
    bootstrap_count: usize,
    brackets: Mutex<Option<Arc<Brackets>>>,
}

#[derive(Debug)]
struct Brackets {
    pruners: Vec<SuccessiveHalvingPruner>,
    budgets: Vec<u64>,
}

impl Default for HyperbandPruner {
    fn default() -> Self {
        Self::new()
    }
}

impl HyperbandPruner {
    /// With the defaults of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self {
            min_resource: 1,
            max_resource: None,
            reduction_factor: 3,
            bootstrap_count: 0,
            brackets: Mutex::new(None),
        }
    }

    /// Steps a trial gets at least.
    #[must_use]
    pub fn min_resource(mut self, steps: u64) -> Self {
        self.min_resource = steps;
        self
    }

    /// Steps of a whole trial.
    #[must_use]
    pub fn max_resource(mut self, steps: u64) -> Self {
        self.max_resource = Some(steps);
        self
    }

    /// The inverse of the share of trials that pass a rung.
    #[must_use]
    pub fn reduction_factor(mut self, factor: u64) -> Self {
        self.reduction_factor = factor;
        self
    }

    /// Trials which must have reached a rung before it promotes any.
    #[must_use]
    pub fn bootstrap_count(mut self, n: usize) -> Self {
        self.bootstrap_count = n;
        self
    }

    /// How the trials are shared out: one budget per bracket. Empty until `max_resource` is known.
    #[must_use]
    pub fn budgets(&self) -> Vec<u64> {
        lock(&self.brackets)
            .as_ref()
            .map_or_else(Vec::new, |brackets| brackets.budgets.clone())
    }

    /// The bracket of a trial, 0 until `max_resource` is known.
    #[must_use]
    pub fn bracket_id(&self, study: &Context, number: u64) -> usize {
        lock(&self.brackets)
            .as_ref()
            .map_or(0, |brackets| brackets.of(study.name(), number))
    }

    fn brackets(&self, study: &Context) -> Result<Option<Arc<Brackets>>> {
        let mut brackets = lock(&self.brackets);
        if brackets.is_none() {
            let max_resource = match self.max_resource {
                Some(max_resource) => Some(max_resource),
                None => study
                    .with_trials(|trials| {
                        let complete = trials
                            .iter()
                            .filter(|trial| trial.state == TrialState::Complete);
                        complete.filter_map(|trial| trial.last_step()).max()
                    })?
                    .map(|step| step.unsigned_abs() + 1),
            };
            *brackets = max_resource.map(|max_resource| Arc::new(self.divide(max_resource)));
        }
        Ok(brackets.clone())
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    fn divide(&self, max_resource: u64) -> Brackets {
        let ratio = max_resource as f64 / self.min_resource as f64;
        // The quotient of two logarithms, as Python computes a logarithm with a base.
        let n = ((ratio.ln() / (self.reduction_factor as f64).ln()).floor() + 1.0).max(0.0) as u32;
        let pruner = |bracket| {
            SuccessiveHalvingPruner::new()
                .min_resource(self.min_resource)
                .reduction_factor(self.reduction_factor)
                .min_early_stopping_rate(bracket)
                .bootstrap_count(self.bootstrap_count)
        };
        let budget = |bracket: u32| {
            let s = n - 1 - bracket;
            (u64::from(n) * self.reduction_factor.pow(s)).div_ceil(u64::from(s) + 1)
        };
        Brackets {
            pruners: (0..n).map(pruner).collect(),
            budgets: (0..n).map(budget).collect(),
        }
    }
}

impl Brackets {
    fn of(&self, study_name: &str, number: u64) -> usize {
        let total: u64 = self.budgets.iter().sum();
        let mut n = u64::from(crc32(format!("{study_name}_{number}").as_bytes())) % total.max(1);
        for (bracket, budget) in self.budgets.iter().enumerate() {
            if n < *budget {
                return bracket;
            }
            n -= budget;
        }
        0
    }
}

impl Pruner for HyperbandPruner {
    fn prune(&self, study: &Context, trial: &FrozenTrial) -> Result<bool> {
        let Some(brackets) = self.brackets(study)? else {
            return Ok(false);
        };
        let own = brackets.of(study.name(), trial.number);
        match brackets.pruners.get(own) {
            Some(pruner) => pruner.prune_among(study, trial, |other| {
                brackets.of(study.name(), other.number) == own
            }),
            None => Ok(false),
        }
    }

    fn judges_several_objectives(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        if self.bootstrap_count > 0 && self.max_resource.is_none() {
            return Err(Error::invalid(format!(
                "bootstrap_count ({}) needs an explicit max_resource; set it or leave bootstrap_count at 0",
                self.bootstrap_count
            )));
        }
        if let Some(max_resource) = self.max_resource
            && max_resource < self.min_resource
        {
            return Err(Error::invalid(format!(
                "max_resource must not be below min_resource, but got {max_resource} and {}",
                self.min_resource
            )));
        }
        SuccessiveHalvingPruner::new()
            .min_resource(self.min_resource)
            .reduction_factor(self.reduction_factor)
            .check()
    }
}

/// The CRC-32 checksum of zip and PNG (IEEE 802.3), which chooses the bracket of a trial.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_equals_the_standard_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
