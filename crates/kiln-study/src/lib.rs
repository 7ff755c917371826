//! The commands of the program `kiln-study`, which `kiln study` runs as well: [`Command`] is a subcommand of clap.
//!
//! Results go to stdout, progress and errors to stderr. The exit code is 0 for success, 1 when the command failed and 2 for
//! a command line that makes no sense.

mod ask_tell;
mod heartbeat;
mod importance;
mod lines;
mod logs;
mod metric;
mod object;
mod output;
mod plot;
mod process;
mod run;
mod search;
mod space;
mod studies;
mod terminator;
mod transcript;
mod trials;
mod warnings;
mod write_ahead_log;

pub use heartbeat::HeartbeatArgs;
pub use run::parse_time;
pub use search::SearchArgs;
pub use warnings::show_warnings;

pub use kiln_tune_rdb::STORAGE_URLS;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use kiln_tune::Storage;
use kiln_tune::error::{Error, Result};
use kiln_tune::printable;
use kiln_tune::study::{Study, StudyBuilder};

/// A command of `kiln-study`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a study and print its name
    #[command(
        after_help = "Example:\n  kiln-study create --storage sqlite:///study.db --study first --direction maximize"
    )]
    Create(studies::Create),
    /// List the studies of a storage
    #[command(after_help = "Example:\n  kiln-study list --storage sqlite:///study.db --json")]
    List(studies::List),
    /// Show what a study is and how far it has come
    #[command(
        after_help = "Example:\n  kiln-study show --storage sqlite:///study.db --study first"
    )]
    Show(studies::Show),
    /// Show the best trial, or the Pareto front of several objectives
    #[command(
        after_help = "Example:\n  kiln-study best --storage sqlite:///study.db --study first --json"
    )]
    Best(trials::Best),
    /// Show all trials as a table, CSV or JSON
    #[command(
        after_help = "Example:\n  kiln-study trials --storage sqlite:///study.db --study first --format csv > trials.csv"
    )]
    Trials(trials::Trials),
    /// Show how much each parameter matters
    #[command(
        after_help = "Example:\n  kiln-study importance --storage sqlite:///study.db --study first --evaluator fanova"
    )]
    Importance(importance::Importance),
    /// Draw one plot, or all of them on one page
    #[command(
        after_help = "Examples:\n  kiln-study plot --storage sqlite:///study.db --study first --out report.html\n  \
                            kiln-study plot history --storage sqlite:///study.db --study first --out history.svg"
    )]
    Plot(plot::Plot),
    /// Delete a study with all its trials
    #[command(
        after_help = "Example:\n  kiln-study delete --storage sqlite:///study.db --study first"
    )]
    Delete(studies::Delete),
    /// Add a trial with given parameters to the queue
    #[command(
        after_help = "Example:\n  kiln-study enqueue --storage sqlite:///study.db --study first --set lr=0.01 --set optimizer=adam"
    )]
    Enqueue(ask_tell::Enqueue),
    /// Start a trial and print its number and parameters as JSON
    #[command(
        after_help = "Example:\n  kiln-study ask --storage sqlite:///study.db --study first --param 'lr=float:1e-5..1e-1:log'"
    )]
    Ask(ask_tell::Ask),
    /// Finish a trial that `ask` started
    #[command(
        after_help = "Example:\n  kiln-study tell --storage sqlite:///study.db --study first --trial 3 --value 0.25"
    )]
    Tell(ask_tell::Tell),
    /// Tune any program
    #[command(after_help = run::AFTER_HELP)]
    Run(Box<run::Run>),
    /// Switch an SQLite file between a rollback journal and a write-ahead log
    #[command(alias = "wal", after_help = write_ahead_log::AFTER_HELP)]
    WriteAheadLog(write_ahead_log::WriteAheadLog),
}

impl Command {
    /// Runs the command, and prints its error if it has one.
    pub fn run(self) -> ExitCode {
        show_warnings();
        let mut out = io::BufWriter::new(io::stdout().lock());
        let result = self.execute(&mut out).and_then(|()| Ok(out.flush()?));
        match result {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever reads the output has seen enough, as `head` has.
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            Err(failure) => {
                let _ = writeln!(io::stderr(), "error: {}", printable(&failure.to_string()));
                ExitCode::from(if matches!(failure, Failure::Usage(_)) {
                    2
                } else {
                    1
                })
            }
        }
    }

    fn execute(self, out: &mut dyn Write) -> CliResult {
        match self {
            Self::Create(command) => command.execute(out),
            Self::List(command) => command.execute(out),
            Self::Show(command) => command.execute(out),
            Self::Best(command) => command.execute(out),
            Self::Trials(command) => command.execute(out),
            Self::Importance(command) => command.execute(out),
            Self::Plot(command) => command.execute(out),
            Self::Delete(command) => command.execute(out),
            Self::Enqueue(command) => command.execute(out),
            Self::Ask(command) => command.execute(out),
            Self::Tell(command) => command.execute(out),
            Self::Run(command) => command.execute(out),
            Self::WriteAheadLog(command) => command.execute(out),
        }
    }
}

type CliResult<T = ()> = std::result::Result<T, Failure>;

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// The command could not do its work.
    Work(Error),
    /// The result could not be written.
    Output(io::Error),
}

impl Failure {
    fn message(text: impl Into<String>) -> Self {
        Self::Work(Error::InvalidArgument(text.into()))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Output(error) => write!(f, "cannot write the result: {error}"),
            Self::Work(error) => f.write_str(&error.with_causes()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Work(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The storage that is given, or that of the environment, `$OPTUNA_STORAGE`.
pub fn storage_url(given: Option<&str>) -> Option<String> {
    let of_environment = || std::env::var("OPTUNA_STORAGE").ok();
    let url = given.map(str::to_owned).or_else(of_environment);
    url.filter(|url| !url.is_empty())
}

/// Where the studies are.
#[derive(Debug, Args)]
struct StorageArgs {
    #[arg(long, value_name = "URL", help = format!("URL of the storage: {STORAGE_URLS} [default: $OPTUNA_STORAGE]"))]
    storage: Option<String>,
}

impl StorageArgs {
    fn url(&self) -> CliResult<String> {
        storage_url(self.storage.as_deref()).ok_or_else(|| {
            Failure::Usage(
                "no storage is given; write --storage sqlite:///study.db, or set OPTUNA_STORAGE"
                    .to_owned(),
            )
        })
    }

    /// The storage, which must exist.
    fn open(&self) -> CliResult<Arc<dyn Storage>> {
        Ok(kiln_tune_rdb::open_existing(&self.url()?)?)
    }
}

/// One study of a storage.
#[derive(Debug, Args)]
struct StudyArgs {
    #[command(flatten)]
    storage: StorageArgs,
    /// Name of the study [default: the only one of the storage]
    #[arg(long, alias = "study-name", value_name = "NAME")]
    study: Option<String>,
}

impl StudyArgs {
    fn load(&self) -> CliResult<Study> {
        self.load_with(StudyBuilder::new())
    }

    fn load_with(&self, mut builder: StudyBuilder) -> CliResult<Study> {
        let storage = self.storage.open()?;
        if let Some(name) = &self.study {
            builder = builder.name(name);
        }
        match builder.shared_storage(storage.clone()).load() {
            Ok(study) => Ok(study),
            Err(Error::StudyNotFound { name, hint }) if hint.is_empty() => {
                Err(Error::StudyNotFound {
                    name,
                    hint: hint_of_names(&*storage)?,
                }
                .into())
            }
            Err(Error::InvalidArgument(_)) if self.study.is_none() => Err(Failure::Usage(format!(
                "no study is named; write --study NAME{}",
                hint_of_names(&*storage)?
            ))),
            Err(error) => Err(error.into()),
        }
    }
}

/// The names to choose from, for an error message.
fn hint_of_names(storage: &dyn Storage) -> Result<String> {
    let studies = storage.get_all_studies()?;
    if studies.is_empty() {
        return Ok("; it holds no study yet, so create one first".to_owned());
    }
    let names: Vec<String> = studies
        .iter()
        .take(10)
        .map(|study| format!("{:?}", study.name))
        .collect();
    let more = studies.len().saturating_sub(10);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Ok(format!("; it holds {}{more}", names.join(", ")))
}

/// `KEY=VALUE`.
fn parse_pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("write NAME=VALUE, but got {text:?}")),
    }
}
