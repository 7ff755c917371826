//! Where studies and trials are kept: in memory, in a journal file, or in any other [`Storage`].
//!
//! The crate `kiln-tune-rdb` keeps them in SQLite, PostgreSQL and MySQL, and its `open` takes the URL of any storage.

mod cache;
mod heartbeat;
mod journal;
mod memory;

use std::sync::Arc;

pub use cache::TrialCache;
pub use heartbeat::{Heartbeat, StaleTrialCallback, retry_stale_trial};
pub use journal::JournalStorage;
pub use memory::InMemoryStorage;

use crate::direction::StudyDirection;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::trial::{Attrs, FrozenTrial, TrialId, TrialState};

/// Identifies a study within its storage.
pub type StudyId = i64;

/// A study as a storage knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct FrozenStudy {
    /// The id within the storage.
    pub id: StudyId,
    /// The name.
    pub name: String,
    /// One direction per objective; none when a damaged storage holds none that can be read.
    pub directions: Vec<StudyDirection>,
    /// What the user noted.
    pub user_attrs: Attrs,
    /// What the library noted.
    pub system_attrs: Attrs,
}

/// Keeps studies and trials; what is written is seen by every worker that shares the storage.
///
/// Rules for every implementation (the contract tests check them):
///
/// * Unknown ids are [`Error::StudyNotFound`] and [`Error::TrialNotFound`].
/// * A finished trial never changes: every write to it is [`Error::UpdateFinishedTrial`].
/// * The number of a trial is the count of trials of its study with a smaller id, so ids grow with numbers.
/// * A call either happens as a whole or not at all.
///
/// Trials are handed out as shared snapshots: an `Arc<FrozenTrial>` never changes after it was given.
pub trait Storage: Send + Sync {
    /// Creates a study; without a name it is called `no-name-` and a random UUID.
    ///
    /// # Errors
    /// [`Error::DuplicatedStudy`] when the name is taken.
    fn create_study(&self, directions: &[StudyDirection], name: Option<&str>) -> Result<StudyId>;

    /// Deletes a study with its trials.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn delete_study(&self, study_id: StudyId) -> Result<()>;

    /// Notes a user attribute of a study.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn set_study_user_attr(&self, study_id: StudyId, key: &str, value: &Json) -> Result<()>;

    /// Notes a system attribute of a study.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn set_study_system_attr(&self, study_id: StudyId, key: &str, value: &Json) -> Result<()>;

    /// The id of a study.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn get_study_id_from_name(&self, name: &str) -> Result<StudyId>;

    /// The name of a study.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn get_study_name_from_id(&self, study_id: StudyId) -> Result<String>;

    /// The directions of a study, one per objective.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn get_study_directions(&self, study_id: StudyId) -> Result<Vec<StudyDirection>>;

    /// The user attributes of a study.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn get_study_user_attrs(&self, study_id: StudyId) -> Result<Attrs>;

    /// The system attributes of a study.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn get_study_system_attrs(&self, study_id: StudyId) -> Result<Attrs>;

    /// All studies, ordered by id.
    ///
    /// # Errors
    /// When the storage fails.
    fn get_all_studies(&self) -> Result<Vec<FrozenStudy>>;

    /// Creates a running trial that starts now, or a copy of `template` (all of it but id and number).
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn create_new_trial(
        &self,
        study_id: StudyId,
        template: Option<&FrozenTrial>,
    ) -> Result<Arc<FrozenTrial>>;

    /// Stores a parameter; a name that is stored already is replaced.
    ///
    /// # Errors
    /// [`Error::IncompatibleDistribution`] when another trial of the study has the name with a distribution for which
    /// [`Distribution::check_compatible`] fails.
    fn set_trial_param(
        &self,
        trial_id: TrialId,
        name: &Arc<str>,
        internal: f64,
        distribution: &Arc<Distribution>,
    ) -> Result<()>;

    /// The id of the trial with this number.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`], [`Error::TrialNotFound`].
    fn get_trial_id_from_study_id_trial_number(
        &self,
        study_id: StudyId,
        number: u64,
    ) -> Result<TrialId>;

    /// Writes the state, and the values if given. Starting sets `datetime_start`, finishing `datetime_complete`.
    ///
    /// False, and nothing is written, when the new state is `Running` and the trial is not waiting (any more): another
    /// worker was faster.
    ///
    /// # Errors
    /// [`Error::TrialNotFound`], [`Error::UpdateFinishedTrial`].
    fn set_trial_state_values(
        &self,
        trial_id: TrialId,
        state: TrialState,
        values: Option<&[f64]>,
    ) -> Result<bool>;

    /// Stores an intermediate value; a step that is stored already is replaced.
    ///
    /// # Errors
    /// [`Error::TrialNotFound`], [`Error::UpdateFinishedTrial`].
    fn set_trial_intermediate_value(&self, trial_id: TrialId, step: i64, value: f64) -> Result<()>;

    /// Notes a user attribute of a trial.
    ///
    /// # Errors
    /// [`Error::TrialNotFound`], [`Error::UpdateFinishedTrial`].
    fn set_trial_user_attr(&self, trial_id: TrialId, key: &str, value: &Json) -> Result<()>;

    /// Notes a system attribute of a trial.
    ///
    /// # Errors
    /// [`Error::TrialNotFound`], [`Error::UpdateFinishedTrial`].
    fn set_trial_system_attr(&self, trial_id: TrialId, key: &str, value: &Json) -> Result<()>;

    /// A trial as it is now.
    ///
    /// # Errors
    /// [`Error::TrialNotFound`].
    fn get_trial(&self, trial_id: TrialId) -> Result<Arc<FrozenTrial>>;

    /// The trials of a study whose id is in `ids` or greater than `after`, ordered by number.
    ///
    /// This is how a reader keeps up with a study at a cost that does not grow with the finished trials; see
    /// [`TrialCache`]. Unknown ids are left out.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn read_trials(
        &self,
        study_id: StudyId,
        ids: &[TrialId],
        after: TrialId,
    ) -> Result<Vec<Arc<FrozenTrial>>>;

    /// All trials of a study in these states (in any, when `None`), ordered by number.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn get_all_trials(
        &self,
        study_id: StudyId,
        states: Option<&[TrialState]>,
    ) -> Result<Vec<Arc<FrozenTrial>>> {
        let mut trials = self.read_trials(study_id, &[], TrialId::MIN)?;
        if let Some(states) = states {
            trials.retain(|trial| states.contains(&trial.state));
        }
        Ok(trials)
    }

    /// The number of trials of a study in these states (in any, when `None`).
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn get_n_trials(&self, study_id: StudyId, states: Option<&[TrialState]>) -> Result<usize> {
        Ok(self.get_all_trials(study_id, states)?.len())
    }

    /// The complete trial with the best value of a study with one objective; constraints are not looked at.
    ///
    /// # Errors
    /// [`Error::NoTrials`] when no trial is complete, [`Error::MultiObjective`].
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

    /// The ids of the waiting trials, ordered by number.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`].
    fn get_waiting_trial_ids(&self, study_id: StudyId) -> Result<Vec<TrialId>> {
        let waiting = self.get_all_trials(study_id, Some(&[TrialState::Waiting]))?;
        Ok(waiting.iter().map(|trial| trial.id).collect())
    }

    /// The heartbeat of this storage, if it keeps one.
    fn heartbeat(&self) -> Option<&dyn Heartbeat> {
        None
    }
}

/// The first of the trials with the best value.
pub(crate) fn best_of(
    trials: &[Arc<FrozenTrial>],
    direction: StudyDirection,
) -> Option<&Arc<FrozenTrial>> {
    let mut best: Option<(&Arc<FrozenTrial>, f64)> = None;
    for trial in trials {
        let Some(value) = trial.value().map(|value| direction.loss(value)) else {
            continue;
        };
        if best.is_none_or(|(_, other)| value < other) {
            best = Some((trial, value));
        }
    }
    best.map(|(trial, _)| trial)
}

/// `no-name-` and a random UUID, the name of a study that was given none.
#[must_use]
pub fn unused_study_name() -> String {
    format!("no-name-{}", random_uuid())
}

/// A random UUID (version 4) in its usual text form.
#[must_use]
pub fn random_uuid() -> String {
    let mut rng = crate::rng::Rng::new(None);
    let [a, b, c, d] = [(); 4].map(|()| rng.next_u32());
    let b = (b & 0xffff_0fff) | 0x4000;
    let c = (c & 0x3fff_ffff) | 0x8000_0000;
    format!(
        "{a:08x}-{:04x}-{:04x}-{:04x}-{:04x}{d:08x}",
        b >> 16,
        b & 0xffff,
        c >> 16,
        c & 0xffff
    )
}
