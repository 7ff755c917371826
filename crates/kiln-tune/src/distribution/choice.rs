//! The values a parameter can take.

use std::fmt;

use serde::ser::{self, Impossible, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::json::{Json, python_float};

/// A value of a parameter as the user sees it: a choice of a categorical parameter, or the number of a numeric one.
///
/// Values compare as in Python, because Optuna looks choices up that way: `true`, `1` and `1.0` are equal, and NaN is
/// equal to NaN.
///
/// ```
/// use kiln_tune::CategoricalChoice;
///
/// assert_eq!(CategoricalChoice::from(true), CategoricalChoice::from(1.0));
/// assert_ne!(CategoricalChoice::from("1"), CategoricalChoice::from(1));
/// ```
#[derive(Debug, Clone)]
pub enum CategoricalChoice {
    /// Python's `None`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating point number, which may be non-finite.
    Float(f64),
    /// A string.
    Str(String),
    /// An array or an object, which is what Optuna stores of a tuple, a list or a dict.
    Json(Json),
}

/// The external value of a parameter. Numeric parameters are `Float` or `Int`.
pub type ParamValue = CategoricalChoice;

impl CategoricalChoice {
    /// Turns a serde value into a choice: null, bools, numbers, strings, and enums whose variants carry no data.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] for sequences, maps, structs and variants with data.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        value
            .serialize(ChoiceSerializer)
            .map_err(|error| Error::InvalidDistribution(error.0))
    }

    /// The number of a bool, an integer or a float.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            #[allow(clippy::cast_precision_loss)]
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Null | Self::Str(_) | Self::Json(_) => None,
        }
    }

    /// The integer, when it is one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The string, when it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(value) => Some(value),
            _ => None,
        }
    }

    /// As JSON; the difference between `1` and `1.0` is kept.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::Int(*value),
            Self::Float(value) => Json::Float(*value),
            Self::Str(value) => Json::Str(value.clone()),
            Self::Json(value) => value.clone(),
        }
    }

    /// From JSON.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] for an integer beyond 64 signed bits, which would be rounded.
    pub fn from_json(json: &Json) -> Result<Self> {
        Ok(match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Int(value) => Self::Int(*value),
            Json::Float(value) => Self::Float(*value),
            Json::Str(value) => Self::Str(value.clone()),
            Json::Array(_) | Json::Object(_) => Self::Json(json.clone()),
            Json::BigInt(_) => {
                return Err(Error::InvalidDistribution(format!(
                    "an integer choice must fit 64 bits, but got {json}"
                )));
            }
        })
    }

    /// The Python literal, as in the text form of a distribution.
    pub(crate) fn to_python(&self) -> String {
        match self {
            Self::Null => "None".to_owned(),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => python_float(*value),
            Self::Str(value) => python_string(value),
            Self::Json(value) => python_json(value),
        }
    }
}

/// Equality of lists and dicts as in Python: by what they hold, which compares as choices do. The order of an object's keys
/// does not matter.
fn python_equal(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| python_equal(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            let same = |(key, value): &(String, Json)| {
                let other = b.iter().find(|(k, _)| k == key);
                other.is_some_and(|(_, other)| python_equal(value, other))
            };
            a.len() == b.len() && a.iter().all(same)
        }
        (Json::Array(_) | Json::Object(_), _) | (_, Json::Array(_) | Json::Object(_)) => false,
        _ => {
            let same = (
                CategoricalChoice::from_json(a),
                CategoricalChoice::from_json(b),
            );
            a == b || matches!(same, (Ok(a), Ok(b)) if a == b)
        }
    }
}

impl PartialEq for CategoricalChoice {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Json(a), Self::Json(b)) => python_equal(a, b),
            _ => match (self.as_f64(), other.as_f64()) {
                (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
                _ => false,
            },
        }
    }
}

/// The value as a reader expects it in a table: no quotes, `null` for nothing.
impl fmt::Display for CategoricalChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => f.write_str(&python_float(*value)),
            Self::Str(value) => f.write_str(value),
            Self::Json(value) => write!(f, "{value}"),
        }
    }
}

impl Serialize for CategoricalChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Str(value) => serializer.serialize_str(value),
            Self::Json(value) => value.to_strict().serialize(serializer),
        }
    }
}

impl From<bool> for CategoricalChoice {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for CategoricalChoice {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for CategoricalChoice {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for CategoricalChoice {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for CategoricalChoice {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl From<String> for CategoricalChoice {
    fn from(value: String) -> Self {
        Self::Str(value)
    }
}

impl<T: Into<CategoricalChoice>> From<Option<T>> for CategoricalChoice {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Python's `repr` of a string: single quotes unless only they occur inside.
fn python_string(value: &str) -> String {
    use std::fmt::Write as _;
    let quote = if value.contains('\'') && !value.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::from(quote);
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                write!(out, "\\x{:02x}", c as u32).expect("writing to a String cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Python's `repr` of what JSON text holds.
fn python_json(json: &Json) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    match json {
        Json::Array(items) => format!("[{}]", list(&mut items.iter().map(python_json))),
        Json::Object(entries) => {
            let mut entries = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", python_string(key), python_json(value)));
            format!("{{{}}}", list(&mut entries))
        }
        scalar => CategoricalChoice::from_json(scalar)
            .map_or_else(|_| scalar.to_string(), |choice| choice.to_python()),
    }
}

#[derive(Debug)]
struct ChoiceError(String);

impl fmt::Display for ChoiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ChoiceError {}

impl ser::Error for ChoiceError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Accepts exactly the values which a choice can be. `serde_json` would turn NaN into null.
struct ChoiceSerializer;

type Refused = Impossible<CategoricalChoice, ChoiceError>;

fn refuse<T>(what: &str) -> std::result::Result<T, ChoiceError> {
    Err(ChoiceError(format!(
        "a choice must be null, a bool, a number, a string or an enum variant without data, but got {what}"
    )))
}

macro_rules! int_choices {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> std::result::Result<CategoricalChoice, ChoiceError> {
            i64::try_from(value).map(CategoricalChoice::Int).map_err(|_| {
                ChoiceError(format!("a choice must fit into 64 signed bits, but got {value}"))
            })
        }
    )*};
}

#[allow(clippy::useless_conversion)]
impl Serializer for ChoiceSerializer {
    type Ok = CategoricalChoice;
    type Error = ChoiceError;
    type SerializeSeq = Refused;
    type SerializeTuple = Refused;
    type SerializeTupleStruct = Refused;
    type SerializeTupleVariant = Refused;
    type SerializeMap = Refused;
    type SerializeStruct = Refused;
    type SerializeStructVariant = Refused;

    int_choices!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_u8: u8,
        serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_bool(self, value: bool) -> std::result::Result<Self::Ok, Self::Error> {
        Ok(CategoricalChoice::Bool(value))
    }

    fn serialize_f32(self, value: f32) -> std::result::Result<Self::Ok, Self::Error> {
        Ok(CategoricalChoice::Float(value.into()))
    }

    fn serialize_f64(self, value: f64) -> std::result::Result<Self::Ok, Self::Error> {
        Ok(CategoricalChoice::Float(value))
    }

    fn serialize_char(self, value: char) -> std::result::Result<Self::Ok, Self::Error> {
        Ok(CategoricalChoice::Str(value.to_string()))
    }

    fn serialize_str(self, value: &str) -> std::result::Result<Self::Ok, Self::Error> {
        Ok(CategoricalChoice::Str(value.to_owned()))
    }

    fn serialize_bytes(self, _: &[u8]) -> std::result::Result<Self::Ok, Self::Error> {
        refuse("bytes")
    }

    fn serialize_none(self) -> std::result::Result<Self::Ok, Self::Error> {
        Ok(CategoricalChoice::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(
        self,
        value: &T,
    ) -> std::result::Result<Self::Ok, Self::Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> std::result::Result<Self::Ok, Self::Error> {
        Ok(CategoricalChoice::Null)
    }

    fn serialize_unit_struct(
        self,
        name: &'static str,
    ) -> std::result::Result<Self::Ok, Self::Error> {
        Ok(CategoricalChoice::Str(name.to_owned()))
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> std::result::Result<Self::Ok, Self::Error> {
        Ok(CategoricalChoice::Str(variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> std::result::Result<Self::Ok, Self::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> std::result::Result<Self::Ok, Self::Error> {
        refuse(&format!("the variant {variant} with data"))
    }

    fn serialize_seq(
        self,
        _: Option<usize>,
    ) -> std::result::Result<Self::SerializeSeq, Self::Error> {
        refuse("a sequence")
    }

    fn serialize_tuple(self, _: usize) -> std::result::Result<Self::SerializeTuple, Self::Error> {
        refuse("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> std::result::Result<Self::SerializeTupleStruct, Self::Error> {
        refuse(&format!("the struct {name}"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> std::result::Result<Self::SerializeTupleVariant, Self::Error> {
        refuse(&format!("the variant {variant} with data"))
    }

    fn serialize_map(
        self,
        _: Option<usize>,
    ) -> std::result::Result<Self::SerializeMap, Self::Error> {
        refuse("a map")
    }

    fn serialize_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> std::result::Result<Self::SerializeStruct, Self::Error> {
        refuse(&format!("the struct {name}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> std::result::Result<Self::SerializeStructVariant, Self::Error> {
        refuse(&format!("the variant {variant} with data"))
    }
}
