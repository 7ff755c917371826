//! gp
mod lbfgs;
mod regressor;
pub use regressor::*;
