//! Runs that are asked to end, and runs that go on: signals, and epochs added afterwards.
#![cfg(unix)]

mod common;

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Sandbox, fails, stderr, succeeds, wait_for_step};

fn send(child: &Child, signal: &str) {
    let kill = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {}", child.id())])
        .status();
    assert!(kill.unwrap().success());
    // Of signals that wait together a system hands out the lowest first.
    let status = format!("/proc/{}/status", child.id());
    let waits = || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        pending.is_some_and(|mask| mask.contains(|digit: char| ('1'..='f').contains(&digit)))
    };
    while waits() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a run, sends signals after its fourth step and waits for its end.
fn interrupted(sandbox: &Sandbox, run: &str, signals: &[&str], more: &[&str]) -> Output {
    let mut command = sandbox.train(run, &[&["--set", "checkpoint.every=0"], more].concat());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_for_step(&mut child, &sandbox.path(run), 4);
    signals.iter().for_each(|signal| send(&child, signal));
    child.wait_with_output().unwrap()
}

#[test]
fn sigterm_and_sighup_end_a_run_with_a_checkpoint_as_ctrl_c_does() {
    let sandbox = Sandbox::new();
    succeeds(&sandbox.train("whole", &[]).output().unwrap());
    // A supervisor may send a signal twice, and a closing terminal does.
    for (run, signals, code) in [
        ("int", &["INT"][..], 130),
        ("term", &["TERM"], 143),
        ("hup", &["HUP"], 129),
        ("twice", &["TERM", "TERM", "HUP", "HUP"], 143),
    ] {
        let output = interrupted(&sandbox, run, signals, &[]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{run}: {}",
            stderr(&output)
        );
        let told = format!("continue with: kiln train --resume {run}");
        assert!(stderr(&output).contains(&told), "{}", stderr(&output));
        assert!(!sandbox.path(run).join("model.safetensors").exists());
        let resumed = sandbox.run(&["train", "--resume", run, "--progress", "none"]);
        succeeds(&resumed);
        assert!(
            stderr(&resumed).contains("resuming after step"),
            "{}",
            stderr(&resumed)
        );
        assert!(sandbox.weights(run) == sandbox.weights("whole"), "{run}");
        assert_eq!(sandbox.metrics(run), sandbox.metrics("whole"), "{run}");
    }
}

#[test]
fn the_advice_to_continue_can_be_typed_also_where_a_folder_has_a_space_in_its_name() {
    let sandbox = Sandbox::new();
    let output = interrupted(&sandbox, "it's a run", &["TERM"], &[]);
    let told = stderr(&output);
    let (_, command) = told.split_once("continue with: kiln ").unwrap();
    let script = format!("\"$kiln\" {} --progress none --json", command.trim());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(sandbox.path(""));
    let resumed = shell.env("kiln", env!("CARGO_BIN_EXE_kiln")).output();
    assert_eq!(succeeds(&resumed.unwrap())["steps"], 24);
}

#[test]
fn under_nohup_a_run_does_not_mind_that_its_terminal_closes() {
    let sandbox = Sandbox::new();
    let program = sandbox.train("run", &[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    // Without what resets the signal before the program.
    shell.arg(env!("CARGO_BIN_EXE_kiln"));
    shell.args(
        program
            .get_args()
            .skip_while(|argument| *argument != "train"),
    );
    shell.current_dir(sandbox.path("")).stdin(Stdio::null());
    let mut child = shell.spawn().unwrap();
    wait_for_step(&mut child, &sandbox.path("run"), 3);
    send(&child, "HUP");
    assert!(child.wait().unwrap().success());
    assert!(sandbox.path("run/summary.json").exists());
}

#[test]
fn a_terminal_that_is_gone_does_not_make_a_run_panic() {
    let sandbox = Sandbox::new();
    let program = sandbox.train("run", &["--progress", "plain"]);
    // Nothing can be written to a closed stderr.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full"]);
    shell.arg(program.get_program()).args(program.get_args());
    shell.current_dir(sandbox.path("")).stdin(Stdio::null());
    assert!(shell.status().unwrap().success());
}

#[test]
fn a_search_ends_by_sigterm_as_by_ctrl_c_and_the_same_command_goes_on() {
    let sandbox = Sandbox::new();
    let recipe = "epochs = 100000\nbatch_size = 32\n[data]\nname = 'digits'\ntrain_len = 100\ntest_len = 10\n\
                  [model]\nname = 'mlp'\nhidden = [4]\n";
    std::fs::write(sandbox.path("recipe.toml"), recipe).unwrap();
    std::fs::write(
        sandbox.path("space.toml"),
        "'optimizer.lr' = { log = [1e-4, 1e-2] }",
    )
    .unwrap();
    let args = "tune --recipe recipe.toml --space space.toml --study s --storage sqlite:///s.db --trials 2 --device flex --json";
    for (n, (signal, code)) in [("TERM", 143), ("HUP", 129)].into_iter().enumerate() {
        let mut command = sandbox.command(&args.split(' ').collect::<Vec<_>>());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        wait_for_step(&mut child, &sandbox.path(&format!("runs/s-{n}")), 1);
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("the same command continues the study"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_finished_run_is_trained_on_where_the_schedule_allows_it() {
    let sandbox = Sandbox::new();
    for schedule in ["constant", "step"] {
        let run = |name: &str| format!("{schedule}-{name}");
        let set = format!("schedule.name={schedule}");
        let settings = [
            "--set",
            &set,
            "--set",
            "schedule.step_size=2",
            "--set",
            "schedule.warmup_epochs=0.5",
        ];
        let whole = [&settings[..], &["--epochs", "5"]].concat();
        succeeds(&sandbox.train(&run("whole"), &whole).output().unwrap());
        succeeds(&sandbox.train(&run("part"), &settings).output().unwrap());
        let part = run("part");
        let more = [
            "train",
            "--resume",
            &part,
            "--epochs",
            "5",
            "--progress",
            "none",
            "--json",
        ];
        let output = sandbox.run(&more);
        let summary = succeeds(&output);
        assert_eq!(
            (&summary["epochs"], &summary["steps"]),
            (&5.into(), &40.into())
        );
        assert!(
            sandbox.weights(&part) == sandbox.weights(&run("whole")),
            "{schedule}"
        );
        assert_eq!(sandbox.metrics(&part), sandbox.metrics(&run("whole")));
        // Now it is a run of five epochs.
        let again = sandbox.run(&more);
        assert_eq!(succeeds(&again)["steps"], 40);
        assert!(
            stderr(&again).contains("finished already"),
            "{}",
            stderr(&again)
        );
        let fewer = sandbox.run(&["train", "--resume", &part, "--epochs", "2"]);
        fails(&fewer, "it is a run of 5, and epochs can only be added");
        let other = sandbox.run(&["train", "--resume", &part, "--epochs", "9", "--lr", "0.5"]);
        fails(&other, "optimizer.lr was (default), now 0.5");
    }
}

#[test]
fn a_run_that_cannot_be_trained_on_says_why_and_what_works_instead() {
    let sandbox = Sandbox::new();
    succeeds(&sandbox.train("cosine", &[]).output().unwrap());
    let more = |run: &str| {
        sandbox.run(&[
            "train",
            "--resume",
            run,
            "--epochs",
            "5",
            "--progress",
            "none",
        ])
    };
    let refused = more("cosine");
    fails(
        &refused,
        "cosine cannot be trained on to 5 epochs: its schedule, cosine, lowers the learning rate",
    );
    assert_eq!(
        succeeds(&sandbox.run(&["train", "--resume", "cosine", "--json"]))["epochs"],
        3
    );
    let told = stderr(&refused);
    let (_, advice) = told.split_once("start a new run: kiln ").unwrap();
    let args: Vec<&str> = advice.trim().split(' ').collect();
    let output = sandbox.run(&[&args[..], &["--progress", "none", "--json"]].concat());
    assert_eq!(succeeds(&output)["epochs"], 2);
    assert!(stderr(&output).contains("weights: "), "{}", stderr(&output));

    let warm = [
        "--set",
        "schedule.name=constant",
        "--set",
        "schedule.warmup_epochs=4",
    ];
    succeeds(&sandbox.train("warm", &warm).output().unwrap());
    fails(
        &more("warm"),
        "its warm-up of 4 epochs is longer than the 3",
    );
    let early = [
        "--set",
        "schedule.name=constant",
        "--set",
        "early_stopping.patience=1",
        "--set",
        "early_stopping.min_delta=100",
    ];
    succeeds(&sandbox.train("early", &early).output().unwrap());
    fails(&more("early"), "early stopping ended it");
    let plain = ["--set", "schedule.name=constant"];
    succeeds(&sandbox.train("bare", &plain).output().unwrap());
    std::fs::remove_dir_all(sandbox.path("bare/checkpoints")).unwrap();
    fails(&more("bare"), "it has no checkpoint to go on from");
    // What was refused is as it was.
    assert_eq!(
        succeeds(&sandbox.run(&["train", "--resume", "bare", "--json"]))["epochs"],
        3
    );
}
