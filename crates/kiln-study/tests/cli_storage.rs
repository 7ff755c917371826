//! What `kiln-study` does with the files of its storages: damaged ones, and those it may not write.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

fn study(directory: &Path, arguments: &[&str], as_nobody: bool) -> Output {
    // Root may write everything, so what nobody may do is tried as nobody, with a program that nobody can reach.
    let program = directory.join("kiln-study");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_kiln-study"), &program).unwrap();
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    if as_nobody && is_root() {
        command.uid(65534).gid(65534);
    }
    // A process that another test starts may still have inherited the copy as a file that is open for writing.
    for _ in 0..200 {
        match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            output => return output.unwrap(),
        }
    }
    command.output().unwrap()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self")
        .is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_journal_and_a_database_that_may_not_be_written_are_read() {
    for (url, file) in [("journal:s.log", "s.log"), ("sqlite:///s.db", "s.db")] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let run = |arguments: &[&str], as_nobody| {
            let mut all = arguments.to_vec();
            all.extend(["--storage", url]);
            study(path, &all, as_nobody)
        };
        for arguments in [
            &["create", "--study", "first"] as &[&str],
            &["enqueue", "--study", "first", "--set", "x=1"],
        ] {
            let output = run(arguments, false);
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        if file == "s.db" {
            // A write-ahead log needs two files beside the database even to read it.
            assert!(run(&["write-ahead-log", "off"], false).status.success());
        }
        std::fs::set_permissions(path.join(file), PermissionsExt::from_mode(0o444)).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o555)).unwrap();
        let before = std::fs::read(path.join(file)).unwrap();
        for arguments in [
            &["list"] as &[&str],
            &["trials"],
            &["show", "--study", "first"],
        ] {
            let output = run(arguments, true);
            assert!(
                output.status.success(),
                "{url} {arguments:?}: {}",
                text(&output.stderr)
            );
            assert!(!output.stdout.is_empty(), "{url} {arguments:?}");
        }
        let output = run(&["enqueue", "--study", "first", "--set", "x=2"], true);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(file), "{error}");
        assert_eq!(std::fs::read(path.join(file)).unwrap(), before);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_damaged_study_is_named_by_list_and_does_not_hide_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let url = "sqlite:///s.db";
    for name in ["first", "second"] {
        assert!(
            study(path, &["create", "--study", name, "--storage", url], false)
                .status
                .success()
        );
        let run = [
            "run",
            "--study",
            name,
            "--storage",
            url,
            "--trials",
            "3",
            "--quiet",
            "--param",
            "c=choice:a,b",
            "--param",
            "x=float:0..1",
            "--",
            "echo",
            "{x}",
        ];
        let output = study(path, &run, false);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let database = rusqlite::Connection::open(path.join("s.db")).unwrap();
    database.execute_batch("UPDATE trial_params SET param_value = 9 WHERE param_id = (SELECT min(param_id) FROM trial_params WHERE param_name = 'c')").unwrap();
    let listed = study(path, &["list", "--storage", url], false);
    assert!(listed.status.success());
    let (out, error) = (text(&listed.stdout), text(&listed.stderr));
    assert!(out.contains("first") && out.contains("second"), "{out}");
    assert!(
        error.contains("study \"first\" cannot be read")
            && error.contains("table trial_params, row with param_id"),
        "{error}"
    );
    assert!(!error.contains("second"), "{error}");
    let listed = study(path, &["list", "--json", "--storage", url], false);
    let json: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(
        json[0]["unreadable"].as_str().unwrap().contains("param_id")
            && json[1]["unreadable"].is_null()
    );
    // Whatever needs its trials says so, and nothing panics.
    for command in [
        &["trials"] as &[&str],
        &["best", "--json"],
        &["show"],
        &["importance", "--evaluator", "ped-anova"],
        &["importance", "--evaluator", "fanova"],
        &["plot", "--out", "report.html"],
        &["ask", "--param", "x=float:0..1"],
    ] {
        let arguments = [command, &["--study", "first", "--storage", url]].concat();
        let output = study(path, &arguments, false);
        let error = text(&output.stderr);
        assert!(!error.contains("panicked"), "{command:?}: {error}");
        assert!(
            (output.status.success() && command[0] == "best")
                || error.contains("table trial_params"),
            "{command:?}: {error}"
        );
        let arguments = [command, &["--study", "second", "--storage", url]].concat();
        let output = study(path, &arguments, false);
        assert!(
            output.status.success(),
            "{command:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn the_write_ahead_log_is_switched_and_its_help_says_what_it_means() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let wal = |arguments: &[&str]| {
        let mut all = vec!["write-ahead-log"];
        all.extend(arguments);
        all.extend(["--storage", "sqlite:///s.db"]);
        study(path, &all, false)
    };
    let error = text(&wal(&["on"]).stderr);
    assert!(
        error.contains("s.db") && !path.join("s.db").exists(),
        "{error}"
    );
    assert!(
        study(
            path,
            &["create", "--study", "a", "--storage", "sqlite:///s.db"],
            false
        )
        .status
        .success()
    );
    for (arguments, printed) in [
        (&[] as &[&str], "on\n"),
        (&["off"], "off\n"),
        (&[], "off\n"),
        (&["on"], "on\n"),
    ] {
        let output = wal(arguments);
        assert_eq!(
            text(&output.stdout),
            printed,
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
    let help = text(&study(path, &["write-ahead-log", "--help"], false).stdout);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["one machine", "FILE-wal", "power failure", "Optuna"] {
        assert!(help.contains(part), "{part} in {help}");
    }
}
