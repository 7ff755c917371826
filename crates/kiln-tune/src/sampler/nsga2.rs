//! NSGA-II.

use super::ga::crossover::Crossover;
use super::ga::mutation::Mutation;
use super::ga::{Genetic, Population, genetic_sampler, genetic_settings};
use super::{RelativeSample, Sampler};
use crate::context::Context;
use crate::distribution::Distribution;
use crate::error::Result;
use crate::multi_objective::elite_population;
use crate::rng::Rng;
use crate::sync::lock;
use crate::trial::{FrozenTrial, ParamSpace};

/// The nondominated sorting genetic algorithm, for any number of objectives (Deb et al., *A Fast and
/// Elitist Multiobjective Genetic Algorithm: NSGA-II*, 2002).
///
/// | setting | default | meaning |
/// |---|---|---|
/// | [`population_size`](Self::population_size) | 50 | complete trials per generation |
/// | [`crossover`](Self::crossover) | uniform | mixes the numeric parameters of the parents |
/// | [`crossover_prob`](Self::crossover_prob) | 0.9 | otherwise a parent is copied |
/// | [`swapping_prob`](Self::swapping_prob) | 0.5 | mixes categories |
/// | [`mutation`](Self::mutation) | none | a mutated parameter is drawn anew |
/// | [`mutation_prob`](Self::mutation_prob) | `1 / n_params` | per parameter |
///
/// The first generation is random. Parents are the best of a generation and of its own parents by
/// rank and crowding distance; with constraints, feasible trials come first and then smaller
/// violations. Conditional parameters are random. Generation and parents are kept in the attributes
/// that Optuna uses, so Rust and Python workers breed one population.
///
/// ```
/// use kiln_tune::{Study, StudyDirection::Minimize, sampler::NsgaIiSampler};
///
/// let sampler = NsgaIiSampler::new(1).population_size(20)?;
/// let study = Study::builder().directions([Minimize, Minimize]).sampler(sampler).create()?;
/// study.optimize(
///     |trial| {
///         let x = trial.suggest_float("x", -2.0, 2.0)?;
///         Ok::<_, kiln_tune::Error>([x * x, (x - 1.0) * (x - 1.0)])
///     },
///     60,
/// )?;
/// assert!(study.best_trials()?.len() > 5);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct NsgaIiSampler {
    genetic: Genetic,
}

impl NsgaIiSampler {
    /// A sampler with the defaults above; `None` seeds from the operating system.
    #[must_use]
    pub fn new(seed: impl Into<Option<u64>>) -> Self {
        Self {
            genetic: Genetic::new("NSGAIISampler", seed.into()),
        }
    }

    genetic_settings!();

    fn select(&self, population: &Population, _rng: &mut Rng) -> Result<Vec<usize>> {
        Ok(elite_population(
            &population.values,
            &population.maximize,
            population.penalty.as_deref(),
            self.genetic.population_size,
        ))
    }
}

genetic_sampler!(NsgaIiSampler);
