//! A line that is a JSON object, or a dictionary as Python prints it.

use super::lines::{Line, Said};
use kiln_tune::json::Json;
use kiln_tune::terminator::cross_validation_scores;

/// An object that says something of the objective.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object {
    /// The values, if it has any; null and NaN are NaN.
    pub(crate) values: Option<Vec<f64>>,
    pub(crate) notes: Notes,
}

/// What else is to be kept with a trial.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Notes {
    pub(crate) constraints: Vec<(String, f64)>,
    pub(crate) attrs: Vec<(String, Json)>,
    /// Cross-validation scores, whose mean the value is.
    pub(crate) scores: Option<Vec<f64>>,
}

type Entries = Vec<(String, Json)>;

/// The entries of a line that is an object.
pub(crate) fn entries(line: &str) -> Option<Entries> {
    if !line.starts_with('{') || !line.ends_with('}') {
        return None;
    }
    let json = Json::parse(line)
        .ok()
        .or_else(|| Json::parse(&python_to_json(line)?).ok());
    match json {
        Some(Json::Object(entries)) => Some(entries),
        _ => None,
    }
}

/// Whether a line looks like an object, though it may be none: `{"value": <Loss of 3 items>}`.
pub(crate) fn is_like_one(line: &str) -> bool {
    let inside = line.strip_prefix('{').map(str::trim_start);
    inside.is_some_and(|inside| inside.starts_with(['"', '\'']))
}

/// What becomes of a line that only looks like an object: its numbers could be anything.
///
/// # Errors
/// If it seems to have a value.
pub(crate) fn refuse(line: &str) -> Result<Line, String> {
    let has_value = ["\"value", "'value"].iter().any(|key| line.contains(key));
    if has_value {
        let shown: String = line.chars().take(200).collect();
        return Err(format!(
            "the program printed a value in an object that is not JSON: {shown}"
        ));
    }
    Ok(Line {
        step: None,
        progress: None,
        said: Said::Keys(Vec::new()),
    })
}

/// Reads an object. The names of the metrics come first; its own keys are `value` or `values`, `step`, `constraints`, `user_attrs` and
/// `cv_scores`.
///
/// # Errors
/// Says which entry is not as it must be.
pub(crate) fn parse(entries: &Entries, metrics: &[String]) -> Result<Line, String> {
    let get = |key: &str| entries.iter().find(|(k, _)| k == key).map(|(_, v)| v);
    let found: Vec<Option<f64>> = metrics
        .iter()
        .map(|name| lookup(entries, name).and_then(measured))
        .collect();
    let is_measured = found.iter().any(Option::is_some);
    let value = get("values").or_else(|| get("value"));
    let of_notes = [get("constraints"), get("user_attrs"), get("cv_scores")];
    let has_notes = of_notes.iter().any(Option::is_some);
    if !is_measured && value.is_none() && !has_notes {
        let keys = entries.iter().map(|(key, _)| key.clone());
        return Ok(Line {
            step: None,
            progress: None,
            said: Said::Keys(keys.collect()),
        });
    }
    let notes = notes(of_notes)?;
    if !is_measured {
        let step = get("step").filter(|_| value.is_some());
        return Ok(Line {
            step: step.map(cast_step).transpose()?,
            progress: None,
            said: Said::Object(Object {
                values: value.map(cast_values).transpose()?,
                notes,
            }),
        });
    }
    let mut progress = None;
    let step = match get("step") {
        Some(step) => Some(cast_step(step)?),
        None => ["global_step", "epoch", "iteration", "iter"]
            .iter()
            .find_map(|key| get(key))
            .and_then(|step| {
                // `"epoch": 0.25` is a quarter of the way to the end of the first one.
                if step.as_f64().is_some_and(|step| step.fract() != 0.0) {
                    progress = Some(false);
                }
                cast_step(step).ok()
            }),
    };
    Ok(Line {
        step,
        progress,
        said: Said::Metrics(found, notes),
    })
}

/// The entry of a name; `metrics.loss` is `loss` in the object `metrics` where no key has the whole name.
fn lookup<'a>(entries: &'a [(String, Json)], name: &str) -> Option<&'a Json> {
    if let Some((_, value)) = entries.iter().find(|(key, _)| key == name) {
        return Some(value);
    }
    let (outer, inner) = name.split_once('.')?;
    let (_, value) = entries.iter().find(|(key, _)| key == outer)?;
    lookup(value.as_object()?, inner)
}

/// What was measured of a metric. Settings often have its name, as in `"loss": "mse"`; they are no numbers.
fn measured(json: &Json) -> Option<f64> {
    match json {
        Json::Bool(_) => None,
        other => cast(other),
    }
}

/// Python's `float()`; null is NaN, which is what writers without NaN make of it.
fn cast(json: &Json) -> Option<f64> {
    match json {
        Json::Null => Some(f64::NAN),
        Json::Bool(value) => Some(f64::from(u8::from(*value))),
        Json::Str(text) => python_digits(text)?.parse().ok(),
        other => other.as_f64(),
    }
}

fn cast_values(json: &Json) -> Result<Vec<f64>, String> {
    let one = |json: &Json| {
        cast(json).ok_or_else(|| format!("the program printed a value that is no number: {json}"))
    };
    match json {
        Json::Array(items) => items.iter().map(one).collect(),
        other => Ok(vec![one(other)?]),
    }
}

/// Python's `int()`, as Optuna casts the step of a report.
fn cast_step(json: &Json) -> Result<i64, String> {
    #[allow(clippy::cast_possible_truncation)]
    let step = match json {
        Json::Int(step) => Some(*step),
        Json::Bool(step) => Some(i64::from(*step)),
        Json::Float(step) if step.abs() < 2f64.powi(63) => Some(step.trunc() as i64),
        Json::Str(text) => python_digits(text).and_then(|digits| digits.parse().ok()),
        _ => None,
    };
    step.filter(|step| *step >= 0).ok_or_else(|| {
        format!("the program printed a step that is no whole number from 0 to 2^63 - 1: {json}")
    })
}

/// The text of a Python number without its spaces and underscores.
fn python_digits(text: &str) -> Option<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let between_digits = |at: usize| {
        let digit = |at: Option<usize>| {
            at.and_then(|at| bytes.get(at))
                .is_some_and(u8::is_ascii_digit)
        };
        digit(at.checked_sub(1)) && digit(at.checked_add(1))
    };
    let misplaced = text.match_indices('_').any(|(at, _)| !between_digits(at));
    (!misplaced).then(|| text.replace('_', ""))
}

fn notes([constraints, attrs, scores]: [Option<&Json>; 3]) -> Result<Notes, String> {
    let scores = scores.filter(|scores| **scores != Json::Null).map(|json| {
        cast_values(json).and_then(|scores| {
            let checked = cross_validation_scores(&scores).map(|_| scores);
            checked.map_err(|error| format!("the program printed \"cv_scores\" {json}: {error}"))
        })
    });
    let object = |key: &str, json: Option<&Json>| match json {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Object(entries)) => Ok(entries.clone()),
        Some(other) => Err(format!(
            "the program printed {key:?} that is no object: {other}"
        )),
    };
    let constraint = |(key, value): (String, Json)| match cast(&value) {
        Some(number) if !number.is_nan() => Ok((key, number)),
        _ => Err(format!(
            "the program printed a constraint that is no number: {key:?} is {value}"
        )),
    };
    Ok(Notes {
        constraints: object("constraints", constraints)?
            .into_iter()
            .map(constraint)
            .collect::<Result<_, _>>()?,
        attrs: object("user_attrs", attrs)?,
        scores: scores.transpose()?,
    })
}

/// A Python literal as JSON text: `{'loss': 0.5, 'best': None}`. None when it holds something else than plain values.
fn python_to_json(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' => {
                let mut inside = String::new();
                loop {
                    match rest.next()? {
                        end if end == c => break,
                        '\\' => match rest.next()? {
                            'n' => inside.push('\n'),
                            't' => inside.push('\t'),
                            'r' => inside.push('\r'),
                            escaped @ ('\\' | '\'' | '"') => inside.push(escaped),
                            _ => return None,
                        },
                        other => inside.push(other),
                    }
                }
                out.push_str(&Json::Str(inside).to_string());
            }
            c if c.is_ascii_alphabetic() => {
                let mut word = String::from(c);
                while let Some(next) =
                    rest.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
                {
                    word.push(next);
                }
                if rest.next_if_eq(&'(').is_some() {
                    out.push_str(&number_of_call(&word, &mut rest)?);
                    continue;
                }
                out.push_str(match word.as_str() {
                    "None" => "null",
                    "True" => "true",
                    "False" => "false",
                    "nan" => "NaN",
                    "inf" => "Infinity",
                    // The exponent of a number.
                    exponent if exponent.starts_with(['e', 'E']) => exponent,
                    _ => return None,
                });
            }
            '(' => out.push('['),
            ')' => out.push(']'),
            c => out.push(c),
        }
    }
    Some(out)
}

/// The number of `tensor(0.5, device='cuda:0')` or `np.float64(0.5)`, whose bracket is open.
fn number_of_call(function: &str, rest: &mut impl Iterator<Item = char>) -> Option<String> {
    let kind = function.rsplit('.').next()?;
    if !["tensor", "array", "float", "int"]
        .iter()
        .any(|known| kind.starts_with(known))
    {
        return None;
    }
    let inside: String = rest.take_while(|c| *c != ')').collect();
    let number = inside.split(',').next()?.trim().trim_end_matches('.');
    let number: f64 = number.parse().ok()?;
    Some(Json::Float(number).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, metrics: &[&str]) -> Result<Line, String> {
        let metrics: Vec<String> = metrics.iter().map(|name| (*name).to_owned()).collect();
        parse(&entries(line).expect(line), &metrics)
    }

    fn object(line: &str) -> Object {
        match read(line, &[]).unwrap().said {
            Said::Object(object) => object,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_json_line_gives_values_constraints_and_notes() {
        let line = r#"{"values": [1, "nan"], "constraints": {"memory": -0.5}, "user_attrs": {"note": [1]}}"#;
        let said = object(line);
        let values = said.values.unwrap();
        assert!(values[0] == 1.0 && values[1].is_nan());
        assert_eq!(said.notes.constraints, [("memory".to_owned(), -0.5)]);
        assert_eq!(said.notes.attrs[0].1.to_string(), "[1]");
        assert_eq!(object("{\"value\": 2}").values, Some(vec![2.0]));
        for line in [
            "{'value': 2, 'x': None}",
            "{'value': tensor(2.)}",
            "{\"value\": tensor(2., device='cuda:0', grad_fn=<A>)}",
            "{'value': np.float64(2.0), 'rate': 5e-05}",
            "{'value': array(2, dtype=int32)}",
        ] {
            assert_eq!(object(line).values, Some(vec![2.0]), "{line}");
        }
        assert!(object("{'value': np.float64(nan)}").values.unwrap()[0].is_nan());
        assert_eq!(object("{\"value\": [2.5]}").values, Some(vec![2.5]));
        assert_eq!(object("{\"values\": true}").values, Some(vec![1.0]));
        assert_eq!(object("{\"constraints\": {}}").values, None);
    }

    #[test]
    fn null_is_nan_and_not_the_next_number() {
        for line in [
            r#"{"step": 1, "value": null}"#,
            r#"{"value": null, "n": 3}"#,
            r#"{"value": NaN}"#,
            "{'value': nan}",
            "{'value': None}",
        ] {
            assert!(object(line).values.unwrap()[0].is_nan(), "{line}");
        }
    }

    #[test]
    fn steps_are_cast_as_optuna_casts_them() {
        for (step, expected) in [
            ("3", 3),
            ("3.0", 3),
            ("3.7", 3),
            ("-0.5", 0),
            ("\"3\"", 3),
            ("\" +1_000 \"", 1000),
            ("true", 1),
            ("9223372036854775807", i64::MAX),
        ] {
            let line = format!("{{\"step\": {step}, \"value\": 0.5}}");
            assert_eq!(read(&line, &[]).unwrap().step, Some(expected), "{line}");
        }
        for step in [
            "null",
            "-1",
            "\"x\"",
            "\"3.5\"",
            "\"_1\"",
            "[1]",
            "{}",
            "NaN",
            "Infinity",
            "1e30",
            "9223372036854775808",
        ] {
            let line = format!("{{\"step\": {step}, \"value\": 0.5}}");
            let error = read(&line, &[]).unwrap_err();
            assert!(error.contains("step"), "{line}: {error}");
        }
    }

    #[test]
    fn an_entry_that_is_not_what_it_must_be_is_named() {
        for (line, reason) in [
            (r#"{"value": "high"}"#, "no number: \"high\""),
            (r#"{"value": {"loss": 1}}"#, "no number"),
            (r#"{"values": [1, [2]]}"#, "no number: [2]"),
            (r#"{"step": 1, "value": [[]]}"#, "no number"),
            (r#"{"value": 1, "constraints": {"c": "x"}}"#, "\"c\""),
            (r#"{"value": 1, "constraints": {"c": null}}"#, "\"c\""),
            (r#"{"value": 1, "constraints": [1]}"#, "no object"),
            (r#"{"value": 1, "user_attrs": "x"}"#, "no object"),
        ] {
            let error = read(line, &[]).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn an_object_without_a_value_is_not_scraped_for_numbers() {
        for line in [
            r#"{"loss": 0.5}"#,
            r#"{"lr": 0.1, "batch_size": 32}"#,
            "{'loss': 0.5, 'epoch': 1.0}",
            "{}",
        ] {
            assert!(
                matches!(read(line, &[]).unwrap().said, Said::Keys(_)),
                "{line}"
            );
        }
        assert_eq!(entries("{0.5}"), None);
        assert!(!is_like_one("{0.5}"));
        for line in ["{'loss': tensor([0.5, 1])}", "{\"loss\": 0.5"] {
            assert_eq!(entries(line), None);
            assert!(is_like_one(line) && refuse(line).is_ok(), "{line}");
        }
        for line in [
            "{\"value\": tensor([0.5, 1], device='cuda:0')}",
            "{'value': Decimal('0.5')}",
            "{'step': 1, 'value': 0.5",
            "{\"values\": [1, 2",
        ] {
            assert_eq!(entries(line), None);
            let error = refuse(line).unwrap_err();
            assert!(
                is_like_one(line) && error.contains("not JSON"),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn named_metrics_are_found_in_objects_with_their_step() {
        for (line, metric, step, value) in [
            (r#"{"epoch": 2, "val_loss": 0.9}"#, "val_loss", Some(2), 0.9),
            (
                r#"{"step": 40, "epoch": 2, "loss": "0.9"}"#,
                "loss",
                Some(40),
                0.9,
            ),
            (
                "{'eval_loss': 0.9, 'eval_runtime': 1.2, 'epoch': 1.0}",
                "eval_loss",
                Some(1),
                0.9,
            ),
            (
                r#"{"metrics": {"loss": 0.9}, "t": 5}"#,
                "metrics.loss",
                None,
                0.9,
            ),
            (r#"{"metrics.loss": 0.9}"#, "metrics.loss", None, 0.9),
        ] {
            let read = read(line, &[metric]).unwrap();
            assert_eq!(
                read.said,
                Said::Metrics(vec![Some(value)], Notes::default()),
                "{line}"
            );
            assert_eq!((read.step, read.progress), (step, None), "{line}");
        }
        let part = read("{'loss': 0.9, 'epoch': 1.5}", &["loss"]).unwrap();
        assert_eq!((part.step, part.progress), (Some(1), Some(false)));
        let settings = read(r#"{"loss": "mse", "lr": 0.1}"#, &["loss"]).unwrap();
        assert!(matches!(settings.said, Said::Keys(_)));
        let both = read(r#"{"loss": 0.5, "acc": 0.9}"#, &["acc", "loss", "f1"]).unwrap();
        let Said::Metrics(found, _) = both.said else {
            panic!("no metric")
        };
        assert_eq!(found, [Some(0.9), Some(0.5), None]);
        let line = r#"{"loss": 0.5, "value": 3, "constraints": {"c": 1}, "user_attrs": {"a": 2}}"#;
        let Said::Metrics(found, notes) = read(line, &["loss"]).unwrap().said else {
            panic!("no metric")
        };
        assert_eq!(
            (found, notes.constraints.len(), notes.attrs.len()),
            (vec![Some(0.5)], 1, 1)
        );
    }
}
