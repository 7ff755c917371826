//! Learning rate adaptation (M. Nomura, Y. Akimoto and I. Ono, *CMA-ES with Learning Rate
//! Adaptation: Can CMA-ES with Default Population Size Solve Multimodal and Noisy Problems?*, 2023).

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::distribution::{Covariance, Distribution};

const ALPHA: f64 = 1.4;
const BETA_MEAN: f64 = 0.1;
const BETA_SIGMA: f64 = 0.03;
const GAMMA: f64 = 0.1;

/// Learning rates of mean and covariance with the moving averages that estimate their
/// signal-to-noise ratios.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningRate {
    e_mean: Vec<f64>,
    e_sigma: Vec<f64>,
    v_mean: f64,
    v_sigma: f64,
    /// Learning rate of the mean.
    pub eta_mean: f64,
    /// Learning rate of the covariance.
    pub eta_sigma: f64,
}

impl LearningRate {
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            e_mean: vec![0.0; dimension],
            e_sigma: vec![0.0; dimension * dimension],
            v_mean: 0.0,
            v_sigma: 0.0,
            eta_mean: 1.0,
            eta_sigma: 1.0,
        }
    }

    /// Shortens the step from `old` to `new`, which has just been taken with full learning rates.
    /// `whiten` multiplies by the inverse square root of the old covariance.
    pub(super) fn adapt(
        &mut self,
        old: &Distribution,
        new: &mut Distribution,
        whiten: impl Fn(&DVector<f64>) -> DVector<f64>,
    ) {
        let (Covariance::Full(old_c), Covariance::Full(new_c)) = (&old.covariance, &new.covariance)
        else {
            return;
        };
        let n = old.dimension();
        let delta_mean = &new.mean - &old.mean;
        let old_sigma = old_c * (old.sigma * old.sigma);
        let delta_sigma = new_c * (new.sigma * new.sigma) - &old_sigma;

        let local_mean = whiten(&delta_mean) / old.sigma;
        let half = whiten_columns(&delta_sigma, &whiten);
        let local_sigma = whiten_columns(&half.transpose(), &whiten)
            / (old.sigma * old.sigma * std::f64::consts::SQRT_2);

        let snr_mean = moving_snr(
            &mut self.e_mean,
            &mut self.v_mean,
            local_mean.as_slice(),
            BETA_MEAN,
        );
        let snr_sigma = moving_snr(
            &mut self.e_sigma,
            &mut self.v_sigma,
            local_sigma.as_slice(),
            BETA_SIGMA,
        );
        let eta_mean_before = self.eta_mean;
        self.eta_mean = adapted(self.eta_mean, snr_mean, BETA_MEAN);
        self.eta_sigma = adapted(self.eta_sigma, snr_sigma, BETA_SIGMA);

        new.mean = &old.mean + delta_mean * self.eta_mean;
        let sigma = old_sigma + delta_sigma * self.eta_sigma;
        let log_determinant: f64 = sigma
            .symmetric_eigenvalues()
            .iter()
            .map(|e| e.max(f64::MIN_POSITIVE).ln())
            .sum();
        new.sigma = (log_determinant / 2.0 / n as f64).exp().min(1e32);
        new.covariance = Covariance::Full(sigma / (new.sigma * new.sigma));
        new.sigma *= eta_mean_before / self.eta_mean;
    }
}

fn whiten_columns(
    matrix: &DMatrix<f64>,
    whiten: &impl Fn(&DVector<f64>) -> DVector<f64>,
) -> DMatrix<f64> {
    let columns: Vec<DVector<f64>> = matrix
        .column_iter()
        .map(|c| whiten(&c.into_owned()))
        .collect();
    DMatrix::from_columns(&columns)
}

/// Updates the moving averages and estimates the signal-to-noise ratio.
fn moving_snr(e: &mut [f64], v: &mut f64, step: &[f64], beta: f64) -> f64 {
    for (e, s) in e.iter_mut().zip(step) {
        *e = (1.0 - beta) * *e + beta * s;
    }
    let squared: f64 = step.iter().map(|s| s * s).sum();
    *v = (1.0 - beta) * *v + beta * squared;
    let norm: f64 = e.iter().map(|e| e * e).sum();
    (norm - beta / (2.0 - beta) * *v) / (*v - norm)
}

fn adapted(eta: f64, snr: f64, beta: f64) -> f64 {
    let relative = (snr / ALPHA / eta - 1.0).clamp(-1.0, 1.0);
    let relative = if relative.is_nan() { 0.0 } else { relative };
    (eta * ((GAMMA * eta).min(beta) * relative).exp()).min(1.0)
}
