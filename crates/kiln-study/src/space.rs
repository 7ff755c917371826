//! Search spaces on the command line.

use kiln_tune::distribution::{
    CategoricalDistribution, Distribution, FloatDistribution, IntDistribution, ParamValue,
};
use kiln_tune::json::Json;
use kiln_tune::trial::ParamSpace;

/// How a parameter is written, for help and errors.
pub(crate) const FORM: &str =
    "NAME=float:LOW..HIGH[:log|:step=S], NAME=int:LOW..HIGH[:log|:step=S] or NAME=choice:A,B,C";

/// One `--param`.
#[derive(Debug, Clone)]
pub(crate) struct ParamSpec {
    pub(crate) name: String,
    pub(crate) distribution: Distribution,
    /// As it was typed.
    text: String,
}

/// Reads `lr=float:1e-5..1e-1:log`, `n=int:1..9:step=2`, `opt=choice:adam,sgd`.
pub(crate) fn parse_param(text: &str) -> Result<ParamSpec, String> {
    let refuse = |reason: &str| format!("{reason}; write {FORM}");
    let (name, rest) = text
        .split_once('=')
        .ok_or_else(|| refuse("there is no '=' after the name"))?;
    if name.is_empty() {
        return Err(refuse("the name is empty"));
    }
    let (kind, rest) = rest
        .split_once(':')
        .ok_or_else(|| refuse("there is no ':' after the kind"))?;
    let distribution: Distribution = match kind {
        "float" => {
            let (low, high, log, step) = range::<f64>(rest).map_err(|reason| refuse(&reason))?;
            FloatDistribution::build(low, high, log, step)
                .map_err(|error| error.to_string())?
                .into()
        }
        "int" => {
            let (low, high, log, step) = range::<i64>(rest).map_err(|reason| refuse(&reason))?;
            IntDistribution::build(low, high, log, step.unwrap_or(1))
                .map_err(|error| error.to_string())?
                .into()
        }
        "choice" | "categorical" | "cat" => {
            CategoricalDistribution::new(choices(rest).into_iter().map(parse_choice))
                .map_err(|error| error.to_string())?
                .into()
        }
        other => {
            return Err(refuse(&format!(
                "the kind must be float, int or choice, but got {other:?}"
            )));
        }
    };
    Ok(ParamSpec {
        name: name.to_owned(),
        distribution,
        text: text.to_owned(),
    })
}

fn range<T: std::str::FromStr>(text: &str) -> Result<(T, T, bool, Option<T>), String> {
    let mut parts = text.split(':');
    let bounds = parts.next().unwrap_or_default();
    let (low, high) = bounds
        .split_once("..")
        .ok_or_else(|| format!("{bounds:?} is not LOW..HIGH"))?;
    let number = |text: &str| {
        text.trim()
            .parse::<T>()
            .map_err(|_| format!("{text:?} is not a number of this kind"))
    };
    let (low, high) = (number(low)?, number(high)?);
    let (mut log, mut step) = (false, None);
    for part in parts {
        match part.split_once('=') {
            None if part == "log" => log = true,
            Some(("step", value)) => step = Some(number(value)?),
            _ => return Err(format!("{part:?} is neither log nor step=S")),
        }
    }
    Ok((low, high, log, step))
}

/// Splits choices at the commas that are not within a list, a dict or quotes.
pub(crate) fn choices(text: &str) -> Vec<&str> {
    let (mut start, mut open, mut quoted, mut escaped) = (0, 0_usize, false, false);
    let mut choices = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' | '{' => open += 1,
            ']' | '}' => open = open.saturating_sub(1),
            ',' if open == 0 => {
                choices.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    choices.push(&text[start..]);
    // What is never closed is meant as it is written.
    if open > 0 || quoted {
        choices = text.split(',').collect();
    }
    choices
}

/// A choice: what [`parse_value`] reads, or a list or dict as JSON, which is how Optuna keeps a tuple.
fn parse_choice(text: &str) -> ParamValue {
    match Json::parse(text.trim()) {
        Ok(json @ (Json::Array(_) | Json::Object(_))) => ParamValue::Json(json),
        _ => parse_value(text.trim()),
    }
}

/// A value as a person writes it: `0.1`, `3`, `true`, `null`, `"1"` for a string that looks like a number, `adam`.
///
/// What a number would change stays the text that it is: `007`, `1.10`, and more digits than a number keeps.
pub(crate) fn parse_value(text: &str) -> ParamValue {
    match Json::parse(text) {
        Ok(json @ (Json::Null | Json::Bool(_) | Json::Str(_))) => {
            ParamValue::from_json(&json).unwrap_or_else(|_| text.into())
        }
        Ok(Json::Int(value)) if keeps_digits(text, &value.to_string()) => value.into(),
        _ => match text.parse::<f64>() {
            // `inf` and `nan` are numbers; too large a number, such as `1e400`, stays text.
            Ok(value) if !value.is_finite() => {
                if text.bytes().any(|b| b.is_ascii_digit()) {
                    text.into()
                } else {
                    value.into()
                }
            }
            Ok(value) if keeps_digits(text, &format!("{value:e}")) && !is_too_long(text) => {
                value.into()
            }
            _ => text.into(),
        },
    }
}

/// A value for a parameter whose distribution is known: a number wherever only a number fits, and otherwise the choice
/// that is written like this.
pub(crate) fn parse_value_of(text: &str, distribution: &Distribution) -> ParamValue {
    let typed = parse_value(text);
    match distribution {
        Distribution::Categorical(categorical) => {
            let readings = [typed.clone(), text.into(), parse_choice(text)];
            let known = readings
                .into_iter()
                .find(|reading| categorical.index_of(reading).is_some());
            known.unwrap_or(typed)
        }
        Distribution::Int(_) => text.parse::<i64>().map_or(typed, ParamValue::from),
        Distribution::Float(_) => text.parse::<f64>().map_or(typed, ParamValue::from),
    }
}

/// Whether this is an integer of more than 64 bits.
fn is_too_long(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    digits.bytes().all(|b| b.is_ascii_digit()) && text.parse::<i64>().is_err()
}

/// Whether a number has the digits that were typed: none lost, and no zero that only text has, neither in front nor at the
/// end. With an exponent, as in `1.0e-3`, it is a number and no name of something.
fn keeps_digits(typed: &str, number: &str) -> bool {
    let (mantissa, exponent) = typed.split_once(['e', 'E']).unwrap_or((typed, ""));
    let unsigned = mantissa.trim_start_matches(['-', '+']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let zeros = (whole.len() > 1 && whole.starts_with('0'))
        || (fraction.len() > 1 && fraction.ends_with('0'));
    let digits = |text: &str| {
        let text = text.split(['e', 'E']).next().unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        digits.trim_matches('0').to_owned()
    };
    (!zeros || !exponent.is_empty()) && digits(typed) == digits(number)
}

/// The parameters as a space, each name once. What the distributions warn of is said here.
pub(crate) fn space(params: &[ParamSpec]) -> Result<ParamSpace, String> {
    let mut space = ParamSpace::new();
    for param in params {
        if space.contains(&param.name) {
            return Err(format!("parameter {:?} is given twice", param.name));
        }
        // Read again: the command line was read before warnings could be shown.
        space.insert(param.name.as_str(), parse_param(&param.text)?.distribution);
    }
    Ok(space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_parameter_is_read() {
        for (text, expected) in [
            (
                "lr=float:1e-5..1e-1:log",
                "FloatDistribution(high=0.1, log=True, low=1e-05, step=None)",
            ),
            (
                "x=float:-1..1",
                "FloatDistribution(high=1.0, log=False, low=-1.0, step=None)",
            ),
            (
                "x=float:0..1:step=0.25",
                "FloatDistribution(high=1.0, log=False, low=0.0, step=0.25)",
            ),
            (
                "n=int:-3..9:step=2",
                "IntDistribution(high=9, log=False, low=-3, step=2)",
            ),
            (
                "n=int:1..1000:log",
                "IntDistribution(high=1000, log=True, low=1, step=1)",
            ),
            (
                "c=choice:adam,sgd,1,2.5,true,null,\"1\"",
                "CategoricalDistribution(choices=('adam', 'sgd', 1, 2.5, True, None, '1'))",
            ),
            (
                "k=choice:[3,3], [5, 5],{\"a\": [1,2]},\"x,y\"",
                "CategoricalDistribution(choices=([3, 3], [5, 5], {'a': [1, 2]}, 'x,y'))",
            ),
            (
                "k=choice:[3,3",
                "CategoricalDistribution(choices=('[3', 3))",
            ),
        ] {
            assert_eq!(
                parse_param(text).unwrap().distribution.to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_number_would_change_stays_as_typed() {
        for text in [
            "007",
            "-007",
            "00",
            "1.10",
            "3.10",
            "0.50",
            "1.00",
            "00.5",
            "12345678901234567890",
            "1e400",
            "12e5678",
            "-9223372036854775809",
            "0.1234567890123456789",
            "2.0.1",
            "1_000",
            "0x10",
            "1,5",
            "v1",
            "",
        ] {
            assert!(
                matches!(parse_value(text), ParamValue::Str(kept) if kept == text),
                "{text}"
            );
        }
        for (text, shown) in [
            ("7", "7"),
            ("-7", "-7"),
            ("0", "0"),
            ("10", "10"),
            ("1.0", "1.0"),
            ("0.1", "0.1"),
            ("-0.25", "-0.25"),
            ("100.0", "100.0"),
            (".5", "0.5"),
            ("+1.5", "1.5"),
            ("1e-3", "0.001"),
            ("1.0e-3", "0.001"),
            ("1E5", "100000.0"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("inf", "inf"),
            ("-inf", "-inf"),
        ] {
            let value = parse_value(text);
            assert!(
                matches!(value, ParamValue::Int(_) | ParamValue::Float(_)),
                "{text}"
            );
            assert_eq!(value.to_string(), shown);
        }
    }

    #[test]
    fn a_known_parameter_says_how_its_value_is_read() {
        let value = |text: &str, param: &str| {
            parse_value_of(text, &parse_param(param).unwrap().distribution).to_json()
        };
        assert_eq!(value("0.50", "x=float:0..1"), Json::Float(0.5));
        assert_eq!(value("1", "x=float:0..1"), Json::Float(1.0));
        assert_eq!(value("007", "n=int:0..9"), Json::Int(7));
        assert_eq!(value("007", "c=choice:007,008"), "007".into());
        assert_eq!(value("1", "c=choice:\"1\",2"), "1".into());
        assert_eq!(value("2", "c=choice:\"1\",2"), Json::Int(2));
        assert_eq!(value("null", "c=choice:a,null"), Json::Null);
    }

    #[test]
    fn a_parameter_that_cannot_be_read_says_why() {
        for (text, reason) in [
            ("lr", "no '='"),
            ("=float:0..1", "name is empty"),
            ("lr=0..1", "no ':'"),
            ("lr=normal:0..1", "float, int or choice"),
            ("lr=float:0", "LOW..HIGH"),
            ("lr=float:a..1", "\"a\" is not a number"),
            ("n=int:0.5..1", "\"0.5\" is not a number"),
            ("lr=float:0..1:log", "log"),
            ("lr=float:2..1", "low"),
            ("lr=float:0..1:sqrt", "neither log nor step"),
        ] {
            let error = parse_param(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let twice = [
            parse_param("a=int:0..1").unwrap(),
            parse_param("a=int:0..2").unwrap(),
        ];
        assert!(space(&twice).unwrap_err().contains("twice"));
    }
}
