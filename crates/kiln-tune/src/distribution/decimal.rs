//! Exact arithmetic on the shortest decimal text of floats, as Optuna reads low, high and step.

/// The numbers of `[low, high]` and `step` scaled to one common power of ten.
#[derive(Debug, Clone, Copy)]
struct Scaled {
    low: i128,
    high: i128,
    step: i128,
    exponent: i32,
}

/// The last value `low + k * step` that is not above `high`.
pub(super) fn last_grid_point(low: f64, high: f64, step: f64) -> f64 {
    match scale(low, high, step) {
        Some(s) if (s.high - s.low) % s.step == 0 => high,
        Some(s) => to_f64((s.high - s.low) / s.step * s.step + s.low, s.exponent),
        // Numbers too far apart for exact arithmetic; what a float can still express.
        None => ((high - low) / step).floor().mul_add(step, low).min(high),
    }
}

/// Whether `high - low < step`.
pub(super) fn narrower_than_step(low: f64, high: f64, step: f64) -> bool {
    match scale(low, high, step) {
        Some(s) => s.high - s.low < s.step,
        None => high - low < step,
    }
}

/// The values `low, low + step, ...` up to `high`, each the float nearest to its decimal. They are made one by one, as
/// there may be billions of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    low: f64,
    high: f64,
    step: f64,
    scaled: Option<Scaled>,
}

impl Grid {
    pub(super) fn new(low: f64, high: f64, step: f64) -> Self {
        Self {
            low,
            high,
            step,
            scaled: scale(low, high, step),
        }
    }

    /// The number of values, at least one; `u64::MAX` when there are more.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn len(&self) -> u64 {
        let last = match &self.scaled {
            Some(s) => u64::try_from((s.high - s.low) / s.step).unwrap_or(u64::MAX),
            // Halves, as the difference of two floats may be infinite.
            None => ((0.5 * self.high - 0.5 * self.low) / (0.5 * self.step)) as u64,
        };
        last.saturating_add(1)
    }

    /// The value with this index; those beyond the last one are the last one.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn value(&self, index: u64) -> f64 {
        match &self.scaled {
            Some(s) => {
                let point = i128::from(index)
                    .checked_mul(s.step)
                    .and_then(|distance| distance.checked_add(s.low))
                    .unwrap_or(s.high);
                to_f64(point.min(s.high), s.exponent)
            }
            None => (index as f64).mul_add(self.step, self.low).min(self.high),
        }
    }
}

fn scale(low: f64, high: f64, step: f64) -> Option<Scaled> {
    let parts = [low, high, step].map(parse);
    let exponent = parts.iter().flatten().map(|p| p.1).min()?;
    let mut scaled = [0_i128; 3];
    for (slot, part) in scaled.iter_mut().zip(parts) {
        let (digits, own) = part?;
        let shift = u32::try_from(own - exponent).ok()?;
        *slot = digits.checked_mul(10_i128.checked_pow(shift)?)?;
    }
    // Half the range of i128 leaves room for the difference of two such numbers.
    if scaled.iter().any(|x| x.unsigned_abs() > 1 << 125) {
        return None;
    }
    let [low, high, step] = scaled;
    Some(Scaled {
        low,
        high,
        step,
        exponent,
    })
}

/// The shortest decimal text as integer digits and a power of ten.
fn parse(value: f64) -> Option<(i128, i32)> {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    if digits == 0 {
        return Some((0, 0));
    }
    Some((digits, exponent - i32::try_from(fraction.len()).ok()?))
}

fn to_f64(digits: i128, exponent: i32) -> f64 {
    format!("{digits}e{exponent}")
        .parse()
        .expect("digits with an exponent are a float")
}
