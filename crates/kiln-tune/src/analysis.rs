//! Summaries of finished studies: the empirical distribution function and the hypervolume history.

use crate::multi_objective::hypervolume;

/// Number of points at which [`empirical_distribution`] evaluates its curves.
const N_POINTS: usize = 100;

/// Empirical distribution functions of several studies over common x values.
#[derive(Debug, Clone, PartialEq)]
pub struct EmpiricalDistribution {
    /// 100 equally spaced values from the smallest to the largest value of all studies; empty when
    /// no study has a finite value.
    pub x: Vec<f64>,
    /// Per study, the share of its values that are at most each x. A study without values has NaN.
    pub y: Vec<Vec<f64>>,
}

/// Computes the share of objective values at or below each x, one curve per study.
///
/// `values` holds the objective values of every study's complete trials; non-finite ones are left out.
///
/// ```
/// let edf = kiln_tune::analysis::empirical_distribution(&[vec![0.0, 1.0, f64::INFINITY]]);
/// assert_eq!((edf.x[0], edf.x[99]), (0.0, 1.0));
/// assert_eq!((edf.y[0][0], edf.y[0][99]), (0.5, 1.0));
/// ```
pub fn empirical_distribution(values: &[Vec<f64>]) -> EmpiricalDistribution {
    let finite: Vec<Vec<f64>> = values
        .iter()
        .map(|study| study.iter().copied().filter(|v| v.is_finite()).collect())
        .collect();
    let all = || finite.iter().flatten().copied();
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return EmpiricalDistribution {
            x: Vec::new(),
            y: vec![Vec::new(); values.len()],
        };
    }
    let last = (N_POINTS - 1) as f64;
    let step = (high - low) / last;
    let mut x: Vec<f64> = (0..N_POINTS)
        .map(|i| {
            if step.is_finite() {
                low + i as f64 * step
            } else {
                // The difference of the largest floats overflows.
                low * (1.0 - i as f64 / last) + high * (i as f64 / last)
            }
        })
        .collect();
    x[N_POINTS - 1] = high;
    let y = finite
        .iter()
        .map(|study| {
            x.iter()
                .map(|limit| {
                    let at_most = study.iter().filter(|v| *v <= limit).count();
                    at_most as f64 / study.len() as f64
                })
                .collect()
        })
        .collect();
    EmpiricalDistribution { x, y }
}

/// Hypervolume of the feasible Pareto front after each complete trial.
///
/// `trials` gives, in the order of their numbers, the objective values of the complete trials and
/// whether each is feasible; `maximize` one flag per objective; `reference` the reference point in the
/// user's signs. Infeasible trials and those beyond the reference repeat the last hypervolume.
///
/// ```
/// use kiln_tune::analysis::hypervolume_history;
///
/// let trials = [(vec![1.0, 1.0], true), (vec![0.0, 0.0], false), (vec![9.0, 0.0], true)];
/// assert_eq!(hypervolume_history(&trials, &[false, false], &[2.0, 2.0]), [1.0, 1.0, 1.0]);
/// ```
pub fn hypervolume_history(
    trials: &[(Vec<f64>, bool)],
    maximize: &[bool],
    reference: &[f64],
) -> Vec<f64> {
    let to_loss = |row: &[f64]| -> Vec<f64> {
        row.iter()
            .zip(maximize)
            .map(|(&v, &max)| if max { -v } else { v })
            .collect()
    };
    let reference = to_loss(reference);
    let mut front: Vec<Vec<f64>> = Vec::new();
    let mut volume = 0.0f64;
    let mut history = Vec::with_capacity(trials.len());
    for (values, feasible) in trials {
        let point = to_loss(values);
        let covered = |p: &Vec<f64>| p.iter().zip(&point).all(|(a, b)| a <= b);
        let within = point.iter().zip(&reference).all(|(v, r)| v <= r);
        if *feasible && within && !front.iter().any(covered) {
            let own: f64 = point.iter().zip(&reference).map(|(v, r)| r - v).product();
            let shared: Vec<Vec<f64>> = front
                .iter()
                .map(|p| p.iter().zip(&point).map(|(a, b)| a.max(*b)).collect())
                .collect();
            // Every shared row is within the reference, because both of its parents are.
            let shared = hypervolume(&shared, &reference).unwrap_or(f64::INFINITY);
            let sum = volume + own - shared;
            // Infinity minus infinity gives NaN, but a volume never falls.
            volume = if sum.is_finite() { sum } else { f64::INFINITY };
            front.retain(|p| p.iter().zip(&point).any(|(a, b)| a < b));
            front.push(point);
        }
        history.push(volume);
    }
    history
}
