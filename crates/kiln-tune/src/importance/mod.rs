//! How much each parameter matters for the objective.
//!
//! ```
//! use kiln_tune::{RandomSampler, Study, importance::get_param_importances};
//!
//! let study = Study::builder().sampler(RandomSampler::new(1)).create()?;
//! study.optimize(
//!     |trial| {
//!         let x = trial.suggest_float("x", -1.0, 1.0)?;
//!         let y = trial.suggest_float("y", -1.0, 1.0)?;
//!         Ok::<_, kiln_tune::Error>(x * x + 0.01 * y)
//!     },
//!     60,
//! )?;
//! assert_eq!(get_param_importances(&study)?[0].0, "x");
//! # Ok::<(), kiln_tune::Error>(())
//! ```

mod fanova;
mod forest;
mod mean_decrease_impurity;
mod ped_anova;

use std::collections::HashMap;
use std::sync::Arc;

pub use fanova::{FanovaEvaluator, FanovaTree};
pub use forest::{Forest, Tree};
pub use mean_decrease_impurity::MeanDecreaseImpurityEvaluator;
pub use ped_anova::{PedAnovaEvaluator, grid_density};

use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::study::Study;
use crate::transform::unit_of;
use crate::trial::{FrozenTrial, Param, ParamSpace, TrialState, same};

/// Reads from a trial the value that importance is assessed for.
pub type Target<'a> = dyn Fn(&FrozenTrial) -> f64 + 'a;

/// Parameter names with their importances, most important first.
pub type Importances = Vec<(String, f64)>;

/// A way to assess the importance of parameters.
pub trait ImportanceEvaluator {
    /// Assesses the given parameters, or all that the evaluator can; raw values, not normalised.
    ///
    /// # Errors
    /// When the study has several objectives and no target is given (unless the evaluator says
    /// otherwise), when a parameter is unknown, or when the storage fails.
    fn evaluate(
        &self,
        study: &Study,
        params: Option<&[String]>,
        target: Option<&Target<'_>>,
    ) -> Result<Importances>;
}

/// Importances by the default evaluator, [`PedAnovaEvaluator`], normalised to sum 1.
///
/// # Errors
/// When the storage fails.
pub fn get_param_importances(study: &Study) -> Result<Importances> {
    get_param_importances_with(study, &PedAnovaEvaluator::default(), None, None, true)
}

/// Importances by an evaluator, for all or some parameters and for the objective or another target.
///
/// With `normalize` they are divided by their sum, or all made equal when that is 0.
///
/// # Errors
/// As [`ImportanceEvaluator::evaluate`].
pub fn get_param_importances_with(
    study: &Study,
    evaluator: &dyn ImportanceEvaluator,
    params: Option<&[String]>,
    target: Option<&Target<'_>>,
    normalize: bool,
) -> Result<Importances> {
    let mut importances = evaluator.evaluate(study, params, target)?;
    if normalize {
        let sum: f64 = importances.iter().map(|(_, v)| v).sum();
        let equal = 1.0 / importances.len() as f64;
        for (_, value) in &mut importances {
            *value = if sum == 0.0 { equal } else { *value / sum };
        }
    }
    Ok(importances)
}

/// Normalized importances for the only objective, or for one of several, by its position from 0. One of several is a
/// target as in Optuna, whose low values PED-ANOVA looks at even when the objective is maximized.
///
/// # Errors
/// As [`get_param_importances_with`].
pub fn for_objective(
    study: &Study,
    evaluator: &dyn ImportanceEvaluator,
    params: Option<&[String]>,
    objective: Option<usize>,
) -> Result<Importances> {
    match objective.filter(|_| study.is_multi_objective()) {
        None => get_param_importances_with(study, evaluator, params, None, true),
        Some(objective) => {
            let target = |trial: &FrozenTrial| {
                let values = trial.values.as_ref();
                let value = values.and_then(|values| values.get(objective));
                value.copied().unwrap_or(f64::NAN)
            };
            get_param_importances_with(study, evaluator, params, Some(&target), true)
        }
    }
}

/// Sorts by decreasing value; of equal values the later comes first, as in Optuna. What rounding has made negative is 0.
fn sorted(mut importances: Importances) -> Importances {
    for (_, value) in &mut importances {
        if *value <= 0.0 {
            *value = 0.0;
        }
    }
    importances.sort_by(|a, b| a.1.total_cmp(&b.1));
    importances.reverse();
    importances
}

/// So many numbers of all parameters a forest is grown on; of more trials it sees some.
const MAX_CELLS: usize = 500_000;

/// Complete trials for the forests: their common space and, for those with a finite target, the
/// internal values in the order of that space, within their ranges. The targets are scaled so that
/// their squares are finite, which changes no share of the variance.
struct Samples {
    space: ParamSpace,
    x: Vec<Vec<f64>>,
    y: Vec<f64>,
}

impl Samples {
    /// With `params` the space has those only, and every complete trial that has all of them must
    /// agree on their distributions.
    fn collect(
        study: &Study,
        params: Option<&[String]>,
        target: Option<&Target<'_>>,
    ) -> Result<Self> {
        if target.is_none() {
            study.require_single(
                "this importance evaluator",
                "give a target, for example the first objective, or use PedAnovaEvaluator",
            )?;
        }
        let complete = study.trials_in(&[TrialState::Complete])?;
        let mut space = match params {
            None => intersection(&complete),
            Some(names) => space_of(&complete, names)?,
        };
        space.sort();
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for trial in &complete {
            let values = by_name(trial);
            let row: Option<Vec<f64>> = space
                .iter()
                .map(|(name, d)| {
                    let param = values.get(&**name)?;
                    Some(within(d, param.internal)).filter(|value| value.is_finite())
                })
                .collect();
            let value = match target {
                Some(target) => target(trial),
                None => trial.value().unwrap_or(f64::NAN),
            };
            if let Some(row) = row.filter(|_| value.is_finite()) {
                x.push(row);
                y.push(value);
            }
        }
        let largest = y
            .iter()
            .fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let unit = unit_of(0.0, largest).min(1.0);
        y.iter_mut().for_each(|value| *value *= unit);
        Ok(Self { space, x, y })
    }

    /// Keeps some of the trials, evenly spread, when there are so many that a forest would not end.
    fn limit(&mut self, n_columns: usize, n_rows: usize) {
        let limit = (MAX_CELLS / n_columns.max(1)).clamp(200, n_rows.max(200));
        let n = self.x.len();
        if n <= limit {
            return;
        }
        log::warn!(
            "of {n} trials a random forest sees {limit}, evenly spread, as it would take too long"
        );
        let kept = |i: usize| i * n / limit;
        self.x = (0..limit)
            .map(|i| std::mem::take(&mut self.x[kept(i)]))
            .collect();
        self.y = (0..limit).map(|i| self.y[kept(i)]).collect();
    }
}

/// The parameters of a trial by name; a search through a thousand of them for each would take long.
fn by_name(trial: &FrozenTrial) -> HashMap<&str, &Param> {
    let params = trial.params.iter();
    params.map(|param| (&*param.name, param)).collect()
}

/// A value moved into its range, from which only a damaged or foreign storage lets it stray.
#[allow(clippy::cast_precision_loss)]
fn within(distribution: &Distribution, internal: f64) -> f64 {
    match distribution {
        Distribution::Float(d) => internal.clamp(d.low(), d.high()),
        Distribution::Int(d) => internal.clamp(d.low() as f64, d.high() as f64),
        Distribution::Categorical(_) => internal,
    }
}

fn intersection(complete: &[Arc<FrozenTrial>]) -> ParamSpace {
    let mut trials = complete.iter();
    let mut space: ParamSpace = trials.next().map_or_else(ParamSpace::new, |first| {
        first
            .params
            .iter()
            .map(|p| (p.name.clone(), p.distribution.clone()))
            .collect()
    });
    for trial in trials {
        let params = by_name(trial);
        space.retain_shared(|name, d| {
            let param = params.get(name);
            param.is_some_and(|param| same(&param.distribution, d))
        });
    }
    space
}

fn space_of(complete: &[Arc<FrozenTrial>], names: &[String]) -> Result<ParamSpace> {
    let mut space: Option<ParamSpace> = None;
    for trial in complete {
        let found: Option<Vec<_>> = names
            .iter()
            .map(|name| {
                let p = trial.params.get(name)?;
                Some((p.name.clone(), p.distribution.clone()))
            })
            .collect();
        let Some(found) = found else {
            continue;
        };
        let found: ParamSpace = found.into_iter().collect();
        match &space {
            None => space = Some(found),
            Some(space) if *space == found => {}
            Some(_) => {
                return Err(Error::invalid(format!(
                    "the distributions of {names:?} change within the study, so their importance \
                     cannot be assessed; use PedAnovaEvaluator"
                )));
            }
        }
    }
    match space {
        Some(space) => Ok(space),
        None if names.is_empty() => Ok(ParamSpace::new()),
        None => Err(Error::invalid(format!(
            "no complete trial has all of the parameters {names:?}"
        ))),
    }
}

#[cfg(all(test, feature = "plot"))]
mod tests {
    use super::*;
    use crate::sampler::RandomSampler;
    use crate::study::StudyDirection;

    // Numbers of Optuna 5.0.0: `RandomSampler(seed=1)`, then
    // `get_param_importances(study, target=lambda t: t.values[i])`.
    #[test]
    fn the_importance_for_one_of_several_objectives_is_that_of_optuna() -> Result<()> {
        let study = Study::builder()
            .directions([StudyDirection::Minimize, StudyDirection::Maximize])
            .sampler(RandomSampler::new(1))
            .create()?;
        let objective = |trial: &mut crate::Trial| {
            let x = trial.suggest_float("x", 0.0, 1.0)?;
            let y = trial.suggest_float_log("y", 1e-3, 1.0)?;
            let n = trial.suggest_int("n", 1, 9)?;
            let c = trial.suggest_categorical("c", &["a", "b"])?;
            let own = if c == "a" { y } else { 0.0 };
            Ok::<_, Error>([x * x + y, (1.0 - x) * n as f64 + own])
        };
        study.optimize(objective, 60)?;
        let evaluator = PedAnovaEvaluator::default();
        let found = for_objective(&study, &evaluator, None, Some(1))?;
        let expected = [
            ("x", 0.5942940145219169),
            ("n", 0.31665242805435856),
            ("y", 0.08767264659314425),
            ("c", 0.0013809108305803351),
        ];
        for ((name, share), (wanted, value)) in found.iter().zip(expected) {
            assert_eq!(name, wanted);
            assert!(
                (share - value).abs() < 1e-10,
                "{name}: {share} is not {value}"
            );
        }
        Ok(())
    }
}
