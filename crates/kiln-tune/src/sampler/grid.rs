use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use super::Sampler;
use crate::distribution::{Distribution, ParamValue};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::rng::Rng;
use crate::study::Study;
use crate::sync::lock;
use crate::trial::{FIXED_PARAMS_KEY, FrozenTrial, TrialState};

const GRID_ID_KEY: &str = "grid_id";
const SEARCH_SPACE_KEY: &str = "search_space";

/// More points than this are refused: they would neither fit into memory nor ever be finished.
const MAX_POINTS: usize = 100_000_000;

/// Tries every combination of given values once, then stops the study.
///
/// The order is shuffled with the seed (0 unless given), in the same way in every process and as Optuna does, so that
/// workers share one grid. A value is used even when it is outside of the suggested distribution, with a warning.
///
/// ```
/// use kiln_tune::{GridSampler, Study};
///
/// let grid = GridSampler::new().param("x", [-1.0, 0.0, 1.0]).param("norm", ["batch", "group"]);
/// let study = Study::builder().sampler(grid).create()?;
/// study.optimize(
///     |trial| {
///         let x = trial.suggest_float("x", -1.0, 1.0)?;
///         let norm = trial.suggest_categorical("norm", &["batch", "group"])?;
///         Ok::<_, kiln_tune::Error>(x * x + if norm == "batch" { 1.0 } else { 0.0 })
///     },
///     100,
/// )?;
/// assert_eq!(study.trials()?.len(), 6);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug)]
pub struct GridSampler {
    /// Sorted by name.
    space: BTreeMap<String, Vec<ParamValue>>,
    seed: u64,
    rng: OnceLock<Mutex<Rng>>,
    /// The shuffled points, each as its index in the cartesian product.
    order: OnceLock<Vec<usize>>,
}

impl Default for GridSampler {
    fn default() -> Self {
        Self::new()
    }
}

impl GridSampler {
    /// An empty grid.
    #[must_use]
    pub fn new() -> Self {
        Self {
            space: BTreeMap::new(),
            seed: 0,
            rng: OnceLock::new(),
            order: OnceLock::new(),
        }
    }

    /// The values of a parameter.
    #[must_use]
    pub fn param<V: Into<ParamValue>>(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.space
            .insert(name.into(), values.into_iter().map(Into::into).collect());
        self.order = OnceLock::new();
        self
    }

    /// Another order. All workers of a study need the same seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.order = OnceLock::new();
        self
    }

    /// The number of points.
    #[must_use]
    pub fn n_points(&self) -> usize {
        self.space
            .values()
            .fold(1, |n, values| n.saturating_mul(values.len()))
    }

    /// The values of a point by its `grid_id`, in the order of the sorted names.
    ///
    /// # Panics
    /// When there are not so many points.
    #[must_use]
    pub fn point(&self, grid_id: usize) -> Vec<&ParamValue> {
        let mut rest = self.order()[grid_id];
        // The last name runs fastest.
        let mut point: Vec<&ParamValue> = self
            .space
            .values()
            .rev()
            .map(|values| {
                let value = &values[rest % values.len()];
                rest /= values.len();
                value
            })
            .collect();
        point.reverse();
        point
    }

    /// Whether every point has been tried in a study.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn is_exhausted(&self, study: &Study) -> Result<bool> {
        Ok(self.unvisited(study)?.is_empty())
    }

    fn order(&self) -> &[usize] {
        self.order.get_or_init(|| {
            let mut order: Vec<usize> = (0..self.n_points()).collect();
            let mut rng = Rng::new(Some(self.seed));
            rng.shuffle(&mut order);
            // Points that are chosen later continue the same stream.
            let _ = self.rng.set(Mutex::new(rng));
            order
        })
    }

    fn rng(&self) -> &Mutex<Rng> {
        self.order();
        self.rng
            .get_or_init(|| Mutex::new(Rng::new(Some(self.seed))))
    }

    fn space_json(&self) -> Json {
        let entry = |(name, values): (&String, &Vec<ParamValue>)| {
            (
                name.clone(),
                Json::Array(values.iter().map(ParamValue::to_json).collect()),
            )
        };
        Json::Object(self.space.iter().map(entry).collect())
    }

    fn is_same_space(&self, json: &Json) -> bool {
        let Some(entries) = json.as_object() else {
            return false;
        };
        entries.len() == self.space.len()
            && entries.iter().all(|(name, values)| {
                let (Some(own), Some(values)) = (self.space.get(name), values.as_array()) else {
                    return false;
                };
                own.len() == values.len()
                    && own
                        .iter()
                        .zip(values)
                        .all(|(a, b)| ParamValue::from_json(b).is_ok_and(|b| *a == b))
            })
    }

    /// The points that are neither tried nor running; when there are none, those that are not tried.
    fn unvisited(&self, study: &Study) -> Result<Vec<usize>> {
        let own = self.space_json();
        study.with_trials(|trials| {
            let mut visited = vec![false; self.n_points()];
            let mut running = visited.clone();
            for trial in trials {
                let (Some(id), Some(space)) =
                    (grid_id(trial), trial.system_attrs.get(SEARCH_SPACE_KEY))
                else {
                    continue;
                };
                if id >= visited.len() || !(own == *space || self.is_same_space(space)) {
                    continue;
                }
                if trial.state.is_finished() {
                    visited[id] = true;
                } else if trial.state == TrialState::Running {
                    running[id] = true;
                }
            }
            let free: Vec<usize> = (0..visited.len())
                .filter(|id| !visited[*id] && !running[*id])
                .collect();
            if free.is_empty() {
                (0..visited.len()).filter(|id| !visited[*id]).collect()
            } else {
                free
            }
        })
    }
}

impl Sampler for GridSampler {
    fn before_trial(&self, study: &Study, trial: &FrozenTrial) -> Result<()> {
        if trial.system_attrs.contains_key(GRID_ID_KEY)
            || trial.system_attrs.contains_key(FIXED_PARAMS_KEY)
        {
            return Ok(());
        }
        let n = self.n_points();
        let id = match usize::try_from(trial.number) {
            Ok(number) if number < n => number,
            _ => {
                let mut free = self.unvisited(study)?;
                if free.is_empty() {
                    log::warn!(
                        "trial {}: every point of the grid has been tried, so one is tried again",
                        trial.number
                    );
                    free = (0..n).collect();
                }
                // Several workers may choose at the same time; at random they collide less.
                free[lock(self.rng()).below(free.len())]
            }
        };
        let storage = study.storage();
        storage.set_trial_system_attr(trial.id, SEARCH_SPACE_KEY, &self.space_json())?;
        storage.set_trial_system_attr(
            trial.id,
            GRID_ID_KEY,
            &Json::Int(i64::try_from(id).unwrap_or(i64::MAX)),
        )
    }

    fn sample_independent(
        &self,
        study: &Study,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        let stored = study.storage().get_trial(trial.id)?;
        let id = grid_id(&stored).filter(|id| *id < self.n_points()).ok_or_else(|| {
            Error::invalid(format!(
                "trial {}: an enqueued trial must give all parameters when a grid is searched, but {name:?} is missing",
                trial.number
            ))
        })?;
        let at = self
            .space
            .keys()
            .position(|known| known == name)
            .ok_or_else(|| {
                let known: Vec<_> = self.space.keys().collect();
                Error::invalid(format!(
                    "the grid has no values for parameter {name:?}; it has {known:?}"
                ))
            })?;
        let value = self.point(id)[at];
        let internal = distribution.to_internal(value)?;
        if !distribution.contains(internal) {
            log::warn!(
                "the value {value} of parameter {name:?} on the grid is outside of {distribution}"
            );
        }
        Ok(internal)
    }

    fn after_trial(
        &self,
        study: &Study,
        trial: &FrozenTrial,
        _: TrialState,
        _: Option<&[f64]>,
    ) -> Result<()> {
        match self.unvisited(study)?[..] {
            [] => study.request_stop(),
            [last] => {
                let stored = study.storage().get_trial(trial.id)?;
                if grid_id(&stored) == Some(last) {
                    study.request_stop();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn reseed(&self) {
        lock(self.rng()).reseed();
    }

    fn check(&self) -> Result<()> {
        if let Some((name, _)) = self.space.iter().find(|(_, values)| values.is_empty()) {
            return Err(Error::invalid(format!(
                "the grid needs at least one value for parameter {name:?}"
            )));
        }
        if self.space.is_empty() {
            return Err(Error::invalid(
                "the grid needs at least one parameter, but got none",
            ));
        }
        if self.n_points() > MAX_POINTS {
            return Err(Error::invalid(format!(
                "the grid must not have more than {MAX_POINTS} points, but it has {}",
                self.n_points()
            )));
        }
        Ok(())
    }
}

fn grid_id(trial: &FrozenTrial) -> Option<usize> {
    trial
        .system_attrs
        .get(GRID_ID_KEY)?
        .as_i64()?
        .try_into()
        .ok()
}
