use std::sync::Arc;

use super::{Study, StudyDirection};
use crate::error::{Error, Result};
use crate::pruner::{MedianPruner, Pruner};
use crate::sampler::{Sampler, TpeSampler};
use crate::storage::{InMemoryStorage, Storage};

/// Describes a study.
///
/// | setting | default |
/// |---|---|
/// | `name` | `no-name-` and a random UUID |
/// | `direction` | minimize |
/// | `sampler` | TPE |
/// | `pruner` | median |
/// | `storage` | in memory |
/// | `load_if_exists` | false |
pub struct StudyBuilder {
    name: Option<String>,
    directions: Option<Vec<StudyDirection>>,
    sampler: Option<Arc<dyn Sampler>>,
    pruner: Option<Arc<dyn Pruner>>,
    storage: Option<Arc<dyn Storage>>,
    load_if_exists: bool,
}

impl Default for StudyBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl StudyBuilder {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            name: None,
            directions: None,
            sampler: None,
            pruner: None,
            storage: None,
            load_if_exists: false,
        }
    }

    /// The name, unique within the storage.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The direction of the only objective.
    #[must_use]
    pub fn direction(self, direction: StudyDirection) -> Self {
        self.directions([direction])
    }

    /// Shorthand for `direction(StudyDirection::Maximize)`.
    #[must_use]
    pub fn maximize(self) -> Self {
        self.direction(StudyDirection::Maximize)
    }

    /// The directions of several objectives.
    #[must_use]
    pub fn directions(mut self, directions: impl Into<Vec<StudyDirection>>) -> Self {
        self.directions = Some(directions.into());
        self
    }

    /// The sampler.
    #[must_use]
    pub fn sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.sampler = Some(Arc::new(sampler));
        self
    }

    /// The pruner.
    #[must_use]
    pub fn pruner(mut self, pruner: impl Pruner + 'static) -> Self {
        self.pruner = Some(Arc::new(pruner));
        self
    }

    /// The storage.
    #[must_use]
    pub fn storage(mut self, storage: impl Storage + 'static) -> Self {
        self.storage = Some(Arc::new(storage));
        self
    }

    /// A storage that is used by other studies, too.
    #[must_use]
    pub fn shared_storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Go on with the study of this name when there is one.
    #[must_use]
    pub fn load_if_exists(mut self, load: bool) -> Self {
        self.load_if_exists = load;
        self
    }

    /// Creates the study, or loads it if that was asked for.
    ///
    /// # Errors
    /// [`Error::DuplicatedStudy`] when the name is taken, [`Error::DirectionMismatch`] when directions were given and
    /// the existing study has others, [`Error::InvalidArgument`] without any direction, and errors of the storage.
    pub fn create(self) -> Result<Study> {
        self.check()?;
        let directions = self
            .directions
            .clone()
            .unwrap_or_else(|| vec![StudyDirection::Minimize]);
        if directions.is_empty() {
            return Err(Error::invalid(
                "a study needs at least one direction, but got none",
            ));
        }
        let storage = self
            .storage
            .clone()
            .unwrap_or_else(|| Arc::new(InMemoryStorage::new()));
        match (
            storage.create_study(&directions, self.name.as_deref()),
            &self.name,
        ) {
            (Ok(id), _) => {
                let study = self.open(id, storage)?;
                log::info!(
                    "A new study created in the storage with name: {}",
                    study.name()
                );
                Ok(study)
            }
            (Err(Error::DuplicatedStudy { .. }), Some(name)) if self.load_if_exists => {
                let id = storage.get_study_id_from_name(name)?;
                let existing = storage.get_study_directions(id)?;
                if self
                    .directions
                    .as_ref()
                    .is_some_and(|given| *given != existing)
                {
                    return Err(Error::DirectionMismatch {
                        name: name.clone(),
                        existing: names(&existing),
                        given: names(&directions),
                    });
                }
                log::info!("Using the existing study {name:?} instead of creating a new one");
                self.open(id, storage)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Loads an existing study. Without a name, the storage must hold exactly one.
    ///
    /// # Errors
    /// [`Error::StudyNotFound`], [`Error::InvalidArgument`] when there are several studies and no name.
    pub fn load(self) -> Result<Study> {
        self.check()?;
        let storage = self
            .storage
            .clone()
            .unwrap_or_else(|| Arc::new(InMemoryStorage::new()));
        let id = if let Some(name) = &self.name {
            storage.get_study_id_from_name(name)?
        } else {
            let studies = storage.get_all_studies()?;
            let [study] = &studies[..] else {
                return Err(Error::invalid(format!(
                    "a study can be loaded without a name only when the storage holds exactly one, but it holds {}",
                    studies.len()
                )));
            };
            study.id
        };
        if let Some(given) = &self.directions {
            let existing = storage.get_study_directions(id)?;
            if *given != existing {
                return Err(Error::DirectionMismatch {
                    name: storage.get_study_name_from_id(id)?,
                    existing: names(&existing),
                    given: names(given),
                });
            }
        }
        self.open(id, storage)
    }

    /// Settings are checked before anything is written to the storage.
    fn check(&self) -> Result<()> {
        self.sampler
            .as_ref()
            .map_or(Ok(()), |sampler| sampler.check())?;
        self.pruner.as_ref().map_or(Ok(()), |pruner| pruner.check())
    }

    fn open(self, id: crate::storage::StudyId, storage: Arc<dyn Storage>) -> Result<Study> {
        let sampler = self.sampler.unwrap_or_else(|| Arc::new(TpeSampler::new()));
        let pruner = self.pruner.unwrap_or_else(|| Arc::new(MedianPruner::new()));
        Study::open(id, storage, sampler, pruner)
    }
}

fn names(directions: &[StudyDirection]) -> String {
    let names: Vec<&str> = directions
        .iter()
        .map(|direction| direction.name())
        .collect();
    format!("[{}]", names.join(", "))
}
