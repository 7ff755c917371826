//! The JSON of study and trial attributes, as Optuna writes it.
//!
//! Two things keep `serde_json::Value` from being enough: attributes may hold `NaN` and infinities
//! (bare `NaN`, `Infinity`, `-Infinity` in the text), and the text itself is compared byte for byte by
//! other workers, so it must be laid out as Python's `json.dumps` does.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use crate::error::{Error, Result};

/// A JSON value which may be non-finite and which keeps the difference between `1` and `1.0`.
///
/// ```
/// use kiln_tune::Json;
///
/// let value = Json::parse(r#"{"loss": NaN, "epochs": [1, 2.0]}"#)?;
/// assert_eq!(value.get("epochs").unwrap().to_string(), "[1, 2.0]");
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer beyond 64 signed bits, by its digits: Python's integers have no end, and are kept exact.
    BigInt(String),
    /// A floating point number, which may be non-finite.
    Float(f64),
    /// A string.
    Str(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; the order of its keys is kept.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads JSON text. `NaN`, `Infinity` and `-Infinity` are accepted as Python does.
    ///
    /// # Errors
    /// [`Error::InvalidJson`] with the byte offset when the text is not JSON.
    pub fn parse(text: &str) -> Result<Self> {
        Parser::new(text).document()
    }

    /// As [`parse`](Self::parse), but what lies deeper than `levels` is not read: an empty array stands for it, so that the
    /// value has `levels` levels and one more, which [`depth`](Self::depth) tells.
    pub(crate) fn parse_cut(text: &str, levels: usize) -> Result<Self> {
        let mut parser = Parser::new(text);
        parser.cut = Some(levels);
        parser.document()
    }

    /// How many levels of arrays and objects there are: none in a number, one in `[1]`.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(entries) => 1 + entries.iter().map(|(_, v)| v.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Turns any serde value into JSON.
    ///
    /// # Errors
    /// [`Error::InvalidJson`] when the value cannot be represented, such as a map whose keys are not strings.
    pub fn from_serialize<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_value(value)
            .map(Self::from)
            .map_err(|error| Error::InvalidJson(error.to_string()))
    }

    /// The value under `key` of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The number as a float, for an integer or a float; of an integer with many digits the nearest one.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss)]
            Self::Int(value) => Some(*value as f64),
            Self::BigInt(digits) => digits.parse().ok(),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, when it is one of 64 signed bits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The truth value.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(value) => Some(value),
            _ => None,
        }
    }

    /// The items of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of an object, in the order of the text.
    #[must_use]
    pub fn as_object(&self) -> Option<&[(String, Json)]> {
        match self {
            Self::Object(entries) => Some(entries),
            _ => None,
        }
    }

    /// The text without any space, as the journal file has it.
    #[must_use]
    pub fn to_compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, ",", ":");
        out
    }

    /// Strict JSON for other programs: non-finite numbers become the strings `"nan"`, `"inf"`, `"-inf"`, and integers
    /// beyond 64 bits the string of their digits.
    #[must_use]
    pub fn to_strict(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::BigInt(digits) => match digits.parse::<u64>() {
                Ok(value) => value.into(),
                Err(_) => digits.as_str().into(),
            },
            Self::Float(value) => match serde_json::Number::from_f64(*value) {
                Some(number) => serde_json::Value::Number(number),
                None if value.is_nan() => "nan".into(),
                None if *value > 0.0 => "inf".into(),
                None => "-inf".into(),
            },
            Self::Str(value) => value.clone().into(),
            Self::Array(items) => items.iter().map(Self::to_strict).collect(),
            Self::Object(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .map(|(k, v)| (k.clone(), v.to_strict()))
                    .collect(),
            ),
        }
    }

    fn write(&self, out: &mut String, comma: &str, colon: &str) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Int(value) => write!(out, "{value}").expect("writing to a String cannot fail"),
            Self::BigInt(digits) => out.push_str(digits),
            Self::Float(value) => write_json_float(out, *value),
            Self::Str(value) => write_json_string(out, value),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(comma);
                    }
                    item.write(out, comma, colon);
                }
                out.push(']');
            }
            Self::Object(entries) => {
                out.push('{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push_str(comma);
                    }
                    write_json_string(out, key);
                    out.push_str(colon);
                    value.write(out, comma, colon);
                }
                out.push('}');
            }
        }
    }
}

/// The text of Python's `json.dumps` with its default separators, `", "` and `": "`.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out, ", ", ": ");
        f.write_str(&out)
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value),
                (None, Some(value)) => Self::BigInt(value.to_string()),
                (None, None) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(value) => Self::Str(value),
            serde_json::Value::Array(items) => {
                Self::Array(items.into_iter().map(Self::from).collect())
            }
            serde_json::Value::Object(entries) => Self::Object(
                entries
                    .into_iter()
                    .map(|(k, v)| (k, Self::from(v)))
                    .collect(),
            ),
        }
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Json {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Json {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Json {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<f32> for Json {
    fn from(value: f32) -> Self {
        Self::Float(value.into())
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl From<String> for Json {
    fn from(value: String) -> Self {
        Self::Str(value)
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Json>> FromIterator<T> for Json {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

/// A finite float as Python's `repr` prints it: shortest digits, `.0` or an exponent always there, exponents below
/// 1e-4 and from 1e16 on.
#[must_use]
pub fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific
        .split_once('e')
        .expect("LowerExp always writes an exponent");
    let exponent: i32 = exponent
        .parse()
        .expect("LowerExp writes an integer exponent");
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn write_json_float(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        out.push_str(&python_float(value));
    }
}

fn write_json_string(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                // Python escapes everything outside ASCII (and DEL is left alone), astral characters as surrogates.
                if c == '\u{7f}' {
                    out.push(c);
                    continue;
                }
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a String cannot fail");
                }
            }
        }
    }
    out.push('"');
}

/// Deeper nesting than this is refused, so that a hostile attribute cannot overflow the stack.
pub(crate) const MAX_DEPTH: usize = 200;

/// Objects with more keys than this look for equal ones in a table.
const FEW_KEYS: usize = 16;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// From which depth on values are passed over instead of refused.
    cut: Option<usize>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            cut: None,
        }
    }

    fn document(mut self) -> Result<Json> {
        self.skip_space();
        let value = self.value()?;
        self.skip_space();
        if self.at < self.text.len() {
            return Err(self.error("text goes on after the value"));
        }
        Ok(value)
    }

    fn error(&self, message: &str) -> Error {
        Error::InvalidJson(format!(
            "{message} at byte {} of {} bytes",
            self.at,
            self.text.len()
        ))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json> {
        if self.rest().starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.error("no JSON value found"))
        }
    }

    fn value(&mut self) -> Result<Json> {
        match self.peek() {
            None => Err(self.error("the text ends where a value should be")),
            Some(b'n') => self.word("null", Json::Null),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'N') => self.word("NaN", Json::Float(f64::NAN)),
            Some(b'I') => self.word("Infinity", Json::Float(f64::INFINITY)),
            Some(b'"') => self.string().map(Json::Str),
            Some(b'[') => self.nested(Self::array),
            Some(b'{') => self.nested(Self::object),
            Some(_) => self.number(),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json>) -> Result<Json> {
        if self.cut.is_some_and(|levels| self.depth == levels) {
            self.pass_over()?;
            return Ok(Json::Array(Vec::new()));
        }
        if self.cut.is_none() && self.depth == MAX_DEPTH {
            return Err(self.error("more than 200 levels of nesting"));
        }
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Goes past an array or an object without reading it, however deep it is.
    fn pass_over(&mut self) -> Result<()> {
        let mut open = 0_usize;
        loop {
            match self.peek() {
                None => return Err(self.error("the text ends within an array or an object")),
                Some(b'"') => {
                    self.string()?;
                    continue;
                }
                Some(b'[' | b'{') => open += 1,
                Some(b']' | b'}') => open -= 1,
                Some(_) => {}
            }
            self.at += 1;
            if open == 0 {
                return Ok(());
            }
        }
    }

    fn array(&mut self) -> Result<Json> {
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.separator(b']')? {
                return Ok(Json::Array(items));
            }
        }
    }

    fn object(&mut self) -> Result<Json> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        let mut positions: HashMap<String, usize> = HashMap::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(entries));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("an object key must be a string"));
            }
            let key = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.error("':' expected"));
            }
            self.at += 1;
            self.skip_space();
            let value = self.value()?;
            // As in Python, the last of several equal keys counts.
            let known = if entries.len() < FEW_KEYS {
                entries.iter().position(|(k, _)| *k == key)
            } else {
                if positions.is_empty() {
                    positions.extend(entries.iter().enumerate().map(|(i, (k, _))| (k.clone(), i)));
                }
                let next = entries.len();
                let at = *positions.entry(key.clone()).or_insert(next);
                (at < next).then_some(at)
            };
            match known {
                Some(at) => entries[at].1 = value,
                None => entries.push((key, value)),
            }
            if self.separator(b'}')? {
                return Ok(Json::Object(entries));
            }
        }
    }

    /// Reads `,` (false) or the closing bracket (true).
    fn separator(&mut self, close: u8) -> Result<bool> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_space();
                Ok(false)
            }
            Some(c) if c == close => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.error("',' or a closing bracket expected")),
        }
    }

    fn number(&mut self) -> Result<Json> {
        if self.rest().starts_with("-Infinity") {
            self.at += "-Infinity".len();
            return Ok(Json::Float(f64::NEG_INFINITY));
        }
        let length = self
            .rest()
            .bytes()
            .take_while(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'))
            .count();
        let token = &self.rest()[..length];
        if !token
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_digit() || b == b'-')
        {
            return Err(self.error("no JSON value found"));
        }
        let digits = token.strip_prefix('-').unwrap_or(token);
        let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let value = match token.parse::<i64>() {
            Ok(value) => Json::Int(value),
            Err(_) if whole => Json::BigInt(token.to_owned()),
            Err(_) => match token.parse::<f64>() {
                Ok(value) => Json::Float(value),
                Err(_) => return Err(self.error("not a number")),
            },
        };
        self.at += length;
        Ok(value)
    }

    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let stop = rest
                .find(['"', '\\'])
                .ok_or_else(|| self.error("a string has no closing quote"))?;
            out.push_str(&rest[..stop]);
            let quote = rest.as_bytes()[stop] == b'"';
            self.at += stop + 1;
            if quote {
                return Ok(out);
            }
            let escape = self
                .peek()
                .ok_or_else(|| self.error("a string has no closing quote"))?;
            self.at += 1;
            match escape {
                b'"' => out.push('"'),
                b'\\' => out.push('\\'),
                b'/' => out.push('/'),
                b'b' => out.push('\u{8}'),
                b'f' => out.push('\u{c}'),
                b'n' => out.push('\n'),
                b'r' => out.push('\r'),
                b't' => out.push('\t'),
                b'u' => out.push(self.unicode_escape()?),
                _ => return Err(self.error("unknown escape in a string")),
            }
        }
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let first = self.hex4()?;
        if !(0xd800..0xdc00).contains(&first) {
            // A lone low surrogate has no character; Python keeps it, Rust strings cannot.
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if !self.rest().starts_with("\\u") {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let before = self.at;
        self.at += 2;
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            self.at = before;
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .ok_or_else(|| self.error("four hexadecimal digits expected"))?;
        let code = u32::from_str_radix(digits, 16)
            .map_err(|_| self.error("four hexadecimal digits expected"))?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, text) in [
            (1e-5, "1e-05"),
            (1e-4, "0.0001"),
            (1.0, "1.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-1.5, "-1.5"),
            (-0.0, "-0.0"),
            (2.5e-300, "2.5e-300"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::INFINITY, "Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(Json::Float(value).to_string(), text);
        }
    }

    #[test]
    fn text_survives_a_round_trip_byte_for_byte() {
        let text =
            r#"{"a": [1, 1.0, -Infinity, null, true, {}], "\u00e9\"x\ud83d\ude00": "\n", "b": []}"#;
        assert_eq!(Json::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn integers_beyond_64_bits_are_kept_exact() {
        let text = r#"[9223372036854775808, -9223372036854775809, 18446744073709551615, 123456789012345678901234567890]"#;
        let json = Json::parse(text).unwrap();
        assert_eq!(json.to_string(), text);
        assert_eq!(json.as_array().unwrap()[0].as_f64(), Some(2f64.powi(63)));
        assert_eq!(json.as_array().unwrap()[0].as_i64(), None);
        assert_eq!(
            json.to_strict().to_string(),
            r#"[9223372036854775808,"-9223372036854775809",18446744073709551615,"123456789012345678901234567890"]"#
        );
        assert_eq!(
            Json::from_serialize(&u64::MAX).unwrap().to_string(),
            u64::MAX.to_string()
        );
    }

    #[test]
    fn malformed_text_is_an_error_with_its_place() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "\"abc",
            "1 2",
            "nul",
            "+1",
            "\"\\u12\"",
            "\"\\x\"",
            "{1: 2}",
            "-",
            "1e",
        ] {
            let error = Json::parse(text).unwrap_err().to_string();
            assert!(error.contains("at byte"), "{text}: {error}");
        }
        assert!(Json::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn what_lies_too_deep_is_passed_over_when_it_may_be_cut() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        for levels in [0, 3, 4, 5, 6, 100_000] {
            let text = format!(r#"[{}, "a]\"", {{"b": 2}}]"#, deep(levels));
            let json = Json::parse_cut(&text, 5).unwrap();
            assert_eq!(json.depth(), (levels + 1).clamp(2, 6), "{levels}");
            assert_eq!(json.as_array().unwrap()[1..].len(), 2);
        }
        for text in ["[[[", r#"[[["]]]"#, "[[1]] 2"] {
            assert!(Json::parse_cut(text, 1).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_of_equal_keys_counts_however_many_keys_there_are() {
        for n in [2, FEW_KEYS, 3000] {
            let entries: Vec<String> = (0..2 * n).map(|i| format!("\"{}\": {i}", i % n)).collect();
            let json = Json::parse(&format!("{{{}}}", entries.join(", "))).unwrap();
            let entries = json.as_object().unwrap();
            assert_eq!(entries.len(), n);
            assert_eq!(
                entries[n - 1],
                ((n - 1).to_string(), Json::Int(2 * n as i64 - 1))
            );
        }
    }
}
