//! Reference points, normalisation and association of NSGA-III (Deb and Jain, *An Evolutionary
//! Many-Objective Optimization Algorithm Using Reference-Point-Based Nondominated Sorting Approach,
//! Part I*, 2014).

use nalgebra::{DMatrix, DVector};

/// Factor by which infinite objectives lie beyond the finite range.
const INFINITE_MARGIN: f64 = 3.0;

/// All integer compositions of `dividing_parameter` over `n_objectives`, as rows.
///
/// The rows are directions and are not scaled to sum 1; there are
/// `binomial(n_objectives + dividing_parameter - 1, dividing_parameter)` of them.
///
/// ```
/// let points = kiln_tune::multi_objective::nsga3::reference_points(2, 3);
/// assert_eq!(points, [[3., 0.], [2., 1.], [1., 2.], [0., 3.]].map(Vec::from));
/// ```
pub fn reference_points(n_objectives: usize, dividing_parameter: usize) -> Vec<Vec<f64>> {
    fn extend(prefix: &mut Vec<f64>, left: usize, objectives: usize, out: &mut Vec<Vec<f64>>) {
        if objectives == 1 {
            prefix.push(left as f64);
            out.push(prefix.clone());
            prefix.pop();
            return;
        }
        for take in (0..=left).rev() {
            prefix.push(take as f64);
            extend(prefix, left - take, objectives - 1, out);
            prefix.pop();
        }
    }
    let mut out = Vec::new();
    if n_objectives > 0 {
        extend(&mut Vec::new(), dividing_parameter, n_objectives, &mut out);
    }
    out
}

/// Clips infinite objectives to the finite range of their column widened by three times that range.
///
/// A column without any finite value becomes 0.
pub fn clip_infinities(values: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut clipped = values.to_vec();
    let Some(first) = values.first() else {
        return clipped;
    };
    for j in 0..first.len() {
        let finite = || values.iter().map(|row| row[j]).filter(|v| v.is_finite());
        let low = finite().fold(f64::INFINITY, f64::min);
        let high = finite().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low > high { (0.0, 0.0) } else { (low, high) };
        let margin = INFINITE_MARGIN * (high - low);
        for row in &mut clipped {
            row[j] = row[j].clamp(low - margin, high + margin);
        }
    }
    clipped
}

/// Normalises objective values: shifts every column to minimum 0 and divides by the intercepts of
/// the hyperplane through the extreme points, or by the column maxima where that plane is degenerate.
///
/// The extreme points minimise the achievement scalarising function with weight 10⁶.
pub fn normalize(values: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut matrix = values.to_vec();
    let Some(first) = values.first() else {
        return matrix;
    };
    let m = first.len();
    for j in 0..m {
        let low = values
            .iter()
            .map(|row| row[j])
            .fold(f64::INFINITY, f64::min);
        for row in &mut matrix {
            row[j] -= low;
        }
    }
    let extreme: Vec<&Vec<f64>> = (0..m)
        .map(|axis| {
            let scalarized = |row: &Vec<f64>| {
                row.iter()
                    .enumerate()
                    .map(|(j, v)| if j == axis { *v } else { v * 1e6 })
                    .fold(f64::NEG_INFINITY, f64::max)
            };
            let mut best = 0;
            let mut best_value = scalarized(&matrix[0]);
            for (i, row) in matrix.iter().enumerate().skip(1) {
                let value = scalarized(row);
                if value < best_value {
                    (best, best_value) = (i, value);
                }
            }
            &matrix[best]
        })
        .collect();
    let plane = DMatrix::from_fn(m, m, |i, j| extreme[i][j]);
    let scale = inverse_intercepts(plane).unwrap_or_else(|| {
        (0..m)
            .map(|j| {
                let high = matrix
                    .iter()
                    .map(|row| row[j])
                    .fold(f64::NEG_INFINITY, f64::max);
                if high == 0.0 { 1.0 } else { 1.0 / high }
            })
            .collect()
    });
    for row in &mut matrix {
        for (v, s) in row.iter_mut().zip(&scale) {
            *v *= if s.is_finite() { *s } else { 1.0 };
        }
    }
    matrix
}

/// Solves `plane * x = 1`; `None` when the plane is not finite or numerically rank deficient.
fn inverse_intercepts(plane: DMatrix<f64>) -> Option<Vec<f64>> {
    if plane.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let m = plane.nrows();
    let singular = plane.singular_values();
    let largest = singular.max();
    // The usual numerical rank: singular values above largest * size * machine epsilon count.
    let tolerance = largest * m as f64 * f64::EPSILON;
    if singular.iter().any(|s| *s <= tolerance) {
        return None;
    }
    let solution = plane.lu().solve(&DVector::from_element(m, 1.0))?;
    Some(solution.iter().copied().collect())
}

/// For every normalised row, the nearest reference line (through the origin) and the distance to it.
pub fn associate(normalized: &[Vec<f64>], reference_points: &[Vec<f64>]) -> Vec<(usize, f64)> {
    let norms: Vec<f64> = reference_points
        .iter()
        .map(|p| p.iter().map(|v| v * v).sum())
        .collect();
    normalized
        .iter()
        .map(|row| {
            let mut nearest = (0, f64::INFINITY);
            for (k, (point, norm)) in reference_points.iter().zip(&norms).enumerate() {
                let along: f64 = row.iter().zip(point).map(|(v, p)| v * p).sum::<f64>() / norm;
                let distance = row
                    .iter()
                    .zip(point)
                    .map(|(v, p)| (v - along * p).powi(2))
                    .sum::<f64>()
                    .sqrt();
                if distance < nearest.1 {
                    nearest = (k, distance);
                }
            }
            nearest
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degenerate_plane_falls_back_to_the_column_maxima() {
        let values = [[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]].map(Vec::from);
        let normalized = normalize(&values);
        assert_eq!(
            normalized,
            [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]].map(Vec::from)
        );
    }

    #[test]
    fn infinities_are_clipped_beyond_the_finite_range() {
        let values = [[0.0], [2.0], [f64::INFINITY], [f64::NEG_INFINITY]].map(Vec::from);
        let clipped = clip_infinities(&values);
        assert_eq!(clipped, [[0.0], [2.0], [8.0], [-6.0]].map(Vec::from));
        assert_eq!(
            clip_infinities(&[vec![f64::INFINITY]]),
            [[0.0]].map(Vec::from)
        );
    }
}
