//! What ends `kiln-study run` by itself, and the plot of what is left to gain.
#![cfg(unix)]

mod place;

use place::Place;
/// A run over `x`, with these flags, of a shell script.
fn run(place: &Place, code: i32, flags: &[&str], script: &str) -> String {
    let run = ["run", "--study", "s", "--param", "x=float:-1..1", "--quiet"];
    let output = place.run(&[&run[..], flags, &["--", "sh", "-c", script]].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{flags:?}: {error}");
    error
}

fn n_trials(place: &Place) -> usize {
    let trials = place.json(&["trials", "--study", "s", "--json"]);
    trials.as_array().map_or(0, Vec::len)
}

#[test]
fn a_run_ends_at_its_target_and_a_second_one_runs_nothing() {
    let place = Place::new();
    let flags = ["--trials", "200", "--seed", "1", "--target", "-0.5"];
    let said = run(&place, 0, &flags, "echo {x}");
    assert!(said.contains("ended: the target is reached"), "{said}");
    let n = n_trials(&place);
    assert!(n < 200);
    let said = run(&place, 0, &flags, "echo {x}");
    assert!(
        said.contains("no trial is run: the target is reached"),
        "{said}"
    );
    assert_eq!(n_trials(&place), n);
}

#[test]
fn a_run_ends_when_nothing_better_comes() {
    let place = Place::new();
    let flags = ["--stop-when-no-better", "4"];
    let said = run(&place, 0, &flags, "echo 1");
    assert!(
        said.contains("the last 4 trials brought nothing better"),
        "{said}"
    );
    assert_eq!(n_trials(&place), 5);
}

#[test]
fn a_run_that_only_a_rule_could_end_ends_when_every_trial_fails() {
    let place = Place::new();
    let said = run(&place, 1, &["--stop-when-no-better", "3"], "exit 3");
    assert!(said.contains("no trial of this run is complete"), "{said}");
    assert_eq!(n_trials(&place), 100);
}

#[test]
fn a_terminator_ends_a_run_by_printed_scores_or_by_an_error_that_is_given() {
    let place = Place::new();
    let scores = r#"echo '{{"value": '{x}', "cv_scores": [0, 1, 2, 3]}}'"#;
    let terminator = [
        "--trials",
        "60",
        "--seed",
        "1",
        "--terminator",
        "regret-bound",
    ];
    let said = run(&place, 0, &terminator, scores);
    assert!(said.contains("less is left to gain"), "{said}");
    // Twenty complete trials are needed at least.
    assert_eq!(n_trials(&place), 20);
    let trials = place.json(&["trials", "--study", "s", "--json"]);
    let stored = &trials[0]["system_attrs"]["terminator:cv_scores"];
    assert_eq!(stored, &serde_json::json!([0.0, 1.0, 2.0, 3.0]), "{trials}");

    let place = Place::new();
    let given = ["--terminator-kwargs", r#"{"error": 9, "min_n_trials": 3}"#];
    run(&place, 0, &[&terminator[..], &given].concat(), "echo {x}");
    assert_eq!(n_trials(&place), 3);

    let place = Place::new();
    let said = run(&place, 1, &terminator, "echo {x}");
    assert!(
        said.contains("cv_scores") && said.contains("\"error\": 0.01"),
        "{said}"
    );
    assert_eq!(n_trials(&place), 20);
}

#[test]
fn terminators_with_settings_that_make_no_sense_are_refused_before_a_trial() {
    for (flags, expected) in [
        (&["--terminator", "luck"][..], "regret-bound"),
        (&["--terminator-kwargs", "{}"], "--terminator"),
        (
            &[
                "--terminator",
                "emmr",
                "--terminator-kwargs",
                r#"{"ratio": 1}"#,
            ],
            "threshold_ratio",
        ),
        (
            &[
                "--terminator",
                "emmr",
                "--terminator-kwargs",
                r#"{"min_n_trials": 0}"#,
            ],
            "min_n_trials must be at least 1",
        ),
        (&["--stop-when-no-better", "0"], "at least 1"),
        (&["--target", "NaN"], "must be a number"),
        (
            &["--target", "1", "--target", "2"],
            "2 targets are given for 1",
        ),
        (&["--target", "low"], "invalid value"),
        (
            &[
                "--terminator",
                "emmr",
                "--direction",
                "minimize",
                "--direction",
                "minimize",
            ],
            "one objective",
        ),
    ] {
        let place = Place::new();
        let said = run(&place, 2, &[&["--trials", "1"], flags].concat(), "echo 1");
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
}

#[test]
fn scores_that_are_none_fail_the_trial_with_a_reason() {
    for scores in ["[1]", "3", "[1, null]", r#"[1, "high"]"#] {
        let place = Place::new();
        let line = format!(r#"echo '{{{{"value": 1, "cv_scores": {scores}}}}}'"#);
        run(&place, 1, &["--trials", "1"], &line);
        let trials = place.json(&["trials", "--study", "s", "--json"]);
        let reason = trials[0]["system_attrs"]["fail_reason"].as_str();
        let reason = reason.unwrap_or_default();
        assert!(reason.contains("the program printed"), "{scores}: {trials}");
    }
}

#[test]
fn what_is_left_to_gain_is_drawn_with_the_error_if_there_is_one() {
    let place = Place::new();
    let scores = r#"echo '{{"value": '{x}', "cv_scores": [0, 1, 2, 3]}}'"#;
    run(&place, 0, &["--trials", "22", "--seed", "1"], scores);
    let plot = ["plot", "terminator", "--study", "s", "--out"];
    let svg = |more: &[&str]| {
        place.ok(&[&plot[..], &["t.svg"], more].concat());
        std::fs::read_to_string(place.path().join("t.svg")).unwrap()
    };
    let drawn = svg(&[]);
    assert!(drawn.contains("too early to end") && drawn.contains("\nerror\n"));
    // The error of the model regret is unknown before 30 trials.
    let emmr = svg(&["--terminator", "emmr"]);
    assert!(emmr.contains("\nimprovement\n") && !emmr.contains("\nerror\n"));

    let place = Place::new();
    run(&place, 0, &["--trials", "3"], "echo {x}");
    place.ok(&["plot", "terminator", "--out", "t.html"]);
    let page = std::fs::read_to_string(place.path().join("t.html")).unwrap();
    assert!(page.contains("Terminator improvement"));
}

#[test]
fn the_plot_draws_the_error_from_the_trial_on_that_has_scores() {
    let place = Place::new();
    run(&place, 0, &["--trials", "3", "--seed", "1"], "echo 9");
    let scores = r#"echo '{{"value": '{x}', "cv_scores": [0, 1, 2, 3]}}'"#;
    run(&place, 0, &["--trials", "25", "--seed", "2"], scores);
    let plot = ["plot", "terminator", "--study", "s", "--out", "t.svg"];
    let output = place.run(&plot);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let svg = std::fs::read_to_string(place.path().join("t.svg")).unwrap();
    assert!(svg.contains("\nerror\n"), "{svg}");
}
