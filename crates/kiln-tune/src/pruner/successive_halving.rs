use std::sync::Mutex;

use super::Pruner;
use super::several::{is_among_best, is_comparable};
use crate::context::Context;
use crate::direction::StudyDirection;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::sync::lock;
use crate::trial::{FrozenTrial, TrialState, numbers};

/// Asynchronous successive halving (ASHA): a trial goes on past a rung only when its value there is among the best
/// `1 / reduction_factor` of all trials that reached the rung.
///
/// Rung `k` is at step `min_resource * reduction_factor^(min_early_stopping_rate + k)`.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `min_resource` | automatic | steps a trial gets at least; automatic: a hundredth of the longest complete trial, at least 1, fixed when it is first known |
/// | `reduction_factor` | 4 | at least 2 |
/// | `min_early_stopping_rate` | 0 | shifts all rungs |
/// | `bootstrap_count` | 0 | a rung promotes nothing before more than so many trials reached it; needs an explicit `min_resource` |
///
/// Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2020).
#[derive(Debug)]
pub struct SuccessiveHalvingPruner {
    min_resource: Option<u64>,
    reduction_factor: u64,
    min_early_stopping_rate: u32,
    bootstrap_count: usize,
    /// The automatic `min_resource`, once it is known.
    estimated: Mutex<Option<u64>>,
}

impl Default for SuccessiveHalvingPruner {
    fn default() -> Self {
        Self::new()
    }
}

impl SuccessiveHalvingPruner {
    /// With the defaults of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self {
            min_resource: None,
            reduction_factor: 4,
            min_early_stopping_rate: 0,
            bootstrap_count: 0,
            estimated: Mutex::new(None),
        }
    }

    /// Steps a trial gets at least.
    #[must_use]
    pub fn min_resource(mut self, steps: u64) -> Self {
        self.min_resource = Some(steps);
        self
    }

    /// The inverse of the share of trials that pass a rung.
    #[must_use]
    pub fn reduction_factor(mut self, factor: u64) -> Self {
        self.reduction_factor = factor;
        self
    }

    /// By how many powers of `reduction_factor` the first rung is later.
    #[must_use]
    pub fn min_early_stopping_rate(mut self, rate: u32) -> Self {
        self.min_early_stopping_rate = rate;
        self
    }

    /// Trials which must have reached a rung before it promotes any.
    #[must_use]
    pub fn bootstrap_count(mut self, n: usize) -> Self {
        self.bootstrap_count = n;
        self
    }

    /// Decides among the trials which `competes` accepts, so that Hyperband can keep its brackets apart.
    pub(super) fn prune_among(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        competes: impl Fn(&FrozenTrial) -> bool,
    ) -> Result<bool> {
        let Some((step, values)) = trial.last_report() else {
            return Ok(false);
        };
        let step = u128::from(step.unsigned_abs());
        // Of one objective the rung holds the number, as Optuna has it.
        let stored_values = match values[..] {
            [value] => Json::Float(value),
            _ => values.iter().copied().collect(),
        };
        let min_resource = match self.min_resource {
            Some(min_resource) => min_resource,
            None => match self.estimate(study, &competes)? {
                Some(min_resource) => min_resource,
                None => return Ok(false),
            },
        };
        // What this pruner wrote at earlier calls is in the storage, not in the record of the running trial.
        let stored = study.storage().get_trial(trial.id)?;
        let mut rung = (0..)
            .find(|rung| !stored.system_attrs.contains_key(&rung_key(*rung)))
            .unwrap_or(0);
        let first = rung;
        drop(stored);
        // One snapshot for all rungs, made before anything is written. A trial climbs at most 64 rungs.
        let mut snapshot: Option<Vec<Vec<Vec<f64>>>> = None;
        loop {
            if step < self.promotion_step(min_resource, rung) {
                return Ok(false);
            }
            if !is_comparable(&values, study.directions()) {
                return Ok(true);
            }
            let snapshot = match &mut snapshot {
                Some(snapshot) => snapshot,
                none => none.insert(self.competing_values(study, first, &competes)?),
            };
            study
                .storage()
                .set_trial_system_attr(trial.id, &rung_key(rung), &stored_values)?;
            let others = snapshot
                .get((rung - first) as usize)
                .map_or(&[][..], Vec::as_slice);
            if others.len() < self.bootstrap_count
                || !self.is_promotable(&values, others, study.directions())
            {
                return Ok(true);
            }
            rung += 1;
        }
    }

    fn estimate(
        &self,
        study: &Context,
        competes: impl Fn(&FrozenTrial) -> bool,
    ) -> Result<Option<u64>> {
        let mut estimated = lock(&self.estimated);
        if estimated.is_none() {
            let last_step = study.with_trials(|trials| {
                let complete = trials
                    .iter()
                    .filter(|t| t.state == TrialState::Complete && competes(t));
                complete.filter_map(|trial| trial.last_step()).max()
            })?;
            *estimated = last_step.map(|step| (step.unsigned_abs() / 100).max(1));
        }
        Ok(*estimated)
    }

    fn promotion_step(&self, min_resource: u64, rung: u32) -> u128 {
        let factor =
            u128::from(self.reduction_factor).checked_pow(self.min_early_stopping_rate + rung);
        factor
            .and_then(|factor| factor.checked_mul(min_resource.into()))
            .unwrap_or(u128::MAX)
    }

    /// The values at rung `first` and the later ones of all trials that reached them.
    fn competing_values(
        &self,
        study: &Context,
        first: u32,
        competes: impl Fn(&FrozenTrial) -> bool,
    ) -> Result<Vec<Vec<Vec<f64>>>> {
        study.with_trials(|trials| {
            let mut rungs: Vec<Vec<Vec<f64>>> = Vec::new();
            for trial in trials
                .iter()
                .filter(|trial| !trial.system_attrs.is_empty() && competes(trial))
            {
                for rung in first.. {
                    // Rungs are consecutive, so the first missing one ends the search.
                    let Some(value) = trial.system_attrs.get(&rung_key(rung)) else {
                        break;
                    };
                    let at = (rung - first) as usize;
                    rungs.resize(rungs.len().max(at + 1), Vec::new());
                    let values = numbers(value);
                    rungs[at].extend(values.filter(|v| is_comparable(v, study.directions())));
                }
            }
            rungs
        })
    }

    #[allow(clippy::cast_possible_truncation)]
    fn is_promotable(
        &self,
        own: &[f64],
        others: &[Vec<f64>],
        directions: &[StudyDirection],
    ) -> bool {
        // The first trials of a rung are too few for a share; then only the best one so far goes on.
        let n_best = ((others.len() + 1) / self.reduction_factor as usize).max(1);
        let ([own], [direction]) = (own, directions) else {
            return is_among_best(own, others, n_best, directions);
        };
        let mut competing: Vec<f64> = others.iter().map(|other| other[0]).collect();
        competing.push(*own);
        competing.sort_by(f64::total_cmp);
        match direction {
            StudyDirection::Minimize => *own <= competing[n_best - 1],
            StudyDirection::Maximize => *own >= competing[competing.len() - n_best],
        }
    }
}

impl Pruner for SuccessiveHalvingPruner {
    fn prune(&self, study: &Context, trial: &FrozenTrial) -> Result<bool> {
        self.prune_among(study, trial, |_| true)
    }

    fn judges_several_objectives(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        if self.min_resource == Some(0) {
            return Err(Error::invalid("min_resource must be at least 1, but got 0"));
        }
        if self.reduction_factor < 2 {
            return Err(Error::invalid(format!(
                "reduction_factor must be at least 2, but got {}",
                self.reduction_factor
            )));
        }
        if self.bootstrap_count > 0 && self.min_resource.is_none() {
            return Err(Error::invalid(format!(
                "bootstrap_count ({}) needs an explicit min_resource; set it or leave bootstrap_count at 0",
                self.bootstrap_count
            )));
        }
        Ok(())
    }
}

fn rung_key(rung: u32) -> String {
    format!("completed_rung_{rung}")
}
