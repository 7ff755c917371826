//! Typed search spaces, and which parameters can be sampled together.

use std::sync::{Arc, Mutex};

use crate::context::Context;
use crate::distribution::IntDistribution;
use crate::error::{Error, Result};
use crate::storage::TrialCache;
use crate::sync::lock;
use crate::trial::{FixedTrial, FrozenTrial, ParamSpace, Params, Suggest, TrialState, same};

/// The parameters which all finished trials have in common, with equal distributions, sorted by name.
///
/// Each trial is looked at once: what one of them lacks never comes back.
///
/// ```
/// use kiln_tune::Study;
/// use kiln_tune::search_space::IntersectionSearchSpace;
///
/// let study = Study::builder().create()?;
/// study.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), 3)?;
/// let space = IntersectionSearchSpace::new(false).calculate(study.context())?;
/// assert!(space.contains("x"));
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug)]
pub struct IntersectionSearchSpace {
    include_pruned: bool,
    state: Mutex<Option<(TrialCache, Option<ParamSpace>)>>,
}

impl IntersectionSearchSpace {
    /// Over complete trials, and over pruned ones if asked for.
    #[must_use]
    pub fn new(include_pruned: bool) -> Self {
        Self {
            include_pruned,
            state: Mutex::new(None),
        }
    }

    /// The intersection as of now; empty without any trial.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn calculate(&self, study: &Context) -> Result<ParamSpace> {
        let mut state = lock(&self.state);
        if state.as_ref().is_some_and(|(cache, _)| !cache.is_of(study)) {
            *state = None;
        }
        let (cache, space) = state.get_or_insert_with(|| (TrialCache::of(study), None));
        for position in cache.sync(study.storage())? {
            let trial = &cache.trials()[position];
            if counts(trial, self.include_pruned) {
                narrow(space, &trial.params);
            }
        }
        Ok(space.clone().unwrap_or_default())
    }
}

/// The intersection of some trials, in one go.
#[must_use]
pub fn intersection_search_space(trials: &[Arc<FrozenTrial>], include_pruned: bool) -> ParamSpace {
    let mut space = None;
    for trial in trials.iter().filter(|trial| counts(trial, include_pruned)) {
        narrow(&mut space, &trial.params);
    }
    space.unwrap_or_default()
}

fn counts(trial: &FrozenTrial, include_pruned: bool) -> bool {
    trial.state == TrialState::Complete || (include_pruned && trial.state == TrialState::Pruned)
}

pub(crate) fn narrow(space: &mut Option<ParamSpace>, params: &Params) {
    match space {
        Some(space) => space.retain_shared(|name, distribution| {
            params
                .get(name)
                .is_some_and(|param| same(&param.distribution, distribution))
        }),
        None => {
            let mut all: ParamSpace = params
                .iter()
                .map(|param| (param.name.clone(), param.distribution.clone()))
                .collect();
            all.sort();
            *space = Some(all);
        }
    }
}

/// Parameters split into groups which always occur together, so that each group can be sampled jointly even when the
/// search space is conditional.
#[derive(Debug, Clone, Default)]
pub struct SearchSpaceGroup {
    groups: Vec<ParamSpace>,
}

impl SearchSpaceGroup {
    /// No group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The groups; every name is in exactly one.
    #[must_use]
    pub fn groups(&self) -> &[ParamSpace] {
        &self.groups
    }

    /// Splits the groups by the parameters of one more trial, and adds those which are new.
    pub fn add(&mut self, params: &Params) {
        let mut rest: Vec<_> = params.iter().collect();
        let mut next = Vec::with_capacity(self.groups.len() + 1);
        for group in &self.groups {
            let (mut shared, mut other) = (group.clone(), group.clone());
            shared.retain(|name, _| params.contains(name));
            other.retain(|name, _| !params.contains(name));
            rest.retain(|param| !group.contains(&param.name));
            next.extend([shared, other]);
        }
        next.push(
            rest.into_iter()
                .map(|param| (param.name.clone(), param.distribution.clone()))
                .collect(),
        );
        next.retain(|group| !group.is_empty());
        self.groups = next;
    }
}

/// A type that is suggested in one call, and comes back typed from the best trial.
///
/// Derive it for structs with named fields; a field says what its values are:
///
/// | field | attribute |
/// |---|---|
/// | `f32`, `f64` | `#[param(low = .., high = ..)]`, optionally `log` or `step = ..` |
/// | any integer | the same |
/// | any serde type without data | `#[param(choices = [..])]` |
/// | `bool` | none |
/// | another search space | none; its parameters are called `field.parameter` |
///
/// `name = ".."` gives a parameter another name than the field. An enum is a categorical parameter with its variants
/// as choices; the fields of a variant exist only in the trials which chose it, so that conditional spaces are plain
/// Rust. `#[param(crate = path)]` on the type says where this crate is when it is re-exported.
///
/// ```
/// use kiln_tune::{SearchSpace, Study};
///
/// #[derive(Debug, SearchSpace)]
/// struct Config {
///     #[param(low = 1e-5, high = 1e-1, log)]
///     learning_rate: f64,
///     #[param(low = 16, high = 256, step = 16)]
///     width: usize,
///     #[param(choices = ["relu", "gelu"])]
///     activation: String,
///     nesterov: bool,
///     optimizer: Optimizer,
/// }
///
/// #[derive(Debug, SearchSpace)]
/// enum Optimizer {
///     Adam,
///     Sgd {
///         #[param(low = 0.0, high = 0.99)]
///         momentum: f64,
///     },
/// }
///
/// let study = Study::builder().create()?;
/// study.optimize(
///     |trial| {
///         let config: Config = trial.suggest_space()?;
///         Ok::<_, kiln_tune::Error>(config.learning_rate * config.width as f64)
///     },
///     20,
/// )?;
/// let best: Config = study.best_params_as()?;
/// assert!(best.width % 16 == 0);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub trait SearchSpace: Sized {
    /// Suggests the whole value; the names of the parameters start with `prefix`.
    ///
    /// # Errors
    /// As [`Trial::suggest`](crate::Trial::suggest).
    fn suggest_from<S: Suggest>(source: &mut S, prefix: &str) -> Result<Self>;
}

impl SearchSpace for bool {
    fn suggest_from<S: Suggest>(source: &mut S, prefix: &str) -> Result<Self> {
        source.suggest_categorical(prefix, &[false, true])
    }
}

impl Params {
    /// The parameters as a typed search space.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when one is missing, [`Error::ValueNotInDistribution`] when one does not fit.
    pub fn to_space<T: SearchSpace>(&self) -> Result<T> {
        let values = self
            .iter()
            .map(|param| (param.name.to_string(), param.value()));
        T::suggest_from(&mut FixedTrial::new(values), "")
    }
}

/// The name of a field's parameter. For derived code.
#[doc(hidden)]
#[must_use]
pub fn param_name(prefix: &str, field: &str) -> String {
    if prefix.is_empty() {
        field.to_owned()
    } else {
        format!("{prefix}.{field}")
    }
}

/// An integer field of any width. For derived code.
#[doc(hidden)]
pub fn int_field<T: TryFrom<i64>, S: Suggest>(
    source: &mut S,
    name: &str,
    distribution: IntDistribution,
) -> Result<T> {
    let value = crate::trial::suggest_integer(source, name, distribution)?;
    T::try_from(value).map_err(|_| {
        Error::invalid(format!(
            "the value {value} of parameter {name:?} does not fit into its field"
        ))
    })
}
