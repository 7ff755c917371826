//! What a sampler, a pruner and a callback of a storage see of a study.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::direction::StudyDirection;
use crate::error::{Error, Result};
use crate::storage::{Storage, StudyId, TrialCache, best_of};
use crate::sync::lock;
use crate::trial::{Attrs, FrozenTrial, TrialId, TrialState};

/// A study without its sampler and its pruner: its directions, its trials and its storage. Samplers and pruners get it,
/// and callbacks for stale trials.
///
/// A [`Study`](crate::Study) has its own as [`Study::context`](crate::Study::context).
///
/// ```
/// use kiln_tune::Study;
///
/// let study = Study::builder().name("first").create()?;
/// study.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), 3)?;
/// let context = study.context();
/// assert_eq!((context.name(), context.trials()?.len()), ("first", 3));
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct Context {
    id: StudyId,
    name: String,
    directions: Vec<StudyDirection>,
    storage: Arc<dyn Storage>,
    cache: Mutex<TrialCache>,
    stop: AtomicBool,
    /// How many calls of `optimize` are in progress.
    optimizing: AtomicUsize,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// The context of a study that the storage holds.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`], and [`Error::Storage`] when the study has no direction.
    pub(crate) fn open(id: StudyId, storage: Arc<dyn Storage>) -> Result<Self> {
        let name = storage.get_study_name_from_id(id)?;
        let directions = storage.get_study_directions(id)?;
        if directions.is_empty() {
            return Err(Error::Storage {
                message: format!("study {name:?} has no direction; the storage is damaged"),
                source: None,
            });
        }
        Ok(Self {
            id,
            name,
            directions,
            storage,
            cache: Mutex::new(TrialCache::new(id)),
            stop: AtomicBool::new(false),
            optimizing: AtomicUsize::new(0),
        })
    }

    /// The id within the storage.
    #[must_use]
    pub fn id(&self) -> StudyId {
        self.id
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The direction of the only objective, or of the first one.
    #[must_use]
    pub fn direction(&self) -> StudyDirection {
        self.directions[0]
    }

    /// The directions of all objectives.
    #[must_use]
    pub fn directions(&self) -> &[StudyDirection] {
        &self.directions
    }

    /// Whether there are several objectives.
    #[must_use]
    pub fn is_multi_objective(&self) -> bool {
        self.directions.len() > 1
    }

    /// The storage; system attributes of trials and of the study are written through it.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(crate) fn shared_storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The storage, for what outlives the study and must not take a later storage at the same address for it.
    pub(crate) fn weak_storage(&self) -> Weak<dyn Storage> {
        Arc::downgrade(&self.storage)
    }

    /// All trials, ordered by number. They are shared snapshots; nothing is copied.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn trials(&self) -> Result<Vec<Arc<FrozenTrial>>> {
        self.with_trials(<[_]>::to_vec)
    }

    /// The trials in these states, ordered by number.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn trials_in(&self, states: &[TrialState]) -> Result<Vec<Arc<FrozenTrial>>> {
        self.with_trials(|trials| {
            trials
                .iter()
                .filter(|trial| states.contains(&trial.state))
                .cloned()
                .collect()
        })
    }

    /// Shows all trials to `look` without copying even the pointers. `look` must not call back into this context, whose
    /// lock it holds.
    pub(crate) fn with_trials<T>(&self, look: impl FnOnce(&[Arc<FrozenTrial>]) -> T) -> Result<T> {
        let mut cache = lock(&self.cache);
        cache.sync(self.storage())?;
        Ok(look(cache.trials()))
    }

    /// The best trial of a study with one objective. A trial that violates a constraint is not taken.
    ///
    /// # Errors
    /// [`Error::NoTrials`] when no complete trial is feasible, [`Error::MultiObjective`].
    pub fn best_trial(&self) -> Result<Arc<FrozenTrial>> {
        self.require_single("best_trial", "use best_trials")?;
        let best = self.storage().get_best_trial(self.id())?;
        if best.is_feasible() {
            return Ok(best);
        }
        let mut complete = self.trials_in(&[TrialState::Complete])?;
        complete.retain(|trial| trial.is_feasible());
        best_of(&complete, self.direction())
            .cloned()
            .ok_or_else(|| {
                Error::NoTrials(
                    "no complete trial is feasible: all of them violate a constraint".to_owned(),
                )
            })
    }

    /// The attributes of samplers and other parts of the library.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn system_attrs(&self) -> Result<Attrs> {
        self.storage().get_study_system_attrs(self.id())
    }

    /// Adds a trial, such as a copy of a stale one that waits to be tried again.
    ///
    /// # Errors
    /// As [`FrozenTrial::validate`], [`Error::InvalidTell`] when a complete trial has a wrong number of values, and
    /// errors of the storage.
    pub fn add_trial(&self, trial: &FrozenTrial) -> Result<()> {
        trial.validate()?;
        if let Some(values) = &trial.values
            && values.len() != self.directions().len()
        {
            return Err(Error::InvalidTell(format!(
                "the number of values ({}) is not the number of objectives ({})",
                values.len(),
                self.directions().len()
            )));
        }
        self.create_trial_record(trial).map(|_| ())
    }

    pub(crate) fn create_trial_record(&self, template: &FrozenTrial) -> Result<TrialId> {
        Ok(self
            .storage()
            .create_new_trial(self.id(), Some(template))?
            .id)
    }

    pub(crate) fn require_single(
        &self,
        operation: &'static str,
        instead: &'static str,
    ) -> Result<()> {
        match self.directions().len() {
            1 => Ok(()),
            n_objectives => Err(Error::MultiObjective {
                operation,
                n_objectives,
                instead,
            }),
        }
    }

    /// Ends [`Study::optimize`](crate::Study::optimize) after the trials that run, if it is in progress. Samplers call
    /// this when there is nothing left to try; with ask and tell it is for the user to notice.
    pub fn request_stop(&self) {
        if self.is_optimizing() {
            self.stop();
        }
    }

    pub(crate) fn is_optimizing(&self) -> bool {
        self.optimizing.load(Ordering::SeqCst) > 0
    }

    /// Whether this call has stopped it, and no earlier one.
    pub(crate) fn stop(&self) -> bool {
        !self.stop.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Counts a call of `optimize`; the first one forgets an earlier stop.
    pub(crate) fn begin_optimizing(&self) {
        if self.optimizing.fetch_add(1, Ordering::SeqCst) == 0 {
            self.stop.store(false, Ordering::SeqCst);
        }
    }

    pub(crate) fn end_optimizing(&self) {
        self.optimizing.fetch_sub(1, Ordering::SeqCst);
    }
}
