//! `kiln-study run` on what real programs print, and on what goes wrong around them.
#![cfg(unix)]

mod place;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use place::{Place, assert_gone};
use serde_json::{Value, json};

impl Place {
    /// Runs trials of a shell script, which must go well, and returns them.
    fn tune(&self, flags: &[&str], script: &str) -> Vec<Value> {
        let script = script.replace('{', "{{").replace('}', "}}");
        let command = ["--quiet", "--", "sh", "-c", &script];
        self.run(&run("s", &[flags, &command].concat()));
        self.trials("s")
    }

    fn trials(&self, study: &str) -> Vec<Value> {
        match self.json(&["trials", "--study", study, "--json"]) {
            Value::Array(trials) => trials,
            other => panic!("{other}"),
        }
    }
}

/// The arguments that run trials of a study with one parameter, before those that follow.
fn run<'a>(study: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--study", study, "--param", "x=float:0..1"], more].concat()
}

fn reason(trial: &Value) -> &str {
    trial["system_attrs"]["fail_reason"].as_str().unwrap_or("")
}

#[test]
fn a_json_line_is_taken_at_its_word_or_fails_the_trial_with_a_reason() {
    for (line, expected) in [
        (r#"{"step": 1, "value": null}"#, "NaN (or null)"),
        (r#"{"value": NaN}"#, "NaN (or null)"),
        (r#"{"value": null, "n": 3}"#, "NaN (or null)"),
        (r#"{"value": "high"}"#, "no number: \"high\""),
        (r#"{"step": "one", "value": 1}"#, "step"),
        (r#"{"step": null, "value": 1}"#, "step"),
        (r#"{"step": -1, "value": 1}"#, "step"),
        (r#"{"loss": 0.5}"#, "has loss"),
        (r#"{"lr": 0.1, "batch_size": 32}"#, "has lr, batch_size"),
        (r#"{"values": [1, 2]}"#, "2 of 1 values"),
        (r#"{"value": 1, "constraints": {"c": "x"}}"#, "constraint"),
        (r#"{"value": 1, "user_attrs": 3}"#, "user_attrs"),
    ] {
        let place = Place::new();
        let trials = place.tune(&["--trials", "1"], &format!("echo '{line}'"));
        assert_eq!(trials[0]["state"], "FAIL", "{line}: {}", trials[0]);
        assert!(
            reason(&trials[0]).contains(expected),
            "{line}: {}",
            trials[0]
        );
    }
    let place = Place::new();
    let lines = r#"echo '{"lr": 0.1}'; echo '{"step": 3.7, "value": 9}'; echo '{"step": "4", "value": true}'
        echo '{"value": 1, "constraints": {"c": 1, "d": 2}, "user_attrs": {"who": "first"}}'
        echo '{"value": 2, "constraints": {"c": -1}, "user_attrs": {"when": "last"}}'; echo saved 7"#;
    let trial = &place.tune(&["--trials", "1"], lines)[0];
    assert_eq!(trial["value"], 2.0);
    assert_eq!(trial["constraints"], json!({ "c": -1.0 }));
    assert_eq!(trial["user_attrs"], json!({ "when": "last" }));
    assert_eq!(trial["intermediate_values"], json!({ "3": 9.0, "4": 1.0 }));
}

#[test]
fn counters_are_not_taken_for_the_metric() {
    let keras = r"for e in 1 2; do echo Epoch $e/10; for i in 1 13 25; do printf '%s/25 [===>...] - ETA: 0s - loss: 0.%s9\r' $i $e; done; printf '25/25 [=====] - 1s 20ms/step - loss: 0.%s9 - val_loss: 1,00%s.5\n' $e $e; done";
    for (metric, values) in [
        (&["--metric", "loss"][..], [0.19, 0.29]),
        (&["--metric", "val_loss"], [1001.5, 1002.5]),
    ] {
        let place = Place::new();
        let flags = [metric, &["--trials", "1", "--pruner", "none"]].concat();
        let trial = &place.tune(&flags, keras)[0];
        assert_eq!(trial["value"], values[1], "{metric:?} {trial}");
        assert_eq!(
            trial["intermediate_values"],
            json!({ "1": values[0], "2": values[1] })
        );
    }
    let place = Place::new();
    let trial = &place.tune(
        &["--trials", "1"],
        "echo Epoch 1/10; echo '25/25 - loss: 0.9'",
    )[0];
    assert_eq!(
        (&trial["value"], &trial["intermediate_values"]),
        (&json!(0.9), &json!({ "1": 0.9 }))
    );
    let place = Place::new();
    let dictionaries =
        r#"echo "{'loss': 0.9, 'epoch': 0.5}"; echo "{'eval_loss': 0.8, 'epoch': 1.0}""#;
    let trial = &place.tune(&["--trials", "1", "--metric", "eval_loss"], dictionaries)[0];
    assert_eq!(
        (&trial["value"], &trial["intermediate_values"]),
        (&json!(0.8), &json!({ "1": 0.8 }))
    );
}

#[test]
fn several_named_metrics_are_the_values_of_several_objectives() {
    let place = Place::new();
    let two = [
        "--direction",
        "minimize",
        "--direction",
        "maximize",
        "--trials",
        "1",
    ];
    let names = ["--metric", "loss", "--metric", "acc"];
    let trial = &place.tune(
        &[&two[..], &names].concat(),
        "echo 'acc=0.5, loss: 1,234.5'",
    )[0];
    assert_eq!(trial["values"], json!([1234.5, 0.5]));
    let one = ["--trials", "1", "--metric", "loss", "--", "echo", "1"];
    let error = place.fails(2, &run("s", &one));
    assert!(
        error.contains("1 metrics are named for 2 objectives"),
        "{error}"
    );
    let trial = &place.tune(&[&two[..], &names].concat(), "echo 'loss: 1'")[1];
    assert!(
        reason(trial).contains("no value of the metric acc"),
        "{trial}"
    );
}

#[test]
fn another_space_for_a_study_is_refused_before_a_trial_starts() {
    let place = Place::new();
    place.tune(&["--trials", "2"], "echo 1");
    for param in ["x=int:0..1", "x=float:1e-3..1:log", "x=choice:a,b"] {
        let start = ["--study", "s", "--param", "y=float:0..1", "--param", param];
        let run = [
            &["run", "--timeout", "3s"],
            &start[..],
            &["--", "echo", "1"],
        ]
        .concat();
        let error = place.fails(1, &run);
        assert!(
            error.contains("\"x\" cannot change") && error.contains("--study"),
            "{error}"
        );
        let error = place.fails(1, &[&["ask"], &start[..]].concat());
        assert!(error.contains("\"x\" cannot change"), "{error}");
    }
    assert_eq!(place.trials("s").len(), 2);
    // A range may change.
    let run = [
        "run",
        "--study",
        "s",
        "--param",
        "x=float:0..9",
        "--trials",
        "1",
        "--",
        "echo",
        "1",
    ];
    place.ok(&run);
    assert_eq!(place.trials("s").len(), 3);
}

#[test]
fn the_number_of_programs_at_once_has_a_bound() {
    let place = Place::new();
    let two = ["--trials", "2", "--quiet", "--jobs"];
    let jobs = |jobs| run("s", &[&two[..], &[jobs, "--", "echo", "1"]].concat());
    let error = place.fails(2, &jobs("1000000"));
    assert!(error.contains("at most 1000"), "{error}");
    place.ok(&jobs("1000"));
    assert_eq!(place.trials("s").len(), 2);
}

#[test]
fn a_command_that_the_shell_cannot_run_ends_the_run() {
    let place = Place::new();
    std::fs::write(place.path().join("not-executable"), "echo 1").unwrap();
    for script in ["no-such-program-anywhere", "./not-executable"] {
        let minute = ["--timeout", "1m", "--quiet", "--", "sh", "-c", script];
        let error = place.fails(1, &run(script, &minute));
        assert!(error.contains("a shell says so"), "{error}");
        assert_eq!(place.trials(script).len(), 1);
    }
    // Once a program has run, its exit codes are its own.
    let script = "if [ $KILN_TRIAL = 0 ]; then echo 1; else exit 127; fi";
    assert_eq!(place.tune(&["--trials", "3"], script).len(), 3);
}

#[test]
fn a_closed_terminal_ends_the_programs_unless_nohup_said_otherwise() {
    let start = |place: &Place, program: &str| {
        let script = "sleep 65 & echo $! > child; wait";
        let study = env!("CARGO_BIN_EXE_kiln-study");
        // These tests may run under nohup themselves.
        let reset = ["--default-signal=HUP", "true"];
        let known = Command::new("env").args(reset).output();
        let mut command = if known.is_ok_and(|output| output.status.success()) {
            let mut command = Command::new("env");
            command.args([reset[0], "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command
            .args(["-c", &format!("{program} exec \"$@\""), "sh", study])
            .args(run("s", &["--trials", "9", "--", "sh", "-c", script]))
            .current_dir(place.path())
            .env("OPTUNA_STORAGE", "sqlite:///study.db")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let run = command.spawn().unwrap();
        let child = place.path().join("child");
        while std::fs::read_to_string(&child)
            .unwrap_or_default()
            .is_empty()
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        run
    };
    let signal = |name: &str, id: u32| {
        let kill = Command::new("kill").args([name, &id.to_string()]).status();
        assert!(kill.unwrap().success());
    };
    for name in ["-HUP", "-QUIT"] {
        let place = Place::new();
        let mut run = start(&place, "");
        signal(name, run.id());
        // A terminal that is closed and the shell in it send one each.
        std::thread::sleep(Duration::from_millis(5));
        let _ = Command::new("kill")
            .args([name, &run.id().to_string()])
            .stderr(Stdio::null())
            .status();
        assert_eq!(run.wait().unwrap().code(), Some(1), "{name}");
        assert_gone(&place.path().join("child"));
        assert_eq!(place.trials("s")[0]["state"], "FAIL");
    }
    let place = Place::new();
    let mut run = start(&place, "trap '' HUP;");
    signal("-HUP", run.id());
    std::thread::sleep(Duration::from_millis(500));
    assert!(run.try_wait().unwrap().is_none(), "nohup is not respected");
    signal("-TERM", run.id());
    assert_eq!(run.wait().unwrap().code(), Some(1));
    assert_gone(&place.path().join("child"));
}

#[test]
fn warnings_of_the_library_reach_the_terminal_once() {
    let place = Place::new();
    let error = |arguments: &[&str]| {
        let output = place.run(arguments);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    place.ok(&["create", "--study", "s"]);
    place.ok(&["enqueue", "--set", "x=50", "--set", "n=3"]);
    let params = [
        "--param",
        "x=float:0..1:step=0.3",
        "--param",
        "n=int:0..10:step=4",
    ];
    let run = ["run", "--trials", "3", "--quiet"];
    let shown = error(&[&run[..], &params, &["--", "echo", "1"]].concat());
    for warning in [
        "warning: the range [0.0, 1.0] is not divisible by step=0.3; it becomes [0.0, 0.9]",
        "warning: the range [0, 10] is not divisible by step=4; it becomes [0, 8]",
        "warning: the enqueued value 50 of parameter \"x\" is outside of",
        "warning: the enqueued value 3 of parameter \"n\" is outside of",
    ] {
        assert_eq!(shown.matches(warning).count(), 1, "{warning}: {shown}");
    }
    let shown = error(&["enqueue", "--set", "x=7"]);
    assert!(
        shown.contains("warning: the value 7.0 of parameter \"x\""),
        "{shown}"
    );
    place.ok(&[&["ask"], &params[..]].concat());
    let shown = error(&["tell", "--trial", "3", "--value", "nan"]);
    assert!(
        shown.contains("warning: Trial 3 failed: the value NaN"),
        "{shown}"
    );
    // The line of a trial says why it failed; nothing says it twice.
    let fails = [
        "run",
        "--trials",
        "1",
        "--param",
        "x=float:0..1:step=0.3",
        "--",
        "false",
    ];
    let shown = String::from_utf8(place.run(&fails).stderr).unwrap();
    assert!(!shown.contains("warning: Trial"), "{shown}");
}

#[test]
fn studies_with_one_log_folder_keep_their_logs_apart() {
    let place = Place::new();
    for study in ["a", "b/c", "b\\c", "a"] {
        let log = ["--trials", "2", "--quiet", "--log-dir", "logs"];
        let script = r#"printf '%s\n' "$KILN_STUDY" "$KILN_TRIAL""#;
        place.ok(&run(
            study,
            &[&log[..], &["--", "sh", "-c", script]].concat(),
        ));
    }
    let mut logs = Vec::new();
    let mut folders = vec![place.path().join("logs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                logs.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    logs.sort_unstable();
    assert_eq!(
        logs,
        [
            "a\n0\n",
            "a\n1\n",
            "a\n2\n",
            "a\n3\n",
            "b/c\n0\n",
            "b/c\n1\n",
            "b\\c\n0\n",
            "b\\c\n1\n"
        ]
    );
    let first = std::fs::read_to_string(place.path().join("logs/trial-0.log"));
    assert_eq!(first.unwrap(), "a\n0\n");
}

#[test]
fn a_program_that_prints_without_end_neither_fills_the_memory_nor_outlives_its_trial() {
    let place = Place::new();
    let start = Instant::now();
    for (script, study) in [
        ("yes 0.5", "lines"),
        ("head -c 300M /dev/zero; echo; echo 2; yes", "long"),
    ] {
        let limit = ["--trials", "1", "--trial-timeout", "2s", "--quiet"];
        place.run(&run(
            study,
            &[&limit[..], &["--", "sh", "-c", script]].concat(),
        ));
        let trials = place.trials(study);
        assert!(reason(&trials[0]).contains("timed out"), "{trials:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn enqueued_values_are_read_as_the_study_needs_them() {
    let place = Place::new();
    place.ok(&["create", "--study", "s"]);
    for set in [
        ["c=inf", "n=1"],
        ["c=1.5", "n=1"],
        ["c=-inf", "n=1"],
        ["c=nan", "n=1"],
    ] {
        let sets = [
            "enqueue",
            "--skip-if-exists",
            "--json",
            "--set",
            set[0],
            "--set",
            set[1],
        ];
        assert_eq!(place.json(&sets)["enqueued"], true, "{set:?}");
        assert_eq!(place.json(&sets)["enqueued"], false, "{set:?} again");
    }
    // Text stays as typed, and a choice is what was typed.
    let place = Place::new();
    let params = [
        "--param",
        "v=choice:1.10,1.1,007,12345678901234567890",
        "--param",
        "n=int:0..9",
    ];
    let ask = [&["ask"][..], &params].concat();
    place.ok(&["create", "--study", "s"]);
    place.ok(&["enqueue", "--set", "v=007", "--set", "n=007"]);
    let asked = place.json(&ask);
    assert_eq!(asked["params"], json!({ "v": "007", "n": 7 }));
    for (typed, expected) in [
        ("1.10", json!("1.10")),
        ("1.1", json!(1.1)),
        ("12345678901234567890", json!("12345678901234567890")),
    ] {
        place.ok(&["enqueue", "--set", &format!("v={typed}")]);
        assert_eq!(place.json(&ask)["params"]["v"], expected);
    }
    // An int that is known to be one.
    for value in [
        "inf",
        "-inf",
        "nan",
        "9223372036854775808",
        "9007199254740993",
        "1e30",
        "many",
    ] {
        let error = place.fails(2, &["enqueue", "--set", &format!("n={value}")]);
        assert!(error.contains("IntDistribution"), "{value}: {error}");
    }
    let error = place.fails(2, &["enqueue", "--params", r#"{"n": 9223372036854775808}"#]);
    assert!(error.contains("9223372036854775808"), "{error}");
    let error = place.fails(2, &["enqueue", "--set", "v=1.11"]);
    assert!(error.contains("1.11"), "{error}");
    // Nothing is known of this one before it is asked for; its trial fails, and none is left running.
    place.ok(&["enqueue", "--set", "m=inf"]);
    let error = place.fails(1, &["ask", "--param", "m=int:0..9"]);
    assert!(
        error.contains("inf is not a value of IntDistribution"),
        "{error}"
    );
    let trials = place.trials("s");
    assert_eq!(trials[trials.len() - 1]["state"], "FAIL");
    let fixed = ["--fix", "v=1.10", "--fix", "n=03"];
    let asked = place.json(&[&ask[..], &fixed].concat());
    assert_eq!(asked["params"], json!({ "v": "1.10", "n": 3 }));
}

#[test]
fn importances_of_one_objective_are_those_of_optuna() {
    use kiln_tune::{FloatDistribution, Study, StudyDirection, TrialBuilder};
    let place = Place::new();
    let url = format!("sqlite:///{}", place.path().join("study.db").display());
    let study = Study::builder()
        .name("s")
        .directions([StudyDirection::Minimize, StudyDirection::Maximize])
        .shared_storage(kiln_tune_rdb::open(&url).unwrap())
        .create()
        .unwrap();
    let range = FloatDistribution::new(-1.0, 1.0).unwrap();
    for i in 0..40 {
        let at = |factor: i32| f64::from(i * factor % 40) / 20.0 - 1.0;
        let (x, y) = (at(7), at(11));
        let trial = TrialBuilder::new()
            .param("x", x, range)
            .param("y", y, range)
            .values([x * x + 0.25 * y, x + 2.0 * y * y]);
        study.add_trial(&trial.build().unwrap()).unwrap();
    }
    // optuna.importance.get_param_importances(study, target=lambda trial: trial.values[objective]) of Optuna 5.0.
    for (objective, x, y) in [
        ("0", 0.214_484_812_032_213_65, 0.785_515_187_967_786_4),
        ("1", 0.839_752_868_253_179, 0.160_247_131_746_821_12),
    ] {
        let output = place.run(&["importance", "--objective", objective, "--json"]);
        let shares: Value = serde_json::from_slice(&output.stdout).unwrap();
        let close =
            |name: &str, expected: f64| (shares[name].as_f64().unwrap() - expected).abs() < 1e-9;
        assert!(close("x", x) && close("y", y), "{objective}: {shares}");
        let warned = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            warned.contains("objective 1 is maximized"),
            objective == "1"
        );
    }
}

#[test]
fn what_a_terminal_would_act_upon_is_escaped() {
    let place = Place::new();
    let evil = "e\u{1b}[2J\nvil\u{7}\u{9b}\u{202e}";
    place.ok(&["create", "--study", evil, "--metric-name", evil]);
    let attr = format!("{evil}={evil}");
    let param = format!("{evil}=choice:{evil}");
    place.ok(&["enqueue", "--set", "y=1", "--user-attr", &attr]);
    place.ok(&["ask", "--param", &param]);
    place.ok(&["tell", "--trial", "0", "--value", "1e300"]);
    let run = ["run", "--param", &param, "--trials", "2"];
    let bad = format!("{{\"value\": \"{}\"}}", "\u{7f}\u{9b}2J");
    let output = [
        place.run(&["list"]),
        place.run(&["show"]),
        place.run(&["best"]),
        place.run(&["trials"]),
        place.run(&["list", "--json"]),
        place.run(&["trials", "--json"]),
        place.run(&["show", "--study", "other\u{1b}"]),
        place.run(&["importance"]),
        place.run(&["create", "--study", evil]),
        place.run(&["enqueue", "--set", &format!("{evil}=other{evil}")]),
        place.run(
            &[
                &run[..],
                &[
                    "--",
                    "printf",
                    "%s\\n",
                    &bad.replace('{', "{{").replace('}', "}}"),
                ],
            ]
            .concat(),
        ),
    ];
    for (i, output) in output.iter().enumerate() {
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8(text.clone()).unwrap();
            let raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(raw), "{i}: {text:?}");
            assert!(
                !text.lines().any(|line| line.starts_with("vil")),
                "{i}: {text}"
            );
        }
    }
    let list = String::from_utf8(output[0].stdout.clone()).unwrap();
    assert!(
        list.contains(r"e\x1b[2J\nvil\x07\x9b\u202e") && list.contains("1e+300"),
        "{list}"
    );
    assert_eq!(list.lines().count(), 2);
    let json: Value = serde_json::from_slice(&output[4].stdout).unwrap();
    assert_eq!(json[0]["name"], evil);
    let trials = String::from_utf8(output[3].stdout.clone()).unwrap();
    assert_eq!(trials.lines().count(), 2, "{trials}");
}
