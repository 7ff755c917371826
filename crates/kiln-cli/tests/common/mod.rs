//! The program in a folder of its own, and what its exit must look like.

// No test uses all of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A folder of its own for each test, and the program run in it.
pub struct Sandbox(pub tempfile::TempDir);

impl Sandbox {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command
            .args(args)
            .current_dir(self.0.path())
            .env("KILN_DATA_DIR", self.path("cache"))
            .env_remove("OPTUNA_STORAGE")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

/// The program. A closed terminal means to it what it usually does, even where these tests run under `nohup`.
fn program() -> Command {
    let kiln = env!("CARGO_BIN_EXE_kiln");
    let reset = ["--default-signal=HUP", "true"];
    let known = Command::new("env").args(reset).output();
    if known.is_ok_and(|output| output.status.success()) {
        let mut command = Command::new("env");
        command.args([reset[0], kiln]);
        command
    } else {
        Command::new(kiln)
    }
}

/// The words of a command line, none of which holds a space.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Runs that the tests start and look into.
impl Sandbox {
    /// A small run that takes a second or two: 24 steps in 3 epochs, a checkpoint every 3 steps.
    pub fn train(&self, run: &str, more: &[&str]) -> Command {
        let mut args = vec![
            "train", "--data", "digits", "--device", "flex", "--epochs", "3",
        ];
        args.extend(["--batch-size", "32", "--run-dir", run, "--progress", "none"]);
        for setting in [
            "data.train_len=270",
            "data.test_len=60",
            "model.channels=[4, 8]",
            "model.hidden=[16]",
            "augment.shift=2",
            "checkpoint.every=3",
            "log_every=1",
        ] {
            args.extend(["--set", setting]);
        }
        args.extend(more);
        self.command(&args)
    }

    pub fn weights(&self, run: &str) -> Vec<u8> {
        std::fs::read(self.path(run).join("model.safetensors")).unwrap()
    }

    pub fn metrics(&self, run: &str) -> Vec<(u64, String, String)> {
        let text = std::fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                let field = |name: &str| line[name].to_string();
                (
                    line["step"].as_u64().unwrap(),
                    field("split"),
                    field("loss"),
                )
            })
            .collect()
    }
}

/// Waits until the run has taken at least this many steps.
pub fn wait_for_step(child: &mut Child, run: &Path, step: usize) {
    let start = Instant::now();
    let lines = || std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    while lines().lines().count() < step && child.try_wait().unwrap().is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "no step {step} in two minutes"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub fn fails(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    assert!(stderr(output).contains(message), "{}", stderr(output));
    assert!(output.stdout.is_empty());
    assert!(!stderr(output).contains("panicked"), "{}", stderr(output));
}

#[track_caller]
pub fn succeeds(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}
