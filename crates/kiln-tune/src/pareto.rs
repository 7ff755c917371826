//! Domination between trials of several objectives.

use std::sync::Arc;

use crate::study::StudyDirection;
use crate::trial::FrozenTrial;

/// The trials which no other one dominates, in their order; duplicates of a front point all stay.
pub(crate) fn front(
    trials: &[Arc<FrozenTrial>],
    directions: &[StudyDirection],
) -> Vec<Arc<FrozenTrial>> {
    let losses: Vec<Vec<f64>> = trials
        .iter()
        .map(|trial| losses(trial, directions))
        .collect();
    // In lexicographic order only an earlier point can dominate a later one, and it is enough to look at the front.
    let mut order: Vec<usize> = (0..trials.len()).collect();
    order.sort_by(|a, b| compare(&losses[*a], &losses[*b]));
    let mut front: Vec<usize> = Vec::new();
    for i in order {
        if !front.iter().any(|j| dominates(&losses[*j], &losses[i])) {
            front.push(i);
        }
    }
    front.sort_unstable();
    front.into_iter().map(|i| trials[i].clone()).collect()
}

/// All values at most the other's, and not all equal.
pub(crate) fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a != b
}

/// The values as losses; a missing one is the worst.
pub(crate) fn losses(trial: &FrozenTrial, directions: &[StudyDirection]) -> Vec<f64> {
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

fn compare(a: &[f64], b: &[f64]) -> std::cmp::Ordering {
    a.iter()
        .zip(b)
        .map(|(a, b)| a.total_cmp(b))
        .find(|order| order.is_ne())
        .unwrap_or(std::cmp::Ordering::Equal)
}
