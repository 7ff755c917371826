//! The unit box in which the Gaussian process works.

use crate::distribution::Distribution;
use crate::trial::ParamSpace;

/// One coordinate: a parameter scaled to `[0, 1]`, or the index of a choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    /// 0 for a continuous parameter.
    step: f64,
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
        Self {
            low,
            high,
            is_log,
            step,
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

    fn scale(&self, v: f64) -> f64 {
        if self.is_log { v.ln() } else { v }
    }

    fn ends(&self) -> (f64, f64) {
        let half = 0.5 * self.step;
        (self.scale(self.low - half), self.scale(self.high + half))
    }

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

    fn unnormalize(&self, v: f64) -> f64 {
        if self.is_categorical() {
            return v;
        }
        let (low, high) = self.ends();
        let v = v * (high - low) + low;
        if self.is_log { v.exp() } else { v }
    }

    /// The coordinates that a discrete parameter can have, ascending.
    pub fn grid(&self) -> Vec<f64> {
        match self.n_choices {
            Some(n) => (0..n).map(|i| i as f64).collect(),
            None => {
                let n = ((self.high - self.low) / self.step).round() as usize + 1;
                (0..n)
                    .map(|i| self.normalize(self.low + i as f64 * self.step))
                    .collect()
            }
        }
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
        self.normalize((k * self.step + self.low).clamp(self.low, self.high))
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
            .map(|(a, v)| a.normalize(*v))
            .collect()
    }

    /// The internal values of a point, each a value of its distribution.
    pub fn unnormalize(&self, space: &ParamSpace, point: &[f64]) -> Vec<f64> {
        self.axes
            .iter()
            .zip(space.iter())
            .zip(point)
            .map(|((axis, (_, distribution)), &x)| {
                if axis.is_categorical() {
                    return x;
                }
                let v = axis.unnormalize(x).clamp(axis.low, axis.high);
                match &**distribution {
                    Distribution::Float(_) if axis.step > 0.0 => {
                        let k = ((v - axis.low) / axis.step).round();
                        (k * axis.step + axis.low).min(axis.high)
                    }
                    Distribution::Int(_) => {
                        let k = ((v - axis.low) / axis.step).round();
                        k * axis.step + axis.low
                    }
                    _ => v,
                }
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
