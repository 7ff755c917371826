//! `kiln-study run` with intermediate values of several objectives.
#![cfg(unix)]

mod place;

use place::Place;
use serde_json::json;

const RUN: [&str; 9] = [
    "run",
    "--study",
    "s",
    "--param",
    "n=int:1..8",
    "--direction",
    "minimize",
    "--direction",
    "minimize",
];

#[test]
fn a_run_prunes_by_all_objectives_and_ends_the_program() {
    let place = Place::new();
    // The larger n, the worse both values.
    let script = "for e in 1 2 3; do echo Epoch $e loss {n} seconds {n}; sleep 0.05; done; echo done >> ended";
    let flags = [
        "--metric",
        "loss",
        "--metric",
        "seconds",
        "--sampler",
        "grid",
        "--trials",
        "8",
        "--pruner",
        "asha",
        "--pruner-kwargs",
        r#"{"min_resource": 1, "reduction_factor": 2}"#,
        "--",
        "sh",
        "-c",
        script,
    ];
    let output = place.run(&[&RUN[..], &flags].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let trials = place.json(&["trials", "--json"]);
    let trials = trials.as_array().unwrap();
    let pruned: Vec<_> = trials.iter().filter(|t| t["state"] == "PRUNED").collect();
    assert!(!pruned.is_empty() && pruned.len() < 8, "{said}");
    assert!(said.contains("pruned at step 1"), "{said}");
    let ended = std::fs::read_to_string(place.path().join("ended")).unwrap();
    assert_eq!(ended.lines().count(), 8 - pruned.len());
    for trial in trials {
        let n = trial["params"]["n"].as_f64().unwrap();
        assert_eq!(trial["values"], json!([n, n]), "{trial}");
        assert_eq!(trial["system_attrs"]["kiln:report:1"], json!([n, n]));
    }
    let best = trials.iter().find(|t| t["params"]["n"] == 1).unwrap();
    assert_eq!(best["state"], "COMPLETE");
    place.ok(&["plot", "intermediate", "--objective", "1", "--out", "i.svg"]);
    let drawn = std::fs::read_to_string(place.path().join("i.svg")).unwrap();
    assert!(drawn.contains("Intermediate Objective 1"));
}

#[test]
fn a_pruner_of_one_objective_prunes_nothing_and_says_so() {
    let place = Place::new();
    let flags = [
        "--pruner",
        "threshold",
        "--pruner-kwargs",
        r#"{"upper": 0}"#,
        "--trials",
        "2",
        "--",
        "sh",
        "-c",
        r#"echo '{{"step": 1, "values": [3, 4]}}'"#,
    ];
    let output = place.run(&[&RUN[..], &flags].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("judges one objective only"), "{said}");
    let trials = place.json(&["trials", "--json"]);
    assert_eq!(trials[1]["state"], "COMPLETE");
    assert_eq!(trials[1]["values"], json!([3.0, 4.0]));
}
