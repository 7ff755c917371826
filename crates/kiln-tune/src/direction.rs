use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Whether an objective is to become small or large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StudyDirection {
    /// Smaller is better.
    #[default]
    Minimize,
    /// Larger is better.
    Maximize,
}

impl StudyDirection {
    /// The value as a loss: negated when it is maximized.
    #[must_use]
    pub fn loss(self, value: f64) -> f64 {
        match self {
            Self::Minimize => value,
            Self::Maximize => -value,
        }
    }

    /// `minimize` or `maximize`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minimize => "minimize",
            Self::Maximize => "maximize",
        }
    }

    /// The integer in a journal file: 1 or 2.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Minimize => 1,
            Self::Maximize => 2,
        }
    }
}

impl fmt::Display for StudyDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StudyDirection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Minimize, Self::Maximize]
            .into_iter()
            .find(|direction| direction.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                Error::invalid(format!(
                    "a direction must be minimize or maximize, but got {text:?}"
                ))
            })
    }
}
