//! Training: any model on any data, or what a recipe describes; resume after a kill, evaluate, predict.
//!
//! A [`Trainer`] takes a model of your own that says what a step is, and data that come in batches. A [`Recipe`] is everything
//! a run of Kiln's own networks is made of, and a [`RecipeTrainer`] trains it. Both make a run's folder with metrics,
//! checkpoints and the trained model; a [`TrainedModel`] evaluates a recipe's run and predicts with it.
//!
//! The loop reads the device rarely, can save and stop after any step, and makes each step a function of the seed and its
//! number: the same seed on the same device gives the same weights, resumed or not.

mod error;
mod eval;
mod recipe;
mod report;
mod run;
mod tasks;
mod text;
mod trainer;
mod training;
pub mod tune;

pub use error::TrainError;
pub use eval::class_names::{ClassesError, read_class_names};
pub use eval::evaluation::{ClassScore, Evaluation, TrainedModel};
pub use eval::masks::{MaskPrediction, SegmentationScores};
pub use eval::predict::{Candidate, Prediction};
pub use eval::record::{EvaluationRecord, evaluations, own_evaluation};
pub use eval::test_data::TestData;
pub use recipe::data::Prepared;
pub use recipe::{
    AugmentRecipe, DataRecipe, Epochs, FIELDS, Field, LossName, LossRecipe, ModelRecipe, Recipe,
    RecipeError, Setting, TaskName,
};
pub use report::page::{report, report_to};
pub use run::folder::{DataInfo, RunDir, RunInfo};
pub use run::summary::Summary;
pub use tasks::segment::SegmentationLoss;
pub use text::shell_word;
pub use trainer::recipe::{Outcome, RecipeTrainer};
pub use trainer::{Progress, TrainDevice, Trained, Trainer};
pub use training::data::{Batches, DatasetBatches, Epoch, IterBatches, TensorBatch, TensorBatches};
pub use training::fit::{EpochReport, Trainable, evaluate};
pub use training::optim::optimizer;
pub use training::panics::end_on_panic;
pub use training::schedule::Schedule;
pub use training::settings::{
    CheckpointRecipe, EarlyStoppingRecipe, OptimizerName, OptimizerRecipe, ScheduleName,
    ScheduleRecipe,
};
pub use training::sums::{Metrics, Scores, StepOutput, StepSums};

pub use tune::{Objective, OnDiverged, RecipeSpace, SpaceError, TuneEnd, TuneError, Tuner};
