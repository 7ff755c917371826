//! CMA-ES: the covariance matrix adaptation evolution strategy.

mod distribution;
mod learning_rate;
mod margin;
mod progress;
mod state;
mod warm_start;

use std::sync::{Arc, Mutex};

use nalgebra::{DMatrix, DVector};

pub use distribution::{Constants, Covariance, Distribution, default_population_size};
pub use learning_rate::LearningRate;
pub use margin::{Grid, Margin};
pub use warm_start::promising_distribution;

use self::progress::Progress;
use self::state::{Restarts, State};
use super::{RandomSampler, RelativeSample, Sampler};
use crate::context::Context;
use crate::distribution::Distribution as ParamDistribution;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::rng::Rng;
use crate::search_space::IntersectionSearchSpace;
use crate::sync::lock;
use crate::transform::{BoxOptions, BoxTransform};
use crate::trial::{FrozenTrial, ParamSpace, TrialState};

/// Smallest initial step size.
const EPS: f64 = 1e-10;
/// Longest text of one attribute, which MySQL sets.
const CHUNK: usize = 2045;

/// What happens when CMA-ES has converged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartStrategy {
    /// Go on with the same distribution.
    #[default]
    None,
    /// Restart at a random point with a population larger by this factor each time (A. Auger and
    /// N. Hansen, *A Restart CMA Evolution Strategy With Increasing Population Size*, 2005).
    Ipop(usize),
    /// Alternate between such restarts and ones with a small population, so that both spend as many
    /// trials (N. Hansen, *Benchmarking a BI-Population CMA-ES on the BBOB-2009 Function Testbed*,
    /// 2009).
    Bipop(usize),
}

/// Samples numeric parameters from a normal distribution that adapts to the best trials of every
/// generation (N. Hansen, *The CMA Evolution Strategy: A Tutorial*, 2016).
///
/// | setting | default | meaning |
/// |---|---|---|
/// | [`n_startup_trials`](Self::n_startup_trials) | 1 | complete trials before the first generation |
/// | [`population_size`](Self::population_size) | `4 + floor(3 ln d)` | trials per generation |
/// | [`consider_pruned_trials`](Self::consider_pruned_trials) | false | pruned trials count with their last report |
/// | [`separable`](Self::separable) | false | a diagonal covariance, for many parameters |
/// | [`with_margin`](Self::with_margin) | false | keep integers and stepped floats from getting stuck |
/// | [`learning_rate_adaptation`](Self::learning_rate_adaptation) | false | for noisy and multimodal objectives |
/// | [`restart_strategy`](Self::restart_strategy) | none | restart after convergence |
/// | [`source_trials`](Self::source_trials) | none | warm start from a similar study |
/// | [`independent_sampler`](Self::independent_sampler) | random | samples all other parameters |
///
/// Categorical and conditional parameters are sampled independently; several objectives are an error
/// and constraints are ignored with a warning. It works best with hundreds of trials on continuous
/// parameters that interact.
///
/// The state of the strategy is written to the trial that opens a generation (attributes
/// `kiln_cma:state:0`, ...), so any number of processes share one strategy and a study can be resumed.
/// Optuna stores a Python pickle under other names: Python and Kiln workers on one study each follow
/// their own distribution.
///
/// ```
/// use kiln_tune::{Study, sampler::CmaEsSampler};
///
/// let study = Study::builder().sampler(CmaEsSampler::new(1)).create()?;
/// study.optimize(
///     |trial| {
///         let x = trial.suggest_float("x", -4.0, 6.0)?;
///         let y = trial.suggest_float("y", -4.0, 6.0)?;
///         Ok::<_, kiln_tune::Error>(x * x + (x + y) * (x + y))
///     },
///     150,
/// )?;
/// assert!(study.best_value()? < 1e-2);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct CmaEsSampler {
    settings: Settings,
    independent: Arc<dyn Sampler>,
    intersection: IntersectionSearchSpace,
    rng: Mutex<Rng>,
    progress: Mutex<Progress>,
}

#[derive(Debug, Clone)]
struct Settings {
    n_startup_trials: usize,
    population_size: Option<usize>,
    consider_pruned_trials: bool,
    separable: bool,
    with_margin: bool,
    learning_rate_adaptation: bool,
    restart_strategy: RestartStrategy,
    source_trials: Option<Vec<Arc<FrozenTrial>>>,
}

impl Settings {
    /// Attribute prefix of the variant; variants do not share a strategy.
    fn prefix(&self) -> &'static str {
        match (self.separable, self.with_margin) {
            (true, _) => "kiln_sepcma:",
            (false, true) => "kiln_cmawm:",
            (false, false) => "kiln_cma:",
        }
    }
}

impl std::fmt::Debug for CmaEsSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CmaEsSampler")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl CmaEsSampler {
    /// A sampler with the defaults above; `None` seeds from the operating system.
    #[must_use]
    pub fn new(seed: impl Into<Option<u64>>) -> Self {
        let seed = seed.into();
        Self {
            settings: Settings {
                n_startup_trials: 1,
                population_size: None,
                consider_pruned_trials: false,
                separable: false,
                with_margin: false,
                learning_rate_adaptation: false,
                restart_strategy: RestartStrategy::None,
                source_trials: None,
            },
            independent: Arc::new(RandomSampler::new(seed)),
            intersection: IntersectionSearchSpace::new(false),
            rng: Mutex::new(Rng::new(seed)),
            progress: Mutex::new(Progress::default()),
        }
    }

    /// Sets how many complete trials the independent sampler makes first. Default 1.
    #[must_use]
    pub fn n_startup_trials(mut self, n: usize) -> Self {
        self.settings.n_startup_trials = n;
        self
    }

    /// Sets the number of trials of a generation, at least 2. Default `4 + floor(3 ln d)`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] below 2.
    pub fn population_size(mut self, size: usize) -> Result<Self> {
        if size < 2 {
            return Err(Error::invalid(format!(
                "population_size must be at least 2, but got {size}"
            )));
        }
        self.settings.population_size = Some(size);
        Ok(self)
    }

    /// Counts pruned trials that have reports, with their last report as the value. Default false.
    #[must_use]
    pub fn consider_pruned_trials(mut self, consider: bool) -> Self {
        self.settings.consider_pruned_trials = consider;
        self
    }

    /// Adapts a diagonal covariance only, in linear time and space. Default false. Ignored with a
    /// single parameter.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] together with margin, learning rate adaptation or source trials.
    pub fn separable(mut self, separable: bool) -> Result<Self> {
        self.settings.separable = separable;
        self.checked()
    }

    /// Gives every integer and stepped parameter a minimal probability of changing. Default false.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] together with the separable variant or learning rate adaptation.
    pub fn with_margin(mut self, with_margin: bool) -> Result<Self> {
        self.settings.with_margin = with_margin;
        self.checked()
    }

    /// Lowers the learning rates while the signal is weak. Default false.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] together with the separable variant or margin.
    pub fn learning_rate_adaptation(mut self, adapt: bool) -> Result<Self> {
        self.settings.learning_rate_adaptation = adapt;
        self.checked()
    }

    /// Sets what happens after convergence. Default none, as in Optuna, which ignores its own setting.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a factor below 2.
    pub fn restart_strategy(mut self, strategy: RestartStrategy) -> Result<Self> {
        if let RestartStrategy::Ipop(factor) | RestartStrategy::Bipop(factor) = strategy
            && factor < 2
        {
            return Err(Error::invalid(format!(
                "the population must grow at a restart: the factor must be at least 2, but got {factor}"
            )));
        }
        self.settings.restart_strategy = strategy;
        Ok(self)
    }

    /// Starts from the promising region of another study's trials with the same parameter names
    /// (M. Nomura et al., *Warm Starting CMA-ES for Hyperparameter Optimization*, 2021). Their values
    /// are read in the direction of the study that is optimized.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] together with the separable variant.
    pub fn source_trials(
        mut self,
        trials: impl IntoIterator<Item = Arc<FrozenTrial>>,
    ) -> Result<Self> {
        self.settings.source_trials = Some(trials.into_iter().collect());
        self.checked()
    }

    /// Sets the sampler of the first trials and of categorical and conditional parameters. Default
    /// random.
    #[must_use]
    pub fn independent_sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.independent = Arc::new(sampler);
        self
    }

    fn checked(self) -> Result<Self> {
        let s = &self.settings;
        let conflict = [
            (s.separable && s.with_margin, "separable and with_margin"),
            (
                s.separable && s.source_trials.is_some(),
                "separable and source_trials",
            ),
            (
                s.learning_rate_adaptation && (s.separable || s.with_margin),
                "learning_rate_adaptation and separable or with_margin",
            ),
        ];
        match conflict.iter().find(|(both, _)| *both) {
            Some((_, names)) => Err(Error::invalid(format!(
                "{names} cannot be used together; leave one of them out"
            ))),
            None => Ok(self),
        }
    }

    fn transform(&self, space: &ParamSpace) -> BoxTransform {
        let options = BoxOptions {
            // The margin works on the grid itself.
            step: !self.settings.with_margin,
            unit: true,
            ..BoxOptions::default()
        };
        BoxTransform::new(space, options)
    }

    /// The strategy before its first generation.
    fn initial(
        &self,
        study: &Context,
        space: &ParamSpace,
        transform: &BoxTransform,
    ) -> Result<State> {
        let d = space.len();
        let settings = &self.settings;
        let mut mean = vec![0.5; d];
        let mut sigma = 1.0 / 6.0;
        let mut covariance = Covariance::Full(DMatrix::identity(d, d));
        if let Some(sources) = &settings.source_trials {
            let solutions = sources
                .iter()
                .filter_map(|t| self.source_solution(study, space, transform, t))
                .collect();
            let (m, s, c) = promising_distribution(solutions).ok_or_else(|| {
                Error::invalid(
                    "no source trial is complete and has exactly the parameters of this study; \
                     give trials of a study with the same parameter names",
                )
            })?;
            (mean, sigma, covariance) = (m, s, Covariance::Full(c));
        } else if settings.separable {
            if d == 1 {
                log::warn!("separable CMA-ES means nothing with a single parameter; it is ignored");
            } else {
                covariance = Covariance::Diagonal(DVector::from_element(d, 1.0));
            }
        }
        let size = settings
            .population_size
            .unwrap_or_else(|| default_population_size(d));
        let distribution = Distribution::new(
            mean,
            sigma.max(EPS),
            covariance,
            size,
            settings.learning_rate_adaptation,
        );
        let margin = settings
            .with_margin
            .then(|| Margin::new(grids(space), d, size));
        Ok(State {
            step: 0,
            distribution,
            margin: margin.filter(|m| !m.grids.is_empty()),
            restarts: Restarts::default(),
        })
    }

    fn source_solution(
        &self,
        study: &Context,
        space: &ParamSpace,
        transform: &BoxTransform,
        trial: &FrozenTrial,
    ) -> Option<(Vec<f64>, f64)> {
        let counts = match trial.state {
            TrialState::Complete => true,
            TrialState::Pruned => self.settings.consider_pruned_trials,
            _ => false,
        };
        if !counts || trial.params.len() != space.len() {
            return None;
        }
        let x = point(space, transform, trial)?;
        Some((x, study.direction().loss(trial.value()?)))
    }
}

/// The grids of the discrete coordinates in the unit box without widening.
fn grids(space: &ParamSpace) -> Vec<Grid> {
    let step = |d: &ParamDistribution| match d {
        // Halves, as the difference of two floats may be infinite.
        ParamDistribution::Float(d) => d
            .step()
            .map(|step| 0.5 * step / (0.5 * d.high() - 0.5 * d.low())),
        ParamDistribution::Int(d) if !d.log() => {
            Some(d.step() as f64 / (d.high() as f64 - d.low() as f64))
        }
        _ => None,
    };
    space
        .iter()
        .enumerate()
        // Values that are too many to count are as good as continuous.
        .filter_map(|(i, (_, d))| {
            let step = step(d).filter(|step| (f64::EPSILON..=1.0).contains(step))?;
            Some(Grid::new(i, step))
        })
        .collect()
}

/// The point of a trial in the unit box, if it has all parameters.
fn point(space: &ParamSpace, transform: &BoxTransform, trial: &FrozenTrial) -> Option<Vec<f64>> {
    let values: Option<Vec<f64>> = space
        .iter()
        .map(|(name, _)| trial.params.internal(name))
        .collect();
    Some(transform.transform(&values?))
}

impl Sampler for CmaEsSampler {
    fn infer_relative_search_space(
        &self,
        study: &Context,
        _trial: &FrozenTrial,
    ) -> Result<ParamSpace> {
        let mut space = self.intersection.calculate(study)?;
        space.retain(|_, distribution| !distribution.is_single() && !distribution.is_categorical());
        Ok(space)
    }

    fn sample_relative(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        space: &ParamSpace,
    ) -> Result<RelativeSample> {
        study.require_single(
            "CmaEsSampler",
            "use the NSGA-II, NSGA-III, TPE or GP sampler",
        )?;
        if space.is_empty() {
            return Ok(RelativeSample::new());
        }
        let prefix = self.settings.prefix();
        let view =
            lock(&self.progress).view(study, prefix, self.settings.consider_pruned_trials)?;
        if view.n_counted < self.settings.n_startup_trials {
            return Ok(RelativeSample::new());
        }
        let transform = self.transform(space);
        let mut rng = lock(&self.rng);
        let mut state = match &view.state {
            Some(state) => State::clone(state),
            None => {
                // Keeps the stream in step with Optuna, which seeds its optimizer here.
                let _ = rng.below(0x7fff_fffd);
                self.initial(study, space, &transform)?
            }
        };
        if state.distribution.dimension() != space.len() {
            log::warn!(
                "the search space of the study changed, which CMA-ES cannot follow; trial {} is \
                 sampled independently",
                trial.number
            );
            return Ok(RelativeSample::new());
        }
        let seed = 1 + rng.below(65_535) as u64 + trial.number;

        let storage = study.storage();
        let size = state.distribution.population_size;
        let told: Vec<(DVector<f64>, f64)> = view
            .solutions(state.step)
            .filter_map(|(t, value)| {
                let x = match &state.margin {
                    Some(_) => progress::raw_solution(t, prefix)?,
                    None => point(space, &transform, t)?,
                };
                (x.len() == space.len())
                    .then(|| (DVector::from_vec(x), study.direction().loss(value)))
            })
            .take(size)
            .collect();
        let mut draws = Rng::new(Some(seed));
        if told.len() == size {
            state.tell(told);
            state.restart_if_due(self.settings.restart_strategy, &mut draws);
            for (i, chunk) in state.to_chunks(CHUNK).into_iter().enumerate() {
                let key = format!("{prefix}state:{i}");
                storage.set_trial_system_attr(trial.id, &key, &Json::Str(chunk))?;
            }
        }
        let (x, raw) = state.ask(&mut draws);
        if state.margin.is_some() {
            let list: Json = raw.iter().map(|v| Json::Float(*v)).collect();
            storage.set_trial_system_attr(trial.id, &format!("{prefix}x_for_tell"), &list)?;
        }
        let key = format!("{prefix}generation");
        storage.set_trial_system_attr(trial.id, &key, &Json::Int(state.step as i64))?;
        let values = transform.untransform(x.as_slice());
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
        distribution: &ParamDistribution,
    ) -> Result<f64> {
        study.require_single(
            "CmaEsSampler",
            "use the NSGA-II, NSGA-III, TPE or GP sampler",
        )?;
        let counted = study.with_trials(|trials| {
            let complete = trials.iter().filter(|t| t.state == TrialState::Complete);
            complete.take(self.settings.n_startup_trials).count()
        })?;
        if counted >= self.settings.n_startup_trials {
            log::warn!(
                "parameter {name:?} of trial {} is sampled independently, because CMA-ES supports \
                 neither categorical nor conditional parameters",
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
        if trial.violation().is_some() {
            log::warn!(
                "trial {} has constraints, which CMA-ES ignores",
                trial.number
            );
        }
        self.independent.after_trial(study, trial, state, values)
    }

    /// Reseeds the independent sampler only: every trial draws by its own number.
    fn reseed(&self) {
        self.independent.reseed();
    }
}
