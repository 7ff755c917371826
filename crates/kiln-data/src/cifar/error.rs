//! What can be wrong with CIFAR's files.

use std::io;
use std::path::PathBuf;

/// Why a file or an archive of CIFAR was refused. Each variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CifarError {
    /// The file does not exist.
    #[error("{} does not exist; expected a file of CIFAR's binary version (not the Python one)", .path.display())]
    Missing {
        /// The file looked for.
        path: PathBuf,
    },
    /// The operating system would not read or write it.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read`, `write` and so on.
        action: &'static str,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The file ends too early.
    #[error(
        "{} is truncated: it has {found} bytes, {records} records of {record_len} bytes need {}; delete it and fetch it again", .path.display(), .records * .record_len
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Records it should hold.
        records: usize,
        /// Bytes of one.
        record_len: usize,
    },
    /// There is something after the last record.
    #[error(
        "{} has {extra} bytes after its last record: {records} records of {record_len} bytes are {}", .path.display(), .records * .record_len
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Bytes too many.
        extra: u64,
        /// Records it should hold.
        records: usize,
        /// Bytes of one.
        record_len: usize,
    },
    /// The file is not a whole number of records.
    #[error(
        "{} is no CIFAR file: its {found} bytes are not a whole number of records of {record_len} bytes", .path.display()
    )]
    PartialRecord {
        /// The file.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes of a record.
        record_len: usize,
    },
    /// The file holds nothing.
    #[error("{} is empty", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A label names no class.
    #[error(
        "{} has the {kind}label {label} in record {record}; {classes} classes allow 0 to {}", .path.display(), .classes - 1
    )]
    LabelOutOfRange {
        /// The file.
        path: PathBuf,
        /// `coarse `, `fine ` or nothing, for CIFAR-10.
        kind: &'static str,
        /// The record, from 0.
        record: usize,
        /// The label found.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
    /// The archive is no gzip, or its data are damaged.
    #[error("{} is not an undamaged tar.gz archive; delete it and fetch it again", .path.display())]
    CorruptArchive {
        /// The archive.
        path: PathBuf,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// The archive lacks a file.
    #[error("{} lacks {entry}; it is not the binary version of CIFAR, or it is cut short", .path.display())]
    MissingEntry {
        /// The archive.
        path: PathBuf,
        /// The file's name within.
        entry: String,
    },
    /// A file of the archive is of another kind or size, or comes twice.
    #[error("{}: {entry} {problem}", .path.display())]
    BadEntry {
        /// The archive.
        path: PathBuf,
        /// The file's name within.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More data than CIFAR has.
    #[error("{} unpacks to more than {limit} bytes, so it is not CIFAR", .path.display())]
    TooLarge {
        /// The archive.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}
