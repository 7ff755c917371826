//! The unfinished file on disk, and the lock that keeps two processes from writing the same one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{FetchError, FileSpec};

/// A download under a temporary name in the target folder.
///
/// With the folder's lock held it is `NAME.part` and stays there when the transfer breaks, to be
/// resumed. On file systems without locks every process has a name of its own, removed at the end.
pub(super) struct Part {
    pub(super) path: PathBuf,
    target: PathBuf,
    /// Held until the end; the operating system releases it even if the process is killed.
    _lock: Option<File>,
    resumable: bool,
}

impl Part {
    /// Waits for the folder's lock, if it has one.
    pub(super) fn new(spec: &FileSpec, dir: &Path) -> Result<Self, FetchError> {
        let lock = lock(dir)?;
        let resumable = lock.is_some();
        let name = if resumable {
            format!("{}.part", spec.name)
        } else {
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            format!("{}.{}-{count}.part", spec.name, std::process::id())
        };
        Ok(Self {
            path: dir.join(name),
            target: dir.join(&spec.name),
            _lock: lock,
            resumable,
        })
    }

    /// Bytes that are there already.
    pub(super) fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Opens it to go on after the first `keep` bytes.
    pub(super) fn open(&self, keep: u64) -> Result<File, FetchError> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .and_then(|file| file.set_len(keep).map(|()| file))
            .map_err(|source| self.error("write", source))
    }

    /// Throws away what has come so far.
    pub(super) fn discard(&self) -> Result<(), FetchError> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(self.error("remove", source))
            }
            _ => Ok(()),
        }
    }

    /// Gives the complete file its name. The content is on disk before the name is.
    pub(super) fn finish(&self, file: &File) -> Result<(), FetchError> {
        file.sync_all()
            .map_err(|source| self.error("write", source))?;
        fs::rename(&self.path, &self.target).map_err(|source| FetchError::Io {
            path: self.target.clone(),
            action: "create",
            source,
        })?;
        // A folder can be opened and flushed on Unix; elsewhere renaming is durable enough.
        #[cfg(unix)]
        if let Some(dir) = self.target.parent() {
            let _ = File::open(dir).and_then(|dir| dir.sync_all());
        }
        Ok(())
    }

    pub(super) fn error(&self, action: &'static str, source: io::Error) -> FetchError {
        FetchError::Io {
            path: self.path.clone(),
            action,
            source,
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.resumable {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The folder's lock, or `None` where the file system has none.
fn lock(dir: &Path) -> Result<Option<File>, FetchError> {
    let path = dir.join(".lock");
    let error = |source| FetchError::Io {
        path: path.clone(),
        action: "create",
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(error)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}
