//! Reading numbers and arrays of reference files.

use serde_json::Value;

use crate::Result;

/// A number, or the word for one that JSON lacks (`NaN`, `inf`, `-Infinity` and the like).
pub fn number(value: &Value) -> Result<f64> {
    let number = match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    };
    number.ok_or_else(|| format!("{value} is not a number").into())
}

/// The number of that name.
pub fn field(object: &Value, key: &str) -> Result<f64> {
    number(&object[key]).map_err(|_| format!("{key} is {}, not a number", object[key]).into())
}

/// The text of that name.
pub fn text<'a>(object: &'a Value, key: &str) -> Result<&'a str> {
    object[key]
        .as_str()
        .ok_or_else(|| format!("no {key}").into())
}

/// The size or count of that name.
pub fn count(object: &Value, key: &str) -> Result<usize> {
    let number = object[key].as_u64().ok_or_else(|| format!("no {key}"))?;
    Ok(number as usize)
}

/// The list of that name.
pub fn list<'a>(object: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    object[key]
        .as_array()
        .ok_or_else(|| format!("no {key}").into())
}

/// A list of sizes.
pub fn sizes(value: &Value) -> Result<Vec<usize>> {
    let axes = value.as_array().ok_or("a shape that is no list")?;
    let axes: Option<Vec<usize>> = axes.iter().map(|n| Some(n.as_u64()? as usize)).collect();
    axes.ok_or_else(|| "a shape with something else than sizes in it".into())
}

/// `{"shape": [..], "data": [..]}`, row after row. A bare number has no axes.
#[derive(Clone, Debug, Default)]
pub struct Array {
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// The values, the last axis fastest.
    pub data: Vec<f64>,
}

impl Array {
    /// Reads an array or a bare number.
    pub fn of(value: &Value) -> Result<Self> {
        if !value.is_object() {
            return Ok(Self {
                shape: Vec::new(),
                data: vec![number(value)?],
            });
        }
        let shape = sizes(&value["shape"])?;
        let data = list(value, "data")?.iter().map(number);
        let data = data.collect::<Result<Vec<f64>>>()?;
        if shape.iter().product::<usize>() != data.len() {
            return Err(format!("{} values for the shape {shape:?}", data.len()).into());
        }
        Ok(Self { shape, data })
    }

    /// The values in single precision.
    pub fn f32s(&self) -> Vec<f32> {
        self.data.iter().map(|&value| value as f32).collect()
    }
}
