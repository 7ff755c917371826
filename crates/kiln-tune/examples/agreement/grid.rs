//! Replays `grid.json`: the order of the shuffled grid, and where a grid study stops.

use kiln_tune::{GridSampler, Json, ParamValue, Study, Trial};
use serde_json::Value;

use super::replay::{Replay, array};

/// Replays a whole file.
pub fn replay(file: &Value) -> Replay {
    let mut replay = Replay::default();
    for (i, case) in array(&file["orders"]).iter().enumerate() {
        let mut sampler = GridSampler::new();
        for (name, values) in case["search_space"].as_object().expect("a search space") {
            sampler = sampler.param(name.clone(), array(values).iter().map(value));
        }
        if let Some(seed) = case["seed"].as_u64() {
            sampler = sampler.seed(seed);
        }
        replay.exact(
            &format!("order {i} size"),
            &Some(sampler.n_points() as u64),
            &case["n"].as_u64(),
        );
        for (id, expected) in array(&case["all_grids_in_use_order"]).iter().enumerate() {
            let expected: Vec<ParamValue> = array(expected).iter().map(value).collect();
            let point: Vec<ParamValue> = sampler.point(id).into_iter().cloned().collect();
            replay.exact(&format!("order {i} point {id}"), &point, &expected);
        }
    }
    if !file["run_stops_by_itself"].is_null() {
        replay_run(&mut replay, &file["run_stops_by_itself"]);
    }
    replay
}

/// A float `x` and an integer `y`, with the values that occur in the expected parameters.
fn replay_run(replay: &mut Replay, run: &Value) {
    let column = |name: &str| {
        let mut values: Vec<f64> = array(&run["params"])
            .iter()
            .filter_map(|p| p[name].as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    };
    let ys: Vec<i64> = column("y").into_iter().map(|y| y as i64).collect();
    let sampler = GridSampler::new().param("x", column("x")).param("y", ys);
    let study = Study::builder().sampler(sampler).create().expect("a study");
    let objective = |trial: &mut Trial| {
        let x = trial.suggest_float("x", 0.0, 1.0)?;
        Ok::<_, kiln_tune::Error>(x + trial.suggest_int("y", 1, 2)? as f64)
    };
    study
        .optimize(objective, 100)
        .expect("the grid can be searched");
    let trials = study.trials().expect("trials");
    let expected = run["n_trials_run_of_100_requested"].as_u64();
    replay.exact(
        "trials until the study stops",
        &Some(trials.len() as u64),
        &expected,
    );
    for (trial, expected) in trials.iter().zip(array(&run["params"])) {
        for name in ["x", "y"] {
            let place = format!("trial {} {name}", trial.number);
            replay.exact(
                &place,
                &trial.params.value(name),
                &Some(value(&expected[name])),
            );
        }
    }
}

fn value(json: &Value) -> ParamValue {
    ParamValue::from_json(&Json::from(json.clone())).expect("a value")
}
