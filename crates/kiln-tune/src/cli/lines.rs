//! What a tuned program says on its standard output.

use crate::json::Json;

/// What one line of output means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    /// `{"step": 3, "value": 0.5}`, `step 3: loss 0.5` or `Epoch 3/10 ... 0.5`.
    Report { step: i64, value: f64 },
    /// `{"value": 0.5}` or `{"values": [0.5, 1.0]}`, with what else the object holds.
    Result {
        values: Vec<f64>,
        constraints: Vec<(String, f64)>,
        attrs: Vec<(String, Json)>,
    },
    /// The numbers of any other line, in order.
    Numbers(Vec<f64>),
}

/// Reads one line.
pub(super) fn parse_line(line: &str) -> Line {
    let line = line.trim();
    if line.starts_with('{')
        && let Ok(json) = Json::parse(line)
        && let Some(found) = parse_object(&json)
    {
        return found;
    }
    let numbers = numbers(line);
    match (step(line), numbers.last()) {
        // A line with nothing but the step reports nothing.
        (Some(step), Some(value)) if numbers.len() > 1 => Line::Report {
            step,
            value: *value,
        },
        (Some(_), _) => Line::Numbers(Vec::new()),
        (None, _) => Line::Numbers(numbers),
    }
}

fn parse_object(json: &Json) -> Option<Line> {
    let value = json.get("value").and_then(number);
    if let Some(step) = json.get("step").and_then(Json::as_i64) {
        return Some(Line::Report {
            step,
            value: value?,
        });
    }
    let values = match json.get("values").and_then(Json::as_array) {
        Some(values) => values.iter().map(number).collect::<Option<Vec<f64>>>()?,
        None => vec![value?],
    };
    let entries = |key: &str| json.get(key).and_then(Json::as_object).unwrap_or_default();
    let constraints = entries("constraints")
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), number(value)?)))
        .collect();
    Some(Line::Result {
        values,
        constraints,
        attrs: entries("user_attrs").to_vec(),
    })
}

/// A number, or the text of one, since not every JSON writer has NaN.
fn number(json: &Json) -> Option<f64> {
    json.as_f64().or_else(|| json.as_str()?.parse().ok())
}

/// The number after a leading `step` or `epoch`.
fn step(line: &str) -> Option<i64> {
    let lower = line.to_ascii_lowercase();
    let rest = ["step", "epoch", "iteration", "iter"]
        .iter()
        .find_map(|word| lower.strip_prefix(word))?;
    let rest = rest.trim_start_matches([' ', '=', ':', '#', '[', '\t']);
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    rest[..digits].parse().ok()
}

/// Every number of a line: words of digits, sign, point and exponent, and `nan` and `inf`.
fn numbers(line: &str) -> Vec<f64> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_')))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| {
            word.bytes().any(|b| b.is_ascii_digit())
                || ["nan", "inf", "infinity"].iter().any(|name| {
                    word.trim_start_matches(['-', '+'])
                        .eq_ignore_ascii_case(name)
                })
        })
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_line_are_found_among_words() {
        for (line, expected) in [
            ("0.25", vec![0.25]),
            ("final loss=0.25, accuracy: 93.5%", vec![0.25, 93.5]),
            ("  -1e-3  ", vec![-1e-3]),
            ("done in 3 s. loss 2.", vec![3.0, 2.0]),
            ("loss inf", vec![f64::INFINITY]),
            ("info: nanotubes", vec![]),
            ("model v2 of 2026-11-22 saved to run_3/x7.bin", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse_line(line), Line::Numbers(expected), "{line:?}");
        }
        assert!(matches!(&parse_line("loss: NaN")[..], [value] if value.is_nan()));
    }

    impl std::ops::Deref for Line {
        type Target = [f64];
        fn deref(&self) -> &[f64] {
            match self {
                Self::Numbers(numbers) => numbers,
                _ => &[],
            }
        }
    }

    #[test]
    fn reports_are_found_in_json_and_in_text() {
        for line in [
            "{\"step\": 3, \"value\": 0.5}",
            "step 3: 0.5",
            "step=3 loss=0.5",
            "Epoch 3/10 lr 0.1 val_loss 0.5",
            "EPOCH [3] 0.5",
        ] {
            assert_eq!(
                parse_line(line),
                Line::Report {
                    step: 3,
                    value: 0.5
                },
                "{line}"
            );
        }
        assert_eq!(parse_line("Epoch 3"), Line::Numbers(Vec::new()));
    }

    #[test]
    fn a_json_line_gives_values_constraints_and_notes() {
        let line = r#"{"values": [1, "nan"], "constraints": {"memory": -0.5}, "user_attrs": {"note": [1]}}"#;
        let Line::Result {
            values,
            constraints,
            attrs,
        } = parse_line(line)
        else {
            panic!("not a result")
        };
        assert!(values[0] == 1.0 && values[1].is_nan());
        assert_eq!(constraints, [("memory".to_owned(), -0.5)]);
        assert_eq!(attrs[0].1.to_string(), "[1]");
        assert_eq!(
            parse_line("{\"value\": 2}"),
            Line::Result {
                values: vec![2.0],
                constraints: vec![],
                attrs: vec![]
            }
        );
        // Other objects are text.
        assert_eq!(parse_line("{\"loss\": 0.5}"), Line::Numbers(vec![0.5]));
    }
}
