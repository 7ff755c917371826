//! Tables, CSV and JSON.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use kiln_tune::error::Result;
use kiln_tune::json::{Json, python_float};
use kiln_tune::study::Study;
use kiln_tune::trial::{Attrs, FrozenTrial, Timestamp};
use kiln_tune::{is_unsafe, printable};

/// The layout of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for reading
    Table,
    /// Comma-separated values (RFC 4180)
    Csv,
    /// A JSON array
    Json,
}

/// Prints JSON on lines of its own. What a terminal may act upon is escaped, also where JSON need not do so.
pub(crate) fn print_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    let text = format!("{value:#}");
    let mut rest = text.as_str();
    // Outside of its strings JSON has line feeds alone.
    while let Some(at) = rest.find(|c| c != '\n' && is_unsafe(c)) {
        let (before, after) = rest.split_at(at);
        let mut chars = after.chars();
        let code = chars.next().map_or(0, u32::from);
        write!(out, "{before}\\u{code:04x}")?;
        rest = chars.as_str();
    }
    writeln!(out, "{rest}")
}

/// Rows under a header, in columns that are as wide as they need to be. A cell is one line, whatever it holds.
pub(crate) fn print_table(
    out: &mut dyn Write,
    header: &[String],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let safe = |row: &[String]| -> Vec<String> {
        row.iter()
            .map(|cell| printable(cell).into_owned())
            .collect()
    };
    let header = safe(header);
    let rows: Vec<Vec<String>> = rows.iter().map(|row| safe(row)).collect();
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(i, name)| {
            rows.iter()
                .map(|row| width(&row[i]))
                .chain([width(name)])
                .max()
                .unwrap_or(0)
        })
        .collect();
    // Numbers line up on the right.
    let right: Vec<bool> = (0..header.len())
        .map(|i| {
            rows.iter()
                .all(|row| row[i].is_empty() || row[i].parse::<f64>().is_ok())
        })
        .collect();
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for ((cell, &columns), &right) in row.iter().zip(&widths).zip(&right) {
            let padding = " ".repeat(columns - width(cell));
            line.push_str(&if right {
                format!("{padding}{cell}  ")
            } else {
                format!("{cell}{padding}  ")
            });
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Rows under a header as CSV. In a file every cell is as it is; on a terminal control characters are escaped.
pub(crate) fn print_csv(
    out: &mut dyn Write,
    header: &[String],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let on_terminal = io::stdout().is_terminal();
    let quote = |cell: &String| {
        let cell = if on_terminal {
            printable(cell)
        } else {
            Cow::Borrowed(cell.as_str())
        };
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.into_owned()
        }
    };
    for row in std::iter::once(header).chain(rows.iter().map(Vec::as_slice)) {
        writeln!(
            out,
            "{}",
            row.iter().map(quote).collect::<Vec<_>>().join(",")
        )?;
    }
    Ok(())
}

/// A number for reading: with all its digits, as Python writes very large and very small ones (`1e+300`).
pub(crate) fn number_text(value: f64) -> String {
    let size = value.abs();
    if value.is_finite() && size != 0.0 && !(1e-4..1e16).contains(&size) {
        python_float(value)
    } else {
        value.to_string()
    }
}

/// A share of something with four decimals, never `-0.0000`.
pub(crate) fn share_text(share: f64) -> String {
    let text = format!("{share:.4}");
    match text.strip_prefix('-') {
        Some(zero) if zero.bytes().all(|b| matches!(b, b'0' | b'.')) => zero.to_owned(),
        _ => text,
    }
}

/// A float with all its digits, as in JSON but for non-finite values.
pub(crate) fn number(value: f64) -> Value {
    Json::Float(value).to_strict()
}

/// A moment as text: date, time and UTC offset for JSON.
pub(crate) fn time_json(time: Option<Timestamp>) -> Value {
    time.map_or(Value::Null, |time| {
        time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
            .into()
    })
}

/// A moment for a table.
pub(crate) fn time_text(time: Option<Timestamp>) -> String {
    time.map_or_else(String::new, |time| {
        time.format("%Y-%m-%d %H:%M:%S").to_string()
    })
}

/// Attributes as a JSON object.
pub(crate) fn attrs_json(attrs: &Attrs) -> Value {
    Value::Object(
        attrs
            .iter()
            .map(|(key, value)| (key.clone(), value.to_strict()))
            .collect(),
    )
}

/// Parameters as a JSON object, in suggest order.
pub(crate) fn params_json(trial: &FrozenTrial) -> Value {
    Value::Object(
        trial
            .params
            .iter()
            .map(|param| (param.name.to_string(), param.value().to_json().to_strict()))
            .collect(),
    )
}

/// A trial as a JSON object.
pub(crate) fn trial_json(trial: &FrozenTrial) -> Value {
    let values = trial.values.as_ref().map(|values| {
        values
            .iter()
            .map(|value| number(*value))
            .collect::<Vec<_>>()
    });
    let reports: serde_json::Map<_, _> = trial
        .intermediate_values
        .iter()
        .map(|(step, value)| (step.to_string(), number(*value)))
        .collect();
    let constraints: serde_json::Map<_, _> = trial
        .constraints()
        .into_iter()
        .map(|(key, value)| (key, number(value)))
        .collect();
    let distributions: serde_json::Map<_, _> = trial
        .params
        .iter()
        .map(|param| {
            (
                param.name.to_string(),
                param.distribution.to_json().to_strict(),
            )
        })
        .collect();
    let mut object = json!({
        "number": trial.number,
        "state": trial.state.name(),
        "value": trial.value().map(number),
        "values": values,
        "params": params_json(trial),
        "distributions": distributions,
        "user_attrs": attrs_json(&trial.user_attrs),
        "system_attrs": attrs_json(&trial.system_attrs),
        "intermediate_values": reports,
        "constraints": constraints,
        "datetime_start": time_json(trial.datetime_start),
        "datetime_complete": time_json(trial.datetime_complete),
        "duration_seconds": trial.duration().map(|time| time.as_seconds_f64()),
    });
    if trial
        .values
        .as_ref()
        .is_some_and(|values| values.len() != 1)
    {
        object["value"] = Value::Null;
    }
    object
}

/// `lr=0.01, optimizer=adam`, on one line.
pub(crate) fn params_text(trial: &FrozenTrial) -> String {
    let params: Vec<String> = trial
        .params
        .iter()
        .map(|param| format!("{}={}", param.name, param.value()))
        .collect();
    printable(&params.join(", ")).into_owned()
}

/// `0.25`, or `[0.25, 3.0]` for several objectives.
pub(crate) fn values_text(values: Option<&[f64]>) -> String {
    match values {
        None => "none".to_owned(),
        Some([value]) => number_text(*value),
        Some(values) => {
            let values: Vec<String> = values.iter().map(|value| python_float(*value)).collect();
            format!("[{}]", values.join(", "))
        }
    }
}

/// The columns of Optuna's `trials_dataframe` without system attributes.
pub(crate) fn trial_table(
    study: &Study,
    trials: &[impl AsRef<FrozenTrial>],
) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let sorted = |names: &dyn Fn(&FrozenTrial) -> Vec<String>| -> Vec<String> {
        let mut names: Vec<String> = trials
            .iter()
            .flat_map(|trial| names(trial.as_ref()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let params = sorted(&|trial| {
        trial
            .params
            .iter()
            .map(|param| param.name.to_string())
            .collect()
    });
    let attrs = sorted(&|trial| trial.user_attrs.keys().cloned().collect());
    let n_values = study.directions().len();
    let values: Vec<String> = match study.metric_names()? {
        Some(names) if names.len() == n_values => names
            .iter()
            .map(|name| {
                if n_values == 1 {
                    name.clone()
                } else {
                    format!("values_{name}")
                }
            })
            .collect(),
        _ if n_values == 1 => vec!["value".to_owned()],
        _ => (0..n_values).map(|i| format!("values_{i}")).collect(),
    };
    let mut header = vec!["number".to_owned()];
    header.extend(values);
    header.extend(["datetime_start", "datetime_complete", "duration"].map(str::to_owned));
    header.extend(params.iter().map(|name| format!("params_{name}")));
    header.extend(attrs.iter().map(|name| format!("user_attrs_{name}")));
    header.push("state".to_owned());
    let rows = trials.iter().map(AsRef::as_ref).map(|trial: &FrozenTrial| {
        let mut row = vec![trial.number.to_string()];
        let value = |i: usize| {
            trial
                .values
                .as_ref()
                .and_then(|values| values.get(i))
                .map_or_else(String::new, |value| number_text(*value))
        };
        row.extend((0..n_values).map(value));
        row.extend([
            time_text(trial.datetime_start),
            time_text(trial.datetime_complete),
        ]);
        row.push(
            trial
                .duration()
                .map_or_else(String::new, |time| format!("{:.3}", time.as_seconds_f64())),
        );
        row.extend(params.iter().map(|name| {
            trial
                .params
                .value(name)
                .map_or_else(String::new, |value| value.to_string())
        }));
        let attr = |name: &String| {
            trial
                .user_attrs
                .get(name)
                .map_or_else(String::new, |value| {
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                })
        };
        row.extend(attrs.iter().map(attr));
        row.push(trial.state.name().to_owned());
        row
    });
    Ok((header, rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(row: &[&str]) -> Vec<String> {
        row.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn numbers_line_up_on_the_right_and_text_on_the_left() {
        let mut out = Vec::new();
        print_table(
            &mut out,
            &cells(&["n", "name"]),
            &[cells(&["1", "ä"]), cells(&["10", "long"])],
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            " n  name\n 1  ä\n10  long\n"
        );
    }

    #[test]
    fn a_cell_is_one_line_and_moves_no_cursor() {
        let mut out = Vec::new();
        print_table(
            &mut out,
            &cells(&["n\n", "note"]),
            &[cells(&["1", "a\nb\u{1b}[2J"]), cells(&["2", "c\t"])],
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "n\\n  note\n  1  a\\nb\\x1b[2J\n  2  c\\t\n"
        );
    }

    #[test]
    fn json_has_no_raw_control_character_and_keeps_its_meaning() {
        let value = json!({ "a\u{1b}": "\u{7f}\u{9b}2J\n\u{202e}é" });
        let mut out = Vec::new();
        print_json(&mut out, &value).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains(|c| c != '\n' && is_unsafe(c)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn numbers_are_short_whatever_their_size() {
        for (value, text) in [
            (1e300, "1e+300"),
            (-1e300, "-1e+300"),
            (1e-300, "1e-300"),
            (1e16, "1e+16"),
            (123456.0, "123456"),
            (0.25, "0.25"),
            (0.0001, "0.0001"),
            (0.0, "0"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number_text(value), text);
            assert_eq!(values_text(Some(&[value])), text);
        }
        assert_eq!(values_text(Some(&[1e300, 3.0])), "[1e+300, 3.0]");
        assert_eq!(values_text(None), "none");
        for (share, text) in [
            (-0.0, "0.0000"),
            (-1e-9, "0.0000"),
            (-0.5, "-0.5000"),
            (0.25, "0.2500"),
        ] {
            assert_eq!(share_text(share), text);
        }
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut out = Vec::new();
        print_csv(
            &mut out,
            &cells(&["a", "b"]),
            &[cells(&["x,y", "say \"hi\"\nthere"])],
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a,b\n\"x,y\",\"say \"\"hi\"\"\nthere\"\n"
        );
    }
}
