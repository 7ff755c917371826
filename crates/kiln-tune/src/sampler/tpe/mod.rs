//! The tree-structured Parzen estimator.

mod above;
mod history;
mod observations;
mod split;

use std::sync::{Arc, Mutex};

use history::History;

use super::{RandomSampler, RelativeSample, Sampler};
use crate::context::Context;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::parzen::{ParzenEstimator, ParzenOptions, TieOrder, default_weights};
use crate::rng::Rng;
use crate::sync::lock;
use crate::trial::{FrozenTrial, ParamSpace};

/// The trial system attributes, numbered from 0, with the text of a joint sample.
pub(super) const RELATIVE_PARAMS_KEY: &str = "tpe:relative_params:";

/// MySQL keeps 2,048 characters of an attribute, of which quotes take some.
pub(super) const ATTR_CHUNK: usize = 2045;

type Gamma = Arc<dyn Fn(usize) -> usize + Send + Sync>;
type Weights = Arc<dyn Fn(usize) -> Vec<f64> + Send + Sync>;

/// The tree-structured Parzen estimator, the default sampler.
///
/// The finished trials are split into the better ones ("below") and the others ("above"). Each part becomes a density,
/// `l` and `g`, with one kernel per trial; candidates are drawn from `l`, and the one with the largest `l / g` is
/// suggested.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `seed` | entropy | |
/// | `n_startup_trials` | 10 | random search until so many trials are complete or pruned |
/// | `n_ei_candidates` | 24 | points drawn from `l`, at least 1 |
/// | `multivariate` | one objective: true, several: false | sample the parameters which all trials share jointly |
/// | `group` | false | with conditional parameters, sample each group that occurs together jointly; implies `multivariate` |
/// | `constant_liar` | true | count trials that run elsewhere as bad, so that workers spread out |
/// | `gamma` | `min(ceil(0.1 n), 25)`; several objectives: `ceil(0.1 n)` | how many of `n` trials are "below" |
/// | `weights` | see [`default_weights`] | weights of `n` observations, oldest first |
/// | `prior_weight` | 1 | weight of the prior kernel, not negative |
/// | `consider_magic_clip` | true | lower limit for bandwidths |
/// | `consider_endpoints` | false | outermost kernels reach to the ends of the range |
/// | `ties` | [`TieOrder::NumPy`] | in which order equal observations are given their bandwidths |
///
/// Pruned trials count by the step they reached and their value there, infeasible ones come after all feasible ones,
/// and failed ones are ignored. With several objectives trials are ranked by domination, and the rank that does not
/// fit is cut by its contribution to the hypervolume.
///
/// The same seed gives the trials of Optuna, with one limit: on a coarse grid, where observations repeat, Optuna's trials
/// depend on how NumPy sorts equal numbers, which differs between releases and CPUs. This sampler sorts as NumPy does
/// without vector instructions (on ARM, before NumPy 1.25, or with `NPY_DISABLE_CPU_FEATURES`), the same on every machine.
///
/// Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011); Watanabe, "Tree-Structured Parzen Estimator"
/// (2023).
///
/// ```
/// use kiln_tune::{Study, TpeSampler};
///
/// let study = Study::builder().sampler(TpeSampler::new().seed(42)).create()?;
/// study.optimize(|trial| trial.suggest_float("x", -1.0, 1.0).map(|x| x * x), 30)?;
/// assert!(study.best_value()? < 0.1);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct TpeSampler {
    settings: Settings,
    random: RandomSampler,
    core: Mutex<Core>,
}

struct Settings {
    n_startup_trials: usize,
    n_ei_candidates: usize,
    multivariate: Option<bool>,
    group: bool,
    constant_liar: bool,
    gamma: Option<Gamma>,
    weights: Option<Weights>,
    parzen: ParzenOptions,
}

struct Core {
    rng: Rng,
    history: Option<History>,
}

/// What TPE would decide by: the split of the trials and both densities.
#[derive(Debug)]
pub struct TpeAcquisition {
    /// The numbers of the better trials, ascending.
    pub below: Vec<u64>,
    /// The numbers of the others, ascending; running ones are among them.
    pub above: Vec<u64>,
    /// The density of the better trials.
    pub l: ParzenEstimator,
    /// The density of the others.
    pub g: ParzenEstimator,
}

impl Default for TpeSampler {
    fn default() -> Self {
        Self::new()
    }
}

impl TpeSampler {
    /// With the defaults of the table above.
    #[must_use]
    pub fn new() -> Self {
        let settings = Settings {
            n_startup_trials: 10,
            n_ei_candidates: 24,
            multivariate: None,
            group: false,
            constant_liar: true,
            gamma: None,
            weights: None,
            parzen: ParzenOptions {
                ties: TieOrder::NumPy,
                ..ParzenOptions::default()
            },
        };
        Self {
            settings,
            random: RandomSampler::new(None),
            core: Mutex::new(Core {
                rng: Rng::new(None),
                history: None,
            }),
        }
    }

    /// Makes the draws reproducible: the same seed and one job give the same trials.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = RandomSampler::new(seed);
        self.core = Mutex::new(Core {
            rng: Rng::new(Some(seed)),
            history: None,
        });
        self
    }

    /// Complete or pruned trials before the estimator is used.
    #[must_use]
    pub fn n_startup_trials(mut self, n: usize) -> Self {
        self.settings.n_startup_trials = n;
        self
    }

    /// Points drawn from the density of the better trials.
    #[must_use]
    pub fn n_ei_candidates(mut self, n: usize) -> Self {
        self.settings.n_ei_candidates = n;
        self
    }

    /// Whether parameters are sampled jointly.
    #[must_use]
    pub fn multivariate(mut self, multivariate: bool) -> Self {
        self.settings.multivariate = Some(multivariate);
        self
    }

    /// Whether conditional parameters are sampled jointly in the groups in which they occur.
    #[must_use]
    pub fn group(mut self, group: bool) -> Self {
        self.settings.group = group;
        self
    }

    /// Whether running trials count as bad.
    #[must_use]
    pub fn constant_liar(mut self, liar: bool) -> Self {
        self.settings.constant_liar = liar;
        self
    }

    /// How many of `n` finished trials are the better ones.
    #[must_use]
    pub fn gamma(mut self, gamma: impl Fn(usize) -> usize + Send + Sync + 'static) -> Self {
        self.settings.gamma = Some(Arc::new(gamma));
        self
    }

    /// The weights of `n` observations, oldest first.
    #[must_use]
    pub fn weights(mut self, weights: impl Fn(usize) -> Vec<f64> + Send + Sync + 'static) -> Self {
        self.settings.weights = Some(Arc::new(weights));
        self
    }

    /// The weight of the prior kernel relative to one observation.
    #[must_use]
    pub fn prior_weight(mut self, weight: f64) -> Self {
        self.settings.parzen.prior_weight = weight;
        self
    }

    /// Whether bandwidths have a lower limit that falls with the number of observations.
    #[must_use]
    pub fn consider_magic_clip(mut self, clip: bool) -> Self {
        self.settings.parzen.consider_magic_clip = clip;
        self
    }

    /// In which order equal observations are given their bandwidths.
    #[must_use]
    pub fn ties(mut self, ties: TieOrder) -> Self {
        self.settings.parzen.ties = ties;
        self
    }

    /// Whether the outermost kernels reach to the ends of the range.
    #[must_use]
    pub fn consider_endpoints(mut self, endpoints: bool) -> Self {
        self.settings.parzen.consider_endpoints = endpoints;
        self
    }

    /// The default `gamma`: a tenth of the trials, with one objective at most 25.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    pub fn default_gamma(n: usize, several_objectives: bool) -> usize {
        let tenth = (0.1 * n as f64).ceil() as usize;
        if several_objectives {
            tenth
        } else {
            tenth.min(25)
        }
    }

    /// Split and densities for a joint space, as the next trial would see them. `current` is the number of the trial
    /// to be left out.
    ///
    /// # Errors
    /// When the storage fails or `weights` gives something unusable.
    pub fn acquisition(
        &self,
        study: &Context,
        current: Option<u64>,
        space: &ParamSpace,
    ) -> Result<TpeAcquisition> {
        let core = &mut *lock(&self.core);
        let history = core.history_of(study, &self.settings)?;
        let mut above = history.above(&self.settings, current);
        let below = history.split(&self.settings, study).to_vec();
        above.retain(|position| below.binary_search(position).is_err());
        let task = history.task(&self.settings, study, current, space);
        let (l, g) = (task.below()?, task.above()?);
        Ok(TpeAcquisition {
            below: history.numbers(&below),
            above: history.numbers(&above),
            l,
            g,
        })
    }
}

impl Settings {
    fn is_multivariate(&self, study: &Context) -> bool {
        self.group || self.multivariate.unwrap_or(!study.is_multi_objective())
    }

    fn n_below(&self, n: usize, study: &Context) -> usize {
        if let Some(gamma) = &self.gamma {
            return gamma(n);
        }
        TpeSampler::default_gamma(n, study.is_multi_objective())
    }

    fn weights_of(&self, n: usize) -> Result<Vec<f64>> {
        let Some(weights) = &self.weights else {
            return Ok(default_weights(n));
        };
        let mut weights = weights(n);
        weights.truncate(n);
        let usable = weights.len() == n
            && weights.iter().all(|w| w.is_finite() && *w >= 0.0)
            && (n == 0 || weights.iter().any(|w| *w > 0.0));
        if !usable {
            return Err(Error::invalid(format!(
                "weights({n}) must give {n} finite numbers that are not negative and not all zero, but it gave {} numbers",
                weights.len()
            )));
        }
        Ok(weights)
    }
}

impl Core {
    /// The history of a study, with everything up to now.
    fn history_of(&mut self, study: &Context, settings: &Settings) -> Result<&mut History> {
        if self
            .history
            .as_ref()
            .is_some_and(|history| !history.is_of(study))
        {
            self.history = None;
        }
        let history = self
            .history
            .get_or_insert_with(|| History::new(study, settings.group));
        history.update(study)?;
        Ok(history)
    }

    /// Draws candidates and takes the best one.
    fn sample(
        &mut self,
        settings: &Settings,
        study: &Context,
        trial: &FrozenTrial,
        space: &ParamSpace,
    ) -> Result<Vec<f64>> {
        let Self { rng, history } = self;
        let history = history
            .as_mut()
            .expect("the history was updated before sampling");
        let mut task = history.task(settings, study, Some(trial.number), space);
        let l = task.below()?;
        let candidates = l.sample(rng, settings.n_ei_candidates);
        let (log_l, log_g) = (l.log_pdf(&candidates), task.log_above(&candidates)?);
        let mut best = (0, f64::NEG_INFINITY);
        for (i, (l, g)) in log_l.iter().zip(&log_g).enumerate() {
            if l - g > best.1 {
                best = (i, l - g);
            }
        }
        Ok(candidates.iter().map(|column| column[best.0]).collect())
    }
}

impl Sampler for TpeSampler {
    fn infer_relative_search_space(
        &self,
        study: &Context,
        _trial: &FrozenTrial,
    ) -> Result<ParamSpace> {
        if !self.settings.is_multivariate(study) {
            return Ok(ParamSpace::new());
        }
        let core = &mut *lock(&self.core);
        let history = core.history_of(study, &self.settings)?;
        let mut space = if self.settings.group {
            history
                .groups()
                .iter()
                .flat_map(|group| group.iter().cloned())
                .collect()
        } else {
            history.intersection()
        };
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
        let mut sample = RelativeSample::new();
        {
            let core = &mut *lock(&self.core);
            let history = core.history_of(study, &self.settings)?;
            if history.n_finished() < self.settings.n_startup_trials {
                return Ok(sample);
            }
            let spaces = if self.settings.group {
                history.groups_within(space)
            } else {
                vec![space.clone()]
            };
            for space in spaces {
                let values = core.sample(&self.settings, study, trial, &space)?;
                sample.extend(space.iter().map(|(name, _)| name.clone()).zip(values));
            }
        }
        if self.settings.constant_liar {
            share(study, trial, space, &sample)?;
        }
        Ok(sample)
    }

    fn sample_independent(
        &self,
        study: &Context,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        let core = &mut *lock(&self.core);
        let history = core.history_of(study, &self.settings)?;
        if history.n_finished() < self.settings.n_startup_trials {
            return Ok(self.random.sample(distribution));
        }
        let space = ParamSpace::from_iter([(name, distribution.clone())]);
        Ok(core.sample(&self.settings, study, trial, &space)?[0])
    }

    fn reseed(&self) {
        lock(&self.core).rng.reseed();
        self.random.reseed();
    }

    fn check(&self) -> Result<()> {
        if self.settings.n_ei_candidates == 0 {
            return Err(Error::invalid(
                "n_ei_candidates must be at least 1, but got 0",
            ));
        }
        let prior_weight = self.settings.parzen.prior_weight;
        if prior_weight.is_nan() || prior_weight < 0.0 {
            return Err(Error::invalid(format!(
                "prior_weight must not be negative, but got {prior_weight}"
            )));
        }
        if self.settings.group && self.settings.multivariate == Some(false) {
            return Err(Error::invalid(
                "group needs multivariate; leave multivariate(false) out",
            ));
        }
        Ok(())
    }
}

/// Writes the joint sample where other workers see parameters which are not suggested yet.
fn share(
    study: &Context,
    trial: &FrozenTrial,
    space: &ParamSpace,
    sample: &RelativeSample,
) -> Result<()> {
    let params = sample.iter().filter_map(|(name, internal)| {
        Some((
            name.to_string(),
            space.get(name)?.to_external(*internal).to_json(),
        ))
    });
    let text = Json::Object(params.collect()).to_string();
    // The text is ASCII, so that every byte is a character.
    for (i, chunk) in text.as_bytes().chunks(ATTR_CHUNK).enumerate() {
        let chunk = Json::Str(String::from_utf8_lossy(chunk).into_owned());
        study.storage().set_trial_system_attr(
            trial.id,
            &format!("{RELATIVE_PARAMS_KEY}{i}"),
            &chunk,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::{Outcome, Study};
    use crate::trial::Trial;

    fn suggest(trial: &mut Trial) -> Result<f64> {
        let x = trial.suggest_float("x", 0.0, 1.0)?;
        let y = trial.suggest_float_log("y", 1e-3, 1.0)?;
        let n = trial.suggest_int("n", 1, 20)?;
        let c = trial.suggest_categorical("c", &["a", "b", "c"])?;
        #[allow(clippy::cast_precision_loss)]
        Ok(x + y.ln().abs() + n as f64 + if c == "a" { 3.0 } else { 0.0 })
    }

    /// Kernels that are kept from call to call must stay those which a fresh start would make, while trials start,
    /// end in any order, fail, and change sides.
    #[test]
    fn the_density_kept_up_to_date_equals_one_made_from_scratch() -> Result<()> {
        let study = Study::builder().sampler(RandomSampler::new(3)).create()?;
        let settings = TpeSampler::new().settings;
        let mut core = Core {
            rng: Rng::new(Some(0)),
            history: None,
        };
        let mut rng = Rng::new(Some(1));
        let mut running: Vec<(Trial, f64)> = Vec::new();
        for step in 0..700 {
            let mut trial = study.ask()?;
            let value = suggest(&mut trial)?;
            running.push((trial, value));
            while running.len() > 4 {
                let (mut trial, value) = running.swap_remove(rng.below(running.len()));
                match rng.below(10) {
                    0 => study.tell(trial, Outcome::Fail)?,
                    1 => {
                        trial.report(value, 1)?;
                        study.tell(trial, Outcome::Pruned)?
                    }
                    _ => study.tell(trial, value)?,
                };
            }
            if step % 7 != 0 || step < 20 {
                continue;
            }
            let history = core.history_of(study.context(), &settings)?;
            let space = history.intersection();
            let mut task = history.task(
                &settings,
                study.context(),
                Some(running[0].0.number()),
                &space,
            );
            let candidates = task.below()?.sample(&mut rng, 5);
            let kept = task.log_above(&candidates)?;
            let fresh = task.above()?.log_pdf(&candidates);
            for (kept, fresh) in kept.iter().zip(&fresh) {
                assert!(
                    (kept - fresh).abs() < 1e-10 * fresh.abs().max(1.0),
                    "step {step}: {kept} is not {fresh}"
                );
            }
        }
        Ok(())
    }
}
