//! Lists of numbers in JSON, which has no NaN and no infinity: they are the strings `NaN`, `Infinity` and
//! `-Infinity`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Float {
    Number(f64),
    Name(String),
}

pub(super) fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    let text = |value: &f64| match *value {
        v if v.is_nan() => Float::Name("NaN".into()),
        f64::INFINITY => Float::Name("Infinity".into()),
        f64::NEG_INFINITY => Float::Name("-Infinity".into()),
        v => Float::Number(v),
    };
    serializer.collect_seq(values.iter().map(text))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let values = Vec::<Float>::deserialize(from)?;
    let number = |value| match value {
        Float::Number(v) => Ok(v),
        Float::Name(name) => match name.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(D::Error::custom(format!("{name:?} is not a number"))),
        },
    };
    values.into_iter().map(number).collect()
}
