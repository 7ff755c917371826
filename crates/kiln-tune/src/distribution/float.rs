use super::decimal;
use crate::error::{Error, Result};
use crate::json::python_float;

/// A float of `[low, high]`, on a linear scale, a log scale, or the grid `low, low + step, ...`.
///
/// | field | default | rule |
/// |---|---|---|
/// | `low`, `high` | | finite, `low <= high`; `low > 0` with `log` |
/// | `log` | `false` | excludes `step` |
/// | `step` | `None` | `> 0`; `high` is lowered to the last point of the grid |
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatDistribution {
    low: f64,
    high: f64,
    log: bool,
    step: Option<f64>,
}

impl FloatDistribution {
    /// A float of `[low, high]`, uniform.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] when a bound is not finite or `low > high`.
    pub fn new(low: f64, high: f64) -> Result<Self> {
        Self::build(low, high, false, None)
    }

    /// A float of `[low, high]` whose logarithm is uniform.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] as [`new`](Self::new), and when `low <= 0`.
    pub fn with_log(low: f64, high: f64) -> Result<Self> {
        Self::build(low, high, true, None)
    }

    /// A float of the grid `low, low + step, ...` up to `high`. A `high` off the grid is lowered to its last point,
    /// with a warning; whether it is off is decided on the decimal text, so `[0, 1]` in steps of `0.1` keeps `1.0`.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] as [`new`](Self::new), and when `step <= 0`.
    pub fn with_step(low: f64, high: f64, step: f64) -> Result<Self> {
        Self::build(low, high, false, Some(step))
    }

    /// All fields at once, for specifications read from text.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] when a rule of the table above is broken.
    pub fn build(low: f64, high: f64, log: bool, step: Option<f64>) -> Result<Self> {
        let invalid = |message: String| Err(Error::InvalidDistribution(message));
        if log && step.is_some() {
            return invalid(
                "step cannot be used together with log; leave one of them out".to_owned(),
            );
        }
        if !(low.is_finite() && high.is_finite()) {
            return invalid(format!(
                "low and high must be finite, but got low={low}, high={high}"
            ));
        }
        if low > high {
            return invalid(format!(
                "low must not be above high, but got low={low}, high={high}"
            ));
        }
        if log && low <= 0.0 {
            return invalid(format!(
                "low must be positive on a log scale, but got low={low}"
            ));
        }
        if let Some(step) = step
            && !(step > 0.0 && step.is_finite())
        {
            return invalid(format!(
                "step must be positive and finite, but got step={step}"
            ));
        }
        let mut last = high;
        if let Some(step) = step {
            last = decimal::last_grid_point(low, high, step);
            if last != high {
                log::warn!(
                    "the range [{}, {}] is not divisible by step={}; it becomes [{}, {}]",
                    python_float(low),
                    python_float(high),
                    python_float(step),
                    python_float(low),
                    python_float(last)
                );
            }
        }
        Ok(Self {
            low,
            high: last,
            log,
            step,
        })
    }

    /// The lower end, included.
    #[must_use]
    pub fn low(&self) -> f64 {
        self.low
    }

    /// The upper end, included; on a grid, its last point.
    #[must_use]
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Whether the scale is logarithmic.
    #[must_use]
    pub fn log(&self) -> bool {
        self.log
    }

    /// The distance of the grid points.
    #[must_use]
    pub fn step(&self) -> Option<f64> {
        self.step
    }

    /// The points of the grid, if there is a step.
    pub(crate) fn grid(&self) -> Option<decimal::Grid> {
        self.step
            .map(|step| decimal::Grid::new(self.low, self.high, step))
    }

    pub(super) fn is_single(&self) -> bool {
        match self.step {
            None => self.low == self.high,
            Some(step) => {
                self.low == self.high || decimal::narrower_than_step(self.low, self.high, step)
            }
        }
    }

    pub(super) fn contains(&self, value: f64) -> bool {
        let inside = self.low <= value && value <= self.high;
        match self.step {
            None => inside,
            Some(step) => {
                let k = (value - self.low) / step;
                // Optuna's tolerance, and of points that lie nearly as close together as floats, what rounding them takes:
                // a value that was suggested is one of them.
                let rounding = 2.0 * f64::EPSILON * value.abs().max(self.low.abs()) / step;
                // Points that are too many to count lie closer together than floats.
                inside
                    && (k.is_infinite() || (k - k.round_ties_even()).abs() < 1e-8_f64.max(rounding))
            }
        }
    }
}
