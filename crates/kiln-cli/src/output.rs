//! Printing: results to stdout, all else to stderr.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

/// Exit code of a failure. Usage errors have 2 as well, as clap gives them.
const FAILURE: u8 = 1;

/// Prints an error with its causes.
pub fn fail(error: &(dyn Error + 'static)) -> ExitCode {
    if let Some(error) = error.downcast_ref::<io::Error>()
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        // Whoever reads the output has seen enough.
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", with_causes(error));
    ExitCode::from(FAILURE)
}

/// Prints what went wrong beside a result that stands, with its causes.
pub fn warn(what: &str, error: &(dyn Error + 'static)) {
    eprintln!("warning: {what}: {}", with_causes(error));
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

/// Prints a line for a person who waits.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints text to stdout.
pub fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Prints one JSON object to stdout.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    text(&serde_json::to_string_pretty(value)?)
}

/// Columns of text, each as wide as its longest cell.
pub fn table(rows: &[Vec<String>]) -> String {
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
