//! Replays `grid.json`: the order of the shuffled grid, and where a grid study stops.

use kiln_tune::{
    CategoricalDistribution, Distribution, FloatDistribution, GridSampler, IntDistribution, Json,
    ParamSpace, ParamValue, Study, Trial,
};
use serde_json::Value;

use super::array;
use crate::{Checks, Report};

/// Replays a whole file.
pub fn replay(file: &Value, report: &mut Report) {
    for (i, case) in array(&file["orders"]).iter().enumerate() {
        report.case(format_args!("order {i}"), case, |checks| {
            let mut sampler = GridSampler::new();
            for (name, values) in case["search_space"].as_object().expect("a search space") {
                sampler = sampler.param(name.clone(), array(values).iter().map(value));
            }
            if let Some(seed) = case["seed"].as_u64() {
                sampler = sampler.seed(seed);
            }
            checks.exact(
                format!("order {i} size"),
                &Some(sampler.n_points() as u64),
                &case["n"].as_u64(),
            );
            for (id, expected) in array(&case["all_grids_in_use_order"]).iter().enumerate() {
                let expected: Vec<ParamValue> = array(expected).iter().map(value).collect();
                let point: Vec<ParamValue> = sampler.point(id).into_iter().cloned().collect();
                checks.exact(format!("order {i} point {id}"), &point, &expected);
            }
            Ok(())
        });
    }
    if !file["run_stops_by_itself"].is_null() {
        let run = &file["run_stops_by_itself"];
        report.case("run that stops by itself", run, |checks| {
            replay_run(checks, run);
            Ok(())
        });
    }
}

/// The grid has the values that occur in the expected parameters, ascending.
fn replay_run(checks: &mut Checks, run: &Value) {
    let params = array(&run["params"]);
    let names: Vec<&String> = params[0].as_object().expect("parameters").keys().collect();
    let mut grid = GridSampler::new();
    let mut space = ParamSpace::new();
    for name in names {
        let mut values: Vec<ParamValue> = Vec::new();
        for point in params {
            let next = value(&point[name]);
            if !values.contains(&next) {
                values.push(next);
            }
        }
        values.sort_by(|a, b| {
            a.as_f64()
                .partial_cmp(&b.as_f64())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let (low, high) = (&values[0], &values[values.len() - 1]);
        let distribution: Distribution = match (low, high) {
            (ParamValue::Float(low), ParamValue::Float(high)) => {
                FloatDistribution::new(*low, *high).expect("a range").into()
            }
            (ParamValue::Int(low), ParamValue::Int(high)) => {
                IntDistribution::new(*low, *high).expect("a range").into()
            }
            _ => CategoricalDistribution::new(values.clone())
                .expect("choices")
                .into(),
        };
        space.insert(name.as_str(), distribution);
        grid = grid.param(name.clone(), values);
    }
    let study = Study::builder().sampler(grid).create().expect("a study");
    let objective = |trial: &mut Trial| {
        for (name, distribution) in space.iter() {
            trial.suggest(name, (**distribution).clone())?;
        }
        Ok::<_, kiln_tune::Error>(0.0)
    };
    study
        .optimize(objective, 100)
        .expect("the grid can be searched");
    let trials = study.trials().expect("trials");
    let expected = run["n_trials_run_of_100_requested"].as_u64();
    checks.exact(
        "trials until the study stops",
        &Some(trials.len() as u64),
        &expected,
    );
    for (trial, expected) in trials.iter().zip(params) {
        for (name, expected) in expected.as_object().expect("parameters") {
            let place = format!("trial {} {name}", trial.number);
            checks.exact(&place, &trial.params.value(name), &Some(value(expected)));
        }
    }
}

fn value(json: &Value) -> ParamValue {
    ParamValue::from_json(&Json::from(json.clone())).expect("a value")
}
