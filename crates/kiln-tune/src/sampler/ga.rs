//! What NSGA-II and NSGA-III share: generations, parents and children.

pub mod crossover;
pub mod mutation;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use self::crossover::Crossover;
use self::mutation::Mutation;
use super::{RandomSampler, RelativeSample};
use crate::context::Context;
use crate::direction::StudyDirection;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::multi_objective::dominates;
use crate::rng::Rng;
use crate::search_space::IntersectionSearchSpace;
use crate::sync::lock;
use crate::transform::{BoxOptions, BoxTransform};
use crate::trial::{FrozenTrial, ParamSpace, TrialState};

/// How often a crossover may leave the box before its child is clipped to it.
const MAX_CROSSOVERS: usize = 1000;

type Trials = Vec<Arc<FrozenTrial>>;

/// Chooses the survivors among some complete trials: their positions.
pub(super) type Select<'a> = dyn Fn(&Population, &mut Rng) -> Result<Vec<usize>> + 'a;

/// Complete trials as the selections see them.
pub(super) struct Population {
    pub values: Vec<Vec<f64>>,
    pub maximize: Vec<bool>,
    /// Total violations, when any trial has constraints.
    pub penalty: Option<Vec<f64>>,
}

/// Settings and state of a genetic sampler.
pub(super) struct Genetic {
    /// `NSGAIISampler` or `NSGAIIISampler`, before the colon of every attribute.
    pub prefix: &'static str,
    pub population_size: usize,
    pub crossover: Box<dyn Crossover>,
    pub crossover_prob: f64,
    pub swapping_prob: f64,
    pub mutation: Option<Box<dyn Mutation>>,
    pub mutation_prob: Option<f64>,
    pub random: RandomSampler,
    pub rng: Mutex<Rng>,
    pub intersection: IntersectionSearchSpace,
}

impl Genetic {
    pub fn new(prefix: &'static str, seed: Option<u64>) -> Self {
        Self {
            prefix,
            population_size: 50,
            crossover: Box::new(crossover::UniformCrossover::default()),
            crossover_prob: 0.9,
            swapping_prob: 0.5,
            mutation: None,
            mutation_prob: None,
            random: RandomSampler::new(seed),
            rng: Mutex::new(Rng::new(seed)),
            intersection: IntersectionSearchSpace::new(false),
        }
    }

    pub fn checked(self) -> Result<Self> {
        let least = self.crossover.n_parents().max(2);
        if self.population_size < least {
            return Err(Error::invalid(format!(
                "population_size must be at least {least} with this crossover, but got {}",
                self.population_size
            )));
        }
        for (name, value) in [
            ("crossover_prob", Some(self.crossover_prob)),
            ("swapping_prob", Some(self.swapping_prob)),
            ("mutation_prob", self.mutation_prob),
        ] {
            if let Some(value) = value
                && !(0.0..=1.0).contains(&value)
            {
                return Err(Error::invalid(format!(
                    "{name} must be between 0 and 1, but got {value}"
                )));
            }
        }
        Ok(self)
    }

    /// Samples the relative parameters of a trial; what is left out is drawn at random.
    pub fn sample_relative(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        space: &ParamSpace,
        select: &Select<'_>,
    ) -> Result<RelativeSample> {
        let complete = study.trials_in(&[TrialState::Complete])?;
        let generation = self.generation(study, trial, &complete)?;
        let parents = self.parents(study, generation, &complete, select)?;
        if parents.is_empty() || space.is_empty() {
            return Ok(RelativeSample::new());
        }
        Ok(self.child(study, space, &parents))
    }

    fn generation_of(&self, trial: &FrozenTrial) -> Option<i64> {
        trial
            .system_attrs
            .get(&format!("{}:generation", self.prefix))
            .and_then(Json::as_i64)
    }

    /// The generation of a trial, noted on it: the newest one until it has enough complete trials.
    fn generation(&self, study: &Context, trial: &FrozenTrial, complete: &Trials) -> Result<i64> {
        if let Some(generation) = self.generation_of(trial) {
            return Ok(generation);
        }
        let (mut newest, mut count) = (0, 0);
        for generation in complete.iter().filter_map(|t| self.generation_of(t)) {
            if generation > newest {
                (newest, count) = (generation, 1);
            } else if generation == newest {
                count += 1;
            }
        }
        let generation = newest + i64::from(count >= self.population_size);
        let key = format!("{}:generation", self.prefix);
        study
            .storage()
            .set_trial_system_attr(trial.id, &key, &Json::Int(generation))?;
        Ok(generation)
    }

    /// The parents of a generation: the elite of the generation before it and of its parents.
    ///
    /// Chosen once per generation; the study attribute keeps the ids for all workers.
    fn parents(
        &self,
        study: &Context,
        generation: i64,
        complete: &Trials,
        select: &Select<'_>,
    ) -> Result<Trials> {
        let key = |g: i64| format!("{}:parent:{g}", self.prefix);
        let attrs = study.system_attrs()?;
        // Goes back to the newest generation whose parents are known, then forward again.
        let known = (1..=generation)
            .rev()
            .find(|g| attrs.contains_key(&key(*g)));
        let mut parents: Trials = match known.and_then(|g| attrs.get(&key(g))) {
            Some(ids) => {
                let ids: HashSet<i64> = ids
                    .as_array()
                    .unwrap_or_default()
                    .iter()
                    .filter_map(Json::as_i64)
                    .collect();
                complete
                    .iter()
                    .filter(|t| ids.contains(&t.id))
                    .cloned()
                    .collect()
            }
            None => Vec::new(),
        };
        for g in known.unwrap_or(0) + 1..=generation {
            let mut pool: Trials = complete
                .iter()
                .filter(|t| self.generation_of(t) == Some(g - 1))
                .cloned()
                .collect();
            pool.append(&mut parents);
            let population = Population::new(&pool, study.directions());
            let chosen = select(&population, &mut lock(&self.rng))?;
            parents = chosen.into_iter().map(|i| pool[i].clone()).collect();
            let ids: Json = parents.iter().map(|t| Json::Int(t.id)).collect();
            study
                .storage()
                .set_study_system_attr(study.id(), &key(g), &ids)?;
        }
        Ok(parents)
    }

    fn child(&self, study: &Context, space: &ParamSpace, parents: &Trials) -> RelativeSample {
        let mut rng = lock(&self.rng);
        let crossed =
            rng.uniform() < self.crossover_prob && parents.len() >= self.crossover.n_parents();
        let mut values = if crossed {
            self.cross(study, space, parents, &mut rng)
        } else {
            genes(space, &parents[rng.below(parents.len())])
        };
        let probability = self
            .mutation_prob
            .unwrap_or(1.0 / (space.len() as f64).max(1.0));
        let entries: Vec<_> = space.iter().collect();
        let mut order: Vec<usize> = (0..entries.len()).collect();
        if crossed {
            // Optuna looks at the categories of a crossed child first; the draws follow that order.
            order.sort_by_key(|&i| !entries[i].1.is_categorical());
        }
        let mut sample = RelativeSample::new();
        for i in order {
            let (name, distribution) = entries[i];
            if rng.uniform() < probability {
                // Without an operator a mutated parameter is drawn anew, by being left out.
                match &self.mutation {
                    Some(mutation) if !distribution.is_categorical() => {
                        values[i] = mutate(&**mutation, distribution, values[i], &mut rng);
                    }
                    _ => continue,
                }
            }
            sample.push((name.clone(), values[i]));
        }
        sample
    }

    fn cross(
        &self,
        study: &Context,
        space: &ParamSpace,
        parents: &Trials,
        rng: &mut Rng,
    ) -> Vec<f64> {
        let mut numeric = space.clone();
        numeric.retain(|_, d| !d.is_categorical());
        let transform = BoxTransform::new(&numeric, BoxOptions::default());
        let bounds = transform.bounds();
        let constrained = parents.iter().any(|t| t.violation().is_some());
        let mut attempt = 0;
        loop {
            let chosen = self.tournament(study.directions(), parents, constrained, rng);
            let (first, last) = (chosen[0], chosen[chosen.len() - 1]);
            let categories: Vec<f64> = space
                .iter()
                .filter(|(_, d)| d.is_categorical())
                .map(|(name, _)| {
                    let parent = if rng.uniform() >= self.swapping_prob {
                        last
                    } else {
                        first
                    };
                    parent.params.internal(name).unwrap_or_default()
                })
                .collect();
            let numbers = if numeric.is_empty() {
                Vec::new()
            } else {
                let points: Vec<Vec<f64>> = chosen
                    .iter()
                    .map(|parent| transform.transform(&genes(&numeric, parent)))
                    .collect();
                let mut child =
                    self.crossover
                        .crossover(&points, &bounds, study.is_multi_objective(), rng);
                attempt += 1;
                if attempt > MAX_CROSSOVERS {
                    for (v, [low, high]) in child.iter_mut().zip(&bounds) {
                        *v = v.max(*low).min(*high);
                    }
                }
                transform.untransform(&child)
            };
            let (mut categories, mut numbers) = (categories.into_iter(), numbers.into_iter());
            let child: Vec<f64> = space
                .iter()
                .filter_map(|(_, d)| {
                    if d.is_categorical() {
                        categories.next()
                    } else {
                        numbers.next()
                    }
                })
                .collect();
            let contained = space.iter().zip(&child).all(|((_, d), v)| d.contains(*v));
            if contained || attempt > MAX_CROSSOVERS {
                return child;
            }
        }
    }

    /// Binary tournaments, none of whose winners takes part again.
    fn tournament<'a>(
        &self,
        directions: &[StudyDirection],
        parents: &'a Trials,
        constrained: bool,
        rng: &mut Rng,
    ) -> Vec<&'a FrozenTrial> {
        let mut left: Vec<&FrozenTrial> = parents.iter().map(|t| &**t).collect();
        (0..self.crossover.n_parents())
            .map(|_| {
                let (a, b) = (rng.below(left.len()), rng.below(left.len()));
                let winner = if wins(left[a], left[b], directions, constrained) {
                    a
                } else {
                    b
                };
                left.remove(winner)
            })
            .collect()
    }
}

/// Whether `a` dominates `b`; with constraints a feasible trial, or else the smaller violation, wins.
fn wins(
    a: &FrozenTrial,
    b: &FrozenTrial,
    directions: &[StudyDirection],
    constrained: bool,
) -> bool {
    let losses = |t: &FrozenTrial| crate::multi_objective::losses_of_trial(t, directions);
    if constrained {
        let (va, vb) = (a.violation().unwrap_or(0.0), b.violation().unwrap_or(0.0));
        if va > 0.0 || vb > 0.0 {
            return va < vb;
        }
    }
    dominates(&losses(a), &losses(b))
}

fn genes(space: &ParamSpace, trial: &FrozenTrial) -> Vec<f64> {
    space
        .iter()
        .map(|(name, d)| {
            trial
                .params
                .internal(name)
                .unwrap_or_else(|| d.single_value())
        })
        .collect()
}

fn mutate(mutation: &dyn Mutation, distribution: &Distribution, value: f64, rng: &mut Rng) -> f64 {
    let transform = BoxTransform::single(distribution);
    let [low, high] = transform.bounds()[0];
    let mutated = mutation.mutate(transform.transform(&[value])[0], [low, high], rng);
    transform.untransform(&[mutated.max(low).min(high)])[0]
}

impl Population {
    fn new(trials: &Trials, directions: &[StudyDirection]) -> Self {
        let values = trials
            .iter()
            .map(|t| t.values.clone().unwrap_or_default())
            .collect();
        let violations: Vec<Option<f64>> = trials.iter().map(|t| t.violation()).collect();
        let constrained = violations.iter().any(Option::is_some);
        Self {
            values,
            maximize: directions
                .iter()
                .map(|d| *d == StudyDirection::Maximize)
                .collect(),
            penalty: constrained.then(|| violations.iter().map(|v| v.unwrap_or(0.0)).collect()),
        }
    }
}

/// Implements [`Sampler`] and `Debug` for a struct with a `genetic` field and a `select` method.
macro_rules! genetic_sampler {
    ($name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("population_size", &self.genetic.population_size)
                    .field("crossover_prob", &self.genetic.crossover_prob)
                    .field("mutation_prob", &self.genetic.mutation_prob)
                    .finish_non_exhaustive()
            }
        }

        impl Sampler for $name {
            fn infer_relative_search_space(
                &self,
                study: &Context,
                _trial: &FrozenTrial,
            ) -> Result<ParamSpace> {
                let mut space = self.genetic.intersection.calculate(study)?;
                space.retain(|_, distribution| !distribution.is_single());
                Ok(space)
            }

            fn sample_relative(
                &self,
                study: &Context,
                trial: &FrozenTrial,
                space: &ParamSpace,
            ) -> Result<RelativeSample> {
                self.genetic
                    .sample_relative(study, trial, space, &|population, rng| {
                        self.select(population, rng)
                    })
            }

            fn sample_independent(
                &self,
                _study: &Context,
                _trial: &FrozenTrial,
                _name: &str,
                distribution: &Distribution,
            ) -> Result<f64> {
                Ok(self.genetic.random.sample(distribution))
            }

            fn reseed(&self) {
                self.genetic.random.reseed();
                lock(&self.genetic.rng).reseed();
            }
        }
    };
}

/// The settings that both genetic samplers have.
macro_rules! genetic_settings {
    () => {
        /// Sets the number of complete trials of a generation. Default 50.
        ///
        /// # Errors
        /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) below 2 or below the number of
        /// parents of the crossover.
        pub fn population_size(mut self, size: usize) -> Result<Self> {
            self.genetic.population_size = size;
            self.genetic = self.genetic.checked()?;
            Ok(self)
        }

        /// Sets the crossover of numeric parameters; categorical ones are always crossed uniformly.
        /// Default [`UniformCrossover`](crate::sampler::ga::crossover::UniformCrossover).
        ///
        /// # Errors
        /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when it needs more parents than
        /// there are in the population.
        pub fn crossover(mut self, crossover: impl Crossover + 'static) -> Result<Self> {
            self.genetic.crossover = Box::new(crossover);
            self.genetic = self.genetic.checked()?;
            Ok(self)
        }

        /// Sets the probability of a crossover; otherwise a parent is copied. Default 0.9.
        ///
        /// # Errors
        /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) outside of `[0, 1]`.
        pub fn crossover_prob(mut self, probability: f64) -> Result<Self> {
            self.genetic.crossover_prob = probability;
            self.genetic = self.genetic.checked()?;
            Ok(self)
        }

        /// Sets the probability that a category comes from the last instead of the first parent.
        /// Default 0.5.
        ///
        /// # Errors
        /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) outside of `[0, 1]`.
        pub fn swapping_prob(mut self, probability: f64) -> Result<Self> {
            self.genetic.swapping_prob = probability;
            self.genetic = self.genetic.checked()?;
            Ok(self)
        }

        /// Sets the mutation of numeric parameters. Default none: a mutated parameter is drawn anew,
        /// as a mutated category always is.
        #[must_use]
        pub fn mutation(mut self, mutation: impl Mutation + 'static) -> Self {
            self.genetic.mutation = Some(Box::new(mutation));
            self
        }

        /// Sets the probability that a parameter is mutated. Default one over their number.
        ///
        /// # Errors
        /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) outside of `[0, 1]`.
        pub fn mutation_prob(mut self, probability: f64) -> Result<Self> {
            self.genetic.mutation_prob = Some(probability);
            self.genetic = self.genetic.checked()?;
            Ok(self)
        }
    };
}

pub(super) use {genetic_sampler, genetic_settings};
