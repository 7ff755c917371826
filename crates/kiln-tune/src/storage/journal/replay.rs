//! The state that a journal describes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};

use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::storage::StudyId;
use crate::study::StudyDirection;
use crate::trial::{Attrs, FrozenTrial, Params, Timestamp, TrialId, TrialState};

/// What an entry does.
pub(super) mod op {
    pub(crate) const CREATE_STUDY: i64 = 0;
    pub(crate) const DELETE_STUDY: i64 = 1;
    pub(crate) const SET_STUDY_USER_ATTR: i64 = 2;
    pub(crate) const SET_STUDY_SYSTEM_ATTR: i64 = 3;
    pub(crate) const CREATE_TRIAL: i64 = 4;
    pub(crate) const SET_TRIAL_PARAM: i64 = 5;
    pub(crate) const SET_TRIAL_STATE_VALUES: i64 = 6;
    pub(crate) const SET_TRIAL_INTERMEDIATE_VALUE: i64 = 7;
    pub(crate) const SET_TRIAL_USER_ATTR: i64 = 8;
    pub(crate) const SET_TRIAL_SYSTEM_ATTR: i64 = 9;
    /// Written by no release of Optuna; its readers skip it.
    pub(crate) const DISCARD_TRIALS: i64 = 10;
}

/// Studies and trials after a number of entries.
#[derive(Default)]
pub(super) struct Replay {
    pub(super) studies: BTreeMap<StudyId, StudyEntry>,
    /// By id; None when the study was deleted. Deleted studies and trials keep their ids.
    pub(super) trials: Vec<Option<(StudyId, Arc<FrozenTrial>)>>,
    next_study: StudyId,
}

pub(super) struct StudyEntry {
    pub(super) name: String,
    pub(super) directions: Vec<StudyDirection>,
    pub(super) user_attrs: Attrs,
    pub(super) system_attrs: Attrs,
    pub(super) trial_ids: Vec<TrialId>,
    pub(super) waiting: BTreeSet<TrialId>,
    /// The first distribution of each parameter, which later ones must be compatible with.
    distributions: HashMap<Arc<str>, Arc<Distribution>>,
}

impl Replay {
    /// Applies one line. An operation that its writer was not allowed to do is skipped, as it was by every reader.
    pub(super) fn apply(&mut self, line: &str) -> Result<()> {
        let entry = Entry(Json::parse(line)?);
        match entry.int("op_code")? {
            op::CREATE_STUDY => self.create_study(&entry),
            op::DELETE_STUDY => self.delete_study(entry.int("study_id")?),
            op::SET_STUDY_USER_ATTR => self.set_study_attr(&entry, "user_attr"),
            op::SET_STUDY_SYSTEM_ATTR => self.set_study_attr(&entry, "system_attr"),
            op::CREATE_TRIAL => self.create_trial(&entry),
            op::SET_TRIAL_PARAM => self.set_trial_param(&entry),
            op::SET_TRIAL_STATE_VALUES => self.set_trial_state_values(&entry),
            op::SET_TRIAL_INTERMEDIATE_VALUE => {
                let (step, value) = (entry.int("step")?, entry.number("intermediate_value")?);
                self.change(entry.int("trial_id")?, |trial| {
                    trial.intermediate_values.insert(step, value);
                });
                Ok(())
            }
            op::SET_TRIAL_USER_ATTR => {
                let attrs = entry.entries("user_attr")?;
                self.change(entry.int("trial_id")?, |trial| {
                    trial.user_attrs.extend(attrs)
                });
                Ok(())
            }
            op::SET_TRIAL_SYSTEM_ATTR => {
                let attrs = entry.entries("system_attr")?;
                self.change(entry.int("trial_id")?, |trial| {
                    trial.system_attrs.extend(attrs)
                });
                Ok(())
            }
            op::DISCARD_TRIALS => Ok(()),
            other => Err(Error::InvalidJson(format!(
                "op_code must be 0 to 10, but got {other}"
            ))),
        }
    }

    pub(super) fn study(&self, id: StudyId) -> Result<&StudyEntry> {
        self.studies.get(&id).ok_or_else(|| Error::StudyNotFound {
            name: format!("id {id}"),
            hint: String::new(),
        })
    }

    pub(super) fn slot(&self, id: TrialId) -> Result<&(StudyId, Arc<FrozenTrial>)> {
        usize::try_from(id)
            .ok()
            .and_then(|index| self.trials.get(index)?.as_ref())
            .ok_or_else(|| Error::TrialNotFound {
                trial: format!("with id {id}"),
            })
    }

    /// The trial, when it may be changed.
    pub(super) fn updatable(&self, id: TrialId) -> Result<&(StudyId, Arc<FrozenTrial>)> {
        let slot = self.slot(id)?;
        if slot.1.state.is_finished() {
            return Err(Error::UpdateFinishedTrial {
                number: slot.1.number,
                state: slot.1.state,
            });
        }
        Ok(slot)
    }

    /// Whether a study may have this distribution for a name.
    pub(super) fn check_distribution(
        &self,
        study_id: StudyId,
        name: &str,
        distribution: &Distribution,
    ) -> Result<()> {
        match self.study(study_id)?.distributions.get(name) {
            Some(first) => first.check_compatible(name, distribution),
            None => Ok(()),
        }
    }

    fn create_study(&mut self, entry: &Entry) -> Result<()> {
        let name = entry.text("study_name")?.to_owned();
        let directions = entry
            .array("directions")?
            .iter()
            .map(direction)
            .collect::<Result<_>>()?;
        if self.studies.values().any(|study| study.name == name) {
            return Ok(());
        }
        let study = StudyEntry {
            name,
            directions,
            user_attrs: Attrs::new(),
            system_attrs: Attrs::new(),
            trial_ids: Vec::new(),
            waiting: BTreeSet::new(),
            distributions: HashMap::new(),
        };
        self.studies.insert(self.next_study, study);
        self.next_study += 1;
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps)] // As the other operations.
    fn delete_study(&mut self, id: StudyId) -> Result<()> {
        for trial_id in self
            .studies
            .remove(&id)
            .map(|study| study.trial_ids)
            .unwrap_or_default()
        {
            if let Some(slot) = usize::try_from(trial_id)
                .ok()
                .and_then(|index| self.trials.get_mut(index))
            {
                *slot = None;
            }
        }
        Ok(())
    }

    fn set_study_attr(&mut self, entry: &Entry, field: &str) -> Result<()> {
        let attrs = entry.entries(field)?;
        if let Some(study) = self.studies.get_mut(&entry.int("study_id")?) {
            if field == "user_attr" {
                study.user_attrs.extend(attrs)
            } else {
                study.system_attrs.extend(attrs)
            }
        }
        Ok(())
    }

    fn create_trial(&mut self, entry: &Entry) -> Result<()> {
        let study_id = entry.int("study_id")?;
        let id = TrialId::try_from(self.trials.len()).unwrap_or(TrialId::MAX);
        let Some(study) = self.studies.get_mut(&study_id) else {
            return Ok(());
        };
        let mut params = Params::new();
        if let Some(distributions) = entry.optional("distributions") {
            let values = entry.optional("params");
            for (name, text) in distributions.as_object().unwrap_or_default() {
                let distribution = Distribution::from_json_text(text.as_str().unwrap_or_default())?;
                let Some(internal) = values
                    .and_then(|values| values.get(name))
                    .and_then(Json::as_f64)
                else {
                    continue;
                };
                let (name, distribution) = study.share(name, distribution);
                params.insert(name, internal, distribution);
            }
        }
        let mut intermediate_values = BTreeMap::new();
        if let Some(reports) = entry.optional("intermediate_values") {
            for (step, value) in reports.as_object().unwrap_or_default() {
                let step = step
                    .parse()
                    .map_err(|_| entry.wrong("intermediate_values"))?;
                intermediate_values.insert(
                    step,
                    value
                        .as_f64()
                        .ok_or_else(|| entry.wrong("intermediate_values"))?,
                );
            }
        }
        let values = match (entry.optional("values"), entry.optional("value")) {
            (Some(values), _) => Some(floats(values).ok_or_else(|| entry.wrong("values"))?),
            (None, Some(value)) => Some(vec![value.as_f64().ok_or_else(|| entry.wrong("value"))?]),
            (None, None) => None,
        };
        let trial = FrozenTrial {
            id,
            number: study.trial_ids.len() as u64,
            state: entry
                .optional("state")
                .map_or(Ok(TrialState::Running), |_| entry.state())?,
            values,
            datetime_start: entry.time("datetime_start")?,
            datetime_complete: entry.time("datetime_complete")?,
            params,
            user_attrs: entry
                .optional("user_attrs")
                .map_or(Ok(Attrs::new()), |_| entry.entries("user_attrs"))?,
            system_attrs: entry
                .optional("system_attrs")
                .map_or(Ok(Attrs::new()), |_| entry.entries("system_attrs"))?,
            intermediate_values,
        };
        study.trial_ids.push(id);
        if trial.state == TrialState::Waiting {
            study.waiting.insert(id);
        }
        self.trials.push(Some((study_id, Arc::new(trial))));
        Ok(())
    }

    fn set_trial_param(&mut self, entry: &Entry) -> Result<()> {
        let distribution = Distribution::from_json_text(entry.text("distribution")?)?;
        let (name, internal) = (
            entry.text("param_name")?,
            entry.number("param_value_internal")?,
        );
        let trial_id = entry.int("trial_id")?;
        let Ok((study_id, _)) = self.updatable(trial_id) else {
            return Ok(());
        };
        let study_id = *study_id;
        if self
            .check_distribution(study_id, name, &distribution)
            .is_err()
        {
            return Ok(());
        }
        let Some(study) = self.studies.get_mut(&study_id) else {
            return Ok(());
        };
        let (name, distribution) = study.share(name, distribution);
        self.change(trial_id, |trial| {
            trial.params.insert(name, internal, distribution)
        });
        Ok(())
    }

    fn set_trial_state_values(&mut self, entry: &Entry) -> Result<()> {
        let (trial_id, state) = (entry.int("trial_id")?, entry.state()?);
        let values = match entry.optional("values") {
            Some(values) => Some(floats(values).ok_or_else(|| entry.wrong("values"))?),
            None => None,
        };
        let (start, complete) = (
            entry.time("datetime_start")?,
            entry.time("datetime_complete")?,
        );
        let Ok((study_id, trial)) = self.updatable(trial_id) else {
            return Ok(());
        };
        if state == TrialState::Running && trial.state == TrialState::Running {
            // Another worker has taken it.
            return Ok(());
        }
        if let Some(study) = self.studies.get_mut(&study_id.clone()) {
            if state == TrialState::Waiting {
                study.waiting.insert(trial_id)
            } else {
                study.waiting.remove(&trial_id)
            };
        }
        self.change(trial_id, |trial| {
            trial.state = state;
            if state == TrialState::Running {
                trial.datetime_start = start;
            }
            if state.is_finished() {
                trial.datetime_complete = complete;
            }
            if values.is_some() {
                trial.values = values;
            }
        });
        Ok(())
    }

    /// Changes a trial unless it is unknown or finished. Snapshots that were given away stay as they are.
    fn change(&mut self, id: TrialId, change: impl FnOnce(&mut FrozenTrial)) {
        if self.updatable(id).is_err() {
            return;
        }
        if let Some(Some((_, trial))) = usize::try_from(id)
            .ok()
            .and_then(|index| self.trials.get_mut(index))
        {
            change(Arc::make_mut(trial));
        }
    }
}

impl StudyEntry {
    /// The name and the distribution, shared with an earlier trial when they are equal.
    fn share(&mut self, name: &str, distribution: Distribution) -> (Arc<str>, Arc<Distribution>) {
        if let Some((known_name, known)) = self.distributions.get_key_value(name) {
            let distribution = if **known == distribution {
                known.clone()
            } else {
                Arc::new(distribution)
            };
            return (known_name.clone(), distribution);
        }
        let (name, distribution): (Arc<str>, _) = (name.into(), Arc::new(distribution));
        self.distributions
            .insert(name.clone(), distribution.clone());
        (name, distribution)
    }
}

/// One line of the journal.
struct Entry(Json);

impl Entry {
    fn wrong(&self, field: &str) -> Error {
        Error::InvalidJson(format!(
            "field {field:?} is missing or of the wrong type in {}",
            self.0
        ))
    }

    fn optional(&self, field: &str) -> Option<&Json> {
        self.0.get(field).filter(|value| **value != Json::Null)
    }

    fn int(&self, field: &str) -> Result<i64> {
        self.optional(field)
            .and_then(Json::as_i64)
            .ok_or_else(|| self.wrong(field))
    }

    fn number(&self, field: &str) -> Result<f64> {
        self.optional(field)
            .and_then(Json::as_f64)
            .ok_or_else(|| self.wrong(field))
    }

    fn text(&self, field: &str) -> Result<&str> {
        self.optional(field)
            .and_then(Json::as_str)
            .ok_or_else(|| self.wrong(field))
    }

    fn array(&self, field: &str) -> Result<&[Json]> {
        self.optional(field)
            .and_then(Json::as_array)
            .ok_or_else(|| self.wrong(field))
    }

    fn entries(&self, field: &str) -> Result<Attrs> {
        let object = self
            .optional(field)
            .and_then(Json::as_object)
            .ok_or_else(|| self.wrong(field))?;
        Ok(object.iter().cloned().collect())
    }

    fn state(&self) -> Result<TrialState> {
        TrialState::from_code(self.int("state")?).ok_or_else(|| self.wrong("state"))
    }

    fn time(&self, field: &str) -> Result<Option<Timestamp>> {
        let Some(value) = self.optional(field) else {
            return Ok(None);
        };
        value
            .as_str()
            .and_then(parse_time)
            .map(Some)
            .ok_or_else(|| self.wrong(field))
    }
}

fn floats(values: &Json) -> Option<Vec<f64>> {
    values.as_array()?.iter().map(Json::as_f64).collect()
}

fn direction(code: &Json) -> Result<StudyDirection> {
    match code.as_i64() {
        // 0 is "not set", which very old releases wrote for the default.
        Some(0 | 1) => Ok(StudyDirection::Minimize),
        Some(2) => Ok(StudyDirection::Maximize),
        _ => Err(Error::InvalidJson(format!(
            "a direction must be 1 (minimize) or 2 (maximize), but got {code}"
        ))),
    }
}

/// ISO 8601; a time without an offset is in the local zone.
fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    Some(
        Local
            .from_local_datetime(&naive)
            .earliest()?
            .with_timezone(&Utc),
    )
}
