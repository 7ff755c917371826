//! The JSON and Python text forms of distributions.

use super::{
    CategoricalChoice, CategoricalDistribution, Distribution, FloatDistribution, IntDistribution,
};
use crate::error::{Error, Result};
use crate::json::{Json, python_float};

impl Distribution {
    /// As the JSON object that Optuna stores, with its order of keys.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let (name, attributes) = match self {
            Self::Float(d) => (
                "FloatDistribution",
                vec![
                    ("step", Json::from(d.step())),
                    ("low", Json::Float(d.low())),
                    ("high", Json::Float(d.high())),
                    ("log", Json::Bool(d.log())),
                ],
            ),
            Self::Int(d) => (
                "IntDistribution",
                vec![
                    ("log", Json::Bool(d.log())),
                    ("step", Json::Int(d.step())),
                    ("low", Json::Int(d.low())),
                    ("high", Json::Int(d.high())),
                ],
            ),
            Self::Categorical(d) => {
                let choices = d.choices().iter().map(CategoricalChoice::to_json).collect();
                (
                    "CategoricalDistribution",
                    vec![("choices", Json::Array(choices))],
                )
            }
        };
        let attributes = attributes
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        Json::Object(vec![
            ("name".to_owned(), Json::Str(name.to_owned())),
            ("attributes".to_owned(), Json::Object(attributes)),
        ])
    }

    /// From a JSON object; see [`from_json_text`](Self::from_json_text).
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] when a field is missing, has the wrong type or breaks a rule.
    pub fn from_json(json: &Json) -> Result<Self> {
        let fields = Fields(json);
        let Some(name) = json.get("name") else {
            return match fields.text("type")? {
                "float" => float(
                    &fields,
                    fields.flag("log")?,
                    fields.optional_number("step")?,
                ),
                "int" => int(
                    &fields,
                    fields.flag("log")?,
                    fields.optional_integer("step")?.unwrap_or(1),
                ),
                "categorical" => categorical(&fields),
                other => Err(Error::InvalidDistribution(format!(
                    "type must be float, int or categorical, but got {other:?}"
                ))),
            };
        };
        let attributes = json.get("attributes").ok_or_else(|| {
            Error::InvalidDistribution(format!(
                "a distribution needs \"attributes\", but got {json}"
            ))
        })?;
        let fields = Fields(attributes);
        match name.as_str().unwrap_or_default() {
            "FloatDistribution" => float(
                &fields,
                fields.flag("log")?,
                fields.optional_number("step")?,
            ),
            "UniformDistribution" => float(&fields, false, None),
            "LogUniformDistribution" => float(&fields, true, None),
            "DiscreteUniformDistribution" => float(&fields, false, Some(fields.number("q")?)),
            "IntDistribution" => int(
                &fields,
                fields.flag("log")?,
                fields.optional_integer("step")?.unwrap_or(1),
            ),
            "IntUniformDistribution" => int(
                &fields,
                false,
                fields.optional_integer("step")?.unwrap_or(1),
            ),
            "IntLogUniformDistribution" => {
                int(&fields, true, fields.optional_integer("step")?.unwrap_or(1))
            }
            "CategoricalDistribution" => categorical(&fields),
            _ => Err(Error::InvalidDistribution(format!(
                "name must be FloatDistribution, IntDistribution or CategoricalDistribution, but got {name}"
            ))),
        }
    }

    /// The text of Python's `repr`: class name, then the attributes sorted by name.
    pub(super) fn to_python(&self) -> String {
        let flag = |value| if value { "True" } else { "False" };
        match self {
            Self::Float(d) => format!(
                "FloatDistribution(high={}, log={}, low={}, step={})",
                python_float(d.high()),
                flag(d.log()),
                python_float(d.low()),
                d.step().map_or_else(|| "None".to_owned(), python_float)
            ),
            Self::Int(d) => format!(
                "IntDistribution(high={}, log={}, low={}, step={})",
                d.high(),
                flag(d.log()),
                d.low(),
                d.step()
            ),
            Self::Categorical(d) => {
                let choices: Vec<String> = d
                    .choices()
                    .iter()
                    .map(CategoricalChoice::to_python)
                    .collect();
                // A Python tuple of one element has a trailing comma.
                let comma = if choices.len() == 1 { "," } else { "" };
                format!(
                    "CategoricalDistribution(choices=({}{comma}))",
                    choices.join(", ")
                )
            }
        }
    }
}

fn float(fields: &Fields, log: bool, step: Option<f64>) -> Result<Distribution> {
    Ok(FloatDistribution::build(fields.number("low")?, fields.number("high")?, log, step)?.into())
}

fn int(fields: &Fields, log: bool, step: i64) -> Result<Distribution> {
    Ok(IntDistribution::build(fields.integer("low")?, fields.integer("high")?, log, step)?.into())
}

fn categorical(fields: &Fields) -> Result<Distribution> {
    let choices = fields.required("choices")?;
    let items = choices
        .as_array()
        .ok_or_else(|| fields.wrong("choices", "an array"))?;
    let choices: Vec<_> = items
        .iter()
        .map(CategoricalChoice::from_json)
        .collect::<Result<_>>()?;
    Ok(CategoricalDistribution::new(choices)?.into())
}

/// Up to this number, 2^53, every integer is a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Typed access to the fields of a JSON object.
struct Fields<'a>(&'a Json);

impl<'a> Fields<'a> {
    fn wrong(&self, key: &str, wanted: &str) -> Error {
        Error::InvalidDistribution(format!("{key} must be {wanted}, but got {}", self.0))
    }

    fn required(&self, key: &str) -> Result<&'a Json> {
        self.0.get(key).ok_or_else(|| self.wrong(key, "given"))
    }

    fn optional(&self, key: &str) -> Option<&'a Json> {
        self.0.get(key).filter(|value| **value != Json::Null)
    }

    fn text(&self, key: &str) -> Result<&'a str> {
        self.required(key)?
            .as_str()
            .ok_or_else(|| self.wrong(key, "a string"))
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.optional(key).map_or(Ok(false), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.wrong(key, "true or false"))
        })
    }

    fn number(&self, key: &str) -> Result<f64> {
        self.required(key)?
            .as_f64()
            .ok_or_else(|| self.wrong(key, "a number"))
    }

    fn optional_number(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key).map(|_| self.number(key)).transpose()
    }

    fn integer(&self, key: &str) -> Result<i64> {
        match self.required(key)? {
            Json::Int(value) => Ok(*value),
            // Other programs may write 3 as 3.0. Beyond 2^53 a float stands for several integers.
            #[allow(clippy::cast_possible_truncation)]
            Json::Float(value) if value.fract() == 0.0 && value.abs() <= EXACT => Ok(*value as i64),
            _ => Err(self.wrong(key, "an integer of at most 64 bits")),
        }
    }

    fn optional_integer(&self, key: &str) -> Result<Option<i64>> {
        self.optional(key).map(|_| self.integer(key)).transpose()
    }
}
