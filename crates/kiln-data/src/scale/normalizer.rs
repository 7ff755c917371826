//! [`Normalizer`]

use serde::{Deserialize, Serialize};

use super::{Features, ScaleError};

/// How long a sample is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Sum of the absolute values.
    L1,
    /// Root of the sum of squares.
    #[default]
    L2,
    /// Largest absolute value.
    Max,
}

impl Norm {
    /// The norm of a sample; 1 where it is below ten machine epsilons.
    pub(super) fn of(self, values: impl Iterator<Item = f64>, epsilon: f64) -> f64 {
        let norm = match self {
            Norm::L1 => values.map(f64::abs).sum(),
            Norm::L2 => values.map(|v| v * v).sum::<f64>().sqrt(),
            Norm::Max => values.fold(0.0, |max: f64, v| max.max(v.abs())),
        };
        super::handle_zeros(norm, epsilon)
    }
}

/// Divides each sample by its own norm: `sklearn.preprocessing.Normalizer`. There is nothing to fit, and the
/// norms are not kept, so nothing can be undone.
///
/// A sample is a row; of image tensors it is an image with all its channels. A norm below ten machine epsilons
/// of the data's type counts as one. NaN is refused (in a [`Matrix`](super::Matrix); a tensor is not looked at).
///
/// ```
/// use kiln_data::scale::{Matrix, Norm, Normalizer};
///
/// let x = Matrix::from_rows([[3.0, -4.0], [0.0, 0.0]]);
/// let y = Normalizer::new(Norm::L2).transform(&x)?;
/// assert_eq!(y.as_slice(), [0.6, -0.8, 0.0, 0.0]);
/// # Ok::<(), kiln_data::scale::ScaleError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalizer {
    norm: Norm,
}

impl Normalizer {
    pub(super) const NAME: &'static str = "Normalizer";

    /// With this norm.
    pub fn new(norm: Norm) -> Self {
        Self { norm }
    }

    /// The norm.
    pub fn norm(&self) -> Norm {
        self.norm
    }

    /// Divides each sample by its norm.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Value`] if a matrix holds NaN or an infinite value.
    pub fn transform<X: Features>(&self, x: &X) -> Result<X, ScaleError> {
        x.check(Self::NAME, false)?;
        Ok(x.normalize(self.norm))
    }
}
