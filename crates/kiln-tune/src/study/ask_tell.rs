use std::sync::Arc;

use super::{Outcome, Study};
use crate::distribution::{Distribution, ParamValue};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::trial::{
    FIXED_PARAMS_KEY, FrozenTrial, ParamSpace, Params, Suggest as _, Trial, TrialState,
};

/// Which trial is told: the trial itself or its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialRef(u64);

impl From<Trial> for TrialRef {
    fn from(trial: Trial) -> Self {
        Self(trial.number())
    }
}

impl From<&Trial> for TrialRef {
    fn from(trial: &Trial) -> Self {
        Self(trial.number())
    }
}

impl From<&mut Trial> for TrialRef {
    fn from(trial: &mut Trial) -> Self {
        Self(trial.number())
    }
}

impl From<u64> for TrialRef {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// Everything [`Study::tell_with`] can be told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TellOptions {
    /// One value per objective.
    pub values: Option<Vec<f64>>,
    /// The state; when it is left out, the values decide between complete and failed.
    pub state: Option<TrialState>,
    /// Return a finished trial unchanged instead of an error.
    pub skip_if_finished: bool,
}

impl Study {
    /// Starts a trial: the first one of the queue if there is any, otherwise a new one.
    ///
    /// ```
    /// # use kiln_tune::Study;
    /// let study = Study::builder().create()?;
    /// let mut trial = study.ask()?;
    /// let x = trial.suggest_float("x", -10.0, 10.0)?;
    /// study.tell(trial, (x - 2.0).powi(2))?;
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the storage or the sampler fails.
    pub fn ask(&self) -> Result<Trial> {
        let record = match self.pop_waiting()? {
            Some(record) => record,
            None => self.storage().create_new_trial(self.id(), None)?,
        };
        let trial = Trial::new(self.clone(), (*record).clone());
        drop(record);
        self.sampler()
            .before_trial(self.context(), trial.record())?;
        Ok(trial)
    }

    /// Starts a trial and suggests the parameters of a given space at once.
    ///
    /// # Errors
    /// As [`ask`](Self::ask) and [`Trial::suggest`](crate::Suggest::suggest).
    pub fn ask_space(&self, space: &ParamSpace) -> Result<Trial> {
        let mut trial = self.ask()?;
        for (name, distribution) in space.iter() {
            trial.suggest_internal(name, (**distribution).clone())?;
        }
        Ok(trial)
    }

    /// Checks that trials of this study may suggest these parameters: each as the study's trials suggested it before,
    /// with another range at most.
    ///
    /// Without this check such a parameter is refused in every trial, after the trial was started.
    ///
    /// ```
    /// # use kiln_tune::{Distribution, IntDistribution, ParamSpace, Study};
    /// let study = Study::builder().create()?;
    /// study.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), 1)?;
    /// let mut space = ParamSpace::new();
    /// space.insert("x", Distribution::from(IntDistribution::new(0, 1)?));
    /// assert!(study.check_space(&space).is_err());
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::IncompatibleDistribution`] with the first parameter that changes, and errors of the storage.
    pub fn check_space(&self, space: &ParamSpace) -> Result<()> {
        for (name, distribution) in space.iter() {
            if let Some(known) = self.known_distribution(name)? {
                known.check_compatible(name, distribution)?;
            }
        }
        Ok(())
    }

    /// What the latest trial that has a parameter suggested it from; `None` when no trial has it.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn known_distribution(&self, name: &str) -> Result<Option<Arc<Distribution>>> {
        self.with_trials(|trials| {
            let params = trials.iter().rev().map(|trial| trial.params.get(name));
            params
                .flatten()
                .next()
                .map(|param| param.distribution.clone())
        })
    }

    fn pop_waiting(&self) -> Result<Option<Arc<FrozenTrial>>> {
        let storage = self.storage();
        for id in storage.get_waiting_trial_ids(self.id())? {
            // Another worker may have taken it, or even finished it, since the queue was read.
            match storage.set_trial_state_values(id, TrialState::Running, None) {
                Ok(true) => return storage.get_trial(id).map(Some),
                Ok(false) | Err(Error::UpdateFinishedTrial { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Finishes a trial with what its objective gave: a number, an array of numbers or an [`Outcome`].
    ///
    /// NaN or a wrong number of values fails the trial, with a warning.
    ///
    /// # Errors
    /// [`Error::InvalidTell`] when the trial is not running, [`Error::TrialNotFound`], and errors of the storage.
    pub fn tell(
        &self,
        trial: impl Into<TrialRef>,
        outcome: impl Into<Outcome>,
    ) -> Result<Arc<FrozenTrial>> {
        let outcome = outcome.into();
        let state = outcome.state();
        self.tell_with(
            trial,
            TellOptions {
                values: outcome.into_values(),
                state,
                skip_if_finished: false,
            },
        )
    }

    /// Finishes a trial; see [`TellOptions`].
    ///
    /// # Errors
    /// As [`tell`](Self::tell), and [`Error::InvalidTell`] when the values do not suit the state.
    pub fn tell_with(
        &self,
        trial: impl Into<TrialRef>,
        options: TellOptions,
    ) -> Result<Arc<FrozenTrial>> {
        let TrialRef(number) = trial.into();
        let storage = self.storage();
        let id = storage.get_trial_id_from_study_id_trial_number(self.id(), number)?;
        let record = storage.get_trial(id)?;
        if record.state.is_finished() && options.skip_if_finished {
            log::info!(
                "Skipped telling trial {number}, which is finished ({})",
                record.state
            );
            return Ok(record);
        }
        self.finish(&record, options.values, options.state)?;
        // The old snapshot would make the storage copy the trial.
        drop(record);
        storage.get_trial(id)
    }

    /// The rules of `tell`; returns the state written and why given values were refused.
    pub(super) fn finish(
        &self,
        record: &FrozenTrial,
        values: Option<Vec<f64>>,
        state: Option<TrialState>,
    ) -> Result<(TrialState, Option<String>)> {
        let number = record.number;
        let refuse =
            |message: String| Err(Error::InvalidTell(format!("trial {number}: {message}")));
        if record.state != TrialState::Running {
            return refuse(format!(
                "only a running trial can be told, but it is {}",
                record.state
            ));
        }
        let mut message = None;
        let (state, values) = match (state, values) {
            (Some(state @ (TrialState::Running | TrialState::Waiting)), _) => {
                return refuse(format!(
                    "the state must be COMPLETE, PRUNED or FAIL, but got {state}"
                ));
            }
            (Some(TrialState::Complete), None) => {
                return refuse("COMPLETE needs values, but got none".to_owned());
            }
            (Some(TrialState::Complete), Some(values)) => match self.refusal(&values) {
                Some(reason) => return refuse(reason),
                None => (TrialState::Complete, Some(values)),
            },
            (Some(state), Some(_)) => {
                return refuse(format!("{state} must not have values; leave them out"));
            }
            (Some(TrialState::Pruned), None) => {
                let last = record.last_report().map(|(_, values)| values);
                let is_value = |values: &Vec<f64>| self.refusal(values).is_none();
                (TrialState::Pruned, last.filter(is_value))
            }
            (Some(TrialState::Fail), None) => (TrialState::Fail, None),
            (None, None) => {
                message = Some("no value was given".to_owned());
                (TrialState::Fail, None)
            }
            (None, Some(values)) => match self.refusal(&values) {
                None => (TrialState::Complete, Some(values)),
                reason => {
                    message = reason;
                    (TrialState::Fail, None)
                }
            },
        };
        if let Some(message) = &message {
            log::warn!("Trial {number} failed: {message}");
        }
        // The state is written even when the sampler fails.
        let after = self
            .sampler()
            .after_trial(self.context(), record, state, values.as_deref());
        self.storage()
            .set_trial_state_values(record.id, state, values.as_deref())?;
        after?;
        Ok((state, message))
    }

    /// Why values cannot be the values of a complete trial.
    fn refusal(&self, values: &[f64]) -> Option<String> {
        if let Some(value) = values.iter().find(|value| value.is_nan()) {
            return Some(format!("the value {value} is not acceptable"));
        }
        let wanted = self.directions().len();
        (values.len() != wanted).then(|| {
            format!(
                "the number of values ({}) is not the number of objectives ({wanted})",
                values.len()
            )
        })
    }

    /// Enqueues a trial with given parameters; the next [`ask`](Self::ask) takes it. Parameters that are not given are
    /// sampled. A value outside of its distribution is used nevertheless, with a warning.
    ///
    /// ```
    /// # use kiln_tune::Study;
    /// let study = Study::builder().create()?;
    /// study.enqueue_trial([("x", 2.0)])?;
    /// assert_eq!(study.ask()?.suggest_float("x", -10.0, 10.0)?, 2.0);
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the storage fails.
    pub fn enqueue_trial<N: Into<String>, V: Into<ParamValue>>(
        &self,
        params: impl IntoIterator<Item = (N, V)>,
    ) -> Result<()> {
        let params = params
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        self.enqueue(params, Vec::new(), false).map(|_| ())
    }

    /// Enqueues a trial with user attributes; with `skip_if_exists`, only when no trial has the same parameters yet
    /// (numbers equal within a relative 1e-5). Returns whether it was enqueued.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn enqueue(
        &self,
        params: Vec<(String, ParamValue)>,
        user_attrs: Vec<(String, Json)>,
        skip_if_exists: bool,
    ) -> Result<bool> {
        if skip_if_exists && self.has_params(&params)? {
            log::info!("A trial with these parameters exists already; it is not enqueued again");
            return Ok(false);
        }
        let fixed = Json::Object(
            params
                .into_iter()
                .map(|(name, value)| (name, value.to_json()))
                .collect(),
        );
        let record = FrozenTrial {
            id: 0,
            number: 0,
            state: TrialState::Waiting,
            values: None,
            datetime_start: None,
            datetime_complete: None,
            params: Params::new(),
            user_attrs: user_attrs.into_iter().collect(),
            system_attrs: [(FIXED_PARAMS_KEY.to_owned(), fixed)].into(),
            intermediate_values: std::collections::BTreeMap::new(),
        };
        self.create_trial_record(&record)?;
        Ok(true)
    }

    fn has_params(&self, params: &[(String, ParamValue)]) -> Result<bool> {
        self.with_trials(|trials| {
            trials.iter().any(|trial| {
                let known: Vec<(String, ParamValue)> =
                    match trial.system_attrs.get(FIXED_PARAMS_KEY) {
                        Some(Json::Object(fixed)) => fixed
                            .iter()
                            .filter_map(|(name, value)| {
                                Some((name.clone(), ParamValue::from_json(value).ok()?))
                            })
                            .collect(),
                        _ => trial
                            .params
                            .iter()
                            .map(|param| (param.name.to_string(), param.value()))
                            .collect(),
                    };
                known.len() == params.len()
                    && params.iter().all(|(name, value)| {
                        known
                            .iter()
                            .any(|(other, known)| other == name && is_close(value, known))
                    })
            })
        })
    }

    /// Adds a trial made elsewhere, such as by a [`TrialBuilder`](crate::TrialBuilder) or read from another study.
    ///
    /// # Errors
    /// As [`FrozenTrial::validate`], [`Error::InvalidTell`] when a complete trial has a wrong number of values, and
    /// errors of the storage.
    pub fn add_trial(&self, trial: &FrozenTrial) -> Result<()> {
        self.context().add_trial(trial)
    }

    /// Adds several trials.
    ///
    /// # Errors
    /// As [`add_trial`](Self::add_trial); the trials before the refused one stay.
    pub fn add_trials<'a>(&self, trials: impl IntoIterator<Item = &'a FrozenTrial>) -> Result<()> {
        trials
            .into_iter()
            .try_for_each(|trial| self.add_trial(trial))
    }
}

/// Same type, and numbers equal within a relative 1e-5 of the known one, as Optuna's `numpy.isclose` has it: an infinite
/// number is close to itself alone, and NaN to NaN.
#[allow(clippy::cast_precision_loss)]
fn is_close(value: &ParamValue, known: &ParamValue) -> bool {
    let close = |a: f64, b: f64| {
        if a.is_finite() && b.is_finite() {
            (a - b).abs() <= 1e-5 * b.abs()
        } else {
            a == b || (a.is_nan() && b.is_nan())
        }
    };
    match (value, known) {
        (ParamValue::Float(a), ParamValue::Float(b)) => close(*a, *b),
        (ParamValue::Int(a), ParamValue::Int(b)) => close(*a as f64, *b as f64),
        // Python's truth values are integers, but its integers no truth values.
        (ParamValue::Bool(a), ParamValue::Int(b)) => i64::from(*a) == *b,
        _ => std::mem::discriminant(value) == std::mem::discriminant(known) && value == known,
    }
}
