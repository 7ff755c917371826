//! Warm start from the trials of a similar study.

use nalgebra::{DMatrix, DVector};

/// Share of the source solutions that counts as promising.
const GAMMA: f64 = 0.1;
/// Width of the prior around every promising solution.
const ALPHA: f64 = 0.1;

/// Estimates mean, step size and covariance of the promising region of a source task (M. Nomura et
/// al., *Warm Starting CMA-ES for Hyperparameter Optimization*, 2021).
///
/// The best tenth of the solutions counts (at least one). Returns `None` when there is none.
pub fn promising_distribution(
    mut solutions: Vec<(Vec<f64>, f64)>,
) -> Option<(Vec<f64>, f64, DMatrix<f64>)> {
    solutions.sort_by(|a, b| crate::multi_objective::compare(a.1, b.1));
    let count = ((solutions.len() as f64 * GAMMA).floor() as usize).max(1);
    let dimension = solutions.first()?.0.len();
    let mut moment = DMatrix::zeros(dimension, dimension);
    let mut mean = DVector::zeros(dimension);
    for (x, _) in &solutions[..count] {
        let x = DVector::from_column_slice(x);
        moment += &x * x.transpose();
        mean += x;
    }
    moment /= count as f64;
    mean /= count as f64;
    let spread = DMatrix::identity(dimension, dimension) * (ALPHA * ALPHA) + moment
        - &mean * mean.transpose();
    let determinant = spread.determinant();
    let sigma = determinant.powf(0.5 / dimension as f64);
    let covariance = spread / determinant.powf(1.0 / dimension as f64);
    Some((mean.iter().copied().collect(), sigma, covariance))
}
