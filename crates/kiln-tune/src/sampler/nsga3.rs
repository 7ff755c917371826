//! NSGA-III.

use std::collections::BTreeMap;

use super::ga::crossover::Crossover;
use super::ga::mutation::Mutation;
use super::ga::{Genetic, Population, genetic_sampler, genetic_settings};
use super::{RelativeSample, Sampler};
use crate::context::Context;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::multi_objective::{compare, nsga3, rows_by_rank};
use crate::rng::Rng;
use crate::sync::lock;
use crate::trial::{FrozenTrial, ParamSpace};

/// NSGA-II with survivors spread over reference directions, for three objectives and more (Deb and
/// Jain, *An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based
/// Nondominated Sorting Approach, Part I*, 2014).
///
/// Settings are those of [`NsgaIiSampler`](super::NsgaIiSampler) and
///
/// | setting | default | meaning |
/// |---|---|---|
/// | [`dividing_parameter`](Self::dividing_parameter) | 3 | divisions per axis of the reference directions |
/// | [`reference_points`](Self::reference_points) | none | own directions instead |
///
/// ```
/// use kiln_tune::{Study, StudyDirection::Minimize, sampler::NsgaIiiSampler};
///
/// let sampler = NsgaIiiSampler::new(1).population_size(20)?;
/// let study = Study::builder().directions([Minimize; 3]).sampler(sampler).create()?;
/// study.optimize(
///     |trial| {
///         let x = trial.suggest_float("x", 0.0, 1.0)?;
///         let y = trial.suggest_float("y", 0.0, 1.0)?;
///         Ok::<_, kiln_tune::Error>([x, y, (1.0 - x) * (1.0 - y)])
///     },
///     60,
/// )?;
/// assert!(!study.best_trials()?.is_empty());
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct NsgaIiiSampler {
    genetic: Genetic,
    reference_points: Option<Vec<Vec<f64>>>,
    dividing_parameter: usize,
}

impl NsgaIiiSampler {
    /// A sampler with the defaults above; `None` seeds from the operating system.
    #[must_use]
    pub fn new(seed: impl Into<Option<u64>>) -> Self {
        Self {
            genetic: Genetic::new("NSGAIIISampler", seed.into()),
            reference_points: None,
            dividing_parameter: 3,
        }
    }

    genetic_settings!();

    /// Sets the number of divisions per axis of the reference directions. Default 3. Unused with own
    /// reference points.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0.
    pub fn dividing_parameter(mut self, divisions: usize) -> Result<Self> {
        if divisions == 0 {
            return Err(Error::invalid(
                "dividing_parameter must be at least 1, but got 0",
            ));
        }
        self.dividing_parameter = divisions;
        Ok(self)
    }

    /// Sets reference directions, one row each with a number per objective.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is none, when the rows differ in length, or when one is
    /// zero or not finite.
    pub fn reference_points(mut self, points: Vec<Vec<f64>>) -> Result<Self> {
        let width = points.first().map_or(0, Vec::len);
        let usable = |p: &Vec<f64>| {
            p.len() == width && p.iter().all(|v| v.is_finite()) && p.iter().any(|v| *v != 0.0)
        };
        if width == 0 || !points.iter().all(usable) {
            return Err(Error::invalid(
                "reference points must be rows of equal length, finite and not all zero, one number \
                 per objective",
            ));
        }
        self.reference_points = Some(points);
        Ok(self)
    }

    fn select(&self, population: &Population, rng: &mut Rng) -> Result<Vec<usize>> {
        let size = self.genetic.population_size;
        let n_objectives = population.maximize.len();
        let points = match &self.reference_points {
            Some(points) if points[0].len() != n_objectives => {
                return Err(Error::invalid(format!(
                    "reference points have {} numbers, but the study has {n_objectives} objectives",
                    points[0].len()
                )));
            }
            Some(points) => points.clone(),
            None => {
                let count = n_points(n_objectives, self.dividing_parameter);
                if count > MAX_REFERENCE_POINTS {
                    return Err(Error::invalid(format!(
                        "dividing_parameter {} with {n_objectives} objectives makes more than \
                         {MAX_REFERENCE_POINTS} reference points; set a smaller one or own reference points",
                        self.dividing_parameter
                    )));
                }
                nsga3::reference_points(n_objectives, self.dividing_parameter)
            }
        };
        let mut elite: Vec<usize> = Vec::with_capacity(size);
        let ranks = rows_by_rank(
            &population.values,
            &population.maximize,
            population.penalty.as_deref(),
        );
        for rank in ranks {
            if elite.len() + rank.len() < size {
                elite.extend(rank);
                continue;
            }
            let rows: Vec<Vec<f64>> = elite
                .iter()
                .chain(&rank)
                .map(|&i| population.values[i].clone())
                .collect();
            let normalized = nsga3::normalize(&nsga3::clip_infinities(&rows));
            let nearest = nsga3::associate(&normalized, &points);
            let chosen = preserve_niches(&nearest, elite.len(), size - elite.len(), rng);
            elite.extend(chosen.into_iter().map(|i| rank[i]));
            break;
        }
        Ok(elite)
    }
}

/// More reference points than this help no population.
const MAX_REFERENCE_POINTS: usize = 1_000_000;

/// How many reference points there are, `binomial(n_objectives + divisions - 1, divisions)`, up to the limit.
fn n_points(n_objectives: usize, divisions: usize) -> usize {
    let choices = (n_objectives.saturating_sub(1)).min(divisions);
    let all = n_objectives.saturating_sub(1).saturating_add(divisions);
    (0..choices)
        .try_fold(1_usize, |count, k| {
            let count = count.checked_mul(all - k)? / (k + 1);
            (count <= MAX_REFERENCE_POINTS).then_some(count)
        })
        .unwrap_or(usize::MAX)
}

/// Chooses `room` of the individuals after the first `n_elite`, each time for the reference point
/// with the fewest members: its closest individual while it has none, then a random one.
fn preserve_niches(
    nearest: &[(usize, f64)],
    n_elite: usize,
    room: usize,
    rng: &mut Rng,
) -> Vec<usize> {
    let mut members: BTreeMap<usize, usize> = BTreeMap::new();
    for (point, _) in &nearest[..n_elite] {
        *members.entry(*point).or_default() += 1;
    }
    // In the order in which the individuals name them, as the draws go by that order.
    let mut border: Vec<(usize, Vec<(f64, usize)>)> = Vec::new();
    for (i, (point, distance)) in nearest[n_elite..].iter().enumerate() {
        match border.iter_mut().find(|(p, _)| p == point) {
            Some((_, candidates)) => candidates.push((*distance, i)),
            None => border.push((*point, vec![(*distance, i)])),
        }
    }
    let mut by_count: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (slot, (point, _)) in border.iter().enumerate() {
        let count = members.get(point).copied().unwrap_or(0);
        by_count.entry(count).or_default().push(slot);
    }
    let mut chosen = Vec::with_capacity(room);
    let mut is_shuffled = vec![false; border.len()];
    while let Some((count, mut slots)) = by_count.pop_first() {
        rng.shuffle(&mut slots);
        while let Some(slot) = slots.pop() {
            if chosen.len() == room {
                return chosen;
            }
            let candidates = &mut border[slot].1;
            if count == 0 {
                candidates.sort_by(|a, b| compare(b.0, a.0).then(b.1.cmp(&a.1)));
            } else if !is_shuffled[slot] {
                rng.shuffle(candidates);
                is_shuffled[slot] = true;
            }
            if let Some((_, i)) = candidates.pop() {
                chosen.push(i);
            }
            if !candidates.is_empty() {
                by_count.entry(count + 1).or_default().push(slot);
            }
        }
    }
    chosen
}

genetic_sampler!(NsgaIiiSampler);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_niche_takes_its_closest_individual_first() {
        // One elite at point 0; border: two at point 0, two at point 1.
        let nearest = [(0, 0.1), (0, 0.3), (0, 0.2), (1, 0.9), (1, 0.4)];
        let mut rng = Rng::new(Some(0));
        assert_eq!(preserve_niches(&nearest, 1, 1, &mut rng), [3]);
        let mut all = preserve_niches(&nearest, 1, 4, &mut rng);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }

    #[test]
    fn reference_points_are_checked() {
        assert!(NsgaIiiSampler::new(0).reference_points(vec![]).is_err());
        assert!(
            NsgaIiiSampler::new(0)
                .reference_points(vec![vec![0.0, 0.0]])
                .is_err()
        );
        assert!(NsgaIiiSampler::new(0).dividing_parameter(0).is_err());
        for (objectives, divisions) in [(1, 7), (2, 3), (3, 12), (6, 4)] {
            let points = nsga3::reference_points(objectives, divisions);
            assert_eq!(n_points(objectives, divisions), points.len());
        }
        assert!(
            n_points(40, 40) > MAX_REFERENCE_POINTS
                && n_points(3, usize::MAX) > MAX_REFERENCE_POINTS
        );
        assert!(NsgaIiiSampler::new(0).population_size(1).is_err());
        assert!(NsgaIiiSampler::new(0).crossover_prob(1.5).is_err());
    }
}
