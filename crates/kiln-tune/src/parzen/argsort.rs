//! The order in which NumPy's `argsort` leaves equal numbers.
//!
//! Its default sort is unstable, and Optuna gives equal observations of a parameter different bandwidths in the order it
//! leaves them. This is the order of NumPy without vector instructions: on ARM, on x86 before NumPy 1.25, and elsewhere
//! when the environment variable `NPY_DISABLE_CPU_FEATURES` turns them off. It is quicksort with the median of three, which
//! leaves short pieces to insertion sort and deep ones to heapsort (`aquicksort_` in `npysort/quicksort.cpp`).

/// In which order equal observations of a parameter are given their bandwidths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TieOrder {
    /// The order in which they were observed.
    #[default]
    Stable,
    /// The order in which NumPy's unstable `argsort` leaves them when it uses no vector instructions: that of Optuna on such
    /// machines.
    NumPy,
}

/// Pieces with at most so many steps from their first to their last element are sorted by insertion.
const SMALL: usize = 15;

/// The positions of the values in ascending order.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn argsort(values: &[f64], ties: TieOrder) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut keys = vec![0; values.len()];
    let (mut rank, mut previous) = (0, f64::NAN);
    let mut has_ties = false;
    for position in &order {
        let value = values[*position];
        has_ties |= value == previous;
        rank += u32::from(value > previous);
        previous = value;
        keys[*position] = key(rank, *position as u32);
    }
    // Insertion sort is stable.
    if ties == TieOrder::Stable || !has_ties || values.len() <= SMALL + 1 {
        return order;
    }
    sort(&mut keys, ties);
    keys.into_iter().map(|key| position(key) as usize).collect()
}

/// A rank with a position, of which only the rank is compared.
pub(crate) fn key(rank: u32, position: u32) -> u64 {
    u64::from(rank) << 32 | u64::from(position)
}

/// The position of a key.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn position(key: u64) -> u32 {
    key as u32
}

fn less(a: u64, b: u64) -> bool {
    a >> 32 < b >> 32
}

/// Sorts keys by their ranks.
pub(crate) fn sort(keys: &mut [u64], ties: TieOrder) {
    if ties == TieOrder::Stable {
        keys.sort_by_key(|key| key >> 32);
        return;
    }
    if keys.is_empty() {
        return;
    }
    // Pieces `from..end` with how often they may still be divided; a negative number sends one to heapsort.
    let mut stack = Vec::new();
    let (mut from, mut end) = (0, keys.len());
    let mut depth = 2 * i64::from(keys.len().ilog2());
    loop {
        if depth < 0 {
            heapsort(&mut keys[from..end]);
        } else {
            while end - from > SMALL + 1 {
                let middle = from + partition(&mut keys[from..end]);
                depth -= 1;
                // The larger piece waits.
                if middle - from < end - 1 - middle {
                    stack.push((middle + 1, end, depth));
                    end = middle;
                } else {
                    stack.push((from, middle, depth));
                    from = middle + 1;
                }
            }
            insertion_sort(&mut keys[from..end]);
        }
        let Some(piece) = stack.pop() else {
            return;
        };
        (from, end, depth) = piece;
    }
}

/// Moves smaller keys before the median of three, larger ones behind it, and gives its place.
fn partition(keys: &mut [u64]) -> usize {
    let last = keys.len() - 1;
    let middle = last / 2;
    for (a, b) in [(middle, 0), (last, middle), (middle, 0)] {
        if less(keys[a], keys[b]) {
            keys.swap(a, b);
        }
    }
    let pivot = keys[middle];
    let (mut i, mut j) = (0, last - 1);
    keys.swap(middle, j);
    loop {
        i += 1;
        while less(keys[i], pivot) {
            i += 1;
        }
        j -= 1;
        while less(pivot, keys[j]) {
            j -= 1;
        }
        if i >= j {
            break;
        }
        keys.swap(i, j);
    }
    keys.swap(i, last - 1);
    i
}

fn insertion_sort(keys: &mut [u64]) {
    for i in 1..keys.len() {
        let mut j = i;
        while j > 0 && less(keys[j], keys[j - 1]) {
            keys.swap(j, j - 1);
            j -= 1;
        }
    }
}

fn heapsort(keys: &mut [u64]) {
    fn sink(keys: &mut [u64], mut i: usize, n: usize, key: u64) {
        // Counted from 1, the children of `i` are `2 i` and `2 i + 1`.
        let mut j = 2 * i;
        while j <= n {
            if j < n && less(keys[j - 1], keys[j]) {
                j += 1;
            }
            if !less(key, keys[j - 1]) {
                break;
            }
            keys[i - 1] = keys[j - 1];
            i = j;
            j *= 2;
        }
        keys[i - 1] = key;
    }
    let n = keys.len();
    for i in (1..=n / 2).rev() {
        sink(keys, i, n, keys[i - 1]);
    }
    for n in (2..=n).rev() {
        let key = keys[n - 1];
        keys[n - 1] = keys[0];
        sink(keys, 1, n - 1, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(values: &[f64]) -> u64 {
        let order = argsort(values, TieOrder::NumPy);
        let terms = order.iter().enumerate();
        terms
            .map(|(i, position)| (i as u64 + 1) * *position as u64)
            .sum()
    }

    // Made by:
    //
    //     NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX2 AVX512F AVX512_SKX" python -c "
    //     import numpy as np
    //     for n, a, m in CASES:
    //         order = np.argsort(np.array([float(i * i * a % m) for i in range(n)]))
    //         print((np.arange(1, n + 1) * order).sum())"
    #[test]
    fn equal_numbers_are_left_in_the_order_of_numpy_without_vector_instructions() {
        for (n, a, m, expected) in CASES {
            let values: Vec<f64> = (0..n).map(|i| (i * i * a % m) as f64).collect();
            assert_eq!(checksum(&values), expected, "{n} numbers, {a}, {m}");
        }
    }

    #[test]
    fn heapsort_sorts() {
        let mut keys: Vec<u64> = (0..1000).map(|i| key(i * 7919 % 101, i)).collect();
        heapsort(&mut keys);
        assert!(keys.windows(2).all(|pair| !less(pair[1], pair[0])));
    }

    const CASES: [(u64, u64, u64, u64); 9] = [
        (5, 1, 3, 37),
        (16, 1, 3, 1195),
        (17, 1, 3, 1223),
        (40, 3, 7, 16469),
        (100, 1, 10, 250815),
        (257, 5, 11, 4225116),
        (1000, 3, 17, 249811802),
        (1000, 1, 2, 236128762),
        (5000, 7, 4999, 31249947208),
    ];
}
