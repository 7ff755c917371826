//! Gaussian process regression with a Matérn 5/2 kernel.
//!
//! Rows are points in the unit box; categorical coordinates hold the index of the choice and differ
//! by 1 whenever they are not equal. The kernel is
//! `scale * exp(-r) * (1 + r + r² / 3)` with `r² = 5 * sum_j s_j * (x_j - x'_j)²`,
//! where `s_j` is the inverse squared length scale of coordinate j.

use nalgebra::DMatrix;

use super::lbfgs;

/// Hyperparameters of the kernel and of the noise.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelParams {
    /// Inverse squared length scale of every coordinate.
    pub inverse_squared_lengthscales: Vec<f64>,
    /// Variance of the process.
    pub kernel_scale: f64,
    /// Variance of the noise.
    pub noise_var: f64,
}

impl KernelParams {
    /// All ones, where the first fit of a study starts.
    pub fn ones(dimension: usize) -> Self {
        Self {
            inverse_squared_lengthscales: vec![1.0; dimension],
            kernel_scale: 1.0,
            noise_var: 1.0,
        }
    }

    /// Logarithm of the prior density, up to a constant: every inverse squared length scale is held
    /// around 1, the scale follows Gamma(2, 1) and the noise Gamma(1.1, 30).
    pub fn log_prior(&self) -> f64 {
        let lengths: f64 = self
            .inverse_squared_lengthscales
            .iter()
            .map(|s| -(0.1 / s + 0.1 * s))
            .sum();
        lengths + self.kernel_scale.ln() - self.kernel_scale + 0.1 * self.noise_var.ln()
            - 30.0 * self.noise_var
    }
}

/// Smallest noise variance, which keeps the kernel matrix invertible.
pub const MINIMUM_NOISE: f64 = 1e-6;

/// The value of the kernel without its scale and its derivative, for a squared distance.
fn matern52(squared: f64) -> (f64, f64) {
    let r = (5.0 * squared).sqrt();
    let e = (-r).exp();
    (
        e * (5.0 / 3.0 * squared + r + 1.0),
        -5.0 / 6.0 * (r + 1.0) * e,
    )
}

/// Observations with their categorical coordinates marked.
#[derive(Debug, Clone)]
pub struct Data {
    /// Points, one row each.
    pub x: Vec<Vec<f64>>,
    /// Standardised values, larger being better.
    pub y: Vec<f64>,
    /// Which coordinates are categorical.
    pub is_categorical: Vec<bool>,
}

impl Data {
    fn squared_difference(&self, j: usize, a: f64, b: f64) -> f64 {
        if self.is_categorical[j] {
            f64::from(a != b)
        } else {
            (a - b) * (a - b)
        }
    }

    fn squared_distance(&self, params: &KernelParams, a: &[f64], b: &[f64]) -> f64 {
        let s = &params.inverse_squared_lengthscales;
        (0..s.len())
            .map(|j| s[j] * self.squared_difference(j, a[j], b[j]))
            .sum()
    }

    /// Log marginal likelihood without its constant `-n/2 ln(2π)`; `None` when the covariance is
    /// not positive definite.
    pub fn marginal_log_likelihood(&self, params: &KernelParams) -> Option<f64> {
        let factor = Factor::new(self.covariance(params))?;
        let v = factor.forward(&self.y);
        Some(-factor.log_diagonal() - 0.5 * v.iter().map(|v| v * v).sum::<f64>())
    }

    fn covariance(&self, params: &KernelParams) -> DMatrix<f64> {
        let n = self.x.len();
        let mut k = DMatrix::zeros(n, n);
        for a in 0..n {
            for b in 0..a {
                let d = self.squared_distance(params, &self.x[a], &self.x[b]);
                let v = params.kernel_scale * matern52(d).0;
                k[(a, b)] = v;
                k[(b, a)] = v;
            }
            k[(a, a)] = params.kernel_scale + params.noise_var;
        }
        k
    }
}

/// A lower Cholesky factor in rows.
#[derive(Debug, Clone)]
pub(super) struct Factor {
    rows: Vec<Vec<f64>>,
}

impl Factor {
    pub fn new(matrix: DMatrix<f64>) -> Option<Self> {
        let l = matrix.cholesky()?.unpack();
        let rows: Vec<Vec<f64>> = (0..l.nrows())
            .map(|i| (0..=i).map(|j| l[(i, j)]).collect())
            .collect();
        rows.iter()
            .flatten()
            .all(|v| v.is_finite())
            .then_some(Self { rows })
    }

    fn log_diagonal(&self) -> f64 {
        self.rows.iter().map(|row| row[row.len() - 1].ln()).sum()
    }

    /// Solves `L v = b`.
    pub fn forward(&self, b: &[f64]) -> Vec<f64> {
        let mut v: Vec<f64> = Vec::with_capacity(b.len());
        for (row, b) in self.rows.iter().zip(b) {
            let (diagonal, before) = (row[v.len()], &row[..v.len()]);
            let sum: f64 = before.iter().zip(&v).map(|(l, v)| l * v).sum();
            v.push((b - sum) / diagonal);
        }
        v
    }

    /// Solves `Lᵀ w = v`.
    pub fn backward(&self, mut v: Vec<f64>) -> Vec<f64> {
        for i in (0..v.len()).rev() {
            let row = &self.rows[i];
            v[i] /= row[i];
            let w = v[i];
            for (v, l) in v[..i].iter_mut().zip(row) {
                *v -= l * w;
            }
        }
        v
    }

    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        self.backward(self.forward(b))
    }

    /// Multiplies by the factor: `L z`.
    pub fn multiply(&self, z: &[f64]) -> Vec<f64> {
        self.rows
            .iter()
            .map(|row| row.iter().zip(z).map(|(l, z)| l * z).sum())
            .collect()
    }
}

/// A fitted process: answers for the mean and variance at any point, with their gradients.
#[derive(Debug, Clone)]
pub struct Regressor {
    data: Data,
    /// The kernel parameters in use.
    pub params: KernelParams,
    factor: Factor,
    /// The inverse covariance times the values.
    alpha: Vec<f64>,
}

/// Mean and variance at a point, with their gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    /// Expected value.
    pub mean: f64,
    /// Variance of the noiseless value, at least 0.
    pub variance: f64,
    /// Gradient of the mean.
    pub mean_gradient: Vec<f64>,
    /// Gradient of the variance.
    pub variance_gradient: Vec<f64>,
}

impl Regressor {
    /// Conditions a process with given parameters on the data. `None` when the covariance is not
    /// positive definite.
    pub fn new(data: Data, params: KernelParams) -> Option<Self> {
        let factor = Factor::new(data.covariance(&params))?;
        let alpha = factor.solve(&data.y);
        Some(Self {
            data,
            params,
            factor,
            alpha,
        })
    }

    /// Fits the parameters by maximum a posteriori, starting at `start` or, when that fails, at all
    /// ones; when both fail the process has the parameters all ones.
    ///
    /// With `deterministic` the noise is fixed at [`MINIMUM_NOISE`]. `gradient_tolerance` ends the
    /// fit; 0.01 is usual, because a tighter fit costs time and gains nothing.
    pub fn fit(
        data: Data,
        start: Option<&KernelParams>,
        deterministic: bool,
        gradient_tolerance: f64,
    ) -> Self {
        let dimension = data.is_categorical.len();
        let ones = KernelParams::ones(dimension);
        let objective = FitObjective::new(&data, deterministic);
        let fitted = [
            start.filter(|s| s.inverse_squared_lengthscales.len() == dimension),
            Some(&ones),
        ]
        .into_iter()
        .flatten()
        .find_map(|start| objective.maximize(start, gradient_tolerance))
        .and_then(|params| Self::new(data.clone(), params));
        fitted.unwrap_or_else(|| {
            Self::new(data, ones).expect("a unit kernel with unit noise is positive definite")
        })
    }

    /// Length scale of every coordinate.
    pub fn length_scales(&self) -> Vec<f64> {
        self.params
            .inverse_squared_lengthscales
            .iter()
            .map(|s| 1.0 / s.sqrt())
            .collect()
    }

    /// Covariance of two points.
    pub fn kernel(&self, a: &[f64], b: &[f64]) -> f64 {
        self.params.kernel_scale * matern52(self.data.squared_distance(&self.params, a, b)).0
    }

    fn kernel_column(&self, x: &[f64]) -> Vec<f64> {
        self.data.x.iter().map(|row| self.kernel(x, row)).collect()
    }

    /// Posterior mean and variance at a point.
    pub fn mean_variance(&self, x: &[f64]) -> (f64, f64) {
        let k = self.kernel_column(x);
        let mean = k.iter().zip(&self.alpha).map(|(k, a)| k * a).sum();
        let v = self.factor.forward(&k);
        let explained: f64 = v.iter().map(|v| v * v).sum();
        (mean, (self.params.kernel_scale - explained).max(0.0))
    }

    /// Posterior covariance of the noiseless values at two points.
    pub fn covariance(&self, a: &[f64], b: &[f64]) -> f64 {
        let explained: f64 = self
            .kernel_column(a)
            .iter()
            .zip(&self.weights(b))
            .map(|(k, w)| k * w)
            .sum();
        self.kernel(a, b) - explained
    }

    /// Posterior mean and variance at a point, with gradients. Categorical coordinates have none.
    pub fn posterior(&self, x: &[f64]) -> Posterior {
        let n = self.data.x.len();
        let mut k = Vec::with_capacity(n);
        let mut slopes = Vec::with_capacity(n);
        for row in &self.data.x {
            let (value, slope) = matern52(self.data.squared_distance(&self.params, x, row));
            k.push(self.params.kernel_scale * value);
            slopes.push(self.params.kernel_scale * slope);
        }
        let mean = k.iter().zip(&self.alpha).map(|(k, a)| k * a).sum();
        let w = self.factor.solve(&k);
        let explained: f64 = k.iter().zip(&w).map(|(k, w)| k * w).sum();
        let variance = self.params.kernel_scale - explained;
        let mut mean_gradient = vec![0.0; x.len()];
        let mut variance_gradient = vec![0.0; x.len()];
        for j in (0..x.len()).filter(|&j| !self.data.is_categorical[j]) {
            let s = 2.0 * self.params.inverse_squared_lengthscales[j];
            for i in 0..n {
                let dk = slopes[i] * s * (x[j] - self.data.x[i][j]);
                mean_gradient[j] += dk * self.alpha[i];
                variance_gradient[j] -= 2.0 * dk * w[i];
            }
        }
        if variance < 0.0 {
            variance_gradient.fill(0.0);
        }
        Posterior {
            mean,
            variance: variance.max(0.0),
            mean_gradient,
            variance_gradient,
        }
    }

    /// Gradient of the covariance of `x` with a fixed point.
    pub(super) fn kernel_gradient(&self, x: &[f64], fixed: &[f64]) -> Vec<f64> {
        let slope = self.params.kernel_scale
            * matern52(self.data.squared_distance(&self.params, x, fixed)).1;
        (0..x.len())
            .map(|j| {
                if self.data.is_categorical[j] {
                    0.0
                } else {
                    2.0 * slope * self.params.inverse_squared_lengthscales[j] * (x[j] - fixed[j])
                }
            })
            .collect()
    }

    /// The inverse covariance of the data times the covariances with a point.
    pub(super) fn weights(&self, x: &[f64]) -> Vec<f64> {
        self.factor.solve(&self.kernel_column(x))
    }

    pub(super) fn points(&self) -> &[Vec<f64>] {
        &self.data.x
    }
}

/// Negative log posterior of the kernel parameters, as a function of their logarithms.
struct FitObjective<'a> {
    data: &'a Data,
    deterministic: bool,
    /// Squared differences of every pair a > b, coordinate after coordinate.
    differences: Vec<f64>,
}

impl<'a> FitObjective<'a> {
    fn new(data: &'a Data, deterministic: bool) -> Self {
        let mut differences = Vec::new();
        for a in 0..data.x.len() {
            for b in 0..a {
                for j in 0..data.is_categorical.len() {
                    differences.push(data.squared_difference(j, data.x[a][j], data.x[b][j]));
                }
            }
        }
        Self {
            data,
            deterministic,
            differences,
        }
    }

    fn maximize(&self, start: &KernelParams, gradient_tolerance: f64) -> Option<KernelParams> {
        let mut raw: Vec<f64> = start
            .inverse_squared_lengthscales
            .iter()
            .map(|s| s.ln())
            .collect();
        raw.push(start.kernel_scale.ln());
        // A little above the minimum, so that the logarithm is finite.
        raw.push((start.noise_var - 0.99 * MINIMUM_NOISE).ln());
        let options = lbfgs::Options {
            gradient_tolerance,
            ..lbfgs::Options::default()
        };
        let minimum = lbfgs::minimize(
            |raw, gradient| self.loss(raw, gradient).unwrap_or(f64::INFINITY),
            &raw,
            None,
            options,
        )?;
        Some(self.params(&minimum.x))
    }

    fn params(&self, raw: &[f64]) -> KernelParams {
        let d = raw.len() - 2;
        KernelParams {
            inverse_squared_lengthscales: raw[..d].iter().map(|r| r.exp()).collect(),
            kernel_scale: raw[d].exp(),
            noise_var: if self.deterministic {
                MINIMUM_NOISE
            } else {
                raw[d + 1].exp() + MINIMUM_NOISE
            },
        }
    }

    fn loss(&self, raw: &[f64], gradient: &mut [f64]) -> Option<f64> {
        let params = self.params(raw);
        let d = raw.len() - 2;
        let n = self.data.x.len();
        let s = &params.inverse_squared_lengthscales;
        let scale = params.kernel_scale;
        let mut k = DMatrix::zeros(n, n);
        let mut slopes = Vec::with_capacity(n * n.saturating_sub(1) / 2);
        let mut pairs = self.differences.chunks_exact(d.max(1));
        for a in 0..n {
            for b in 0..a {
                let difference = pairs.next().unwrap_or(&[]);
                let squared: f64 = difference.iter().zip(s).map(|(x, s)| x * s).sum();
                let (value, slope) = matern52(squared);
                k[(a, b)] = scale * value;
                k[(b, a)] = scale * value;
                slopes.push(scale * slope);
            }
            k[(a, a)] = scale + params.noise_var;
        }
        let cholesky = k.clone().cholesky()?;
        let alpha = cholesky.solve(&nalgebra::DVector::from_column_slice(&self.data.y));
        let fit: f64 = alpha.iter().zip(&self.data.y).map(|(a, y)| a * y).sum();
        let log_diagonal: f64 = cholesky.l_dirty().diagonal().iter().map(|v| v.ln()).sum();
        let likelihood = -log_diagonal - 0.5 * fit;

        // With G = α αᵀ - K⁻¹, the derivative by any parameter is half the sum of G times dK.
        let inverse = cholesky.inverse();
        let mut by_length = vec![0.0; d];
        let mut by_scale = 0.0;
        let mut by_noise = 0.0;
        let mut pairs = self.differences.chunks_exact(d.max(1));
        let mut slopes = slopes.into_iter();
        for a in 0..n {
            for b in 0..a {
                let g = alpha[a] * alpha[b] - inverse[(a, b)];
                by_scale += g * k[(a, b)] / scale;
                let weight = g * slopes.next().unwrap_or(0.0);
                let difference = pairs.next().unwrap_or(&[]);
                for (sum, x) in by_length.iter_mut().zip(difference) {
                    *sum += weight * x;
                }
            }
            let g = alpha[a] * alpha[a] - inverse[(a, a)];
            by_scale += 0.5 * g;
            by_noise += 0.5 * g;
        }
        for j in 0..d {
            let prior = 0.1 / (s[j] * s[j]) - 0.1;
            gradient[j] = -(by_length[j] + prior) * s[j];
        }
        gradient[d] = -(by_scale + 1.0 / scale - 1.0) * scale;
        gradient[d + 1] = if self.deterministic {
            0.0
        } else {
            -(by_noise + 0.1 / params.noise_var - 30.0) * raw[d + 1].exp()
        };
        let loss = -likelihood - params.log_prior();
        loss.is_finite().then_some(loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Data {
        let x: Vec<Vec<f64>> = (0..9)
            .map(|i| {
                vec![
                    f64::from(i) / 8.0,
                    f64::from(i * i % 7) / 6.0,
                    f64::from(i % 3),
                ]
            })
            .collect();
        let y = x
            .iter()
            .map(|r| (3.0 * r[0]).sin() + r[1] * r[1] - 0.3 * r[2])
            .collect();
        Data {
            x,
            y,
            is_categorical: vec![false, false, true],
        }
    }

    #[test]
    fn gradients_are_slopes() {
        let data = data();
        let params = KernelParams {
            inverse_squared_lengthscales: vec![2.0, 0.5, 1.5],
            kernel_scale: 1.2,
            noise_var: 0.01,
        };
        let regressor = Regressor::new(data.clone(), params).unwrap();
        let x = [0.3, 0.4, 1.0];
        let posterior = regressor.posterior(&x);
        for j in 0..2 {
            let shifted = |h: f64| {
                let mut x = x;
                x[j] += h;
                regressor.mean_variance(&x)
            };
            let (up, down) = (shifted(1e-6), shifted(-1e-6));
            assert!((posterior.mean_gradient[j] - (up.0 - down.0) / 2e-6).abs() < 1e-6);
            assert!((posterior.variance_gradient[j] - (up.1 - down.1) / 2e-6).abs() < 1e-6);
        }
        let objective = FitObjective::new(&data, false);
        let raw = [0.2, -0.3, 0.1, 0.4, -3.0];
        let mut gradient = [0.0; 5];
        objective.loss(&raw, &mut gradient).unwrap();
        for j in 0..5 {
            let shifted = |h: f64| {
                let mut raw = raw;
                raw[j] += h;
                objective.loss(&raw, &mut [0.0; 5]).unwrap()
            };
            let slope = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
            assert!(
                (gradient[j] - slope).abs() < 1e-5,
                "{j}: {} {slope}",
                gradient[j]
            );
        }
    }

    #[test]
    fn repeated_points_and_constant_values_can_be_fitted() {
        let data = Data {
            x: vec![vec![0.5]; 6],
            y: vec![0.0; 6],
            is_categorical: vec![false],
        };
        let regressor = Regressor::fit(data, None, true, 0.01);
        let (mean, variance) = regressor.mean_variance(&[0.5]);
        assert!(mean.abs() < 1e-9 && variance.is_finite());
    }
}
