//! What can go wrong, each error with what was given, what is allowed and what to do.

use crate::trial::{TrialDuplicate, TrialState};

/// The result of a fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error as it travels through the objective.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The target of log messages for people who program: the commands tell people at a terminal the same in their own way,
/// such as by the line of a trial that failed.
pub const SAID_BY_COMMANDS: &str = "kiln_tune::library";

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A distribution was asked for which cannot exist.
    #[error("{0}")]
    InvalidDistribution(String),
    /// An argument is outside of what is allowed.
    #[error("{0}")]
    InvalidArgument(String),
    /// The same parameter name was suggested with a distribution that contradicts an earlier one.
    #[error("parameter {name:?} cannot change from {old} to {new}: {reason}")]
    IncompatibleDistribution {
        /// The parameter.
        name: String,
        /// The distribution of the earlier suggestion, in text form.
        old: String,
        /// The distribution asked for now, in text form.
        new: String,
        /// Which rule is broken.
        reason: String,
    },
    /// A value cannot be a value of the distribution.
    #[error("{value} is not a value of {distribution}")]
    ValueNotInDistribution {
        /// The value.
        value: String,
        /// The distribution in text form.
        distribution: String,
    },
    /// No study with this name or id.
    #[error("study {name:?} does not exist in this storage{hint}")]
    StudyNotFound {
        /// The name, or the id as text.
        name: String,
        /// What exists instead, ready to be appended; may be empty.
        hint: String,
    },
    /// No trial with this id or number.
    #[error("trial {trial} does not exist")]
    TrialNotFound {
        /// Says which trial: its number or its id.
        trial: String,
    },
    /// A study with this name exists already.
    #[error(
        "study {name:?} exists already; use load_if_exists to go on with it, or choose another name"
    )]
    DuplicatedStudy {
        /// The name.
        name: String,
    },
    /// A finished trial cannot be changed.
    #[error("trial {number} is finished ({state}) and cannot be changed")]
    UpdateFinishedTrial {
        /// The number of the trial.
        number: u64,
        /// Its state.
        state: TrialState,
    },
    /// The study was created with other directions.
    #[error("study {name:?} has directions {existing}, but {given} were given")]
    DirectionMismatch {
        /// The name.
        name: String,
        /// The directions in the storage.
        existing: String,
        /// The directions that were asked for.
        given: String,
    },
    /// The call makes no sense for a study with several objectives.
    #[error(
        "{operation} needs a study with one objective, but this one has {n_objectives}; {instead}"
    )]
    MultiObjective {
        /// What was called.
        operation: &'static str,
        /// The number of objectives.
        n_objectives: usize,
        /// What to use instead.
        instead: &'static str,
    },
    /// The study has no trial to answer with.
    #[error("{0}")]
    NoTrials(String),
    /// `tell` was refused.
    #[error("{0}")]
    InvalidTell(String),
    /// Text is not JSON.
    #[error("invalid JSON: {0}")]
    InvalidJson(String),
    /// The storage failed.
    #[error("storage: {message}")]
    Storage {
        /// What was being done.
        message: String,
        /// The error of the driver or of the file system.
        #[source]
        source: Option<BoxError>,
    },
    /// The objective of a trial returned an error which is not caught.
    #[error("trial {number} failed: {source}")]
    Objective {
        /// The number of the trial.
        number: u64,
        /// What the objective returned.
        source: BoxError,
    },
    /// The trial was pruned; an objective returns this to say so.
    #[error(transparent)]
    Pruned(#[from] TrialPruned),
    /// A complete trial has the parameters of this one; an objective returns this to say so.
    #[error(transparent)]
    Duplicate(#[from] TrialDuplicate),
}

impl Error {
    /// A storage error with its cause.
    pub fn storage(message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Storage {
            message: message.into(),
            source: Some(source.into()),
        }
    }

    /// The message with those of all causes, each once.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text = format!("{text}: {inner_text}");
            }
            cause = inner.source();
        }
        text
    }

    /// An [`Error::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidArgument(message.into())
    }
}

#[cfg(feature = "plot")]
impl From<kiln_plot::Error> for Error {
    /// A wrong ending is an [`Error::InvalidArgument`], everything else an [`Error::Storage`].
    fn from(error: kiln_plot::Error) -> Self {
        let message = error.to_string();
        match error {
            kiln_plot::Error::Draw(source) => Self::storage(message, source),
            kiln_plot::Error::Write { source, .. } => Self::storage(message, source),
            _ => Self::InvalidArgument(message),
        }
    }
}

/// What an objective returns as its error to say that its trial was pruned.
///
/// It converts with `?` into [`Error`], `Box<dyn Error>` and `anyhow::Error`, and is found in the chain of sources of
/// any other error, so an objective may keep its own error type.
///
/// ```
/// use kiln_tune::{Study, Trial, TrialPruned};
///
/// fn objective(trial: &mut Trial) -> kiln_tune::Result<f64> {
///     let x = trial.suggest_float("x", -1.0, 1.0)?;
///     for step in 0..10 {
///         trial.report(x * x + 1.0 / (step + 1) as f64, step)?;
///         if trial.should_prune()? {
///             return Err(TrialPruned.into());
///         }
///     }
///     Ok(x * x)
/// }
///
/// let study = Study::builder().create()?;
/// study.optimize(objective, 20)?;
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the trial was pruned")]
pub struct TrialPruned;
