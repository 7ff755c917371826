//! What can go wrong in scaling.

use std::io;
use std::path::PathBuf;

/// Why features cannot be scaled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScaleError {
    /// Used before it was fitted.
    #[error("{scaler} is not fitted; call fit on the training data first, or load a saved one")]
    Unfitted {
        /// The scaler.
        scaler: &'static str,
    },
    /// Other features than it was fitted on.
    #[error("{scaler} was fitted on {fitted} features, but the data have {given}")]
    Features {
        /// The scaler.
        scaler: &'static str,
        /// Features it was fitted on.
        fitted: usize,
        /// Features given.
        given: usize,
    },
    /// No rows or no columns.
    #[error(
        "there is nothing to scale: {rows} rows of {columns} features; give at least one of each"
    )]
    Empty {
        /// Rows given.
        rows: usize,
        /// Features given.
        columns: usize,
    },
    /// Values do not fill the rows.
    #[error("{values} values are not {rows} rows of {columns} features, which need {}", .rows * .columns)]
    Shape {
        /// Values given.
        values: usize,
        /// Rows asked for.
        rows: usize,
        /// Features asked for.
        columns: usize,
    },
    /// An infinite value, or NaN where none is allowed.
    #[error("row {row}, feature {column} is {value}; {scaler} takes {allowed}")]
    Value {
        /// The scaler.
        scaler: &'static str,
        /// Row of the value, from 0.
        row: usize,
        /// Feature of the value, from 0.
        column: usize,
        /// The value.
        value: f64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A setting out of its range.
    #[error("{scaler}: {setting} = {given} is not allowed; {allowed}")]
    Setting {
        /// The scaler.
        scaler: &'static str,
        /// The setting.
        setting: &'static str,
        /// The value given.
        given: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// `partial_fit` of a scaler that needs all data at once.
    #[error("{scaler} needs all its data at once (quantiles do not add up over chunks); call fit")]
    NotIncremental {
        /// The scaler.
        scaler: &'static str,
    },
    /// `inverse_transform` of a scaler that keeps nothing to undo it with.
    #[error("{scaler} cannot be undone: the norms of the rows are not kept")]
    NoInverse {
        /// The scaler.
        scaler: &'static str,
    },
    /// No scaler has this name.
    #[error(
        "no scaler is named '{given}'; the names are none, standard, minmax (or minmax:LOW,HIGH), robust, maxabs, normalize-l1, normalize-l2 and normalize-max"
    )]
    UnknownName {
        /// The name given.
        given: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A file that holds no scaler.
    #[error("{} holds no scaler: {problem}", .path.display())]
    NotAScaler {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A cell of a table that is no number.
    #[error("{}, line {line}, column {column}: {cell:?} is not a number; empty cells and NaN stand for missing values", .path.display())]
    NotANumber {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is there.
        cell: String,
    },
    /// A line of a table with more or fewer cells than the first.
    #[error("{}, line {line}: {found} cells, but the lines before have {expected}", .path.display())]
    Ragged {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Cells of the lines before.
        expected: usize,
        /// Cells found.
        found: usize,
    },
    /// A tensor could not be read from its device.
    #[error("cannot read the features from their device: {0}")]
    Device(String),
}
