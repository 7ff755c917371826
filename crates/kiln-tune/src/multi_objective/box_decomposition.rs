//! Splits the region that a Pareto front leaves undominated into disjoint boxes.

use super::{UniqueRows, pareto_front_of_sorted};

/// Disjoint boxes, given by their corners, that cover the losses not dominated by a front and not
/// beyond the reference point. A lower corner may hold negative infinity.
#[derive(Debug, Clone, PartialEq)]
pub struct NonDominatedBoxes {
    /// Smallest losses of every box.
    pub lower: Vec<Vec<f64>>,
    /// Largest losses of every box.
    pub upper: Vec<Vec<f64>>,
}

/// Decomposes the non-dominated region of `losses` below `reference` (Lacour, Klamroth and Fonseca,
/// *A Box Decomposition Algorithm to Compute the Hypervolume Indicator*, 2017; Daulton, Balandat and
/// Bakshy, *Differentiable Expected Hypervolume Improvement*, 2020).
///
/// The number of boxes grows quickly beyond four objectives. Rows that do not dominate the reference
/// must be left out by the caller; no row gives the one box below the reference.
///
/// ```
/// use kiln_tune::multi_objective::non_dominated_boxes;
///
/// let boxes = non_dominated_boxes(&[vec![1.0, 1.0]], &[2.0, 2.0]);
/// assert_eq!(boxes.upper.len(), 2);
/// ```
pub fn non_dominated_boxes(losses: &[Vec<f64>], reference: &[f64]) -> NonDominatedBoxes {
    let front = sorted_front(losses);
    let bounds = upper_bounds(&front, reference);
    // The upper bounds, negated, are themselves a set of points whose upper bounds towards infinity
    // are the (negated) lower corners.
    let negated: Vec<Vec<f64>> = bounds
        .iter()
        .map(|b| b.point.iter().map(|v| -v).collect())
        .collect();
    let infinity = vec![f64::INFINITY; reference.len()];
    let cells = upper_bounds(&sorted_front(&negated), &infinity);
    let mut boxes = NonDominatedBoxes {
        lower: Vec::new(),
        upper: Vec::new(),
    };
    for cell in &cells {
        let (low, high) = cell.box_corners(&infinity);
        if low.iter().zip(&high).any(|(l, h)| h <= l) {
            continue;
        }
        boxes.lower.push(high.iter().map(|v| -v).collect());
        boxes.upper.push(low.iter().map(|v| -v).collect());
    }
    boxes
}

fn sorted_front(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let unique = UniqueRows::new(rows);
    let sorted = unique.rows(rows);
    let on_front = pareto_front_of_sorted(&sorted);
    sorted
        .iter()
        .zip(on_front)
        .filter(|(_, keep)| *keep)
        .map(|(row, _)| row.to_vec())
        .collect()
}

/// A local upper bound with the points that define each of its coordinates.
#[derive(Clone)]
struct UpperBound {
    point: Vec<f64>,
    /// `defining[k]` is the point whose coordinate `k` is `point[k]`.
    defining: Vec<Vec<f64>>,
}

impl UpperBound {
    fn box_corners(&self, reference: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let m = reference.len();
        let mut low = vec![self.defining[0][0]];
        let mut high = vec![reference[0]];
        for j in 1..m {
            let bound = (0..j)
                .map(|k| self.defining[k][j])
                .fold(f64::NEG_INFINITY, f64::max);
            low.push(bound);
            high.push(self.point[j]);
        }
        (low, high)
    }
}

/// Algorithm 2 of Lacour et al. for points sorted by their first coordinate.
fn upper_bounds(sorted: &[Vec<f64>], reference: &[f64]) -> Vec<UpperBound> {
    let m = reference.len();
    let defining = (0..m)
        .map(|k| {
            let mut dummy = vec![f64::NEG_INFINITY; m];
            dummy[k] = reference[k];
            dummy
        })
        .collect();
    let mut bounds = vec![UpperBound {
        point: reference.to_vec(),
        defining,
    }];
    for new in sorted {
        let (hit, mut kept): (Vec<UpperBound>, Vec<UpperBound>) = bounds
            .into_iter()
            .partition(|b| new.iter().zip(&b.point).all(|(v, u)| v < u));
        for bound in hit {
            for j in 0..m {
                // The sort makes the condition hold for the first coordinate.
                let limit = (0..m)
                    .filter(|&k| k != j)
                    .map(|k| bound.defining[k][j])
                    .fold(f64::NEG_INFINITY, f64::max);
                if j == 0 || new[j] >= limit {
                    let mut narrowed = bound.clone();
                    narrowed.point[j] = new[j];
                    narrowed.defining[j] = new.clone();
                    kept.push(narrowed);
                }
            }
        }
        bounds = kept;
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multi_objective::hypervolume;

    #[test]
    fn the_boxes_have_the_volume_that_the_front_leaves() {
        let mut state = 5u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for dim in 2..=4 {
            let losses: Vec<Vec<f64>> = (0..12)
                .map(|_| (0..dim).map(|_| next()).collect())
                .collect();
            let reference = vec![1.1; dim];
            let boxes = non_dominated_boxes(&losses, &reference);
            // Within the cube [-1, 1.1] the boxes and the dominated region together are everything.
            let boxed: f64 = boxes
                .lower
                .iter()
                .zip(&boxes.upper)
                .map(|(low, high)| -> f64 {
                    low.iter().zip(high).map(|(l, h)| h - l.max(-1.0)).product()
                })
                .sum();
            let total = 2.1f64.powi(dim as i32);
            let dominated = hypervolume(&losses, &reference).unwrap();
            assert!((boxed + dominated - total).abs() < 1e-9, "dim {dim}");
        }
    }
}
