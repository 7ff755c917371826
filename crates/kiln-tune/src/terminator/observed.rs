//! The complete trials of a study as a Gaussian process sees them.

use std::sync::Arc;

use super::complete;
use crate::sampler::gp::{Data, GpSpace, KernelParams, Regressor};
use crate::sampler::qmc::{SequenceError, Sobol};
use crate::search_space::intersection_search_space;
use crate::study::StudyDirection;
use crate::trial::FrozenTrial;

/// Points at which a bound over the whole search space is looked at.
const N_SAMPLES: u64 = 2048;

/// Fits a process to data, from these parameters or from the default ones.
pub(super) type Fit<'a> = &'a dyn Fn(Data, Option<&KernelParams>) -> Regressor;

/// Parameters and values of complete trials; larger values are better.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) space: GpSpace,
    /// Points of the unit box, one row per trial.
    pub(super) x: Vec<Vec<f64>>,
    pub(super) values: Vec<f64>,
}

impl Observed {
    /// The parameters that all complete trials share, with their values.
    pub(super) fn new(trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Self {
        let params = intersection_search_space(trials, false);
        let space = GpSpace::new(&params);
        let sign = if direction == StudyDirection::Maximize {
            1.0
        } else {
            -1.0
        };
        let (x, values) = complete(trials)
            .into_iter()
            .map(|(trial, value)| {
                let internal: Vec<f64> = params
                    .iter()
                    .map(|(name, d)| {
                        let known = trial.params.internal(name);
                        known.unwrap_or_else(|| d.single_value())
                    })
                    .collect();
                (space.normalize(&internal), sign * value)
            })
            .unzip();
        Self { space, x, values }
    }

    /// The data of the first `n` trials with standardized values.
    pub(super) fn data(&self, n: usize, standardized: &[f64]) -> Data {
        Data {
            x: self.x[..n].to_vec(),
            y: standardized[..n].to_vec(),
            is_categorical: self.space.is_categorical(),
        }
    }
}

/// Upper bound of the regret of the best of the points `x`, in standard deviations of the values: the largest upper
/// confidence bound anywhere (at `x` and at the first points of `samples`) less the largest lower one at `x`.
pub(super) fn standardized_regret_bound(
    regressor: &Regressor,
    space: &GpSpace,
    x: &[Vec<f64>],
    delta: f64,
    samples: &Sobol,
) -> Result<f64, SequenceError> {
    let beta = beta(space.axes.len(), x.len(), delta);
    let bounds = |point: &[f64]| {
        let (mean, variance) = regressor.mean_variance(point);
        let width = (beta * variance).sqrt();
        (mean - width, mean + width)
    };
    let (mut lower, mut upper) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for point in x {
        let (low, high) = bounds(point);
        lower = lower.max(low);
        upper = upper.max(high);
    }
    for i in 0..N_SAMPLES {
        upper = upper.max(bounds(&space.snap(&samples.point(i)?)).1);
    }
    Ok(upper - lower)
}

/// The factor of the variance in a confidence bound, a fifth of what the theorem asks for (Srinivas et al., "Gaussian
/// Process Optimization in the Bandit Setting", 2010).
fn beta(n_params: usize, n_trials: usize, delta: f64) -> f64 {
    let n = n_trials as f64;
    let pi_squared = std::f64::consts::PI.powi(2);
    2.0 * (n_params as f64 * n * n * pi_squared / 6.0 / delta).ln() / 5.0
}
