//! The kernels. Read [the schedule](super) first.
//!
//! A kernel takes several tensors, each cut into parts of `units * items` vectors; a cube takes one part. The cubes of a
//! tensor follow those of the one before: `ends` holds the first cube that is not the tensor's any more. A tensor that
//! only fills up the arguments has none. Everything is computed in `f32`.

use cubecl::prelude::*;

use crate::cube::kernels::{lanes, tree_sum};

/// The bits of infinity: larger ones, without their sign, are NaN's.
const INFINITE: u32 = 0x7f80_0000;

/// The largest value of all units of a cube; every unit gets it.
#[cube]
fn tree_max(shared: &mut Shared<[u32]>, value: u32, #[comptime] units: usize) -> u32 {
    let unit = UNIT_POS_X as usize;
    shared[unit] = value;
    sync_cube();
    let levels = comptime![units.ilog2() as usize];
    let mut level = 1usize;
    while level <= levels {
        let half = units >> level;
        if unit < half {
            let other = shared[unit + half];
            if other > shared[unit] {
                shared[unit] = other;
            }
        }
        sync_cube();
        level += 1usize;
    }
    shared[0]
}

/// Two factors whose product is `1 / largest`, none of which overflows or vanishes, so that a value times one and then
/// the other is its share of the largest. All shares of nothing are 0.
#[cube]
fn inverse(largest: f32) -> (f32, f32) {
    // 2^64 and 2^-64.
    let mut near_one = 1.0f32;
    if largest > 1.8446744e19f32 {
        near_one = 5.421011e-20f32;
    } else if largest < 5.421011e-20f32 {
        near_one = 1.8446744e19f32;
    }
    let scaled = largest * near_one;
    let mut rest = 0.0f32;
    // A device may take a number below 1e-38 for 0.
    if scaled > 0.0f32 {
        rest = 1.0f32 / scaled;
    }
    (near_one, rest)
}

/// Where the `i`th vector of a tensor lies.
#[cube]
fn place(i: usize, row_v: usize, pitch_v: usize, #[comptime] pitched: bool) -> usize {
    if comptime!(pitched) {
        (i / row_v) * pitch_v + i % row_v
    } else {
        i
    }
}

/// Of each part the largest absolute value, and the sum of the powers of all values' shares of it: two numbers for each
/// cube, from the place `base` on, as bits.
///
/// The absolute values of floats are ordered as their bits are, with infinity and NaN above all others: so no comparison
/// depends on what a device does with NaN.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn parts<F: Float, N: Size>(
    tensors: &Sequence<Box<[Vector<F, N>]>>,
    ends: &Sequence<usize>,
    lens_v: &Sequence<usize>,
    rows_v: &Sequence<usize>,
    pitches_v: &Sequence<usize>,
    out: &mut [u32],
    base: usize,
    p: f32,
    #[comptime] order: Order,
    #[comptime] pitched: bool,
    #[comptime] units: usize,
    #[comptime] items: usize,
    #[define(F)] _dtype: ElemType,
) {
    let mut values = Array::<Vector<f32, N>>::new(items);
    #[unroll]
    for k in 0..items {
        values[k] = Vector::new(0.0f32);
    }
    let mut first = 0usize;
    #[unroll]
    for t in 0..tensors.len() {
        let end = ends[t];
        if CUBE_POS >= first && CUBE_POS < end {
            let from = (CUBE_POS - first) * (units * items) + UNIT_POS_X as usize;
            #[unroll]
            for k in 0..items {
                let i = from + k * units;
                if i < lens_v[t] {
                    let at = place(i, rows_v[t], pitches_v[t], pitched);
                    values[k] = Vector::cast_from(tensors[t][at]);
                }
            }
        }
        first = end;
    }
    let mut largest = 0u32;
    #[unroll]
    for k in 0..items {
        #[unroll]
        for lane in 0..N::value() {
            let bits = u32::reinterpret(values[k].extract(lane)) & 0x7fff_ffffu32;
            if bits > largest {
                largest = bits;
            }
        }
    }
    let mut shared = Shared::<[u32]>::new_slice(units);
    let largest = tree_max(&mut shared, largest, units);
    let mut sum = 0.0f32;
    if comptime!(order != Order::Largest) {
        let (near_one, rest) = inverse(f32::reinterpret(largest));
        let mut sums = Vector::<f32, N>::new(0.0f32);
        #[unroll]
        for k in 0..items {
            let share = values[k].abs() * Vector::new(near_one) * Vector::new(rest);
            if comptime!(order == Order::One) {
                sums += share;
            } else if comptime!(order == Order::Two) {
                sums += share * share;
            } else {
                sums += share.powf(Vector::new(p));
            }
        }
        let mut shared = Shared::<[f32]>::new_slice(units);
        sum = tree_sum(&mut shared, lanes(sums), units);
    }
    // The cubes past the end have only made zeros.
    if UNIT_POS_X == 0 && CUBE_POS < first {
        out[2 * (base + CUBE_POS)] = largest;
        out[2 * (base + CUBE_POS) + 1] = u32::reinterpret(sum);
    }
}

/// The norm of each tensor from its parts; a cube takes a tensor. `table` holds where its parts begin and how many they
/// are.
#[cube(launch_unchecked)]
pub(super) fn finish(
    parts: &[u32],
    table: &[u32],
    norms: &mut [f32],
    tensors: usize,
    p: f32,
    #[comptime] order: Order,
    #[comptime] units: usize,
) {
    if CUBE_POS >= tensors {
        terminate!();
    }
    let unit = UNIT_POS_X as usize;
    let first = table[2 * CUBE_POS] as usize;
    let end = first + table[2 * CUBE_POS + 1] as usize;
    let mut largest = 0u32;
    let mut i = first + unit;
    while i < end {
        let other = parts[2 * i];
        if other > largest {
            largest = other;
        }
        i += units;
    }
    let mut shared = Shared::<[u32]>::new_slice(units);
    let largest_bits = tree_max(&mut shared, largest, units);
    let largest = f32::reinterpret(largest_bits);
    let mut norm = largest;
    if comptime!(order != Order::Largest) {
        let (near_one, rest) = inverse(largest);
        let mut sum = 0.0f32;
        let mut i = first + unit;
        while i < end {
            let share = f32::reinterpret(parts[2 * i]) * near_one * rest;
            let part = f32::reinterpret(parts[2 * i + 1]);
            if comptime!(order == Order::One) {
                sum += part * share;
            } else if comptime!(order == Order::Two) {
                sum += part * (share * share);
            } else {
                sum += part * share.powf(p);
            }
            i += units;
        }
        let mut shared = Shared::<[f32]>::new_slice(units);
        let sum = tree_sum(&mut shared, sum, units);
        if largest_bits < INFINITE {
            if comptime!(order == Order::One) {
                norm = largest * sum;
            } else if comptime!(order == Order::Two) {
                norm = largest * sum.sqrt();
            } else {
                norm = largest * sum.powf(1.0f32 / p);
            }
        }
    }
    if unit == 0 {
        norms[CUBE_POS] = norm;
    }
}

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Order {
    /// The sum of absolute values.
    One,
    /// The root of the sum of squares.
    Two,
    /// The largest absolute value.
    Largest,
    /// Any other power.
    Any,
}

/// Each tensor times `factors[places[t]]`, from `from` to `to`, or in place, without `from`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn scale<F: Float, N: Size>(
    from: &Sequence<Box<[Vector<F, N>]>>,
    to: &mut Sequence<Box<[Vector<F, N>]>>,
    ends: &Sequence<usize>,
    lens_v: &Sequence<usize>,
    rows_v: &Sequence<usize>,
    pitches_v: &Sequence<usize>,
    places: &Sequence<usize>,
    factors: &[f32],
    #[comptime] zero: bool,
    #[comptime] in_place: bool,
    #[comptime] pitched: bool,
    #[comptime] units: usize,
    #[comptime] items: usize,
    #[define(F)] _dtype: ElemType,
) {
    let mut first = 0usize;
    #[unroll]
    for t in 0..to.len() {
        let end = ends[t];
        if CUBE_POS >= first && CUBE_POS < end {
            let factor = factors[places[t]];
            let none = comptime!(zero) && factor == 0.0f32;
            let begin = (CUBE_POS - first) * (units * items) + UNIT_POS_X as usize;
            #[unroll]
            for k in 0..items {
                let i = begin + k * units;
                if i < lens_v[t] {
                    let at = place(i, rows_v[t], pitches_v[t], pitched);
                    let mut value = Vector::<f32, N>::new(0.0f32);
                    if !none {
                        if comptime!(in_place) {
                            value = Vector::cast_from(to[t][at]);
                        } else {
                            value = Vector::cast_from(from[t][at]);
                        }
                        value *= Vector::new(factor);
                    }
                    to.index_mut(t)[at] = Vector::cast_from(value);
                }
            }
        }
        first = end;
    }
}
