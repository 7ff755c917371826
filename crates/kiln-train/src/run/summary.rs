//! The result of a run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The result of a finished run: `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The folder of the run.
    pub run: PathBuf,
    /// The device.
    pub device: String,
    /// The device's backend.
    pub backend: String,
    /// The model's name.
    pub model: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// The data set.
    pub data: String,
    /// Epochs trained.
    pub epochs: usize,
    /// Training steps taken.
    pub steps: usize,
    /// Whether early stopping ended the run.
    pub stopped_early: bool,
    /// The epoch whose weights were kept: the last one, or with early stopping the best one.
    pub kept_epoch: usize,
    /// Seconds spent in training steps.
    pub train_seconds: f64,
    /// Training items a second, over all training steps.
    pub samples_per_second: f64,
    /// Mean global norm of the gradients before clipping, over the last epoch; none unless the run clips, skips or
    /// measures gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Steps skipped because their gradients were not finite; none unless the run skips such steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<u64>,
    /// What the gradients say; none unless the run measures them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_health: Option<kiln_clip::Diagnosis>,
    /// Scores by name, of the weights that were kept. A recipe's run has those on the test images: `test_loss`,
    /// `test_accuracy`, in segmentation `test_iou`, `test_dice` and `test_pixel_error` too. A run of a model of your own has
    /// those of the validation data: `valid_loss` and the metrics of its steps.
    #[serde(flatten)]
    pub scores: BTreeMap<String, f64>,
}

impl Summary {
    /// A score by name, such as `test_accuracy`.
    pub fn score(&self, name: &str) -> Option<f64> {
        self.scores.get(name).copied()
    }
}
