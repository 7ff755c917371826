//! The state that a journal describes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};

use crate::direction::StudyDirection;
use crate::distribution::{Distribution, Unusable};
use crate::error::{Error, Result};
use crate::json::{Json, MAX_DEPTH};
use crate::storage::StudyId;
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

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It was done.
    Done,
    /// It made the trial of this id.
    Created(TrialId),
    /// Its writer was not allowed to do it, because of what others had written before.
    Skipped,
}

/// Studies and trials after a number of entries.
pub(super) struct Replay {
    /// The name of the journal, for messages.
    journal: String,
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
    /// Why the trials cannot be read, with the line; the other studies of the journal can.
    damage: Option<String>,
    /// The first distribution of each parameter, which later ones must be compatible with.
    distributions: HashMap<Arc<str>, Arc<Distribution>>,
}

impl Replay {
    pub(super) fn new(journal: &Path) -> Self {
        Self {
            journal: journal.display().to_string(),
            studies: BTreeMap::new(),
            trials: Vec::new(),
            next_study: 0,
        }
    }

    /// Applies one line. An operation that its writer was not allowed to do is skipped, as it was by every reader.
    pub(super) fn apply(&mut self, number: u64, line: &str) -> Result<Effect> {
        // The attributes of an entry lie two levels deep.
        let entry = Entry(Json::parse_cut(line, MAX_DEPTH + 2)?, number);
        match entry.int("op_code")? {
            op::CREATE_STUDY => self.create_study(&entry),
            op::DELETE_STUDY => Ok(self.delete_study(entry.int("study_id")?)),
            op::SET_STUDY_USER_ATTR => self.set_study_attr(&entry, "user_attr"),
            op::SET_STUDY_SYSTEM_ATTR => self.set_study_attr(&entry, "system_attr"),
            op::CREATE_TRIAL => self.create_trial(&entry),
            op::SET_TRIAL_PARAM => self.set_trial_param(&entry),
            op::SET_TRIAL_STATE_VALUES => self.set_trial_state_values(&entry),
            op::SET_TRIAL_INTERMEDIATE_VALUE => {
                if let Some(step @ Json::BigInt(_)) = entry.optional("step") {
                    self.leave_out_step(&entry, step);
                    return Ok(Effect::Done);
                }
                let (step, value) = (entry.int("step")?, entry.number("intermediate_value")?);
                Ok(self.change(entry.int("trial_id")?, |trial| {
                    trial.intermediate_values.insert(step, value);
                }))
            }
            op::SET_TRIAL_USER_ATTR => {
                let attrs = self.attrs(&entry, "user_attr")?;
                Ok(self.change(entry.int("trial_id")?, |trial| {
                    trial.user_attrs.extend(attrs)
                }))
            }
            op::SET_TRIAL_SYSTEM_ATTR => {
                let attrs = self.attrs(&entry, "system_attr")?;
                Ok(self.change(entry.int("trial_id")?, |trial| {
                    trial.system_attrs.extend(attrs)
                }))
            }
            op::DISCARD_TRIALS => Ok(Effect::Done),
            other => Err(Error::InvalidJson(format!(
                "op_code must be 0 to 10, but got {other}"
            ))),
        }
    }

    /// The study, when its trials can be read.
    pub(super) fn study(&self, id: StudyId) -> Result<&StudyEntry> {
        let study = self.any_study(id)?;
        match &study.damage {
            None => Ok(study),
            Some(damage) => Err(Error::Storage {
                message: format!("study {:?} is damaged: {damage}", study.name),
                source: None,
            }),
        }
    }

    /// The study, damaged or not.
    pub(super) fn any_study(&self, id: StudyId) -> Result<&StudyEntry> {
        self.studies.get(&id).ok_or_else(|| Error::StudyNotFound {
            name: format!("id {id}"),
            hint: String::new(),
        })
    }

    /// The trial and its study, unless that is damaged.
    pub(super) fn slot(&self, id: TrialId) -> Result<&(StudyId, Arc<FrozenTrial>)> {
        let slot = self.any_slot(id)?;
        self.study(slot.0)?;
        Ok(slot)
    }

    fn any_slot(&self, id: TrialId) -> Result<&(StudyId, Arc<FrozenTrial>)> {
        usize::try_from(id)
            .ok()
            .and_then(|index| self.trials.get(index)?.as_ref())
            .ok_or_else(|| Error::TrialNotFound {
                trial: format!("with id {id}"),
            })
    }

    /// The trial, when it may be changed.
    pub(super) fn updatable(&self, id: TrialId) -> Result<&(StudyId, Arc<FrozenTrial>)> {
        let slot = self.any_slot(id)?;
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
        match self.any_study(study_id)?.distributions.get(name) {
            Some(first) => first.check_compatible(name, distribution),
            None => Ok(()),
        }
    }

    /// The attributes of a field. One that cannot be read is left out and named.
    fn attrs(&self, entry: &Entry, field: &str) -> Result<Attrs> {
        let attrs = entry.entries(field)?.iter();
        let attrs = attrs.filter(|(key, value)| {
            let readable = value.depth() <= MAX_DEPTH;
            if !readable {
                log::warn!(
                    "line {} of {}: attribute {key:?} has more than {MAX_DEPTH} levels of nesting; it is left out",
                    entry.1,
                    self.journal
                );
            }
            readable
        });
        Ok(attrs.cloned().collect())
    }

    /// Says that a report is left out: Python has steps of any size.
    fn leave_out_step(&self, entry: &Entry, step: &dyn std::fmt::Display) {
        log::warn!(
            "line {} of {}: the report of step {step} is left out: a step has at most 64 bits",
            entry.1,
            self.journal
        );
    }

    /// A parameter's distribution. One of a kind that Kiln does not know is left out and named: the trial then is as if it
    /// did not have the parameter. A damaged one makes the trials of its study unreadable.
    fn distribution(
        &mut self,
        entry: &Entry,
        study_id: StudyId,
        name: &str,
        text: &str,
    ) -> Option<Distribution> {
        match Distribution::from_stored(text) {
            Ok(distribution) => Some(distribution),
            Err(Unusable::Unknown(error)) => {
                log::warn!(
                    "line {} of {}: parameter {name:?} is left out: {error}",
                    entry.1,
                    self.journal
                );
                None
            }
            Err(Unusable::Damaged(error)) => {
                self.damaged(entry, study_id, name, &error);
                None
            }
        }
    }

    /// Notes that the trials of a study cannot be read.
    fn damaged(&mut self, entry: &Entry, study_id: StudyId, name: &str, error: &Error) {
        let damage = format!(
            "line {} of {}: parameter {name:?}: {error}",
            entry.1, self.journal
        );
        if let Some(study) = self.studies.get_mut(&study_id) {
            study.damage.get_or_insert(damage);
        }
    }

    fn create_study(&mut self, entry: &Entry) -> Result<Effect> {
        let name = entry.text("study_name")?.to_owned();
        let directions = entry
            .array("directions")?
            .iter()
            .map(direction)
            .collect::<Result<Vec<_>>>()?;
        if self.studies.values().any(|study| study.name == name) {
            return Ok(Effect::Skipped);
        }
        let damage = directions
            .is_empty()
            .then(|| format!("line {} of {}: it has no direction", entry.1, self.journal));
        let study = StudyEntry {
            name,
            directions,
            user_attrs: Attrs::new(),
            system_attrs: Attrs::new(),
            trial_ids: Vec::new(),
            waiting: BTreeSet::new(),
            damage,
            distributions: HashMap::new(),
        };
        self.studies.insert(self.next_study, study);
        self.next_study += 1;
        Ok(Effect::Done)
    }

    fn delete_study(&mut self, id: StudyId) -> Effect {
        let Some(study) = self.studies.remove(&id) else {
            return Effect::Skipped;
        };
        for trial_id in study.trial_ids {
            if let Some(slot) = usize::try_from(trial_id)
                .ok()
                .and_then(|index| self.trials.get_mut(index))
            {
                *slot = None;
            }
        }
        Effect::Done
    }

    fn set_study_attr(&mut self, entry: &Entry, field: &str) -> Result<Effect> {
        let attrs = self.attrs(entry, field)?;
        let Some(study) = self.studies.get_mut(&entry.int("study_id")?) else {
            return Ok(Effect::Skipped);
        };
        if field == "user_attr" {
            study.user_attrs.extend(attrs);
        } else {
            study.system_attrs.extend(attrs);
        }
        Ok(Effect::Done)
    }

    fn create_trial(&mut self, entry: &Entry) -> Result<Effect> {
        let study_id = entry.int("study_id")?;
        let id = TrialId::try_from(self.trials.len()).unwrap_or(TrialId::MAX);
        let Some(study) = self.studies.get(&study_id) else {
            return Ok(Effect::Skipped);
        };
        let number = study.trial_ids.len() as u64;
        let mut params = Params::new();
        if let Some(distributions) = entry.optional("distributions") {
            let values = entry.optional("params");
            for (name, text) in distributions.as_object().unwrap_or_default() {
                let text = text.as_str().unwrap_or_default();
                let Some(distribution) = self.distribution(entry, study_id, name, text) else {
                    continue;
                };
                let Some(internal) = values
                    .and_then(|values| values.get(name))
                    .and_then(Json::as_f64)
                else {
                    continue;
                };
                if let Err(error) = distribution.check_stored(internal) {
                    self.damaged(entry, study_id, name, &error);
                }
                let study = self.studies.get_mut(&study_id);
                if let Some((name, distribution)) = study.map(|s| s.share(name, distribution)) {
                    params.insert(name, internal, distribution);
                }
            }
        }
        let mut intermediate_values = BTreeMap::new();
        if let Some(reports) = entry.optional("intermediate_values") {
            for (step, value) in reports.as_object().unwrap_or_default() {
                let Ok(step) = step.parse() else {
                    self.leave_out_step(entry, step);
                    continue;
                };
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
            number,
            state: entry
                .optional("state")
                .map_or(Ok(TrialState::Running), |_| entry.state())?,
            values,
            datetime_start: entry.time("datetime_start")?,
            datetime_complete: entry.time("datetime_complete")?,
            params,
            user_attrs: entry
                .optional("user_attrs")
                .map_or(Ok(Attrs::new()), |_| self.attrs(entry, "user_attrs"))?,
            system_attrs: entry
                .optional("system_attrs")
                .map_or(Ok(Attrs::new()), |_| self.attrs(entry, "system_attrs"))?,
            intermediate_values,
        };
        if let Some(study) = self.studies.get_mut(&study_id) {
            study.trial_ids.push(id);
            if trial.state == TrialState::Waiting {
                study.waiting.insert(id);
            }
        }
        self.trials.push(Some((study_id, Arc::new(trial))));
        Ok(Effect::Created(id))
    }

    fn set_trial_param(&mut self, entry: &Entry) -> Result<Effect> {
        let (name, internal) = (
            entry.text("param_name")?,
            entry.number("param_value_internal")?,
        );
        let (trial_id, text) = (entry.int("trial_id")?, entry.text("distribution")?);
        let Ok((study_id, _)) = self.updatable(trial_id) else {
            return Ok(Effect::Skipped);
        };
        let study_id = *study_id;
        let Some(distribution) = self.distribution(entry, study_id, name, text) else {
            return Ok(Effect::Done);
        };
        if self
            .check_distribution(study_id, name, &distribution)
            .is_err()
        {
            return Ok(Effect::Skipped);
        }
        if let Err(error) = distribution.check_stored(internal) {
            self.damaged(entry, study_id, name, &error);
        }
        let Some(study) = self.studies.get_mut(&study_id) else {
            return Ok(Effect::Skipped);
        };
        let (name, distribution) = study.share(name, distribution);
        Ok(self.change(trial_id, |trial| {
            trial.params.insert(name, internal, distribution)
        }))
    }

    fn set_trial_state_values(&mut self, entry: &Entry) -> Result<Effect> {
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
            return Ok(Effect::Skipped);
        };
        if state == TrialState::Running && trial.state == TrialState::Running {
            // Another worker has taken it.
            return Ok(Effect::Skipped);
        }
        if let Some(study) = self.studies.get_mut(&study_id.clone()) {
            if state == TrialState::Waiting {
                study.waiting.insert(trial_id)
            } else {
                study.waiting.remove(&trial_id)
            };
        }
        Ok(self.change(trial_id, |trial| {
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
        }))
    }

    /// Changes a trial unless it is unknown or finished. Snapshots that were given away stay as they are.
    fn change(&mut self, id: TrialId, change: impl FnOnce(&mut FrozenTrial)) -> Effect {
        if self.updatable(id).is_err() {
            return Effect::Skipped;
        }
        if let Some(Some((_, trial))) = usize::try_from(id)
            .ok()
            .and_then(|index| self.trials.get_mut(index))
        {
            change(Arc::make_mut(trial));
        }
        Effect::Done
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

/// One line of the journal, and its number.
struct Entry(Json, u64);

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

    fn entries(&self, field: &str) -> Result<&[(String, Json)]> {
        self.optional(field)
            .and_then(Json::as_object)
            .ok_or_else(|| self.wrong(field))
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
