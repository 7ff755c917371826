//! [`MaxAbsScaler`]

use serde::{Deserialize, Serialize};

use super::features::Columns;
use super::linear::Linear;
use super::{Scale, ScaleError, floats, handle_zeros};

/// Divides each feature by its largest absolute value in the training data, so that zero stays zero:
/// `sklearn.preprocessing.MaxAbsScaler`.
///
/// `y = x / max|x|`. An absolute maximum below ten machine epsilons of the data's type counts as one.
///
/// | setting | default | |
/// |---|---|---|
/// | `clip` | false | whether values outside the fitted range are cut to `[-1, 1]` |
///
/// NaN is ignored in fitting and kept in transforming.
///
/// ```
/// use kiln_data::scale::{Matrix, MaxAbsScaler, Scale};
///
/// let x = Matrix::from_rows([[1.0, -8.0], [-4.0, 2.0]]);
/// assert_eq!(MaxAbsScaler::new().fit_transform(&x)?.row(1), [-1.0, 0.25]);
/// # Ok::<(), kiln_data::scale::ScaleError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxAbsScaler {
    clip: bool,
    state: Option<State>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(with = "floats")]
    max_abs: Vec<f64>,
    n_samples_seen: usize,
    epsilon: f64,
}

impl MaxAbsScaler {
    /// Without clipping.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to cut what lies outside the fitted range.
    pub fn clip(mut self, clip: bool) -> Self {
        self.clip = clip;
        self
    }

    /// Largest absolute value of each feature.
    pub fn max_abs(&self) -> Option<&[f64]> {
        self.state.as_ref().map(|state| &state.max_abs[..])
    }

    /// What each feature is divided by.
    pub fn scale(&self) -> Option<Vec<f64>> {
        let state = self.state.as_ref()?;
        let each = state.max_abs.iter();
        Some(each.map(|&m| handle_zeros(m, state.epsilon)).collect())
    }

    /// Rows seen, those with NaN included.
    pub fn n_samples_seen(&self) -> Option<usize> {
        self.state.as_ref().map(|state| state.n_samples_seen)
    }
}

impl Scale for MaxAbsScaler {
    const NAME: &'static str = "MaxAbsScaler";

    fn num_features(&self) -> Option<usize> {
        self.max_abs().map(<[f64]>::len)
    }

    fn forget(&mut self) {
        self.state = None;
    }

    fn observe(&mut self, data: &Columns) -> Result<(), ScaleError> {
        let width = data.columns.len();
        let state = self.state.get_or_insert_with(|| State {
            max_abs: vec![f64::NAN; width],
            n_samples_seen: 0,
            epsilon: data.epsilon,
        });
        for (max_abs, column) in std::iter::zip(&mut state.max_abs, &data.columns) {
            for (value, _) in column.present() {
                *max_abs = max_abs.max(value.abs());
            }
        }
        state.n_samples_seen += data.rows;
        state.epsilon = state.epsilon.max(data.epsilon);
        Ok(())
    }

    fn linear(&self) -> Option<Linear> {
        let scale = self.scale()?;
        let mut linear = Linear::dividing(vec![0.0; scale.len()], scale);
        linear.clip = self.clip.then_some((-1.0, 1.0));
        Some(linear)
    }
}
