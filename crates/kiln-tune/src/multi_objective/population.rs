//! Crowding distance and the survivors of NSGA-II.

use super::{compare, non_domination_rank, to_losses};

/// Crowding distance of every row of objective values (Deb et al., 2002).
///
/// Per objective the rows are sorted by value and each receives the gap between its two neighbours,
/// divided by the range of the finite values; the ends have neighbours at infinity. A constant
/// objective adds nothing, and the gap between two equal neighbours is 0 even when they are infinite.
pub fn crowding_distance(values: &[Vec<f64>]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    distances(values, &mut order)
}

/// Computes distances by row index and leaves `order` sorted by the last objective that was seen:
/// ties of the crowding distance are broken by that order.
fn distances(values: &[Vec<f64>], order: &mut [usize]) -> Vec<f64> {
    let mut distance = vec![0.0; values.len()];
    let Some(&first) = order.first() else {
        return distance;
    };
    let n_objectives = values[first].len();
    for objective in 0..n_objectives {
        let column: Vec<f64> = values.iter().map(|row| row[objective]).collect();
        let value = |i: usize| column[i];
        order.sort_by(|&a, &b| compare(value(a), value(b)));
        let (low, high) = (value(order[0]), value(order[order.len() - 1]));
        if low == high {
            continue;
        }
        let smallest = order
            .iter()
            .map(|&i| value(i))
            .find(|&v| v != f64::NEG_INFINITY);
        let largest = order
            .iter()
            .rev()
            .map(|&i| value(i))
            .find(|&v| v != f64::INFINITY);
        let width = largest.unwrap_or(f64::NEG_INFINITY) - smallest.unwrap_or(f64::INFINITY);
        let width = if width <= 0.0 { 1.0 } else { width };
        for (j, &i) in order.iter().enumerate() {
            let before = j
                .checked_sub(1)
                .map_or(f64::NEG_INFINITY, |k| value(order[k]));
            let after = order.get(j + 1).map_or(f64::INFINITY, |&k| value(k));
            let gap = if before == after { 0.0 } else { after - before };
            distance[i] += gap / width;
        }
    }
    distance
}

/// Rows grouped by non-domination rank, best rank first, in the given order inside a rank.
pub(crate) fn rows_by_rank(
    values: &[Vec<f64>],
    maximize: &[bool],
    penalty: Option<&[f64]>,
) -> Vec<Vec<usize>> {
    let ranks = non_domination_rank(&to_losses(values, maximize), penalty, None);
    let n_ranks = ranks.iter().max().map_or(0, |r| r + 1);
    let mut groups = vec![Vec::new(); n_ranks];
    for (i, rank) in ranks.into_iter().enumerate() {
        groups[rank].push(i);
    }
    groups
}

/// Indices of the `size` rows that survive in NSGA-II, best first.
///
/// Whole ranks are taken while they fit with room to spare; the next rank is sorted by decreasing
/// crowding distance and cut. `values` are raw objective values (not losses), `penalty` the total
/// constraint violations when the study is constrained.
pub fn elite_population(
    values: &[Vec<f64>],
    maximize: &[bool],
    penalty: Option<&[f64]>,
    size: usize,
) -> Vec<usize> {
    let mut elite = Vec::with_capacity(size);
    for mut rank in rows_by_rank(values, maximize, penalty) {
        if elite.len() + rank.len() < size {
            elite.extend(rank);
            continue;
        }
        let distance = distances(values, &mut rank);
        rank.sort_by(|&a, &b| compare(distance[a], distance[b]));
        rank.reverse();
        let room = size - elite.len();
        elite.extend(rank.into_iter().take(room));
        break;
    }
    elite
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_infinitely_far_and_a_constant_objective_adds_nothing() {
        let values = [[0.0, 5.0], [1.0, 5.0], [4.0, 5.0]].map(Vec::from);
        let distance = crowding_distance(&values);
        assert_eq!(distance, [f64::INFINITY, 1.0, f64::INFINITY]);
    }

    #[test]
    fn a_population_smaller_than_the_elite_survives_whole() {
        let values = [[0.0, 1.0], [1.0, 0.0]].map(Vec::from);
        assert_eq!(elite_population(&values, &[false; 2], None, 5), [0, 1]);
        assert!(elite_population(&[], &[false; 2], None, 5).is_empty());
    }
}
