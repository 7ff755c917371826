//! The split of finished trials into better and other ones.

use std::sync::Arc;

use crate::direction::StudyDirection;
use crate::multi_objective::{losses_of_trial, select_best};
use crate::trial::{FrozenTrial, TrialState};

/// Finished trials in the order in which they become "below". Every list stays sorted as trials are added; equal keys
/// keep the order of trials.
pub(super) struct Ranking {
    directions: Vec<StudyDirection>,
    /// Feasible complete trials by loss; with several objectives by position only.
    complete: Vec<(f64, u32)>,
    /// Feasible pruned trials: larger last step first, then smaller loss.
    pruned: Vec<((f64, f64), u32)>,
    /// Infeasible trials by violation.
    infeasible: Vec<(f64, u32)>,
    /// The last answer, for this number of trials and this `n_below`.
    answer: Vec<u32>,
    answered: Option<(usize, usize)>,
}

impl Ranking {
    pub fn new(directions: &[StudyDirection]) -> Self {
        Self {
            directions: directions.to_vec(),
            complete: Vec::new(),
            pruned: Vec::new(),
            infeasible: Vec::new(),
            answer: Vec::new(),
            answered: None,
        }
    }

    fn len(&self) -> usize {
        self.complete.len() + self.pruned.len() + self.infeasible.len()
    }

    pub fn add(&mut self, position: u32, trial: &FrozenTrial) {
        let violation = trial.violation().unwrap_or(0.0);
        if violation > 0.0 {
            insert(&mut self.infeasible, (violation, position), |a, b| {
                a.total_cmp(b)
            });
        } else if trial.state == TrialState::Complete {
            let loss = match self.directions[..] {
                // Adding zero turns a negative zero into a positive one, which it is equal to.
                [direction] => direction.loss(trial.value().unwrap_or(f64::INFINITY)) + 0.0,
                _ => 0.0,
            };
            insert(&mut self.complete, (loss, position), |a, b| a.total_cmp(b));
        } else {
            let score = self.pruned_score(trial);
            insert(&mut self.pruned, (score, position), |a, b| {
                a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
            });
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn pruned_score(&self, trial: &FrozenTrial) -> (f64, f64) {
        match trial.intermediate_values.last_key_value() {
            Some((step, value)) if value.is_nan() => (-(*step as f64), f64::INFINITY),
            Some((step, value)) => (-(*step as f64), self.directions[0].loss(*value) + 0.0),
            None => (1.0, 0.0),
        }
    }

    /// Positions of the better trials, ascending.
    pub fn below(
        &mut self,
        n_below: usize,
        trials: &[Arc<FrozenTrial>],
        directions: &[StudyDirection],
    ) -> &[u32] {
        let question = (self.len(), n_below);
        if self.answered != Some(question) {
            let mut below = self.complete_below(n_below, trials, directions);
            let rest = n_below.saturating_sub(below.len());
            below.extend(self.pruned.iter().take(rest).map(|(_, position)| *position));
            let rest = n_below.saturating_sub(below.len());
            below.extend(
                self.infeasible
                    .iter()
                    .take(rest)
                    .map(|(_, position)| *position),
            );
            below.sort_unstable();
            self.answer = below;
            self.answered = Some(question);
        }
        &self.answer
    }

    fn complete_below(
        &self,
        n_below: usize,
        trials: &[Arc<FrozenTrial>],
        directions: &[StudyDirection],
    ) -> Vec<u32> {
        let positions: Vec<u32> = self
            .complete
            .iter()
            .map(|(_, position)| *position)
            .collect();
        if directions.len() == 1 || n_below == 0 || n_below >= positions.len() {
            return positions.into_iter().take(n_below).collect();
        }
        let losses: Vec<Vec<f64>> = positions
            .iter()
            .map(|position| losses_of_trial(&trials[*position as usize], directions))
            .collect();
        select_best(&losses, n_below)
            .into_iter()
            .map(|i| positions[i])
            .collect()
    }
}

/// Inserts into a sorted list, among equal keys by position.
fn insert<K>(
    list: &mut Vec<(K, u32)>,
    item: (K, u32),
    compare: impl Fn(&K, &K) -> std::cmp::Ordering,
) {
    let at = list.partition_point(|other| {
        compare(&other.0, &item.0)
            .then(other.1.cmp(&item.1))
            .is_lt()
    });
    list.insert(at, item);
}
