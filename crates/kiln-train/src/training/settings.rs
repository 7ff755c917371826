//! What a training loop is told: optimizer, schedule, gradients, when to stop and when to save. A recipe has these sections,
//! and [`Trainer`](crate::Trainer) takes them as they are.

use kiln_clip::GradClip;
use serde::{Deserialize, Serialize};

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TrainSettings {
    pub(crate) seed: u64,
    pub(crate) epochs: usize,
    pub(crate) log_every: usize,
    pub(crate) clip: GradClip,
    pub(crate) skip_nonfinite: bool,
    pub(crate) grad_health: usize,
    pub(crate) optimizer: OptimizerRecipe,
    pub(crate) schedule: ScheduleRecipe,
    pub(crate) early_stopping: EarlyStoppingRecipe,
    pub(crate) checkpoint: CheckpointRecipe,
}

impl TrainSettings {
    /// Whether the norm of the gradients is known.
    pub(crate) fn watches_gradients(&self) -> bool {
        !self.clip.is_none() || self.skip_nonfinite || self.grad_health > 0
    }
}

/// An optimizer's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Stochastic gradient descent, with momentum if set.
    Sgd,
    /// Adam.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// RMSprop.
    RmsProp,
}

/// The optimizer of a [`Recipe`](crate::Recipe); what is left out is PyTorch's default for the optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerRecipe {
    /// Which one.
    pub name: OptimizerName,
    /// Learning rate at the top of the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// L2 penalty; for AdamW decoupled decay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Momentum of SGD and RMSprop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Dampening of SGD's momentum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dampening: Option<f64>,
    /// Nesterov momentum, for SGD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// Decay of the two averages of Adam and AdamW.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// Decay of RMSprop's average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Whether RMSprop subtracts the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub centered: Option<bool>,
    /// Added to the denominator of Adam, AdamW and RMSprop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
}

impl Default for OptimizerRecipe {
    fn default() -> Self {
        Self {
            name: OptimizerName::Adam,
            lr: None,
            weight_decay: None,
            momentum: None,
            dampening: None,
            nesterov: None,
            betas: None,
            alpha: None,
            centered: None,
            eps: None,
        }
    }
}

impl OptimizerRecipe {
    /// The learning rate given, or PyTorch's default: 0.01 for RMSprop, 0.001 for the others.
    pub fn learning_rate(&self) -> f64 {
        self.lr.unwrap_or(match self.name {
            OptimizerName::RmsProp => 1e-2,
            _ => 1e-3,
        })
    }

    /// How many numbers the optimizer remembers of each weight.
    pub(crate) fn state_per_weight(&self) -> u64 {
        let momentum = u64::from(self.momentum.is_some_and(|momentum| momentum > 0.0));
        match self.name {
            OptimizerName::Sgd => momentum,
            OptimizerName::Adam | OptimizerName::AdamW => 2,
            OptimizerName::RmsProp => 1 + momentum + u64::from(self.centered.unwrap_or(false)),
        }
    }
}

/// A schedule's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// The same learning rate throughout.
    Constant,
    /// Multiplied by `gamma` every `step_size` epochs.
    Step,
    /// Half a cosine from the learning rate to `eta_min`.
    Cosine,
}

/// The learning rate over time, of a [`Recipe`](crate::Recipe).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleRecipe {
    /// Its shape after the warm-up.
    pub name: ScheduleName,
    /// Epochs over which the learning rate first rises linearly from near zero.
    pub warmup_epochs: f64,
    /// The last learning rate of the cosine.
    pub eta_min: f64,
    /// Epochs between two steps.
    pub step_size: usize,
    /// Factor of one step.
    pub gamma: f64,
}

impl Default for ScheduleRecipe {
    fn default() -> Self {
        Self {
            name: ScheduleName::Cosine,
            warmup_epochs: 0.0,
            eta_min: 0.0,
            step_size: 10,
            gamma: 0.1,
        }
    }
}

/// When to stop before the last epoch, of a [`Recipe`](crate::Recipe).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStoppingRecipe {
    /// Epochs without a better validation loss after which training ends; the weights of the
    /// best epoch are kept. 0: never.
    pub patience: usize,
    /// How much lower a loss must be to count as better.
    pub min_delta: f64,
}

/// When to save the state of the run, of a [`Recipe`](crate::Recipe). It is saved after every epoch in any case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointRecipe {
    /// Steps between two checkpoints within an epoch. 0: only after epochs.
    pub every: usize,
    /// How many checkpoints to keep.
    pub keep: usize,
}

impl Default for CheckpointRecipe {
    fn default() -> Self {
        Self { every: 0, keep: 2 }
    }
}
