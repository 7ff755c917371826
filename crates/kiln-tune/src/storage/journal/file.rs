//! The file of a journal and the lock beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, Result};
use crate::study::random_uuid;

/// A lock that does not change for this long belongs to a dead process and is broken, as Optuna does.
const GRACE_PERIOD: Duration = Duration::from_secs(30);
/// Waiting longer than this is an error: many live workers never take as long as that.
const PATIENCE: Duration = Duration::from_secs(120);

/// How every writer begins a line.
const LINE_START: &[u8] = b"{\"op_code\":";

/// An append-only file of lines.
pub(super) struct JournalFile {
    path: PathBuf,
    /// Up to where the lines were read.
    offset: u64,
    /// The number of lines read, for messages.
    lines: u64,
}

impl JournalFile {
    /// Opens the file, which is made when it is missing and `create` is set.
    pub(super) fn open(path: &Path, create: bool) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::storage(format!("cannot open the journal {}", path.display()), error)
        };
        if path.is_dir() {
            return Err(Error::invalid(format!(
                "{} is a directory; name the journal file",
                path.display()
            )));
        }
        OpenOptions::new()
            .append(true)
            .create(create)
            .open(path)
            .map_err(failed)?;
        // The lock is a link to the file, which must be found from the directory of the link.
        let path = std::path::absolute(path).map_err(failed)?;
        Ok(Self {
            path,
            offset: 0,
            lines: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives every complete line that was appended since the last call to `apply`; a line which it refuses is an error.
    /// A last line without its end is left for later.
    pub(super) fn read(&mut self, mut apply: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let path = self.path.clone();
        let failed = |error: io::Error| {
            Error::storage(format!("cannot read the journal {}", path.display()), error)
        };
        let mut file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size < self.offset {
            return Err(Error::Storage {
                message: format!(
                    "the journal {} became shorter; it was cut or replaced, so open it anew",
                    path.display()
                ),
                source: None,
            });
        }
        if size == self.offset {
            return Ok(());
        }
        file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(size - self.offset)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let bad = |number: u64, error: Error| {
            Error::storage(
                format!(
                    "line {number} of {} is not a journal entry; the file is damaged or not a journal",
                    path.display()
                ),
                error,
            )
        };
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if line.last() != Some(&b'\n') {
                // What a killed worker, or one that writes right now, has left. Any other text is somebody's own.
                let start = line.len().min(LINE_START.len());
                return if line[..start] == LINE_START[..start] {
                    Ok(())
                } else {
                    Err(bad(
                        self.lines + 1,
                        Error::InvalidJson("an entry starts with {\"op_code\":".to_owned()),
                    ))
                };
            }
            std::str::from_utf8(line)
                .map_err(|error| Error::InvalidJson(error.to_string()))
                .and_then(&mut apply)
                .map_err(|error| bad(self.lines + 1, error))?;
            self.offset += line.len() as u64;
            self.lines += 1;
        }
        Ok(())
    }

    /// Appends one line durably. The caller holds the lock and has read everything.
    pub(super) fn append(&mut self, line: &str) -> Result<()> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).open(&self.path)?;
            if file.metadata()?.len() > self.offset {
                // A worker was killed while it wrote this. Nobody else writes now, for we hold the lock.
                file.set_len(self.offset)?;
            }
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| {
            Error::storage(
                format!("cannot write to the journal {}", self.path.display()),
                error,
            )
        })
    }

    /// Waits for the lock.
    pub(super) fn lock(&self) -> Result<JournalLock> {
        JournalLock::acquire(&self.path)
    }
}

/// The lock of a journal, released when dropped: a link or file with the ending `.lock`, the same that Optuna makes.
pub(super) struct JournalLock {
    path: PathBuf,
}

impl JournalLock {
    fn acquire(journal: &Path) -> Result<Self> {
        let mut path = journal.as_os_str().to_owned();
        path.push(".lock");
        let lock = PathBuf::from(path);
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut seen: (Option<SystemTime>, Instant) = (None, start);
        loop {
            match make_lock(journal, &lock) {
                Ok(()) => return Ok(Self { path: lock }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Error::storage(
                        format!("cannot make the lock {}", lock.display()),
                        error,
                    ));
                }
            }
            let made = lock
                .symlink_metadata()
                .and_then(|meta| meta.modified())
                .ok();
            if made != seen.0 {
                seen = (made, Instant::now());
            } else if made.is_some() && seen.1.elapsed() > GRACE_PERIOD {
                log::warn!(
                    "the lock {} was not released for {} s; its holder seems to be dead",
                    lock.display(),
                    GRACE_PERIOD.as_secs()
                );
                release(&lock);
                pause = Duration::from_millis(1);
                continue;
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::Storage {
                    message: format!(
                        "the journal {} stayed locked by others for {} s",
                        journal.display(),
                        PATIENCE.as_secs()
                    ),
                    source: None,
                });
            }
            std::thread::sleep(pause);
            // Optuna goes on to 1 s; a lock is held for a few milliseconds, so shorter pauses share it better.
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

impl Drop for JournalLock {
    fn drop(&mut self) {
        release(&self.path);
    }
}

/// Only one of several releasers gets to rename the lock, so nobody unlinks the lock of a later holder.
fn release(lock: &Path) {
    let mut unique = lock.as_os_str().to_owned();
    unique.push(random_uuid());
    unique.push(".rename");
    if std::fs::rename(lock, &unique).is_ok() {
        let _ = std::fs::remove_file(&unique);
    }
}

#[cfg(unix)]
fn make_lock(journal: &Path, lock: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(journal, lock)
}

#[cfg(not(unix))]
fn make_lock(_journal: &Path, lock: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(lock)
        .map(drop)
}
