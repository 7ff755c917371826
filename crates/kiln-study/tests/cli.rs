//! The program `kiln-study`, run as a user runs it.
#![cfg(unix)]

mod place;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use place::{Place, assert_gone};

#[test]
fn studies_are_created_listed_shown_and_deleted() {
    let place = Place::new();
    assert_eq!(place.ok(&["create", "--study", "a b"]), "a b\n");
    assert!(place.ok(&["create"]).starts_with("no-name-"));
    let created = place.json(&[
        "create",
        "--study",
        "two",
        "--direction",
        "minimize",
        "maximize",
        "--metric-name",
        "loss",
        "--metric-name",
        "size",
        "--json",
    ]);
    assert_eq!(
        created["directions"],
        serde_json::json!(["minimize", "maximize"])
    );
    let list = place.json(&["list", "--json"]);
    assert_eq!(
        (
            list.as_array().unwrap().len(),
            &list[0]["name"],
            &list[0]["n_trials"]
        ),
        (3, &"a b".into(), &0.into())
    );
    assert!(place.ok(&["list"]).contains("minimize, maximize"));
    assert!(
        place
            .ok(&["show", "--study", "a b"])
            .contains("trials     0\n")
    );
    assert_eq!(
        place.json(&["show", "--study", "two", "--json"])["metric_names"],
        serde_json::json!(["loss", "size"])
    );
    place.ok(&["create", "--study", "a b", "--skip-if-exists"]);
    assert!(
        place
            .fails(1, &["create", "--study", "a b"])
            .contains("--skip-if-exists")
    );
    place.ok(&["delete", "--study", "a b"]);
    assert!(
        place
            .fails(1, &["show", "--study", "a b"])
            .contains("\"two\"")
    );
}

#[test]
fn trials_are_enqueued_asked_for_and_told() {
    let place = Place::new();
    place.ok(&["create", "--study", "s"]);
    place.ok(&[
        "enqueue",
        "--set",
        "x=0.5",
        "--set",
        "c=b",
        "--user-attr",
        "note=hi",
    ]);
    assert!(
        place
            .ok(&[
                "enqueue",
                "--params",
                r#"{"x": 0.5, "c": "b"}"#,
                "--skip-if-exists"
            ])
            .contains("exists already")
    );
    let space = [
        "--param",
        "x=float:0..1",
        "--param",
        "c=choice:a,b",
        "--param",
        "n=int:1..3",
    ];
    let asked = place.json(&[&["ask"][..], &space].concat());
    assert_eq!(
        (
            &asked["number"],
            &asked["params"]["x"],
            &asked["params"]["c"]
        ),
        (&0.into(), &0.5.into(), &"b".into())
    );
    assert!((1..=3).contains(&asked["params"]["n"].as_i64().unwrap()));
    let space = r#"{"x": {"name": "FloatDistribution", "attributes": {"low": 0, "high": 1, "step": null, "log": false}}}"#;
    assert_eq!(place.json(&["ask", "--search-space", space])["number"], 1);
    let told = place.json(&["tell", "--trial", "0", "--value", "-2.5", "--json"]);
    assert_eq!(
        (&told["state"], &told["value"], &told["user_attrs"]["note"]),
        (&"COMPLETE".into(), &(-2.5).into(), &"hi".into())
    );
    place.ok(&["tell", "--trial", "1", "--state", "fail"]);
    place.ok(&[
        "tell",
        "--trial",
        "1",
        "--state",
        "fail",
        "--skip-if-finished",
    ]);
    assert!(
        place
            .fails(1, &["tell", "--trial", "1", "--value", "1"])
            .contains("trial 1")
    );
    assert!(
        place
            .fails(1, &["tell", "--trial", "9", "--value", "1"])
            .contains('9')
    );
    assert!(
        place
            .fails(2, &["tell", "--trial", "1"])
            .contains("--value")
    );
    assert_eq!(place.json(&["best", "--json"])["number"], 0);
    let csv = place.ok(&["trials", "--format", "csv"]);
    assert!(csv.starts_with("number,value,datetime_start,datetime_complete,duration,params_c,params_n,params_x,user_attrs_note,state\n0,-2.5,"), "{csv}");
    assert_eq!(csv.lines().count(), 3);
    assert_eq!(
        place
            .json(&["trials", "--json", "--state", "fail"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(place.ok(&["trials"]).contains("COMPLETE"));
}

#[test]
fn a_program_is_tuned_by_its_last_number() {
    let place = Place::new();
    let run = [
        "run",
        "--study",
        "s",
        "--param",
        "x=float:-2..2",
        "--param",
        "k=choice:a,b",
        "--trials",
        "12",
        "--jobs",
        "2",
        "--seed",
        "3",
        "--json",
        "--",
    ];
    let script = r#"echo "loss was 99 before"; echo "$KILN_TRIAL $KILN_STUDY $KILN_PARAM_k $1"; awk "BEGIN {{ print \"loss:\", {x} * {x} }}""#;
    let best = place.json(&[&run[..], &["sh", "-c", script, "sh", "{k}"]].concat());
    let trials = place.json(&["trials", "--json"]);
    let trials = trials.as_array().unwrap();
    assert_eq!(trials.len(), 12);
    let values: Vec<f64> = trials
        .iter()
        .map(|trial| trial["value"].as_f64().unwrap())
        .collect();
    assert_eq!(
        best["value"].as_f64().unwrap(),
        values.iter().copied().fold(f64::INFINITY, f64::min)
    );
    for trial in trials {
        let x = trial["params"]["x"].as_f64().unwrap();
        assert!(
            (trial["value"].as_f64().unwrap() - x * x).abs() < 1e-4 * x.abs().max(1.0),
            "{trial}"
        );
    }
    let importance = place.json(&["importance", "--json"]);
    assert_eq!(importance.as_object().unwrap().len(), 2);
    assert!(
        place
            .ok(&["importance", "--evaluator", "fanova"])
            .starts_with("parameter")
    );
}

#[test]
fn json_lines_give_values_constraints_and_notes() {
    let place = Place::new();
    place.ok(&[
        "create",
        "--study",
        "s",
        "--direction",
        "minimize",
        "maximize",
    ]);
    let line = r#"echo '{{"values": [1, 2.5], "constraints": {{"memory": 0.5}}, "user_attrs": {{"who": "me"}}}}'; echo 7"#;
    place.ok(&[
        "run",
        "--study",
        "s",
        "--param",
        "x=int:0..1",
        "--trials",
        "1",
        "--quiet",
        "--",
        "sh",
        "-c",
        line,
    ]);
    let trial = &place.json(&["trials", "--json"])[0];
    assert_eq!(
        (
            &trial["values"],
            &trial["constraints"]["memory"],
            &trial["user_attrs"]["who"]
        ),
        (&serde_json::json!([1.0, 2.5]), &0.5.into(), &"me".into())
    );
}

#[test]
fn a_pruned_program_is_ended_with_everything_it_started() {
    let place = Place::new();
    // Trial 0 to 4 are good; later ones start a child that sleeps for a minute, write down its id, and only then are bad.
    let script = "if [ {trial} -lt 5 ]; then for s in 0 1 2; do echo step $s: 0.1; done; else sleep 61 & echo $! > child.{trial}; echo step 0: 9; wait; fi";
    let start = Instant::now();
    place.ok(&[
        "run",
        "--study",
        "s",
        "--param",
        "x=float:0..1",
        "--trials",
        "7",
        "--quiet",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert!(start.elapsed() < Duration::from_secs(30));
    let trials = place.json(&["trials", "--json"]);
    let states: Vec<&str> = trials
        .as_array()
        .unwrap()
        .iter()
        .map(|trial| trial["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states,
        [
            "COMPLETE", "COMPLETE", "COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "PRUNED"
        ]
    );
    assert_eq!(
        (&trials[5]["value"], &trials[5]["intermediate_values"]["0"]),
        (&9.0.into(), &9.0.into())
    );
    for trial in [5, 6] {
        let file = place.path().join(format!("child.{trial}"));
        let id = std::fs::read_to_string(&file).unwrap();
        assert!(id.trim().parse::<u32>().is_ok(), "{id:?}");
        assert_gone(&file);
    }
}

#[test]
fn programs_that_fail_or_hang_fail_their_trial_with_the_reason() {
    let place = Place::new();
    let script = "case {trial} in 0) exit 3;; 1) echo no number;; 2) echo nan;; 3) sleep 62 & echo $! > child; wait;; *) echo 1;; esac";
    let output = place.run(&[
        "run",
        "--study",
        "s",
        "--param",
        "x=float:0..1",
        "--trials",
        "5",
        "--trial-timeout",
        "700ms",
        "--log-dir",
        "logs",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert!(output.status.success());
    let progress = String::from_utf8(output.stderr).unwrap();
    for reason in [
        "exit status: 3",
        "0 of 1 values",
        "NaN",
        "timed out after 0.7 s",
        "value 1",
    ] {
        assert!(
            progress.contains(reason),
            "{reason} is missing in {progress}"
        );
    }
    assert_eq!(
        place
            .json(&["trials", "--json", "--state", "fail"])
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        std::fs::read_to_string(place.path().join("logs/trial-1.log")).unwrap(),
        "no number\n"
    );
    assert_gone(&place.path().join("child"));
    let error = String::from_utf8(
        place
            .run(&[
                "run",
                "--study",
                "t",
                "--param",
                "x=float:0..1",
                "--trials",
                "2",
                "--quiet",
                "--",
                "false",
            ])
            .stderr,
    )
    .unwrap();
    assert!(
        error.contains("no trial of this run is complete"),
        "{error}"
    );
    let error = place.fails(
        1,
        &[
            "run",
            "--study",
            "u",
            "--param",
            "x=float:0..1",
            "--trials",
            "3",
            "--quiet",
            "--",
            "./no-such-program",
        ],
    );
    assert!(error.contains("no-such-program"), "{error}");
    assert_eq!(
        place
            .json(&["trials", "--study", "u", "--json"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_program_that_closes_its_output_still_has_its_time_limit() {
    let place = Place::new();
    let script = "echo 1; exec >&-; sleep 64 & echo $! > child; wait";
    let start = Instant::now();
    let output = place.run(&[
        "run",
        "--study",
        "s",
        "--param",
        "x=float:0..1",
        "--trials",
        "1",
        "--trial-timeout",
        "500ms",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("timed out after 0.5 s")
    );
    assert_gone(&place.path().join("child"));
}

#[test]
fn an_interrupt_ends_the_programs_and_fails_their_trials() {
    let place = Place::new();
    let script = "sleep 63 & echo $! > child; wait";
    let mut run = place
        .command(&[
            "run",
            "--study",
            "s",
            "--param",
            "x=float:0..1",
            "--trials",
            "9",
            "--",
            "sh",
            "-c",
            script,
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while std::fs::read_to_string(place.path().join("child"))
        .unwrap_or_default()
        .is_empty()
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    let kill = Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    assert_eq!(run.wait().unwrap().code(), Some(1));
    assert_gone(&place.path().join("child"));
    let trials = place.json(&["trials", "--json"]);
    assert_eq!(
        (trials.as_array().unwrap().len(), &trials[0]["state"]),
        (1, &"FAIL".into())
    );
}

#[test]
fn a_grid_is_tried_once_with_the_values_given() {
    let place = Place::new();
    let start = ["run", "--study", "g", "--param", "lr=float:1e-4..1:log"];
    let start = [&start[..], &["--param", "n=int:1..3", "--sampler", "grid"]].concat();
    let end = ["--trials", "50", "--quiet", "--", "echo", "{lr}"];
    let error = place.fails(2, &[&start[..], &end[..]].concat());
    assert!(error.contains("--grid lr=V1,V2"), "{error}");
    place.ok(&[&start[..], &["--grid", "lr=0.001, 0.1"], &end[..]].concat());
    let trials = place.json(&["trials", "--json"]);
    let mut points: Vec<String> = trials
        .as_array()
        .unwrap()
        .iter()
        .map(|trial| format!("{}", trial["params"]))
        .collect();
    points.sort();
    points.dedup();
    assert_eq!((trials.as_array().unwrap().len(), points.len()), (6, 6));
}

#[test]
fn every_sampler_and_pruner_is_offered_with_its_settings() {
    let place = Place::new();
    fn run<'a>(study: &'a str, extra: &[&'a str]) -> Vec<&'a str> {
        let start = ["run", "--study", study, "--param", "x=float:0..1:step=0.25"];
        let more = [
            "--param",
            "c=choice:a,b",
            "--trials",
            "12",
            "--quiet",
            "--seed",
            "1",
        ];
        [&start[..], &more[..], extra, &["--", "echo", "{x}"]].concat()
    }
    for (i, extra) in [
        &["--sampler", "brute-force"][..],
        &[
            "--sampler",
            "TPESampler",
            "--sampler-kwargs",
            r#"{"multivariate": false, "n_startup_trials": 3}"#,
        ],
        &[
            "--sampler",
            "cmaes",
            "--sampler-kwargs",
            r#"{"popsize": 4, "restart_strategy": "ipop", "with_margin": true}"#,
        ],
        &[
            "--sampler",
            "gp",
            "--sampler-kwargs",
            r#"{"n_startup_trials": 5}"#,
        ],
        &[
            "--sampler",
            "qmc",
            "--sampler-kwargs",
            r#"{"qmc_type": "halton", "scramble": true}"#,
        ],
        &[
            "--sampler",
            "nsgaii",
            "--sampler-kwargs",
            r#"{"population_size": 4, "crossover": "sbx"}"#,
        ],
        &[
            "--sampler",
            "nsgaiii",
            "--sampler-kwargs",
            r#"{"population_size": 4, "dividing_parameter": 2}"#,
        ],
        &[
            "--pruner",
            "percentile",
            "--pruner-kwargs",
            r#"{"percentile": 25}"#,
        ],
        &[
            "--pruner",
            "asha",
            "--pruner-kwargs",
            r#"{"min_resource": "auto", "reduction_factor": 3}"#,
        ],
        &[
            "--pruner",
            "hyperband",
            "--pruner-kwargs",
            r#"{"max_resource": 9}"#,
        ],
        &[
            "--pruner",
            "threshold",
            "--pruner-kwargs",
            r#"{"upper": 0.5}"#,
        ],
        &[
            "--pruner",
            "patient",
            "--pruner-kwargs",
            r#"{"patience": 2, "wrapped_pruner": "median"}"#,
        ],
        &[
            "--pruner",
            "wilcoxon",
            "--pruner-kwargs",
            r#"{"p_threshold": 0.2}"#,
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let study = format!("s{i}");
        place.ok(&run(&study, extra));
        let trials = place.json(&["trials", "--study", &study, "--json"]);
        // Brute force has ten points and stops by itself.
        assert_eq!(
            trials.as_array().unwrap().len(),
            if i == 0 { 10 } else { 12 },
            "{extra:?}"
        );
    }
    place.ok(&run("fixed", &["--fix", "x=0.5"]));
    let trials = place.json(&["trials", "--study", "fixed", "--json"]);
    assert!(
        trials
            .as_array()
            .unwrap()
            .iter()
            .all(|trial| trial["params"]["x"] == 0.5)
    );
    for (extra, hint) in [
        (
            &["--sampler-kwargs", r#"{"popsize": 4}"#][..],
            "n_startup_trials",
        ),
        (
            &["--sampler", "random", "--sampler-kwargs", "[]"],
            "JSON object",
        ),
        (&["--pruner", "percentile"], "percentile"),
        (
            &["--pruner-kwargs", r#"{"n_warmup_steps": "x"}"#],
            "n_warmup_steps",
        ),
        (&["--fix", "y=1"], "only x, c"),
        (&["--grid", "x=1"], "--sampler grid"),
        (
            &[
                "--sampler",
                "qmc",
                "--sampler-kwargs",
                r#"{"qmc_type": "faure"}"#,
            ],
            "sobol or halton",
        ),
    ] {
        let error = place.fails(2, &run("wrong", extra));
        assert!(error.contains(hint), "{extra:?}: {error}");
    }
}

#[test]
fn plots_are_written_as_html_svg_and_png() {
    let place = Place::new();
    let script = "echo step 0: {x}; echo step 1: {n}; awk 'BEGIN {{ print {x} + {n} }}'";
    place.ok(&[
        "run",
        "--study",
        "<s> & co",
        "--param",
        "x=float:1e-3..1:log",
        "--param",
        "n=int:0..5",
        "--trials",
        "8",
        "--sampler",
        "random",
        "--seed",
        "1",
        "--quiet",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(place.ok(&["plot", "--out", "report.html"]), "report.html\n");
    let report = std::fs::read_to_string(place.path().join("report.html")).unwrap();
    for title in [
        "Optimization history",
        "Intermediate values",
        "Slice",
        "Contour",
        "Parallel coordinate",
        "Hyperparameter importances",
        "Empirical distribution function",
        "Rank",
        "Timeline",
    ] {
        assert!(report.contains(title), "{title} is missing");
    }
    assert!(report.contains("&lt;s&gt; &amp; co") && !report.contains("<s> & co"));
    assert!(
        !report.contains("src=") && !report.contains("href="),
        "the page must not load anything"
    );
    for kind in [
        "history",
        "intermediate",
        "slice",
        "contour",
        "parallel",
        "importance",
        "edf",
        "rank",
        "timeline",
    ] {
        place.ok(&["plot", kind, "--out", "p.svg"]);
        let svg = std::fs::read_to_string(place.path().join("p.svg")).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"),
            "{kind}"
        );
    }
    for kind in ["history", "contour"] {
        place.ok(&["plot", kind, "--out", "p.png"]);
        assert_eq!(
            std::fs::read(place.path().join("p.png")).unwrap()[..8],
            *b"\x89PNG\r\n\x1a\n"
        );
    }
    assert!(
        place
            .fails(2, &["plot", "history", "--out", "p.jpeg"])
            .contains(".png")
    );
    assert!(
        place
            .fails(1, &["plot", "pareto", "--out", "p.svg"])
            .contains("several objectives")
    );
    assert!(
        place
            .fails(1, &["plot", "slice", "--params", "lr", "--out", "p.svg"])
            .contains("there are n, x")
    );
    place.ok(&["create", "--study", "empty"]);
    assert!(
        place
            .fails(1, &["plot", "--study", "empty", "--out", "e.html"])
            .contains("no trial to draw")
    );
    assert!(!place.path().join("e.html").exists());
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2_and_says_what_to_write() {
    let place = Place::new();
    for (arguments, hint) in [
        (&["lst"][..], "list"),
        (&["ask", "--param", "lr=0..1"], "NAME=float:LOW..HIGH"),
        (
            &["run", "--param", "x=float:0..1", "--trials", "1"],
            "COMMAND",
        ),
        (
            &[
                "run",
                "--param",
                "x=float:0..1",
                "--trials",
                "1",
                "--",
                "echo",
                "{y}",
            ],
            "{x}",
        ),
        (
            &["run", "--param", "x=float:0..1", "--", "echo", "{x}"],
            "--trials",
        ),
        (&["create", "--direction", "up"], "minimize or maximize"),
        (&["trials", "--state", "done"], "RUNNING"),
        (&["tell", "--trial", "x"], "--trial"),
        (
            &[
                "run",
                "--param",
                "x=float:0..1",
                "--trials",
                "1",
                "--timeout",
                "soon",
                "--",
                "true",
            ],
            "90s",
        ),
    ] {
        let error = place.fails(2, arguments);
        assert!(error.contains(hint), "{arguments:?}: {error}");
    }
    let output = place
        .command(&["list"])
        .env_remove("OPTUNA_STORAGE")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--storage sqlite:///study.db")
    );
}

#[test]
fn storages_that_cannot_be_opened_are_named_and_not_made_by_readers() {
    let place = Place::new();
    assert!(place.fails(1, &["list"]).contains("study.db"));
    assert!(!place.path().join("study.db").exists());
    assert!(
        place
            .fails(1, &["list", "--storage", "study.db"])
            .contains("sqlite:///PATH")
    );
    std::fs::write(
        place.path().join("text.db"),
        "just some text, which is not a database".repeat(30),
    )
    .unwrap();
    assert!(
        place
            .fails(1, &["list", "--storage", "sqlite:///text.db"])
            .contains("not an SQLite database")
    );
    assert!(
        place
            .fails(1, &["list", "--storage", "journal:text.db"])
            .contains("line 1")
    );
    #[cfg(not(feature = "postgres"))]
    assert!(
        place
            .fails(1, &["list", "--storage", "postgresql://localhost/x"])
            .contains("feature `postgres`")
    );
    place.ok(&["create", "--storage", "journal:s.log", "--study", "j"]);
    assert!(
        place
            .ok(&["list", "--storage", "journal:s.log"])
            .contains('j')
    );
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let place = Place::new();
    place.ok(&["create", "--study", "s"]);
    for i in 0..30 {
        place.ok(&["enqueue", "--set", &format!("x{i}={}", "9".repeat(200))]);
    }
    let mut child = place
        .command(&["trials", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    std::io::stdout().flush().unwrap();
}

#[test]
fn every_command_has_an_example_in_its_help() {
    let place = Place::new();
    let help = place.ok(&["--help"]);
    for command in [
        "create",
        "list",
        "show",
        "best",
        "trials",
        "importance",
        "plot",
        "delete",
        "enqueue",
        "ask",
        "tell",
        "run",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        let help = place.ok(&[command, "--help"]);
        assert!(
            help.contains("Example") && help.contains(&format!("kiln-study {command} ")),
            "{help}"
        );
    }
}
