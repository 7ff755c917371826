//! What one line of a tuned program's output says.
//!
//! A line is a JSON object (or a Python dictionary), which is taken at its word, or text, in which numbers are looked
//! for. Counters, percentages of progress, times and rates are numbers that mean nothing for the objective:
//! `Epoch 3/10`, `45/100`, `98%`, `00:05`, `12.3it/s`.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

use super::metric::{self, Columns};
use super::object::{self, Notes, Object};

/// What one line says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// The step or epoch that it names.
    pub(crate) step: Option<i64>,
    /// Whether it counts towards the end of the step: `Some(false)` for `45/100`, `Some(true)` for `100/100`.
    pub(crate) progress: Option<bool>,
    pub(crate) said: Said,
}

/// What a line says of the objective.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// A JSON object with a value or with notes.
    Object(Object),
    /// A JSON object that says nothing known, by its keys.
    Keys(Vec<String>),
    /// The named metrics that were found, in their order, and what else their object holds.
    Metrics(Vec<Option<f64>>, Notes),
    /// The numbers of a line that starts with its step.
    Report(Vec<f64>),
    /// The numbers of any other line, in order.
    Numbers(Vec<f64>),
}

/// The line without what only a terminal needs: colours and cursor movements, which progress bars are full of.
pub(crate) fn clean(line: &str) -> Cow<'_, str> {
    static ESCAPES: LazyLock<Regex> = LazyLock::new(|| {
        regex(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]|\x08")
    });
    if line.contains(['\u{1b}', '\u{8}']) {
        ESCAPES.replace_all(line, "")
    } else {
        Cow::Borrowed(line)
    }
}

/// Reads one line. `metrics` are the names of the values, if they have names; `columns` remembers the header of a table.
///
/// # Errors
/// Says what is wrong with an object that has a value.
pub(crate) fn parse_line(
    line: &str,
    metrics: &[String],
    n_objectives: usize,
    columns: &mut Option<Columns>,
) -> Result<Line, String> {
    let line = clean(line);
    let line = line.trim();
    if let Some(entries) = object::entries(line) {
        return object::parse(&entries, metrics);
    }
    if metrics.is_empty() && object::is_like_one(line) {
        return object::refuse(line);
    }
    let text = Text::new(line);
    if !metrics.is_empty() {
        let mut step = text.step;
        let mut found: Vec<Option<f64>> = metrics
            .iter()
            .map(|name| metric::find(line, name))
            .collect();
        if found.iter().all(Option::is_none) {
            if let Some(row) = columns.as_ref().and_then(|columns| columns.row(line)) {
                found = metrics.iter().map(|name| row.get(name)).collect();
                step = step.or_else(|| row.step());
            } else {
                *columns = Columns::after(columns.take(), line, metrics);
            }
        }
        return Ok(Line {
            step,
            progress: text.progress(),
            said: Said::Metrics(found, Notes::default()),
        });
    }
    let numbers = text.numbers(n_objectives, false);
    // `25/25 - loss: 0.9` is about the step, `5/5 files read in 3 s` may be about anything.
    let progress = text.progress().filter(|_| {
        text.starts_with_step || text.numbers(n_objectives, true).last() == numbers.last()
    });
    let said = if text.starts_with_step {
        Said::Report(numbers)
    } else {
        Said::Numbers(numbers)
    };
    Ok(Line {
        // A step that is only mentioned, as in `best at epoch 3`, is not reported on.
        step: text.step.filter(|_| text.starts_with_step),
        progress,
        said,
    })
}

pub(crate) fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that a test compiles")
}

/// A line of text with its step.
struct Text<'a> {
    line: &'a str,
    step: Option<i64>,
    starts_with_step: bool,
    /// The line without the steps that it names; the total of `Epoch 3/10` goes with them.
    rest: String,
}

impl<'a> Text<'a> {
    fn new(line: &'a str) -> Self {
        static FIRST: LazyLock<Regex> = LazyLock::new(|| {
            regex(r"(?i)^[^a-z0-9]*(?:epoch|step|iteration|iter)[ =:#\[\t]*(\d+)(?:\s*/\s*\d+)?")
        });
        static MENTIONED: LazyLock<Regex> = LazyLock::new(|| {
            regex(
                r#"(?i)\b(?:epoch|(?:global_)?step|iteration|iter)\b['"]?[ =:#\[\t]*(\d+)(\.\d+)?(\s*/\s*\d+)?"#,
            )
        });
        let mut step = None;
        let mut rest = line.to_owned();
        let starts_with_step = FIRST.captures(line).is_some_and(|found| {
            step = found[1].parse().ok();
            rest = line[found[0].len()..].to_owned();
            step.is_some()
        });
        let rest = MENTIONED.replace_all(&rest, |found: &Captures| {
            let governs = step.is_none();
            if governs {
                step = found[1].parse().ok();
            }
            match (found.get(2), found.get(3)) {
                // A part of an epoch is progress; a time per step is a number like others.
                (Some(part), _) if governs && part.as_str().trim_matches(['.', '0']).is_empty() => {
                    " ".to_owned()
                }
                (Some(_), _) if governs => " 0/1 ".to_owned(),
                (Some(_), _) => found[0].to_owned(),
                (None, Some(total)) if !governs => format!(" {}{} ", &found[1], total.as_str()),
                (None, _) => " ".to_owned(),
            }
        });
        let rest = rest.into_owned();
        Self {
            line,
            step,
            starts_with_step,
            rest,
        }
    }

    /// Whether the last counter of the line, or its percentage of progress, is at its end.
    fn progress(&self) -> Option<bool> {
        if let Some(percent) = bar().captures(self.line) {
            return Some(
                percent[1]
                    .parse::<f64>()
                    .is_ok_and(|percent| percent >= 100.0),
            );
        }
        let counter = counters().captures_iter(&self.rest).last()?;
        let number = |group: usize| {
            let digits = counter.get(group)?.as_str().replace(',', "");
            digits.parse::<f64>().ok()
        };
        Some(number(1)? >= number(2)?)
    }

    /// Every number of the line that may be a value: words of digits, sign, point and exponent, and `nan` and `inf`; on
    /// demand those alone that stand behind a name, as in `loss: 0.9` and `loss=0.9`.
    fn numbers(&self, n_objectives: usize, named_only: bool) -> Vec<f64> {
        static TIMES_AND_RATES: LazyLock<Regex> = LazyLock::new(|| {
            regex(concat!(
                r"(?i)\d+:\d\d(?::\d\d)?(?:[.,]\d+)?",
                r"|[-+]?\d+(?:\.\d+)?\s*%",
                r"|\d+(?:\.\d+)?\s*(?:it|its|iters?|s|ms|us|secs?|seconds?|batch|batches|steps?|samples?|examples?|imgs?",
                r"|images?|tokens?|tok|rows?|[kmgt]?i?b)/(?:it|iter|iteration|s|sec|second|step|batch|epoch|sample|example|img|image|token)\b",
            ))
        });
        let text = counters().replace_all(&self.rest, " ");
        let text = TIMES_AND_RATES.replace_all(&text, " ");
        let text = if n_objectives == 1 {
            without_thousands(&text)
        } else {
            text
        };
        // Beside a progress bar only `name=value` is a value: `DataLoader 0: 100%|####| 5/5 [00:01<00:00, loss=0.5]`.
        let named_only = named_only || bar().is_match(self.line);
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        let mut numbers = Vec::new();
        let mut before = ' ';
        let mut rest: &str = &text;
        while let Some(start) = rest.find(is_word) {
            if let Some(last) = rest[..start].trim_end().chars().next_back() {
                before = last;
            }
            let word = &rest[start..];
            let end = word.find(|c| !is_word(c)).unwrap_or(word.len());
            let (word, after) = word.split_at(end);
            if (!named_only || matches!(before, '=' | ':'))
                && let Some(number) = number(word.trim_end_matches('.'))
            {
                numbers.push(number);
            }
            (before, rest) = (' ', after);
        }
        numbers
    }
}

/// `45%|` of a progress bar.
fn bar() -> &'static Regex {
    static BAR: LazyLock<Regex> = LazyLock::new(|| regex(r"(\d+(?:\.\d+)?)\s*%\s*[|│]"));
    &BAR
}

/// `N/M`, also with spaces, and longer chains such as dates.
fn counters() -> &'static Regex {
    static COUNTERS: LazyLock<Regex> = LazyLock::new(|| {
        regex(r"(\d[\d,]*(?:\.\d+)?)\s*/\s*(\d[\d,]*(?:\.\d+)?)(?:\s*/\s*\d[\d,]*(?:\.\d+)?)*")
    });
    &COUNTERS
}

/// A word that is a number: with a digit in it, or `nan` or `inf`.
fn number(word: &str) -> Option<f64> {
    let unsigned = word.trim_start_matches(['-', '+']);
    let is_number = word.bytes().any(|b| b.is_ascii_digit())
        || ["nan", "inf", "infinity"]
            .iter()
            .any(|name| unsigned.eq_ignore_ascii_case(name));
    word.parse().ok().filter(|_| is_number)
}

/// `1,234.5` as `1234.5`; `1,234,5` stays a list.
fn without_thousands(text: &str) -> Cow<'_, str> {
    static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| regex(r"\d{1,3}(?:,\d{3})+"));
    THOUSANDS.replace_all(text, |found: &Captures| {
        let at = found.get(0).expect("a match has a whole");
        let in_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
        let goes_on = |c: char| c.is_ascii_digit() || c == ',';
        if text[..at.start()].ends_with(in_number) || text[at.end()..].starts_with(goes_on) {
            at.as_str().to_owned()
        } else {
            at.as_str().replace(',', "")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Line {
        parse_line(line, &[], 1, &mut None).unwrap()
    }

    fn numbers(line: &str) -> Vec<f64> {
        match read(line).said {
            Said::Numbers(numbers) | Said::Report(numbers) => numbers,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn the_numbers_of_a_line_are_found_among_words() {
        for (line, expected) in [
            ("0.25", vec![0.25]),
            ("final loss=0.25, accuracy: 0.935", vec![0.25, 0.935]),
            ("  -1e-3  ", vec![-1e-3]),
            ("done in 3 s. loss 2.", vec![3.0, 2.0]),
            ("loss inf", vec![f64::INFINITY]),
            ("info: nanotubes", vec![]),
            ("model v2 of 2026-11-22 saved to run_3/x7.bin", vec![]),
            ("", vec![]),
            ("total 1,234,567.5 items", vec![1_234_567.5]),
            ("1,234,56", vec![1.0, 234.0, 56.0]),
            ("1,234 5,678", vec![1234.0, 5678.0]),
            ("0.5,100,200", vec![0.5, 100.0, 200.0]),
        ] {
            assert_eq!(numbers(line), expected, "{line:?}");
        }
        assert!(matches!(numbers("loss: NaN")[..], [value] if value.is_nan()));
    }

    #[test]
    fn counters_percentages_times_and_rates_are_no_values() {
        for (line, expected) in [
            ("25/25 - loss: 0.9", vec![0.9]),
            (
                "25/25 - 1s - 20ms/step - loss: 0.9 - acc: 0.5",
                vec![0.9, 0.5],
            ),
            (
                "25/25 [==============================] - 1s 20ms/step - loss: 0.9000",
                vec![0.9],
            ),
            (
                "25/25 [====>.........................] - ETA: 0:00:05 - loss: 0.9",
                vec![0.9],
            ),
            ("final loss=0.25, accuracy: 93.5%", vec![0.25]),
            (
                "Test set: Average loss: 0.0509, Accuracy: 9836/10000 (98%)",
                vec![0.0509],
            ),
            ("loss: 2.303494  [ 6400/60000]", vec![2.303494]),
            (" 45%|####5     | 45/100 [00:03<00:04, 12.30it/s]", vec![]),
            (
                " 45%|####5     | 45/100 [00:03<00:04,  1.23s/it, loss=0.9]",
                vec![0.9],
            ),
            (
                "loss: 0.912:  45%|####5     | 45/100 [00:03<00:04, 12.3it/s]",
                vec![0.912],
            ),
            (
                "Validation DataLoader 0: 100%|##########| 5/5 [00:00<00:00, 50.02it/s]",
                vec![],
            ),
            ("best 0.5 at epoch 3", vec![0.5]),
            ("2026/11/22 10:30:15,123 saved", vec![]),
            ("iter 250: loss 2.03, time 100.25ms, mfu 1.20%", vec![2.03]),
            ("Epoch 1/10", vec![]),
            ("epoch 3", vec![]),
            ("[Epoch 3]", vec![]),
        ] {
            assert_eq!(numbers(line), expected, "{line:?}");
        }
        let colours = "\u{1b}[1m25/25\u{1b}[0m \u{1b}[32m━━━━\u{1b}[0m\u{1b}[37m\u{1b}[0m \u{1b}[1m1s\u{1b}[0m 20ms/step - loss: 0.9\u{8}\u{8}";
        assert_eq!(numbers(colours), [0.9]);
    }

    #[test]
    fn a_line_that_starts_with_its_step_reports() {
        for line in [
            "step 3: 0.5",
            "step=3 loss=0.5",
            "Epoch 3/10 lr 0.1 val_loss 0.5",
            "EPOCH [3] 0.5",
            "[Epoch 3] 0.5",
            "Iteration #3: 0.5",
        ] {
            let line = read(line);
            assert!(
                matches!(&line.said, Said::Report(numbers) if numbers.last() == Some(&0.5)),
                "{line:?}"
            );
            assert_eq!((line.step, line.progress), (Some(3), None));
        }
    }

    #[test]
    fn progress_within_a_step_is_told_from_its_end() {
        for (line, step, progress) in [
            ("Epoch 3/10", Some(3), None),
            (
                "Epoch 3:  45%|####5     | 45/100 [00:03<00:04, loss=0.9]",
                Some(3),
                Some(false),
            ),
            (
                "Epoch 3: 100%|##########| 100/100 [00:03<00:04, loss=0.9]",
                Some(3),
                Some(true),
            ),
            (
                "Epoch [3/10], Step [100/600], Loss: 0.5",
                Some(3),
                Some(false),
            ),
            (
                "Epoch [3/10], Step [600/600], Loss: 0.5",
                Some(3),
                Some(true),
            ),
            (
                "Epoch: [3][  10/5005]\tTime  0.5 ( 1.0)",
                Some(3),
                Some(false),
            ),
            ("24/25 - loss: 0.9", None, Some(false)),
            ("25/25 - loss: 0.9", None, Some(true)),
            ("loss: 0.9", None, None),
            ("5/5 files read in 3 s", None, None),
        ] {
            let read = read(line);
            assert_eq!((read.step, read.progress), (step, progress), "{line}");
        }
    }
}
