//! What TPE knows of a study, kept up trial by trial so that nothing is computed twice.

use std::collections::BTreeSet;

use super::observations::{Observations, Running};
use super::split::Ranking;
use super::{RELATIVE_PARAMS_KEY, Settings};
use crate::context::Context;
use crate::distribution::ParamValue;
use crate::error::Result;
use crate::json::Json;
use crate::parzen::ParzenEstimator;
use crate::search_space::{SearchSpaceGroup, narrow};
use crate::storage::TrialCache;
use crate::trial::{FrozenTrial, ParamSpace, TrialState};

/// Spaces whose observations are kept; a study with more conditional parameters than this rebuilds the oldest.
const MAX_SPACES: usize = 256;

pub(super) struct History {
    cache: TrialCache,
    /// Positions of complete and pruned trials, in the order in which they were noticed.
    finished: Vec<u32>,
    running: BTreeSet<u32>,
    ranking: Ranking,
    intersection: Option<ParamSpace>,
    /// Only with `group`.
    group: Option<SearchSpaceGroup>,
    spaces: Vec<Observations>,
}

impl History {
    pub fn new(study: &Context, group: bool) -> Self {
        Self {
            cache: TrialCache::of(study),
            finished: Vec::new(),
            running: BTreeSet::new(),
            ranking: Ranking::new(study.directions()),
            intersection: None,
            group: group.then(SearchSpaceGroup::new),
            spaces: Vec::new(),
        }
    }

    pub fn is_of(&self, study: &Context) -> bool {
        self.cache.is_of(study)
    }

    /// Takes in what has happened since the last call.
    pub fn update(&mut self, study: &Context) -> Result<()> {
        let changed = self.cache.sync(study.storage())?;
        let trials = self.cache.trials();
        for position in changed {
            let trial = &trials[position];
            #[allow(clippy::cast_possible_truncation)]
            let position = position as u32;
            if trial.state == TrialState::Running {
                self.running.insert(position);
                continue;
            }
            self.running.remove(&position);
            if !matches!(trial.state, TrialState::Complete | TrialState::Pruned) {
                continue;
            }
            self.finished.push(position);
            self.ranking.add(position, trial);
            narrow(&mut self.intersection, &trial.params);
            if let Some(group) = &mut self.group {
                group.add(&trial.params);
            }
        }
        Ok(())
    }

    pub fn n_finished(&self) -> usize {
        self.finished.len()
    }

    pub fn intersection(&self) -> ParamSpace {
        self.intersection.clone().unwrap_or_default()
    }

    /// The groups, each sorted by name.
    pub fn groups(&self) -> Vec<ParamSpace> {
        let groups = self
            .group
            .as_ref()
            .map(SearchSpaceGroup::groups)
            .unwrap_or_default();
        let mut groups = groups.to_vec();
        groups.iter_mut().for_each(ParamSpace::sort);
        groups
    }

    /// The groups without single-valued parameters and those which are not in `space`.
    pub fn groups_within(&self, space: &ParamSpace) -> Vec<ParamSpace> {
        let mut groups = self.groups();
        for group in &mut groups {
            group.retain(|name, distribution| !distribution.is_single() && space.contains(name));
        }
        groups.retain(|group| !group.is_empty());
        groups
    }

    /// Positions of the better trials, ascending.
    pub fn split(&mut self, settings: &Settings, study: &Context) -> &[u32] {
        let n_below = settings.n_below(self.finished.len(), study);
        self.ranking
            .below(n_below, self.cache.trials(), study.directions())
    }

    /// Positions of all trials which are used, better ones included, ascending.
    pub fn above(&self, settings: &Settings, current: Option<u64>) -> Vec<u32> {
        let mut positions = self.finished.clone();
        positions.extend(self.liars(settings, current));
        positions.sort_unstable();
        positions
    }

    pub fn numbers(&self, positions: &[u32]) -> Vec<u64> {
        positions
            .iter()
            .map(|position| self.cache.trials()[*position as usize].number)
            .collect()
    }

    /// What is needed to make the densities over a joint space.
    pub fn task<'a>(
        &'a mut self,
        settings: &'a Settings,
        study: &'a Context,
        current: Option<u64>,
        space: &'a ParamSpace,
    ) -> Task<'a> {
        let n_below = settings.n_below(self.finished.len(), study);
        let joint = settings.is_multivariate(study);
        let running = self
            .liars(settings, current)
            .into_iter()
            .filter_map(|position| {
                let trial = &self.cache.trials()[position as usize];
                Some((position, running_values(trial, space, joint)?))
            });
        let running = running.collect();
        let at = self.observations_of(space);
        let trials = self.cache.trials();
        let observations = &mut self.spaces[at];
        observations.update(&self.finished, trials);
        let below = self.ranking.below(n_below, trials, study.directions());
        Task {
            settings,
            several_objectives: study.is_multi_objective(),
            space,
            observations,
            below,
            running,
        }
    }

    /// Positions of the running trials which count as bad.
    fn liars(&self, settings: &Settings, current: Option<u64>) -> Vec<u32> {
        if !settings.constant_liar {
            return Vec::new();
        }
        let is_other =
            |position: &&u32| Some(self.cache.trials()[**position as usize].number) != current;
        self.running.iter().filter(is_other).copied().collect()
    }

    /// The place of the observations of a space, which are started when there are none.
    fn observations_of(&mut self, space: &ParamSpace) -> usize {
        if let Some(at) = self
            .spaces
            .iter()
            .position(|observations| observations.is_of(space))
        {
            return at;
        }
        if self.spaces.len() == MAX_SPACES {
            self.spaces.remove(0);
        }
        self.spaces.push(Observations::new(space));
        self.spaces.len() - 1
    }
}

/// The densities of the better and of the other trials over a joint space.
pub(super) struct Task<'a> {
    settings: &'a Settings,
    several_objectives: bool,
    space: &'a ParamSpace,
    observations: &'a mut Observations,
    below: &'a [u32],
    running: Vec<Running>,
}

impl Task<'_> {
    /// The density of the better trials.
    pub fn below(&self) -> Result<ParzenEstimator> {
        let weights = |n| {
            if self.several_objectives {
                Ok(vec![1.0; n])
            } else {
                self.settings.weights_of(n)
            }
        };
        self.observations
            .estimate_below(self.space, self.below, weights, self.settings.parzen)
    }

    /// The density of the others.
    pub fn above(&self) -> Result<ParzenEstimator> {
        let weights = |n| self.settings.weights_of(n);
        let Self {
            space,
            below,
            running,
            ..
        } = self;
        self.observations
            .estimate_above(space, below, running, weights, self.settings.parzen)
    }

    /// The log-density of the others at some points, without making it anew.
    pub fn log_above(&mut self, points: &[Vec<f64>]) -> Result<Vec<f64>> {
        let weights = |n| self.settings.weights_of(n);
        let Self {
            space,
            below,
            running,
            ..
        } = self;
        self.observations
            .log_above(space, below, running, weights, self.settings.parzen, points)
    }
}

/// The internal values of a running trial for all names of a space, None when it lacks one. What it will suggest is
/// known from its joint sample.
fn running_values(trial: &FrozenTrial, space: &ParamSpace, joint: bool) -> Option<Vec<f64>> {
    let planned = if joint { planned_params(trial) } else { None };
    space
        .iter()
        .map(|(name, distribution)| {
            if let Some(internal) = trial.params.internal(name) {
                return Some(internal);
            }
            let external = ParamValue::from_json(planned.as_ref()?.get(name)?).ok()?;
            distribution.to_internal(&external).ok()
        })
        .collect()
}

fn planned_params(trial: &FrozenTrial) -> Option<Json> {
    let mut text = String::new();
    for i in 0.. {
        match trial
            .system_attrs
            .get(&format!("{RELATIVE_PARAMS_KEY}{i}"))
            .and_then(Json::as_str)
        {
            Some(chunk) if !chunk.is_empty() => text.push_str(chunk),
            _ => break,
        }
    }
    // While another worker writes its chunks the text may be incomplete.
    if text.is_empty() {
        None
    } else {
        Json::parse(&text).ok()
    }
}
