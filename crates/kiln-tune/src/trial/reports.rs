use std::collections::BTreeMap;

use super::live::checked_step;
use super::{FrozenTrial, Trial};
use crate::error::{Error, Result};
use crate::json::Json;

/// The system attribute of a report of several objectives is this with the step behind it; it holds a list, one value per
/// objective, with null for NaN.
pub(crate) const REPORT_PREFIX: &str = "kiln:report:";

impl Trial {
    /// Reports intermediate values of all objectives, in their order. A second report of a step is ignored, with a warning;
    /// NaN and infinities are allowed. In a study with one objective this is [`report`](Self::report).
    ///
    /// [`should_prune`](Self::should_prune) then judges the trial by non-domination, as
    /// [the pruners](crate::pruner#several-objectives) say. The report is kept as the system attribute `kiln:report:STEP` of
    /// the trial, a list, which Optuna and its dashboard leave alone: Optuna has no intermediate values of several objectives
    /// ([optuna#3450](https://github.com/optuna/optuna/issues/3450)).
    ///
    /// ```
    /// use kiln_tune::{Error, Study, StudyDirection, SuccessiveHalvingPruner, Trial, TrialPruned};
    ///
    /// // An error that falls with the epochs, and a cost that grows with the width.
    /// fn objective(trial: &mut Trial) -> Result<[f64; 2], Error> {
    ///     let width = trial.suggest_int("width", 1, 64)? as f64;
    ///     let rate = trial.suggest_float("rate", 0.0, 1.0)?;
    ///     let mut values = [1.0, width];
    ///     for epoch in 1..=16 {
    ///         values[0] = 1.0 / (1.0 + width * rate * f64::from(epoch));
    ///         trial.report_multi(&values, epoch)?;
    ///         if trial.should_prune()? {
    ///             return Err(TrialPruned.into());
    ///         }
    ///     }
    ///     Ok(values)
    /// }
    ///
    /// let study = Study::builder()
    ///     .directions([StudyDirection::Minimize; 2])
    ///     .pruner(SuccessiveHalvingPruner::new().min_resource(1))
    ///     .create()?;
    /// study.optimize(objective, 40)?;
    /// assert!(study.best_trials()?.len() < 40);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `step` is negative or there is not one value per objective; errors of the storage.
    pub fn report_multi(&mut self, values: &[f64], step: impl TryInto<i64>) -> Result<()> {
        let n_objectives = self.study().directions().len();
        if values.len() != n_objectives {
            return Err(Error::invalid(format!(
                "a report needs one value per objective: got {} for {n_objectives}",
                values.len()
            )));
        }
        if let [value] = values {
            return self.report(*value, step);
        }
        let step = checked_step(step)?;
        let key = format!("{REPORT_PREFIX}{step}");
        if self.record().system_attrs.contains_key(&key) {
            log::warn!(
                "trial {}: the values reported for step {step} are ignored, as the step was reported before",
                self.number()
            );
            return Ok(());
        }
        let stored: Json = values
            .iter()
            .map(|value| Some(*value).filter(|value| !value.is_nan()))
            .collect();
        let storage = self.study().storage();
        storage.set_trial_system_attr(self.id(), &key, &stored)?;
        self.record_mut().system_attrs.insert(key, stored);
        Ok(())
    }
}

impl FrozenTrial {
    /// What the trial reported by step, one value per objective: its intermediate values, or, of several objectives, what
    /// [`Trial::report_multi`] was given.
    #[must_use]
    pub fn reported_values(&self) -> BTreeMap<i64, Vec<f64>> {
        if !self.intermediate_values.is_empty() {
            let single = self.intermediate_values.iter();
            return single.map(|(step, value)| (*step, vec![*value])).collect();
        }
        self.multi_reports()
            .filter_map(|(step, stored)| Some((step, numbers(stored)?)))
            .collect()
    }

    /// What the trial reported at a step.
    pub(crate) fn reported_at(&self, step: i64) -> Option<Vec<f64>> {
        if let Some(value) = self.intermediate_values.get(&step) {
            return Some(vec![*value]);
        }
        numbers(self.system_attrs.get(&format!("{REPORT_PREFIX}{step}"))?)
    }

    /// The report of the largest step.
    pub(crate) fn last_report(&self) -> Option<(i64, Vec<f64>)> {
        if let Some((step, value)) = self.intermediate_values.last_key_value() {
            return Some((*step, vec![*value]));
        }
        let (step, stored) = self.multi_reports().max_by_key(|(step, _)| *step)?;
        Some((step, numbers(stored)?))
    }

    /// The steps of several objectives, in no order.
    pub(super) fn multi_reports(&self) -> impl Iterator<Item = (i64, &Json)> {
        self.system_attrs
            .range(REPORT_PREFIX.to_owned()..)
            .map_while(|(key, stored)| Some((key.strip_prefix(REPORT_PREFIX)?, stored)))
            .filter_map(|(step, stored)| Some((step.parse().ok()?, stored)))
    }
}

/// A stored list of numbers, in which null is NaN; a number alone is a list of one.
pub(crate) fn numbers(stored: &Json) -> Option<Vec<f64>> {
    let Some(items) = stored.as_array() else {
        return Some(vec![stored.as_f64()?]);
    };
    let number = |item: &Json| match item {
        Json::Null => Some(f64::NAN),
        item => item.as_f64(),
    };
    items.iter().map(number).collect()
}
