//! Where a run is, beside its weights: what a checkpoint holds of it.

use serde::{Deserialize, Serialize};

use super::sums::Totals;

/// Where a run is, beside its weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(crate) struct RunState {
    /// Training steps taken.
    pub(crate) step: usize,
    /// The epoch that the next step belongs to, from 1.
    pub(crate) epoch: usize,
    /// Batches of that epoch taken already.
    pub(crate) batch: usize,
    /// Metrics of the epoch so far.
    pub(crate) totals: Totals,
    /// Seconds spent in training steps.
    pub(crate) train_seconds: f64,
    /// The best validated epoch, for early stopping.
    pub(crate) best: Option<Best>,
    /// What gradient clipping has gathered.
    pub(crate) clip: kiln_clip::ClipState,
}

/// The best validated epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    pub(crate) epoch: usize,
    pub(crate) loss: f64,
}

impl RunState {
    /// Whether a run of this length can be in this state.
    pub(crate) fn check(&self, epochs: usize, steps_per_epoch: usize) -> Result<(), String> {
        let Self {
            step, epoch, batch, ..
        } = *self;
        let steps = epoch
            .checked_sub(1)
            .and_then(|done| done.checked_mul(steps_per_epoch)?.checked_add(batch));
        let fits = batch <= steps_per_epoch && epoch <= epochs + 1 && steps == Some(step);
        let best_fits = self
            .best
            .is_none_or(|best| (1..=epoch).contains(&best.epoch));
        if fits && best_fits {
            return Ok(());
        }
        Err(format!(
            "step {step} is not batch {batch} of epoch {epoch} of {epochs}, each of {steps_per_epoch} batches"
        ))
    }
}

/// A state as it is written, by this version and by those before, which knew the metrics of images alone.
#[derive(Deserialize)]
struct Stored {
    step: usize,
    epoch: usize,
    batch: usize,
    totals: StoredTotals,
    train_seconds: f64,
    best: Option<Best>,
    #[serde(default)]
    clip: kiln_clip::ClipState,
    /// Pixels of each class: right, taken for it, of it.
    #[serde(default)]
    overlap: Vec<[i64; 3]>,
}

#[derive(Deserialize)]
struct StoredTotals {
    #[serde(flatten)]
    totals: Totals,
    /// Right answers.
    correct: Option<f64>,
}

impl From<Stored> for RunState {
    fn from(stored: Stored) -> Self {
        let StoredTotals {
            mut totals,
            correct,
        } = stored.totals;
        if let Some(correct) = correct {
            totals.means = vec![("accuracy".into(), correct)];
            totals.counts = stored.overlap.concat();
            if !totals.counts.is_empty() {
                let wrong = totals.items as f64 - correct;
                totals.means.push(("pixel_error".into(), wrong));
            }
        }
        Self {
            step: stored.step,
            epoch: stored.epoch,
            batch: stored.batch,
            totals,
            train_seconds: stored.train_seconds,
            best: stored.best,
            clip: stored.clip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_before_keeps_the_metrics_of_its_epoch() {
        let text = r#"{"step": 6, "epoch": 1, "batch": 6, "totals": {"loss": 12.0, "correct": 3.0, "images": 4, "grad_norm": 0.0,
            "grad_steps": 0}, "train_seconds": 0.5, "overlap": [[1, 2, 3], [4, 5, 6]], "best": null, "clip": {"skipped": 0}}"#;
        let state: RunState = serde_json::from_str(text).unwrap();
        assert_eq!(
            state.totals.means,
            [
                ("accuracy".to_owned(), 3.0),
                ("pixel_error".to_owned(), 1.0)
            ]
        );
        assert_eq!(state.totals.counts, [1, 2, 3, 4, 5, 6]);
        assert_eq!((state.totals.loss, state.totals.items), (12.0, 4));
        let again = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        assert_eq!(state, again);
    }

    #[test]
    fn a_state_that_no_run_of_this_length_can_be_in_is_refused() {
        let state = |step, epoch, batch| RunState {
            step,
            epoch,
            batch,
            ..RunState::default()
        };
        assert!(state(13, 2, 3).check(2, 10).is_ok());
        for wrong in [
            state(13, 2, 4),
            state(13, 0, 3),
            state(21, 2, 11),
            state(40, 5, 0),
        ] {
            let problem = wrong.check(2, 10).unwrap_err();
            assert!(problem.contains("of 2, each of 10 batches"), "{problem}");
        }
    }
}
