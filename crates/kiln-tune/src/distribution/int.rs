use super::ParamValue;
use crate::error::{Error, Result};

/// Up to here every integer is a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// An integer of `[low, high]`, on a linear scale with steps, or on a log scale.
///
/// | field | default | rule |
/// |---|---|---|
/// | `low`, `high` | | `low <= high`; `low >= 1` with `log` |
/// | `log` | `false` | needs `step == 1` |
/// | `step` | `1` | `> 0`; `high` is lowered to the last point of the grid |
///
/// Values are stored as floats, so integers beyond 2^53 lose precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntDistribution {
    low: i64,
    high: i64,
    log: bool,
    step: i64,
}

impl IntDistribution {
    /// An integer of `[low, high]`, uniform.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] when `low > high`.
    pub fn new(low: i64, high: i64) -> Result<Self> {
        Self::build(low, high, false, 1)
    }

    /// An integer of `[low, high]`, uniform in its logarithm.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] when `low > high` or `low < 1`.
    pub fn with_log(low: i64, high: i64) -> Result<Self> {
        Self::build(low, high, true, 1)
    }

    /// An integer of `low, low + step, ...` up to `high`; a `high` off the grid is lowered, with a warning.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] when `low > high` or `step < 1`.
    pub fn with_step(low: i64, high: i64, step: i64) -> Result<Self> {
        Self::build(low, high, false, step)
    }

    /// All fields at once, for specifications read from text.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] when a rule of the table above is broken.
    pub fn build(low: i64, high: i64, log: bool, step: i64) -> Result<Self> {
        let invalid = |message: String| Err(Error::InvalidDistribution(message));
        if log && step != 1 {
            return invalid(format!(
                "step must be 1 on a log scale, but got step={step}; leave step or log out"
            ));
        }
        if low > high {
            return invalid(format!(
                "low must not be above high, but got low={low}, high={high}"
            ));
        }
        if log && low < 1 {
            return invalid(format!(
                "low must be at least 1 on a log scale, but got low={low}"
            ));
        }
        if step <= 0 {
            return invalid(format!("step must be positive, but got step={step}"));
        }
        let range = i128::from(high) - i128::from(low);
        let last = i128::from(low) + range / i128::from(step) * i128::from(step);
        let last = i64::try_from(last).expect("a point between low and high fits into their type");
        if last != high {
            log::warn!(
                "the range [{low}, {high}] is not divisible by step={step}; it becomes [{low}, {last}]"
            );
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
    pub fn low(&self) -> i64 {
        self.low
    }

    /// The upper end, included.
    #[must_use]
    pub fn high(&self) -> i64 {
        self.high
    }

    /// Whether the scale is logarithmic.
    #[must_use]
    pub fn log(&self) -> bool {
        self.log
    }

    /// The distance of the values, 1 unless said otherwise.
    #[must_use]
    pub fn step(&self) -> i64 {
        self.step
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn contains(&self, value: f64) -> bool {
        if !(self.low as f64 <= value && value <= self.high as f64) {
            return false;
        }
        let (distance, step) = (value - self.low as f64, self.step as f64);
        let largest = self.largest(value);
        let rest = distance % step;
        // Beyond 2^53 floats are rarer than integers, and the nearest one stands for a point of the grid.
        rest == 0.0 || (largest > EXACT && rest.min(step - rest) <= 2.0 * f64::EPSILON * largest)
    }

    /// The largest of the numbers that tell whether a value is on the grid.
    #[allow(clippy::cast_precision_loss)]
    fn largest(&self, value: f64) -> f64 {
        value.abs().max(value - self.low as f64)
    }

    /// The integer that an internal value stands for. Where numbers beyond 2^53 are rounded it is the nearest point of
    /// the grid; what lies outside of the range is only truncated.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    pub(crate) fn value(&self, internal: f64) -> i64 {
        let value = internal as i64;
        if self.largest(internal) <= EXACT || !self.contains(internal) {
            return value;
        }
        let (low, step) = (i128::from(self.low), i128::from(self.step));
        let distance = i128::from(value.clamp(self.low, self.high)) - low;
        let point = low + (distance + step / 2) / step * step;
        i64::try_from(point).map_or(self.high, |point| point.min(self.high))
    }
}

/// The float that stores an integer: none for what is not finite or has more than 64 bits.
#[allow(clippy::cast_precision_loss)]
pub(super) fn internal(value: &ParamValue) -> Option<f64> {
    // Where i64 ends; this float is the first one that is too large.
    const END: f64 = 9_223_372_036_854_775_808.0;
    match value {
        ParamValue::Int(value) => Some(*value as f64),
        ParamValue::Str(text) => {
            let text = text.trim();
            let whole = text
                .trim_start_matches(['-', '+'])
                .bytes()
                .all(|b| b.is_ascii_digit());
            match text.parse::<i64>() {
                Ok(value) => Some(value as f64),
                Err(_) if whole => None,
                Err(_) => internal(&ParamValue::Float(text.parse().ok()?)),
            }
        }
        other => other.as_f64().filter(|x| -END <= *x && *x < END),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;

    #[test]
    fn an_integer_has_64_bits_or_is_refused() {
        let n: Distribution = IntDistribution::new(0, i64::MAX).unwrap().into();
        for (value, internal) in [
            (ParamValue::Int(7), 7.0),
            ("007".into(), 7.0),
            (ParamValue::Int(1 << 62), 2f64.powi(62)),
            ("9007199254740992".into(), 2f64.powi(53)),
            ("1e3".into(), 1000.0),
            (true.into(), 1.0),
        ] {
            assert_eq!(n.to_internal(&value).unwrap(), internal, "{value}");
        }
        for value in [
            ParamValue::Float(f64::INFINITY),
            ParamValue::Float(f64::NEG_INFINITY),
            ParamValue::Float(f64::NAN),
            ParamValue::Float(1e30),
            "inf".into(),
            "9223372036854775808".into(),
            "12345678901234567890".into(),
            "1e19".into(),
            "".into(),
            "many".into(),
            ParamValue::Null,
        ] {
            assert!(n.to_internal(&value).is_err(), "{value}");
        }
    }
}
