use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    CONSTRAINT_PREFIX, FIXED_PARAMS_KEY, FrozenTrial, ParamSpace, Params, Suggest, Timestamp,
    TrialId,
};
use crate::distribution::{Distribution, ParamValue};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::sampler::RelativeSample;
use crate::search_space::SearchSpace;
use crate::study::Study;

/// A running trial: suggests parameters, takes reports, and says when to stop early.
///
/// The `suggest_` methods are those of [`Suggest`], repeated here so that no import is needed.
#[derive(Debug)]
pub struct Trial {
    study: Study,
    /// What this worker knows of the trial; writes go to the storage and here.
    record: FrozenTrial,
    fixed: Vec<(String, ParamValue)>,
    relative: Option<(ParamSpace, RelativeSample)>,
}

impl Trial {
    pub(crate) fn new(study: Study, record: FrozenTrial) -> Self {
        let fixed = record
            .system_attrs
            .get(FIXED_PARAMS_KEY)
            .and_then(Json::as_object)
            .unwrap_or_default();
        let fixed = fixed
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), ParamValue::from_json(value).ok()?)))
            .collect();
        Self {
            study,
            record,
            fixed,
            relative: None,
        }
    }

    /// The study of this trial.
    #[must_use]
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// The id within the storage.
    #[must_use]
    pub fn id(&self) -> TrialId {
        self.record.id
    }

    /// The number within the study, from 0.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.record.number
    }

    /// When the trial started.
    #[must_use]
    pub fn datetime_start(&self) -> Option<Timestamp> {
        self.record.datetime_start
    }

    /// The parameters suggested so far.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.record.params
    }

    /// The trial as this worker knows it.
    #[must_use]
    pub fn record(&self) -> &FrozenTrial {
        &self.record
    }

    pub(super) fn record_mut(&mut self) -> &mut FrozenTrial {
        &mut self.record
    }

    /// The user attributes.
    #[must_use]
    pub fn user_attrs(&self) -> &super::Attrs {
        &self.record.user_attrs
    }

    /// Suggests a float of `[low, high]`.
    ///
    /// # Errors
    /// As [`Suggest::suggest_float`].
    pub fn suggest_float(&mut self, name: &str, low: f64, high: f64) -> Result<f64> {
        Suggest::suggest_float(self, name, low, high)
    }

    /// Suggests a float of `[low, high]` on a log scale.
    ///
    /// # Errors
    /// As [`Suggest::suggest_float_log`].
    pub fn suggest_float_log(&mut self, name: &str, low: f64, high: f64) -> Result<f64> {
        Suggest::suggest_float_log(self, name, low, high)
    }

    /// Suggests a float of `low, low + step, ..., high`.
    ///
    /// # Errors
    /// As [`Suggest::suggest_float_step`].
    pub fn suggest_float_step(
        &mut self,
        name: &str,
        low: f64,
        high: f64,
        step: f64,
    ) -> Result<f64> {
        Suggest::suggest_float_step(self, name, low, high, step)
    }

    /// Suggests an integer of `[low, high]`.
    ///
    /// # Errors
    /// As [`Suggest::suggest_int`].
    pub fn suggest_int(&mut self, name: &str, low: i64, high: i64) -> Result<i64> {
        Suggest::suggest_int(self, name, low, high)
    }

    /// Suggests an integer of `[low, high]` on a log scale.
    ///
    /// # Errors
    /// As [`Suggest::suggest_int_log`].
    pub fn suggest_int_log(&mut self, name: &str, low: i64, high: i64) -> Result<i64> {
        Suggest::suggest_int_log(self, name, low, high)
    }

    /// Suggests an integer of `low, low + step, ..., high`.
    ///
    /// # Errors
    /// As [`Suggest::suggest_int_step`].
    pub fn suggest_int_step(&mut self, name: &str, low: i64, high: i64, step: i64) -> Result<i64> {
        Suggest::suggest_int_step(self, name, low, high, step)
    }

    /// Suggests one of `choices`: strings, bools, numbers, options of them, or serde enums without data.
    ///
    /// # Errors
    /// As [`Suggest::suggest_categorical`].
    pub fn suggest_categorical<T: serde::Serialize + Clone>(
        &mut self,
        name: &str,
        choices: &[T],
    ) -> Result<T> {
        Suggest::suggest_categorical(self, name, choices)
    }

    /// Suggests a value of any distribution.
    ///
    /// The value is, in this order: that of an earlier suggestion of the name in this trial; the enqueued one; the
    /// only possible one; the jointly sampled one; an independently sampled one.
    ///
    /// # Errors
    /// [`Error::IncompatibleDistribution`] when the name was suggested with a contradicting distribution,
    /// [`Error::ValueNotInDistribution`] when an enqueued value cannot be stored, and errors of sampler and storage.
    pub fn suggest(
        &mut self,
        name: &str,
        distribution: impl Into<Distribution>,
    ) -> Result<ParamValue> {
        Suggest::suggest(self, name, distribution)
    }

    /// Suggests a whole search space.
    ///
    /// # Errors
    /// As [`suggest`](Self::suggest).
    pub fn suggest_space<T: SearchSpace>(&mut self) -> Result<T> {
        T::suggest_from(self, "")
    }

    /// Reports an intermediate value. A second report of a step is ignored, with a warning; NaN and infinities are
    /// allowed.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `step` is negative, [`Error::MultiObjective`].
    pub fn report(&mut self, value: f64, step: impl TryInto<i64>) -> Result<()> {
        self.study
            .require_single("report", "report the values of all with report_multi")?;
        let step = checked_step(step)?;
        if self.record.intermediate_values.contains_key(&step) {
            log::warn!(
                "trial {}: the value reported for step {step} is ignored, as the step was reported before",
                self.number()
            );
            return Ok(());
        }
        self.study
            .storage()
            .set_trial_intermediate_value(self.id(), step, value)?;
        self.record.intermediate_values.insert(step, value);
        Ok(())
    }

    /// Whether the pruner advises to stop this trial now, by what was reported so far.
    ///
    /// # Errors
    /// [`Error::MultiObjective`] when nothing was reported of several objectives, or the pruner judges one only; errors of
    /// the storage.
    pub fn should_prune(&self) -> Result<bool> {
        let (study, pruner) = (&self.study, self.study.pruner());
        if self.record.last_step().is_none() {
            study.require_single(
                "should_prune",
                "report the values of all with report_multi first",
            )?;
        }
        if !pruner.judges_several_objectives() {
            study.require_single(
                "this pruner",
                "use SuccessiveHalvingPruner, HyperbandPruner, MedianPruner or PercentilePruner",
            )?;
        }
        pruner.prune(study.context(), &self.record)
    }

    /// Notes a user attribute.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn set_user_attr(&mut self, key: impl Into<String>, value: impl Into<Json>) -> Result<()> {
        let (key, value) = (key.into(), value.into());
        self.study
            .storage()
            .set_trial_user_attr(self.id(), &key, &value)?;
        self.record.user_attrs.insert(key, value);
        Ok(())
    }

    /// Sets a constraint; the trial is feasible when all of them are at most 0. A second value for a key is ignored,
    /// with a warning.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the value is NaN.
    pub fn set_constraint(&mut self, key: &str, value: f64) -> Result<()> {
        if value.is_nan() {
            return Err(Error::invalid(format!(
                "constraint {key:?} must be a number, but got NaN"
            )));
        }
        let attr = format!("{CONSTRAINT_PREFIX}{key}");
        if self.record.system_attrs.contains_key(&attr) {
            log::warn!(
                "trial {}: constraint {key:?} is set already; the new value is ignored",
                self.number()
            );
            return Ok(());
        }
        self.study
            .storage()
            .set_trial_system_attr(self.id(), &attr, &Json::Float(value))?;
        self.record.system_attrs.insert(attr, Json::Float(value));
        Ok(())
    }

    /// The constraints set so far.
    #[must_use]
    pub fn constraints(&self) -> BTreeMap<String, f64> {
        self.record.constraints()
    }

    fn choose(&mut self, name: &str, distribution: &Distribution) -> Result<f64> {
        if let Some((_, value)) = self.fixed.iter().find(|(fixed, _)| fixed == name) {
            let internal = distribution.to_internal(value)?;
            if !distribution.contains(internal) {
                log::warn!(
                    "the enqueued value {value} of parameter {name:?} is outside of {distribution}"
                );
            }
            return Ok(internal);
        }
        if distribution.is_single() {
            return Ok(distribution.single_value());
        }
        if let Some(internal) = self.relative_value(name, distribution)? {
            return Ok(internal);
        }
        self.study.sampler().sample_independent(
            self.study.context(),
            &self.record,
            name,
            distribution,
        )
    }

    /// The jointly sampled value. Space and sample are made at the first suggestion which gets here.
    fn relative_value(&mut self, name: &str, distribution: &Distribution) -> Result<Option<f64>> {
        if self.relative.is_none() {
            let sampler = self.study.sampler();
            let context = self.study.context();
            let space = sampler.infer_relative_search_space(context, &self.record)?;
            let sample = sampler.sample_relative(context, &self.record, &space)?;
            self.relative = Some((space, sample));
        }
        let Some((space, sample)) = &self.relative else {
            return Ok(None);
        };
        let Some((_, internal)) = sample.iter().find(|(sampled, _)| &**sampled == name) else {
            return Ok(None);
        };
        let sampled_from = space.get(name).ok_or_else(|| {
            Error::invalid(format!(
                "the sampler gave a value for {name:?}, which is not in its own search space"
            ))
        })?;
        sampled_from.check_compatible(name, distribution)?;
        Ok(Some(*internal).filter(|internal| distribution.contains(*internal)))
    }
}

/// The step of a report.
pub(super) fn checked_step(step: impl TryInto<i64>) -> Result<i64> {
    step.try_into()
        .ok()
        .filter(|step| *step >= 0)
        .ok_or_else(|| Error::invalid("the step of a report must be between 0 and 2^63 - 1"))
}

impl Suggest for Trial {
    fn suggest_internal(&mut self, name: &str, distribution: Distribution) -> Result<f64> {
        if let Some(known) = self.record.params.get(name) {
            if *known.distribution != distribution {
                known.distribution.check_compatible(name, &distribution)?;
                log::warn!(
                    "trial {}: parameter {name:?} was suggested before from {}; that value is used again",
                    self.number(),
                    known.distribution
                );
            }
            return Ok(known.internal);
        }
        let mut internal = self.choose(name, &distribution)?;
        if distribution.is_categorical() {
            // Of equal choices, such as 1 and true, the first is stored.
            internal = distribution.to_internal(&distribution.to_external(internal))?;
        }
        if internal.is_nan() {
            return Err(Error::ValueNotInDistribution {
                value: "NaN".to_owned(),
                distribution: distribution.to_string(),
            });
        }
        let (name, distribution): (Arc<str>, _) = self.study.intern(name, distribution);
        self.study
            .storage()
            .set_trial_param(self.record.id, &name, internal, &distribution)?;
        self.record.params.insert(name, internal, distribution);
        Ok(internal)
    }
}
