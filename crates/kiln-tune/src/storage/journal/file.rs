//! The file of a journal and the lock beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, Result};
use crate::storage::random_uuid;

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
        // Whoever only reads needs no right to write; a writer is told when it writes.
        let opened = if create {
            let made = OpenOptions::new().append(true).create(true).open(path);
            made.or_else(|error| File::open(path).map_err(|_| error))
        } else {
            File::open(path)
        };
        opened.map_err(failed)?;
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

    /// Gives every complete line that was appended since the last call to `apply`, with its number; a line which it refuses
    /// is an error. A last line without its end is left for later.
    pub(super) fn read(&mut self, mut apply: impl FnMut(u64, &str) -> Result<()>) -> Result<()> {
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
            let number = self.lines + 1;
            if line.last() != Some(&b'\n') {
                // What a killed worker, or one that writes right now, has left. Any other text is somebody's own.
                let text = line.trim_ascii_start();
                let start = text.len().min(LINE_START.len());
                return if text[..start] == LINE_START[..start] {
                    Ok(())
                } else {
                    Err(bad(
                        number,
                        Error::InvalidJson("an entry starts with {\"op_code\":".to_owned()),
                    ))
                };
            }
            std::str::from_utf8(line)
                .map_err(|error| Error::InvalidJson(error.to_string()))
                .and_then(|text| apply(number, text))
                .map_err(|error| bad(number, error))?;
            self.offset += line.len() as u64;
            self.lines = number;
        }
        Ok(())
    }

    /// Appends one line durably, unless others may have written since everything was read: false then, and the caller
    /// reads and decides again.
    ///
    /// A process can be stopped at any moment for longer than others respect its lock. So nothing here destroys what
    /// others wrote meanwhile, wherever it is stopped: what a killed worker left unfinished becomes spaces, which belong
    /// to the line that follows, and the line itself is appended.
    pub(super) fn append(&mut self, lock: &JournalLock, line: &str) -> Result<bool> {
        let write = || -> io::Result<bool> {
            let mut file = OpenOptions::new().append(true).open(&self.path)?;
            let tail = self.tail()?;
            if tail.contains(&b'\n') || !lock.is_held() {
                return Ok(false);
            }
            if !tail.trim_ascii().is_empty() {
                let mut blank = OpenOptions::new().write(true).open(&self.path)?;
                blank.seek(SeekFrom::Start(self.offset))?;
                blank.write_all(&vec![b' '; tail.len()])?;
            }
            if !lock.is_held() {
                return Ok(false);
            }
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_all()?;
            Ok(true)
        };
        write().map_err(|error| {
            Error::storage(
                format!("cannot write to the journal {}", self.path.display()),
                error,
            )
        })
    }

    /// What follows the lines that were read.
    fn tail(&self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(tail)
    }

    /// Waits for the lock.
    pub(super) fn lock(&self) -> Result<JournalLock> {
        JournalLock::acquire(&self.path)
    }
}

/// What tells one lock from a later one of the same name: its number in the file system and when it was made.
#[derive(Clone, Copy, PartialEq, Eq)]
struct LockId {
    inode: u64,
    made: SystemTime,
}

impl LockId {
    fn of(lock: &Path) -> Option<Self> {
        let meta = lock.symlink_metadata().ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&meta);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self {
            inode,
            made: meta.modified().ok()?,
        })
    }
}

/// The lock of a journal, released when dropped: a link or file with the ending `.lock`, the same that Optuna makes.
pub(super) struct JournalLock {
    path: PathBuf,
    id: LockId,
}

impl JournalLock {
    fn acquire(journal: &Path) -> Result<Self> {
        let mut path = journal.as_os_str().to_owned();
        path.push(".lock");
        let lock = PathBuf::from(path);
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut seen: (Option<LockId>, Instant) = (None, start);
        loop {
            let asked = Instant::now();
            match make_lock(journal, &lock) {
                Ok(()) => {
                    // Whoever was stopped right here may look at the lock of somebody else.
                    match LockId::of(&lock) {
                        Some(id) if asked.elapsed() < GRACE_PERIOD / 2 => {
                            return Ok(Self { path: lock, id });
                        }
                        _ => continue,
                    }
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Error::storage(
                        format!("cannot make the lock {}", lock.display()),
                        error,
                    ));
                }
            }
            let found = LockId::of(&lock);
            if found != seen.0 {
                seen = (found, Instant::now());
            } else if let Some(dead) = found
                && seen.1.elapsed() > GRACE_PERIOD
            {
                log::warn!(
                    "the lock {} was not released for {} s; its holder seems to be dead",
                    lock.display(),
                    GRACE_PERIOD.as_secs()
                );
                release(&lock, dead);
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

    /// Whether nobody has taken the lock for that of a dead process.
    fn is_held(&self) -> bool {
        LockId::of(&self.path) == Some(self.id)
    }
}

impl Drop for JournalLock {
    fn drop(&mut self) {
        release(&self.path, self.id);
    }
}

/// Removes this lock and no other of its name. Of several releasers only one gets to rename it; who renamed a later one
/// puts it back.
fn release(lock: &Path, id: LockId) {
    if LockId::of(lock) != Some(id) {
        return;
    }
    let mut unique = lock.as_os_str().to_owned();
    unique.push(random_uuid());
    unique.push(".rename");
    let unique = PathBuf::from(unique);
    if std::fs::rename(lock, &unique).is_ok() {
        if LockId::of(&unique) != Some(id) {
            let _ = std::fs::hard_link(&unique, lock);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"op_code":10}"#;

    fn opened(path: &Path) -> JournalFile {
        let mut file = JournalFile::open(path, true).unwrap();
        read(&mut file);
        file
    }

    fn read(file: &mut JournalFile) -> Vec<String> {
        let mut lines = Vec::new();
        file.read(|_, line| {
            lines.push(line.trim().to_owned());
            Ok(())
        })
        .unwrap();
        lines
    }

    /// As another worker does once the holder of the lock has not moved for long enough.
    fn break_lock(lock: &JournalLock) {
        std::fs::remove_file(&lock.path).unwrap();
    }

    #[test]
    fn a_worker_that_lost_its_lock_while_it_was_stopped_destroys_nothing_and_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j.log");
        let (mut stopped, mut other) = (opened(&path), opened(&path));
        let old = stopped.lock().unwrap();
        break_lock(&old);
        let new = other.lock().unwrap();
        // With the lock lost, whether others have written already or not.
        assert!(!stopped.append(&old, LINE).unwrap());
        assert!(other.append(&new, LINE).unwrap());
        assert_eq!(read(&mut other), [LINE]);
        assert!(other.append(&new, LINE).unwrap());
        assert!(!stopped.append(&old, LINE).unwrap());
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{LINE}\n").repeat(2)
        );
        // Nor does it release the lock of its successor.
        drop(old);
        assert!(new.is_held());
        drop(new);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(read(&mut stopped).len(), 2);
        let lock = stopped.lock().unwrap();
        assert!(stopped.append(&lock, LINE).unwrap());
    }

    #[test]
    fn an_unfinished_last_line_becomes_spaces_and_whole_ones_are_never_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j.log");
        std::fs::write(&path, format!("{LINE}\n{{\"op_code\":4,\"wor")).unwrap();
        let mut file = opened(&path);
        let lock = file.lock().unwrap();
        assert!(file.append(&lock, LINE).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.split('\n').map(str::trim).collect::<Vec<_>>(),
            [LINE, LINE, ""]
        );
        assert_eq!(read(&mut file), [LINE]);
        // Killed after the spaces were written: they are no damage.
        std::fs::write(&path, format!("{text}     ")).unwrap();
        assert_eq!(read(&mut file).len(), 0);
        assert!(file.append(&lock, LINE).unwrap());
        assert_eq!(read(&mut file), [LINE]);
    }

    #[test]
    fn a_releaser_that_comes_late_puts_the_lock_of_another_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j.log");
        let file = opened(&path);
        let lock = file.lock().unwrap();
        let other = LockId {
            inode: lock.id.inode,
            made: lock.id.made + Duration::from_secs(1),
        };
        release(&lock.path, other);
        assert!(lock.is_held());
    }
}
