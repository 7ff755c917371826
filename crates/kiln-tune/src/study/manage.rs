use std::sync::Arc;

use super::{FrozenStudy, Study, StudyDirection};
use crate::error::Result;
use crate::storage::{Storage, StudyId};
use crate::trial::{Attrs, FrozenTrial, Timestamp};

/// What a list of studies shows of each.
#[derive(Debug, Clone)]
pub struct StudySummary {
    /// The id within the storage.
    pub id: StudyId,
    /// The name.
    pub name: String,
    /// One direction per objective.
    pub directions: Vec<StudyDirection>,
    /// The best trial of a study with one objective; none before a trial is complete and feasible.
    pub best_trial: Option<Arc<FrozenTrial>>,
    /// What the user noted.
    pub user_attrs: Attrs,
    /// What the library noted.
    pub system_attrs: Attrs,
    /// The number of trials in any state.
    pub n_trials: usize,
    /// When the first trial started.
    pub datetime_start: Option<Timestamp>,
    /// Why the study cannot be read, in a damaged storage. What is not known then is empty.
    pub unreadable: Option<String>,
}

/// Loads a study with the default sampler and pruner; [`StudyBuilder::load`](super::StudyBuilder::load) sets others.
///
/// # Errors
/// [`Error::StudyNotFound`](crate::Error::StudyNotFound).
pub fn load_study(name: &str, storage: Arc<dyn Storage>) -> Result<Study> {
    Study::builder().name(name).shared_storage(storage).load()
}

/// Deletes a study with its trials.
///
/// # Errors
/// [`Error::StudyNotFound`](crate::Error::StudyNotFound).
pub fn delete_study(name: &str, storage: &dyn Storage) -> Result<()> {
    storage.delete_study(storage.get_study_id_from_name(name)?)
}

/// Copies a study, with its attributes and all of its trials, to a storage, under a new name if one is given.
///
/// # Errors
/// [`Error::StudyNotFound`](crate::Error::StudyNotFound) and
/// [`Error::DuplicatedStudy`](crate::Error::DuplicatedStudy).
pub fn copy_study(
    from: &str,
    from_storage: &dyn Storage,
    to_storage: &dyn Storage,
    to: Option<&str>,
) -> Result<()> {
    let source = from_storage.get_study_id_from_name(from)?;
    let directions = from_storage.get_study_directions(source)?;
    let target = to_storage.create_study(&directions, Some(to.unwrap_or(from)))?;
    for (key, value) in from_storage.get_study_system_attrs(source)? {
        to_storage.set_study_system_attr(target, &key, &value)?;
    }
    for (key, value) in from_storage.get_study_user_attrs(source)? {
        to_storage.set_study_user_attr(target, &key, &value)?;
    }
    for trial in from_storage.get_all_trials(source, None)? {
        to_storage.create_new_trial(target, Some(&trial))?;
    }
    Ok(())
}

/// The names of all studies, in alphabetical order.
///
/// # Errors
/// When the storage fails.
pub fn get_all_study_names(storage: &dyn Storage) -> Result<Vec<String>> {
    let mut names: Vec<String> = storage
        .get_all_studies()?
        .into_iter()
        .map(|study| study.name)
        .collect();
    names.sort();
    Ok(names)
}

/// What a list of studies shows, in the order of the storage. A study that cannot be read says why in
/// [`unreadable`](StudySummary::unreadable) and does not hide the others.
///
/// # Errors
/// When the storage fails.
pub fn get_all_study_summaries(storage: &Arc<dyn Storage>) -> Result<Vec<StudySummary>> {
    let summary = |frozen: FrozenStudy| {
        let mut summary = StudySummary {
            id: frozen.id,
            name: frozen.name,
            directions: frozen.directions,
            best_trial: None,
            user_attrs: frozen.user_attrs,
            system_attrs: frozen.system_attrs,
            n_trials: 0,
            datetime_start: None,
            unreadable: None,
        };
        if let Err(error) = look(&mut summary, storage) {
            summary.unreadable = Some(error.with_causes());
        }
        summary
    };
    Ok(storage
        .get_all_studies()?
        .into_iter()
        .map(summary)
        .collect())
}

/// Adds what the trials of a study tell.
fn look(summary: &mut StudySummary, storage: &Arc<dyn Storage>) -> Result<()> {
    let study = load_study(&summary.name, storage.clone())?;
    let trials = study.trials()?;
    if !study.is_multi_objective() {
        summary.best_trial = study.best_trial().ok();
    }
    summary.n_trials = trials.len();
    summary.datetime_start = trials.iter().filter_map(|trial| trial.datetime_start).min();
    Ok(())
}
