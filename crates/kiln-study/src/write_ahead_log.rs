use std::io::Write;

use clap::{Args, ValueEnum};

use super::{CliResult, StorageArgs};
use kiln_tune_rdb::write_ahead_log;

/// Help that follows the settings.
pub(crate) const AFTER_HELP: &str = "\
Optuna makes its SQLite files with a rollback journal: whoever writes keeps everybody else from reading and writing, \
and waits for the disk two or three times. With a write-ahead log (what Kiln gives its own files) readers never wait, \
writers follow each other quickly, and a killed process loses nothing that was committed. After a power failure the \
last commits may be missing; the file is whole. Optuna reads and writes the file as before, and the setting stays \
with the file.

In return, all processes must be on one machine (no network file system), and while the file is open two more lie \
beside it, FILE-wal and FILE-shm, that belong to it: copy the three together, or when nobody has it open. Stop the \
workers before you turn the log off.

Example:
  kiln-study write-ahead-log on --storage sqlite:///study.db";

/// Settings of `write-ahead-log`.
#[derive(Debug, Args)]
pub struct WriteAheadLog {
    /// What it shall be; without it, the command says what it is
    #[arg(value_enum)]
    switch: Option<Switch>,
    #[command(flatten)]
    storage: StorageArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl WriteAheadLog {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let on = self.switch.map(|switch| switch == Switch::On);
        let is_on = write_ahead_log(&self.storage.url()?, on)?;
        writeln!(out, "{}", if is_on { "on" } else { "off" })?;
        Ok(())
    }
}
