//! The mathematics of this module for trials.

use std::sync::Arc;

use super::is_pareto_front;
use crate::direction::StudyDirection;
use crate::trial::FrozenTrial;

/// The trials which no other one dominates, in their order; duplicates of a front point all stay.
pub(crate) fn pareto_front_trials(
    trials: &[Arc<FrozenTrial>],
    directions: &[StudyDirection],
) -> Vec<Arc<FrozenTrial>> {
    let losses: Vec<Vec<f64>> = trials
        .iter()
        .map(|trial| losses_of_trial(trial, directions))
        .collect();
    let on_front = is_pareto_front(&losses);
    trials
        .iter()
        .zip(on_front)
        .filter(|(_, front)| *front)
        .map(|(trial, _)| trial.clone())
        .collect()
}

/// The values as losses; a missing one is the worst.
pub(crate) fn losses_of_trial(trial: &FrozenTrial, directions: &[StudyDirection]) -> Vec<f64> {
    let values = trial.values.as_deref().unwrap_or_default();
    directions
        .iter()
        .enumerate()
        .map(|(i, direction)| {
            values
                .get(i)
                .map_or(f64::INFINITY, |value| direction.loss(*value))
        })
        .collect()
}
