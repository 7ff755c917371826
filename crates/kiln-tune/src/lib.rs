//! Study and trial: define-by-run hyperparameter optimization that shares its database with Optuna.
//!
//! A *study* is an optimization of one objective; a *trial* is one evaluation of it. The objective asks its trial for
//! parameters as it goes, so that the search space is ordinary code.
//!
//! ```
//! use kiln_tune::{Study, Trial};
//!
//! fn objective(trial: &mut Trial) -> kiln_tune::Result<f64> {
//!     let x = trial.suggest_float("x", -10.0, 10.0)?;
//!     Ok((x - 2.0).powi(2))
//! }
//!
//! let study = Study::builder().create()?;
//! study.optimize(objective, 100)?;
//! println!("best value {} at {:?}", study.best_value()?, study.best_params()?.value("x"));
//! # Ok::<(), kiln_tune::Error>(())
//! ```

// One module per line: several people add to this list.
pub mod analysis;
pub mod context;
pub mod distribution;
pub mod error;
pub mod importance;
pub mod json;
pub mod multi_objective;
pub mod parzen;
#[cfg(feature = "plot")]
pub mod plot;
pub mod pruner;
pub mod rng;
pub mod sampler;
pub mod search_space;
pub mod storage;
pub mod study;
pub mod sync;
pub mod table;
pub mod terminator;
pub mod transform;
pub mod trial;

mod direction;
mod normal;
mod printable;

pub use context::Context;
pub use distribution::{
    CategoricalChoice, CategoricalDistribution, Distribution, FloatDistribution, IntDistribution,
    ParamValue,
};
pub use error::{BoxError, Error, Result, TrialPruned};
pub use json::Json;
#[cfg(feature = "derive")]
pub use kiln_tune_derive::SearchSpace;
pub use printable::{is_unsafe, printable};
pub use pruner::{
    HyperbandPruner, MedianPruner, NopPruner, PatientPruner, PercentilePruner, Pruner,
    SuccessiveHalvingPruner, ThresholdPruner, WilcoxonPruner,
};
pub use sampler::{
    BruteForceSampler, CmaEsSampler, GpSampler, GridSampler, NsgaIiSampler, NsgaIiiSampler,
    PartialFixedSampler, QmcSampler, RandomSampler, RelativeSample, Sampler, TpeSampler,
};
pub use search_space::SearchSpace;
pub use storage::{InMemoryStorage, Storage, StudyId};
pub use study::{
    Budget, FrozenStudy, Outcome, Study, StudyBuilder, StudyDirection, max_trials_callback,
};
pub use table::TrialsTable;
pub use trial::{
    Attrs, FixedTrial, FrozenTrial, Param, ParamSpace, Params, Suggest, Timestamp, Trial,
    TrialBuilder, TrialDuplicate, TrialId, TrialState,
};

/// The examples of the README, compiled.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../README.md")]
struct Readme;
