//! Bayesian optimization with Gaussian processes.

mod acquisition;
mod conditional;
mod ehvi;
mod lbfgs;
mod optimize;
mod regressor;
mod space;

use std::sync::{Arc, Mutex};

pub use acquisition::{Acquisition, Feasibility, LogEi, QLogEi, standard_log_ei};
pub use conditional::{Candidate, Conditional};
pub use ehvi::{LogEhvi, QLogEhvi};
pub use optimize::maximize;
pub use regressor::{Data, KernelParams, MINIMUM_NOISE, Posterior, Regressor};
pub use space::{Axis, GpSpace};

use self::optimize::N_LOCAL_SEARCHES;
use super::qmc::Sobol;
use super::{RandomSampler, RelativeSample, Sampler};
use crate::context::Context;
use crate::direction::StudyDirection;
use crate::distribution::{Distribution, ParamValue};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::multi_objective::is_pareto_front;
use crate::normal;
use crate::rng::Rng;
use crate::search_space::IntersectionSearchSpace;
use crate::sync::lock;
use crate::transform::unit_of;
use crate::trial::{FrozenTrial, ParamSpace, TrialState};

const RELATIVE_PARAMS_KEY: &str = "gp:relative_params:";
/// Longest text of one attribute, which MySQL sets.
const CHUNK: usize = 2045;
/// Quasi-random samples of acquisition functions without a closed form.
const N_SAMPLES: u64 = 128;
/// Gradient at which a fit of the kernel ends; a tighter fit costs time and gains nothing.
pub(crate) const FIT_TOLERANCE: f64 = 1e-2;
/// Smallest standard deviation that values are divided by.
const MIN_STD: f64 = 1e-10;

/// Samples where a Gaussian process over the complete trials expects most improvement.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | [`n_startup_trials`](Self::n_startup_trials) | 10 | complete trials sampled independently first |
/// | [`deterministic_objective`](Self::deterministic_objective) | false | the objective has no noise |
/// | [`independent_sampler`](Self::independent_sampler) | random | samples the first trials and conditional parameters |
///
/// The process has a Matérn 5/2 kernel with a length scale per parameter, fitted by maximum a
/// posteriori. One objective: log expected improvement; several: log expected hypervolume improvement;
/// both over joint samples of the running trials, if there are any. Constraints each have a process of their own, whose probability of feasibility counts.
/// Pruned and failed trials are ignored; infinite values count as the worst or best finite one.
///
/// It needs few trials and is the sampler for expensive objectives with up to some twenty parameters;
/// the time per trial grows with the cube of the number of trials.
///
/// ```
/// use kiln_tune::{Study, sampler::GpSampler};
///
/// let study = Study::builder().sampler(GpSampler::new(1)).create()?;
/// study.optimize(
///     |trial| {
///         let x = trial.suggest_float("x", -4.0, 6.0)?;
///         let y = trial.suggest_float("y", -4.0, 6.0)?;
///         Ok::<_, kiln_tune::Error>(x * x + y * y)
///     },
///     20,
/// )?;
/// assert!(study.best_value()? < 0.5);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct GpSampler {
    n_startup_trials: usize,
    deterministic: bool,
    independent: Arc<dyn Sampler>,
    intersection: IntersectionSearchSpace,
    rng: Mutex<Rng>,
    /// Fitted parameters of the objectives and of the constraints, where the next fit starts.
    fits: Mutex<(Vec<KernelParams>, Vec<KernelParams>)>,
}

impl std::fmt::Debug for GpSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpSampler")
            .field("n_startup_trials", &self.n_startup_trials)
            .field("deterministic", &self.deterministic)
            .finish_non_exhaustive()
    }
}

impl GpSampler {
    /// A sampler with the defaults above; `None` seeds from the operating system.
    #[must_use]
    pub fn new(seed: impl Into<Option<u64>>) -> Self {
        let seed = seed.into();
        Self {
            n_startup_trials: 10,
            deterministic: false,
            independent: Arc::new(RandomSampler::new(seed)),
            intersection: IntersectionSearchSpace::new(false),
            rng: Mutex::new(Rng::new(seed)),
            fits: Mutex::new((Vec::new(), Vec::new())),
        }
    }

    /// Sets how many complete trials the independent sampler makes first. Default 10.
    #[must_use]
    pub fn n_startup_trials(mut self, n: usize) -> Self {
        self.n_startup_trials = n;
        self
    }

    /// Says that the same parameters always give the same value: the noise is then fixed at its
    /// minimum. Default false.
    #[must_use]
    pub fn deterministic_objective(mut self, deterministic: bool) -> Self {
        self.deterministic = deterministic;
        self
    }

    /// Sets the sampler of the first trials and of parameters outside of the common space. Default
    /// random.
    #[must_use]
    pub fn independent_sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.independent = Arc::new(sampler);
        self
    }

    fn fit(&self, data: Data, starts: &mut Vec<KernelParams>, i: usize) -> Regressor {
        let regressor = Regressor::fit(data, starts.get(i), self.deterministic, FIT_TOLERANCE);
        if i < starts.len() {
            starts[i] = regressor.params.clone();
        } else {
            starts.push(regressor.params.clone());
        }
        regressor
    }

    fn sample(
        &self,
        study: &Context,
        space: &ParamSpace,
        complete: &[Arc<FrozenTrial>],
        running: &[Vec<f64>],
    ) -> Result<Vec<f64>> {
        let gp_space = GpSpace::new(space);
        let is_categorical = gp_space.is_categorical();
        let x: Vec<Vec<f64>> = complete
            .iter()
            .map(|t| {
                let values: Vec<f64> = space
                    .iter()
                    .map(|(name, d)| t.params.internal(name).unwrap_or_else(|| d.single_value()))
                    .collect();
                gp_space.normalize(&values)
            })
            .collect();
        let running: Vec<Vec<f64>> = running.iter().map(|v| gp_space.normalize(v)).collect();
        let data = |y: Vec<f64>| Data {
            x: x.clone(),
            y,
            is_categorical: is_categorical.clone(),
        };

        let scores: Vec<Vec<f64>> = study
            .directions()
            .iter()
            .enumerate()
            .map(|(j, direction)| {
                let sign = if *direction == StudyDirection::Maximize {
                    1.0
                } else {
                    -1.0
                };
                let column: Vec<f64> = complete
                    .iter()
                    .map(|t| sign * t.values.as_ref().map_or(f64::NAN, |v| v[j]))
                    .collect();
                standardize(&column).0
            })
            .collect();
        let mut fits = lock(&self.fits);
        let (objective_fits, constraint_fits) = &mut *fits;
        let regressors: Vec<Regressor> = scores
            .iter()
            .enumerate()
            .map(|(j, y)| self.fit(data(y.clone()), objective_fits, j))
            .collect();
        let (constraints, feasible) =
            self.constraints(complete, &mut |y, i| self.fit(data(y), constraint_fits, i))?;
        drop(fits);

        let mut rng = lock(&self.rng);
        let (acquisition, warm): (Box<dyn Acquisition>, Vec<Vec<f64>>) = if scores.len() == 1 {
            let best = (0..x.len())
                .filter(|&i| feasible[i])
                .max_by(|&a, &b| scores[0][a].total_cmp(&scores[0][b]).then(b.cmp(&a)));
            let threshold = best.map_or(f64::NEG_INFINITY, |i| scores[0][i]);
            let regressor = regressors[0].clone();
            let acquisition =
                single_objective(regressor, threshold, constraints, &running, &mut rng)?;
            (
                acquisition,
                best.map(|i| x[i].clone()).into_iter().collect(),
            )
        } else {
            let rows: Vec<usize> = (0..x.len()).filter(|&i| feasible[i]).collect();
            let values: Vec<Vec<f64>> = rows
                .iter()
                .map(|&i| scores.iter().map(|column| column[i]).collect())
                .collect();
            let losses: Vec<Vec<f64>> = values
                .iter()
                .map(|row| row.iter().map(|v| -v).collect())
                .collect();
            let mut front: Vec<usize> = rows
                .iter()
                .zip(is_pareto_front(&losses))
                .filter_map(|(&i, front)| front.then_some(i))
                .collect();
            rng.shuffle(&mut front);
            front.truncate(N_LOCAL_SEARCHES / 2);
            let acquisition =
                several_objectives(regressors, &values, constraints, &running, &mut rng)?;
            let warm = front.into_iter().map(|i| x[i].clone()).collect();
            (acquisition, warm)
        };
        let (point, _) = maximize(&*acquisition, &gp_space, &warm, &mut rng).map_err(invalid)?;
        Ok(gp_space.unnormalize(&point))
    }

    /// The processes of the constraints and which trials are feasible.
    #[allow(clippy::type_complexity)]
    fn constraints(
        &self,
        complete: &[Arc<FrozenTrial>],
        fit: &mut dyn FnMut(Vec<f64>, usize) -> Regressor,
    ) -> Result<(Vec<Feasibility>, Vec<bool>)> {
        let rows: Vec<_> = complete.iter().map(|t| t.constraints()).collect();
        if rows.iter().all(|row| row.is_empty()) {
            return Ok((Vec::new(), vec![true; complete.len()]));
        }
        let keys: Vec<String> = rows[0].keys().cloned().collect();
        if let Some((t, row)) = complete
            .iter()
            .zip(&rows)
            .find(|(_, r)| !r.keys().eq(&keys))
        {
            return Err(Error::invalid(format!(
                "every complete trial must set the same constraints for the GP sampler, but trial {} \
                 has {:?} and trial {} has {keys:?}",
                t.number,
                row.keys().collect::<Vec<_>>(),
                complete[0].number
            )));
        }
        let feasible = rows
            .iter()
            .map(|row| row.values().all(|v| *v <= 0.0))
            .collect();
        let constraints = keys
            .iter()
            .enumerate()
            .map(|(i, key)| {
                let negated: Vec<f64> = rows.iter().map(|row| -row[key]).collect();
                let (y, mean, std) = standardize(&negated);
                Feasibility {
                    regressor: fit(y, i),
                    threshold: -mean / std.max(MIN_STD),
                }
            })
            .collect();
        Ok((constraints, feasible))
    }
}

fn single_objective(
    regressor: Regressor,
    threshold: f64,
    constraints: Vec<Feasibility>,
    running: &[Vec<f64>],
    rng: &mut Rng,
) -> Result<Box<dyn Acquisition>> {
    let regressors = std::slice::from_ref(&regressor);
    if let Some((mut objective, constraints)) = conditional(regressors, &constraints, running, rng)?
        && let Some(objective) = objective.pop()
    {
        return Ok(Box::new(QLogEi {
            objective,
            threshold,
            constraints,
        }));
    }
    Ok(Box::new(LogEi {
        regressor,
        threshold,
        constraints,
    }))
}

fn several_objectives(
    regressors: Vec<Regressor>,
    values: &[Vec<f64>],
    constraints: Vec<Feasibility>,
    running: &[Vec<f64>],
    rng: &mut Rng,
) -> Result<Box<dyn Acquisition>> {
    // Without a feasible value only the constraints count, to which running trials add nothing.
    if !values.is_empty()
        && let Some((objectives, constraints)) =
            conditional(&regressors, &constraints, running, rng)?
    {
        return Ok(Box::new(QLogEhvi::new(objectives, constraints, values)));
    }
    let samples = normal_samples(regressors.len(), rng)?;
    Ok(Box::new(LogEhvi::new(
        regressors,
        constraints,
        values,
        samples,
    )))
}

/// Objectives and constraints given samples of the running trials; `None` when none is running or
/// their covariance is degenerate.
#[allow(clippy::type_complexity)]
fn conditional(
    objectives: &[Regressor],
    constraints: &[Feasibility],
    running: &[Vec<f64>],
    rng: &mut Rng,
) -> Result<Option<(Vec<Conditional>, Vec<(Conditional, f64)>)>> {
    if running.is_empty() {
        return Ok(None);
    }
    let mut draw = |regressor: &Regressor| -> Result<Option<Conditional>> {
        let samples = normal_samples(running.len() + 1, rng)?;
        Ok(Conditional::new(regressor.clone(), running, &samples))
    };
    let objectives: Option<Vec<Conditional>> =
        objectives.iter().map(&mut draw).collect::<Result<_>>()?;
    let thresholds = constraints.iter().map(|c| c.threshold);
    let constraints: Option<Vec<Conditional>> = constraints
        .iter()
        .map(|c| draw(&c.regressor))
        .collect::<Result<_>>()?;
    Ok(objectives
        .zip(constraints)
        .map(|(objectives, constraints)| {
            (
                objectives,
                constraints.into_iter().zip(thresholds).collect(),
            )
        }))
}

/// Standardises values: those that are not finite are clipped to the finite range first. Returns
/// also the mean and the (population) standard deviation.
pub fn standardize(values: &[f64]) -> (Vec<f64>, f64, f64) {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low > high { (0.0, 0.0) } else { (low, high) };
    // The squares of the largest floats would overflow.
    let unit = unit_of(low, high).min(1.0);
    let clipped: Vec<f64> = values
        .iter()
        .map(|v| if v.is_nan() { low } else { v.clamp(low, high) } * unit)
        .collect();
    let n = clipped.len() as f64;
    let mean = clipped.iter().sum::<f64>() / n;
    let std = (clipped.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let scale = std.max(MIN_STD * unit);
    (
        clipped.iter().map(|v| (v - mean) / scale).collect(),
        mean / unit,
        std / unit,
    )
}

/// Scrambled Sobol points turned into standard normal numbers.
fn normal_samples(dimension: usize, rng: &mut Rng) -> Result<Vec<Vec<f64>>> {
    let sobol = Sobol::scrambled(dimension, u64::from(rng.next_u32())).map_err(invalid)?;
    (0..N_SAMPLES)
        .map(|i| {
            let point = sobol.point(i).map_err(invalid)?;
            // A coordinate may be 0, whose quantile is infinite; half a cell is added to all.
            Ok(point
                .iter()
                .map(|u| normal::quantile(u + 0.5 / f64::from(1u32 << 30)))
                .collect())
        })
        .collect()
}

fn invalid(error: super::qmc::SequenceError) -> Error {
    Error::invalid(error.to_string())
}

/// The internal values of a running trial with all parameters of the space: what it was given
/// already, and otherwise what its worker has sampled for it.
fn running_values(trial: &FrozenTrial, space: &ParamSpace) -> Option<Vec<f64>> {
    let mut text = String::new();
    for i in 0.. {
        let key = format!("{RELATIVE_PARAMS_KEY}{i}");
        let Some(chunk) = trial.system_attrs.get(&key).and_then(Json::as_str) else {
            break;
        };
        text.push_str(chunk);
    }
    let sampled = if text.is_empty() {
        None
    } else {
        Json::parse(&text).ok()
    };
    space
        .iter()
        .map(|(name, distribution)| {
            trial.params.internal(name).or_else(|| {
                let value = ParamValue::from_json(sampled.as_ref()?.get(name)?).ok()?;
                let internal = distribution.to_internal(&value).ok()?;
                distribution.contains(internal).then_some(internal)
            })
        })
        .collect()
}

impl Sampler for GpSampler {
    fn infer_relative_search_space(
        &self,
        study: &Context,
        _trial: &FrozenTrial,
    ) -> Result<ParamSpace> {
        let mut space = self.intersection.calculate(study)?;
        space.retain(|_, distribution| !distribution.is_single());
        Ok(space)
    }

    fn sample_relative(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        space: &ParamSpace,
    ) -> Result<RelativeSample> {
        if space.is_empty() {
            return Ok(RelativeSample::new());
        }
        let trials = study.trials_in(&[TrialState::Complete, TrialState::Running])?;
        let (complete, others): (Vec<_>, Vec<_>) = trials
            .into_iter()
            .partition(|t| t.state == TrialState::Complete);
        if complete.len() < self.n_startup_trials.max(1) {
            return Ok(RelativeSample::new());
        }
        let running: Vec<Vec<f64>> = others
            .iter()
            .filter(|t| t.number != trial.number)
            .filter_map(|t| running_values(t, space))
            .collect();
        let values = self.sample(study, space, &complete, &running)?;
        let external: Vec<(String, Json)> = space
            .iter()
            .zip(&values)
            .map(|((name, d), v)| (name.to_string(), d.to_external(*v).to_json()))
            .collect();
        // Other workers see by this what is being tried. The text is ASCII.
        let text = Json::Object(external).to_string();
        for (i, chunk) in text.as_bytes().chunks(CHUNK).enumerate() {
            let chunk = Json::Str(String::from_utf8_lossy(chunk).into_owned());
            let key = format!("{RELATIVE_PARAMS_KEY}{i}");
            study
                .storage()
                .set_trial_system_attr(trial.id, &key, &chunk)?;
        }
        Ok(space
            .iter()
            .zip(values)
            .map(|((name, _), value)| (name.clone(), value))
            .collect())
    }

    fn sample_independent(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        let started = study.with_trials(|trials| {
            let complete = trials.iter().filter(|t| t.state == TrialState::Complete);
            complete.take(self.n_startup_trials).count() >= self.n_startup_trials
        })?;
        if started {
            log::warn!(
                "parameter {name:?} of trial {} is sampled independently, because not every complete \
                 trial has it with this distribution",
                trial.number
            );
        }
        self.independent
            .sample_independent(study, trial, name, distribution)
    }

    fn before_trial(&self, study: &Context, trial: &FrozenTrial) -> Result<()> {
        self.independent.before_trial(study, trial)
    }

    fn after_trial(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        state: TrialState,
        values: Option<&[f64]>,
    ) -> Result<()> {
        self.independent.after_trial(study, trial, state, values)
    }

    fn reseed(&self) {
        self.independent.reseed();
        lock(&self.rng).reseed();
    }
}
