//! The sampler and the pruner of `run` and `ask`.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::space::{choices, parse_value, parse_value_of};
use super::{CliResult, Failure, parse_pair};
use kiln_tune::distribution::ParamValue;
use kiln_tune::error::{Error, Result};
use kiln_tune::json::Json;
use kiln_tune::pruner::{
    HyperbandPruner, MedianPruner, NopPruner, PatientPruner, PercentilePruner, Pruner,
    SuccessiveHalvingPruner, ThresholdPruner, WilcoxonPruner,
};
use kiln_tune::sampler::ga::crossover::{
    BlxAlphaCrossover, Crossover, SbxCrossover, SpxCrossover, UndxCrossover, UniformCrossover,
    VsbxCrossover,
};
use kiln_tune::sampler::{
    BruteForceSampler, CmaEsSampler, GpSampler, GridSampler, NsgaIiSampler, NsgaIiiSampler,
    PartialFixedSampler, QmcSampler, QmcType, RandomSampler, RestartStrategy, Sampler, TpeSampler,
    finite_values,
};
use kiln_tune::study::StudyBuilder;
use kiln_tune::trial::ParamSpace;

/// How trials are chosen and stopped.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// What chooses the parameters
    #[arg(long, value_enum, default_value_t = SamplerName::Tpe)]
    sampler: SamplerName,
    /// Settings of the sampler, such as '{"n_startup_trials": 20, "multivariate": false}'
    #[arg(long, value_name = "JSON")]
    sampler_kwargs: Option<String>,
    /// What stops bad trials early
    #[arg(long, value_enum, default_value_t = PrunerName::Median)]
    pruner: PrunerName,
    /// Settings of the pruner, such as '{"n_warmup_steps": 5}'
    #[arg(long, value_name = "JSON")]
    pruner_kwargs: Option<String>,
    /// The values of a parameter for --sampler grid; one that has few values needs none
    #[arg(long, value_name = "NAME=V1,V2,...", value_parser = parse_pair)]
    grid: Vec<(String, String)>,
    /// Keep a parameter at this value and let the sampler choose the others
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    fix: Vec<(String, String)>,
    /// Seed of the sampler; the same seed and one job give the same trials
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// A sampler by its name.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum SamplerName {
    /// Tree-structured Parzen estimator
    #[value(alias = "TPESampler")]
    Tpe,
    /// Independent random values
    #[value(alias = "RandomSampler")]
    Random,
    /// Every combination of given values, then stop
    #[value(alias = "GridSampler")]
    Grid,
    /// Every combination of the parameters' own values, then stop
    #[value(alias = "BruteForceSampler")]
    BruteForce,
    /// Covariance matrix adaptation evolution strategy
    #[value(aliases = ["cma-es", "CmaEsSampler"])]
    Cmaes,
    /// Gaussian process
    #[value(alias = "GPSampler")]
    Gp,
    /// Quasi-Monte Carlo (Sobol, Halton)
    #[value(alias = "QMCSampler")]
    Qmc,
    /// Genetic algorithm NSGA-II, for several objectives
    #[value(alias = "NSGAIISampler")]
    Nsgaii,
    /// Genetic algorithm NSGA-III, for many objectives
    #[value(alias = "NSGAIIISampler")]
    Nsgaiii,
}

/// A pruner by its name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PrunerName {
    /// Never stops a trial
    #[value(aliases = ["nop", "NopPruner"])]
    None,
    /// Stops trials that are worse than the median of the earlier ones
    #[value(alias = "MedianPruner")]
    Median,
    /// Stops trials outside of the best `percentile` of the earlier ones
    #[value(alias = "PercentilePruner")]
    Percentile,
    /// Successive halving (ASHA)
    #[value(alias = "SuccessiveHalvingPruner")]
    Asha,
    /// Hyperband
    #[value(alias = "HyperbandPruner")]
    Hyperband,
    /// Stops trials that report a value below `lower` or above `upper`
    #[value(alias = "ThresholdPruner")]
    Threshold,
    /// Stops trials without an improvement for `patience` steps
    #[value(alias = "PatientPruner")]
    Patient,
    /// Stops trials that are worse than the best one by the signed-rank test
    #[value(alias = "WilcoxonPruner")]
    Wilcoxon,
}

impl SearchArgs {
    /// The builder with this sampler and this pruner, for trials of this space.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for settings that the sampler or the pruner does not have, and for parameters that are
    /// not in the space.
    pub fn study_builder(&self, builder: StudyBuilder, space: &ParamSpace) -> Result<StudyBuilder> {
        let built = self.apply(builder, space);
        built.map_err(|failure| Error::InvalidArgument(failure.to_string()))
    }

    /// The builder with this sampler and this pruner, for trials of this space.
    pub(crate) fn apply(
        &self,
        builder: StudyBuilder,
        space: &ParamSpace,
    ) -> CliResult<StudyBuilder> {
        let mut sampler = self.sampler(space)?;
        if !self.fix.is_empty() {
            for (name, _) in &self.fix {
                known("--fix", name, space)?;
            }
            let fixed = self
                .fix
                .iter()
                .map(|(name, value)| Ok((name, value_in(space, name, value)?)))
                .collect::<CliResult<Vec<_>>>()?;
            sampler = Arc::new(PartialFixedSampler::new(fixed, sampler));
        }
        Ok(builder.sampler(sampler).pruner(self.pruner()?))
    }

    /// The seed that is given.
    pub(super) fn seed(&self) -> Option<u64> {
        self.seed
    }

    fn sampler(&self, space: &ParamSpace) -> CliResult<Arc<dyn Sampler>> {
        let mut s = Settings::new("--sampler-kwargs", self.sampler_kwargs.as_deref())?;
        let seed = match s.get("seed")? {
            Some(_) if self.seed.is_some() => {
                return Err(Failure::Usage(
                    "the seed is given twice; leave --seed out".to_owned(),
                ));
            }
            Some(seed) => Some(seed),
            None => self.seed,
        };
        if self.sampler != SamplerName::Grid && !self.grid.is_empty() {
            return Err(Failure::Usage("--grid needs --sampler grid".to_owned()));
        }
        let sampler: Arc<dyn Sampler> = match self.sampler {
            SamplerName::Tpe => {
                let t = seed.into_iter().fold(TpeSampler::new(), TpeSampler::seed);
                let t = s.set(t, "n_startup_trials", TpeSampler::n_startup_trials)?;
                let t = s.set(t, "n_ei_candidates", TpeSampler::n_ei_candidates)?;
                let t = s.set(t, "multivariate", TpeSampler::multivariate)?;
                let t = s.set(t, "group", TpeSampler::group)?;
                let t = s.set(t, "constant_liar", TpeSampler::constant_liar)?;
                let t = s.set(t, "prior_weight", TpeSampler::prior_weight)?;
                let t = s.set(t, "consider_magic_clip", TpeSampler::consider_magic_clip)?;
                Arc::new(s.set(t, "consider_endpoints", TpeSampler::consider_endpoints)?)
            }
            SamplerName::Random => Arc::new(RandomSampler::new(seed)),
            SamplerName::Grid => Arc::new(self.grid_sampler(&mut s, seed, space)?),
            SamplerName::BruteForce => {
                let b = BruteForceSampler::new();
                let b = seed.into_iter().fold(b, BruteForceSampler::seed);
                Arc::new(s.set(
                    b,
                    "avoid_premature_stop",
                    BruteForceSampler::avoid_premature_stop,
                )?)
            }
            SamplerName::Cmaes => Arc::new(cma_es(&mut s, seed)?),
            SamplerName::Gp => {
                let g = GpSampler::new(seed);
                let g = s.set(g, "n_startup_trials", GpSampler::n_startup_trials)?;
                Arc::new(s.set(
                    g,
                    "deterministic_objective",
                    GpSampler::deterministic_objective,
                )?)
            }
            SamplerName::Qmc => {
                let kind = match s.get::<String>("qmc_type")?.as_deref() {
                    None | Some("sobol") => QmcType::Sobol,
                    Some("halton") => QmcType::Halton,
                    Some(other) => return Err(s.refuse("qmc_type", "sobol or halton", other)),
                };
                let q = QmcSampler::new(seed).qmc_type(kind);
                Arc::new(s.set(q, "scramble", QmcSampler::scramble)?)
            }
            SamplerName::Nsgaii => {
                let n = NsgaIiSampler::new(seed);
                let n = s.try_set(n, "population_size", NsgaIiSampler::population_size)?;
                let n = s.try_set(n, "mutation_prob", NsgaIiSampler::mutation_prob)?;
                let n = s.try_set(n, "crossover_prob", NsgaIiSampler::crossover_prob)?;
                let n = s.try_set(n, "swapping_prob", NsgaIiSampler::swapping_prob)?;
                Arc::new(match crossover(&mut s)? {
                    Some(crossover) => n.crossover(crossover)?,
                    None => n,
                })
            }
            SamplerName::Nsgaiii => {
                let n = NsgaIiiSampler::new(seed);
                let n = s.try_set(n, "population_size", NsgaIiiSampler::population_size)?;
                let n = s.try_set(n, "mutation_prob", NsgaIiiSampler::mutation_prob)?;
                let n = s.try_set(n, "crossover_prob", NsgaIiiSampler::crossover_prob)?;
                let n = s.try_set(n, "swapping_prob", NsgaIiiSampler::swapping_prob)?;
                let n = s.try_set(n, "dividing_parameter", NsgaIiiSampler::dividing_parameter)?;
                let n = s.try_set(n, "reference_points", NsgaIiiSampler::reference_points)?;
                Arc::new(match crossover(&mut s)? {
                    Some(crossover) => n.crossover(crossover)?,
                    None => n,
                })
            }
        };
        s.finish(&format!("the sampler {}", name_of(self.sampler)))?;
        Ok(sampler)
    }

    fn grid_sampler(
        &self,
        settings: &mut Settings,
        seed: Option<u64>,
        space: &ParamSpace,
    ) -> CliResult<GridSampler> {
        let mut grid: Vec<(String, Vec<ParamValue>)> = Vec::new();
        if let Some(Value::Object(given)) = settings.get("search_space")? {
            for (name, values) in given {
                let scalar = |value: &Value| {
                    ParamValue::from_json(&Json::from(value.clone()))
                        .map_err(|error| Failure::Usage(format!("search_space: {name}: {error}")))
                };
                let values = values
                    .as_array()
                    .map(|values| values.iter().map(scalar).collect());
                grid.push((name, values.unwrap_or_else(|| Ok(Vec::new()))?));
            }
        }
        for (name, values) in &self.grid {
            let values = choices(values)
                .into_iter()
                .map(|value| value_in(space, name, value.trim()));
            grid.push((name.clone(), values.collect::<CliResult<_>>()?));
        }
        for (name, values) in &grid {
            known("the grid", name, space)?;
            if values.is_empty() {
                return Err(Failure::Usage(format!("the grid has no value of {name:?}")));
            }
        }
        for (name, distribution) in space.iter() {
            if grid.iter().any(|(given, _)| **given == **name) {
                continue;
            }
            let values = finite_values(name, distribution).map_err(|_| {
                Failure::Usage(format!(
                    "the grid needs the values of {name:?}, which has too many; write --grid {name}=V1,V2,..."
                ))
            })?;
            let values = values.into_iter().map(|v| distribution.to_external(v));
            grid.push((name.to_string(), values.collect()));
        }
        let sampler = grid
            .into_iter()
            .fold(GridSampler::new(), |sampler, (name, values)| {
                sampler.param(name, values)
            });
        Ok(seed.into_iter().fold(sampler, GridSampler::seed))
    }

    fn pruner(&self) -> CliResult<Box<dyn Pruner>> {
        let mut s = Settings::new("--pruner-kwargs", self.pruner_kwargs.as_deref())?;
        let pruner = pruner(self.pruner, &mut s)?;
        s.finish(&format!("the pruner {}", name_of(self.pruner)))?;
        Ok(pruner)
    }
}

fn pruner(name: PrunerName, s: &mut Settings) -> CliResult<Box<dyn Pruner>> {
    Ok(match name {
        PrunerName::None => Box::new(NopPruner),
        PrunerName::Median => {
            let p = MedianPruner::new();
            let p = s.set(p, "n_startup_trials", MedianPruner::n_startup_trials)?;
            let p = s.set(p, "n_warmup_steps", MedianPruner::n_warmup_steps)?;
            let p = s.set(p, "interval_steps", MedianPruner::interval_steps)?;
            Box::new(s.set(p, "n_min_trials", MedianPruner::n_min_trials)?)
        }
        PrunerName::Percentile => {
            let p = PercentilePruner::new(s.need("percentile", "the share of trials to keep")?);
            let p = s.set(p, "n_startup_trials", PercentilePruner::n_startup_trials)?;
            let p = s.set(p, "n_warmup_steps", PercentilePruner::n_warmup_steps)?;
            let p = s.set(p, "interval_steps", PercentilePruner::interval_steps)?;
            Box::new(s.set(p, "n_min_trials", PercentilePruner::n_min_trials)?)
        }
        PrunerName::Asha => {
            let p = SuccessiveHalvingPruner::new();
            let p = s.set_or_auto(p, "min_resource", SuccessiveHalvingPruner::min_resource)?;
            let p = s.set(
                p,
                "reduction_factor",
                SuccessiveHalvingPruner::reduction_factor,
            )?;
            let rate = SuccessiveHalvingPruner::min_early_stopping_rate;
            let p = s.set(p, "min_early_stopping_rate", rate)?;
            Box::new(s.set(
                p,
                "bootstrap_count",
                SuccessiveHalvingPruner::bootstrap_count,
            )?)
        }
        PrunerName::Hyperband => {
            let p = HyperbandPruner::new();
            let p = s.set(p, "min_resource", HyperbandPruner::min_resource)?;
            let p = s.set_or_auto(p, "max_resource", HyperbandPruner::max_resource)?;
            let p = s.set(p, "reduction_factor", HyperbandPruner::reduction_factor)?;
            Box::new(s.set(p, "bootstrap_count", HyperbandPruner::bootstrap_count)?)
        }
        PrunerName::Threshold => {
            let p = ThresholdPruner::new();
            let p = s.set(p, "lower", ThresholdPruner::lower)?;
            let p = s.set(p, "upper", ThresholdPruner::upper)?;
            let p = s.set(p, "n_warmup_steps", ThresholdPruner::n_warmup_steps)?;
            Box::new(s.set(p, "interval_steps", ThresholdPruner::interval_steps)?)
        }
        PrunerName::Patient => {
            let patience = s.need("patience", "the number of steps to wait")?;
            let p = match s.get::<String>("wrapped_pruner")? {
                None => PatientPruner::alone(patience),
                Some(wrapped) => {
                    let name = PrunerName::from_str(&wrapped, true).map_err(|_| {
                        s.refuse("wrapped_pruner", "the name of a pruner", &wrapped)
                    })?;
                    let wrapped = pruner(name, &mut Settings::new("--pruner-kwargs", None)?)?;
                    PatientPruner::new(wrapped, patience)
                }
            };
            Box::new(s.set(p, "min_delta", PatientPruner::min_delta)?)
        }
        PrunerName::Wilcoxon => {
            let p = WilcoxonPruner::new();
            let p = s.set(p, "p_threshold", WilcoxonPruner::p_threshold)?;
            Box::new(s.set(p, "n_startup_steps", WilcoxonPruner::n_startup_steps)?)
        }
    })
}

fn cma_es(s: &mut Settings, seed: Option<u64>) -> CliResult<CmaEsSampler> {
    let c = CmaEsSampler::new(seed);
    let c = s.set(c, "n_startup_trials", CmaEsSampler::n_startup_trials)?;
    let c = s.try_set(c, "popsize", CmaEsSampler::population_size)?;
    let c = s.set(
        c,
        "consider_pruned_trials",
        CmaEsSampler::consider_pruned_trials,
    )?;
    let c = s.try_set(c, "use_separable_cma", CmaEsSampler::separable)?;
    let c = s.try_set(c, "with_margin", CmaEsSampler::with_margin)?;
    let c = s.try_set(c, "lr_adapt", CmaEsSampler::learning_rate_adaptation)?;
    let factor = s.get("inc_popsize")?.unwrap_or(2);
    let restarts = match s.get::<String>("restart_strategy")?.as_deref() {
        None => RestartStrategy::None,
        Some("ipop") => RestartStrategy::Ipop(factor),
        Some("bipop") => RestartStrategy::Bipop(factor),
        Some(other) => return Err(s.refuse("restart_strategy", "ipop or bipop", other)),
    };
    Ok(c.restart_strategy(restarts)?)
}

/// A crossover by the name of its paper.
fn crossover(s: &mut Settings) -> CliResult<Option<Box<dyn Crossover>>> {
    let Some(name) = s.get::<String>("crossover")? else {
        return Ok(None);
    };
    Ok(Some(match name.as_str() {
        "uniform" => Box::new(UniformCrossover::default()),
        "blxalpha" => Box::new(BlxAlphaCrossover::default()),
        "sbx" => Box::new(SbxCrossover::default()),
        "vsbx" => Box::new(VsbxCrossover::default()),
        "spx" => Box::new(SpxCrossover::default()),
        "undx" => Box::new(UndxCrossover::default()),
        other => {
            return Err(s.refuse(
                "crossover",
                "uniform, blxalpha, sbx, vsbx, spx or undx",
                other,
            ));
        }
    }))
}

fn name_of(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A value of `--fix` or `--grid`, read as its parameter needs it.
fn value_in(space: &ParamSpace, name: &str, text: &str) -> CliResult<ParamValue> {
    let Some(distribution) = space.get(name) else {
        return Ok(parse_value(text));
    };
    let value = parse_value_of(text, distribution);
    distribution
        .to_internal(&value)
        .map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
    Ok(value)
}

fn known(what: &str, name: &str, space: &ParamSpace) -> CliResult {
    if space.contains(name) {
        return Ok(());
    }
    let names: Vec<&str> = space.iter().map(|(name, _)| &**name).collect();
    Err(Failure::Usage(format!(
        "{what} names the parameter {name:?}, but there are only {}",
        names.join(", ")
    )))
}

/// Settings by name, as a JSON object gives them; null leaves the default.
pub(super) struct Settings {
    option: &'static str,
    given: serde_json::Map<String, Value>,
    known: Vec<&'static str>,
}

impl Settings {
    pub(super) fn new(option: &'static str, text: Option<&str>) -> CliResult<Self> {
        let given = serde_json::from_str(text.unwrap_or("{}")).map_err(|error| {
            Failure::Usage(format!(
                "{option} must be a JSON object of settings: {error}"
            ))
        })?;
        Ok(Self {
            option,
            given,
            known: Vec::new(),
        })
    }

    pub(super) fn get<T: DeserializeOwned>(&mut self, name: &'static str) -> CliResult<Option<T>> {
        self.known.push(name);
        let Some(value) = self.given.remove(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| Failure::Usage(format!("{}: {name}: {error}", self.option)))
    }

    fn need<T: DeserializeOwned>(&mut self, name: &'static str, what: &str) -> CliResult<T> {
        let option = self.option;
        self.get(name)?
            .ok_or_else(|| Failure::Usage(format!("{option} must have {name:?}, {what}")))
    }

    pub(super) fn set<S, T: DeserializeOwned>(
        &mut self,
        target: S,
        name: &'static str,
        apply: impl FnOnce(S, T) -> S,
    ) -> CliResult<S> {
        Ok(match self.get(name)? {
            Some(value) => apply(target, value),
            None => target,
        })
    }

    pub(super) fn try_set<S, T: DeserializeOwned>(
        &mut self,
        target: S,
        name: &'static str,
        apply: impl FnOnce(S, T) -> Result<S>,
    ) -> CliResult<S> {
        Ok(match self.get(name)? {
            Some(value) => apply(target, value)?,
            None => target,
        })
    }

    /// As `set`; "auto" leaves the default.
    fn set_or_auto<S, T: DeserializeOwned>(
        &mut self,
        target: S,
        name: &'static str,
        apply: impl FnOnce(S, T) -> S,
    ) -> CliResult<S> {
        if self.given.get(name).is_some_and(|value| value == "auto") {
            self.given.remove(name);
        }
        self.set(target, name, apply)
    }

    fn refuse(&self, name: &str, allowed: &str, given: &str) -> Failure {
        Failure::Usage(format!(
            "{}: {name} must be {allowed}, but got {given:?}",
            self.option
        ))
    }

    pub(super) fn finish(self, owner: &str) -> CliResult {
        match self.given.keys().next() {
            None => Ok(()),
            Some(name) if self.known.is_empty() => Err(Failure::Usage(format!(
                "{}: {owner} has no settings, but got {name:?}",
                self.option
            ))),
            Some(name) => Err(Failure::Usage(format!(
                "{}: {owner} has no setting {name:?}; it has {}",
                self.option,
                self.known.join(", ")
            ))),
        }
    }
}
