//! Mathematics of several objectives: domination, ranks, crowding, hypervolume, subset selection.
//!
//! Every function here works on plain rows of numbers. *Losses* are objective values in which every
//! maximised objective has been negated, so that smaller is better everywhere; [`to_losses`] makes
//! them. Values may be infinite but never NaN (a study refuses NaN).
//!
//! ```
//! use kiln_tune::multi_objective::{is_pareto_front, non_domination_rank};
//!
//! let losses = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]].map(Vec::from);
//! assert_eq!(is_pareto_front(&losses), [true, true, false, true]);
//! assert_eq!(non_domination_rank(&losses, None, None), [0, 0, 1, 0]);
//! ```

mod box_decomposition;
mod hypervolume;
pub mod nsga3;
mod population;
mod subset_selection;
mod trials;

pub use box_decomposition::{NonDominatedBoxes, non_dominated_boxes};
pub use hypervolume::{HypervolumeError, hypervolume};
pub(crate) use population::rows_by_rank;
pub use population::{crowding_distance, elite_population};
pub use subset_selection::{reference_point, select_best, select_subset};
pub(crate) use trials::{losses_of_trial, pareto_front_trials};

use std::cmp::Ordering;

/// Negates the values of every maximised objective, so that smaller is better in all columns.
///
/// `maximize` holds one flag per objective; rows are `(n_points, n_objectives)`.
pub fn to_losses(values: &[Vec<f64>], maximize: &[bool]) -> Vec<Vec<f64>> {
    values
        .iter()
        .map(|row| {
            row.iter()
                .zip(maximize)
                .map(|(&v, &max)| if max { -v } else { v })
                .collect()
        })
        .collect()
}

/// Whether `a` dominates `b`: no loss is larger, and at least one is smaller.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a != b && a.iter().zip(b).all(|(x, y)| x <= y)
}

/// Marks the non-dominated rows. All duplicates of a non-dominated row are marked.
pub fn is_pareto_front(losses: &[Vec<f64>]) -> Vec<bool> {
    if losses.is_empty() {
        return Vec::new();
    }
    let unique = UniqueRows::new(losses);
    let rows = unique.rows(losses);
    let on_front = pareto_front_of_sorted(&rows);
    unique.inverse.iter().map(|&u| on_front[u]).collect()
}

/// Non-domination rank of every row, 0 for the best (Deb et al., *A Fast and Elitist Multiobjective
/// Genetic Algorithm: NSGA-II*, 2002).
///
/// `penalty` is the total constraint violation of every row: rows with a penalty of 0 or less are
/// ranked first, the others follow by increasing penalty, equal penalties sharing a rank.
///
/// `n_below` stops the peeling as soon as that many distinct rows are ranked; all the others then
/// share the next rank. `None` ranks everything.
///
/// # Panics
///
/// When `penalty` has another length than `losses`.
pub fn non_domination_rank(
    losses: &[Vec<f64>],
    penalty: Option<&[f64]>,
    n_below: Option<usize>,
) -> Vec<usize> {
    let n_below = n_below.filter(|&n| n > 0).unwrap_or(losses.len());
    let Some(penalty) = penalty else {
        return peel(losses, n_below);
    };
    assert_eq!(
        penalty.len(),
        losses.len(),
        "one penalty per row is required"
    );
    let (feasible, infeasible): (Vec<usize>, Vec<usize>) =
        (0..losses.len()).partition(|&i| penalty[i] <= 0.0);
    let mut ranks = vec![0; losses.len()];
    let rows: Vec<Vec<f64>> = feasible.iter().map(|&i| losses[i].clone()).collect();
    let feasible_ranks = peel(&rows, n_below);
    let first_infeasible = feasible_ranks.iter().max().map_or(0, |r| r + 1);
    for (&i, rank) in feasible.iter().zip(feasible_ranks) {
        ranks[i] = rank;
    }
    let rows: Vec<Vec<f64>> = infeasible.iter().map(|&i| vec![penalty[i]]).collect();
    let n_below = n_below.saturating_sub(feasible.len());
    for (&i, rank) in infeasible.iter().zip(peel(&rows, n_below)) {
        ranks[i] = first_infeasible + rank;
    }
    ranks
}

fn peel(losses: &[Vec<f64>], n_below: usize) -> Vec<usize> {
    if losses.is_empty() || n_below == 0 {
        return vec![0; losses.len()];
    }
    let unique = UniqueRows::new(losses);
    if losses[0].len() == 1 {
        return unique.inverse;
    }
    let mut rows = unique.rows(losses);
    let mut indices: Vec<usize> = (0..rows.len()).collect();
    let n_unique = rows.len();
    let n_below = n_below.min(n_unique);
    let mut ranks = vec![0; n_unique];
    let mut rank = 0;
    while n_unique - indices.len() < n_below {
        let on_front = pareto_front_of_sorted(&rows);
        for (&i, &front) in indices.iter().zip(&on_front) {
            if front {
                ranks[i] = rank;
            }
        }
        let mut keep = on_front.iter().map(|front| !front);
        rows.retain(|_| keep.next().unwrap_or(false));
        let mut keep = on_front.iter().map(|front| !front);
        indices.retain(|_| keep.next().unwrap_or(false));
        rank += 1;
    }
    for &i in &indices {
        ranks[i] = rank;
    }
    unique.inverse.iter().map(|&u| ranks[u]).collect()
}

/// The Pareto front of rows in lexicographic order. Of equal rows only the first is marked.
///
/// Rows that are sorted by their first column only are allowed: then a mark may be missing its
/// reason, but no unmarked row is ever on the front.
pub(crate) fn pareto_front_of_sorted(rows: &[&[f64]]) -> Vec<bool> {
    let mut on_front = vec![false; rows.len()];
    let Some(first) = rows.first() else {
        return on_front;
    };
    match first.len() {
        1 => on_front[0] = true,
        2 => {
            on_front[0] = true;
            let mut best = first[1];
            for (row, front) in rows.iter().zip(&mut on_front).skip(1) {
                if row[1] < best {
                    *front = true;
                    best = row[1];
                }
            }
        }
        _ => {
            // A later row cannot dominate an earlier one, so the first remaining row is always on
            // the front, and its first column needs no comparison.
            let mut remaining: Vec<usize> = (0..rows.len()).collect();
            while let Some(&top) = remaining.first() {
                on_front[top] = true;
                remaining.retain(|&i| rows[i][1..].iter().zip(&rows[top][1..]).any(|(a, b)| a < b));
            }
        }
    }
    on_front
}

/// The distinct rows of a matrix in lexicographic order.
pub(crate) struct UniqueRows {
    /// Index of the first occurrence of every distinct row, in lexicographic order of the rows.
    pub first_index: Vec<usize>,
    /// For every row, its position in `first_index`.
    pub inverse: Vec<usize>,
}

impl UniqueRows {
    pub fn new(rows: &[Vec<f64>]) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|&a, &b| compare_rows(&rows[a], &rows[b]));
        let mut first_index = Vec::new();
        let mut inverse = vec![0; rows.len()];
        for &i in &order {
            if first_index
                .last()
                .is_none_or(|&last: &usize| compare_rows(&rows[last], &rows[i]) != Ordering::Equal)
            {
                first_index.push(i);
            }
            inverse[i] = first_index.len() - 1;
        }
        Self {
            first_index,
            inverse,
        }
    }

    pub fn rows<'a>(&self, rows: &'a [Vec<f64>]) -> Vec<&'a [f64]> {
        self.first_index
            .iter()
            .map(|&i| rows[i].as_slice())
            .collect()
    }
}

pub(crate) fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn compare_rows(a: &[f64], b: &[f64]) -> Ordering {
    a.iter()
        .zip(b)
        .map(|(&x, &y)| compare(x, y))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Index of the first maximum; a NaN counts as the maximum.
pub(crate) fn argmax(values: &[f64]) -> usize {
    let mut best = 0;
    for (i, &v) in values.iter().enumerate() {
        if values[best].is_nan() {
            break;
        }
        if v.is_nan() || v > values[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infeasible_rows_rank_after_feasible_ones_by_violation() {
        let losses = vec![vec![3.0, 3.0], vec![0.0, 0.0], vec![1.0, 1.0], vec![0.0; 2]];
        let penalty = [0.0, 2.0, 0.0, 1.0];
        assert_eq!(
            non_domination_rank(&losses, Some(&penalty), None),
            [1, 3, 0, 2]
        );
    }

    #[test]
    fn a_single_objective_is_ranked_by_distinct_values() {
        let losses = [3.0, 1.0, 3.0, f64::INFINITY].map(|v| vec![v]);
        assert_eq!(non_domination_rank(&losses, None, None), [1, 0, 1, 2]);
    }

    #[test]
    fn empty_input_gives_empty_output() {
        assert!(is_pareto_front(&[]).is_empty());
        assert!(non_domination_rank(&[], None, Some(3)).is_empty());
        assert!(non_domination_rank(&[], Some(&[]), None).is_empty());
    }

    #[test]
    fn argmax_takes_the_first_of_equal_values() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[f64::NEG_INFINITY, f64::NEG_INFINITY]), 0);
    }
}
