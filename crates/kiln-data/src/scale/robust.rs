//! [`RobustScaler`]

use serde::{Deserialize, Serialize};

use super::features::{Column, Columns};
use super::linear::Linear;
use super::{Scale, ScaleError, floats, handle_zeros};

const NAME: &str = "RobustScaler";

/// Subtracts each feature's median in the training data and divides by the distance of two quantiles, which
/// outliers do not move: `sklearn.preprocessing.RobustScaler`.
///
/// `y = (x - median) / (q_max - q_min)`; quantiles are interpolated linearly between two samples. A distance
/// below ten of f64's machine epsilons counts as one. It cannot be fitted in chunks.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `with_centering` | true | whether the median is subtracted |
/// | `with_scaling` | true | whether the distance is divided out |
/// | `quantile_range` | (25, 75) | percentages, `0 <= q_min <= q_max <= 100` |
/// | `unit_variance` | false | whether a normal feature gets variance 1: the distance is divided by that of the standard normal's quantiles |
///
/// NaN is ignored in fitting and kept in transforming.
///
/// ```
/// use kiln_data::scale::{Matrix, RobustScaler, Scale};
///
/// let x = Matrix::from_rows([[1.0], [2.0], [3.0], [4.0], [1000.0]]);
/// let mut scaler = RobustScaler::new();
/// assert_eq!(scaler.fit_transform(&x)?.as_slice(), [-1.0, -0.5, 0.0, 0.5, 498.5]);
/// # Ok::<(), kiln_data::scale::ScaleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobustScaler {
    with_centering: bool,
    with_scaling: bool,
    quantile_range: (f64, f64),
    unit_variance: bool,
    state: Option<State>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(with = "floats")]
    center: Vec<f64>,
    #[serde(with = "floats")]
    scale: Vec<f64>,
}

impl Default for RobustScaler {
    fn default() -> Self {
        Self::new()
    }
}

impl RobustScaler {
    /// Subtracts the median and divides by the distance of the quartiles.
    pub fn new() -> Self {
        Self {
            with_centering: true,
            with_scaling: true,
            quantile_range: (25.0, 75.0),
            unit_variance: false,
            state: None,
        }
    }

    /// Whether to subtract the median.
    pub fn with_centering(mut self, with_centering: bool) -> Self {
        self.with_centering = with_centering;
        self
    }

    /// Whether to divide by the distance of the quantiles.
    pub fn with_scaling(mut self, with_scaling: bool) -> Self {
        self.with_scaling = with_scaling;
        self
    }

    /// The two quantiles, in percent.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Setting`] unless `0 <= q_min <= q_max <= 100`.
    pub fn quantile_range(mut self, q_min: f64, q_max: f64) -> Result<Self, ScaleError> {
        self.quantile_range = (q_min, q_max);
        self.check_settings()?;
        Ok(self)
    }

    /// Whether a normal feature gets variance 1.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Setting`] if the quantiles are equal, or 0 or 100, where the normal has none.
    pub fn unit_variance(mut self, unit_variance: bool) -> Result<Self, ScaleError> {
        self.unit_variance = unit_variance;
        self.check_settings()?;
        Ok(self)
    }

    /// Median of each feature; none without `with_centering`.
    pub fn center(&self) -> Option<&[f64]> {
        let state = self.state.as_ref().filter(|_| self.with_centering);
        state.map(|state| &state.center[..])
    }

    /// What each feature is divided by; none without `with_scaling`.
    pub fn scale(&self) -> Option<&[f64]> {
        let state = self.state.as_ref().filter(|_| self.with_scaling);
        state.map(|state| &state.scale[..])
    }
}

impl Scale for RobustScaler {
    const NAME: &'static str = NAME;
    const INCREMENTAL: bool = false;

    fn num_features(&self) -> Option<usize> {
        self.state.as_ref().map(|state| state.center.len())
    }

    fn forget(&mut self) {
        self.state = None;
    }

    fn observe(&mut self, data: &Columns) -> Result<(), ScaleError> {
        let (q_min, q_max) = self.quantile_range;
        let adjust = match self.unit_variance {
            true => normal_quantile(q_max / 100.0) - normal_quantile(q_min / 100.0),
            false => 1.0,
        };
        let (mut center, mut scale) = (Vec::new(), Vec::new());
        for column in &data.columns {
            let sorted = Sorted::of(column);
            center.push(sorted.median());
            let range = sorted.quantile(q_max / 100.0) - sorted.quantile(q_min / 100.0);
            // Whatever the data's type, scikit-learn computes this scale in f64.
            scale.push(handle_zeros(range, f64::EPSILON) / adjust);
        }
        self.state = Some(State { center, scale });
        Ok(())
    }

    fn linear(&self) -> Option<Linear> {
        let width = self.num_features()?;
        let or = |values: Option<&[f64]>, otherwise: f64| {
            values.map_or_else(|| vec![otherwise; width], <[f64]>::to_vec)
        };
        Some(Linear::dividing(
            or(self.center(), 0.0),
            or(self.scale(), 1.0),
        ))
    }

    fn check_settings(&self) -> Result<(), ScaleError> {
        let (q_min, q_max) = self.quantile_range;
        let refuse = |allowed| ScaleError::Setting {
            scaler: NAME,
            setting: "quantile_range",
            given: format!("({q_min}, {q_max})"),
            allowed,
        };
        if !(0.0 <= q_min && q_min <= q_max && q_max <= 100.0) {
            return Err(refuse(
                "two percentages, from 0 to 100, the first not above the second",
            ));
        }
        if self.unit_variance && !(0.0 < q_min && q_min < q_max && q_max < 100.0) {
            return Err(refuse(
                "with unit_variance the percentages must lie between 0 and 100 and differ",
            ));
        }
        Ok(())
    }

    fn check_state(&self) -> Result<(), String> {
        match &self.state {
            Some(s) if s.center.len() != s.scale.len() => {
                Err("center and scale differ in length".into())
            }
            _ => Ok(()),
        }
    }
}

/// The values of a column in order, each with how many values come up to and with it.
struct Sorted(Vec<(f64, f64)>);

impl Sorted {
    fn of(column: &Column) -> Self {
        let mut values: Vec<(f64, f64)> = column.present().collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut sum = 0.0;
        for (_, count) in &mut values {
            sum += *count;
            *count = sum;
        }
        Self(values)
    }

    fn len(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, up_to)| *up_to)
    }

    fn at(&self, index: f64) -> f64 {
        let i = self.0.partition_point(|(_, up_to)| *up_to <= index);
        self.0[i.min(self.0.len() - 1)].0
    }

    /// `numpy.nanmedian`.
    fn median(&self) -> f64 {
        let n = self.len();
        if n == 0.0 {
            return f64::NAN;
        }
        let half = (n / 2.0).floor();
        match n % 2.0 == 0.0 {
            true => 0.5 * (self.at(half - 1.0) + self.at(half)),
            false => self.at(half),
        }
    }

    /// `numpy.nanquantile` with linear interpolation.
    fn quantile(&self, q: f64) -> f64 {
        let n = self.len();
        if n == 0.0 {
            return f64::NAN;
        }
        let index = (n - 1.0) * q;
        let below = index.floor();
        let (a, b, t) = (self.at(below), self.at(below + 1.0), index - below);
        // From the nearer end, as numpy does.
        match t < 0.5 {
            true => a + (b - a) * t,
            false => b - (b - a) * (1.0 - t),
        }
    }
}

/// The standard normal's quantile function, to about 1e-16: algorithm AS 241
/// ([Wichura 1988](https://doi.org/10.2307/2347330)).
fn normal_quantile(p: f64) -> f64 {
    fn ratio(x: f64, above: [f64; 8], below: [f64; 8]) -> f64 {
        let polynomial = |c: [f64; 8]| c.into_iter().rev().fold(0.0, |sum, c| sum * x + c);
        polynomial(above) / polynomial(below)
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * ratio(0.180625 - q * q, CENTRE.0, CENTRE.1);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    let magnitude = match r <= 5.0 {
        true => ratio(r - 1.6, NEAR.0, NEAR.1),
        false => ratio(r - 5.0, FAR.0, FAR.1),
    };
    magnitude.copysign(q)
}

type Ratio = ([f64; 8], [f64; 8]);

#[rustfmt::skip]
#[allow(clippy::excessive_precision)] // the digits of the paper
const CENTRE: Ratio = (
    [3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3],
    [1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3],
);
#[rustfmt::skip]
#[allow(clippy::excessive_precision)] // the digits of the paper
const NEAR: Ratio = (
    [1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4],
    [1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9],
);
#[rustfmt::skip]
#[allow(clippy::excessive_precision)] // the digits of the paper
const FAR: Ratio = (
    [6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7],
    [1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15],
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_quantile_is_scipys() {
        // scipy.stats.norm.ppf
        for (p, expected) in [
            (0.5, 0.0),
            (0.75, 0.6744897501960817),
            (0.1, -1.2815515655446004),
            (0.05, -1.6448536269514729),
            (0.999, 3.090232306167813),
            (1e-6, -4.753424308822899),
            (1e-20, -9.262340089798408),
        ] {
            let got = normal_quantile(p);
            assert!(
                (got - expected).abs() <= 1e-14 * (1.0 + expected.abs()),
                "{p}: {got}"
            );
        }
    }
}
