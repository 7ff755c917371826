//! `--skip-duplicates` of `kiln-study run` and `ask`.
#![cfg(unix)]

mod place;

use place::Place;

#[test]
fn a_run_evaluates_no_parameters_twice_and_ends_with_the_space() {
    let place = Place::new();
    let output = place.run(&[
        "run",
        "--study",
        "s",
        "--param",
        "n=int:1..3",
        "--param",
        "k=choice:a,b",
        "--trials",
        "50",
        "--sampler",
        "random",
        "--seed",
        "1",
        "--skip-duplicates",
        "--",
        "sh",
        "-c",
        "echo {n}{k} >> ran; echo {n}",
    ]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("all combinations of the parameters are complete"),
        "{said}"
    );
    assert!(said.contains("not run again"), "{said}");
    let ran = std::fs::read_to_string(place.path().join("ran")).unwrap();
    let mut ran: Vec<&str> = ran.lines().collect();
    ran.sort_unstable();
    assert_eq!(ran, ["1a", "1b", "2a", "2b", "3a", "3b"]);
    for trial in place.json(&["trials", "--json"]).as_array().unwrap() {
        assert_eq!(trial["state"], "COMPLETE");
        assert_eq!(trial["value"], trial["params"]["n"].as_f64().unwrap());
    }
}

#[test]
fn a_run_over_a_space_that_is_complete_already_runs_nothing() {
    let place = Place::new();
    let run = |more: &[&str]| {
        let first = [
            "run",
            "--study",
            "s",
            "--param",
            "n=int:1..2",
            "--quiet",
            "--json",
        ];
        place.ok(&[
            &first[..],
            more,
            &["--", "sh", "-c", "echo {n} >> ran; echo {n}"],
        ]
        .concat())
    };
    run(&["--sampler", "brute-force", "--trials", "2"]);
    let best = run(&["--skip-duplicates", "--trials", "10"]);
    assert!(best.contains("\"value\": 1.0"), "{best}");
    let ran = std::fs::read_to_string(place.path().join("ran")).unwrap();
    assert_eq!(ran.lines().count(), 2);
}

#[test]
fn ask_tells_duplicates_and_starts_a_trial_that_is_new_or_says_that_there_is_none() {
    let place = Place::new();
    place.ok(&["create", "--study", "s"]);
    let ask = [
        "ask",
        "--param",
        "n=int:1..2",
        "--sampler",
        "random",
        "--skip-duplicates",
    ];
    let mut seen = Vec::new();
    for _ in 0..2 {
        let trial = place.json(&ask);
        let (number, n) = (
            trial["number"].to_string(),
            trial["params"]["n"].to_string(),
        );
        place.ok(&["tell", "--trial", &number, "--value", &n]);
        seen.push(n);
    }
    seen.sort();
    assert_eq!(seen, ["1", "2"]);
    let error = place.fails(1, &ask);
    assert!(error.contains("--skip-duplicates"), "{error}");
    for trial in place.json(&["trials", "--json"]).as_array().unwrap() {
        assert_eq!(
            trial["value"],
            trial["params"]["n"].as_f64().unwrap(),
            "{trial}"
        );
    }
}

#[test]
fn asking_for_more_of_a_space_that_is_complete_stores_one_trial_at_most() {
    let place = Place::new();
    let space = ["--study", "s", "--param", "n=int:1..2"];
    let run = [
        &["run"],
        &space[..],
        &["--trials", "9", "--skip-duplicates"],
    ]
    .concat();
    place.run(&[&run[..], &["--", "sh", "-c", "echo {n}"]].concat());
    let stored = || place.json(&["trials", "--study", "s", "--json"]);
    let before = stored().as_array().unwrap().len();
    let ask = [&["ask"], &space[..], &["--skip-duplicates"]].concat();
    let said = place.fails(1, &ask);
    assert!(said.contains("all combinations"), "{said}");
    assert_eq!(stored().as_array().unwrap().len(), before + 1);
}
