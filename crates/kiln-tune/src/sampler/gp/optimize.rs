//! Maximises an acquisition function over continuous, discrete and categorical coordinates.

use std::collections::HashMap;

use super::acquisition::Acquisition;
use super::lbfgs;
use super::space::{Axis, GpSpace};
use crate::multi_objective::argmax;
use crate::rng::Rng;
use crate::sampler::qmc::{SequenceError, Sobol};

/// Points at which the acquisition is looked at first.
const N_PRELIMINARY: u64 = 2048;
/// Searches in all.
pub(super) const N_LOCAL_SEARCHES: usize = 10;
const TOLERANCE: f64 = 1e-4;
const MAX_ROUNDS: usize = 100;
/// Grids up to this size are searched exhaustively.
const MAX_EXHAUSTIVE: u64 = 16;

/// The best point found and its value.
///
/// Looks at 2048 scrambled Sobol points and searches from the best of them, from the `warm_starts`
/// and from others drawn by how promising they are, ten starts in all.
pub fn maximize(
    acquisition: &dyn Acquisition,
    space: &GpSpace,
    warm_starts: &[Vec<f64>],
    rng: &mut Rng,
) -> Result<(Vec<f64>, f64), SequenceError> {
    let sobol = Sobol::scrambled(space.axes.len(), u64::from(rng.next_u32()))?;
    let points: Vec<Vec<f64>> = (0..N_PRELIMINARY)
        .map(|i| Ok(space.snap(&sobol.point(i)?)))
        .collect::<Result<_, _>>()?;
    let values: Vec<f64> = points.iter().map(|x| acquisition.value(x)).collect();
    let best = argmax(&values);
    let mut starts = vec![points[best].clone()];
    let mut weights: Vec<f64> = values.iter().map(|v| (v - values[best]).exp()).collect();
    weights[best] = 0.0;
    let room = N_LOCAL_SEARCHES.saturating_sub(warm_starts.len() + 1);
    for _ in 0..room {
        if weights.iter().all(|w| w.is_nan() || *w <= 0.0) {
            break;
        }
        let i = rng.weighted_index(&weights);
        weights[i] = 0.0;
        starts.push(points[i].clone());
    }
    starts.extend(warm_starts.iter().cloned());
    let search = Search::new(acquisition, space);
    let ends: Vec<(Vec<f64>, f64)> = starts.into_iter().map(|x| search.climb(x)).collect();
    let values: Vec<f64> = ends.iter().map(|(_, v)| *v).collect();
    let best = argmax(&values);
    Ok(ends.into_iter().nth(best).unwrap_or_default())
}

struct Search<'a> {
    acquisition: &'a dyn Acquisition,
    continuous: Vec<usize>,
    /// Length scales of the continuous coordinates.
    scales: Vec<f64>,
    /// Discrete coordinates.
    discrete: Vec<(usize, &'a Axis)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Changed {
    Continuous,
    Discrete(usize),
}

impl<'a> Search<'a> {
    fn new(acquisition: &'a dyn Acquisition, space: &'a GpSpace) -> Self {
        let lengths = acquisition.length_scales();
        let continuous: Vec<usize> = (0..space.axes.len())
            .filter(|&j| space.axes[j].is_continuous())
            .collect();
        Self {
            acquisition,
            scales: continuous.iter().map(|&j| lengths[j]).collect(),
            continuous,
            discrete: space
                .axes
                .iter()
                .enumerate()
                .filter(|(_, axis)| !axis.is_continuous())
                .collect(),
        }
    }

    /// Climbs by turns in all continuous coordinates together and in each discrete one, until a
    /// whole round after the last change has changed nothing.
    fn climb(&self, start: Vec<f64>) -> (Vec<f64>, f64) {
        let mut value = self.acquisition.value(&start);
        let mut x = start;
        let mut last = Changed::Continuous;
        for _ in 0..MAX_ROUNDS {
            if self.ascend(&mut x, &mut value) {
                last = Changed::Continuous;
            }
            for &(j, axis) in &self.discrete {
                if last == Changed::Discrete(j) {
                    return (x, value);
                }
                let changed = if axis.is_categorical() || axis.n_values() <= MAX_EXHAUSTIVE {
                    self.exhaust(&mut x, &mut value, j, axis)
                } else {
                    self.line_search(&mut x, &mut value, j, axis)
                };
                if changed {
                    last = Changed::Discrete(j);
                }
            }
            if last == Changed::Continuous {
                return (x, value);
            }
        }
        log::debug!("the search for the best acquisition stopped after {MAX_ROUNDS} rounds");
        (x, value)
    }

    /// Gradient ascent in units of the length scales, which makes the curvature alike in all of them.
    fn ascend(&self, x: &mut [f64], value: &mut f64) -> bool {
        if self.continuous.is_empty() {
            return false;
        }
        let mut full = x.to_vec();
        let mut full_gradient = vec![0.0; x.len()];
        let start: Vec<f64> = self
            .continuous
            .iter()
            .zip(&self.scales)
            .map(|(&j, s)| x[j] / s)
            .collect();
        let bounds: Vec<(f64, f64)> = self.scales.iter().map(|s| (0.0, 1.0 / s)).collect();
        let options = lbfgs::Options {
            gradient_tolerance: TOLERANCE.sqrt(),
            max_iterations: 200,
            ..lbfgs::Options::default()
        };
        let minimum = lbfgs::minimize(
            |z, gradient| {
                for ((&j, s), z) in self.continuous.iter().zip(&self.scales).zip(z) {
                    full[j] = (z * s).clamp(0.0, 1.0);
                }
                let value = self
                    .acquisition
                    .value_and_gradient(&full, &mut full_gradient);
                for ((g, &j), s) in gradient.iter_mut().zip(&self.continuous).zip(&self.scales) {
                    *g = -full_gradient[j] * s;
                }
                -value
            },
            &start,
            Some(&bounds),
            options,
        );
        let Some(minimum) = minimum.filter(|m| -m.value > *value) else {
            return false;
        };
        for ((&j, s), z) in self.continuous.iter().zip(&self.scales).zip(&minimum.x) {
            x[j] = (z * s).clamp(0.0, 1.0);
        }
        *value = -minimum.value;
        true
    }

    fn exhaust(&self, x: &mut [f64], value: &mut f64, j: usize, axis: &Axis) -> bool {
        let before = x[j];
        let mut best = before;
        for candidate in (0..axis.n_values()).map(|i| axis.coordinate(i)) {
            if candidate == before {
                continue;
            }
            x[j] = candidate;
            let v = self.acquisition.value(x);
            if v > *value {
                (*value, best) = (v, candidate);
            }
        }
        x[j] = best;
        best != before
    }

    /// Brent's method on the linear interpolation of the acquisition between grid values.
    fn line_search(&self, x: &mut [f64], value: &mut f64, j: usize, axis: &Axis) -> bool {
        let last = axis.n_values() - 1;
        let grid = |index: u64| axis.coordinate(index);
        // The first value that is not below `v`, or else the last one, but never the first of all.
        let right_of = |v: f64| {
            let (mut below, mut right) = (0, last);
            while right - below > 1 {
                let middle = below + (right - below) / 2;
                if grid(middle) < v {
                    below = middle;
                } else {
                    right = middle;
                }
            }
            right
        };
        let nearest = |v: f64| {
            let right = right_of(v);
            if (v - grid(right - 1)).abs() < (v - grid(right)).abs() {
                right - 1
            } else {
                right
            }
        };
        let current = nearest(x[j]);
        let mut known = HashMap::from([(current, -*value)]);
        let mut point = x.to_vec();
        let mut negative = |i: u64| {
            *known.entry(i).or_insert_with(|| {
                point[j] = grid(i);
                -self.acquisition.value(&point)
            })
        };
        let mut interpolated = |v: f64| {
            if v < grid(0) || v > grid(last) {
                return f64::INFINITY;
            }
            let right = right_of(v);
            let left = right - 1;
            let (low, high) = (negative(left), negative(right));
            let gap = grid(right) - grid(left);
            // Integers beyond 2^53 may have one coordinate.
            let share = if gap > 0.0 {
                (grid(right) - v) / gap
            } else {
                0.0
            };
            share * low + (1.0 - share) * high
        };
        // On a log scale the gaps narrow towards the end, and otherwise they are equal.
        let spacing = (grid(last) - grid(last - 1)).min(grid(1) - grid(0));
        let bracket = (grid(0) - 1e-12, grid(current), grid(last) + 1e-12);
        let end = brent(&mut interpolated, bracket, spacing / 4.0);
        let found = nearest(end);
        let better = -negative(found);
        if found != current && better > *value {
            x[j] = grid(found);
            *value = better;
            return true;
        }
        false
    }
}

/// Brent's method (R. Brent, *Algorithms for Minimization without Derivatives*, 1973) within a
/// bracket whose middle is the best point known.
fn brent(
    f: &mut impl FnMut(f64) -> f64,
    (low, middle, high): (f64, f64, f64),
    tolerance: f64,
) -> f64 {
    const GOLDEN: f64 = 0.381_966;
    let (mut a, mut b) = (low, high);
    let (mut x, mut w, mut v) = (middle, middle, middle);
    let mut fx = f(x);
    let (mut fw, mut fv) = (fx, fx);
    let (mut step, mut before): (f64, f64) = (0.0, 0.0);
    for _ in 0..500 {
        let tol = tolerance * x.abs() + 1e-11;
        let centre = 0.5 * (a + b);
        if (x - centre).abs() < 2.0 * tol - 0.5 * (b - a) {
            break;
        }
        let mut golden = true;
        if before.abs() > tol {
            let r = (x - w) * (fx - fv);
            let q = (x - v) * (fx - fw);
            let mut p = (x - v) * q - (x - w) * r;
            let mut q = 2.0 * (q - r);
            if q > 0.0 {
                p = -p;
            }
            q = q.abs();
            let previous = before;
            before = step;
            if p > q * (a - x) && p < q * (b - x) && p.abs() < (0.5 * q * previous).abs() {
                step = p / q;
                let u = x + step;
                if u - a < 2.0 * tol || b - u < 2.0 * tol {
                    step = if centre >= x { tol } else { -tol };
                }
                golden = false;
            }
        }
        if golden {
            before = if x >= centre { a - x } else { b - x };
            step = GOLDEN * before;
        }
        let u = if step.abs() < tol {
            x + tol.copysign(step)
        } else {
            x + step
        };
        let fu = f(u);
        if fu > fx {
            if u < x {
                a = u;
            } else {
                b = u;
            }
            if fu <= fw || w == x {
                (v, fv, w, fw) = (w, fw, u, fu);
            } else if fu <= fv || v == x || v == w {
                (v, fv) = (u, fu);
            }
        } else {
            if u >= x {
                a = x;
            } else {
                b = x;
            }
            (v, fv, w, fw, x, fx) = (w, fw, x, fx, u, fu);
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brent_finds_the_minimum_of_a_parabola() {
        let x = brent(&mut |x| (x - 0.3) * (x - 0.3), (0.0, 0.5, 1.0), 1e-8);
        assert!((x - 0.3).abs() < 1e-6, "{x}");
    }

    struct Peak;

    impl Acquisition for Peak {
        fn value(&self, x: &[f64]) -> f64 {
            let category = if x[2] == 2.0 { 0.0 } else { -1.0 };
            category - (x[0] - 0.7).powi(2) - (x[1] - 0.33).powi(2)
        }

        fn value_and_gradient(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
            gradient.copy_from_slice(&[-2.0 * (x[0] - 0.7), -2.0 * (x[1] - 0.33), 0.0]);
            self.value(x)
        }

        fn length_scales(&self) -> Vec<f64> {
            vec![0.5, 0.5, 1.0]
        }
    }

    #[test]
    fn a_mixed_peak_is_found() {
        use crate::distribution::{
            CategoricalDistribution, Distribution, FloatDistribution, IntDistribution,
        };
        let space: crate::trial::ParamSpace = [
            (
                "a",
                Distribution::from(FloatDistribution::new(0.0, 1.0).unwrap()),
            ),
            ("b", IntDistribution::new(0, 99).unwrap().into()),
            (
                "c",
                CategoricalDistribution::new(["x", "y", "z"])
                    .unwrap()
                    .into(),
            ),
        ]
        .into_iter()
        .collect();
        let gp = GpSpace::new(&space);
        let (x, _) = maximize(
            &Peak,
            &gp,
            &[vec![0.1, gp.axes[1].coordinate(2), 0.0]],
            &mut Rng::new(Some(1)),
        )
        .unwrap();
        let values = gp.unnormalize(&x);
        assert!((values[0] - 0.7).abs() < 1e-2, "{values:?}");
        assert_eq!(values[1..], [32.0, 2.0]);
    }
}
