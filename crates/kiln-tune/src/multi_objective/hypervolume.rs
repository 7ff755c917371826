//! The exact hypervolume in any dimension.

use super::{UniqueRows, compare, pareto_front_of_sorted};

/// Why a hypervolume cannot be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HypervolumeError {
    /// A point does not dominate or equal the reference point.
    #[error(
        "point {point:?} is beyond the reference point {reference:?} in objective {objective}; \
         every loss must be at most the reference value: leave the point out or move the reference"
    )]
    BeyondReference {
        /// The offending row of losses.
        point: Vec<f64>,
        /// The reference point given.
        reference: Vec<f64>,
        /// Index of the first objective in which the point is worse.
        objective: usize,
    },
    /// A row has another number of objectives than the reference point.
    #[error("point {point:?} has {} values but the reference point has {expected}", point.len())]
    Dimension {
        /// The offending row of losses.
        point: Vec<f64>,
        /// Number of values of the reference point.
        expected: usize,
    },
}

/// Volume of the region that `losses` dominate and that `reference` bounds, for minimisation.
///
/// Rows are points with one loss per objective; dominated and repeated rows change nothing. No row
/// gives 0; a non-finite reference or an infinitely good point gives infinity. Two dimensions take
/// `O(n log n)`, three `O(n²)`, more use the algorithm of While, Bradstreet and Barone, *A Fast Way
/// of Calculating Exact Hypervolumes* (2012).
///
/// # Errors
///
/// [`HypervolumeError`] when a row is worse than the reference in any objective, or when the numbers
/// of objectives differ.
///
/// ```
/// use kiln_tune::multi_objective::hypervolume;
///
/// let volume = hypervolume(&[vec![1.0, 2.0], vec![2.0, 1.0]], &[3.0, 3.0])?;
/// assert_eq!(volume, 3.0);
/// # Ok::<(), kiln_tune::multi_objective::HypervolumeError>(())
/// ```
pub fn hypervolume(losses: &[Vec<f64>], reference: &[f64]) -> Result<f64, HypervolumeError> {
    for row in losses {
        if row.len() != reference.len() {
            return Err(HypervolumeError::Dimension {
                point: row.clone(),
                expected: reference.len(),
            });
        }
        let beyond = |(&v, &r): (&f64, &f64)| compare(v, r).is_gt() || v.is_nan() || r.is_nan();
        if let Some(objective) = row.iter().zip(reference).position(beyond) {
            return Err(HypervolumeError::BeyondReference {
                point: row.clone(),
                reference: reference.to_vec(),
                objective,
            });
        }
    }
    Ok(hypervolume_unchecked(losses, reference))
}

/// The hypervolume of rows already known to be within the reference.
pub(super) fn hypervolume_unchecked(losses: &[Vec<f64>], reference: &[f64]) -> f64 {
    if reference.iter().any(|r| !r.is_finite()) {
        return f64::INFINITY;
    }
    if losses.is_empty() {
        return 0.0;
    }
    let unique = UniqueRows::new(losses);
    let rows = unique.rows(losses);
    let on_front = pareto_front_of_sorted(&rows);
    let front: Vec<&[f64]> = rows
        .iter()
        .zip(on_front)
        .filter_map(|(&row, front)| front.then_some(row))
        .collect();
    let volume = match reference.len() {
        2 => two_dimensional(&front, reference),
        3 => three_dimensional(&front, reference),
        _ => while_fast(&front, reference),
    };
    // Infinity minus infinity gives NaN, but by submodularity the volume is infinite then.
    if volume.is_finite() {
        volume
    } else {
        f64::INFINITY
    }
}

fn two_dimensional(front: &[&[f64]], reference: &[f64]) -> f64 {
    let mut upper = reference[1];
    let mut volume = 0.0;
    for point in front {
        volume += (reference[0] - point[0]) * (upper - point[1]);
        upper = point[1];
    }
    volume
}

/// Sweeps over x and keeps, for every y, the smallest z seen so far.
fn three_dimensional(front: &[&[f64]], reference: &[f64]) -> f64 {
    let n = front.len();
    let mut by_y: Vec<usize> = (0..n).collect();
    by_y.sort_by(|&a, &b| compare(front[a][1], front[b][1]));
    let y_delta: Vec<f64> = (0..n)
        .map(|k| {
            let next = by_y.get(k + 1).map_or(reference[1], |&i| front[i][1]);
            next - front[by_y[k]][1]
        })
        .collect();
    let mut position = vec![0; n];
    for (k, &i) in by_y.iter().enumerate() {
        position[i] = k;
    }
    let mut depth = vec![0.0f64; n];
    let mut volume = 0.0;
    for (i, point) in front.iter().enumerate() {
        let z = reference[2] - point[2];
        for d in &mut depth[position[i]..] {
            *d = d.max(z);
        }
        let next_x = front.get(i + 1).map_or(reference[0], |p| p[0]);
        let width = next_x - point[0];
        if width != 0.0 {
            let area: f64 = depth.iter().zip(&y_delta).map(|(d, y)| d * y).sum();
            volume += area * width;
        }
    }
    volume
}

fn inclusive(point: &[f64], reference: &[f64]) -> f64 {
    point.iter().zip(reference).map(|(v, r)| r - v).product()
}

fn while_fast(points: &[&[f64]], reference: &[f64]) -> f64 {
    match points {
        [] => 0.0,
        [a] => inclusive(a, reference),
        [a, b] => {
            let common: Vec<f64> = a.iter().zip(*b).map(|(x, y)| x.max(*y)).collect();
            inclusive(a, reference) + inclusive(b, reference) - inclusive(&common, reference)
        }
        _ => {
            let last = inclusive(points[points.len() - 1], reference);
            (0..points.len() - 1).fold(last, |sum, i| sum + exclusive(points, i, reference))
        }
    }
}

/// What `points[i]` adds to the points after it.
fn exclusive(points: &[&[f64]], i: usize, reference: &[f64]) -> f64 {
    let limited: Vec<Vec<f64>> = points[i + 1..]
        .iter()
        .map(|p| p.iter().zip(points[i]).map(|(a, b)| a.max(*b)).collect())
        .collect();
    let rows: Vec<&[f64]> = limited.iter().map(Vec::as_slice).collect();
    let own = inclusive(points[i], reference);
    if rows.len() <= 3 {
        return own - while_fast(&rows, reference);
    }
    // The rows are sorted by their first column only, which is enough to discard most dominated
    // and all repeated rows; the others cost time, not correctness.
    let on_front = pareto_front_of_sorted(&rows);
    let front: Vec<&[f64]> = rows
        .iter()
        .zip(on_front)
        .filter_map(|(&row, keep)| keep.then_some(row))
        .collect();
    own - while_fast(&front, reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_beyond_the_reference_is_an_error_that_names_it() {
        let error = hypervolume(&[vec![0.0, 2.0]], &[1.0, 1.0]).unwrap_err();
        assert!(error.to_string().contains("objective 1"), "{error}");
        assert!(hypervolume(&[vec![0.0]], &[1.0, 1.0]).is_err());
    }

    #[test]
    fn infinite_coordinates_give_an_infinite_volume() {
        let inf = f64::INFINITY;
        assert_eq!(hypervolume(&[vec![-inf, 0.0]], &[1.0, 1.0]), Ok(inf));
        assert_eq!(hypervolume(&[vec![0.0, 0.0]], &[1.0, inf]), Ok(inf));
        assert_eq!(hypervolume(&[], &[1.0, 1.0]), Ok(0.0));
    }

    #[test]
    fn every_dimension_agrees_with_a_count_of_dominated_cells() {
        // Integer points in a grid of side 4: the volume is the number of dominated unit cells.
        let mut state = 7u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % 4
        };
        for dim in 1..=5 {
            for n in [1, 2, 3, 8, 15] {
                let points: Vec<Vec<f64>> = (0..n)
                    .map(|_| (0..dim).map(|_| next() as f64).collect())
                    .collect();
                let cells = (0..4usize.pow(dim as u32))
                    .filter(|cell| {
                        let corner = |d: usize| (cell / 4usize.pow(d as u32) % 4) as f64;
                        points.iter().any(|p| (0..dim).all(|d| p[d] <= corner(d)))
                    })
                    .count();
                let volume = hypervolume(&points, &vec![4.0; dim]).unwrap();
                assert!((volume - cells as f64).abs() < 1e-9, "dim {dim}, n {n}");
            }
        }
    }
}
