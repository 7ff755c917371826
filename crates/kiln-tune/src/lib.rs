//! Study and trial: define-by-run hyperparameter optimization.

pub mod analysis;
pub mod multi_objective;
mod normal;
pub mod rng;
pub mod sampler;
