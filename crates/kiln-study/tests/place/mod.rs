//! A folder in which the program `kiln-study` is run as a user runs it.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

/// A folder with a study in a file.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-study"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("OPTUNA_STORAGE", "sqlite:///study.db");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The standard output of a command that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// The standard error of a command that must fail with `code` and print nothing.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(
            output.stdout.is_empty(),
            "{arguments:?} printed {}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(!error.contains("panicked"), "{error}");
        error
    }
}

/// The process whose id is in the file must end soon. A shell that was killed first has written none.
pub fn assert_gone(file: &Path) {
    let id = std::fs::read_to_string(file).unwrap_or_default();
    if id.trim().is_empty() {
        return;
    }
    let status = format!("/proc/{}/stat", id.trim());
    for _ in 0..100 {
        // A zombie has ended, too.
        if std::fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z ")) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("process {} still runs", id.trim());
}
