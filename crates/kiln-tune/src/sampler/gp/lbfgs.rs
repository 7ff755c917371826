//! A small limited-memory BFGS for smooth functions in a box.

use std::collections::VecDeque;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Stop when no component of the projected gradient is larger.
    pub gradient_tolerance: f64,
    /// Stop when a step lowers the value by less than this share of it.
    pub value_tolerance: f64,
    /// Largest number of steps.
    pub max_iterations: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gradient_tolerance: 1e-5,
            value_tolerance: 1e7 * f64::EPSILON,
            max_iterations: 15_000,
        }
    }
}

/// Where the minimisation ended.
#[derive(Debug, Clone)]
pub struct Minimum {
    /// The best point.
    pub x: Vec<f64>,
    /// Its value.
    pub value: f64,
}

const MEMORY: usize = 10;
const MAX_LINE_SEARCH: usize = 25;
const ARMIJO: f64 = 1e-4;
const CURVATURE: f64 = 0.9;

/// Minimises `f`, which returns the value at a point and writes the gradient.
///
/// Steps are quasi-Newton steps in the coordinates that no bound holds, searched along the path
/// projected onto the box (D. Bertsekas, *Projected Newton Methods for Optimization Problems with
/// Simple Constraints*, 1982) for a weak Wolfe point. A value of infinity or NaN shortens the step.
/// Returns `None` when the value at the start is not finite.
pub fn minimize(
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
    start: &[f64],
    bounds: Option<&[(f64, f64)]>,
    options: Options,
) -> Option<Minimum> {
    let n = start.len();
    let project = |x: &mut [f64]| {
        for (v, &(low, high)) in x.iter_mut().zip(bounds.unwrap_or(&[])) {
            *v = v.clamp(low, high);
        }
    };
    let mut x = start.to_vec();
    project(&mut x);
    let mut gradient = vec![0.0; n];
    let mut value = f(&x, &mut gradient);
    if !value.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
        return None;
    }
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    for _ in 0..options.max_iterations {
        if projected_gradient(&x, &gradient, bounds) <= options.gradient_tolerance {
            break;
        }
        let held = |i: usize| {
            bounds.is_some_and(|b| {
                (x[i] <= b[i].0 && gradient[i] > 0.0) || (x[i] >= b[i].1 && gradient[i] < 0.0)
            })
        };
        let free: Vec<bool> = (0..n).map(|i| !held(i)).collect();
        let mut direction = quasi_newton(&memory, &gradient, &free);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 || !slope.is_finite() {
            memory.clear();
            direction = (0..n)
                .map(|i| if free[i] { -gradient[i] } else { 0.0 })
                .collect();
            slope = dot(&direction, &gradient);
        }
        let first = if memory.is_empty() {
            (1.0 / dot(&direction, &direction).sqrt()).min(1.0)
        } else {
            1.0
        };
        let Some((new_x, new_value, new_gradient)) = line_search(
            &mut f, &project, &x, value, &gradient, &direction, slope, first,
        ) else {
            if memory.is_empty() {
                break;
            }
            // The curvature information misled the step: start afresh from steepest descent.
            memory.clear();
            continue;
        };
        let s: Vec<f64> = new_x.iter().zip(&x).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = new_gradient
            .iter()
            .zip(&gradient)
            .map(|(a, b)| a - b)
            .collect();
        let (sy, yy) = (dot(&s, &y), dot(&y, &y));
        if sy > f64::EPSILON * yy {
            memory.push_back((s, y, 1.0 / sy));
            if memory.len() > MEMORY {
                memory.pop_front();
            }
        }
        let gain = value - new_value;
        let scale = value.abs().max(new_value.abs()).max(1.0);
        (x, value, gradient) = (new_x, new_value, new_gradient);
        if gain <= options.value_tolerance * scale {
            break;
        }
    }
    Some(Minimum { x, value })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn projected_gradient(x: &[f64], gradient: &[f64], bounds: Option<&[(f64, f64)]>) -> f64 {
    x.iter()
        .zip(gradient)
        .enumerate()
        .map(|(i, (x, g))| match bounds {
            Some(b) => ((x - g).clamp(b[i].0, b[i].1) - x).abs(),
            None => g.abs(),
        })
        .fold(0.0, f64::max)
}

/// The two-loop recursion, restricted to the free coordinates.
fn quasi_newton(
    memory: &VecDeque<(Vec<f64>, Vec<f64>, f64)>,
    gradient: &[f64],
    free: &[bool],
) -> Vec<f64> {
    let mask = |v: &mut [f64]| {
        for (v, free) in v.iter_mut().zip(free) {
            if !free {
                *v = 0.0;
            }
        }
    };
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    mask(&mut q);
    let mut alphas = Vec::with_capacity(memory.len());
    for (s, y, rho) in memory.iter().rev() {
        let alpha = rho * dot(s, &q);
        for (q, y) in q.iter_mut().zip(y) {
            *q -= alpha * y;
        }
        alphas.push(alpha);
    }
    if let Some((_, y, rho)) = memory.back() {
        let scale = 1.0 / (rho * dot(y, y));
        for q in &mut q {
            *q *= scale;
        }
    }
    for ((s, y, rho), alpha) in memory.iter().zip(alphas.into_iter().rev()) {
        let beta = rho * dot(y, &q);
        for (q, s) in q.iter_mut().zip(s) {
            *q += (alpha - beta) * s;
        }
    }
    mask(&mut q);
    q
}

type Point = (Vec<f64>, f64, Vec<f64>);

/// Bisection for the weak Wolfe conditions along the projected path; the best point that decreases
/// enough counts when the curvature condition is not met in time.
#[allow(clippy::too_many_arguments)]
fn line_search(
    f: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
    project: &impl Fn(&mut [f64]),
    x: &[f64],
    value: f64,
    gradient: &[f64],
    direction: &[f64],
    slope: f64,
    first: f64,
) -> Option<Point> {
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut step = first;
    let mut best: Option<Point> = None;
    for _ in 0..MAX_LINE_SEARCH {
        let mut new_x: Vec<f64> = x.iter().zip(direction).map(|(x, d)| x + step * d).collect();
        project(&mut new_x);
        let moved: Vec<f64> = new_x.iter().zip(x).map(|(a, b)| a - b).collect();
        let mut new_gradient = vec![0.0; x.len()];
        let new_value = f(&new_x, &mut new_gradient);
        let finite = new_value.is_finite() && new_gradient.iter().all(|g| g.is_finite());
        if !finite || new_value > value + ARMIJO * dot(gradient, &moved) {
            high = step;
            step = if finite && low == 0.0 {
                // Minimum of the parabola through value, slope and the new value.
                let parabola = -slope * step * step / (2.0 * (new_value - value - slope * step));
                parabola.clamp(0.1 * step, 0.5 * step)
            } else {
                0.5 * (low + high)
            };
        } else {
            let still_free: f64 = direction
                .iter()
                .zip(&new_gradient)
                .zip(&moved)
                .filter(|((d, _), moved)| {
                    **d != 0.0 && (**moved - step * **d).abs() <= 1e-12 * (step * **d).abs()
                })
                .map(|((d, g), _)| d * g)
                .sum();
            let improves = best.as_ref().is_none_or(|b| new_value < b.1);
            if improves {
                best = Some((new_x, new_value, new_gradient));
            }
            if still_free >= CURVATURE * slope {
                break;
            }
            low = step;
            step = if high.is_finite() {
                0.5 * (low + high)
            } else {
                2.0 * step
            };
        }
        if high - low <= 1e-16 * high {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rosenbrock(x: &[f64], g: &mut [f64]) -> f64 {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        g[0] = -2.0 * a - 400.0 * x[0] * b;
        g[1] = 200.0 * b;
        a * a + 100.0 * b * b
    }

    #[test]
    fn finds_the_minimum_of_a_curved_valley() {
        let minimum = minimize(rosenbrock, &[-1.2, 1.0], None, Options::default()).unwrap();
        assert!(minimum.value < 1e-8, "{minimum:?}");
    }

    #[test]
    fn stops_on_the_bounds_that_hold_it() {
        let bounds = [(-2.0, 0.5), (-2.0, 2.0)];
        let minimum =
            minimize(rosenbrock, &[-1.2, 1.0], Some(&bounds), Options::default()).unwrap();
        assert!(
            (minimum.x[0] - 0.5).abs() < 1e-9 && (minimum.x[1] - 0.25).abs() < 1e-4,
            "{minimum:?}"
        );
    }

    #[test]
    fn walls_of_infinity_shorten_the_step() {
        let f = |x: &[f64], g: &mut [f64]| {
            g[0] = 1.0 - 1.0 / x[0];
            if x[0] <= 0.0 {
                f64::INFINITY
            } else {
                x[0] - x[0].ln()
            }
        };
        let minimum = minimize(f, &[9.0], None, Options::default()).unwrap();
        assert!((minimum.x[0] - 1.0).abs() < 1e-4);
        assert!(minimize(f, &[-1.0], None, Options::default()).is_none());
    }
}
