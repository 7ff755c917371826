use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::{Storage, StudyId};
use crate::context::Context;
use crate::error::Result;
use crate::trial::{FrozenTrial, TrialId};

/// The trials of one study, kept up with its storage by reading only what can have changed: trials that were not
/// finished when last seen, and new ones.
///
/// ```
/// use kiln_tune::storage::TrialCache;
/// use kiln_tune::Study;
///
/// let study = Study::builder().create()?;
/// let mut cache = TrialCache::new(study.id());
/// study.tell(study.ask()?, 1.0)?;
/// assert_eq!(cache.sync(study.storage())?, [0]);
/// assert!(cache.sync(study.storage())?.is_empty());
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug)]
pub struct TrialCache {
    study_id: StudyId,
    /// Which storage the study is in, if it is known.
    storage: Option<Weak<dyn Storage>>,
    /// Ordered by number.
    trials: Vec<Arc<FrozenTrial>>,
    positions: HashMap<TrialId, usize>,
    unfinished: Vec<TrialId>,
    last_finished: TrialId,
}

impl TrialCache {
    /// An empty cache of a study.
    #[must_use]
    pub fn new(study_id: StudyId) -> Self {
        Self {
            study_id,
            storage: None,
            trials: Vec::new(),
            positions: HashMap::new(),
            unfinished: Vec::new(),
            last_finished: TrialId::MIN,
        }
    }

    /// An empty cache of a study, which knows its storage too; see [`is_of`](Self::is_of).
    #[must_use]
    pub fn of(study: &Context) -> Self {
        Self {
            storage: Some(study.weak_storage()),
            ..Self::new(study.id())
        }
    }

    /// Whether this was made [`of`](Self::of) the same study in the same storage. A sampler which may be used for
    /// several studies asks this before it goes on with its cache.
    #[must_use]
    pub fn is_of(&self, study: &Context) -> bool {
        let is_same = |storage: &Weak<dyn Storage>| {
            std::ptr::addr_eq(storage.as_ptr(), study.weak_storage().as_ptr())
        };
        self.study_id == study.id() && self.storage.as_ref().is_some_and(is_same)
    }

    /// The study whose trials these are.
    #[must_use]
    pub fn study_id(&self) -> StudyId {
        self.study_id
    }

    /// The trials as of the last [`sync`](Self::sync), ordered by number.
    #[must_use]
    pub fn trials(&self) -> &[Arc<FrozenTrial>] {
        &self.trials
    }

    /// Reads the news and returns the positions in [`trials`](Self::trials) that are new or have changed, ascending.
    ///
    /// # Errors
    /// When the storage fails; the cache is then as it was.
    pub fn sync(&mut self, storage: &dyn Storage) -> Result<Vec<usize>> {
        let news = storage.read_trials(self.study_id, &self.unfinished, self.last_finished)?;
        let mut changed = Vec::with_capacity(news.len());
        self.unfinished.clear();
        for trial in news {
            let id = trial.id;
            if trial.state.is_finished() {
                self.last_finished = self.last_finished.max(id);
            } else {
                self.unfinished.push(id);
            }
            match self.positions.get(&id) {
                Some(&at) => {
                    // A storage in memory gives the same pointer for a trial that was not touched.
                    if !Arc::ptr_eq(&self.trials[at], &trial) {
                        self.trials[at] = trial;
                        changed.push(at);
                    }
                }
                None => {
                    self.positions.insert(id, self.trials.len());
                    changed.push(self.trials.len());
                    self.trials.push(trial);
                }
            }
        }
        // Trials after the last finished one are read again with `after`.
        let last = self.last_finished;
        self.unfinished.retain(|id| *id < last);
        changed.sort_unstable();
        Ok(changed)
    }
}
