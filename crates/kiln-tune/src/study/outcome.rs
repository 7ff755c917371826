use crate::trial::TrialState;

/// How a trial ended. An objective may return the number itself, an array of numbers, or this.
///
/// ```
/// use kiln_tune::Outcome;
///
/// assert_eq!(Outcome::from(1.0), Outcome::Values(vec![1.0]));
/// assert_eq!(Outcome::from([1.0, 2.0]), Outcome::Values(vec![1.0, 2.0]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// One value per objective. NaN, or a wrong number of values, fails the trial.
    Values(Vec<f64>),
    /// Stopped early; the last reported value becomes the value of the trial.
    Pruned,
    /// Failed.
    Fail,
}

impl Outcome {
    /// The state which is told, None when the values decide.
    pub(super) fn state(&self) -> Option<TrialState> {
        match self {
            Self::Values(_) => None,
            Self::Pruned => Some(TrialState::Pruned),
            Self::Fail => Some(TrialState::Fail),
        }
    }

    pub(super) fn into_values(self) -> Option<Vec<f64>> {
        match self {
            Self::Values(values) => Some(values),
            Self::Pruned | Self::Fail => None,
        }
    }
}

impl From<f64> for Outcome {
    fn from(value: f64) -> Self {
        Self::Values(vec![value])
    }
}

impl From<f32> for Outcome {
    fn from(value: f32) -> Self {
        Self::Values(vec![value.into()])
    }
}

impl<const N: usize> From<[f64; N]> for Outcome {
    fn from(values: [f64; N]) -> Self {
        Self::Values(values.to_vec())
    }
}

impl From<Vec<f64>> for Outcome {
    fn from(values: Vec<f64>) -> Self {
        Self::Values(values)
    }
}
