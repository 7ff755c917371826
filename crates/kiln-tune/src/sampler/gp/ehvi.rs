//! Acquisition functions of several objectives: expected hypervolume improvement.

use super::acquisition::{
    Acquisition, EPS, Feasibility, STABILIZING_NOISE, TAU, Term, log_pi, log_sigmoid, log_sum_exp,
    sum_gradients, sum_values,
};
use super::conditional::Conditional;
use super::regressor::Regressor;
use crate::multi_objective::non_dominated_boxes;

/// Lower corners and side lengths of the boxes in which a value to be maximised improves a front.
#[derive(Debug)]
struct Boxes(Vec<(Vec<f64>, Vec<f64>)>);

impl Boxes {
    /// The boxes of losses up to a reference; losses beyond it improve nothing.
    fn new(losses: &[Vec<f64>], reference: &[f64]) -> Self {
        let within: Vec<Vec<f64>> = losses
            .iter()
            .filter(|row| row.iter().zip(reference).all(|(v, r)| v < r))
            .cloned()
            .collect();
        let bounds = non_dominated_boxes(&within, reference);
        let corners = bounds.lower.iter().zip(&bounds.upper);
        Self(
            corners
                .map(|(low, high)| {
                    let lower = high.iter().map(|v| -v).collect();
                    let sides = low.iter().zip(high).map(|(l, h)| (h - l).max(EPS));
                    (lower, sides.collect())
                })
                .collect(),
        )
    }

    /// The hypervolume that a value adds, and its derivatives added to `slopes`.
    ///
    /// Volumes are added up as they are: a product of clipped sides does not underflow for any number
    /// of objectives that a box decomposition can handle.
    fn improvement(&self, y: &[f64], mut slopes: Option<&mut [f64]>) -> f64 {
        let mut total = 0.0;
        for (lower, sides) in &self.0 {
            let mut volume = 1.0;
            for ((y, lower), side) in y.iter().zip(lower).zip(sides) {
                volume *= (y - lower).max(EPS).min(*side);
            }
            total += volume;
            if let Some(slopes) = slopes.as_deref_mut() {
                for (((slope, y), lower), limit) in slopes.iter_mut().zip(y).zip(lower).zip(sides) {
                    let side = y - lower;
                    if side > EPS && side < *limit {
                        *slope += volume / side;
                    }
                }
            }
        }
        total
    }
}

fn to_losses(values: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let negate = |row: &Vec<f64>| row.iter().map(|v| -v).collect();
    values.iter().map(negate).collect()
}

/// A point just worse than all losses.
fn reference_point(losses: &[Vec<f64>]) -> Vec<f64> {
    (0..losses[0].len())
        .map(|j| {
            let column = losses.iter().map(|r| r[j]);
            let worst = column.fold(f64::NEG_INFINITY, f64::max);
            (1.1 * worst).max(0.9 * worst).next_up()
        })
        .collect()
}

fn mean_length_scales<'a>(regressors: impl ExactSizeIterator<Item = &'a Regressor>) -> Vec<f64> {
    let n = regressors.len() as f64;
    let mut mean = Vec::new();
    for regressor in regressors {
        let scales = regressor.length_scales();
        mean.resize(scales.len(), 0.0);
        for (m, s) in mean.iter_mut().zip(scales) {
            *m += s / n;
        }
    }
    mean
}

/// Log expected hypervolume improvement over quasi-random samples of the objectives (Daulton,
/// Balandat and Bakshy, *Differentiable Expected Hypervolume Improvement for Parallel Multi-Objective
/// Bayesian Optimization*, 2020), plus the log probabilities that all constraints hold.
#[derive(Debug)]
pub struct LogEhvi {
    regressors: Vec<Regressor>,
    constraints: Vec<Feasibility>,
    /// Standard normal numbers, a row per sample and a column per objective.
    samples: Vec<Vec<f64>>,
    /// `None` without any feasible value.
    boxes: Option<Boxes>,
}

impl LogEhvi {
    /// An acquisition over the front of the feasible standardised `values`; without any only the
    /// constraints count.
    pub fn new(
        regressors: Vec<Regressor>,
        constraints: Vec<Feasibility>,
        values: &[Vec<f64>],
        samples: Vec<Vec<f64>>,
    ) -> Self {
        let losses = to_losses(values);
        let boxes = (!losses.is_empty()).then(|| Boxes::new(&losses, &reference_point(&losses)));
        Self {
            regressors,
            constraints,
            samples,
            boxes,
        }
    }

    fn feasibility(&self) -> impl Iterator<Item = (&Regressor, f64, Term)> {
        self.constraints
            .iter()
            .map(|c| (&c.regressor, c.threshold, log_pi as Term))
    }

    /// Log expected improvement for given means and deviations, with derivatives by both.
    fn improvement(
        &self,
        boxes: &Boxes,
        means: &[f64],
        sigmas: &[f64],
        slopes: Option<&mut [(f64, f64)]>,
    ) -> f64 {
        let m = means.len();
        let mut y = vec![0.0; m];
        let mut by_value = vec![0.0; m];
        let mut sums = vec![(0.0, 0.0); m];
        let mut total = 0.0;
        for z in &self.samples {
            for j in 0..m {
                y[j] = means[j] + sigmas[j] * z[j];
            }
            if slopes.is_none() {
                total += boxes.improvement(&y, None);
                continue;
            }
            by_value.fill(0.0);
            total += boxes.improvement(&y, Some(&mut by_value));
            for ((sum, slope), z) in sums.iter_mut().zip(&by_value).zip(z) {
                sum.0 += slope;
                sum.1 += slope * z;
            }
        }
        if let Some(slopes) = slopes {
            for (slope, sum) in slopes.iter_mut().zip(sums) {
                *slope = (sum.0 / total, sum.1 / total);
            }
        }
        total.ln() - (self.samples.len() as f64).ln()
    }
}

impl Acquisition for LogEhvi {
    fn value(&self, x: &[f64]) -> f64 {
        let feasible = sum_values(self.feasibility(), x);
        let Some(boxes) = &self.boxes else {
            return feasible;
        };
        let (means, sigmas): (Vec<f64>, Vec<f64>) = self
            .regressors
            .iter()
            .map(|r| {
                let (mean, variance) = r.mean_variance(x);
                (mean, (variance + STABILIZING_NOISE).sqrt())
            })
            .unzip();
        feasible + self.improvement(boxes, &means, &sigmas, None)
    }

    fn value_and_gradient(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
        gradient.fill(0.0);
        let feasible = sum_gradients(self.feasibility(), x, gradient);
        let Some(boxes) = &self.boxes else {
            return feasible;
        };
        let posteriors: Vec<_> = self.regressors.iter().map(|r| r.posterior(x)).collect();
        let means: Vec<f64> = posteriors.iter().map(|p| p.mean).collect();
        let sigmas: Vec<f64> = posteriors
            .iter()
            .map(|p| (p.variance + STABILIZING_NOISE).sqrt())
            .collect();
        let mut slopes = vec![(0.0, 0.0); means.len()];
        let value = self.improvement(boxes, &means, &sigmas, Some(&mut slopes));
        for ((p, (by_mean, by_sigma)), sigma) in posteriors.iter().zip(slopes).zip(sigmas) {
            for (j, g) in gradient.iter_mut().enumerate() {
                *g += by_mean * p.mean_gradient[j]
                    + by_sigma * p.variance_gradient[j] / (2.0 * sigma);
            }
        }
        feasible + value
    }

    fn length_scales(&self) -> Vec<f64> {
        mean_length_scales(self.regressors.iter())
    }
}

/// Log expected hypervolume improvement while other trials are running: every sample has values of
/// the running trials, which count as part of its front when their sampled constraints hold, and a
/// value of the candidate given them. A candidate counts as far as its sampled constraints hold.
#[derive(Debug)]
pub struct QLogEhvi {
    objectives: Vec<Conditional>,
    constraints: Vec<(Conditional, f64)>,
    /// The boxes of every sample's front.
    fronts: Vec<Boxes>,
}

impl QLogEhvi {
    /// An acquisition over the feasible standardised `values` and the running trials of the
    /// conditional processes. `constraints` have the values that they must reach.
    ///
    /// # Panics
    /// Without a value.
    pub fn new(
        objectives: Vec<Conditional>,
        constraints: Vec<(Conditional, f64)>,
        values: &[Vec<f64>],
    ) -> Self {
        let losses = to_losses(values);
        let reference = reference_point(&losses);
        let mut fronts: Vec<Boxes> = (0..objectives[0].n_samples())
            .map(|s| {
                let mut front = losses.clone();
                for r in 0..objectives[0].n_running() {
                    let feasible = |(c, limit): &(Conditional, f64)| c.fantasy(s, r) >= *limit;
                    if constraints.iter().all(feasible) {
                        front.push(objectives.iter().map(|o| -o.fantasy(s, r)).collect());
                    }
                }
                Boxes::new(&front, &reference)
            })
            .collect();
        // With as many boxes each, all samples count alike where a candidate improves none of them.
        let n_boxes = fronts.iter().map(|f| f.0.len()).max().unwrap_or(0);
        let nothing = (vec![0.0; reference.len()], vec![EPS; reference.len()]);
        for front in &mut fronts {
            front.0.resize(n_boxes, nothing.clone());
        }
        Self {
            objectives,
            constraints,
            fronts,
        }
    }

    fn evaluate(&self, x: &[f64], gradient: Option<&mut [f64]>) -> f64 {
        let with_gradient = gradient.is_some();
        let objectives: Vec<_> = self
            .objectives
            .iter()
            .map(|o| o.at(x, with_gradient))
            .collect();
        let constraints: Vec<_> = self
            .constraints
            .iter()
            .map(|(c, limit)| (c.at(x, with_gradient), *limit))
            .collect();
        let m = objectives.len();
        let mut logs = Vec::with_capacity(self.fronts.len());
        // Derivatives of every sample's utility by the values of its objectives and constraints.
        let mut slopes = Vec::with_capacity(self.fronts.len());
        let mut y = vec![0.0; m];
        for (s, front) in self.fronts.iter().enumerate() {
            for (y, objective) in y.iter_mut().zip(&objectives) {
                *y = objective.sample(s);
            }
            let mut by_value = vec![0.0; m];
            let volume = front.improvement(&y, with_gradient.then_some(&mut by_value[..]));
            by_value.iter_mut().for_each(|slope| *slope /= volume);
            let mut log = volume.ln();
            for (constraint, limit) in &constraints {
                let (value, slope) = log_sigmoid((constraint.sample(s) - limit) / TAU);
                log += value;
                by_value.push(slope / TAU);
            }
            logs.push(log);
            slopes.push(by_value);
        }
        let total = log_sum_exp(&logs);
        if let Some(gradient) = gradient {
            gradient.fill(0.0);
            let candidates = || {
                let constraints = constraints.iter().map(|(c, _)| c);
                objectives.iter().chain(constraints)
            };
            for (s, by_value) in slopes.iter().enumerate() {
                let weight = (logs[s] - total).exp();
                for (candidate, slope) in candidates().zip(by_value) {
                    candidate.add_gradient(s, weight * slope, gradient);
                }
            }
        }
        total - (logs.len() as f64).ln()
    }
}

impl Acquisition for QLogEhvi {
    fn value(&self, x: &[f64]) -> f64 {
        self.evaluate(x, None)
    }

    fn value_and_gradient(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
        self.evaluate(x, Some(gradient))
    }

    fn length_scales(&self) -> Vec<f64> {
        mean_length_scales(self.objectives.iter().map(Conditional::regressor))
    }
}
