//! An optimization: its objective's directions, its trials, and how new ones are chosen.

mod ask_tell;
mod builder;
mod duplicates;
mod manage;
mod optimize;
mod outcome;
#[cfg(feature = "progress")]
mod progress;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub use ask_tell::{TellOptions, TrialRef};
pub use builder::StudyBuilder;
pub use duplicates::MAX_DUPLICATES;
pub use manage::{
    StudySummary, copy_study, delete_study, get_all_study_names, get_all_study_summaries,
    load_study,
};
pub use optimize::{Budget, max_trials_callback};
pub use outcome::Outcome;

pub use crate::direction::StudyDirection;
pub use crate::storage::{FrozenStudy, random_uuid, unused_study_name};

use crate::context::Context;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::pruner::Pruner;
use crate::sampler::Sampler;
use crate::search_space::SearchSpace;
use crate::storage::{Storage, StudyId};
use crate::sync::lock;
use crate::trial::{Attrs, FrozenTrial, Params, TrialId, TrialState};

/// The study system attribute with the names of the objectives.
pub(crate) const METRIC_NAMES_KEY: &str = "study:metric_names";

/// A study: trials of one objective, a sampler that chooses their parameters, a pruner that stops bad ones early, and
/// a storage that keeps them. Clones are handles to the same study.
///
/// ```
/// use kiln_tune::Study;
///
/// let study = Study::builder().create()?;
/// study.optimize(
///     |trial| {
///         let x = trial.suggest_float("x", -10.0, 10.0)?;
///         Ok::<_, kiln_tune::Error>((x - 2.0).powi(2))
///     },
///     100,
/// )?;
/// assert!(study.best_value()? < 1.0);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Clone)]
pub struct Study {
    inner: Arc<Inner>,
}

struct Inner {
    context: Context,
    sampler: Arc<dyn Sampler>,
    pruner: Arc<dyn Pruner>,
    /// Names and distributions as last suggested, so that trials share them.
    interned: Mutex<HashMap<Arc<str>, Arc<Distribution>>>,
}

impl std::fmt::Debug for Study {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Study")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Study {
    /// Starts to describe a study that is to be created.
    #[must_use]
    pub fn builder() -> StudyBuilder {
        StudyBuilder::new()
    }

    fn open(
        id: StudyId,
        storage: Arc<dyn Storage>,
        sampler: Arc<dyn Sampler>,
        pruner: Arc<dyn Pruner>,
    ) -> Result<Self> {
        let inner = Inner {
            context: Context::open(id, storage)?,
            sampler,
            pruner,
            interned: Mutex::new(HashMap::new()),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What samplers and pruners see of the study: all but themselves.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.inner.context
    }

    /// The id within the storage.
    #[must_use]
    pub fn id(&self) -> StudyId {
        self.context().id()
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.context().name()
    }

    /// The direction of the only objective, or of the first one.
    #[must_use]
    pub fn direction(&self) -> StudyDirection {
        self.context().direction()
    }

    /// The directions of all objectives.
    #[must_use]
    pub fn directions(&self) -> &[StudyDirection] {
        self.context().directions()
    }

    /// Whether there are several objectives.
    #[must_use]
    pub fn is_multi_objective(&self) -> bool {
        self.context().is_multi_objective()
    }

    /// The storage.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        self.context().storage()
    }

    /// The storage, to be shared with another study.
    #[must_use]
    pub fn shared_storage(&self) -> Arc<dyn Storage> {
        self.context().shared_storage().clone()
    }

    /// The sampler.
    #[must_use]
    pub fn sampler(&self) -> &dyn Sampler {
        &*self.inner.sampler
    }

    /// The pruner.
    #[must_use]
    pub fn pruner(&self) -> &dyn Pruner {
        &*self.inner.pruner
    }

    /// All trials, ordered by number. They are shared snapshots; nothing is copied.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn trials(&self) -> Result<Vec<Arc<FrozenTrial>>> {
        self.context().trials()
    }

    /// The trials in these states, ordered by number.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn trials_in(&self, states: &[TrialState]) -> Result<Vec<Arc<FrozenTrial>>> {
        self.context().trials_in(states)
    }

    /// Shows all trials to `look` without copying even the pointers. `look` must not call back into this study, whose
    /// lock it holds.
    pub(crate) fn with_trials<T>(&self, look: impl FnOnce(&[Arc<FrozenTrial>]) -> T) -> Result<T> {
        self.context().with_trials(look)
    }

    /// The best trial of a study with one objective. A trial that violates a constraint is not taken.
    ///
    /// # Errors
    /// [`Error::NoTrials`] when no complete trial is feasible, [`Error::MultiObjective`].
    pub fn best_trial(&self) -> Result<Arc<FrozenTrial>> {
        self.context().best_trial()
    }

    /// The value of the best trial.
    ///
    /// # Errors
    /// As [`best_trial`](Self::best_trial).
    pub fn best_value(&self) -> Result<f64> {
        let trial = self.best_trial()?;
        trial.value().ok_or_else(|| {
            Error::NoTrials(format!("the best trial, {}, has no value", trial.number))
        })
    }

    /// The parameters of the best trial.
    ///
    /// # Errors
    /// As [`best_trial`](Self::best_trial).
    pub fn best_params(&self) -> Result<Params> {
        Ok(self.best_trial()?.params.clone())
    }

    /// The parameters of the best trial as a typed search space.
    ///
    /// # Errors
    /// As [`best_trial`](Self::best_trial) and [`Params::to_space`].
    pub fn best_params_as<T: SearchSpace>(&self) -> Result<T> {
        self.best_trial()?.params.to_space()
    }

    /// The Pareto front: complete trials which no other one dominates, ordered by number. When any trial has
    /// constraints, only feasible ones count.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn best_trials(&self) -> Result<Vec<Arc<FrozenTrial>>> {
        let mut trials = self.trials()?;
        let constrained = trials.iter().any(|trial| trial.violation().is_some());
        trials.retain(|trial| {
            trial.state == TrialState::Complete && (!constrained || trial.is_feasible())
        });
        Ok(crate::multi_objective::pareto_front_trials(
            &trials,
            self.directions(),
        ))
    }

    /// The user attributes.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn user_attrs(&self) -> Result<Attrs> {
        self.storage().get_study_user_attrs(self.id())
    }

    /// The attributes of samplers and other parts of the library.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn system_attrs(&self) -> Result<Attrs> {
        self.context().system_attrs()
    }

    /// Notes a user attribute.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn set_user_attr(&self, key: &str, value: impl Into<Json>) -> Result<()> {
        self.storage()
            .set_study_user_attr(self.id(), key, &value.into())
    }

    /// Names the objectives, for tables and plots.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is not one name per objective.
    pub fn set_metric_names<S: AsRef<str>>(&self, names: &[S]) -> Result<()> {
        if names.len() != self.directions().len() {
            return Err(Error::invalid(format!(
                "one metric name per objective is needed: got {} names for {} objectives",
                names.len(),
                self.directions().len()
            )));
        }
        let names: Json = names.iter().map(AsRef::as_ref).collect();
        self.storage()
            .set_study_system_attr(self.id(), METRIC_NAMES_KEY, &names)
    }

    /// The names of the objectives, if they were given.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn metric_names(&self) -> Result<Option<Vec<String>>> {
        let attrs = self.system_attrs()?;
        let names = attrs.get(METRIC_NAMES_KEY).and_then(Json::as_array);
        Ok(names.map(|names| {
            names
                .iter()
                .filter_map(Json::as_str)
                .map(str::to_owned)
                .collect()
        }))
    }

    pub(crate) fn require_single(
        &self,
        operation: &'static str,
        instead: &'static str,
    ) -> Result<()> {
        self.context().require_single(operation, instead)
    }

    /// Shared copies of a name and a distribution.
    pub(crate) fn intern(
        &self,
        name: &str,
        distribution: Distribution,
    ) -> (Arc<str>, Arc<Distribution>) {
        let mut interned = lock(&self.inner.interned);
        if let Some((name, known)) = interned.get_key_value(name) {
            if **known == distribution {
                return (name.clone(), known.clone());
            }
            let name = name.clone();
            let distribution = Arc::new(distribution);
            interned.insert(name.clone(), distribution.clone());
            return (name, distribution);
        }
        let (name, distribution): (Arc<str>, _) = (name.into(), Arc::new(distribution));
        interned.insert(name.clone(), distribution.clone());
        (name, distribution)
    }

    pub(crate) fn create_trial_record(&self, template: &FrozenTrial) -> Result<TrialId> {
        self.context().create_trial_record(template)
    }
}

/// A file or folder name for a study, which no other study shares: the name itself if every file system can have it,
/// otherwise without what it cannot have, and with some digits of the name's hash.
///
/// Letters, digits, `-`, `_` and `.` are kept; a name does not begin with a dot, and has 80 characters (160 bytes) at most
/// before the digits. Names that differ only in upper and lower case share a file where the file system does not tell them apart.
///
/// ```
/// use kiln_tune::study::file_name;
///
/// assert_eq!(file_name("first"), "first");
/// assert_eq!(file_name("a/b"), "a_b-c14cddc033f6");
/// assert_ne!(file_name("a/b"), file_name("a\\b"));
/// ```
#[must_use]
pub fn file_name(study: &str) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write as _;
    let mut bytes = 0;
    let within = |c: &char| {
        bytes += c.len_utf8();
        bytes <= 160
    };
    let cut: String = study.chars().take(80).take_while(within).collect();
    let mut name = cut.replace(|c: char| !(c.is_alphanumeric() || "-_.".contains(c)), "_");
    name = name.trim_start_matches('.').to_owned();
    if name != study || name.is_empty() {
        name.push('-');
        for byte in &Sha256::digest(study.as_bytes())[..6] {
            write!(name, "{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    name
}
