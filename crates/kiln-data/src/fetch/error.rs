//! Why a file could not be fetched.

use std::io;
use std::path::PathBuf;

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No address delivered the file.
    #[error("cannot fetch {name}: {}\nby hand: {manual}", list(.failures))]
    AllFailed {
        /// The file.
        name: String,
        /// The address and what went wrong there, in the order tried; the last try of each.
        failures: Vec<(String, Failure)>,
        /// What a person can do instead.
        manual: String,
    },
    /// The specification names no address.
    #[error("no address is known for {name}; by hand: {manual}")]
    NoUrl {
        /// The file.
        name: String,
        /// What a person can do instead.
        manual: String,
    },
    /// The name would leave the target folder.
    #[error(
        "{name:?} is not a plain file name; expected one without separators that does not begin with a dot"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The target folder cannot be used: read-only, full, and so on.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `write`, `create` and so on.
        action: &'static str,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// Whether nothing at all could be reached, as on a machine without a network.
    pub fn is_offline(&self) -> bool {
        match self {
            FetchError::AllFailed { failures, .. } => failures
                .iter()
                .all(|(_, failure)| matches!(failure, Failure::Unreachable(_))),
            _ => false,
        }
    }
}

/// What went wrong at one address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The host could not be found or did not take the connection.
    #[error("not reachable ({0})")]
    Unreachable(String),
    /// The connection stood, but no answer came.
    #[error("no answer ({0})")]
    NoAnswer(String),
    /// The server answered with an error.
    #[error("the server answered {0}")]
    Status(u16),
    /// The connection broke or stalled.
    #[error("the transfer broke off after {received} of {expected} bytes ({reason})")]
    BrokenOff {
        /// Bytes there are now.
        received: u64,
        /// Bytes expected.
        expected: u64,
        /// What the connection said.
        reason: String,
    },
    /// The server offers a file of another size.
    #[error("{found} bytes offered, expected {expected}")]
    WrongSize {
        /// Bytes offered; one more than expected where the server announces none and goes on.
        found: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// The content is not what it should be.
    #[error("its SHA-256 is {found}, expected {expected}")]
    WrongChecksum {
        /// SHA-256 of what came.
        found: String,
        /// SHA-256 expected.
        expected: String,
    },
    /// The answer is not HTTP as it should be.
    #[error("{0}")]
    Protocol(String),
}

#[cfg(feature = "download")]
impl Failure {
    /// Whether trying the same address again may help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Failure::Status(status) => matches!(status, 408 | 425 | 429 | 500..=599),
            Failure::NoAnswer(_) | Failure::BrokenOff { .. } => true,
            Failure::Unreachable(_)
            | Failure::WrongSize { .. }
            | Failure::WrongChecksum { .. }
            | Failure::Protocol(_) => false,
        }
    }
}

fn list(failures: &[(String, Failure)]) -> String {
    let lines: Vec<String> = failures
        .iter()
        .map(|(url, failure)| format!("{url}: {failure}"))
        .collect();
    lines.join("; ")
}
