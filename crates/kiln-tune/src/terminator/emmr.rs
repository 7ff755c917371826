use std::sync::{Arc, Mutex};

use super::ImprovementEvaluator;
use super::observed::{Fit, Observed, standardized_regret_bound};
use crate::error::{Error, Result};
use crate::multi_objective::argmax;
use crate::normal;
use crate::rng::Rng;
use crate::sampler::gp::{FIT_TOLERANCE, MINIMUM_NOISE, Regressor, standardize};
use crate::sampler::qmc::{SequenceError, Sobol};
use crate::study::StudyDirection;
use crate::sync::lock;
use crate::trial::FrozenTrial;

/// What is returned while nothing can be said, so that no study ends by it.
const UNKNOWN: f64 = f64::MAX * 0.1;

/// Expected minimum model regret: how much the last trial has moved what a Gaussian process expects of the best point, an
/// upper bound of the gap between expected minimum simple regrets. It is in standard deviations of the values, and its
/// scale depends on the objective, so that it is compared with its own first values
/// ([`MedianErrorEvaluator`](super::MedianErrorEvaluator)).
///
/// | setting | default | meaning |
/// |---|---|---|
/// | [`deterministic_objective`](Self::deterministic_objective) | false | the objective has no noise |
/// | [`delta`](Self::delta) | 0.1 | probability that the confidence bound does not hold; between 0 and 1 |
/// | [`min_n_trials`](Self::min_n_trials) | 2 | with fewer complete trials the regret is unknown, which is a number near the largest; at least 2 |
/// | [`seed`](Self::seed) | of the operating system | of the points at which the bound is looked for |
///
/// Ishibashi et al., "A stopping criterion for Bayesian optimization by the gap of expected minimum simple regrets"
/// (2023).
///
/// ```
/// use std::sync::Arc;
/// use kiln_tune::terminator::{EmmrEvaluator, MedianErrorEvaluator, Terminator};
///
/// let emmr = Arc::new(EmmrEvaluator::new().seed(1));
/// let terminator = Terminator::new(emmr.clone(), MedianErrorEvaluator::new(emmr));
/// ```
#[derive(Debug)]
pub struct EmmrEvaluator {
    deterministic: bool,
    delta: f64,
    min_n_trials: usize,
    rng: Mutex<Rng>,
}

impl Default for EmmrEvaluator {
    fn default() -> Self {
        Self::new()
    }
}

impl EmmrEvaluator {
    /// With the defaults of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self {
            deterministic: false,
            delta: 0.1,
            min_n_trials: 2,
            rng: Mutex::new(Rng::new(None)),
        }
    }

    /// Whether the same parameters always give the same value.
    #[must_use]
    pub fn deterministic_objective(mut self, deterministic: bool) -> Self {
        self.deterministic = deterministic;
        self
    }

    /// The probability that the confidence bound does not hold.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is not between 0 and 1, both excluded.
    pub fn delta(mut self, delta: f64) -> Result<Self> {
        if !(delta > 0.0 && delta < 1.0) {
            return Err(Error::invalid(format!(
                "delta must be between 0 and 1, both excluded, but got {delta}"
            )));
        }
        self.delta = delta;
        Ok(self)
    }

    /// Complete trials before the regret is known.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] below 2, since two processes are compared.
    pub fn min_n_trials(mut self, n: usize) -> Result<Self> {
        if n < 2 {
            return Err(Error::invalid(format!(
                "min_n_trials must be at least 2, but got {n}"
            )));
        }
        self.min_n_trials = n;
        Ok(self)
    }

    /// The seed of the points at which the bound is looked for.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.rng = Mutex::new(Rng::new(Some(seed)));
        self
    }

    /// The regret, by fits of the two processes, the earlier one first, and a bound at the first points of `samples`. There
    /// are two trials at least.
    pub(super) fn regret(
        &self,
        observed: &Observed,
        fit: Fit<'_>,
        samples: &Sobol,
    ) -> std::result::Result<f64, SequenceError> {
        let x = &observed.x;
        let last = x.len() - 1;
        let (y, _, _) = standardize(&observed.values);
        // The process before the last trial, and with it.
        let before = fit(observed.data(last, &y), None);
        let now = fit(observed.data(last + 1, &y), Some(&before.params));

        let (best_now, best_before) = (&x[argmax(&y)], &x[argmax(&y[..last])]);
        let covariance = if best_now == best_before {
            now.mean_variance(best_now).1
        } else {
            now.covariance(best_now, best_before)
        };
        let (mean_at_last, variance_at_last) = now.mean_variance(&x[last]);
        let (mean_now, variance_now) = now.mean_variance(best_now);
        let variance_before = now.mean_variance(best_before).1;
        let mean_before = before.mean_variance(best_before).0;
        let bound =
            standardized_regret_bound(&before, &observed.space, &x[..last], self.delta, samples)?;

        // The change of the expected minimum (theorem 1 of the paper): its mean and its expected improvement.
        let v = (variance_now - 2.0 * covariance + variance_before)
            .max(1e-10)
            .sqrt();
        let g = (mean_now - mean_before) / v;
        let change =
            mean_before - mean_now + v * normal::ln_density(g).exp() + v * g * normal::cdf(g);
        // How much the last trial moved the process there: a Kullback-Leibler divergence (equation 4).
        let precision = 1.0 / MINIMUM_NOISE;
        let total = variance_at_last + MINIMUM_NOISE;
        let divergence = 0.5 * (1.0 + precision * variance_at_last).ln()
            - 0.5 * variance_at_last / total
            + 0.5 * variance_at_last * (y[last] - mean_at_last).powi(2) / (total * total);
        let moved = bound * (0.5 * divergence).max(0.0).sqrt();
        Ok((change + moved).min(f64::MAX * 0.5))
    }
}

impl ImprovementEvaluator for EmmrEvaluator {
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64> {
        let observed = Observed::new(trials, direction);
        if observed.values.len() < self.min_n_trials {
            return Ok(UNKNOWN);
        }
        let n_params = observed.space.axes.len();
        if n_params == 0 {
            log::warn!(
                "the complete trials have no parameter in common, so that the expected minimum model regret stays unknown and never ends this study"
            );
            return Ok(UNKNOWN);
        }
        let seed = u64::from(lock(&self.rng).next_u32());
        let fit: Fit<'_> =
            &|data, start| Regressor::fit(data, start, self.deterministic, FIT_TOLERANCE);
        Sobol::scrambled(n_params, seed)
            .and_then(|samples| self.regret(&observed, fit, &samples))
            .map_err(|error| Error::invalid(error.to_string()))
    }
}
