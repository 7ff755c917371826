//! Quasi-Monte Carlo sampling: points that fill the search space evenly.

mod sequence;

use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::{RandomSampler, RelativeSample, Sampler};
use crate::context::Context;
use crate::distribution::{Distribution, FloatDistribution};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::rng::Rng;
use crate::sync::lock;
use crate::transform::{BoxOptions, BoxTransform};
use crate::trial::{FrozenTrial, ParamSpace, TrialState};

pub use sequence::{Halton, SequenceError, Sobol};

/// A low-discrepancy sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QmcType {
    /// The Sobol sequence; its points are balanced best at powers of two.
    #[default]
    Sobol,
    /// The Halton sequence.
    Halton,
}

impl QmcType {
    fn name(self) -> &'static str {
        match self {
            Self::Sobol => "sobol",
            Self::Halton => "halton",
        }
    }
}

/// Samples from a quasi-Monte Carlo sequence, which covers the space more evenly than random points
/// (Bergstra and Bengio, *Random Search for Hyper-Parameter Optimization*, 2012).
///
/// | setting | default | meaning |
/// |---|---|---|
/// | [`qmc_type`](Self::qmc_type) | Sobol | the sequence |
/// | [`scramble`](Self::scramble) | false | randomise the sequence by the seed |
/// | [`independent_sampler`](Self::independent_sampler) | random | samples what is not part of the space |
///
/// The space is that of the first finished trial, which is sampled at random, so it should not be
/// conditional: a parameter that appears later is sampled independently. Workers on one study share
/// the sequence through a study attribute, Python workers included as long as nothing is scrambled;
/// the scrambled points are Kiln's own. A scrambled sequence needs the same seed in every worker.
///
/// ```
/// use kiln_tune::{Study, sampler::QmcSampler};
///
/// let study = Study::builder().sampler(QmcSampler::new(1)).create()?;
/// study.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), 5)?;
/// let x = |i: usize| study.trials().map(|t| t[i].params.internal("x").unwrap());
/// assert_eq!((x(1)?, x(2)?, x(3)?), (0.0, 0.5, 0.75));
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct QmcSampler {
    qmc_type: QmcType,
    scramble: bool,
    seed: u64,
    independent: Arc<dyn Sampler>,
    /// The sequence last used, and a guard which keeps two threads from taking the same point.
    sequence: Mutex<Option<(usize, Sequence)>>,
}

enum Sequence {
    Sobol(Sobol),
    Halton(Halton),
}

impl std::fmt::Debug for QmcSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QmcSampler")
            .field("qmc_type", &self.qmc_type)
            .field("scramble", &self.scramble)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl QmcSampler {
    /// A sampler of the plain Sobol sequence. The seed serves the first trial and scrambling; `None`
    /// takes one from the operating system.
    #[must_use]
    pub fn new(seed: impl Into<Option<u64>>) -> Self {
        let seed = seed.into();
        let mut entropy = Rng::new(None);
        Self {
            qmc_type: QmcType::Sobol,
            scramble: false,
            seed: seed.unwrap_or_else(|| u64::from(entropy.next_u32())),
            independent: Arc::new(RandomSampler::new(seed)),
            sequence: Mutex::new(None),
        }
    }

    /// Chooses the sequence. Default [`QmcType::Sobol`].
    #[must_use]
    pub fn qmc_type(mut self, qmc_type: QmcType) -> Self {
        self.qmc_type = qmc_type;
        self
    }

    /// Randomises the sequence by the seed. Default false.
    #[must_use]
    pub fn scramble(mut self, scramble: bool) -> Self {
        self.scramble = scramble;
        self
    }

    /// Sets the sampler of the first trial and of parameters outside of its space. Default random.
    #[must_use]
    pub fn independent_sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.independent = Arc::new(sampler);
        self
    }

    /// The study attribute that counts the points used of this sequence over this space.
    fn key(&self, space: &ParamSpace) -> String {
        let mut texts: Vec<(String, Json)> = space
            .iter()
            .map(|(name, d)| (name.to_string(), Json::Str(d.to_string())))
            .collect();
        texts.sort_by(|a, b| a.0.cmp(&b.0));
        let mut variables = vec![
            (
                "qmc_type".to_owned(),
                Json::Str(self.qmc_type.name().to_owned()),
            ),
            ("search_space".to_owned(), Json::Object(texts)),
            ("scramble".to_owned(), Json::Bool(self.scramble)),
        ];
        if self.scramble {
            // Python integers have no limit; a seed beyond i64 is written as its text.
            let seed = i64::try_from(self.seed)
                .map_or_else(|_| Json::Str(self.seed.to_string()), Json::Int);
            variables.push(("seed".to_owned(), seed));
        }
        let digest = Sha256::digest(Json::Object(variables).to_string());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("qmc:{hex}")
    }

    fn point(&self, study: &Context, space: &ParamSpace) -> Result<Vec<f64>> {
        let mut sequence = lock(&self.sequence);
        let key = self.key(space);
        let last = study.system_attrs()?.get(&key).and_then(Json::as_i64);
        let index = last.unwrap_or(-1) + 1;
        study
            .storage()
            .set_study_system_attr(study.id(), &key, &Json::Int(index))?;
        let dimensions = space.len();
        if sequence.as_ref().is_none_or(|(d, _)| *d != dimensions) {
            let made = match (self.qmc_type, self.scramble) {
                (QmcType::Sobol, false) => {
                    Sequence::Sobol(Sobol::new(dimensions).map_err(invalid)?)
                }
                (QmcType::Sobol, true) => {
                    Sequence::Sobol(Sobol::scrambled(dimensions, self.seed).map_err(invalid)?)
                }
                (QmcType::Halton, false) => Sequence::Halton(Halton::new(dimensions)),
                (QmcType::Halton, true) => {
                    Sequence::Halton(Halton::scrambled(dimensions, self.seed))
                }
            };
            *sequence = Some((dimensions, made));
        }
        let index = u64::try_from(index).unwrap_or(0);
        match sequence.as_ref().map(|(_, s)| s) {
            Some(Sequence::Sobol(sobol)) => sobol.point(index).map_err(invalid),
            Some(Sequence::Halton(halton)) => Ok(halton.point(index)),
            None => Ok(Vec::new()),
        }
    }
}

fn invalid(error: SequenceError) -> Error {
    Error::invalid(error.to_string())
}

impl Sampler for QmcSampler {
    fn infer_relative_search_space(
        &self,
        study: &Context,
        _trial: &FrozenTrial,
    ) -> Result<ParamSpace> {
        let space_of = |trial: &FrozenTrial| -> ParamSpace {
            trial
                .params
                .iter()
                .map(|p| (p.name.clone(), p.distribution.clone()))
                .collect()
        };
        study.with_trials(|trials| {
            let suggested = |t: &&Arc<FrozenTrial>| {
                matches!(t.state, TrialState::Complete | TrialState::Pruned)
            };
            if let Some(first) = trials.iter().find(suggested) {
                return space_of(first);
            }
            let mut union = ParamSpace::new();
            for trial in trials.iter().filter(|t| t.state == TrialState::Running) {
                for (name, distribution) in space_of(trial).iter() {
                    union.insert(name.clone(), distribution.clone());
                }
            }
            union
        })
    }

    fn sample_relative(
        &self,
        study: &Context,
        _trial: &FrozenTrial,
        space: &ParamSpace,
    ) -> Result<RelativeSample> {
        if space.is_empty() {
            return Ok(RelativeSample::new());
        }
        // A category takes one coordinate over [0, n), whose floor is uniform over the choices.
        let numeric: ParamSpace = space
            .iter()
            .map(|(name, distribution)| match &**distribution {
                Distribution::Categorical(d) => {
                    let width = FloatDistribution::new(0.0, d.choices().len() as f64)?;
                    Ok((name.clone(), Arc::new(Distribution::Float(width))))
                }
                _ => Ok((name.clone(), distribution.clone())),
            })
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .collect();
        let options = BoxOptions {
            unit: true,
            ..BoxOptions::default()
        };
        let transform = BoxTransform::new(&numeric, options);
        let values = transform.untransform(&self.point(study, space)?);
        Ok(space
            .iter()
            .zip(values)
            .map(|((name, distribution), value)| {
                let value = if distribution.is_categorical() {
                    value.floor()
                } else {
                    value
                };
                (name.clone(), value)
            })
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
            trials
                .iter()
                .any(|t| matches!(t.state, TrialState::Complete | TrialState::Pruned))
        })?;
        if started {
            log::warn!(
                "parameter {name:?} of trial {} is not part of the first finished trial, so the QMC \
                 sampler samples it independently; use a fixed search space to avoid this",
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

    /// Reseeds the independent sampler only: all workers have to share the sequence.
    fn reseed(&self) {
        self.independent.reseed();
    }
}
