use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock};

use super::Sampler;
use crate::context::Context;
use crate::distribution::{Distribution, ParamValue};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::rng::Rng;
use crate::sync::lock;
use crate::trial::{FIXED_PARAMS_KEY, FrozenTrial, TrialState};

const GRID_ID_KEY: &str = "grid_id";
const SEARCH_SPACE_KEY: &str = "search_space";

/// More points than this are refused: a storage keeps their number as a signed integer.
const MAX_POINTS: usize = i64::MAX as usize;

/// Up to so many points are shuffled in memory, as Optuna does; the order of more of them is calculated.
const MAX_SHUFFLED: usize = 1 << 22;

/// Tries every combination of given values once, then stops the study.
///
/// The order is shuffled with the seed (0 unless given), in the same way in every process and as Optuna does, so that
/// workers share one grid. A value is used even when it is outside of the suggested distribution, with a warning.
/// A grid costs as much memory as its trials, however many points it has; beyond 4 million the order is our own.
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
    order: OnceLock<Order>,
}

/// The shuffled points, each as its index in the cartesian product.
#[derive(Debug)]
enum Order {
    Listed(Vec<u32>),
    Calculated(Permutation),
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
        let mut rest = self.place(grid_id);
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
    pub fn is_exhausted(&self, study: &Context) -> Result<bool> {
        Ok(self.unvisited(study)?.len() == 0)
    }

    fn order(&self) -> &Order {
        self.order.get_or_init(|| {
            let n = self.n_points();
            let mut rng = Rng::new(Some(self.seed));
            let order = match u32::try_from(n) {
                Ok(end) if n <= MAX_SHUFFLED => {
                    let mut order: Vec<u32> = (0..end).collect();
                    rng.shuffle(&mut order);
                    Order::Listed(order)
                }
                _ => Order::Calculated(Permutation::new(n as u64, self.seed)),
            };
            // Points that are chosen later continue the same stream.
            let _ = self.rng.set(Mutex::new(rng));
            order
        })
    }

    /// The index of a point in the cartesian product.
    #[allow(clippy::cast_possible_truncation)]
    fn place(&self, grid_id: usize) -> usize {
        match self.order() {
            Order::Listed(order) => order[grid_id] as usize,
            Order::Calculated(permutation) => {
                assert!(grid_id < self.n_points(), "the grid has no point {grid_id}");
                permutation.apply(grid_id as u64) as usize
            }
        }
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
    fn unvisited(&self, study: &Context) -> Result<Unvisited> {
        let own = self.space_json();
        let n = self.n_points();
        study.with_trials(|trials| {
            let (mut visited, mut running) = (BTreeSet::new(), BTreeSet::new());
            for trial in trials {
                let (Some(id), Some(space)) =
                    (grid_id(trial), trial.system_attrs.get(SEARCH_SPACE_KEY))
                else {
                    continue;
                };
                if id >= n || !(own == *space || self.is_same_space(space)) {
                    continue;
                }
                if trial.state.is_finished() {
                    visited.insert(id);
                } else if trial.state == TrialState::Running {
                    running.insert(id);
                }
            }
            let taken: BTreeSet<usize> = visited.union(&running).copied().collect();
            let taken = if taken.len() < n { taken } else { visited };
            Unvisited { n, taken }
        })
    }
}

/// Points by what is missing from them, as a grid may have far more points than a study trials.
struct Unvisited {
    n: usize,
    taken: BTreeSet<usize>,
}

impl Unvisited {
    fn len(&self) -> usize {
        self.n - self.taken.len()
    }

    /// The point with this rank among the free ones.
    fn nth(&self, rank: usize) -> usize {
        let mut id = rank;
        for taken in &self.taken {
            if *taken > id {
                break;
            }
            id += 1;
        }
        id
    }
}

/// A permutation of `0..n` that is calculated point by point: a Feistel network over the next power of four, applied
/// until the result is below `n`.
#[derive(Debug)]
struct Permutation {
    n: u64,
    half_bits: u32,
    seed: u64,
}

impl Permutation {
    fn new(n: u64, seed: u64) -> Self {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Self {
            n,
            half_bits: bits.div_ceil(2).max(1),
            seed,
        }
    }

    fn apply(&self, index: u64) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let mut x = index;
        loop {
            let (mut left, mut right) = (x >> self.half_bits, x & mask);
            for round in 0..6 {
                (left, right) = (right, left ^ (mix(right ^ mix(self.seed ^ round)) & mask));
            }
            x = left << self.half_bits | right;
            if x < self.n {
                return x;
            }
        }
    }
}

/// Mixes the bits of a number (splitmix64).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Sampler for GridSampler {
    fn before_trial(&self, study: &Context, trial: &FrozenTrial) -> Result<()> {
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
                if free.len() == 0 {
                    log::warn!(
                        "trial {}: every point of the grid has been tried, so one is tried again",
                        trial.number
                    );
                    free.taken.clear();
                }
                // Several workers may choose at the same time; at random they collide less.
                free.nth(lock(self.rng()).below(free.len()))
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
        study: &Context,
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
        study: &Context,
        trial: &FrozenTrial,
        _: TrialState,
        _: Option<&[f64]>,
    ) -> Result<()> {
        let free = self.unvisited(study)?;
        match free.len() {
            0 => study.request_stop(),
            1 => {
                let stored = study.storage().get_trial(trial.id)?;
                if grid_id(&stored) == Some(free.nth(0)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calculated_order_visits_every_point_once() {
        for n in [1, 2, 5, 1000, 4097] {
            let permutation = Permutation::new(n, 3);
            let mut seen: Vec<u64> = (0..n).map(|i| permutation.apply(i)).collect();
            assert!(n < 1000 || seen[..10] != *(0..10).collect::<Vec<u64>>());
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn free_points_are_counted_around_the_taken_ones() {
        let free = Unvisited {
            n: 7,
            taken: BTreeSet::from([0, 1, 4]),
        };
        assert_eq!(free.len(), 4);
        assert_eq!([0, 1, 2, 3].map(|rank| free.nth(rank)), [2, 3, 5, 6]);
    }
}
