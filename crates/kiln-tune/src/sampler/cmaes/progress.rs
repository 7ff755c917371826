//! Finds the newest state of CMA-ES and the solutions of its generation among a study's trials.

use std::sync::Arc;

use super::state::State;
use crate::context::Context;
use crate::error::Result;
use crate::json::Json;
use crate::trial::{FrozenTrial, TrialState};

/// What has been read from trials that cannot change any more.
#[derive(Debug, Default)]
pub(super) struct Progress {
    study: Option<(String, i64)>,
    /// Number of trials from the first on that are finished and part of `view`.
    finished: usize,
    view: View,
}

/// The newest state and the solutions that may be told to it.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub state: Option<Arc<State>>,
    /// Trials that count as finished for the strategy.
    pub n_counted: usize,
    /// Step, trial and value, ordered by trial number.
    candidates: Vec<(usize, Arc<FrozenTrial>, f64)>,
}

impl View {
    /// Trials and values of a generation, by trial number.
    pub fn solutions(&self, step: usize) -> impl Iterator<Item = (&FrozenTrial, f64)> {
        self.candidates
            .iter()
            .filter(move |(s, _, _)| *s == step)
            .map(|(_, trial, value)| (&**trial, *value))
    }

    fn add(&mut self, trial: &Arc<FrozenTrial>, prefix: &str, consider_pruned: bool) {
        let value = match trial.state {
            TrialState::Complete => trial.value(),
            TrialState::Pruned if consider_pruned => trial
                .intermediate_values
                .last_key_value()
                .map(|(_, v)| *v)
                .filter(|v| !v.is_nan()),
            _ => None,
        };
        if let Some(value) = value {
            self.n_counted += 1;
            let step = trial
                .system_attrs
                .get(&format!("{prefix}generation"))
                .and_then(Json::as_i64)
                .and_then(|step| usize::try_from(step).ok());
            let current = self.state.as_ref().map_or(0, |s| s.step);
            if let Some(step) = step.filter(|step| *step >= current) {
                self.candidates.push((step, trial.clone(), value));
            }
        }
        // The worker that wrote the state may have failed its trial since: the state counts all the
        // same. Of two states of the same step the one of the older trial counts.
        if let Some(state) = stored_state(trial, prefix)
            && self.state.as_ref().is_none_or(|s| s.step < state.step)
        {
            self.candidates.retain(|(step, _, _)| *step >= state.step);
            self.state = Some(Arc::new(state));
        }
    }
}

impl Progress {
    /// The strategy as of now.
    pub fn view(&mut self, study: &Context, prefix: &str, consider_pruned: bool) -> Result<View> {
        let id = study.id();
        if self
            .study
            .as_ref()
            .is_none_or(|(name, old)| name != study.name() || *old != id)
        {
            *self = Self {
                study: Some((study.name().to_owned(), id)),
                ..Self::default()
            };
        }
        study.with_trials(|trials| {
            while let Some(trial) = trials.get(self.finished)
                && trial.state.is_finished()
            {
                self.view.add(trial, prefix, consider_pruned);
                self.finished += 1;
            }
            let mut view = self.view.clone();
            for trial in &trials[self.finished.min(trials.len())..] {
                view.add(trial, prefix, consider_pruned);
            }
            view
        })
    }
}

fn stored_state(trial: &FrozenTrial, prefix: &str) -> Option<State> {
    let key = format!("{prefix}state:");
    let mut text = String::new();
    for i in 0.. {
        let Some(chunk) = trial
            .system_attrs
            .get(&format!("{key}{i}"))
            .and_then(Json::as_str)
        else {
            break;
        };
        text.push_str(chunk);
    }
    if text.is_empty() {
        return None;
    }
    State::from_text(&text)
}

/// The raw solution that a trial noted for the strategy with margin.
pub(super) fn raw_solution(trial: &FrozenTrial, prefix: &str) -> Option<Vec<f64>> {
    trial
        .system_attrs
        .get(&format!("{prefix}x_for_tell"))?
        .as_array()?
        .iter()
        .map(Json::as_f64)
        .collect()
}
