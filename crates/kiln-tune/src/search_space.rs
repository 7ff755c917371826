//! Which parameters can be sampled together, found from the trials so far.

use std::sync::{Arc, Mutex};

use crate::error::Result;
use crate::storage::TrialCache;
use crate::study::Study;
use crate::sync::lock;
use crate::trial::{FrozenTrial, ParamSpace, Params, TrialState, same};

/// The parameters which all finished trials have in common, with equal distributions, sorted by name.
///
/// Each trial is looked at once: what one of them lacks never comes back.
///
/// ```
/// use kiln_tune::Study;
/// use kiln_tune::search_space::IntersectionSearchSpace;
///
/// let study = Study::builder().create()?;
/// study.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), 3)?;
/// let space = IntersectionSearchSpace::new(false).calculate(&study)?;
/// assert!(space.contains("x"));
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug)]
pub struct IntersectionSearchSpace {
    include_pruned: bool,
    state: Mutex<Option<(TrialCache, Option<ParamSpace>)>>,
}

impl IntersectionSearchSpace {
    /// Over complete trials, and over pruned ones if asked for.
    #[must_use]
    pub fn new(include_pruned: bool) -> Self {
        Self {
            include_pruned,
            state: Mutex::new(None),
        }
    }

    /// The intersection as of now; empty without any trial.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn calculate(&self, study: &Study) -> Result<ParamSpace> {
        let mut state = lock(&self.state);
        if state.as_ref().is_some_and(|(cache, _)| !cache.is_of(study)) {
            *state = None;
        }
        let (cache, space) = state.get_or_insert_with(|| (TrialCache::of(study), None));
        for position in cache.sync(study.storage())? {
            let trial = &cache.trials()[position];
            if counts(trial, self.include_pruned) {
                narrow(space, &trial.params);
            }
        }
        Ok(space.clone().unwrap_or_default())
    }
}

/// The intersection of some trials, in one go.
#[must_use]
pub fn intersection_search_space(trials: &[Arc<FrozenTrial>], include_pruned: bool) -> ParamSpace {
    let mut space = None;
    for trial in trials.iter().filter(|trial| counts(trial, include_pruned)) {
        narrow(&mut space, &trial.params);
    }
    space.unwrap_or_default()
}

fn counts(trial: &FrozenTrial, include_pruned: bool) -> bool {
    trial.state == TrialState::Complete || (include_pruned && trial.state == TrialState::Pruned)
}

pub(crate) fn narrow(space: &mut Option<ParamSpace>, params: &Params) {
    match space {
        Some(space) => space.retain_shared(|name, distribution| {
            params
                .get(name)
                .is_some_and(|param| same(&param.distribution, distribution))
        }),
        None => {
            let mut all: ParamSpace = params
                .iter()
                .map(|param| (param.name.clone(), param.distribution.clone()))
                .collect();
            all.sort();
            *space = Some(all);
        }
    }
}

/// Parameters split into groups which always occur together, so that each group can be sampled jointly even when the
/// search space is conditional.
#[derive(Debug, Clone, Default)]
pub struct SearchSpaceGroup {
    groups: Vec<ParamSpace>,
}

impl SearchSpaceGroup {
    /// No group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The groups; every name is in exactly one.
    #[must_use]
    pub fn groups(&self) -> &[ParamSpace] {
        &self.groups
    }

    /// Splits the groups by the parameters of one more trial, and adds those which are new.
    pub fn add(&mut self, params: &Params) {
        let mut rest: Vec<_> = params.iter().collect();
        let mut next = Vec::with_capacity(self.groups.len() + 1);
        for group in &self.groups {
            let (mut shared, mut other) = (group.clone(), group.clone());
            shared.retain(|name, _| params.contains(name));
            other.retain(|name, _| !params.contains(name));
            rest.retain(|param| !group.contains(&param.name));
            next.extend([shared, other]);
        }
        next.push(
            rest.into_iter()
                .map(|param| (param.name.clone(), param.distribution.clone()))
                .collect(),
        );
        next.retain(|group| !group.is_empty());
        self.groups = next;
    }
}
