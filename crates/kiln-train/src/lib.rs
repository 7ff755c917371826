//! Training from a recipe: train, resume after a kill, evaluate, predict.
//!
//! A [`Recipe`] is everything a run is made of. A [`Trainer`] turns it into a run directory with
//! metrics, checkpoints and the trained model; a [`TrainedModel`] evaluates and predicts.
//!
//! Training goes through burn-train's `SupervisedTraining` with a loop of its own that reads the
//! device rarely, can save and stop after any step, and makes each step a function of the seed and
//! its number: the same seed on the same device gives the same weights, resumed or not.

mod checkpoint;
mod class_names;
mod clipping;
mod confusion;
mod error;
mod evaluate;
mod evaluations;
mod files;
mod health;
mod loader;
mod more;
mod network;
mod optim;
mod panics;
mod plot;
mod plot_health;
mod predict;
mod prepare;
mod recipe;
mod recorder;
mod renderer;
mod report;
mod run_dir;
mod samples;
mod schedule;
mod segment;
mod segmentation;
mod single;
mod strategy;
mod task;
mod test_data;
mod text;
mod train;
pub mod tune;
mod weights;

pub use class_names::{ClassesError, read_class_names};
pub use error::TrainError;
pub use evaluate::{ClassScore, Evaluation, TrainedModel};
pub use evaluations::{EvaluationRecord, evaluations, own_evaluation};
pub use optim::optimizer;
pub use panics::end_on_panic;
pub use predict::{Candidate, Prediction};
pub use prepare::Prepared;
pub use recipe::{
    AugmentRecipe, CheckpointRecipe, DataRecipe, EarlyStoppingRecipe, Epochs, FIELDS, Field,
    LossName, LossRecipe, ModelRecipe, OptimizerName, OptimizerRecipe, Recipe, RecipeError,
    ScheduleName, ScheduleRecipe, Setting, TaskName,
};
pub use report::{report, report_to};
pub use run_dir::{DataInfo, RunDir, RunInfo};
pub use schedule::Schedule;
pub use segment::SegmentationLoss;
pub use segmentation::{MaskPrediction, SegmentationScores};
pub use test_data::TestData;
pub use text::shell_word;
pub use train::{EpochReport, Outcome, Progress, Summary, TrainDevice, Trainer};
pub use tune::{Objective, OnDiverged, RecipeSpace, SpaceError, TuneEnd, TuneError, Tuner};
