//! Greedy selection of the rows that keep most hypervolume.

use super::hypervolume::hypervolume_unchecked;
use super::{UniqueRows, argmax};

/// The reference point that TPE uses for a set of losses: per objective the larger of 1.1 and 0.9
/// times the worst loss, and 1e-12 where that is 0.
///
/// Returns an empty point for no rows.
pub fn reference_point(losses: &[Vec<f64>]) -> Vec<f64> {
    let Some(first) = losses.first() else {
        return Vec::new();
    };
    (0..first.len())
        .map(|j| {
            let worst = losses
                .iter()
                .map(|row| row[j])
                .fold(f64::NEG_INFINITY, f64::max);
            let point = (1.1 * worst).max(0.9 * worst);
            if point == 0.0 { 1e-12 } else { point }
        })
        .collect()
}

/// Indices of `k` rows chosen greedily by what they add to the hypervolume (Guerreiro, Fonseca and
/// Paquete, *Greedy Hypervolume Subset Selection in Low Dimensions*, 2016).
///
/// Repeated rows are taken only when every distinct row has been. With a non-finite reference point
/// the first `k` distinct rows in lexicographic order are taken. `k` is capped at the number of rows.
pub fn select_subset(losses: &[Vec<f64>], k: usize, reference: &[f64]) -> Vec<usize> {
    if k >= losses.len() {
        return (0..losses.len()).collect();
    }
    let unique = UniqueRows::new(losses);
    let indices = &unique.first_index;
    if indices.len() < k {
        let mut chosen = vec![false; losses.len()];
        for &i in indices {
            chosen[i] = true;
        }
        let mut missing = k - indices.len();
        for taken in &mut chosen {
            if missing > 0 && !*taken {
                *taken = true;
                missing -= 1;
            }
        }
        return (0..losses.len()).filter(|&i| chosen[i]).collect();
    }
    if reference.iter().any(|r| !r.is_finite()) {
        return indices[..k].to_vec();
    }
    if indices.len() == k {
        return indices.clone();
    }
    let rows = unique.rows(losses);
    let selected = if reference.len() == 2 {
        greedy_2d(&rows, k, reference)
    } else {
        greedy(&rows, k, reference)
    };
    selected.into_iter().map(|i| indices[i]).collect()
}

/// Indices of the `k` best rows: whole non-domination ranks while they fit, then the subset of the
/// next rank that keeps most hypervolume (as TPE splits the trials of several objectives).
///
/// Ascending; `k` is capped at the number of rows.
pub fn select_best(losses: &[Vec<f64>], k: usize) -> Vec<usize> {
    if k == 0 {
        return Vec::new();
    }
    let ranks = super::non_domination_rank(losses, None, Some(k));
    let n_ranks = ranks.iter().max().map_or(0, |r| r + 1);
    let mut chosen: Vec<usize> = Vec::with_capacity(k);
    for rank in 0..n_ranks {
        let members: Vec<usize> = (0..losses.len()).filter(|&i| ranks[i] == rank).collect();
        if chosen.len() + members.len() <= k {
            chosen.extend(members);
            continue;
        }
        let rows: Vec<Vec<f64>> = members.iter().map(|&i| losses[i].clone()).collect();
        let picked = select_subset(&rows, k - chosen.len(), &reference_point(&rows));
        chosen.extend(picked.into_iter().map(|j| members[j]));
        break;
    }
    chosen.sort_unstable();
    chosen
}

/// Exact greedy selection of sorted rows: a chosen point narrows the rectangles of its neighbours.
fn greedy_2d(rows: &[&[f64]], k: usize, reference: &[f64]) -> Vec<usize> {
    let mut left: Vec<(usize, [f64; 2])> = (0..rows.len())
        .map(|i| (i, [reference[0], reference[1]]))
        .collect();
    let mut selected = Vec::with_capacity(k);
    for _ in 0..k {
        let contributions: Vec<f64> = left
            .iter()
            .map(|(i, corner)| (corner[0] - rows[*i][0]) * (corner[1] - rows[*i][1]))
            .collect();
        let position = argmax(&contributions);
        let (chosen, _) = left.remove(position);
        selected.push(chosen);
        for (j, (_, corner)) in left.iter_mut().enumerate() {
            let axis = usize::from(j >= position);
            corner[axis] = corner[axis].min(rows[chosen][axis]);
        }
    }
    selected
}

/// Lazy greedy selection: a contribution is recomputed only while its upper bound can still win.
fn greedy(rows: &[&[f64]], k: usize, reference: &[f64]) -> Vec<usize> {
    let volume =
        |point: &[f64]| -> f64 { point.iter().zip(reference).map(|(v, r)| r - v).product() };
    let mut left: Vec<usize> = (0..rows.len()).collect();
    let mut contributions: Vec<f64> = rows.iter().map(|row| volume(row)).collect();
    let mut selected = Vec::with_capacity(k);
    let mut selected_rows: Vec<Vec<f64>> = Vec::with_capacity(k + 1);
    let mut selected_volume = 0.0;
    loop {
        let position = argmax(&contributions);
        selected_volume += contributions.remove(position);
        let chosen = left.remove(position);
        selected.push(chosen);
        selected_rows.push(rows[chosen].to_vec());
        if selected.len() == k {
            return selected;
        }
        if f64::is_infinite(selected_volume) {
            contributions.fill(f64::INFINITY);
            continue;
        }
        update(
            &mut contributions,
            &left,
            rows,
            &mut selected_rows,
            reference,
            selected_volume,
        );
    }
}

fn update(
    contributions: &mut [f64],
    left: &[usize],
    rows: &[&[f64]],
    selected: &mut Vec<Vec<f64>>,
    reference: &[f64],
    selected_volume: f64,
) {
    let volume =
        |point: &[f64]| -> f64 { point.iter().zip(reference).map(|(v, r)| r - v).product() };
    let common =
        |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(x, y)| x.max(*y)).collect() };
    let inclusive: Vec<f64> = left.iter().map(|&i| volume(rows[i])).collect();
    let last = selected[selected.len() - 1].clone();
    for ((bound, &i), own) in contributions.iter_mut().zip(left).zip(&inclusive) {
        *bound = bound.min(own - volume(&common(rows[i], &last)));
    }
    let mut order: Vec<usize> = (0..left.len()).collect();
    order.sort_by(|&a, &b| super::compare(contributions[b], contributions[a]));
    let mut best = 0.0f64;
    for j in order {
        let row = rows[left[j]];
        if inclusive[j].is_infinite() {
            contributions[j] = f64::INFINITY;
            best = f64::INFINITY;
            continue;
        }
        if contributions[j] < best {
            continue;
        }
        contributions[j] = if row.len() <= 3 {
            selected.push(row.to_vec());
            let grown = hypervolume_unchecked(selected, reference);
            selected.pop();
            grown - selected_volume
        } else {
            let covered: Vec<Vec<f64>> = selected.iter().map(|s| common(row, s)).collect();
            inclusive[j] - hypervolume_unchecked(&covered, reference)
        };
        best = best.max(contributions[j]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multi_objective::hypervolume;

    #[test]
    fn duplicates_come_last() {
        let losses = [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]].map(Vec::from);
        let mut chosen = select_subset(&losses, 2, &[2.0, 2.0]);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 2]);
        assert_eq!(select_subset(&losses, 9, &[2.0, 2.0]), [0, 1, 2]);
    }

    #[test]
    fn the_lazy_selection_equals_the_plain_greedy_one() {
        let mut state = 3u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for dim in 2..=5 {
            let losses: Vec<Vec<f64>> = (0..20)
                .map(|_| {
                    // Points of a simplex do not dominate each other.
                    let row: Vec<f64> = (0..dim).map(|_| next()).collect();
                    let sum: f64 = row.iter().sum();
                    row.iter().map(|v| v / sum).collect()
                })
                .collect();
            let reference = vec![1.1; dim];
            let mut plain: Vec<usize> = Vec::new();
            for _ in 0..6 {
                let gains: Vec<f64> = (0..20)
                    .map(|i| {
                        if plain.contains(&i) {
                            return f64::NEG_INFINITY;
                        }
                        let rows: Vec<Vec<f64>> = plain
                            .iter()
                            .chain([&i])
                            .map(|&j| losses[j].clone())
                            .collect();
                        hypervolume(&rows, &reference).unwrap()
                    })
                    .collect();
                plain.push(argmax(&gains));
            }
            assert_eq!(select_subset(&losses, 6, &reference), plain, "dim {dim}");
        }
    }
}
