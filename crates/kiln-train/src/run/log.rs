//! Logs of lines of JSON, which only grow.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{for_each_line, open_in_place, write_atomically};
use crate::error::TrainError;

/// A log that is open to be written to.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens a log. Lines after `step` are dropped: they belong to steps that a killed run took after its last checkpoint and
    /// that will be taken again.
    pub(crate) fn open(path: &Path, step: usize) -> Result<Self, TrainError> {
        keep_lines_until(path, step)?;
        Ok(Self {
            path: path.into(),
            file: open_in_place(path, OpenOptions::new().append(true))?,
        })
    }

    pub(crate) fn write(&mut self, line: &impl Serialize) -> Result<(), TrainError> {
        let mut text = serde_json::to_string(line).expect("plain values have a JSON form");
        text.push('\n');
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|error| TrainError::io("write", &self.path, error))
    }

    /// Waits until every line is on the disk.
    pub(crate) fn sync(&self) -> Result<(), TrainError> {
        let synced = self.file.sync_data();
        synced.map_err(|error| TrainError::io("write", &self.path, error))
    }
}

/// All that every line of a log has.
#[derive(Deserialize)]
struct At {
    step: usize,
}

/// Drops what a log has after a step, and a line cut short.
fn keep_lines_until(path: &Path, step: usize) -> Result<(), TrainError> {
    let read = |error| TrainError::io("read", path, error);
    // Refused before anything is replaced, if it is a link.
    drop(open_in_place(path, OpenOptions::new().append(true))?);
    let mut kept = Vec::new();
    let mut changed = false;
    for_each_line(path, |line| match serde_json::from_slice::<At>(line) {
        Ok(parsed) if parsed.step <= step => {
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
        // A line cut short by a kill is dropped too.
        _ => changed = true,
    })?;
    let length = std::fs::metadata(path).map_err(read)?.len();
    match changed || length != kept.len() as u64 {
        true => write_atomically(path, &kept),
        false => Ok(()),
    }
}
