//! Quasi-Monte Carlo.
mod sequence;
pub use sequence::{Halton, SequenceError, Sobol};
