//! The kernels of one parameter.

use std::f64::consts::FRAC_1_SQRT_2;

use super::ParzenOptions;
use super::argsort::argsort;
use super::truncnorm::{log_gauss_mass, log_normalization, ppf};
use crate::distribution::Distribution;
use crate::transform::{on_grid, unit_of};

#[derive(Debug)]
pub(crate) enum Column {
    Numeric(NumericKernels),
    Categorical(CategoricalKernels),
}

impl Column {
    pub fn new(distribution: &Distribution, observed: &[f64], options: ParzenOptions) -> Self {
        match distribution {
            Distribution::Categorical(d) => Self::Categorical(CategoricalKernels::new(
                d.choices().len(),
                observed.iter().copied().map(to_index).collect(),
                options.prior_weight,
            )),
            _ => {
                let range = NumericRange::of(distribution);
                let mus: Vec<f64> = observed.iter().map(|x| range.scale(*x)).collect();
                let order = argsort(&mus, options.ties);
                let sorted: Vec<f64> = order.iter().map(|i| mus[*i]).collect();
                let mut kernels = NumericKernels::empty(range);
                kernels.reset(range, order.len() + 1);
                kernels.mus[..mus.len()].copy_from_slice(&mus);
                let bandwidth = Bandwidth::new(range, order.len(), options);
                for (rank, i) in order.iter().enumerate() {
                    kernels.set_bandwidth(*i, bandwidth.of(&sorted, rank));
                }
                kernels.min_sigma = bandwidth.min();
                kernels.set_prior(order.len());
                Self::Numeric(kernels)
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn to_index(internal: f64) -> u32 {
    internal as u32
}

/// The range of a numeric parameter on the scale of its kernels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NumericRange {
    /// Bounds of the parameter itself.
    pub low: f64,
    pub high: f64,
    /// 0 for a continuous parameter.
    pub step: f64,
    pub log: bool,
    /// Bounds of the kernels: widened by half a step, then on the log scale.
    pub lo: f64,
    pub hi: f64,
    /// What values are multiplied by on a linear scale, so that one can calculate with the largest and smallest floats.
    /// The bounds and the step above are multiplied already.
    unit: f64,
}

impl NumericRange {
    #[allow(clippy::cast_precision_loss)]
    pub fn of(distribution: &Distribution) -> Self {
        let (low, high, step, log) = match distribution {
            Distribution::Float(d) => (d.low(), d.high(), d.step().unwrap_or(0.0), d.log()),
            Distribution::Int(d) => (d.low() as f64, d.high() as f64, d.step() as f64, d.log()),
            Distribution::Categorical(d) => (0.0, d.choices().len() as f64 - 1.0, 1.0, false),
        };
        let unit = if log { 1.0 } else { unit_of(low, high) };
        let (low, high, step) = (low * unit, high * unit, step * unit);
        let scale = |x: f64| if log { x.ln() } else { x };
        Self {
            unit,
            low,
            high,
            step,
            log,
            lo: scale(low - step / 2.0),
            hi: scale(high + step / 2.0),
        }
    }

    pub fn scale(&self, x: f64) -> f64 {
        if self.log { x.ln() } else { x * self.unit }
    }

    /// The ends of the interval around a value of a discrete parameter.
    pub fn cell(&self, x: f64) -> (f64, f64) {
        let half = self.step / 2.0;
        if self.log {
            ((x - half).ln(), (x + half).ln())
        } else {
            (x * self.unit - half, x * self.unit + half)
        }
    }

    /// The part of a kernel's log-density which does not depend on the point.
    pub fn log_normalization(&self, mu: f64, sigma: f64) -> f64 {
        if self.step == 0.0 {
            log_normalization(mu, sigma, sigma.ln(), self.lo, self.hi)
        } else {
            -log_gauss_mass((self.lo - mu) / sigma, (self.hi - mu) / sigma)
        }
    }
}

/// The rule for the bandwidth of a kernel: the distance to its farther neighbour, within limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bandwidth {
    lo: f64,
    hi: f64,
    min: f64,
    consider_endpoints: bool,
}

impl Bandwidth {
    #[allow(clippy::cast_precision_loss)]
    pub fn new(range: NumericRange, n: usize, options: ParzenOptions) -> Self {
        let width = range.hi - range.lo;
        let min = if options.consider_magic_clip {
            width / f64::min(100.0, (n + 2) as f64)
        } else {
            1e-12
        };
        Self {
            lo: range.lo,
            hi: range.hi,
            min,
            consider_endpoints: options.consider_endpoints,
        }
    }

    pub fn of(&self, sorted: &[f64], rank: usize) -> f64 {
        let left = rank.checked_sub(1).map(|left| sorted[left]);
        self.between(left, sorted[rank], sorted.get(rank + 1).copied())
    }

    /// The bandwidth of a kernel at `mu` by its neighbours; the outermost ones have only one.
    pub fn between(&self, left: Option<f64>, mu: f64, right: Option<f64>) -> f64 {
        let sigma = match (left, right) {
            (None, Some(right)) if !self.consider_endpoints => right - mu,
            (Some(left), None) if !self.consider_endpoints => mu - left,
            _ => f64::max(mu - left.unwrap_or(self.lo), right.unwrap_or(self.hi) - mu),
        };
        sigma.max(self.min).min(self.hi - self.lo)
    }
}

impl Bandwidth {
    /// The lower limit, which falls with the number of kernels while there are few.
    pub fn min(&self) -> f64 {
        self.min
    }
}

/// Truncated normals of a numeric parameter, prior last; on the log scale for a log parameter.
#[derive(Debug)]
pub struct NumericKernels {
    pub(crate) range: NumericRange,
    /// The lower limit of the bandwidths.
    pub(crate) min_sigma: f64,
    pub(crate) mus: Vec<f64>,
    pub(crate) sigmas: Vec<f64>,
    /// `1 / (sqrt(2) sigma)`, so that the square of a scaled distance is what the log-density loses.
    pub(crate) scales: Vec<f64>,
    pub(crate) log_normalizations: Vec<f64>,
}

impl NumericKernels {
    pub(crate) fn empty(range: NumericRange) -> Self {
        Self {
            range,
            min_sigma: 0.0,
            mus: Vec::new(),
            sigmas: Vec::new(),
            scales: Vec::new(),
            log_normalizations: Vec::new(),
        }
    }

    /// Makes room for `n` kernels, all of which must be set.
    pub(crate) fn reset(&mut self, range: NumericRange, n: usize) {
        self.range = range;
        for list in [
            &mut self.mus,
            &mut self.sigmas,
            &mut self.scales,
            &mut self.log_normalizations,
        ] {
            list.resize(n, 0.0);
        }
    }

    /// Sets the bandwidth of a kernel whose mean is set, and what follows from both.
    pub(crate) fn set_bandwidth(&mut self, kernel: usize, sigma: f64) {
        self.sigmas[kernel] = sigma;
        self.scales[kernel] = FRAC_1_SQRT_2 / sigma;
        self.log_normalizations[kernel] = self.range.log_normalization(self.mus[kernel], sigma);
    }

    /// Makes a kernel the prior.
    pub(crate) fn set_prior(&mut self, kernel: usize) {
        let NumericRange { lo, hi, .. } = self.range;
        self.mus[kernel] = 0.5 * (lo + hi);
        self.set_bandwidth(kernel, hi - lo);
    }

    /// The means; those of a range beyond 3e150, or within 3e-151 of 0, are multiplied by a power of two.
    #[must_use]
    pub fn mus(&self) -> &[f64] {
        &self.mus
    }

    /// The standard deviations.
    #[must_use]
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// An internal value drawn from a kernel by inversion of `q`.
    pub(crate) fn sample(&self, kernel: usize, q: f64) -> f64 {
        let NumericRange {
            low,
            high,
            step,
            log,
            lo,
            hi,
            unit,
        } = self.range;
        let (mu, sigma) = (self.mus[kernel], self.sigmas[kernel]);
        let x = ppf(q, (lo - mu) / sigma, (hi - mu) / sigma) * sigma + mu;
        let x = if log { x.exp() } else { x };
        let x = if step == 0.0 {
            x
        } else {
            on_grid(x, low, step)
        };
        x.max(low).min(high) / unit
    }
}

/// The place of the prior among the observed choices.
pub(crate) const PRIOR: u32 = u32::MAX;

/// Smoothed indicator rows of a categorical parameter, prior last.
#[derive(Debug)]
pub struct CategoricalKernels {
    pub(crate) n_choices: usize,
    /// The observed choice of each kernel, or [`PRIOR`].
    pub(crate) observed: Vec<u32>,
    /// Probability of the observed choice, and of each other one.
    hit: f64,
    miss: f64,
    prior: f64,
}

impl CategoricalKernels {
    pub(crate) fn new(n_choices: usize, mut observed: Vec<u32>, prior_weight: f64) -> Self {
        let n = observed.len();
        observed.push(PRIOR);
        let mut kernels = Self {
            n_choices,
            observed,
            hit: 0.0,
            miss: 0.0,
            prior: 0.0,
        };
        kernels.smooth(n, prior_weight);
        kernels
    }

    /// Sets the probabilities for a number of observations.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn smooth(&mut self, n_observed: usize, prior_weight: f64) {
        let n = self.n_choices as f64;
        let base = prior_weight / (n_observed + 1) as f64;
        let sum = base * n + 1.0;
        // Without any prior weight, the prior kernel has no mass at all.
        self.prior = if n_observed == 0 || prior_weight > 0.0 {
            1.0 / n
        } else {
            0.0
        };
        (self.hit, self.miss) = ((base + 1.0) / sum, base / sum);
    }

    /// The probabilities of all choices under a kernel.
    #[must_use]
    pub fn row(&self, kernel: usize) -> Vec<f64> {
        (0..self.n_choices)
            .map(|choice| self.probability(kernel, choice))
            .collect()
    }

    fn probability(&self, kernel: usize, choice: usize) -> f64 {
        match self.observed[kernel] {
            PRIOR => self.prior,
            observed if observed as usize == choice => self.hit,
            _ => self.miss,
        }
    }

    /// Logarithms of the probability of the observed choice, of another one, and of any under the prior.
    pub(crate) fn logs(&self) -> [f64; 3] {
        [self.hit, self.miss, self.prior].map(f64::ln)
    }

    /// A choice drawn from a kernel by inversion of `q`.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn sample(&self, kernel: usize, q: f64) -> f64 {
        let mut cumulative = 0.0;
        // The last choice takes what rounding leaves.
        for choice in 0..self.n_choices - 1 {
            cumulative += self.probability(kernel, choice);
            if cumulative >= q {
                return choice as f64;
            }
        }
        (self.n_choices - 1) as f64
    }
}
