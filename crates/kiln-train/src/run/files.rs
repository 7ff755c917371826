//! Files that are whole or not there, in a folder that need not be trusted: nothing is opened for writing through a link, and
//! nothing is read without a bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TrainError;

/// Bytes of the largest file of values that is read. Earlier versions wrote the confusion matrix of five thousand classes so.
const MAX_VALUES: u64 = 256 << 20;

/// Writes a file so that a crash leaves the old one or the new one, never a part. A link in its place is replaced, and what it
/// points to left alone.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let temporary = path.with_added_extension(format!("{PARTIAL}{}", std::process::id()));
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(path));
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        TrainError::io("write", path, source)
    })
}

/// Begins the extension of a file that is being written; the writer's process id ends it.
const PARTIAL: &str = "partial-";

/// Writes a new file and waits until it is on the disk. What has its name, which only a killed process of the same id or a
/// stranger can have left, is removed first.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let create = || OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()?
        }
        other => other?,
    };
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits until the folder's entry for `path` is on the disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    // Windows has no way to sync a folder, and needs none.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Opens a file that is not replaced but written into: a log that grows, a lock. It is created if it is missing, never emptied, and
/// refused if it is a link, a pipe or a device.
pub(crate) fn open_in_place(path: &Path, options: &mut OpenOptions) -> Result<File, TrainError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Opening a pipe would wait for its other end.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    let no_file = |is_link: bool| TrainError::Damaged {
        path: path.into(),
        problem: match is_link {
            true => "it is a symbolic link; replace it by the file that it points to",
            false => "it is no plain file",
        }
        .into(),
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return Err(no_file(found.is_symlink())),
        _ => {}
    }
    let file = options.create(true).truncate(false).open(path);
    let file = file.map_err(|error| TrainError::io("write", path, error))?;
    match file.metadata() {
        Ok(found) if found.is_file() => Ok(file),
        Ok(_) => Err(no_file(false)),
        Err(error) => Err(TrainError::io("read", path, error)),
    }
}

/// Refuses a folder within a run that is a link: files would be written and removed elsewhere.
pub(crate) fn plain_folder(folder: &Path) -> Result<(), TrainError> {
    match folder.symlink_metadata() {
        Ok(found) if found.is_symlink() => Err(TrainError::Damaged {
            path: folder.into(),
            problem: "it is a symbolic link; replace it by the folder that it points to".into(),
        }),
        _ => Ok(()),
    }
}

/// Opens a file to read it; pipes and devices, which may never end, are refused. Also its length.
pub(crate) fn open_to_read(path: &Path) -> Result<(File, u64), TrainError> {
    let failed = |error| TrainError::io("read", path, error);
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(TrainError::Damaged {
            path: path.into(),
            problem: "it is no plain file".into(),
        });
    }
    Ok((File::open(path).map_err(failed)?, found.len()))
}

/// Reads a file of at most `most` bytes.
pub(crate) fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, TrainError> {
    let (file, length) = open_to_read(path)?;
    let mut bytes = Vec::new();
    // One more than allowed, since the file may have grown.
    let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| TrainError::io("read", path, error))?;
    match bytes.len() as u64 > most {
        true => Err(TrainError::Damaged {
            path: path.into(),
            problem: format!(
                "it has {} bytes, more than the {most} allowed",
                length.max(most + 1)
            ),
        }),
        false => Ok(bytes),
    }
}

/// Bytes of the longest line of a log; longer ones are passed over, since nothing of Kiln writes them.
const MAX_LINE: u64 = 1 << 20;

/// Calls `see` with each line of a log, without its end; with an empty one for a line that is too long.
pub(crate) fn for_each_line(path: &Path, mut see: impl FnMut(&[u8])) -> Result<(), TrainError> {
    let failed = |error| TrainError::io("read", path, error);
    let (file, length) = open_to_read(path)?;
    // What is written while it is read belongs to the next time.
    let mut reader = BufReader::new(file.take(length));
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut part = reader.by_ref().take(MAX_LINE);
        let read = part.read_until(b'\n', &mut line).map_err(failed)?;
        if read == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        if !whole && read as u64 == MAX_LINE {
            reader.skip_until(b'\n').map_err(failed)?;
            line.clear();
        }
        see(line.strip_suffix(b"\n").unwrap_or(&line));
    }
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let json = serde_json::to_vec_pretty(value);
    let mut bytes = json.map_err(|error| TrainError::io("write", path, error.into()))?;
    bytes.push(b'\n');
    write_atomically(path, &bytes)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let bytes = read_bounded(path, MAX_VALUES)?;
    serde_json::from_slice(&bytes).map_err(|error| TrainError::Damaged {
        path: path.into(),
        problem: error.to_string(),
    })
}

/// Removes what dead processes left half-written in a run's folder, whose lock is held; what living ones write stays. Nothing
/// depends on it, so that it does not fail.
pub(crate) fn remove_leftovers(folder: &Path) {
    remove_leftovers_if(folder, |_| true);
}

/// Removes what dead processes left of writing this file.
pub(crate) fn remove_leftovers_of(path: &Path) {
    if let (Some(folder), Some(file)) = (path.parent(), path.file_name()) {
        remove_leftovers_if(folder, |name| file == name);
    }
}

fn remove_leftovers_if(folder: &Path, is_meant: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| name.rsplit_once('.'));
        let writer = parts
            .filter(|(file, _)| is_meant(file))
            .and_then(|(_, extension)| extension.strip_prefix(PARTIAL));
        if writer.and_then(|id| id.parse().ok()).is_some_and(is_dead) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether no process of this machine has this id. Where that cannot be told, none is taken for dead.
pub(crate) fn is_dead(process: u32) -> bool {
    #[cfg(unix)]
    {
        let Ok(id) = libc::pid_t::try_from(process) else {
            return true;
        };
        // SAFETY: signal 0 is never delivered, it only asks whether it could be.
        #[allow(unsafe_code)]
        let answer = unsafe { libc::kill(id, 0) };
        id <= 0 || answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
    }
    #[cfg(not(unix))]
    {
        let _ = process;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"old").unwrap();
        // A folder in the place of the temporary file makes the write fail.
        let blocked = path.with_added_extension(format!("partial-{}", std::process::id()));
        fs::create_dir(&blocked).unwrap();
        assert!(write_atomically(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fs::remove_dir(&blocked).unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, b"precious").unwrap();
        let path = folder.path().join("file");
        let partial = path.with_added_extension(format!("partial-{}", std::process::id()));
        symlink(&victim, &path).unwrap();
        symlink(&victim, &partial).unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());

        let log = folder.path().join("log");
        symlink(&victim, &log).unwrap();
        let error = open_in_place(&log, OpenOptions::new().append(true)).unwrap_err();
        assert!(error.to_string().contains("is a symbolic link"), "{error}");
        // Nor is a file made where a link points to nothing yet.
        let missing = folder.path().join("missing");
        fs::remove_file(&log).unwrap();
        symlink(&missing, &log).unwrap();
        assert!(open_in_place(&log, OpenOptions::new().append(true)).is_err());
        assert!(!missing.exists());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn a_file_written_in_place_is_never_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, b"old").unwrap();
        drop(open_in_place(&path, OpenOptions::new().write(true)).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert!(open_in_place(folder.path(), OpenOptions::new().write(true)).is_err());
    }

    #[test]
    fn what_has_no_end_or_is_too_long_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        let error = read_bounded(&path, 4).unwrap_err().to_string();
        assert!(
            error.contains("5 bytes, more than the 4 allowed"),
            "{error}"
        );
        #[cfg(unix)]
        for endless in ["/dev/zero", "/dev/tty", "/"] {
            assert!(read_bounded(Path::new(endless), 4).is_err(), "{endless}");
        }
    }

    #[test]
    fn a_line_without_end_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let long = vec![b'x'; MAX_LINE as usize];
        for (bytes, expected) in [
            (b"a\n\nb".to_vec(), vec!["a", "", "b"]),
            ([b"a\n", &long[..], b"y\nb\n"].concat(), vec!["a", "", "b"]),
            (long.clone(), vec![""]),
            (Vec::new(), vec![]),
        ] {
            fs::write(&path, bytes).unwrap();
            let mut seen = Vec::new();
            for_each_line(&path, |line| {
                seen.push(String::from_utf8(line.to_vec()).unwrap())
            })
            .unwrap();
            assert_eq!(seen, expected);
        }
    }

    #[cfg(unix)]
    #[test]
    fn leftovers_of_dead_processes_are_removed_and_those_of_living_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (dead, alive) = (child.id(), std::process::id());
        let write = |name: String| fs::write(folder.path().join(name), b"x").unwrap();
        write(format!("recipe.toml.partial-{dead}"));
        write(format!("recipe.toml.partial-{alive}"));
        write("recipe.toml".into());
        write("notes.partial-".into());
        write("notes.partial-mine".into());
        write(format!("partial-{dead}"));
        remove_leftovers(folder.path());
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let kept = format!("recipe.toml.partial-{alive}");
        let dead = format!("partial-{dead}");
        let mut expected = vec![
            "notes.partial-",
            "notes.partial-mine",
            &dead,
            "recipe.toml",
            &kept,
        ];
        expected.sort();
        assert_eq!(names, expected);
    }
}
