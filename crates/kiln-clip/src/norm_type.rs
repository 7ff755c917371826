//! [`NormType`]: which norm.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ClipError;

/// The `p` of a p-norm, `(sum |g|^p)^(1/p)`, for any `p > 0` and ∞ (the largest `|g|`).
///
/// PyTorch's `norm_type`. For `p < 1` it is no norm in the mathematical sense; PyTorch allows it and so does this.
///
/// ```
/// use kiln_clip::NormType;
/// assert_eq!("inf".parse::<NormType>()?, NormType::INF);
/// assert_eq!(NormType::default(), NormType::L2);
/// assert!(NormType::new(-1.0).is_err());
/// # Ok::<(), kiln_clip::ClipError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct NormType(f64);

impl NormType {
    /// The sum of absolute values.
    pub const L1: Self = Self(1.0);
    /// The Euclidean norm.
    pub const L2: Self = Self(2.0);
    /// The largest absolute value.
    pub const INF: Self = Self(f64::INFINITY);

    /// The norm of order `p`.
    ///
    /// # Errors
    ///
    /// [`ClipError::NormType`] unless `p > 0`.
    pub fn new(p: f64) -> Result<Self, ClipError> {
        match p > 0.0 {
            true => Ok(Self(p)),
            false => Err(ClipError::NormType(p.to_string())),
        }
    }

    /// The order.
    pub fn p(self) -> f64 {
        self.0
    }
}

impl Default for NormType {
    fn default() -> Self {
        Self::L2
    }
}

impl TryFrom<f64> for NormType {
    type Error = ClipError;

    fn try_from(p: f64) -> Result<Self, ClipError> {
        Self::new(p)
    }
}

impl From<NormType> for f64 {
    fn from(norm: NormType) -> Self {
        norm.0
    }
}

impl FromStr for NormType {
    type Err = ClipError;

    fn from_str(text: &str) -> Result<Self, ClipError> {
        let wrong = || ClipError::NormType(format!("'{text}'"));
        // f64 reads "inf" and "infinity" too, in any case.
        Self::new(text.trim().parse().map_err(|_| wrong())?).map_err(|_| wrong())
    }
}

impl fmt::Display for NormType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
