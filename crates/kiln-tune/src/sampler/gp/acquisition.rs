//! Acquisition functions: how promising a point is, with gradients.
//!
//! Values are standardised and maximised, so improvement is upwards.

use std::f64::consts::FRAC_1_SQRT_2;

use super::conditional::Conditional;
use super::regressor::Regressor;
use crate::normal;

/// Added to every variance, which may be rounded to 0.
pub(super) const STABILIZING_NOISE: f64 = 1e-12;
/// Smallest improvement, so that its logarithm exists.
pub(super) const EPS: f64 = 1e-12;
/// Width of the smoothed feasibility of running trials.
pub(super) const TAU: f64 = 1e-2;

/// A function to be maximised over the box.
pub trait Acquisition {
    /// The value at a point.
    fn value(&self, x: &[f64]) -> f64;

    /// The value at a point, with the gradient written to `gradient`. Categorical coordinates have
    /// none.
    fn value_and_gradient(&self, x: &[f64], gradient: &mut [f64]) -> f64;

    /// Length scales of the coordinates, which precondition the search.
    fn length_scales(&self) -> Vec<f64>;
}

/// Logarithm of the expected improvement of a standard normal variable shifted by `z`, accurate for
/// any `z` (Ament et al., *Unexpected Improvements to Expected Improvement for Bayesian
/// Optimization*, 2023).
pub fn standard_log_ei(z: f64) -> f64 {
    if z >= -25.0 {
        let density = normal::ln_density(z).exp();
        return (0.5 * z * libm::erfc(-z * FRAC_1_SQRT_2) + density).ln();
    }
    // The asymptotic series of (φ(z) + z Φ(z)) z² / φ(z): 1 - 3/z² + 15/z⁴ - ...
    let inverse = 1.0 / (z * z);
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..10 {
        term *= -f64::from(2 * k + 1) * inverse;
        sum += term;
    }
    normal::ln_density(z) + inverse.ln() + sum.ln()
}

/// Log expected improvement of a normal value over a threshold, with its derivatives by mean and
/// variance.
fn log_ei(mean: f64, variance: f64, threshold: f64) -> (f64, f64, f64) {
    let sigma = variance.sqrt();
    let z = (mean - threshold) / sigma;
    let log = standard_log_ei(z);
    // The derivative of log ei(z) is Φ(z) / ei(z).
    let slope = (normal::ln_cdf(z) - log).exp();
    let by_sigma = (1.0 - z * slope) / sigma;
    (log + sigma.ln(), slope / sigma, by_sigma / (2.0 * sigma))
}

/// Log probability that a normal value exceeds a threshold, with its derivatives by mean and
/// variance.
pub(super) fn log_pi(mean: f64, variance: f64, threshold: f64) -> (f64, f64, f64) {
    let sigma = variance.sqrt();
    let z = (mean - threshold) / sigma;
    let slope = normal::ln_cdf_derivative(z);
    (
        normal::ln_cdf(z),
        slope / sigma,
        -slope * z / (2.0 * variance),
    )
}

/// A probability of feasibility: the process of a constraint and the value it must reach.
#[derive(Debug, Clone)]
pub struct Feasibility {
    /// The process of the negated, standardised constraint.
    pub regressor: Regressor,
    /// Its standardised value at violation 0.
    pub threshold: f64,
}

/// Log expected improvement, plus the log probabilities that all constraints hold.
#[derive(Debug, Clone)]
pub struct LogEi {
    /// The process of the objective.
    pub regressor: Regressor,
    /// The best feasible value so far; negative infinity, when there is none, leaves only the
    /// constraints.
    pub threshold: f64,
    /// The constraints.
    pub constraints: Vec<Feasibility>,
}

impl LogEi {
    fn terms(&self) -> impl Iterator<Item = (&Regressor, f64, Term)> {
        let objective = self.threshold.is_finite();
        objective
            .then_some((&self.regressor, self.threshold, log_ei as Term))
            .into_iter()
            .chain(
                self.constraints
                    .iter()
                    .map(|c| (&c.regressor, c.threshold, log_pi as Term)),
            )
    }
}

/// A logarithm with its derivatives by mean and variance.
pub(super) type Term = fn(f64, f64, f64) -> (f64, f64, f64);

pub(super) fn sum_values<'a>(
    terms: impl Iterator<Item = (&'a Regressor, f64, Term)>,
    x: &[f64],
) -> f64 {
    terms
        .map(|(regressor, threshold, term)| {
            let (mean, variance) = regressor.mean_variance(x);
            term(mean, variance + STABILIZING_NOISE, threshold).0
        })
        .sum()
}

pub(super) fn sum_gradients<'a>(
    terms: impl Iterator<Item = (&'a Regressor, f64, Term)>,
    x: &[f64],
    gradient: &mut [f64],
) -> f64 {
    terms
        .map(|(regressor, threshold, term)| {
            let p = regressor.posterior(x);
            let (value, by_mean, by_variance) =
                term(p.mean, p.variance + STABILIZING_NOISE, threshold);
            for ((g, m), v) in gradient
                .iter_mut()
                .zip(&p.mean_gradient)
                .zip(&p.variance_gradient)
            {
                *g += by_mean * m + by_variance * v;
            }
            value
        })
        .sum()
}

impl Acquisition for LogEi {
    fn value(&self, x: &[f64]) -> f64 {
        sum_values(self.terms(), x)
    }

    fn value_and_gradient(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
        gradient.fill(0.0);
        sum_gradients(self.terms(), x, gradient)
    }

    fn length_scales(&self) -> Vec<f64> {
        self.regressor.length_scales()
    }
}

/// Log expected improvement of the best of the running trials and the candidate, over joint samples
/// of their values; with constraints, an improvement counts as far as the sampled constraints hold.
#[derive(Debug)]
pub struct QLogEi {
    /// Conditional samples of the objective.
    pub objective: Conditional,
    /// The best feasible value so far; negative infinity leaves only the constraints.
    pub threshold: f64,
    /// Conditional samples of the constraints, with the values they must reach.
    pub constraints: Vec<(Conditional, f64)>,
}

impl QLogEi {
    fn utility(&self, y: f64) -> (f64, f64) {
        if self.threshold == f64::NEG_INFINITY {
            return (0.0, 0.0);
        }
        let improvement = y - self.threshold;
        if improvement > EPS {
            (improvement.ln(), 1.0 / improvement)
        } else {
            (EPS.ln(), 0.0)
        }
    }

    fn evaluate(&self, x: &[f64], gradient: Option<&mut [f64]>) -> f64 {
        let objective = self.objective.at(x, gradient.is_some());
        let constraints: Vec<_> = self
            .constraints
            .iter()
            .map(|(c, threshold)| (c, c.at(x, gradient.is_some()), *threshold))
            .collect();
        let n = self.objective.n_samples();
        let mut logs = Vec::with_capacity(n);
        // Per sample, whether the candidate is the best, and the derivatives of its utility by the
        // sampled values.
        let mut slopes: Vec<Option<(f64, Vec<f64>)>> = Vec::with_capacity(n);
        for s in 0..n {
            let running = (0..self.objective.n_running())
                .map(|r| {
                    let constrained: f64 = constraints
                        .iter()
                        .map(|(c, _, threshold)| log_sigmoid((c.fantasy(s, r) - threshold) / TAU).0)
                        .sum();
                    self.utility(self.objective.fantasy(s, r)).0 + constrained
                })
                .fold(f64::NEG_INFINITY, f64::max);
            let (mut own, by_objective) = self.utility(objective.sample(s));
            let by_constraints: Vec<f64> = constraints
                .iter()
                .map(|(_, at, threshold)| {
                    let (value, slope) = log_sigmoid((at.sample(s) - threshold) / TAU);
                    own += value;
                    slope / TAU
                })
                .collect();
            slopes.push((own >= running).then_some((by_objective, by_constraints)));
            logs.push(own.max(running));
        }
        let total = log_sum_exp(&logs);
        if let Some(gradient) = gradient {
            gradient.fill(0.0);
            for (s, slope) in slopes.into_iter().enumerate() {
                let Some((by_objective, by_constraints)) = slope else {
                    continue;
                };
                let weight = (logs[s] - total).exp();
                objective.add_gradient(s, weight * by_objective, gradient);
                for ((_, at, _), by) in constraints.iter().zip(by_constraints) {
                    at.add_gradient(s, weight * by, gradient);
                }
            }
        }
        total - (n as f64).ln()
    }
}

impl Acquisition for QLogEi {
    fn value(&self, x: &[f64]) -> f64 {
        self.evaluate(x, None)
    }

    fn value_and_gradient(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
        self.evaluate(x, Some(gradient))
    }

    fn length_scales(&self) -> Vec<f64> {
        self.objective.regressor().length_scales()
    }
}

pub(super) fn log_sigmoid(x: f64) -> (f64, f64) {
    let value = if x < 0.0 {
        x - x.exp().ln_1p()
    } else {
        -(-x).exp().ln_1p()
    };
    (value, 1.0 / (1.0 + x.exp()))
}

pub(super) fn log_sum_exp(logs: &[f64]) -> f64 {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return top;
    }
    top + logs.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::super::ehvi::{LogEhvi, QLogEhvi};
    use super::super::regressor::Data;
    use super::*;

    // Numbers of scipy 1.17 by the formulas of the paper, with `erfcx` below -25.
    #[test]
    fn log_expected_improvement_is_accurate_far_from_the_best() {
        for (z, want) in [
            (-1000.0, -500014.73445209133),
            (-40.0, -808.2985683566197),
            (-25.5, -332.525884462205),
            (-24.5, -307.44625385776453),
            (-5.0, -16.744301162661042),
            (-0.3, -1.3214012449190435),
            (0.0, -0.9189385332046727),
            (2.0, 0.6973835457882284),
            (30.0, 3.4011973816621555),
        ] {
            let got = standard_log_ei(z);
            assert!(
                (got - want).abs() <= 1e-11 * f64::abs(want),
                "{z}: {got} {want}"
            );
        }
    }

    fn regressor(shift: f64) -> Regressor {
        let x: Vec<Vec<f64>> = (0..8)
            .map(|i| vec![f64::from(i) / 7.0, f64::from(i * 3 % 8) / 7.0])
            .collect();
        let y = x
            .iter()
            .map(|r| (4.0 * r[0] + shift).sin() - r[1])
            .collect();
        let data = Data {
            x,
            y,
            is_categorical: vec![false; 2],
        };
        Regressor::fit(data, None, false, 0.01)
    }

    fn check_gradient(acquisition: &dyn Acquisition) {
        for x in [[0.31, 0.42], [0.77, 0.05]] {
            let mut gradient = [0.0; 2];
            let value = acquisition.value_and_gradient(&x, &mut gradient);
            assert!((value - acquisition.value(&x)).abs() < 1e-9);
            for j in 0..2 {
                let shifted = |h: f64| {
                    let mut x = x;
                    x[j] += h;
                    acquisition.value(&x)
                };
                let slope = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                let scale = slope.abs().max(1.0);
                assert!(
                    (gradient[j] - slope).abs() < 1e-4 * scale,
                    "{} {slope}",
                    gradient[j]
                );
            }
        }
    }

    #[test]
    fn gradients_are_slopes() {
        let constraint = |t| Feasibility {
            regressor: regressor(2.0),
            threshold: t,
        };
        check_gradient(&LogEi {
            regressor: regressor(0.0),
            threshold: 0.5,
            constraints: vec![constraint(0.2)],
        });
        check_gradient(&LogEi {
            regressor: regressor(0.0),
            threshold: f64::NEG_INFINITY,
            constraints: vec![constraint(0.2)],
        });
        let samples: Vec<Vec<f64>> = (0..16)
            .map(|i| vec![f64::from(i % 4) - 1.5, f64::from(i / 4) - 1.4])
            .collect();
        let values = vec![vec![0.1, -0.3], vec![-0.4, 0.5]];
        check_gradient(&LogEhvi::new(
            vec![regressor(0.0), regressor(1.0)],
            vec![constraint(0.2)],
            &values,
            samples.clone(),
        ));
        let running = vec![vec![0.2, 0.8]];
        let conditional = |shift| Conditional::new(regressor(shift), &running, &samples);
        check_gradient(&QLogEi {
            objective: conditional(0.0).unwrap(),
            threshold: -0.5,
            constraints: vec![(conditional(2.0).unwrap(), -0.5)],
        });
        check_gradient(&QLogEhvi::new(
            vec![conditional(0.0).unwrap(), conditional(1.0).unwrap()],
            vec![(conditional(2.0).unwrap(), -0.5)],
            &values,
        ));
    }
}
