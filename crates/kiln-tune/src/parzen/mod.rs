//! The Parzen estimator of TPE: a density made of one kernel per observation and one for the prior.

pub(crate) mod argsort;
mod column;
mod kernels;
pub mod truncnorm;

pub use argsort::TieOrder;
pub(crate) use column::{Bandwidth, Column, NumericRange, PRIOR, to_index};
pub use column::{CategoricalKernels, NumericKernels};
pub(crate) use kernels::log_pdf;

use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::trial::ParamSpace;

/// How an estimator smooths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParzenOptions {
    /// The weight of the prior kernel relative to an observation. Default 1, not negative.
    pub prior_weight: f64,
    /// Whether the outermost kernels reach to the ends of the range. Default false.
    pub consider_endpoints: bool,
    /// Whether bandwidths have a lower limit that falls with the number of observations. Default true.
    pub consider_magic_clip: bool,
    /// In which order equal observations are given their bandwidths. Default: as they were observed.
    pub ties: TieOrder,
}

impl Default for ParzenOptions {
    fn default() -> Self {
        Self {
            prior_weight: 1.0,
            consider_endpoints: false,
            consider_magic_clip: true,
            ties: TieOrder::Stable,
        }
    }
}

/// A mixture of products: kernel `k` has weight `weights()[k]` and is the product, over the parameters, of the
/// kernel's `k`-th components. The prior comes last.
///
/// For a parameter on a log scale the continuous density is the one of its logarithm, which differs by a Jacobian that
/// cancels in the ratio of two estimators.
///
/// ```
/// use kiln_tune::parzen::{ParzenEstimator, ParzenOptions};
/// use kiln_tune::{Distribution, FloatDistribution, ParamSpace};
///
/// let x: Distribution = FloatDistribution::new(0.0, 1.0)?.into();
/// let space = ParamSpace::from_iter([("x", x)]);
/// let estimator = ParzenEstimator::new(&space, &[vec![0.2, 0.3]], None, ParzenOptions::default())?;
/// let density = estimator.log_pdf(&[vec![0.25, 0.9]]);
/// assert!(density[0] > density[1]);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug)]
pub struct ParzenEstimator {
    weights: Vec<f64>,
    columns: Vec<Column>,
}

impl ParzenEstimator {
    /// Estimates from `observations[parameter][trial]`, internal values in the order of trials. Without weights, the
    /// default ones are used: 1 for the last 25, falling linearly for older ones.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the lengths do not match, a weight is negative or not finite, all weights are
    /// zero, or the prior weight is negative.
    pub fn new(
        space: &ParamSpace,
        observations: &[Vec<f64>],
        weights: Option<&[f64]>,
        options: ParzenOptions,
    ) -> Result<Self> {
        let n = observations.first().map_or(0, Vec::len);
        if observations.len() != space.len() || observations.iter().any(|column| column.len() != n)
        {
            return Err(Error::invalid(
                "one list of observations per parameter is needed, all of one length",
            ));
        }
        if options.prior_weight.is_nan() || options.prior_weight < 0.0 {
            return Err(Error::invalid(format!(
                "prior_weight must not be negative, but got {}",
                options.prior_weight
            )));
        }
        let observed = weights.map_or_else(|| default_weights(n), <[f64]>::to_vec);
        if observed.len() != n {
            return Err(Error::invalid(format!(
                "{n} weights are needed, but got {}",
                observed.len()
            )));
        }
        if observed.iter().any(|w| !w.is_finite() || *w < 0.0)
            || (n > 0 && observed.iter().sum::<f64>() <= 0.0)
        {
            return Err(Error::invalid(
                "weights must be finite, not negative, and not all zero",
            ));
        }
        let columns = space
            .iter()
            .zip(observations)
            .map(|((_, distribution), observed)| Column::new(distribution, observed, options))
            .collect();
        Ok(Self {
            weights: with_prior(observed, options.prior_weight),
            columns,
        })
    }

    /// The weights of the kernels, prior last, summing to 1.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The kernels of a numeric parameter.
    #[must_use]
    pub fn numeric(&self, parameter: usize) -> Option<&NumericKernels> {
        match self.columns.get(parameter)? {
            Column::Numeric(kernels) => Some(kernels),
            Column::Categorical(_) => None,
        }
    }

    /// The kernels of a categorical parameter.
    #[must_use]
    pub fn categorical(&self, parameter: usize) -> Option<&CategoricalKernels> {
        match self.columns.get(parameter)? {
            Column::Numeric(_) => None,
            Column::Categorical(kernels) => Some(kernels),
        }
    }

    /// Draws `n` points: internal values by parameter, then by draw. The random numbers are used as Optuna uses them.
    pub fn sample(&self, rng: &mut Rng, n: usize) -> Vec<Vec<f64>> {
        let kernels = self.draw_kernels(rng, n);
        let mut points = vec![Vec::new(); self.columns.len()];
        for (column, points) in self.columns.iter().zip(&mut points) {
            if let Column::Categorical(column) = column {
                *points = kernels
                    .iter()
                    .map(|k| column.sample(*k, rng.uniform()))
                    .collect();
            }
        }
        for (column, points) in self.columns.iter().zip(&mut points) {
            if let Column::Numeric(column) = column {
                *points = kernels
                    .iter()
                    .map(|k| column.sample(*k, rng.uniform()))
                    .collect();
            }
        }
        points
    }

    fn draw_kernels(&self, rng: &mut Rng, n: usize) -> Vec<usize> {
        let mut cumulative: Vec<f64> = self
            .weights
            .iter()
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let total = cumulative.last().copied().unwrap_or(1.0);
        cumulative.iter_mut().for_each(|c| *c /= total);
        let last = self.weights.len() - 1;
        (0..n)
            .map(|_| {
                let u = rng.uniform();
                cumulative.partition_point(|c| *c <= u).min(last)
            })
            .collect()
    }

    /// The log-density at points given as `points[parameter][point]`.
    ///
    /// # Panics
    /// When a parameter has no list of points.
    #[must_use]
    pub fn log_pdf(&self, points: &[Vec<f64>]) -> Vec<f64> {
        let mut base: Vec<f64> = self.weights.iter().map(|weight| weight.ln()).collect();
        for column in &self.columns {
            if let Column::Numeric(kernels) = column {
                for (sum, term) in base.iter_mut().zip(&kernels.log_normalizations) {
                    *sum += term;
                }
            }
        }
        kernels::log_pdf(&base, &self.columns, points)
    }
}

/// 1 for up to 25 observations; beyond, the last 25 have 1 and the older ones rise linearly from `1 / n`.
///
/// ```
/// use kiln_tune::parzen::default_weights;
///
/// assert_eq!(default_weights(2), [1.0, 1.0]);
/// assert_eq!(default_weights(27)[..3], [1.0 / 27.0, 1.0, 1.0]);
/// ```
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn default_weights(n: usize) -> Vec<f64> {
    const FLAT: usize = 25;
    let mut weights = vec![1.0; n];
    if n > FLAT {
        let ramp = n - FLAT;
        let start = 1.0 / n as f64;
        // As numpy's linspace: start + i * step, with the exact end.
        let step = (1.0 - start) / (ramp.max(2) - 1) as f64;
        for (i, weight) in weights[..ramp].iter_mut().enumerate() {
            *weight = if i > 0 && i + 1 == ramp {
                1.0
            } else {
                i as f64 * step + start
            };
        }
    }
    weights
}

fn with_prior(mut observed: Vec<f64>, prior_weight: f64) -> Vec<f64> {
    if observed.is_empty() {
        return vec![1.0];
    }
    observed.push(prior_weight);
    let sum: f64 = observed.iter().sum();
    observed.iter_mut().for_each(|weight| *weight /= sum);
    observed
}
