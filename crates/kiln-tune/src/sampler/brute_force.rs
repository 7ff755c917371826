use std::collections::BTreeMap;
use std::sync::Mutex;

use super::Sampler;
use crate::context::Context;
use crate::distribution::{Distribution, Grid, IntDistribution};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::sync::lock;
use crate::trial::{FrozenTrial, Param, TrialState};

/// More values than this are not listed one by one: every trial of a grid keeps the whole list, as in Optuna.
const MAX_LISTED: u64 = 10_000;

/// Tries every combination of values of a define-by-run search space once, then stops the study.
///
/// The space may be conditional: which parameters exist is learned as the trials run. Every parameter must have
/// finitely many values (floats need a step), and its range must not change within the study.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `seed` | entropy | order of the trials |
/// | `avoid_premature_stop` | false | wait for running trials before the space counts as searched; may try a point twice |
///
/// ```
/// use kiln_tune::{BruteForceSampler, Study};
///
/// let study = Study::builder().sampler(BruteForceSampler::new()).create()?;
/// study.optimize(
///     |trial| {
///         let a = trial.suggest_int("a", 1, 3)?;
///         let b = if a > 1 { trial.suggest_int("b", 0, 1)? } else { 0 };
///         Ok::<_, kiln_tune::Error>((a + b) as f64)
///     },
///     100,
/// )?;
/// assert_eq!(study.trials()?.len(), 5);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug)]
pub struct BruteForceSampler {
    rng: Mutex<Rng>,
    avoid_premature_stop: bool,
}

impl Default for BruteForceSampler {
    fn default() -> Self {
        Self::new()
    }
}

impl BruteForceSampler {
    /// With the defaults of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rng: Mutex::new(Rng::new(None)),
            avoid_premature_stop: false,
        }
    }

    /// Fixes the order of the trials.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.rng = Mutex::new(Rng::new(Some(seed)));
        self
    }

    /// Whether running trials leave their points open until they end.
    #[must_use]
    pub fn avoid_premature_stop(mut self, avoid: bool) -> Self {
        self.avoid_premature_stop = avoid;
        self
    }
}

impl Sampler for BruteForceSampler {
    fn sample_independent(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        let values = Values::of(name, distribution)?;
        let mut tree = Node::default();
        tree.expand(name, distribution)?;
        let prefix: Vec<&Param> = trial.params.iter().collect();
        for other in study.trials()? {
            if other.number != trial.number && other.state != TrialState::Waiting {
                tree.add(&other, &prefix, other.state)?;
            }
        }
        let exclude_running = !self.avoid_premature_stop;
        let mut rng = lock(&self.rng);
        match &tree.next {
            Next::Parameter(branch) if tree.n_open(exclude_running) > 0 => {
                Ok(branch.sample(&mut rng, exclude_running))
            }
            _ => {
                let n = usize::try_from(values.len()).unwrap_or(usize::MAX);
                Ok(values.value(rng.below(n) as u64))
            }
        }
    }

    fn after_trial(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        state: TrialState,
        _values: Option<&[f64]>,
    ) -> Result<()> {
        let trials = study.trials()?;
        let params: Vec<&Param> = trial.params.iter().collect();
        // From the innermost branch outwards: mostly an open one is found there, among few trials.
        for n_fixed in (0..params.len()).rev() {
            let mut tree = Node::default();
            for other in trials
                .iter()
                .filter(|other| other.state != TrialState::Waiting)
            {
                if other.number == trial.number {
                    tree.add(trial, &params[..n_fixed], state)?;
                } else {
                    tree.add(other, &params[..n_fixed], other.state)?;
                }
            }
            if tree.n_open(!self.avoid_premature_stop) > 0 {
                return Ok(());
            }
        }
        study.request_stop();
        Ok(())
    }

    fn reseed(&self) {
        lock(&self.rng).reseed();
    }
}

/// What follows after some values: nothing is known yet, the trial ended there, or another parameter.
#[derive(Debug, Default)]
struct Node {
    next: Next,
    is_running: bool,
    /// The end is one of a failed trial, which may have stopped before it suggested all of its parameters.
    is_failure: bool,
}

#[derive(Debug, Default)]
enum Next {
    #[default]
    Open,
    End,
    Parameter(Box<Branch>),
}

/// A parameter with what follows after those of its values that were tried. All others are open.
#[derive(Debug)]
struct Branch {
    name: String,
    distribution: Distribution,
    values: Values,
    tried: BTreeMap<u64, Node>,
}

impl Node {
    fn expand(&mut self, name: &str, distribution: &Distribution) -> Result<()> {
        match &self.next {
            Next::End if !self.is_failure => Err(Error::invalid(format!(
                "brute force: a trial ended where another one suggests {name:?}; the objective must be deterministic"
            ))),
            Next::Open | Next::End => {
                self.next = Next::Parameter(Box::new(Branch {
                    name: name.to_owned(),
                    distribution: distribution.clone(),
                    values: Values::of(name, distribution)?,
                    tried: BTreeMap::new(),
                }));
                Ok(())
            }
            Next::Parameter(branch) => {
                let (known, range) = (&branch.name, &branch.distribution);
                if known == name && same_values(range, distribution) {
                    return Ok(());
                }
                Err(Error::invalid(format!(
                    "brute force: after the same parameters one trial suggests {known:?} from {range} and another one \
                     {name:?} from {distribution}; names and ranges must not change within a study"
                )))
            }
        }
    }

    /// Adds the parameters of a trial behind a prefix, if the trial has that prefix.
    fn add(&mut self, trial: &FrozenTrial, prefix: &[&Param], state: TrialState) -> Result<()> {
        let has = |param: &&Param| trial.params.internal(&param.name) == Some(param.internal);
        if !prefix.iter().all(has) {
            return Ok(());
        }
        let mut node = self;
        for param in trial
            .params
            .iter()
            .filter(|param| prefix.iter().all(|fixed| fixed.name != param.name))
        {
            node.expand(&param.name, &param.distribution)?;
            let Next::Parameter(branch) = &mut node.next else {
                return Ok(());
            };
            let Some(index) = branch.values.index_of(param.internal) else {
                // A value off the grid, such as an enqueued one, says nothing about the grid.
                return Ok(());
            };
            node = branch.tried.entry(index).or_default();
        }
        if state.is_finished() {
            if !matches!(node.next, Next::Parameter(_)) {
                let is_open = matches!(node.next, Next::Open);
                node.is_failure = state == TrialState::Fail && (is_open || node.is_failure);
                node.next = Next::End;
            }
        } else {
            node.is_running = true;
        }
        Ok(())
    }

    /// The number of open ends behind this node.
    fn n_open(&self, exclude_running: bool) -> u64 {
        match &self.next {
            Next::Open => u64::from(!(exclude_running && self.is_running)),
            Next::End => 0,
            Next::Parameter(branch) => branch
                .tried
                .values()
                .map(|node| node.n_open(exclude_running))
                .fold(branch.n_untried(), u64::saturating_add),
        }
    }
}

impl Branch {
    fn n_untried(&self) -> u64 {
        self.values.len().saturating_sub(self.tried.len() as u64)
    }

    /// A value with something open behind it: half by the number of open ends, half uniformly, so that small branches
    /// are not starved. Values that are not being tried elsewhere go first. The values that nobody tried all have the
    /// same weight and are never listed, as there may be billions of them.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    fn sample(&self, rng: &mut Rng, exclude_running: bool) -> f64 {
        let untried = self.n_untried() as f64;
        let open: Vec<f64> = self
            .tried
            .values()
            .map(|node| node.n_open(exclude_running) as f64)
            .collect();
        let total = untried + open.iter().sum::<f64>();
        let n_open = untried + open.iter().filter(|n| **n > 0.0).count() as f64;
        let weight = |n: f64| 0.5 * n / total + if n > 0.0 { 0.5 / n_open } else { 0.0 };
        let others = untried > 0.0
            || self
                .tried
                .values()
                .zip(&open)
                .any(|(node, n)| !node.is_running && *n > 0.0);
        let weights: Vec<f64> = self
            .tried
            .values()
            .zip(&open)
            .map(|(node, n)| {
                if others && node.is_running {
                    0.0
                } else {
                    weight(*n)
                }
            })
            .collect();
        let each = weight(1.0);
        let mut rest = rng.uniform() * (untried * each + weights.iter().sum::<f64>());
        let (mut next, mut last) = (0, None);
        for ((&index, _), weight) in self.tried.iter().zip(weights) {
            let gap = index - next;
            if rest < gap as f64 * each {
                return self
                    .values
                    .value(next + ((rest / each) as u64).min(gap - 1));
            }
            rest -= gap as f64 * each;
            if rest < weight {
                return self.values.value(index);
            }
            rest -= weight;
            if weight > 0.0 {
                last = Some(index);
            } else if gap > 0 {
                last = Some(index - 1);
            }
            next = index.saturating_add(1);
        }
        let gap = self.values.len().saturating_sub(next);
        let index = match (gap, last) {
            // What rounding has left belongs to the last value.
            (0, last) => last.unwrap_or(0),
            (gap, _) => next + ((rest / each) as u64).min(gap - 1),
        };
        self.values.value(index)
    }
}

/// The values of a parameter by their index, none of which is stored.
#[derive(Debug, Clone)]
enum Values {
    Choices(u64),
    Int(IntDistribution),
    Float(Grid),
    Single(f64),
}

impl Values {
    fn of(name: &str, distribution: &Distribution) -> Result<Self> {
        Ok(match distribution {
            Distribution::Categorical(d) => Self::Choices(d.choices().len() as u64),
            Distribution::Int(d) => Self::Int(*d),
            Distribution::Float(d) => match d.grid() {
                Some(grid) => Self::Float(grid),
                None if d.low() == d.high() => Self::Single(d.low()),
                None => {
                    return Err(Error::invalid(format!(
                        "the float parameter {name:?} needs a step, as it would have infinitely many values"
                    )));
                }
            },
        })
    }

    /// How many there are, at least one; `u64::MAX` when there are more.
    fn len(&self) -> u64 {
        match self {
            Self::Choices(n) => *n,
            Self::Int(d) => {
                let last = (i128::from(d.high()) - i128::from(d.low())) / i128::from(d.step());
                u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1)
            }
            Self::Float(grid) => grid.len(),
            Self::Single(_) => 1,
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn value(&self, index: u64) -> f64 {
        match self {
            Self::Choices(_) => index as f64,
            Self::Int(d) => (i128::from(d.low()) + i128::from(index) * i128::from(d.step())) as f64,
            Self::Float(grid) => grid.value(index),
            Self::Single(value) => *value,
        }
    }

    /// The index of a value; `None` for what is not among them.
    fn index_of(&self, value: f64) -> Option<u64> {
        // Values ascend.
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from + (to - from) / 2;
            if self.value(middle) < value {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        (from < self.len() && self.value(from) == value).then_some(from)
    }
}

fn same_values(a: &Distribution, b: &Distribution) -> bool {
    match (a, b) {
        (Distribution::Categorical(a), Distribution::Categorical(b)) => {
            a.choices().len() == b.choices().len()
        }
        (Distribution::Float(a), Distribution::Float(b)) => {
            (a.low(), a.high(), a.step()) == (b.low(), b.high(), b.step())
        }
        (Distribution::Int(a), Distribution::Int(b)) => {
            (a.low(), a.high(), a.step()) == (b.low(), b.high(), b.step())
        }
        _ => false,
    }
}

/// The internal values of a parameter, in order, such as those of a grid.
///
/// ```
/// use kiln_tune::{Distribution, FloatDistribution, sampler::finite_values};
///
/// let dropout: Distribution = FloatDistribution::with_step(0.0, 0.5, 0.25)?.into();
/// assert_eq!(finite_values("dropout", &dropout)?, [0.0, 0.25, 0.5]);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidArgument`] when there are infinitely many, or more than 10,000.
pub fn finite_values(name: &str, distribution: &Distribution) -> Result<Vec<f64>> {
    let values = Values::of(name, distribution)?;
    if values.len() > MAX_LISTED {
        return Err(Error::invalid(format!(
            "parameter {name:?} has more than {MAX_LISTED} values; use a larger step or another sampler"
        )));
    }
    Ok((0..values.len()).map(|index| values.value(index)).collect())
}
