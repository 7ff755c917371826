//! The parameters that all complete trials of a study share.

use std::sync::Mutex;

use crate::error::Result;
use crate::study::Study;
use crate::sync::lock;
use crate::trial::{FrozenTrial, ParamSpace, TrialState};

/// Follows the intersection of the search spaces of a study's complete trials. Finished trials are
/// looked at once.
#[derive(Debug, Default)]
pub(crate) struct Intersection {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Name and id of the study, so that a sampler may serve several studies in turn.
    study: Option<(String, i64)>,
    /// Number of trials from the first on that are finished and part of `space`.
    finished: usize,
    space: Option<ParamSpace>,
}

impl Intersection {
    /// The common parameters with equal distributions, sorted by name, without single-valued ones.
    pub fn calculate(&self, study: &Study) -> Result<ParamSpace> {
        let mut seen = lock(&self.seen);
        let id = study.id();
        if seen
            .study
            .as_ref()
            .is_none_or(|(name, old)| name != study.name() || *old != id)
        {
            *seen = Seen {
                study: Some((study.name().to_owned(), id)),
                ..Seen::default()
            };
        }
        let mut space = study.with_trials(|trials| {
            while let Some(trial) = trials.get(seen.finished)
                && trial.state.is_finished()
            {
                narrow(&mut seen.space, trial);
                seen.finished += 1;
            }
            let mut space = seen.space.clone();
            for trial in &trials[seen.finished.min(trials.len())..] {
                narrow(&mut space, trial);
            }
            space.unwrap_or_default()
        })?;
        space.retain(|_, distribution| !distribution.is_single());
        space.sort();
        Ok(space)
    }
}

fn narrow(space: &mut Option<ParamSpace>, trial: &FrozenTrial) {
    if trial.state != TrialState::Complete {
        return;
    }
    match space {
        None => {
            *space = Some(
                trial
                    .params
                    .iter()
                    .map(|p| (p.name.clone(), p.distribution.clone()))
                    .collect(),
            );
        }
        Some(space) => {
            let kept: ParamSpace = space
                .iter()
                .filter(|(name, distribution)| {
                    trial
                        .params
                        .get(name)
                        .is_some_and(|p| crate::trial::same(&p.distribution, distribution))
                })
                .cloned()
                .collect();
            if kept.len() != space.len() {
                *space = kept;
            }
        }
    }
}
