//! Deep-learning training on any GPU, in Rust: data, models, gradient clipping, training and device selection behind
//! one import.
//!
//! ```no_run
//! use kiln::prelude::*;
//!
//! let chosen = kiln::device::auto()?;
//! println!("{}", chosen.reason);
//! let recipe = Recipe::from_toml("epochs = 1")?;
//! if let Outcome::Finished(summary) = RecipeTrainer::new(recipe, chosen.into()).run()? {
//!     println!("{:.2} % on {}", summary.scores["test_accuracy"] * 100.0, summary.data);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Backends
//!
//! Each cargo feature forwards to Burn's backend of the same name: `wgpu` and `flex` (the
//! defaults: any GPU, any CPU), `vulkan`, `metal`, `webgpu`, `cuda`, `rocm`, `cpu`, `ndarray`,
//! `remote`. [`device`] chooses among them at run time.

pub mod device;

pub use kiln_clip as clip;
pub use kiln_data as data;
pub use kiln_norm as norm;
pub use kiln_plot as plot;
pub use kiln_train as train;
pub use kiln_zoo as zoo;

/// Study and trial: all of `kiln-tune`, with the storages of `kiln-tune-rdb`.
///
/// ```
/// # #[cfg(feature = "sqlite")] {
/// use kiln::tune::{Study, storage};
///
/// let storage = storage::open("sqlite:///:memory:")?;
/// let study = Study::builder().name("first").shared_storage(storage).create()?;
/// study.optimize(|trial| trial.suggest_float("x", -1.0, 1.0), 5)?;
/// assert_eq!(study.trials()?.len(), 5);
/// # }
/// # Ok::<(), kiln::tune::Error>(())
/// ```
pub mod tune {
    pub use kiln_tune::*;

    /// Where studies and trials are kept: memory, a journal file, SQLite, PostgreSQL, MySQL.
    pub mod storage {
        pub use kiln_tune::storage::*;
        pub use kiln_tune_rdb::*;
    }
}

/// What most programs need.
pub mod prelude {
    pub use crate::device::{self, Chosen};
    pub use kiln_data::{
        Affine, Augment, Batch, DeviceDataset, DeviceLoader, DeviceMasks, Digits, LabeledImages,
        Load, MaskBatch, MaskedImages, Shapes, Split,
    };
    pub use kiln_train::{
        DatasetBatches, Evaluation, IterBatches, Outcome, Progress, Recipe, RecipeTrainer,
        StepSums, TensorBatch, TensorBatches, TrainDevice, Trained, TrainedModel, Trainer,
    };
}
