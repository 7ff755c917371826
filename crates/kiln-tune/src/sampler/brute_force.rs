use std::sync::Mutex;

use super::Sampler;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::study::Study;
use crate::sync::lock;
use crate::trial::{FrozenTrial, Param, TrialState};

/// A parameter with more values than this cannot be searched exhaustively.
const MAX_VALUES: usize = 1_000_000;

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
        study: &Study,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        let values = finite_values(name, distribution)?;
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
        if tree.n_open(exclude_running) == 0 {
            return Ok(values[rng.below(values.len())]);
        }
        Ok(tree.sample_child(&mut rng, exclude_running))
    }

    fn after_trial(
        &self,
        study: &Study,
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

/// A parameter with its values, or an end. Without children it is open: nothing is known behind it yet.
#[derive(Debug, Default)]
struct Node {
    parameter: Option<(String, Distribution)>,
    /// By value; None is open. An empty list is an end.
    children: Option<Vec<(f64, Option<Box<Node>>)>>,
    is_running: bool,
    /// The end is one of a failed trial, which may have stopped before it suggested all of its parameters.
    is_failure: bool,
}

impl Node {
    fn expand(&mut self, name: &str, distribution: &Distribution) -> Result<()> {
        let Some((known, range)) = &self.parameter else {
            if self.children.is_some() && !self.is_failure {
                return Err(Error::invalid(format!(
                    "brute force: a trial ended where another one suggests {name:?}; the objective must be deterministic"
                )));
            }
            let values = finite_values(name, distribution)?;
            self.parameter = Some((name.to_owned(), distribution.clone()));
            self.children = Some(values.into_iter().map(|value| (value, None)).collect());
            return Ok(());
        };
        if known != name || !same_values(range, distribution) {
            return Err(Error::invalid(format!(
                "brute force: after the same parameters one trial suggests {known:?} from {range} and another one \
                 {name:?} from {distribution}; names and ranges must not change within a study"
            )));
        }
        Ok(())
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
            let children = node.children.as_mut().into_iter().flatten();
            let Some((_, child)) = children
                .into_iter()
                .find(|(value, _)| *value == param.internal)
            else {
                // A value off the grid, such as an enqueued one, says nothing about the grid.
                return Ok(());
            };
            node = child.get_or_insert_default();
        }
        if state.is_finished() {
            if node.parameter.is_none() {
                node.is_failure =
                    state == TrialState::Fail && (node.children.is_none() || node.is_failure);
                node.children = Some(Vec::new());
            }
        } else {
            node.is_running = true;
        }
        Ok(())
    }

    /// The number of open ends behind this node.
    fn n_open(&self, exclude_running: bool) -> usize {
        match &self.children {
            None => usize::from(!(exclude_running && self.is_running)),
            Some(children) => children
                .iter()
                .map(|(_, child)| {
                    child
                        .as_ref()
                        .map_or(1, |child| child.n_open(exclude_running))
                })
                .sum(),
        }
    }

    /// A value with something open behind it: half by the number of open ends, half uniformly, so that small branches
    /// are not starved. Values that are not being tried elsewhere go first.
    #[allow(clippy::cast_precision_loss)]
    fn sample_child(&self, rng: &mut Rng, exclude_running: bool) -> f64 {
        let children = self.children.as_deref().unwrap_or_default();
        let is_running =
            |child: &Option<Box<Node>>| child.as_ref().is_some_and(|child| child.is_running);
        let open: Vec<f64> = children
            .iter()
            .map(|(_, child)| {
                child
                    .as_ref()
                    .map_or(1, |child| child.n_open(exclude_running)) as f64
            })
            .collect();
        let total: f64 = open.iter().sum();
        let n_open = open.iter().filter(|n| **n > 0.0).count() as f64;
        let mut weights: Vec<f64> = open
            .iter()
            .map(|n| 0.5 * n / total + if *n > 0.0 { 0.5 / n_open } else { 0.0 })
            .collect();
        if children
            .iter()
            .zip(&weights)
            .any(|((_, child), weight)| !is_running(child) && *weight > 0.0)
        {
            for ((_, child), weight) in children.iter().zip(&mut weights) {
                if is_running(child) {
                    *weight = 0.0;
                }
            }
        }
        children[rng.weighted_index(&weights)].0
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

/// All internal values of a parameter.
#[allow(clippy::cast_precision_loss)]
/// The internal values of a parameter, in order.
///
/// # Errors
/// When there are infinitely or too many.
pub(crate) fn finite_values(name: &str, distribution: &Distribution) -> Result<Vec<f64>> {
    let too_many = || {
        Error::invalid(format!(
            "parameter {name:?} has more than {MAX_VALUES} values; use a larger step or another sampler"
        ))
    };
    match distribution {
        Distribution::Categorical(d) => Ok((0..d.choices().len()).map(|i| i as f64).collect()),
        Distribution::Int(d) => {
            if (i128::from(d.high()) - i128::from(d.low())) / i128::from(d.step())
                >= MAX_VALUES as i128
            {
                return Err(too_many());
            }
            let count = (d.high() - d.low()) / d.step();
            Ok((0..=count)
                .map(|i| (d.low() + i * d.step()) as f64)
                .collect())
        }
        Distribution::Float(d) => match d.step() {
            None if d.low() == d.high() => Ok(vec![d.low()]),
            None => Err(Error::invalid(format!(
                "the float parameter {name:?} needs a step, as it would have infinitely many values"
            ))),
            Some(step) if (d.high() - d.low()) / step > MAX_VALUES as f64 => Err(too_many()),
            Some(_) => Ok(d.grid_points()),
        },
    }
}
