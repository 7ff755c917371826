//! PED-ANOVA: importance for reaching the best trials.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{ImportanceEvaluator, Importances, Target, sorted};
use crate::distribution::Distribution;
use crate::error::{Error, Result, SAID_BY_COMMANDS};
use crate::multi_objective::{compare, losses_of_trial, select_best};
use crate::normal;
use crate::study::{Study, StudyDirection};
use crate::transform::unit_of;
use crate::trial::{FrozenTrial, TrialState};

/// Cells of a numeric parameter's grid.
const N_STEPS: usize = 50;
const PRIOR_WEIGHT: f64 = 1.0;
/// A distribution with the values suggested from it, and whether each is of a top trial.
type Regime<'a> = (&'a Arc<Distribution>, Vec<(f64, bool)>);

/// Trials that a regime needs to count.
const MIN_TRIALS_IN_REGIME: usize = 2;

/// PED-ANOVA: how far the distribution of a parameter among the best trials differs from that among
/// all trials (Watanabe, Bansal and Hutter, *PED-ANOVA: Efficiently Quantifying Hyperparameter
/// Importance in Arbitrary Subspaces*, 2023, with conditional parameters as in *Conditional
/// PED-ANOVA*, 2026).
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `target_quantile` | 0.1 | share of the best trials |
/// | `region_quantile` | 1.0 | share of the trials that they are compared with |
/// | `evaluate_on_local` | true | compare with those trials rather than with the uniform distribution |
///
/// All parameters of any complete trial are assessed. Several objectives are fine: the best trials
/// are then chosen as TPE does. A custom target is minimised, with a warning.
#[derive(Debug, Clone, PartialEq)]
pub struct PedAnovaEvaluator {
    target_quantile: f64,
    region_quantile: f64,
    evaluate_on_local: bool,
}

impl Default for PedAnovaEvaluator {
    fn default() -> Self {
        Self {
            target_quantile: 0.1,
            region_quantile: 1.0,
            evaluate_on_local: true,
        }
    }
}

impl PedAnovaEvaluator {
    /// An evaluator with the settings above.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless `0 < target_quantile < region_quantile <= 1`.
    pub fn new(
        target_quantile: f64,
        region_quantile: f64,
        evaluate_on_local: bool,
    ) -> Result<Self> {
        if !(0.0 < target_quantile && target_quantile < region_quantile && region_quantile <= 1.0) {
            return Err(Error::invalid(format!(
                "0 < target_quantile < region_quantile <= 1 must hold, but got \
                 target_quantile={target_quantile} and region_quantile={region_quantile}"
            )));
        }
        if region_quantile < 1.0 && !evaluate_on_local {
            log::warn!(
                "region_quantile has no effect on the densities unless evaluate_on_local is on"
            );
        }
        Ok(Self {
            target_quantile,
            region_quantile,
            evaluate_on_local,
        })
    }

    /// Positions of the best share of the trials; ties at the limit are kept.
    fn best(
        &self,
        study: &Study,
        trials: &[Arc<FrozenTrial>],
        quantile: f64,
        target: Option<&Target<'_>>,
    ) -> Vec<usize> {
        if quantile >= 1.0 {
            return (0..trials.len()).collect();
        }
        let count = (quantile * trials.len() as f64).ceil() as usize;
        if target.is_none() && study.is_multi_objective() {
            let losses: Vec<Vec<f64>> = trials
                .iter()
                .map(|t| losses_of_trial(t, study.directions()))
                .collect();
            return select_best(&losses, count);
        }
        let losses: Vec<f64> = trials
            .iter()
            .map(|t| match target {
                Some(target) => target(t),
                None if study.direction() == StudyDirection::Maximize => {
                    -t.value().unwrap_or(f64::NAN)
                }
                None => t.value().unwrap_or(f64::NAN),
            })
            .collect();
        let mut order = losses.clone();
        order.sort_by(|a, b| compare(*a, *b));
        let limit = order[count.clamp(1, order.len()) - 1];
        (0..losses.len()).filter(|&i| losses[i] <= limit).collect()
    }

    fn divergence(&self, distribution: &Distribution, top: &[f64], region: &[f64]) -> f64 {
        let p = grid_density(distribution, top);
        let q = if self.evaluate_on_local {
            grid_density(distribution, region)
                .into_iter()
                .map(|q| q + 1e-12)
                .collect()
        } else {
            vec![1.0 / p.len() as f64; p.len()]
        };
        p.iter()
            .zip(q)
            .map(|(p, q)| q * ((p + 1e-12) / q - 1.0).powi(2))
            .sum()
    }

    /// Importance of one parameter, summed over the distributions it was suggested from.
    fn importance(&self, regimes: &[Regime<'_>], n_region: usize, n_top: usize) -> f64 {
        regimes
            .iter()
            .filter(|(d, values)| values.len() >= MIN_TRIALS_IN_REGIME && !d.is_single())
            .map(|(distribution, values)| {
                let all: Vec<f64> = values.iter().map(|(v, _)| *v).collect();
                let best: Vec<f64> = values.iter().filter(|(_, b)| *b).map(|(v, _)| *v).collect();
                if best.is_empty() {
                    return 0.0;
                }
                let in_top = best.len() as f64 / n_top as f64;
                let in_region = all.len() as f64 / n_region as f64;
                in_top * in_top / in_region * self.divergence(distribution, &best, &all)
            })
            .sum()
    }
}

/// What the trials have suggested, by parameter and distribution, in one pass: there may be thousands of parameters, and
/// every trial may have a range of its own.
fn regimes<'a>(
    region: &'a [Arc<FrozenTrial>],
    top: &HashSet<u64>,
) -> HashMap<&'a str, Vec<Regime<'a>>> {
    let mut by_name: HashMap<&str, Vec<Regime<'_>>> = HashMap::new();
    let mut by_text: HashMap<(&str, String), usize> = HashMap::new();
    for trial in region {
        let is_top = top.contains(&trial.number);
        for param in &trial.params {
            let regimes = by_name.entry(&param.name).or_default();
            // Mostly it is the first or the last one.
            let known = [0, regimes.len().wrapping_sub(1)].into_iter().find(|&i| {
                let regime = regimes.get(i);
                regime.is_some_and(|(d, _)| Arc::ptr_eq(d, &param.distribution))
            });
            let at = known.unwrap_or_else(|| {
                let text = param.distribution.to_json_text();
                *by_text.entry((&*param.name, text)).or_insert_with(|| {
                    regimes.push((&param.distribution, Vec::new()));
                    regimes.len() - 1
                })
            });
            regimes[at].1.push((param.internal, is_top));
        }
    }
    by_name
}

impl ImportanceEvaluator for PedAnovaEvaluator {
    fn evaluate(
        &self,
        study: &Study,
        params: Option<&[String]>,
        target: Option<&Target<'_>>,
    ) -> Result<Importances> {
        if target.is_some() {
            log::warn!(
                target: SAID_BY_COMMANDS,
                "PED-ANOVA assesses importance for low targets; negate a target to maximise it"
            );
        }
        let complete = study.trials_in(&[TrialState::Complete])?;
        let mut names: Vec<String> = Vec::new();
        let mut known: HashSet<&str> = HashSet::new();
        for param in complete.iter().flat_map(|t| &t.params) {
            if known.insert(&param.name) {
                names.push(param.name.to_string());
            }
        }
        if let Some(params) = params {
            if let Some(missing) = params.iter().find(|p| !known.contains(p.as_str())) {
                return Err(Error::invalid(format!(
                    "no complete trial has the parameter {missing:?}; the study has {names:?}"
                )));
            }
            names = params.to_vec();
        }
        let finite = |t: &Arc<FrozenTrial>| match target {
            Some(target) => target(t).is_finite(),
            None => t
                .values
                .as_ref()
                .is_some_and(|v| v.iter().all(|v| v.is_finite())),
        };
        let trials: Vec<Arc<FrozenTrial>> =
            complete.iter().filter(|t| finite(t)).cloned().collect();
        if trials.len() <= 1 {
            log::warn!("importance needs at least two complete trials; all parameters get 0");
            return Ok(names.into_iter().map(|name| (name, 0.0)).collect());
        }
        let numbers = |quantile| -> HashSet<u64> {
            self.best(study, &trials, quantile, target)
                .into_iter()
                .map(|i| trials[i].number)
                .collect()
        };
        let top = numbers(self.target_quantile);
        let region = numbers(self.region_quantile);
        let region: Vec<Arc<FrozenTrial>> = trials
            .iter()
            .filter(|t| region.contains(&t.number))
            .cloned()
            .collect();
        if top.len() == region.len() {
            log::warn!("the best trials are all trials, so that no parameter can stand out");
        }
        let share = (top.len() as f64 / region.len() as f64).powi(2);
        let regimes = regimes(&region, &top);
        let importances = names
            .into_iter()
            .map(|name| {
                let own = regimes.get(name.as_str()).map_or(&[][..], Vec::as_slice);
                let value = share * self.importance(own, region.len(), top.len());
                (name, value)
            })
            .collect();
        Ok(sorted(importances))
    }
}

/// Probabilities of the cells of a parameter's grid, estimated from internal values.
///
/// A numeric parameter has 50 cells (fewer when it has fewer values), in logarithms where it is on a
/// log scale: a mixture of truncated normals around the observed cells with Scott's bandwidth and a
/// wide prior. A categorical parameter has one cell per choice. A value outside of its range counts in the cell at that
/// end; what is no value at all, such as NaN or the index of a choice that does not exist, is left out.
///
/// # Panics
/// For a single-valued distribution.
pub fn grid_density(distribution: &Distribution, values: &[f64]) -> Vec<f64> {
    assert!(
        !distribution.is_single(),
        "a single value has no density to compare"
    );
    match distribution {
        Distribution::Categorical(d) => {
            let mut counts = vec![0usize; d.choices().len()];
            for v in values.iter().filter(|v| distribution.contains(**v)) {
                counts[*v as usize] += 1;
            }
            categorical_density(&counts)
        }
        _ => numeric_density(&counts(distribution, values)),
    }
}

fn counts(distribution: &Distribution, values: &[f64]) -> Vec<usize> {
    let (low, high, log) = match distribution {
        Distribution::Float(d) => (d.low(), d.high(), d.log()),
        Distribution::Int(d) => (d.low() as f64, d.high() as f64, d.log()),
        Distribution::Categorical(_) => unreachable!("the caller handles choices"),
    };
    let unit = if log { 1.0 } else { unit_of(low, high) };
    let scale = |v: f64| if log { v.ln() } else { v * unit };
    // A float may have more cells than an integer can count, so they are limited before that.
    let last = match distribution {
        Distribution::Int(_) if log => ((high - low + 1.0).ln() / 2f64.ln()).ceil(),
        Distribution::Int(d) => ((high - low) / d.step() as f64).round_ties_even(),
        Distribution::Float(d) => d.step().map_or(f64::INFINITY, |step| {
            ((high * unit - low * unit) / (step * unit)).round_ties_even()
        }),
        Distribution::Categorical(_) => 0.0,
    };
    let last = last.min((N_STEPS - 1) as f64);
    let mut counts = vec![0; last as usize + 1];
    let step = (scale(high) - scale(low)) / last;
    for v in values.iter().filter(|v| !scale(**v).is_nan()) {
        // A value halfway between two cells belongs to the lower one.
        let cell = ((scale(*v) - scale(low)) / step - 0.5).ceil();
        counts[cell.max(0.0).min(last) as usize] += 1;
    }
    counts
}

/// Mixture weights of the observed cells and of the prior, which comes last.
fn weights(counts: &[usize]) -> Vec<f64> {
    let observed = counts.iter().filter(|c| **c > 0).map(|c| *c as f64);
    let mut weights: Vec<f64> = observed.chain([PRIOR_WEIGHT]).collect();
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= total);
    weights
}

fn categorical_density(counts: &[usize]) -> Vec<f64> {
    let n = counts.len();
    let observed: Vec<usize> = (0..n).filter(|&i| counts[i] > 0).collect();
    if observed.is_empty() {
        return vec![1.0 / n as f64; n];
    }
    let n_kernels = (observed.len() + 1) as f64;
    let smooth = PRIOR_WEIGHT / n_kernels;
    let row_sum = smooth * n as f64 + 1.0;
    let weights = weights(counts);
    let prior = weights[observed.len()];
    (0..n)
        .map(|cell| {
            let kernels: f64 = observed
                .iter()
                .zip(&weights)
                .map(|(&i, w)| w * (smooth + f64::from(i == cell)) / row_sum)
                .sum();
            kernels + prior / n as f64
        })
        .collect()
}

fn numeric_density(counts: &[usize]) -> Vec<f64> {
    let n = counts.len();
    let observed: Vec<usize> = (0..n).filter(|&i| counts[i] > 0).collect();
    let total: usize = counts.iter().sum();
    let (low, high) = (0.0, (n - 1) as f64);
    let mut kernels: Vec<(f64, f64)> = Vec::with_capacity(observed.len() + 1);
    if total > 0 {
        let sigma = bandwidth(counts, &observed, total);
        kernels.extend(observed.iter().map(|&i| (i as f64, sigma)));
    }
    kernels.push(((low + high) / 2.0, high - low + 1.0));
    let weights = weights(counts);
    (0..n)
        .map(|cell| {
            let x = cell as f64;
            kernels
                .iter()
                .zip(&weights)
                .map(|(&(mu, sigma), w)| {
                    let mass = |a: f64, b: f64| interval((a - mu) / sigma, (b - mu) / sigma);
                    w * mass(x - 0.5, x + 0.5) / mass(low - 0.5, high + 0.5)
                })
                .sum()
        })
        .collect()
}

/// Scott's rule, at least so wide that 90 % of a kernel lie in one cell.
fn bandwidth(counts: &[usize], observed: &[usize], total: usize) -> f64 {
    let n = total as f64;
    let mean = observed
        .iter()
        .map(|&i| (i * counts[i]) as f64)
        .sum::<f64>()
        / n;
    let spread: f64 = observed
        .iter()
        .map(|&i| (i as f64 - mean).powi(2) * counts[i] as f64)
        .sum();
    let sd = (spread / (n - 1.0).max(1.0)).sqrt();
    let mut cumulative = Vec::with_capacity(observed.len());
    let mut sum = 0;
    for &i in observed {
        sum += counts[i];
        cumulative.push(sum);
    }
    let first = cumulative.partition_point(|c| *c < total / 4);
    let third = cumulative.partition_point(|c| *c <= 3 * total / 4);
    let range = observed[third.min(observed.len() - 1)] as f64 - observed[first] as f64;
    let sigma = 1.059 * (range / 1.34).min(sd) * n.powf(-0.2);
    sigma.max(0.5 / 1.64)
}

/// Standard normal probability of `[a, b]`, taken in the tail where the numbers are small.
fn interval(a: f64, b: f64) -> f64 {
    if a > 0.0 {
        normal::cdf(-a) - normal::cdf(-b)
    } else {
        normal::cdf(b) - normal::cdf(a)
    }
}
