//! What values a parameter can take, and how they are stored.
//!
//! Every value has two forms. The *external* value is what the user sees: a float, an integer, a choice. The
//! *internal* value is the float which storages and samplers work on: the number itself, or the index of the choice.

mod categorical;
mod choice;
mod decimal;
mod float;
mod int;
mod text;

use std::fmt;

pub use categorical::CategoricalDistribution;
pub use choice::{CategoricalChoice, ParamValue};
pub(crate) use decimal::Grid;
pub use float::FloatDistribution;
pub use int::IntDistribution;

use crate::error::{Error, Result};
use crate::json::{Json, MAX_DEPTH, python_float};

/// The values of one parameter.
///
/// Two distributions are equal when they are of the same kind and all their fields are equal.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// A float, see [`FloatDistribution`].
    Float(FloatDistribution),
    /// An integer, see [`IntDistribution`].
    Int(IntDistribution),
    /// One of some choices, see [`CategoricalDistribution`].
    Categorical(CategoricalDistribution),
}

/// Why the text of a stored distribution is none.
#[derive(Debug)]
pub enum Unusable {
    /// It is not JSON, which no program writes.
    Damaged(Error),
    /// It is of a kind that this release does not know.
    Unknown(Error),
}

impl Distribution {
    /// Whether only one value is possible. Such a parameter is never passed to a sampler.
    #[must_use]
    pub fn is_single(&self) -> bool {
        match self {
            Self::Float(float) => float.is_single(),
            Self::Int(int) => int.low() == int.high(),
            Self::Categorical(categorical) => categorical.choices().len() == 1,
        }
    }

    /// The internal value of a single-valued distribution; the lowest or first one otherwise.
    #[must_use]
    pub fn single_value(&self) -> f64 {
        match self {
            Self::Float(float) => float.low(),
            #[allow(clippy::cast_precision_loss)]
            Self::Int(int) => int.low() as f64,
            Self::Categorical(_) => 0.0,
        }
    }

    /// Whether an internal value is a value of this distribution.
    ///
    /// ```
    /// use kiln_tune::{Distribution, FloatDistribution};
    ///
    /// let grid: Distribution = FloatDistribution::with_step(0.0, 1.0, 0.25)?.into();
    /// assert!(grid.contains(0.75) && !grid.contains(0.8));
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    #[must_use]
    pub fn contains(&self, internal: f64) -> bool {
        match self {
            Self::Float(float) => float.contains(internal),
            Self::Int(int) => int.contains(internal),
            Self::Categorical(categorical) => categorical.contains(internal),
        }
    }

    /// The external value of an internal one.
    ///
    /// A category index outside of the choices, which only a damaged storage can hold, gives `Null`.
    #[must_use]
    pub fn to_external(&self, internal: f64) -> ParamValue {
        match self {
            Self::Float(_) => ParamValue::Float(internal),
            Self::Int(int) => ParamValue::Int(int.value(internal)),
            Self::Categorical(categorical) => categorical
                .choice(internal)
                .cloned()
                .unwrap_or(ParamValue::Null),
        }
    }

    /// The internal value of an external one. It may lie outside of the range; see [`contains`](Self::contains).
    ///
    /// # Errors
    /// [`Error::ValueNotInDistribution`] when the value is not a number (or NaN, or not positive on a log scale), not one
    /// of the choices, or, for an integer, infinite or one of more than 64 bits.
    pub fn to_internal(&self, external: &ParamValue) -> Result<f64> {
        let refused = || Error::ValueNotInDistribution {
            value: external.to_python(),
            distribution: self.to_string(),
        };
        match self {
            Self::Float(_) | Self::Int(_) => {
                let number = match (self, external) {
                    (Self::Int(_), external) => int::internal(external),
                    // Python's float() reads text, and values that came through a command line are text.
                    (_, ParamValue::Str(text)) => text.trim().parse().ok(),
                    (_, other) => other.as_f64(),
                };
                number
                    .filter(|x: &f64| !x.is_nan() && (*x > 0.0 || !self.is_log()))
                    .ok_or_else(refused)
            }
            #[allow(clippy::cast_precision_loss)]
            Self::Categorical(categorical) => categorical
                .index_of(external)
                .or_else(|| {
                    // A list or a dict that came through a command line is text.
                    let json = Json::parse(external.as_str()?).ok()?;
                    categorical.index_of(&ParamValue::from_json(&json).ok()?)
                })
                .map(|index| index as f64)
                .ok_or_else(refused),
        }
    }

    /// Whether the parameter is on a log scale.
    #[must_use]
    pub fn is_log(&self) -> bool {
        match self {
            Self::Float(float) => float.log(),
            Self::Int(int) => int.log(),
            Self::Categorical(_) => false,
        }
    }

    /// Whether this is a [`CategoricalDistribution`].
    #[must_use]
    pub fn is_categorical(&self) -> bool {
        matches!(self, Self::Categorical(_))
    }

    /// Checks that a parameter of a study may go from this distribution to `new`: same kind, same log scale, and for
    /// categories the same choices. Ranges and steps may change.
    ///
    /// # Errors
    /// [`Error::IncompatibleDistribution`] with both distributions.
    pub fn check_compatible(&self, name: &str, new: &Self) -> Result<()> {
        let reason = match (self, new) {
            (Self::Float(_), Self::Float(_)) | (Self::Int(_), Self::Int(_)) => {
                if self.is_log() == new.is_log() {
                    return Ok(());
                }
                "a parameter keeps its log setting within a study"
            }
            (Self::Categorical(a), Self::Categorical(b)) => {
                if a == b {
                    return Ok(());
                }
                "a categorical parameter keeps its choices and their order within a study"
            }
            _ => "a parameter keeps its kind (float, int or categorical) within a study",
        };
        Err(Error::IncompatibleDistribution {
            name: name.to_owned(),
            old: self.to_string(),
            new: new.to_string(),
            reason: reason.to_owned(),
        })
    }

    /// The JSON text which Optuna's storages hold, byte for byte.
    ///
    /// ```
    /// use kiln_tune::{Distribution, FloatDistribution};
    ///
    /// let distribution: Distribution = FloatDistribution::new(-1.5, 2.0)?.into();
    /// let text = r#"{"name": "FloatDistribution", "attributes": {"step": null, "low": -1.5, "high": 2.0, "log": false}}"#;
    /// assert_eq!(distribution.to_json_text(), text);
    /// assert_eq!(Distribution::from_json_text(text)?, distribution);
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    #[must_use]
    pub fn to_json_text(&self) -> String {
        self.to_json().to_string()
    }

    /// Reads the JSON text of a distribution: any order of keys, the names of older Optuna releases
    /// (`UniformDistribution`, `IntLogUniformDistribution`, ...) and the short form with `"type"`.
    ///
    /// # Errors
    /// [`Error::InvalidJson`] or [`Error::InvalidDistribution`].
    pub fn from_json_text(text: &str) -> Result<Self> {
        Self::from_json(&Json::parse(text)?)
    }

    /// As [`from_json_text`](Self::from_json_text), for text of a storage, with the reason that decides what becomes of it.
    ///
    /// # Errors
    /// [`Unusable::Damaged`] for what no program writes, [`Unusable::Unknown`] for what a newer one may have written.
    pub fn from_stored(text: &str) -> Result<Self, Unusable> {
        let json = Json::parse_cut(text, MAX_DEPTH).map_err(Unusable::Damaged)?;
        if json.depth() > MAX_DEPTH {
            return Err(Unusable::Unknown(Error::InvalidDistribution(format!(
                "its choices have more than {MAX_DEPTH} levels of nesting"
            ))));
        }
        Self::from_json(&json).map_err(Unusable::Unknown)
    }

    /// Checks an internal value of a storage. A number may lie outside of its range, as an enqueued one does; an index has
    /// no meaning without its choice, and NaN none at all.
    ///
    /// # Errors
    /// [`Error::ValueNotInDistribution`] for such a value.
    pub fn check_stored(&self, internal: f64) -> Result<()> {
        if internal.is_nan() || (self.is_categorical() && !self.contains(internal)) {
            return Err(Error::ValueNotInDistribution {
                value: python_float(internal),
                distribution: self.to_string(),
            });
        }
        Ok(())
    }
}

/// The text form, `FloatDistribution(high=1.0, log=False, low=0.0, step=None)`, which also identifies a search space
/// in the attributes of the QMC sampler.
impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_python())
    }
}

impl From<FloatDistribution> for Distribution {
    fn from(value: FloatDistribution) -> Self {
        Self::Float(value)
    }
}

impl From<IntDistribution> for Distribution {
    fn from(value: IntDistribution) -> Self {
        Self::Int(value)
    }
}

impl From<CategoricalDistribution> for Distribution {
    fn from(value: CategoricalDistribution) -> Self {
        Self::Categorical(value)
    }
}
