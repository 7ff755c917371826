//! The unit box in which the Gaussian process works.

use crate::distribution::Distribution;
use crate::transform::unit_of;
use crate::trial::ParamSpace;

/// A value so many times farther away than its range is wide says nothing about it.
const FAR: f64 = 1e6;

/// One coordinate: a parameter scaled to `[0, 1]`, or the index of a choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// On a linear scale low, high and step are multiplied by `unit`, which keeps what is calculated from them finite.
    low: f64,
    high: f64,
    is_log: bool,
    /// 0 for a continuous parameter.
    step: f64,
    unit: f64,
    n_choices: Option<usize>,
}

/// Maps internal values to the box of the Gaussian process and back.
///
/// Unlike the box transform of the other samplers a category is one coordinate with the index of the
/// choice, and log integers are widened before the logarithm.
#[derive(Debug, Clone)]
pub struct GpSpace {
    /// The coordinates, in the order of the search space.
    pub axes: Vec<Axis>,
}

impl Axis {
    fn new(distribution: &Distribution) -> Self {
        let (low, high, is_log, step) = match distribution {
            Distribution::Float(d) => (d.low(), d.high(), d.log(), d.step().unwrap_or(0.0)),
            Distribution::Int(d) => (d.low() as f64, d.high() as f64, d.log(), d.step() as f64),
            Distribution::Categorical(d) => (0.0, d.choices().len() as f64, false, 1.0),
        };
        let unit = if is_log { 1.0 } else { unit_of(low, high) };
        Self {
            low: low * unit,
            high: high * unit,
            is_log,
            step: step * unit,
            unit,
            n_choices: match distribution {
                Distribution::Categorical(d) => Some(d.choices().len()),
                _ => None,
            },
        }
    }

    /// Whether the coordinate is the index of a choice.
    pub fn is_categorical(&self) -> bool {
        self.n_choices.is_some()
    }

    /// Whether the coordinate takes any value in `[0, 1]`.
    pub fn is_continuous(&self) -> bool {
        self.step == 0.0
    }

    /// The logarithm on a log scale.
    fn scale(&self, v: f64) -> f64 {
        if self.is_log { v.ln() } else { v }
    }

    fn ends(&self) -> (f64, f64) {
        let half = 0.5 * self.step;
        (self.scale(self.low - half), self.scale(self.high + half))
    }

    /// The coordinate of a value in units of the axis.
    fn normalize(&self, v: f64) -> f64 {
        if self.is_categorical() {
            return v;
        }
        let (low, high) = self.ends();
        if low == high {
            0.5
        } else {
            (self.scale(v) - low) / (high - low)
        }
    }

    /// The value of a coordinate, in units of the axis.
    fn unnormalize(&self, v: f64) -> f64 {
        if self.is_categorical() {
            return v;
        }
        let (low, high) = self.ends();
        let v = v * (high - low) + low;
        if self.is_log { v.exp() } else { v }
    }

    /// How many values a discrete parameter has, at least one; `u64::MAX` when there are more than that.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn n_values(&self) -> u64 {
        match self.n_choices {
            Some(n) => n as u64,
            None => (((self.high - self.low) / self.step).round() as u64).saturating_add(1),
        }
    }

    /// The coordinate of the value with this index; coordinates ascend, and those beyond the last value are the last
    /// one. Values are never listed, as there may be billions of them.
    pub fn coordinate(&self, index: u64) -> f64 {
        if self.is_categorical() {
            return index as f64;
        }
        self.normalize((self.low + index as f64 * self.step).min(self.high))
    }

    /// The nearest possible coordinate of a number in `[0, 1)`.
    fn snap(&self, u: f64) -> f64 {
        if let Some(n) = self.n_choices {
            return (u * n as f64).floor().min(n as f64 - 1.0);
        }
        if self.step == 0.0 {
            return u;
        }
        let v = self.unnormalize(u);
        let k = ((v - self.low + 0.5 * self.step) / self.step).floor();
        let point = k * self.step + self.low;
        // Points that are too many to count lie closer together than floats.
        let point = if point.is_finite() { point } else { v };
        self.normalize(point.max(self.low).min(self.high))
    }
}

impl GpSpace {
    /// The box of a search space.
    pub fn new(space: &ParamSpace) -> Self {
        Self {
            axes: space.iter().map(|(_, d)| Axis::new(d)).collect(),
        }
    }

    /// Which coordinates are categorical.
    pub fn is_categorical(&self) -> Vec<bool> {
        self.axes.iter().map(Axis::is_categorical).collect()
    }

    /// The point of internal values.
    pub fn normalize(&self, internal: &[f64]) -> Vec<f64> {
        self.axes
            .iter()
            .zip(internal)
            .map(|(a, v)| {
                let x = a.normalize(*v * a.unit);
                // Only a damaged storage holds what is no number here, or so far away that its square overflows.
                if x.is_finite() && (a.is_categorical() || x.abs() < FAR) {
                    x
                } else {
                    0.5
                }
            })
            .collect()
    }

    /// The internal values of a point, each a value of its distribution.
    pub fn unnormalize(&self, point: &[f64]) -> Vec<f64> {
        self.axes
            .iter()
            .zip(point)
            .map(|(axis, &x)| {
                if axis.is_categorical() {
                    return x;
                }
                let v = axis.unnormalize(x).max(axis.low).min(axis.high);
                if axis.step == 0.0 {
                    return v / axis.unit;
                }
                let k = ((v - axis.low) / axis.step).round();
                let point = (k * axis.step + axis.low).min(axis.high);
                (if point.is_nan() { v } else { point }) / axis.unit
            })
            .collect()
    }

    /// The point of uniform numbers in `[0, 1)`, with discrete coordinates snapped to their values.
    pub fn snap(&self, uniform: &[f64]) -> Vec<f64> {
        self.axes
            .iter()
            .zip(uniform)
            .map(|(a, u)| a.snap(*u))
            .collect()
    }
}
