//! Printing: results to stdout, all else to stderr. What is printed holds names of files and classes, which may be anybody's: here, where
//! text leaves the program, and nowhere else, their control characters become escapes.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use kiln::data::DataError;
use kiln::train::{RecipeError, SpaceError, TrainError, TuneError};
use kiln::tune::printable;
use kiln::zoo::weights::WeightsError;
use serde::Serialize;

/// Exit code of a failure. Usage errors have 2 as well, as clap gives them.
const FAILURE: u8 = 1;

/// Prints an error with its causes and, where it is of a place that nobody may write to, the option that names another.
pub fn fail(error: &(dyn Error + 'static), place_option: Option<&str>) -> ExitCode {
    if let Some(error) = error.downcast_ref::<io::Error>()
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        // Whoever reads the output has seen enough.
        return ExitCode::SUCCESS;
    }
    let mut message = with_causes(error);
    if let Some(option) = place_option.filter(|_| may_not_write(error)) {
        let _ = write!(
            message,
            "; name a place that you may write to with {option}"
        );
    }
    to_stderr(&format!("error: {message}"));
    ExitCode::from(FAILURE)
}

fn may_not_write(error: &(dyn Error + 'static)) -> bool {
    let error = match error.downcast_ref() {
        Some(TuneError::Train(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    let Some(TrainError::Io { action, source, .. }) = error else {
        return false;
    };
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem)
        && !matches!(*action, "read" | "list")
}

/// Prints what went wrong beside a result that stands, with its causes.
pub fn warn(what: &str, error: &(dyn Error + 'static)) {
    to_stderr(&format!("warning: {what}: {}", with_causes(error)));
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let shown = |error: &(dyn Error + 'static)| match has_lines(error) {
        true => printable_lines(&error.to_string()),
        false => printable(&error.to_string()).into_owned(),
    };
    let mut message = shown(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = shown(error);
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

/// Whether an error's message is written in lines: a place in a file that it shows, or steps to take.
fn has_lines(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<TuneError>() {
        return match error {
            TuneError::Space(error) => has_lines(error),
            TuneError::Train(error) => has_lines(error),
            _ => false,
        };
    }
    if let Some(error) = error.downcast_ref::<TrainError>() {
        return match error {
            TrainError::Recipe(error) => has_lines(error),
            TrainError::Data(error) => has_lines(error),
            TrainError::Weights(error) => has_lines(error),
            _ => false,
        };
    }
    let syntax = matches!(error.downcast_ref(), Some(RecipeError::Syntax { .. }))
        || matches!(error.downcast_ref(), Some(SpaceError::Syntax(_)));
    let steps = matches!(error.downcast_ref(), Some(DataError::NotFound { .. }));
    let list = matches!(error.downcast_ref(), Some(WeightsError::Mismatch { .. }));
    syntax || steps || list
}

fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// Prints a line for a person who waits.
pub fn note(text: &str) {
    to_stderr(&printable(text));
}

/// Prints to stderr, and does not mind that nobody reads it any more, as after a terminal was closed.
fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints text to stdout.
pub fn text(text: &str) -> io::Result<()> {
    write(printable_lines(text))
}

fn write(mut text: String) -> io::Result<()> {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints one JSON object to stdout.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string_pretty(value)?;
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        // Of JSON's own there are line ends alone; others stand in strings, where they may be written so.
        match c == '\n'
            || !matches!(
                printable(c.encode_utf8(&mut [0; 4])),
                std::borrow::Cow::Owned(_)
            ) {
            true => text.push(c),
            false => write!(text, "\\u{:04x}", u32::from(c)).expect("writing to a string"),
        }
    }
    write(text)
}

/// Columns of text, each as wide as its longest cell.
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
