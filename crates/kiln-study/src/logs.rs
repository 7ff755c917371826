//! The folder of `--log-dir`: the output of each trial in a file of its own.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{CliResult, Failure};
use kiln_tune::study::file_name;

/// Where the output of a study's trials goes: `DIR/trial-NUMBER.log`.
///
/// No file is ever overwritten. A study that finds the file of another one in its place moves to `DIR/STUDY/` for good.
pub(crate) struct Logs {
    shared: PathBuf,
    own: PathBuf,
}

impl Logs {
    /// Makes the folder.
    pub(crate) fn new(directory: &Path, study: &str) -> CliResult<Self> {
        std::fs::create_dir_all(directory).map_err(|error| {
            Failure::message(format!("cannot make {}: {error}", directory.display()))
        })?;
        Ok(Self {
            shared: directory.to_owned(),
            own: directory.join(file_name(study)),
        })
    }

    /// Makes the file of a trial.
    ///
    /// # Errors
    /// Names the file that cannot be made.
    pub(crate) fn create(&self, trial: u64) -> Result<File, String> {
        let name = format!("trial-{trial}.log");
        if !self.own.is_dir()
            && let Some(file) = create_new(&self.shared.join(&name))?
        {
            return Ok(file);
        }
        std::fs::create_dir_all(&self.own)
            .map_err(|error| format!("cannot make {}: {error}", self.own.display()))?;
        // A study of the same name in another storage may have been here.
        let again = (2..).map(|i| format!("trial-{trial}.{i}.log"));
        for name in std::iter::once(name).chain(again) {
            if let Some(file) = create_new(&self.own.join(name))? {
                return Ok(file);
            }
        }
        unreachable!("numbers do not run out")
    }
}

/// The new file; none where there is one.
fn create_new(path: &Path) -> Result<Option<File>, String> {
    match File::create_new(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(format!("cannot write the log {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn studies_in_one_folder_keep_their_logs_apart() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("logs");
        let write = |study: &str, trial: u64, text: &str| {
            let logs = Logs::new(&folder, study).unwrap();
            logs.create(trial)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        };
        write("a", 0, "a0");
        write("a", 1, "a1");
        write("b", 0, "b0");
        write("b", 7, "b7");
        // The study goes on in another run.
        write("a", 2, "a2");
        write("b", 1, "b1");
        // Another study of the same name.
        write("a", 0, "new a0");
        write("a", 3, "new a3");
        write("b", 0, "new b0");
        for (path, text) in [
            ("trial-0.log", "a0"),
            ("trial-1.log", "a1"),
            ("trial-2.log", "a2"),
            ("b/trial-0.log", "b0"),
            ("b/trial-7.log", "b7"),
            ("b/trial-1.log", "b1"),
            ("a/trial-0.log", "new a0"),
            ("a/trial-3.log", "new a3"),
            ("b/trial-0.2.log", "new b0"),
        ] {
            let kept = std::fs::read_to_string(folder.join(path));
            assert_eq!(kept.unwrap(), text, "{path}");
        }
    }
}
