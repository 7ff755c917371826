//! [`MinMaxScaler`]

use serde::{Deserialize, Serialize};

use super::features::Columns;
use super::linear::Linear;
use super::{Scale, ScaleError, floats, handle_zeros};

const NAME: &str = "MinMaxScaler";

/// Maps each feature's range in the training data onto `feature_range`: `sklearn.preprocessing.MinMaxScaler`.
///
/// `y = x * scale + min` with `scale = (high - low) / (data_max - data_min)` and
/// `min = low - data_min * scale`. A range below ten machine epsilons of the data's type counts as zero, and
/// then as one, so that a constant feature becomes `low`.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `feature_range` | (0, 1) | finite, the first below the second |
/// | `clip` | false | whether values outside the fitted range are cut to `feature_range` |
///
/// NaN is ignored in fitting and kept in transforming.
///
/// ```
/// use kiln_data::scale::{Matrix, MinMaxScaler, Scale};
///
/// let x = Matrix::from_rows([[1.0, 5.0], [3.0, 5.0], [2.0, f64::NAN]]);
/// let mut scaler = MinMaxScaler::new().feature_range(-1.0, 1.0)?;
/// let y = scaler.fit_transform(&x)?;
/// assert_eq!(y.row(0), [-1.0, -1.0]);
/// assert_eq!(y.row(1), [1.0, -1.0]);
/// assert_eq!(scaler.inverse_transform(&y)?.row(1), x.row(1));
/// # Ok::<(), kiln_data::scale::ScaleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinMaxScaler {
    feature_range: (f64, f64),
    clip: bool,
    state: Option<State>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(with = "floats")]
    data_min: Vec<f64>,
    #[serde(with = "floats")]
    data_max: Vec<f64>,
    n_samples_seen: usize,
    epsilon: f64,
}

impl Default for MinMaxScaler {
    fn default() -> Self {
        Self::new()
    }
}

impl MinMaxScaler {
    /// Maps onto `[0, 1]`, without clipping.
    pub fn new() -> Self {
        Self {
            feature_range: (0.0, 1.0),
            clip: false,
            state: None,
        }
    }

    /// The range to map onto.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Setting`] unless both are finite and `low < high`.
    pub fn feature_range(mut self, low: f64, high: f64) -> Result<Self, ScaleError> {
        self.feature_range = (low, high);
        self.check_settings()?;
        Ok(self)
    }

    /// Whether to cut what lies outside the fitted range.
    pub fn clip(mut self, clip: bool) -> Self {
        self.clip = clip;
        self
    }

    /// Smallest value of each feature.
    pub fn data_min(&self) -> Option<&[f64]> {
        self.state.as_ref().map(|state| &state.data_min[..])
    }

    /// Largest value of each feature.
    pub fn data_max(&self) -> Option<&[f64]> {
        self.state.as_ref().map(|state| &state.data_max[..])
    }

    /// `data_max - data_min`.
    pub fn data_range(&self) -> Option<Vec<f64>> {
        let state = self.state.as_ref()?;
        let pairs = std::iter::zip(&state.data_max, &state.data_min);
        Some(pairs.map(|(max, min)| max - min).collect())
    }

    /// The factor of each feature.
    pub fn scale(&self) -> Option<Vec<f64>> {
        let epsilon = self.state.as_ref()?.epsilon;
        let (low, high) = self.feature_range;
        let ranges = self.data_range()?.into_iter();
        Some(
            ranges
                .map(|range| (high - low) / handle_zeros(range, epsilon))
                .collect(),
        )
    }

    /// What is added to each feature after the factor.
    pub fn min(&self) -> Option<Vec<f64>> {
        let pairs = std::iter::zip(self.data_min()?, self.scale()?);
        Some(
            pairs
                .map(|(min, scale)| self.feature_range.0 - min * scale)
                .collect(),
        )
    }

    /// Rows seen, those with NaN included.
    pub fn n_samples_seen(&self) -> Option<usize> {
        self.state.as_ref().map(|state| state.n_samples_seen)
    }
}

impl Scale for MinMaxScaler {
    const NAME: &'static str = NAME;

    fn num_features(&self) -> Option<usize> {
        self.data_min().map(<[f64]>::len)
    }

    fn forget(&mut self) {
        self.state = None;
    }

    fn observe(&mut self, data: &Columns) -> Result<(), ScaleError> {
        let width = data.columns.len();
        let state = self.state.get_or_insert_with(|| State {
            data_min: vec![f64::NAN; width],
            data_max: vec![f64::NAN; width],
            n_samples_seen: 0,
            epsilon: data.epsilon,
        });
        for (i, column) in data.columns.iter().enumerate() {
            for (value, _) in column.present() {
                // `min` and `max` of f64 take the other where one is NaN.
                state.data_min[i] = state.data_min[i].min(value);
                state.data_max[i] = state.data_max[i].max(value);
            }
        }
        state.n_samples_seen += data.rows;
        state.epsilon = state.epsilon.max(data.epsilon);
        Ok(())
    }

    fn linear(&self) -> Option<Linear> {
        Some(Linear {
            center: self.data_min()?.to_vec(),
            scale: self.scale()?,
            multiplies: true,
            low: self.feature_range.0,
            intercept: self.min()?,
            clip: self.clip.then_some(self.feature_range),
        })
    }

    fn check_settings(&self) -> Result<(), ScaleError> {
        let (low, high) = self.feature_range;
        match low < high && low.is_finite() && high.is_finite() {
            true => Ok(()),
            false => Err(ScaleError::Setting {
                scaler: NAME,
                setting: "feature_range",
                given: format!("({low}, {high})"),
                allowed: "two finite numbers, the first below the second",
            }),
        }
    }

    fn check_state(&self) -> Result<(), String> {
        match &self.state {
            Some(s) if s.data_min.len() != s.data_max.len() => {
                Err("data_min and data_max differ in length".into())
            }
            _ => Ok(()),
        }
    }
}
