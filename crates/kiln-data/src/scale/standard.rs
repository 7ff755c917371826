//! [`StandardScaler`]

use serde::{Deserialize, Serialize};

use super::features::Columns;
use super::linear::Linear;
use super::{Scale, ScaleError, floats};

/// Subtracts each feature's mean in the training data and divides by its standard deviation:
/// `sklearn.preprocessing.StandardScaler`.
///
/// `y = (x - mean) / sqrt(var)`, `var` the biased variance. A feature counts as constant, with a scale of
/// one, if `var <= n * e * var + (n * mean * e)^2` with `e` f64's machine epsilon: the bound on the rounding
/// error of the variance ([Chan, Golub and LeVeque 1983](https://doi.org/10.1080/00031305.1983.10483115)).
/// Mean and variance are computed in f64 by the corrected two-pass algorithm of that paper and merged over
/// chunks by its update, so neither a large mean nor chunks lose digits.
///
/// | setting | default | |
/// |---|---|---|
/// | `with_mean` | true | whether the mean is subtracted |
/// | `with_std` | true | whether the deviation is divided out |
///
/// NaN is ignored in fitting and kept in transforming.
///
/// ```
/// use kiln_data::scale::{Matrix, Scale, StandardScaler};
///
/// let x = Matrix::from_rows([[1e8 - 1.0, 7.0], [1e8 + 1.0, 7.0]]);
/// let mut scaler = StandardScaler::new();
/// let y = scaler.fit_transform(&x)?;
/// assert_eq!(y.row(0), [-1.0, 0.0]);
/// assert_eq!(scaler.var(), Some(&[1.0, 0.0][..]));
/// # Ok::<(), kiln_data::scale::ScaleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandardScaler {
    with_mean: bool,
    with_std: bool,
    state: Option<State>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(with = "floats")]
    mean: Vec<f64>,
    #[serde(with = "floats")]
    var: Vec<f64>,
    /// Of each feature, without NaN.
    n_samples_seen: Vec<u64>,
}

impl Default for StandardScaler {
    fn default() -> Self {
        Self::new()
    }
}

impl StandardScaler {
    /// Subtracts the mean and divides by the standard deviation.
    pub fn new() -> Self {
        Self {
            with_mean: true,
            with_std: true,
            state: None,
        }
    }

    /// Whether to subtract the mean.
    pub fn with_mean(mut self, with_mean: bool) -> Self {
        self.with_mean = with_mean;
        self
    }

    /// Whether to divide by the standard deviation.
    pub fn with_std(mut self, with_std: bool) -> Self {
        self.with_std = with_std;
        self
    }

    /// Mean of each feature; none if neither mean nor deviation is used.
    pub fn mean(&self) -> Option<&[f64]> {
        let used = self.with_mean || self.with_std;
        let state = self.state.as_ref().filter(|_| used);
        state.map(|state| &state.mean[..])
    }

    /// Biased variance of each feature; none without `with_std`.
    pub fn var(&self) -> Option<&[f64]> {
        let state = self.state.as_ref().filter(|_| self.with_std);
        state.map(|state| &state.var[..])
    }

    /// What each feature is divided by: its standard deviation, 1 if it is constant; none without `with_std`.
    pub fn scale(&self) -> Option<Vec<f64>> {
        let state = self.state.as_ref().filter(|_| self.with_std)?;
        let scale = |i: usize| {
            let (var, mean, n) = (state.var[i], state.mean[i], state.n_samples_seen[i] as f64);
            let bound = n * f64::EPSILON * var + (n * mean * f64::EPSILON).powi(2);
            match var <= bound {
                true => 1.0,
                false => var.sqrt(),
            }
        };
        Some((0..state.var.len()).map(scale).collect())
    }

    /// Samples of each feature seen, NaN left out.
    pub fn n_samples_seen(&self) -> Option<&[u64]> {
        self.state.as_ref().map(|state| &state.n_samples_seen[..])
    }
}

impl Scale for StandardScaler {
    const NAME: &'static str = "StandardScaler";

    fn num_features(&self) -> Option<usize> {
        self.state.as_ref().map(|state| state.mean.len())
    }

    fn forget(&mut self) {
        self.state = None;
    }

    fn observe(&mut self, data: &Columns) -> Result<(), ScaleError> {
        let width = data.columns.len();
        let state = self.state.get_or_insert_with(|| State {
            mean: vec![f64::NAN; width],
            var: vec![f64::NAN; width],
            n_samples_seen: vec![0; width],
        });
        for (i, column) in data.columns.iter().enumerate() {
            let (mut n, mut sum) = (0.0, 0.0);
            for (value, count) in column.present() {
                n += count;
                sum += value * count;
            }
            if n == 0.0 {
                continue;
            }
            let center = sum / n;
            let (mut correction, mut squares) = (0.0, 0.0);
            for (value, count) in column.present() {
                let deviation = value - center;
                correction += deviation * count;
                squares += deviation * deviation * count;
            }
            squares -= correction * correction / n;
            let before = state.n_samples_seen[i] as f64;
            let total = before + n;
            if before == 0.0 {
                state.mean[i] = sum / total;
                state.var[i] = squares / total;
            } else {
                let sum_before = state.mean[i] * before;
                let ratio = before / n;
                let between = ratio / total * (sum_before / ratio - sum).powi(2);
                state.mean[i] = (sum_before + sum) / total;
                state.var[i] = (state.var[i] * before + squares + between) / total;
            }
            state.n_samples_seen[i] += n as u64;
        }
        Ok(())
    }

    fn linear(&self) -> Option<Linear> {
        let width = self.num_features()?;
        let mean = self.mean().filter(|_| self.with_mean);
        let center = mean.map_or_else(|| vec![0.0; width], <[f64]>::to_vec);
        let scale = self.scale().unwrap_or_else(|| vec![1.0; width]);
        Some(Linear::dividing(center, scale))
    }

    fn check_state(&self) -> Result<(), String> {
        match &self.state {
            Some(s) if s.var.len() != s.mean.len() || s.n_samples_seen.len() != s.mean.len() => {
                Err("mean, var and n_samples_seen differ in length".into())
            }
            _ => Ok(()),
        }
    }
}
