//! Collects the differences of one replayed golden file.

use std::fmt::Debug;

use serde_json::Value;

/// Worst difference of a replay, as a multiple of the tolerance.
#[derive(Debug, Default)]
pub struct Replay {
    /// Largest error divided by its tolerance; the file agrees when this is at most 1.
    pub worst: f64,
    /// Where the worst error is, with what was computed and what was expected.
    pub place: String,
    /// Number of comparisons made.
    pub checks: usize,
}

#[allow(dead_code)] // Each layout uses the comparisons that it needs.
impl Replay {
    /// Compares within an absolute tolerance; equal infinities and two NaN agree.
    pub fn close(&mut self, place: &str, got: f64, want: f64, tolerance: f64) {
        let same = got == want || (got.is_nan() && want.is_nan());
        let error = if same {
            0.0
        } else {
            (got - want).abs() / tolerance
        };
        self.record(place, error, || format!("got {got:e}, expected {want:e}"));
    }

    /// Compares within a tolerance relative to the expected value.
    pub fn close_relative(&mut self, place: &str, got: f64, want: f64, tolerance: f64) {
        self.close(
            place,
            got,
            want,
            tolerance * want.abs().max(f64::MIN_POSITIVE),
        );
    }

    /// Compares two lists within an absolute tolerance.
    pub fn all_close(&mut self, place: &str, got: &[f64], want: &[f64], tolerance: f64) {
        self.exact(&format!("{place} length"), &got.len(), &want.len());
        for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
            self.close(&format!("{place}[{i}]"), g, w, tolerance);
        }
    }

    /// Requires equality.
    pub fn exact<T: PartialEq + Debug + ?Sized>(&mut self, place: &str, got: &T, want: &T) {
        let error = if got == want { 0.0 } else { f64::INFINITY };
        self.record(place, error, || format!("got {got:?}, expected {want:?}"));
    }

    /// Requires `got` to be at least `limit`.
    pub fn at_least(&mut self, place: &str, got: f64, limit: f64) {
        let error = if got >= limit { 0.0 } else { f64::INFINITY };
        self.record(place, error, || {
            format!("got {got}, expected at least {limit}")
        });
    }

    fn record(&mut self, place: &str, error: f64, detail: impl FnOnce() -> String) {
        self.checks += 1;
        let error = if error.is_nan() { f64::INFINITY } else { error };
        if error > self.worst {
            self.worst = error;
            self.place = format!("{place}: {}", detail());
        }
    }
}

/// Reads a number, or one of the strings `nan`, `inf`, `-inf`.
///
/// # Panics
///
/// On any other JSON value.
pub fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => match text.as_str() {
            "nan" => f64::NAN,
            "inf" => f64::INFINITY,
            "-inf" => f64::NEG_INFINITY,
            other => panic!("{other:?} is not a number"),
        },
        other => other
            .as_f64()
            .unwrap_or_else(|| panic!("{other} is not a number")),
    }
}

/// Reads a list of numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    array(value).iter().map(number).collect()
}

/// Reads a list of lists of numbers.
#[allow(dead_code)]
pub fn matrix(value: &Value) -> Vec<Vec<f64>> {
    array(value).iter().map(numbers).collect()
}

/// Reads a list of non-negative integers.
#[allow(dead_code)]
pub fn indices(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|v| v as usize).collect()
}

/// The items of a JSON array.
///
/// # Panics
///
/// When the value is not an array.
pub fn array(value: &Value) -> &Vec<Value> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("{value} is not a list"))
}

/// Reads a search space, in the order of the file.
///
/// # Panics
///
/// When a distribution cannot be read.
#[allow(dead_code)]
pub fn space(value: &Value) -> kiln_tune::ParamSpace {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, d)| (name.as_str(), distribution(d)))
        .collect()
}

/// Reads a distribution, whose bounds may be the strings of non-finite numbers.
///
/// # Panics
///
/// When it is not a distribution.
#[allow(dead_code)]
pub fn distribution(value: &Value) -> kiln_tune::Distribution {
    let json = kiln_tune::Json::parse(&value.to_string()).expect("serde_json writes JSON");
    kiln_tune::Distribution::from_json(&json).expect("the golden file has valid distributions")
}

/// Reads a parameter value as the user sees it.
///
/// # Panics
///
/// For lists and objects.
#[allow(dead_code)]
pub fn external(value: &Value) -> kiln_tune::ParamValue {
    let json = kiln_tune::Json::parse(&value.to_string()).expect("serde_json writes JSON");
    kiln_tune::ParamValue::from_json(&json).expect("a parameter value is a scalar")
}
