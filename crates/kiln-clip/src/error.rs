//! What can go wrong.

use burn::tensor::TensorReadError;
use thiserror::Error;

/// What can go wrong while clipping, or in a setting of it.
#[derive(Debug, Error)]
pub enum ClipError {
    /// A norm of an order that is not positive.
    #[error("norm_type = {0} is not allowed; it must be a number above 0, or inf")]
    NormType(String),
    /// The total norm is NaN or infinite, and this was asked to be an error. The gradients are untouched.
    #[error(
        "the total norm of order {norm_type} of the gradients is {norm}, so it cannot be clipped; look for an overflow \
         in the loss (a learning rate too high, a division by zero), or allow it: the gradients become NaN or zero then"
    )]
    NonFinite {
        /// The norm.
        norm: f64,
        /// Its order.
        norm_type: f64,
    },
    /// A setting that is none.
    #[error("clip = '{given}' is not allowed: {problem}; {}", Self::ALLOWED)]
    Setting {
        /// What was given.
        given: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The device failed while a number was read from it.
    #[error("the norm of the gradients cannot be read from the device")]
    Read(#[source] TensorReadError),
}

impl ClipError {
    /// What a setting may be, in one line.
    pub const ALLOWED: &'static str = "none, norm:MAX or norm:MAX,P (global norm), param-norm:MAX (each parameter by itself), \
         value:LIMIT, agc:FACTOR or agc:FACTOR,EPS, auto:PERCENTILE";
}
