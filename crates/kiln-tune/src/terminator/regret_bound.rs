use std::sync::{Arc, Mutex};

use super::observed::{Fit, Observed, standardized_regret_bound};
use super::{DEFAULT_MIN_N_TRIALS, ImprovementEvaluator, none_complete};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::sampler::gp::{FIT_TOLERANCE, Regressor, standardize};
use crate::sampler::qmc::Sobol;
use crate::study::StudyDirection;
use crate::sync::lock;
use crate::trial::FrozenTrial;

/// Upper bound of the regret, which is how far the best value is from the best one there is, in the units of the
/// objective; it holds with high probability if a Gaussian process over the best trials describes the objective.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | [`top_trials_ratio`](Self::top_trials_ratio) | 0.5 | share of the complete trials, the best ones, that the process is fitted to; 0 to 1 |
/// | [`min_n_trials`](Self::min_n_trials) | 20 | so many are taken at least, if there are so many |
/// | [`seed`](Self::seed) | of the operating system | of the points at which the bound is looked for |
///
/// An evaluation takes time with the cube of the number of trials.
///
/// Makarova et al., "Automatic Termination for Hyperparameter Optimization" (2022).
#[derive(Debug)]
pub struct RegretBoundEvaluator {
    top_trials_ratio: f64,
    min_n_trials: usize,
    rng: Mutex<Rng>,
}

impl Default for RegretBoundEvaluator {
    fn default() -> Self {
        Self::new()
    }
}

impl RegretBoundEvaluator {
    /// With the defaults of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self {
            top_trials_ratio: 0.5,
            min_n_trials: DEFAULT_MIN_N_TRIALS,
            rng: Mutex::new(Rng::new(None)),
        }
    }

    /// The share of the complete trials that the process is fitted to.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is not between 0 and 1.
    pub fn top_trials_ratio(mut self, ratio: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(Error::invalid(format!(
                "top_trials_ratio must be between 0 and 1 inclusive, but got {ratio}"
            )));
        }
        self.top_trials_ratio = ratio;
        Ok(self)
    }

    /// How many trials the process is fitted to at least.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0.
    pub fn min_n_trials(mut self, n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::invalid("min_n_trials must be at least 1, but got 0"));
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

    /// The bound, by a fit of the process and at the first points of `samples`.
    pub(super) fn bound(&self, observed: &Observed, fit: Fit<'_>, samples: &Sobol) -> Result<f64> {
        let top = self.top(observed);
        let (standardized, _, std) = standardize(&top.values);
        let data = top.data(top.x.len(), &standardized);
        let regressor = fit(data, None);
        let bound = standardized_regret_bound(&regressor, &top.space, &top.x, 0.1, samples);
        let bound = bound.map_err(|error| Error::invalid(error.to_string()))?;
        Ok(bound * std.max(1e-10))
    }

    /// The best trials, in their order, with all that are as good as the last of them.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn top(&self, observed: &Observed) -> Observed {
        let n = observed.values.len();
        let share = (n as f64 * self.top_trials_ratio) as usize;
        let n_top = share.max(self.min_n_trials).min(n);
        let mut sorted = observed.values.clone();
        sorted.sort_by(f64::total_cmp);
        let least = sorted[n - n_top];
        let (x, values) = observed
            .x
            .iter()
            .zip(&observed.values)
            .filter(|(_, value)| **value >= least)
            .map(|(x, value)| (x.clone(), *value))
            .unzip();
        Observed {
            space: observed.space.clone(),
            x,
            values,
        }
    }
}

impl ImprovementEvaluator for RegretBoundEvaluator {
    /// # Errors
    /// [`Error::NoTrials`] without a complete trial, [`Error::InvalidArgument`] when the complete trials have no
    /// parameter in common.
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64> {
        let observed = Observed::new(trials, direction);
        if observed.values.is_empty() {
            return Err(none_complete("the regret bound"));
        }
        let n_params = observed.space.axes.len();
        if n_params == 0 {
            return Err(Error::invalid(
                "the regret bound needs a parameter that all complete trials have, with one distribution, but there is none",
            ));
        }
        let seed = u64::from(lock(&self.rng).next_u32());
        let samples = Sobol::scrambled(n_params, seed);
        let samples = samples.map_err(|error| Error::invalid(error.to_string()))?;
        let fit: Fit<'_> = &|data, start| Regressor::fit(data, start, false, FIT_TOLERANCE);
        self.bound(&observed, fit, &samples)
    }
}
