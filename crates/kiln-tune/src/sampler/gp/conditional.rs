//! Joint samples of a process at running trials and a candidate.

use nalgebra::DMatrix;

use super::regressor::{Factor, Posterior, Regressor};

const STABILIZING_NOISE: f64 = 1e-12;

/// A process conditioned on sampled values at running trials, which are drawn once.
#[derive(Debug)]
pub struct Conditional {
    regressor: Regressor,
    running: Vec<Vec<f64>>,
    /// Values at the running trials, a row per sample.
    fantasies: Vec<Vec<f64>>,
    /// Standard normal numbers of the candidate, one per sample.
    candidate: Vec<f64>,
    factor: Factor,
    /// Per sample, the inverse posterior covariance times the deviation of the fantasies.
    deviations: Vec<Vec<f64>>,
    /// Per running trial, the inverse covariance of the data times its covariances with the data.
    weights: Vec<Vec<f64>>,
}

impl Conditional {
    /// Draws values at the running trials. `samples` are standard normal numbers, a row per sample
    /// with one number per running trial and one for the candidate. `None` when their covariance is
    /// degenerate.
    pub fn new(regressor: Regressor, running: &[Vec<f64>], samples: &[Vec<f64>]) -> Option<Self> {
        let n = running.len();
        let weights: Vec<Vec<f64>> = running.iter().map(|x| regressor.weights(x)).collect();
        let posterior = |a: usize, b: usize| {
            let prior = regressor.kernel(&running[a], &running[b]);
            let explained: f64 = regressor
                .points()
                .iter()
                .zip(&weights[b])
                .map(|(x, w)| regressor.kernel(&running[a], x) * w)
                .sum();
            prior - explained
        };
        let mut covariance = DMatrix::from_fn(n, n, posterior);
        for i in 0..n {
            covariance[(i, i)] = covariance[(i, i)].max(0.0) + STABILIZING_NOISE;
        }
        // Two running trials at one point leave rounding errors only; a little more noise separates
        // them.
        let factor = [0.0, 1e-10, 1e-8, 1e-6].iter().find_map(|extra| {
            let widened = &covariance + DMatrix::identity(n, n) * *extra;
            Factor::new(widened)
        })?;
        let means: Vec<f64> = running
            .iter()
            .map(|x| regressor.mean_variance(x).0)
            .collect();
        let mut fantasies = Vec::with_capacity(samples.len());
        let mut deviations = Vec::with_capacity(samples.len());
        for z in samples {
            let deviation = factor.multiply(&z[..n]);
            fantasies.push(means.iter().zip(&deviation).map(|(m, d)| m + d).collect());
            deviations.push(factor.solve(&deviation));
        }
        Some(Self {
            regressor,
            running: running.to_vec(),
            fantasies,
            candidate: samples.iter().map(|z| z[n]).collect(),
            factor,
            deviations,
            weights,
        })
    }

    /// Number of samples.
    pub fn n_samples(&self) -> usize {
        self.fantasies.len()
    }

    /// Number of running trials.
    pub fn n_running(&self) -> usize {
        self.running.len()
    }

    /// The sampled value at a running trial.
    pub fn fantasy(&self, sample: usize, running: usize) -> f64 {
        self.fantasies[sample][running]
    }

    /// The process before conditioning.
    pub fn regressor(&self) -> &Regressor {
        &self.regressor
    }

    /// Prepares the samples at a candidate.
    pub fn at(&self, x: &[f64], with_gradient: bool) -> Candidate<'_> {
        let posterior = if with_gradient {
            self.regressor.posterior(x)
        } else {
            let (mean, variance) = self.regressor.mean_variance(x);
            Posterior {
                mean,
                variance,
                mean_gradient: Vec::new(),
                variance_gradient: Vec::new(),
            }
        };
        let points = self.regressor.points();
        let covariance: Vec<f64> = self
            .running
            .iter()
            .zip(&self.weights)
            .map(|(r, weights)| {
                let explained: f64 = points
                    .iter()
                    .zip(weights)
                    .map(|(p, w)| self.regressor.kernel(x, p) * w)
                    .sum();
                self.regressor.kernel(x, r) - explained
            })
            .collect();
        let solved = self.factor.solve(&covariance);
        let explained: f64 = covariance.iter().zip(&solved).map(|(c, s)| c * s).sum();
        let variance = (posterior.variance + STABILIZING_NOISE - explained).max(0.0);
        let mut candidate = Candidate {
            conditional: self,
            mean: posterior.mean,
            sigma: variance.sqrt(),
            covariance,
            mean_gradient: posterior.mean_gradient,
            covariance_gradient: Vec::new(),
            sigma_gradient: Vec::new(),
        };
        if with_gradient {
            let of_points: Vec<Vec<f64>> = points
                .iter()
                .map(|p| self.regressor.kernel_gradient(x, p))
                .collect();
            candidate.covariance_gradient = self
                .running
                .iter()
                .zip(&self.weights)
                .map(|(r, weights)| {
                    let mut gradient = self.regressor.kernel_gradient(x, r);
                    for (of_point, w) in of_points.iter().zip(weights) {
                        for (g, d) in gradient.iter_mut().zip(of_point) {
                            *g -= d * w;
                        }
                    }
                    gradient
                })
                .collect();
            candidate.sigma_gradient = (0..x.len())
                .map(|j| {
                    let by_covariance: f64 = candidate
                        .covariance_gradient
                        .iter()
                        .zip(&solved)
                        .map(|(g, s)| 2.0 * g[j] * s)
                        .sum();
                    let by_variance = posterior.variance_gradient[j] - by_covariance;
                    if variance > 0.0 {
                        by_variance / (2.0 * candidate.sigma)
                    } else {
                        0.0
                    }
                })
                .collect();
        }
        candidate
    }
}

/// The samples of a process at a candidate.
#[derive(Debug)]
pub struct Candidate<'a> {
    conditional: &'a Conditional,
    mean: f64,
    sigma: f64,
    /// Posterior covariances with the running trials.
    covariance: Vec<f64>,
    mean_gradient: Vec<f64>,
    covariance_gradient: Vec<Vec<f64>>,
    sigma_gradient: Vec<f64>,
}

impl Candidate<'_> {
    /// The value of a sample.
    pub fn sample(&self, sample: usize) -> f64 {
        let deviation = &self.conditional.deviations[sample];
        let shift: f64 = self
            .covariance
            .iter()
            .zip(deviation)
            .map(|(c, d)| c * d)
            .sum();
        self.mean + shift + self.sigma * self.conditional.candidate[sample]
    }

    /// Adds `weight` times the gradient of a sample.
    pub fn add_gradient(&self, sample: usize, weight: f64, gradient: &mut [f64]) {
        if weight == 0.0 {
            return;
        }
        let deviation = &self.conditional.deviations[sample];
        let z = self.conditional.candidate[sample];
        for (j, g) in gradient.iter_mut().enumerate() {
            let shift: f64 = self
                .covariance_gradient
                .iter()
                .zip(deviation)
                .map(|(c, d)| c[j] * d)
                .sum();
            *g += weight * (self.mean_gradient[j] + shift + z * self.sigma_gradient[j]);
        }
    }
}
