//! Studies in one append-only text file, in the format of Optuna's `JournalStorage`.

mod file;
mod replay;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chrono::SecondsFormat;
use file::JournalFile;
use replay::{Effect, Replay, op};

use super::{Storage, StudyId, best_of};
use crate::direction::StudyDirection;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::storage::{FrozenStudy, random_uuid, unused_study_name};
use crate::sync::lock;
use crate::trial::{Attrs, FrozenTrial, Timestamp, TrialId, TrialState, now};

/// Studies and trials in a journal file, shared with every worker that opens the same file, be it Kiln or Optuna
/// (`JournalStorage(JournalFileBackend(path))`).
///
/// Each operation is one line; the state is what replaying them gives. It needs no server and no database, and its lock
/// (a link beside the file) works over network file systems, which SQLite does not. Every write waits for the disk, and
/// opening reads the whole file. There is no heartbeat.
///
/// ```
/// use kiln_tune::{Study, storage::JournalStorage};
///
/// # let directory = std::env::temp_dir().join(format!("kiln-tune-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory).unwrap();
/// # let path = directory.join("study.log");
/// let storage = JournalStorage::open(&path)?;
/// let study = Study::builder().name("parabola").storage(storage).create()?;
/// study.optimize(|trial: &mut kiln_tune::Trial| Ok::<_, kiln_tune::Error>(trial.suggest_float("x", -1.0, 1.0)?.powi(2)), 3)?;
///
/// let again = JournalStorage::open(&path)?;
/// assert_eq!(kiln_tune::Storage::get_all_studies(&again)?[0].name, "parabola");
/// # std::fs::remove_dir_all(&directory).unwrap();
/// # Ok::<(), kiln_tune::Error>(())
/// ```
///
/// What cannot be read of an entry that another program wrote, such as an attribute nested deeper than 200 levels, is left
/// out with a warning that names the line. A value that contradicts its own distribution makes its study unreadable, and
/// no other; a line that is no entry at all makes the journal so.
pub struct JournalStorage {
    state: Mutex<State>,
    path: PathBuf,
    worker: String,
}

/// How often a write is decided anew before it is given up.
const MAX_DECISIONS: usize = 20;

struct State {
    file: JournalFile,
    replay: Replay,
}

impl State {
    fn sync(&mut self) -> Result<()> {
        self.sync_until(None).map(drop)
    }

    /// Reads what is new, and returns what became of our own line if it is there.
    fn sync_until(&mut self, own: Option<&str>) -> Result<Option<Effect>> {
        let Self { file, replay } = self;
        let mut effect = None;
        file.read(|number, line| {
            let done = replay.apply(number, line)?;
            // Others write under names of their own, so the first of these is ours.
            if effect.is_none() && own == Some(line.trim()) {
                effect = Some(done);
            }
            Ok(())
        })?;
        Ok(effect)
    }
}

impl JournalStorage {
    /// Opens a journal, which is made when it is missing.
    ///
    /// # Errors
    /// [`Error::Storage`] when the file cannot be read or is not a journal.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), true)
    }

    /// Opens a journal that exists.
    ///
    /// # Errors
    /// [`Error::Storage`] when the file is missing, cannot be read or is not a journal.
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), false)
    }

    fn open_with(path: &Path, create: bool) -> Result<Self> {
        let file = JournalFile::open(path, create)?;
        let path = file.path().to_owned();
        let mut state = State {
            file,
            replay: Replay::new(&path),
        };
        state.sync()?;
        Ok(Self {
            state: Mutex::new(state),
            path,
            worker: random_uuid(),
        })
    }

    /// Gives the present state to `look`.
    fn read<T>(&self, look: impl FnOnce(&Replay) -> Result<T>) -> Result<T> {
        let mut state = lock(&self.state);
        state.sync()?;
        look(&state.replay)
    }

    /// Under the lock of the file: `decide` looks at the present state and says what to append, or None for nothing, and
    /// what to answer. It decides again when others have written in spite of the lock, which happens to a process that was
    /// stopped for so long that it was taken for dead; what is appended is therefore never refused by a reader.
    fn write<T>(
        &self,
        decide: impl Fn(&Replay) -> Result<(Option<(i64, Vec<(&'static str, Json)>)>, T)>,
    ) -> Result<(T, Effect)> {
        let mut state = lock(&self.state);
        for _ in 0..MAX_DECISIONS {
            let held = state.file.lock()?;
            state.sync()?;
            let (entry, answer) = decide(&state.replay)?;
            let Some((code, fields)) = entry else {
                return Ok((answer, Effect::Done));
            };
            let mut object = vec![
                ("op_code".to_owned(), Json::Int(code)),
                ("worker_id".to_owned(), Json::Str(self.worker_id())),
            ];
            object.extend(
                fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value)),
            );
            let line = Json::Object(object).to_compact();
            if !state.file.append(&held, &line)? {
                continue;
            }
            match state.sync_until(Some(&line))? {
                Some(Effect::Skipped) | None => {}
                Some(effect) => return Ok((answer, effect)),
            }
        }
        Err(Error::Storage {
            message: format!(
                "cannot write to the journal {}: its lock was taken away {MAX_DECISIONS} times",
                self.path.display()
            ),
            source: None,
        })
    }

    /// As Optuna's: one per thread.
    fn worker_id(&self) -> String {
        let thread: String = format!("{:?}", std::thread::current().id())
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        format!("{}-{thread}", self.worker)
    }

    fn set_study_attr(
        &self,
        code: i64,
        field: &'static str,
        study_id: StudyId,
        key: &str,
        value: &Json,
    ) -> Result<()> {
        self.write(|replay| {
            replay.study(study_id)?;
            Ok((
                Some((
                    code,
                    vec![("study_id", Json::Int(study_id)), (field, pair(key, value))],
                )),
                (),
            ))
        })
        .map(drop)
    }

    fn set_trial_attr(
        &self,
        code: i64,
        field: &'static str,
        trial_id: TrialId,
        key: &str,
        value: &Json,
    ) -> Result<()> {
        self.write(|replay| {
            replay.updatable(trial_id)?;
            Ok((
                Some((
                    code,
                    vec![("trial_id", Json::Int(trial_id)), (field, pair(key, value))],
                )),
                (),
            ))
        })
        .map(drop)
    }
}

impl std::fmt::Debug for JournalStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalStorage")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Storage for JournalStorage {
    fn create_study(&self, directions: &[StudyDirection], name: Option<&str>) -> Result<StudyId> {
        let name = name.map_or_else(unused_study_name, str::to_owned);
        self.write(|replay| {
            if replay.studies.values().any(|study| study.name == name) {
                return Err(Error::DuplicatedStudy { name: name.clone() });
            }
            let codes = directions
                .iter()
                .map(|direction| i64::from(direction.code()))
                .collect();
            Ok((
                Some((
                    op::CREATE_STUDY,
                    vec![
                        ("study_name", Json::from(name.as_str())),
                        ("directions", codes),
                    ],
                )),
                (),
            ))
        })?;
        self.get_study_id_from_name(&name)
    }

    fn delete_study(&self, study_id: StudyId) -> Result<()> {
        self.write(|replay| {
            replay.any_study(study_id)?;
            Ok((
                Some((op::DELETE_STUDY, vec![("study_id", Json::Int(study_id))])),
                (),
            ))
        })
        .map(drop)
    }

    fn set_study_user_attr(&self, study_id: StudyId, key: &str, value: &Json) -> Result<()> {
        self.set_study_attr(op::SET_STUDY_USER_ATTR, "user_attr", study_id, key, value)
    }

    fn set_study_system_attr(&self, study_id: StudyId, key: &str, value: &Json) -> Result<()> {
        self.set_study_attr(
            op::SET_STUDY_SYSTEM_ATTR,
            "system_attr",
            study_id,
            key,
            value,
        )
    }

    fn get_study_id_from_name(&self, name: &str) -> Result<StudyId> {
        self.read(|replay| {
            let found = replay.studies.iter().find(|(_, study)| study.name == name);
            found
                .map(|(id, _)| *id)
                .ok_or_else(|| Error::StudyNotFound {
                    name: name.to_owned(),
                    hint: String::new(),
                })
        })
    }

    fn get_study_name_from_id(&self, study_id: StudyId) -> Result<String> {
        self.read(|replay| Ok(replay.any_study(study_id)?.name.clone()))
    }

    fn get_study_directions(&self, study_id: StudyId) -> Result<Vec<StudyDirection>> {
        self.read(|replay| {
            let study = replay.any_study(study_id)?;
            if study.directions.is_empty() {
                // Says in which line of which file.
                replay.study(study_id)?;
            }
            Ok(study.directions.clone())
        })
    }

    fn get_study_user_attrs(&self, study_id: StudyId) -> Result<Attrs> {
        self.read(|replay| Ok(replay.any_study(study_id)?.user_attrs.clone()))
    }

    fn get_study_system_attrs(&self, study_id: StudyId) -> Result<Attrs> {
        self.read(|replay| Ok(replay.any_study(study_id)?.system_attrs.clone()))
    }

    fn get_all_studies(&self) -> Result<Vec<FrozenStudy>> {
        self.read(|replay| {
            let studies = replay.studies.iter().map(|(id, study)| FrozenStudy {
                id: *id,
                name: study.name.clone(),
                directions: study.directions.clone(),
                user_attrs: study.user_attrs.clone(),
                system_attrs: study.system_attrs.clone(),
            });
            Ok(studies.collect())
        })
    }

    fn create_new_trial(
        &self,
        study_id: StudyId,
        template: Option<&FrozenTrial>,
    ) -> Result<Arc<FrozenTrial>> {
        let ((), effect) = self.write(|replay| {
            replay.study(study_id)?;
            if let Some(trial) = template {
                for param in &trial.params {
                    replay.check_distribution(study_id, &param.name, &param.distribution)?;
                }
            }
            let mut fields = vec![("study_id", Json::Int(study_id))];
            match template {
                Some(trial) => fields.extend(template_fields(trial)),
                None => fields.push(("datetime_start", time(now()))),
            }
            Ok((Some((op::CREATE_TRIAL, fields)), ()))
        })?;
        let Effect::Created(id) = effect else {
            unreachable!("an entry that creates a trial and is not skipped does so");
        };
        self.get_trial(id)
    }

    fn set_trial_param(
        &self,
        trial_id: TrialId,
        name: &Arc<str>,
        internal: f64,
        distribution: &Arc<Distribution>,
    ) -> Result<()> {
        self.write(|replay| {
            let (study_id, _) = replay.updatable(trial_id)?;
            replay.check_distribution(*study_id, name, distribution)?;
            #[allow(clippy::cast_possible_truncation)]
            let value = if distribution.is_categorical() {
                Json::Int(internal as i64)
            } else {
                Json::Float(internal)
            };
            let fields = vec![
                ("trial_id", Json::Int(trial_id)),
                ("param_name", Json::from(&**name)),
                ("param_value_internal", value),
                ("distribution", Json::Str(distribution.to_json_text())),
            ];
            Ok((Some((op::SET_TRIAL_PARAM, fields)), ()))
        })
        .map(drop)
    }

    fn get_trial_id_from_study_id_trial_number(
        &self,
        study_id: StudyId,
        number: u64,
    ) -> Result<TrialId> {
        self.read(|replay| {
            let study = replay.study(study_id)?;
            let id = usize::try_from(number)
                .ok()
                .and_then(|number| study.trial_ids.get(number).copied());
            id.ok_or_else(|| Error::TrialNotFound {
                trial: format!("{number} of study {:?}", study.name),
            })
        })
    }

    fn set_trial_state_values(
        &self,
        trial_id: TrialId,
        state: TrialState,
        values: Option<&[f64]>,
    ) -> Result<bool> {
        if values.is_some_and(|values| values.iter().any(|value| value.is_nan())) {
            return Err(Error::invalid("the value of a trial must not be NaN"));
        }
        self.write(|replay| {
            let (_, trial) = replay.updatable(trial_id)?;
            if state == TrialState::Running && trial.state != TrialState::Waiting {
                return Ok((None, false));
            }
            let values = values.map_or(Json::Null, |values| values.iter().copied().collect());
            let mut fields = vec![
                ("trial_id", Json::Int(trial_id)),
                ("state", Json::Int(state.code().into())),
                ("values", values),
            ];
            if state == TrialState::Running {
                fields.push(("datetime_start", time(now())));
            } else if state.is_finished() {
                fields.push(("datetime_complete", time(now())));
            }
            Ok((Some((op::SET_TRIAL_STATE_VALUES, fields)), true))
        })
        .map(|(written, _)| written)
    }

    fn set_trial_intermediate_value(&self, trial_id: TrialId, step: i64, value: f64) -> Result<()> {
        self.write(|replay| {
            replay.updatable(trial_id)?;
            let fields = vec![
                ("trial_id", Json::Int(trial_id)),
                ("step", Json::Int(step)),
                ("intermediate_value", Json::Float(value)),
            ];
            Ok((Some((op::SET_TRIAL_INTERMEDIATE_VALUE, fields)), ()))
        })
        .map(drop)
    }

    fn set_trial_user_attr(&self, trial_id: TrialId, key: &str, value: &Json) -> Result<()> {
        self.set_trial_attr(op::SET_TRIAL_USER_ATTR, "user_attr", trial_id, key, value)
    }

    fn set_trial_system_attr(&self, trial_id: TrialId, key: &str, value: &Json) -> Result<()> {
        self.set_trial_attr(
            op::SET_TRIAL_SYSTEM_ATTR,
            "system_attr",
            trial_id,
            key,
            value,
        )
    }

    fn get_trial(&self, trial_id: TrialId) -> Result<Arc<FrozenTrial>> {
        self.read(|replay| Ok(replay.slot(trial_id)?.1.clone()))
    }

    fn read_trials(
        &self,
        study_id: StudyId,
        ids: &[TrialId],
        after: TrialId,
    ) -> Result<Vec<Arc<FrozenTrial>>> {
        self.read(|replay| {
            let study = replay.study(study_id)?;
            let mut early: Vec<TrialId> = ids.iter().copied().filter(|id| *id <= after).collect();
            early.sort_unstable();
            early.dedup();
            let start = study.trial_ids.partition_point(|id| *id <= after);
            let known = early
                .into_iter()
                .chain(study.trial_ids[start..].iter().copied());
            let trials = known
                .filter_map(|id| replay.slot(id).ok())
                .filter(|(owner, _)| *owner == study_id);
            Ok(trials.map(|(_, trial)| trial.clone()).collect())
        })
    }

    fn get_best_trial(&self, study_id: StudyId) -> Result<Arc<FrozenTrial>> {
        let directions = self.get_study_directions(study_id)?;
        let [direction] = directions[..] else {
            return Err(Error::MultiObjective {
                operation: "the best trial",
                n_objectives: directions.len(),
                instead: "use the best trials",
            });
        };
        let trials = self.get_all_trials(study_id, Some(&[TrialState::Complete]))?;
        best_of(&trials, direction)
            .cloned()
            .ok_or_else(|| Error::NoTrials("no trial is complete yet".to_owned()))
    }

    fn get_waiting_trial_ids(&self, study_id: StudyId) -> Result<Vec<TrialId>> {
        self.read(|replay| Ok(replay.study(study_id)?.waiting.iter().copied().collect()))
    }
}

fn pair(key: &str, value: &Json) -> Json {
    Json::Object(vec![(key.to_owned(), value.clone())])
}

fn time(time: Timestamp) -> Json {
    Json::Str(time.to_rfc3339_opts(SecondsFormat::Micros, false))
}

fn object(attrs: &Attrs) -> Json {
    Json::Object(
        attrs
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    )
}

/// The fields of a trial that is created with content, in Optuna's order.
fn template_fields(trial: &FrozenTrial) -> Vec<(&'static str, Json)> {
    let (value, values) = match trial.values.as_deref() {
        None => (Json::Null, Json::Null),
        Some([value]) => (Json::Float(*value), Json::Null),
        Some(values) => (Json::Null, values.iter().copied().collect()),
    };
    let mut fields = vec![
        (
            "datetime_start",
            trial.datetime_start.map_or(Json::Null, time),
        ),
        ("state", Json::Int(trial.state.code().into())),
        ("value", value),
        ("values", values),
    ];
    if let Some(complete) = trial.datetime_complete {
        fields.push(("datetime_complete", time(complete)));
    }
    let params = trial.params.iter();
    let distributions = params.clone().map(|param| {
        (
            param.name.to_string(),
            Json::Str(param.distribution.to_json_text()),
        )
    });
    let internal = params.map(|param| (param.name.to_string(), Json::Float(param.internal)));
    let reports = trial
        .intermediate_values
        .iter()
        .map(|(step, value)| (step.to_string(), Json::Float(*value)));
    fields.extend([
        ("distributions", Json::Object(distributions.collect())),
        ("params", Json::Object(internal.collect())),
        ("user_attrs", object(&trial.user_attrs)),
        ("system_attrs", object(&trial.system_attrs)),
        ("intermediate_values", Json::Object(reports.collect())),
    ]);
    fields
}
