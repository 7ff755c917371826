//! The search distribution of CMA-ES and its update.
//!
//! Equations are numbered as in N. Hansen, *The CMA Evolution Strategy: A Tutorial* (2016), with
//! active (negative) weights; the separable variant follows R. Ros and N. Hansen, *A Simple
//! Modification in CMA-ES Achieving Linear Time and Space Complexity* (2008).

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::learning_rate::LearningRate;
use crate::rng::Rng;

const EPS: f64 = 1e-8;
const SIGMA_MAX: f64 = 1e32;

/// Strategy parameters, which follow from the dimension and the population size.
#[derive(Debug, Clone, PartialEq)]
pub struct Constants {
    /// Recombination weights, best solution first; the separable variant has positive ones only.
    pub weights: Vec<f64>,
    /// Number of parents.
    pub mu: usize,
    /// Variance effective selection mass.
    pub mu_eff: f64,
    /// Learning rate of the rank-one update.
    pub c1: f64,
    /// Learning rate of the rank-mu update.
    pub cmu: f64,
    /// Learning rate of the step size path.
    pub c_sigma: f64,
    /// Damping of the step size.
    pub d_sigma: f64,
    /// Learning rate of the covariance path.
    pub cc: f64,
    /// Expected norm of a standard normal vector.
    pub chi_n: f64,
}

/// The population size that CMA-ES uses for a dimension: `4 + floor(3 ln d)`.
pub fn default_population_size(dimension: usize) -> usize {
    4 + (3.0 * (dimension.max(1) as f64).ln()).floor() as usize
}

impl Constants {
    /// Constants of the full variant with active covariance update.
    pub fn full(dimension: usize, population_size: usize) -> Self {
        let n = dimension as f64;
        let mu = population_size / 2;
        let prime: Vec<f64> = (0..population_size)
            .map(|i| ((population_size + 1) as f64 / 2.0).ln() - ((i + 1) as f64).ln())
            .collect();
        let effective =
            |w: &[f64]| w.iter().sum::<f64>().powi(2) / w.iter().map(|w| w * w).sum::<f64>();
        let mu_eff = effective(&prime[..mu]);
        let mu_eff_minus = effective(&prime[mu..]);
        let c1 = 2.0 / ((n + 1.3).powi(2) + mu_eff);
        let cmu = (1.0 - c1 - 1e-8)
            .min(2.0 * (mu_eff - 2.0 + 1.0 / mu_eff) / ((n + 2.0).powi(2) + mu_eff));
        // (50) to (52)
        let min_alpha = (1.0 + c1 / cmu)
            .min(1.0 + 2.0 * mu_eff_minus / (mu_eff + 2.0))
            .min((1.0 - c1 - cmu) / (n * cmu));
        let positive: f64 = prime.iter().filter(|w| **w > 0.0).sum();
        let negative: f64 = prime.iter().filter(|w| **w < 0.0).map(|w| w.abs()).sum();
        let weights = prime
            .iter()
            .map(|&w| {
                if w >= 0.0 {
                    w / positive
                } else {
                    w * min_alpha / negative
                }
            })
            .collect();
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0);
        let cc = (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n);
        Self::with_paths(n, weights, mu, mu_eff, c1, cmu, c_sigma, cc)
    }

    /// Constants of the separable variant.
    pub fn separable(dimension: usize, population_size: usize) -> Self {
        let n = dimension as f64;
        let mu = population_size / 2;
        let prime: Vec<f64> = (0..mu)
            .map(|i| ((mu + 1) as f64).ln() - ((i + 1) as f64).ln())
            .collect();
        let sum: f64 = prime.iter().sum();
        let weights: Vec<f64> = prime.iter().map(|w| w / sum).collect();
        let mu_eff = 1.0 / weights.iter().map(|w| w * w).sum::<f64>();
        let c1 = 2.0 / ((n + 1.3).powi(2) + mu_eff);
        let full = 2.0 / mu_eff / (n + std::f64::consts::SQRT_2).powi(2)
            + (1.0 - 1.0 / mu_eff) * ((2.0 * mu_eff - 1.0) / ((n + 2.0).powi(2) + mu_eff)).min(1.0);
        let cmu = (n + 2.0) / 3.0 * full;
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 3.0);
        let cc = 4.0 / (n + 4.0);
        Self::with_paths(n, weights, mu, mu_eff, c1, cmu, c_sigma, cc)
    }

    #[allow(clippy::too_many_arguments)]
    fn with_paths(
        n: f64,
        weights: Vec<f64>,
        mu: usize,
        mu_eff: f64,
        c1: f64,
        cmu: f64,
        c_sigma: f64,
        cc: f64,
    ) -> Self {
        let d_sigma = 1.0 + 2.0 * (((mu_eff - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0) + c_sigma;
        let chi_n = n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n));
        Self {
            weights,
            mu,
            mu_eff,
            c1,
            cmu,
            c_sigma,
            d_sigma,
            cc,
            chi_n,
        }
    }
}

/// The covariance, up to the step size.
#[derive(Debug, Clone, PartialEq)]
pub enum Covariance {
    /// A symmetric matrix.
    Full(DMatrix<f64>),
    /// A diagonal matrix, of the separable variant.
    Diagonal(DVector<f64>),
}

impl Covariance {
    /// The variances of the coordinates.
    pub fn diagonal(&self) -> DVector<f64> {
        match self {
            Self::Full(c) => c.diagonal(),
            Self::Diagonal(c) => c.clone(),
        }
    }
}

/// A covariance with its eigenvectors and the square roots of its eigenvalues.
#[derive(Debug, Clone)]
struct Decomposition {
    /// `None` for a diagonal covariance, whose eigenvectors are the axes.
    vectors: Option<DMatrix<f64>>,
    scales: DVector<f64>,
}

impl Decomposition {
    fn scale(&self, z: &DVector<f64>) -> DVector<f64> {
        let scaled = z.component_mul(&self.scales);
        match &self.vectors {
            Some(b) => b * scaled,
            None => scaled,
        }
    }

    /// Multiplies by the inverse square root of the covariance.
    fn whiten(&self, y: &DVector<f64>) -> DVector<f64> {
        match &self.vectors {
            Some(b) => b * b.tr_mul(y).component_div(&self.scales),
            None => y.component_div(&self.scales),
        }
    }
}

/// A normal search distribution with the state of its adaptation.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Centre of the distribution.
    pub mean: DVector<f64>,
    /// Step size.
    pub sigma: f64,
    /// Covariance up to the squared step size.
    pub covariance: Covariance,
    /// Evolution path of the step size.
    pub p_sigma: DVector<f64>,
    /// Evolution path of the covariance.
    pub pc: DVector<f64>,
    /// Number of generations told.
    pub generation: usize,
    /// Solutions per generation.
    pub population_size: usize,
    /// Best and worst value of the last generations, oldest first.
    pub history: Vec<(f64, f64)>,
    /// The step size at the start, which the termination tests refer to.
    pub initial_sigma: f64,
    /// State of the learning rate adaptation, when it is on.
    pub learning_rate: Option<LearningRate>,
    constants: Constants,
    decomposition: Option<Decomposition>,
}

impl Distribution {
    /// A distribution before its first generation. The covariance decides the variant; `cov` has to
    /// be positive definite.
    pub fn new(
        mean: Vec<f64>,
        sigma: f64,
        covariance: Covariance,
        population_size: usize,
        adapt_learning_rate: bool,
    ) -> Self {
        let n = mean.len();
        let constants = match covariance {
            Covariance::Full(_) => Constants::full(n, population_size),
            Covariance::Diagonal(_) => Constants::separable(n, population_size),
        };
        Self {
            mean: DVector::from_vec(mean),
            sigma,
            covariance,
            p_sigma: DVector::zeros(n),
            pc: DVector::zeros(n),
            generation: 0,
            population_size,
            history: Vec::new(),
            initial_sigma: sigma,
            learning_rate: adapt_learning_rate.then(|| LearningRate::new(n)),
            constants,
            decomposition: None,
        }
    }

    /// Number of coordinates.
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }

    /// The strategy parameters in use.
    pub fn constants(&self) -> &Constants {
        &self.constants
    }

    /// Draws one solution, not limited to any bounds.
    pub fn sample(&mut self, rng: &mut Rng) -> DVector<f64> {
        let z = DVector::from_fn(self.dimension(), |_, _| rng.normal());
        let y = self.decompose().scale(&z);
        &self.mean + y * self.sigma
    }

    fn decompose(&mut self) -> &Decomposition {
        let root = |v: f64| if v <= 0.0 { EPS } else { v }.sqrt();
        let covariance = &mut self.covariance;
        self.decomposition.get_or_insert_with(|| match covariance {
            Covariance::Full(c) => {
                let symmetric = (&*c + c.transpose()) * 0.5;
                let eigen = SymmetricEigen::new(symmetric);
                let scales = eigen.eigenvalues.map(root);
                let b = eigen.eigenvectors;
                *c = &b * DMatrix::from_diagonal(&scales.map(|s| s * s)) * b.transpose();
                Decomposition {
                    vectors: Some(b),
                    scales,
                }
            }
            Covariance::Diagonal(c) => Decomposition {
                vectors: None,
                scales: c.map(root),
            },
        })
    }

    /// Updates the distribution with the values of one generation, smaller values being better.
    ///
    /// # Panics
    ///
    /// When the number of solutions is not the population size.
    pub fn tell(&mut self, mut solutions: Vec<(DVector<f64>, f64)>) {
        assert_eq!(
            solutions.len(),
            self.population_size,
            "one whole generation is told at once"
        );
        self.generation += 1;
        solutions.sort_by(|a, b| crate::multi_objective::compare(a.1, b.1));
        self.remember(solutions[0].1, solutions[solutions.len() - 1].1);

        let decomposition = self.decompose().clone();
        self.decomposition = None;
        let k = self.constants.clone();
        let n = self.dimension() as f64;
        let before = self.learning_rate.is_some().then(|| self.clone());

        let steps: Vec<DVector<f64>> = solutions
            .iter()
            .map(|(x, _)| (x - &self.mean) / self.sigma)
            .collect();
        // (41), (42)
        let mut y_w = DVector::zeros(self.dimension());
        for (y, w) in steps.iter().zip(&k.weights).take(k.mu) {
            y_w += y * *w;
        }
        self.mean += &y_w * self.sigma;

        // Step size, (43) and (44).
        let whitened = decomposition.whiten(&y_w);
        self.p_sigma = &self.p_sigma * (1.0 - k.c_sigma)
            + whitened * (k.c_sigma * (2.0 - k.c_sigma) * k.mu_eff).sqrt();
        let norm = self.p_sigma.norm();
        self.sigma *= ((k.c_sigma / k.d_sigma) * (norm / k.chi_n - 1.0)).exp();
        self.sigma = self.sigma.min(SIGMA_MAX);

        // Covariance, (45) to (47).
        let exponent = 2 * (self.generation + 1);
        let left =
            norm / (1.0 - (1.0 - k.c_sigma).powi(exponent.min(i32::MAX as usize) as i32)).sqrt();
        let h_sigma = f64::from(left < (1.4 + 2.0 / (n + 1.0)) * k.chi_n);
        self.pc =
            &self.pc * (1.0 - k.cc) + &y_w * (h_sigma * (k.cc * (2.0 - k.cc) * k.mu_eff).sqrt());
        let delta = (1.0 - h_sigma) * k.cc * (2.0 - k.cc);
        let keep = 1.0 + k.c1 * delta - k.c1 - k.cmu * k.weights.iter().sum::<f64>();
        match &mut self.covariance {
            Covariance::Full(c) => {
                *c *= keep;
                c.ger(k.c1, &self.pc, &self.pc, 1.0);
                for (y, &w) in steps.iter().zip(&k.weights) {
                    let w = if w >= 0.0 {
                        w
                    } else {
                        w * n / (decomposition.whiten(y).norm_squared() + EPS)
                    };
                    c.ger(k.cmu * w, y, y, 1.0);
                }
            }
            Covariance::Diagonal(c) => {
                *c *= keep;
                c.zip_apply(&self.pc, |c, p| *c += k.c1 * p * p);
                for (y, &w) in steps.iter().zip(&k.weights) {
                    c.zip_apply(y, |c, y| *c += k.cmu * w * y * y);
                }
            }
        }
        if let (Some(before), Some(mut rate)) = (before, self.learning_rate.take()) {
            rate.adapt(&before, self, |y| decomposition.whiten(y));
            self.learning_rate = Some(rate);
        }
    }

    fn remember(&mut self, best: f64, worst: f64) {
        self.history.push((best, worst));
        let excess = self.history.len().saturating_sub(self.history_length());
        self.history.drain(..excess);
    }

    /// Generations over which the termination test on values looks back.
    fn history_length(&self) -> usize {
        10 + (30 * self.dimension()).div_ceil(self.population_size)
    }

    /// Whether the distribution has converged, diverged or become degenerate, so that a restart is
    /// due (section B.3 of the tutorial).
    pub fn should_stop(&mut self) -> bool {
        let term = self.history_length();
        let scales = self.decompose().scales.clone();
        let vectors = self.decompose().vectors.clone();
        let diagonal = self.covariance.diagonal();
        let spread = |f: fn(f64, f64) -> f64, start: f64| {
            self.history.iter().fold(start, |m, &(a, b)| f(f(m, a), b))
        };
        let range = spread(f64::max, f64::NEG_INFINITY) - spread(f64::min, f64::INFINITY);
        if self.generation > term && range < 1e-12 {
            return true;
        }
        let tolerance = 1e-12 * self.initial_sigma;
        let small = |v: &DVector<f64>| v.iter().all(|x| self.sigma * x < tolerance);
        if small(&diagonal) && small(&self.pc) {
            return true;
        }
        let unchanged = |step: f64, mean: f64| mean == mean + step;
        let axis = self.generation % self.dimension();
        let no_effect_axis = match &vectors {
            Some(b) => self
                .mean
                .iter()
                .zip(b.column(axis).iter())
                .all(|(m, v)| unchanged(0.1 * self.sigma * scales[axis] * v, *m)),
            None => unchanged(0.1 * self.sigma * scales[axis], self.mean[axis]),
        };
        self.sigma * scales.max() > 1e4
            || self
                .mean
                .iter()
                .zip(&diagonal)
                .any(|(m, c)| unchanged(0.2 * self.sigma * c.sqrt(), *m))
            || no_effect_axis
            || scales.max() / scales.min() > 1e14
            || !self.sigma.is_finite()
            || self.mean.iter().any(|m| !m.is_finite())
    }
}
