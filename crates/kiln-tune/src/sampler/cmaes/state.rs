//! The state of CMA-ES between trials: how it is stored, asked, told and restarted.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::distribution::{Covariance, Distribution, default_population_size};
use super::learning_rate::LearningRate;
use super::margin::Margin;
use super::{EPS, RestartStrategy};
use crate::rng::Rng;

/// The search distribution with all that goes with it.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Number of generations told in the study, over all restarts: marks the trials of a generation.
    pub step: usize,
    pub distribution: Distribution,
    /// Present when there are discrete coordinates and margin is on.
    pub margin: Option<Margin>,
    pub restarts: Restarts,
}

/// What restarts remember.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Restarts {
    /// Restarts with a growing population.
    pub large: u32,
    /// Whether the present run has a small population.
    pub is_small: bool,
    /// Trials that runs with a small population have used.
    pub small_trials: usize,
    /// Trials that the other runs have used.
    pub large_trials: usize,
}

/// The JSON form. Non-finite numbers do not occur: a state that has any is restarted first.
#[derive(Serialize, Deserialize)]
struct Stored {
    step: usize,
    generation: usize,
    population_size: usize,
    mean: Vec<f64>,
    sigma: f64,
    initial_sigma: f64,
    /// The diagonal, or the lower triangle row by row.
    covariance: Vec<f64>,
    is_diagonal: bool,
    p_sigma: Vec<f64>,
    pc: Vec<f64>,
    #[serde(default)]
    history: Vec<(f64, f64)>,
    #[serde(default)]
    learning_rate: Option<LearningRate>,
    #[serde(default)]
    margin: Option<Margin>,
    #[serde(default)]
    restarts: Restarts,
}

impl State {
    /// Draws a solution within the unit box: the point to evaluate, and the raw point to be told.
    pub fn ask(&mut self, rng: &mut Rng) -> (DVector<f64>, DVector<f64>) {
        let d = self.distribution.dimension();
        let margin = self.margin.clone();
        let bounded = |i: usize| margin.as_ref().is_none_or(|m| !m.contains(i));
        let mut x = self.distribution.sample(rng);
        for _ in 0..10 * d {
            let inside = |(i, v): (usize, &f64)| !bounded(i) || (0.0..=1.0).contains(v);
            if x.iter().enumerate().all(inside) {
                break;
            }
            x = self.distribution.sample(rng);
        }
        for i in (0..d).filter(|&i| bounded(i)) {
            x[i] = x[i].clamp(0.0, 1.0);
        }
        match &self.margin {
            Some(margin) => (margin.encode(&self.distribution.mean, &x), x),
            None => (x.clone(), x),
        }
    }

    /// Tells one whole generation.
    pub fn tell(&mut self, solutions: Vec<(DVector<f64>, f64)>) {
        let used = solutions.len();
        if self.restarts.is_small {
            self.restarts.small_trials += used;
        } else {
            self.restarts.large_trials += used;
        }
        self.distribution.tell(solutions);
        if let Some(margin) = &mut self.margin {
            margin.correct(&mut self.distribution);
        }
        self.step += 1;
    }

    /// Restarts when the run has ended and the strategy asks for it. A run whose numbers have
    /// overflowed is always restarted.
    pub fn restart_if_due(&mut self, strategy: RestartStrategy, rng: &mut Rng) {
        let broken = !self.is_finite();
        let due = broken || (strategy != RestartStrategy::None && self.distribution.should_stop());
        if !due {
            return;
        }
        let d = self.distribution.dimension();
        let base = match strategy {
            RestartStrategy::None => self.distribution.population_size,
            _ => default_population_size(d),
        };
        let size = match strategy {
            RestartStrategy::None => base,
            RestartStrategy::Ipop(factor) => {
                self.restarts.large += 1;
                grown(base, factor, self.restarts.large)
            }
            RestartStrategy::Bipop(factor) => {
                let r = &mut self.restarts;
                r.is_small = r.large > 0 && r.small_trials < r.large_trials;
                if r.is_small {
                    let growth = 0.5 * (factor as f64).powf(f64::from(r.large));
                    let exponent = rng.uniform().powi(2);
                    ((base as f64 * growth.powf(exponent)).floor() as usize).max(base)
                } else {
                    r.large += 1;
                    grown(base, factor, r.large)
                }
            }
        };
        let mut sigma = 1.0 / 6.0;
        if self.restarts.is_small {
            sigma *= 10f64.powf(-2.0 * rng.uniform());
        }
        let mean = (0..d).map(|_| rng.uniform()).collect();
        let covariance = match self.distribution.covariance {
            Covariance::Full(_) => Covariance::Full(DMatrix::identity(d, d)),
            Covariance::Diagonal(_) => Covariance::Diagonal(DVector::from_element(d, 1.0)),
        };
        let adapt = self.distribution.learning_rate.is_some();
        self.distribution = Distribution::new(mean, sigma.max(EPS), covariance, size, adapt);
        if let Some(margin) = &mut self.margin {
            *margin = Margin::new(margin.grids.clone(), d, size);
        }
        log::info!("CMA-ES restarts with a population of {size}");
    }

    fn is_finite(&self) -> bool {
        let d = &self.distribution;
        let covariance = match &d.covariance {
            Covariance::Full(c) => c.iter().all(|v| v.is_finite()),
            Covariance::Diagonal(c) => c.iter().all(|v| v.is_finite()),
        };
        let vectors = [&d.mean, &d.p_sigma, &d.pc];
        covariance
            && d.sigma.is_finite()
            && d.sigma > 0.0
            && vectors.iter().all(|v| v.iter().all(|x| x.is_finite()))
            && self
                .margin
                .as_ref()
                .is_none_or(|m| m.scale.iter().all(|s| s.is_finite()))
    }

    /// The JSON text of the state, cut into pieces of at most `length` characters.
    pub fn to_chunks(&self, length: usize) -> Vec<String> {
        let d = &self.distribution;
        let (covariance, is_diagonal) = match &d.covariance {
            Covariance::Full(c) => {
                let rows = (0..c.nrows()).flat_map(|i| (0..=i).map(move |j| (i, j)));
                // Both triangles are the same up to rounding; their mean is what the next
                // decomposition would take.
                (
                    rows.map(|(i, j)| 0.5 * (c[(i, j)] + c[(j, i)])).collect(),
                    false,
                )
            }
            Covariance::Diagonal(c) => (c.iter().copied().collect(), true),
        };
        let finite = |v: f64| v.clamp(-f64::MAX, f64::MAX);
        let stored = Stored {
            step: self.step,
            generation: d.generation,
            population_size: d.population_size,
            mean: d.mean.iter().copied().collect(),
            sigma: d.sigma,
            initial_sigma: d.initial_sigma,
            covariance,
            is_diagonal,
            p_sigma: d.p_sigma.iter().copied().collect(),
            pc: d.pc.iter().copied().collect(),
            history: d
                .history
                .iter()
                .map(|&(a, b)| (finite(a), finite(b)))
                .collect(),
            learning_rate: d.learning_rate.clone(),
            margin: self.margin.clone(),
            restarts: self.restarts.clone(),
        };
        let text = serde_json::to_string(&stored).expect("numbers and lists are always JSON");
        // The text is ASCII, so bytes are characters.
        text.as_bytes()
            .chunks(length)
            .map(|chunk| String::from_utf8_lossy(chunk).into_owned())
            .collect()
    }

    /// Reads the text back; `None` when it is incomplete, being written just now.
    pub fn from_text(text: &str) -> Option<Self> {
        let stored: Stored = serde_json::from_str(text).ok()?;
        let n = stored.mean.len();
        let entries = if stored.is_diagonal {
            n
        } else {
            n * (n + 1) / 2
        };
        if n == 0
            || stored.population_size < 2
            || stored.covariance.len() != entries
            || stored.p_sigma.len() != n
            || stored.pc.len() != n
        {
            return None;
        }
        let covariance = if stored.is_diagonal {
            Covariance::Diagonal(DVector::from_vec(stored.covariance))
        } else {
            Covariance::Full(DMatrix::from_fn(n, n, |i, j| {
                let (i, j) = (i.max(j), i.min(j));
                stored.covariance[i * (i + 1) / 2 + j]
            }))
        };
        let mut distribution = Distribution::new(
            stored.mean,
            stored.sigma,
            covariance,
            stored.population_size,
            false,
        );
        distribution.generation = stored.generation;
        distribution.initial_sigma = stored.initial_sigma;
        distribution.p_sigma = DVector::from_vec(stored.p_sigma);
        distribution.pc = DVector::from_vec(stored.pc);
        distribution.history = stored.history;
        distribution.learning_rate = stored.learning_rate;
        Some(Self {
            step: stored.step,
            distribution,
            margin: stored.margin,
            restarts: stored.restarts,
        })
    }
}

/// The population after a number of restarts, kept to what a study could ever evaluate.
fn grown(base: usize, factor: usize, restarts: u32) -> usize {
    base.saturating_mul(factor.saturating_pow(restarts))
        .min(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::super::margin::Grid;
    use super::*;

    fn state(with_margin: bool) -> State {
        let covariance = Covariance::Full(DMatrix::identity(3, 3));
        State {
            step: 0,
            distribution: Distribution::new(vec![0.5; 3], 1.0 / 6.0, covariance, 6, false),
            margin: with_margin.then(|| Margin::new(vec![Grid::new(1, 0.25)], 3, 6)),
            restarts: Restarts::default(),
        }
    }

    fn generation(state: &mut State, rng: &mut Rng, f: impl Fn(&DVector<f64>) -> f64) {
        let told = (0..state.distribution.population_size)
            .map(|_| {
                let (x, raw) = state.ask(rng);
                let value = f(&x);
                (raw, value)
            })
            .collect();
        state.tell(told);
    }

    #[test]
    fn a_stored_state_goes_on_as_the_original_does() {
        let mut rng = Rng::new(Some(3));
        let mut original = state(true);
        for _ in 0..4 {
            generation(&mut original, &mut rng, |x| x.norm());
        }
        let chunks = original.to_chunks(100);
        assert!(chunks.iter().all(|c| c.len() <= 100));
        let mut copy = State::from_text(&chunks.concat()).unwrap();
        let (mut a, mut b) = (Rng::new(Some(5)), Rng::new(Some(5)));
        generation(&mut original, &mut a, |x| x.norm());
        generation(&mut copy, &mut b, |x| x.norm());
        assert!((&original.distribution.mean - &copy.distribution.mean).norm() < 1e-12);
        assert_eq!(original.step, copy.step);
        assert!(State::from_text(&chunks[..chunks.len() - 1].concat()).is_none());
    }

    #[test]
    fn integers_keep_a_chance_to_change_when_the_step_size_is_tiny() {
        let mut state = state(true);
        state.distribution.sigma = 1e-9;
        let margin = state.margin.as_mut().unwrap();
        margin.correct(&mut state.distribution);
        let mut rng = Rng::new(Some(1));
        let changed = (0..2000)
            .filter(|_| state.ask(&mut rng).0[1] != 0.5)
            .count();
        // The margin is 1 / (3 * 6), split over both sides.
        assert!((40..250).contains(&changed), "{changed}");
    }

    #[test]
    fn overflow_restarts_the_search() {
        let mut rng = Rng::new(Some(2));
        let mut state = state(false);
        state.distribution.mean[0] = f64::NAN;
        state.restart_if_due(RestartStrategy::None, &mut rng);
        assert!(state.is_finite() && state.distribution.generation == 0);
    }

    #[test]
    fn restarts_grow_the_population_after_convergence() {
        let mut rng = Rng::new(Some(2));
        for strategy in [RestartStrategy::Ipop(2), RestartStrategy::Bipop(2)] {
            let mut state = state(false);
            let mut sizes = vec![state.distribution.population_size];
            for _ in 0..120 {
                generation(&mut state, &mut rng, |_| 1.0);
                state.restart_if_due(strategy, &mut rng);
                if state.distribution.generation == 0 {
                    sizes.push(state.distribution.population_size);
                }
            }
            assert!(sizes.len() > 2 && sizes[1] == 14, "{strategy:?} {sizes:?}");
        }
    }
}
