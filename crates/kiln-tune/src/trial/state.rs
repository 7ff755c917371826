use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The state of a trial; the integers are those of Optuna's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TrialState {
    /// The objective is being evaluated.
    Running = 0,
    /// Finished with a value.
    Complete = 1,
    /// Stopped early.
    Pruned = 2,
    /// The objective failed.
    Fail = 3,
    /// Enqueued, not started.
    Waiting = 4,
}

impl TrialState {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Running,
        Self::Complete,
        Self::Pruned,
        Self::Fail,
        Self::Waiting,
    ];

    /// Complete, pruned or failed: the trial cannot change any more.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Complete | Self::Pruned | Self::Fail)
    }

    /// The name in databases and tables: `COMPLETE`, `RUNNING`, ...
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Complete => "COMPLETE",
            Self::Pruned => "PRUNED",
            Self::Fail => "FAIL",
            Self::Waiting => "WAITING",
        }
    }

    /// The integer in a journal file.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The state of an integer of a journal file.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|state| i64::from(state.code()) == code)
    }
}

impl fmt::Display for TrialState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for TrialState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Error::invalid(format!(
                "a trial state must be RUNNING, COMPLETE, PRUNED, FAIL or WAITING, but got {text:?}"
            ))
        })
    }
}
