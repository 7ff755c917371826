//! One comparison, and reading the references' arrays.

use std::error::Error;

use serde_json::Value;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One comparison.
pub struct Check {
    /// What was compared.
    pub what: String,
    /// The worst error in units of what is allowed: at most 1 is right. NaN is wrong.
    pub ratio: f64,
    /// Where a wrong one goes wrong.
    pub detail: Vec<String>,
}

impl Check {
    #[allow(dead_code)] // The tests compare networks only.
    pub fn new(what: impl Into<String>, ratio: f64) -> Self {
        Self {
            what: what.into(),
            ratio,
            detail: Vec::new(),
        }
    }

    /// A comparison in which nothing may differ: `detail` says what does.
    pub fn exact(what: impl Into<String>, detail: Vec<String>) -> Self {
        Self {
            what: what.into(),
            ratio: if detail.is_empty() {
                0.0
            } else {
                f64::INFINITY
            },
            detail,
        }
    }

    pub fn agrees(&self) -> bool {
        self.ratio <= 1.0
    }
}

/// The numbers of `{"shape": [..], "data": [..]}`, where the non-finite ones are strings.
pub fn numbers(array: &Value) -> Result<Vec<f64>> {
    let number = |value: &Value| match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    };
    let data = array["data"].as_array().ok_or("an array without data")?;
    let numbers: Option<Vec<f64>> = data.iter().map(number).collect();
    numbers.ok_or_else(|| "an array with something else than numbers in it".into())
}

/// The shape of `{"shape": [..], "data": [..]}`.
pub fn shape(array: &Value) -> Result<Vec<usize>> {
    let axes = array["shape"]
        .as_array()
        .ok_or("an array without a shape")?;
    let axes: Option<Vec<usize>> = axes
        .iter()
        .map(|axis| Some(axis.as_u64()? as usize))
        .collect();
    axes.ok_or_else(|| "a shape with something else than sizes in it".into())
}

/// The largest difference; NaN if the lengths differ or one number is NaN and the other is not.
pub fn worst(ours: &[f64], theirs: &[f64]) -> f64 {
    if ours.len() != theirs.len() {
        return f64::NAN;
    }
    let differences = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() });
    differences.fold(0.0, |worst, next| {
        if next.is_nan() || worst.is_nan() {
            f64::NAN
        } else {
            next.max(worst)
        }
    })
}
