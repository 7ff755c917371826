//! The box transform: parameters as points of a box, and back.
//!
//! Random search, CMA-ES, the crossovers of NSGA-II and the forests behind parameter importance work in this space.

use std::sync::Arc;

use crate::distribution::{Distribution, FloatDistribution, IntDistribution};
use crate::trial::ParamSpace;

/// Which parts of the transform are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoxOptions {
    /// Take the logarithm of parameters on a log scale. Default true.
    pub log: bool,
    /// Widen stepped floats and all integers by half a step at both ends, so that the end points are as likely as the
    /// others. Default true.
    pub step: bool,
    /// Scale every column to `[0, 1]`; a column of one value becomes 0.5. Default false.
    pub unit: bool,
}

impl Default for BoxOptions {
    fn default() -> Self {
        Self {
            log: true,
            step: true,
            unit: false,
        }
    }
}

/// Maps the internal values of a search space to a box and back. A numeric parameter is one column, a categorical one
/// has a column per choice (one-hot). The column of a float range that reaches beyond 3e150, or lies within 3e-151 of 0,
/// is multiplied by a power of two, so that one can calculate with it.
///
/// ```
/// use kiln_tune::{FloatDistribution, ParamSpace, transform::BoxTransform, Distribution};
///
/// let lr: Distribution = FloatDistribution::with_log(1e-3, 1.0)?.into();
/// let transform = BoxTransform::new(&ParamSpace::from_iter([("lr", lr)]), Default::default());
/// assert_eq!(transform.bounds(), [[1e-3_f64.ln(), 0.0]]);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BoxTransform {
    distributions: Vec<Arc<Distribution>>,
    options: BoxOptions,
    raw: Vec<[f64; 2]>,
    /// The first column of each parameter.
    starts: Vec<usize>,
    /// What the values of each parameter are multiplied by; see [`unit_of`].
    units: Vec<f64>,
}

impl BoxTransform {
    /// The transform of a search space.
    #[must_use]
    pub fn new(space: &ParamSpace, options: BoxOptions) -> Self {
        Self::build(
            space
                .iter()
                .map(|(_, distribution)| distribution.clone())
                .collect(),
            options,
        )
    }

    /// The default transform of one parameter.
    pub(crate) fn single(distribution: &Distribution) -> Self {
        Self::build(vec![Arc::new(distribution.clone())], BoxOptions::default())
    }

    fn build(distributions: Vec<Arc<Distribution>>, options: BoxOptions) -> Self {
        let mut raw = Vec::new();
        let mut starts = Vec::with_capacity(distributions.len());
        let mut units = Vec::with_capacity(distributions.len());
        for distribution in &distributions {
            starts.push(raw.len());
            units.push(match &**distribution {
                Distribution::Float(d) if !(d.log() && options.log) => unit_of(d.low(), d.high()),
                _ => 1.0,
            });
            match &**distribution {
                Distribution::Float(d) => {
                    raw.push(float_bounds(d, options, units[units.len() - 1]));
                }
                Distribution::Int(d) => raw.push(int_bounds(d, options)),
                Distribution::Categorical(d) => raw.extend(d.choices().iter().map(|_| [0.0, 1.0])),
            }
        }
        Self {
            distributions,
            options,
            raw,
            starts,
            units,
        }
    }

    /// Low and high of every column.
    #[must_use]
    pub fn bounds(&self) -> Vec<[f64; 2]> {
        if self.options.unit {
            vec![[0.0, 1.0]; self.raw.len()]
        } else {
            self.raw.clone()
        }
    }

    /// The bounds before scaling to `[0, 1]`.
    #[must_use]
    pub fn raw_bounds(&self) -> &[[f64; 2]] {
        &self.raw
    }

    /// The number of columns.
    #[must_use]
    pub fn n_columns(&self) -> usize {
        self.raw.len()
    }

    /// The columns of the parameter with this position in the search space.
    #[must_use]
    pub fn columns(&self, param: usize) -> std::ops::Range<usize> {
        let end = self
            .starts
            .get(param + 1)
            .copied()
            .unwrap_or(self.raw.len());
        self.starts[param]..end
    }

    /// The point of some internal values, given in the order of the search space.
    ///
    /// # Panics
    /// When there are fewer values than parameters.
    #[must_use]
    pub fn transform(&self, internal: &[f64]) -> Vec<f64> {
        let mut point = Vec::with_capacity(self.raw.len());
        for (i, distribution) in self.distributions.iter().enumerate() {
            let value = internal[i];
            match &**distribution {
                Distribution::Categorical(d) => {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    let chosen = value as usize;
                    point.extend(
                        (0..d.choices().len()).map(|k| if k == chosen { 1.0 } else { 0.0 }),
                    );
                }
                other => point.push(if other.is_log() && self.options.log {
                    value.ln()
                } else {
                    value * self.units[i]
                }),
            }
        }
        if self.options.unit {
            for (x, [low, high]) in point.iter_mut().zip(&self.raw) {
                *x = if low == high {
                    0.5
                } else {
                    (*x - low) / (high - low)
                };
            }
        }
        point
    }

    /// The internal values of a point, in the order of the search space.
    ///
    /// # Panics
    /// When the point has fewer columns than the box.
    #[must_use]
    pub fn untransform(&self, point: &[f64]) -> Vec<f64> {
        let column = |i: usize| {
            let [low, high] = self.raw[i];
            if self.options.unit {
                low + point[i] * (high - low)
            } else {
                point[i]
            }
        };
        self.distributions
            .iter()
            .enumerate()
            .map(|(i, distribution)| match &**distribution {
                Distribution::Float(d) => {
                    untransform_float(column(self.starts[i]), d, self.options, self.units[i])
                }
                Distribution::Int(d) => untransform_int(column(self.starts[i]), d, self.options),
                Distribution::Categorical(_) => argmax(self.columns(i).map(column)),
            })
            .collect()
    }
}

/// The power of two by which the numbers of a range are multiplied so that their sums, differences and squares are
/// neither infinite nor 0. It is 1 unless the range reaches beyond 2^500 (3e150) or lies within 2^-500 of 0, so that
/// nothing is rounded.
pub(crate) fn unit_of(low: f64, high: f64) -> f64 {
    let largest = low.abs().max(high.abs());
    let power = |exponent: i32| 2_f64.powi(exponent);
    if largest > power(500) {
        power(-640)
    } else if largest > 0.0 && largest < power(-500) {
        power(640)
    } else {
        1.0
    }
}

/// The point of the grid `low, low + step, ...` nearest to `x`; `x` itself when there are too many points to count.
pub(crate) fn on_grid(x: f64, low: f64, step: f64) -> f64 {
    let point = ((x - low) / step).round_ties_even() * step + low;
    if point.is_finite() { point } else { x }
}

/// The largest float below `high`, towards `high - 1`.
pub(crate) fn below(high: f64) -> f64 {
    // Beyond 2^53 subtracting one changes nothing, and the bound itself is kept.
    if high - 1.0 < high {
        high.next_down()
    } else {
        high
    }
}

fn float_bounds(d: &FloatDistribution, options: BoxOptions, unit: f64) -> [f64; 2] {
    let scale = |x: f64| {
        if d.log() && options.log {
            x.ln()
        } else {
            x * unit
        }
    };
    let half = if options.step {
        0.5 * d.step().unwrap_or(0.0) * unit
    } else {
        0.0
    };
    [scale(d.low()) - half, scale(d.high()) + half]
}

#[allow(clippy::cast_precision_loss)]
fn int_bounds(d: &IntDistribution, options: BoxOptions) -> [f64; 2] {
    let half = if options.step {
        0.5 * d.step() as f64
    } else {
        0.0
    };
    let scale = |x: f64| if d.log() && options.log { x.ln() } else { x };
    [scale(d.low() as f64 - half), scale(d.high() as f64 + half)]
}

fn untransform_float(x: f64, d: &FloatDistribution, options: BoxOptions, unit: f64) -> f64 {
    let (low, high) = (d.low(), d.high());
    if d.log() {
        let value = if options.log { x.exp() } else { x / unit };
        // A minimum and a maximum, as `clamp` refuses the reversed bounds of a range of two neighbours.
        return if low == high {
            value
        } else {
            value.max(low).min(below(high))
        };
    }
    if let Some(step) = d.step() {
        return (on_grid(x, low * unit, step * unit) / unit)
            .max(low)
            .min(high);
    }
    let x = x / unit;
    if low == high { x } else { x.min(below(high)) }
}

#[allow(clippy::cast_precision_loss)]
fn untransform_int(x: f64, d: &IntDistribution, options: BoxOptions) -> f64 {
    let (low, high, step) = (d.low() as f64, d.high() as f64, d.step() as f64);
    if d.log() {
        return if options.log {
            x.exp().round_ties_even().max(low).min(high)
        } else {
            x.trunc()
        };
    }
    (((x - low) / step + 0.5).floor() * step + low)
        .max(low)
        .min(high)
}

/// The first index of the largest value, as a float.
#[allow(clippy::cast_precision_loss)]
fn argmax(values: impl Iterator<Item = f64>) -> f64 {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, value) in values.enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0 as f64
}
