//! What can go wrong when a figure is drawn or saved.

use std::path::PathBuf;

/// The result of a fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ending of a file's name is none that can be written.
    #[error("{what}, but got {}", path.display())]
    Ending {
        /// Which endings there are.
        what: &'static str,
        /// The path that was given.
        path: PathBuf,
    },
    /// The picture cannot be made.
    #[error("cannot draw the plot")]
    Draw(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The path that was given.
        path: PathBuf,
        /// The error of the file system.
        source: std::io::Error,
    },
}
