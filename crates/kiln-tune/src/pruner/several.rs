//! How a report of several objectives is judged.

use crate::direction::StudyDirection;
use crate::multi_objective::select_best;
use crate::transform::unit_of;

/// Whether a report is among the best `n_best` of itself and of those of others. None of them holds NaN, and all have
/// one value per direction.
///
/// Whole non-domination ranks are taken while they fit. Of the next one those are taken one after the other which add most
/// hypervolume to those taken of it. For that, each objective is scaled to 0 for the best and 1 for the worst report, so
/// that neither units nor an offset count; the reference point is 1.1 times the worst of the rank. Equal reports are as good
/// as each other.
pub(super) fn is_among_best(
    own: &[f64],
    others: &[Vec<f64>],
    n_best: usize,
    directions: &[StudyDirection],
) -> bool {
    let mut losses: Vec<Vec<f64>> = others
        .iter()
        .map(Vec::as_slice)
        .chain([own])
        .map(|values| {
            let both = values.iter().zip(directions);
            both.map(|(value, direction)| direction.loss(*value))
                .collect()
        })
        .collect();
    for objective in 0..directions.len() {
        scale(&mut losses, objective);
    }
    let own = losses[others.len()].clone();
    select_best(&losses, n_best)
        .into_iter()
        .any(|i| losses[i] == own)
}

/// Scales the finite losses of an objective to [0, 1].
fn scale(losses: &mut [Vec<f64>], objective: usize) {
    let finite = || {
        let losses = losses.iter().map(|row| row[objective]);
        losses.filter(|loss| loss.is_finite())
    };
    let (Some(low), Some(high)) = (finite().reduce(f64::min), finite().reduce(f64::max)) else {
        return;
    };
    let unit = unit_of(low, high);
    let span = high * unit - low * unit;
    for row in losses {
        let loss = &mut row[objective];
        if loss.is_finite() {
            let above = *loss * unit - low * unit;
            *loss = if span > 0.0 { above / span } else { 0.0 };
        }
    }
}

/// Whether a stored report can be compared.
pub(super) fn is_comparable(values: &[f64], directions: &[StudyDirection]) -> bool {
    values.len() == directions.len() && values.iter().all(|value| !value.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use StudyDirection::{Maximize, Minimize};

    #[test]
    fn ranks_count_before_hypervolume_and_hypervolume_within_a_rank() {
        // Rank 0 of (loss, accuracy): the first three; rank 1: the fourth.
        let rows = [[1.0, 0.1], [2.0, 0.8], [3.0, 0.9], [3.5, 0.5]].map(Vec::from);
        let directions = [Minimize, Maximize];
        let among = |own: usize, n_best: usize| {
            let others: Vec<Vec<f64>> = (0..4)
                .filter(|i| *i != own)
                .map(|i| rows[i].clone())
                .collect();
            is_among_best(&rows[own], &others, n_best, &directions)
        };
        for n_best in 1..=4 {
            let best: Vec<usize> = (0..4).filter(|own| among(*own, n_best)).collect();
            assert_eq!(best.len(), n_best, "{best:?}");
            assert_eq!(best.contains(&3), n_best == 4);
        }
        // Scaled, rank 0 is (0, 1), (0.4, 0.125), (0.8, 0); the reference point is (0.88, 1.1). The first spans 0.88 * 0.1, the
        // second 0.48 * 0.975, the third 0.08 * 1.1, of which 0.08 * 0.125 and 0.4 * 0.1 are left beside the second.
        assert!(among(1, 1));
        assert!(among(0, 2));
    }

    #[test]
    fn neither_units_nor_an_offset_of_an_objective_count() {
        let rows: Vec<Vec<f64>> = (0..12)
            .map(|i| f64::from(i * 7 % 12))
            .map(|x| vec![x, (11.0 - x).powi(2)])
            .collect();
        let best = |stretch: f64, offset: f64| -> Vec<usize> {
            let rows: Vec<Vec<f64>> = rows
                .iter()
                .map(|row| vec![row[0] * stretch + offset, row[1]])
                .collect();
            let among = |own: &usize| {
                let mut others = rows.clone();
                let own = others.remove(*own);
                is_among_best(&own, &others, 4, &[Minimize; 2])
            };
            (0..12).filter(among).collect()
        };
        assert_eq!(best(1.0, 0.0).len(), 4);
        assert_eq!(best(1.0, 0.0), best(1024.0, 0.0));
        assert_eq!(best(1.0, 0.0), best(1.0, 4096.0));
        assert_eq!(best(1.0, 0.0), best(2f64.powi(1000), -2f64.powi(1003)));
    }

    #[test]
    fn equal_reports_are_as_good_as_each_other() {
        let others = vec![vec![1.0, 1.0], vec![2.0, 2.0]];
        assert!(is_among_best(&[1.0, 1.0], &others, 1, &[Minimize; 2]));
        assert!(!is_among_best(&[2.0, 2.0], &others, 1, &[Minimize; 2]));
    }

    #[test]
    fn infinite_values_are_ranked() {
        let others = vec![vec![1.0, f64::INFINITY], vec![f64::INFINITY, 1.0]];
        assert!(is_among_best(&[0.0, 0.0], &others, 1, &[Minimize; 2]));
        let worst = [f64::INFINITY, f64::INFINITY];
        assert!(!is_among_best(&worst, &others, 2, &[Minimize; 2]));
    }
}
