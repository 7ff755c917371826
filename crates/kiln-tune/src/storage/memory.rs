use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::{Storage, StudyId};
use crate::direction::StudyDirection;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::storage::{FrozenStudy, unused_study_name};
use crate::sync::lock;
use crate::trial::{Attrs, FrozenTrial, Params, TrialId, TrialState, now, same};

/// Studies and trials of this process, gone when it ends. Ids start at 0.
#[derive(Debug, Default)]
pub struct InMemoryStorage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    studies: BTreeMap<StudyId, StudyEntry>,
    /// By id; None when the study was deleted.
    trials: Vec<Option<(StudyId, Arc<FrozenTrial>)>>,
    next_study: StudyId,
}

#[derive(Debug)]
struct StudyEntry {
    name: String,
    directions: Vec<StudyDirection>,
    user_attrs: Attrs,
    system_attrs: Attrs,
    /// By number, so ascending.
    trial_ids: Vec<TrialId>,
    waiting: BTreeSet<TrialId>,
    /// The last distribution of each parameter; new trials share it when it is equal.
    distributions: HashMap<Arc<str>, Arc<Distribution>>,
    /// Of a study with one objective.
    best: Option<TrialId>,
}

impl InMemoryStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    fn study(&self, id: StudyId) -> Result<&StudyEntry> {
        self.studies.get(&id).ok_or_else(|| Error::StudyNotFound {
            name: format!("id {id}"),
            hint: String::new(),
        })
    }

    fn study_mut(&mut self, id: StudyId) -> Result<&mut StudyEntry> {
        self.studies
            .get_mut(&id)
            .ok_or_else(|| Error::StudyNotFound {
                name: format!("id {id}"),
                hint: String::new(),
            })
    }

    fn slot(&self, id: TrialId) -> Result<&(StudyId, Arc<FrozenTrial>)> {
        usize::try_from(id)
            .ok()
            .and_then(|index| self.trials.get(index)?.as_ref())
            .ok_or_else(|| Error::TrialNotFound {
                trial: format!("with id {id}"),
            })
    }

    fn trial(&self, id: TrialId) -> &Arc<FrozenTrial> {
        &self.slot(id).expect("a study lists only existing trials").1
    }

    /// The trial to be changed. Snapshots that are still in use keep the old version.
    fn unfinished_mut(&mut self, id: TrialId) -> Result<(StudyId, &mut FrozenTrial)> {
        let (study_id, trial) = self.slot(id)?;
        if trial.state.is_finished() {
            return Err(Error::UpdateFinishedTrial {
                number: trial.number,
                state: trial.state,
            });
        }
        let study_id = *study_id;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (_, trial) = self.trials[id as usize].as_mut().expect("checked above");
        Ok((study_id, Arc::make_mut(trial)))
    }

    fn note_best(&mut self, study_id: StudyId, id: TrialId) -> Result<()> {
        let trial = self.trial(id);
        let study = self.study(study_id)?;
        let ([direction], TrialState::Complete, Some(value)) =
            (&study.directions[..], trial.state, trial.value())
        else {
            return Ok(());
        };
        let better = study.best.is_none_or(|best| {
            let other = self.trial(best).value().unwrap_or(f64::NAN);
            direction.loss(value) < direction.loss(other)
        });
        if better {
            self.study_mut(study_id)?.best = Some(id);
        }
        Ok(())
    }
}

impl Storage for InMemoryStorage {
    fn create_study(&self, directions: &[StudyDirection], name: Option<&str>) -> Result<StudyId> {
        let state = &mut *lock(&self.state);
        let name = name.map_or_else(unused_study_name, str::to_owned);
        if state.studies.values().any(|study| study.name == name) {
            return Err(Error::DuplicatedStudy { name });
        }
        let id = state.next_study;
        state.next_study += 1;
        let entry = StudyEntry {
            name,
            directions: directions.to_vec(),
            user_attrs: Attrs::new(),
            system_attrs: Attrs::new(),
            trial_ids: Vec::new(),
            waiting: BTreeSet::new(),
            distributions: HashMap::new(),
            best: None,
        };
        state.studies.insert(id, entry);
        Ok(id)
    }

    fn delete_study(&self, study_id: StudyId) -> Result<()> {
        let state = &mut *lock(&self.state);
        state.study(study_id)?;
        if let Some(study) = state.studies.remove(&study_id) {
            for id in study.trial_ids {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                {
                    state.trials[id as usize] = None;
                }
            }
        }
        Ok(())
    }

    fn set_study_user_attr(&self, study_id: StudyId, key: &str, value: &Json) -> Result<()> {
        lock(&self.state)
            .study_mut(study_id)?
            .user_attrs
            .insert(key.to_owned(), value.clone());
        Ok(())
    }

    fn set_study_system_attr(&self, study_id: StudyId, key: &str, value: &Json) -> Result<()> {
        lock(&self.state)
            .study_mut(study_id)?
            .system_attrs
            .insert(key.to_owned(), value.clone());
        Ok(())
    }

    fn get_study_id_from_name(&self, name: &str) -> Result<StudyId> {
        let state = lock(&self.state);
        state
            .studies
            .iter()
            .find(|(_, study)| study.name == name)
            .map(|(id, _)| *id)
            .ok_or_else(|| Error::StudyNotFound {
                name: name.to_owned(),
                hint: String::new(),
            })
    }

    fn get_study_name_from_id(&self, study_id: StudyId) -> Result<String> {
        Ok(lock(&self.state).study(study_id)?.name.clone())
    }

    fn get_study_directions(&self, study_id: StudyId) -> Result<Vec<StudyDirection>> {
        Ok(lock(&self.state).study(study_id)?.directions.clone())
    }

    fn get_study_user_attrs(&self, study_id: StudyId) -> Result<Attrs> {
        Ok(lock(&self.state).study(study_id)?.user_attrs.clone())
    }

    fn get_study_system_attrs(&self, study_id: StudyId) -> Result<Attrs> {
        Ok(lock(&self.state).study(study_id)?.system_attrs.clone())
    }

    fn get_all_studies(&self) -> Result<Vec<FrozenStudy>> {
        let state = lock(&self.state);
        let studies = state.studies.iter().map(|(id, study)| FrozenStudy {
            id: *id,
            name: study.name.clone(),
            directions: study.directions.clone(),
            user_attrs: study.user_attrs.clone(),
            system_attrs: study.system_attrs.clone(),
        });
        Ok(studies.collect())
    }

    fn create_new_trial(
        &self,
        study_id: StudyId,
        template: Option<&FrozenTrial>,
    ) -> Result<Arc<FrozenTrial>> {
        let state = &mut *lock(&self.state);
        let id = TrialId::try_from(state.trials.len()).unwrap_or(TrialId::MAX);
        let study = state.study_mut(study_id)?;
        let number = study.trial_ids.len() as u64;
        let trial = match template {
            Some(template) => FrozenTrial {
                id,
                number,
                ..template.clone()
            },
            None => FrozenTrial {
                id,
                number,
                state: TrialState::Running,
                values: None,
                datetime_start: Some(now()),
                datetime_complete: None,
                params: Params::new(),
                user_attrs: Attrs::new(),
                system_attrs: Attrs::new(),
                intermediate_values: BTreeMap::new(),
            },
        };
        for param in &trial.params {
            if let Some(old) = study.distributions.get(&param.name) {
                old.check_compatible(&param.name, &param.distribution)?;
            }
        }
        for param in &trial.params {
            study
                .distributions
                .insert(param.name.clone(), param.distribution.clone());
        }
        study.trial_ids.push(id);
        if trial.state == TrialState::Waiting {
            study.waiting.insert(id);
        }
        let trial = Arc::new(trial);
        state.trials.push(Some((study_id, trial.clone())));
        state.note_best(study_id, id)?;
        Ok(trial)
    }

    fn set_trial_param(
        &self,
        trial_id: TrialId,
        name: &Arc<str>,
        internal: f64,
        distribution: &Arc<Distribution>,
    ) -> Result<()> {
        let state = &mut *lock(&self.state);
        let study_id = state.slot(trial_id)?.0;
        let study = state.study_mut(study_id)?;
        let distribution = match study.distributions.get(name) {
            Some(old) if same(old, distribution) => old.clone(),
            old => {
                if let Some(old) = old {
                    old.check_compatible(name, distribution)?;
                }
                distribution.clone()
            }
        };
        let (_, trial) = state.unfinished_mut(trial_id)?;
        trial
            .params
            .insert(name.clone(), internal, distribution.clone());
        let study = state.study_mut(study_id)?;
        study.distributions.insert(name.clone(), distribution);
        Ok(())
    }

    fn get_trial_id_from_study_id_trial_number(
        &self,
        study_id: StudyId,
        number: u64,
    ) -> Result<TrialId> {
        let state = lock(&self.state);
        let study = state.study(study_id)?;
        usize::try_from(number)
            .ok()
            .and_then(|number| study.trial_ids.get(number).copied())
            .ok_or_else(|| Error::TrialNotFound {
                trial: format!("{number} of study {:?}", study.name),
            })
    }

    fn set_trial_state_values(
        &self,
        trial_id: TrialId,
        new: TrialState,
        values: Option<&[f64]>,
    ) -> Result<bool> {
        let state = &mut *lock(&self.state);
        let (study_id, trial) = state.unfinished_mut(trial_id)?;
        if new == TrialState::Running && trial.state != TrialState::Waiting {
            return Ok(false);
        }
        trial.state = new;
        if let Some(values) = values {
            trial.values = Some(values.to_vec());
        }
        if new == TrialState::Running {
            trial.datetime_start = Some(now());
        }
        if new.is_finished() {
            trial.datetime_complete = Some(now());
        }
        let study = state.study_mut(study_id)?;
        if new == TrialState::Waiting {
            study.waiting.insert(trial_id);
        } else {
            study.waiting.remove(&trial_id);
        }
        state.note_best(study_id, trial_id)?;
        Ok(true)
    }

    fn set_trial_intermediate_value(&self, trial_id: TrialId, step: i64, value: f64) -> Result<()> {
        lock(&self.state)
            .unfinished_mut(trial_id)?
            .1
            .intermediate_values
            .insert(step, value);
        Ok(())
    }

    fn set_trial_user_attr(&self, trial_id: TrialId, key: &str, value: &Json) -> Result<()> {
        lock(&self.state)
            .unfinished_mut(trial_id)?
            .1
            .user_attrs
            .insert(key.to_owned(), value.clone());
        Ok(())
    }

    fn set_trial_system_attr(&self, trial_id: TrialId, key: &str, value: &Json) -> Result<()> {
        lock(&self.state)
            .unfinished_mut(trial_id)?
            .1
            .system_attrs
            .insert(key.to_owned(), value.clone());
        Ok(())
    }

    fn get_trial(&self, trial_id: TrialId) -> Result<Arc<FrozenTrial>> {
        Ok(lock(&self.state).slot(trial_id)?.1.clone())
    }

    fn read_trials(
        &self,
        study_id: StudyId,
        ids: &[TrialId],
        after: TrialId,
    ) -> Result<Vec<Arc<FrozenTrial>>> {
        let state = lock(&self.state);
        let study = state.study(study_id)?;
        let mut early: Vec<TrialId> = ids.iter().copied().filter(|id| *id <= after).collect();
        early.sort_unstable();
        early.dedup();
        let known = early.into_iter().filter_map(|id| {
            let (owner, trial) = state.slot(id).ok()?;
            (*owner == study_id).then(|| trial.clone())
        });
        let start = study.trial_ids.partition_point(|id| *id <= after);
        Ok(known
            .chain(
                study.trial_ids[start..]
                    .iter()
                    .map(|id| state.trial(*id).clone()),
            )
            .collect())
    }

    fn get_n_trials(&self, study_id: StudyId, states: Option<&[TrialState]>) -> Result<usize> {
        let state = lock(&self.state);
        let study = state.study(study_id)?;
        Ok(match states {
            None => study.trial_ids.len(),
            Some(states) => study
                .trial_ids
                .iter()
                .filter(|id| states.contains(&state.trial(**id).state))
                .count(),
        })
    }

    fn get_best_trial(&self, study_id: StudyId) -> Result<Arc<FrozenTrial>> {
        let state = lock(&self.state);
        let study = state.study(study_id)?;
        if study.directions.len() != 1 {
            return Err(Error::MultiObjective {
                operation: "the best trial",
                n_objectives: study.directions.len(),
                instead: "use the best trials",
            });
        }
        let best = study
            .best
            .ok_or_else(|| Error::NoTrials("no trial is complete yet".to_owned()))?;
        Ok(state.trial(best).clone())
    }

    fn get_waiting_trial_ids(&self, study_id: StudyId) -> Result<Vec<TrialId>> {
        Ok(lock(&self.state)
            .study(study_id)?
            .waiting
            .iter()
            .copied()
            .collect())
    }
}
