//! Replays `tpe_acquisition.json`: the split of trials and both densities of TPE.

use kiln_tune::parzen::TieOrder;
use kiln_tune::trial::now;
use kiln_tune::{
    FrozenTrial, Json, ParamValue, Params, Study, StudyDirection, TpeSampler, TrialState,
};
use serde_json::Value;

use super::parzen::orders;
use super::{array, number, numbers, space};
use crate::{Checks, Report};

const TOLERANCE: f64 = 1e-9;

/// Replays a whole file.
pub fn replay(file: &Value, report: &mut Report) {
    for case in array(file) {
        report.case("(no name)", case, |checks| {
            replay_case(checks, case);
            Ok(())
        });
    }
}

fn replay_case(checks: &mut Checks, case: &Value) {
    let directions: Vec<StudyDirection> = array(&case["directions"])
        .iter()
        .map(|direction| {
            direction
                .as_str()
                .expect("a text")
                .parse()
                .expect("a direction")
        })
        .collect();
    let study = Study::builder()
        .directions(directions)
        .create()
        .expect("a study");
    for trial in array(&case["trials"]) {
        let trial = trial_of(trial, case);
        let stored = study
            .storage()
            .create_new_trial(study.id(), Some(&trial))
            .expect("a trial");
        assert_eq!(
            stored.number, trial.number,
            "the trials of the file are numbered from 0"
        );
    }

    for (ties, ordered) in orders(case) {
        compare(checks, case, &study, ties, ordered);
    }
}

fn compare(checks: &mut Checks, case: &Value, study: &Study, ties: TieOrder, ordered: &Value) {
    let name = case["name"].as_str().unwrap_or("?");
    let space = space(&case["space"]);
    // All cases are those of the joint space, also with several objectives.
    let mut sampler = TpeSampler::new().multivariate(true).ties(ties);
    if let Some(liar) = case["options"]["constant_liar"].as_bool() {
        sampler = sampler.constant_liar(liar);
    }
    let acquisition = sampler
        .acquisition(study.context(), None, &space)
        .expect("an acquisition");
    let integers =
        |value: &Value| -> Vec<u64> { array(value).iter().filter_map(Value::as_u64).collect() };
    checks.exact(
        format!("{name} below"),
        &acquisition.below,
        &integers(&case["below"]),
    );
    checks.exact(
        format!("{name} above"),
        &acquisition.above,
        &integers(&case["above"]),
    );
    let place = format!("{name} weights");
    checks.all_close(
        &place,
        acquisition.l.weights(),
        &numbers(&case["below_weights"]),
        TOLERANCE,
    );
    checks.all_close(
        &place,
        acquisition.g.weights(),
        &numbers(&case["above_weights"]),
        TOLERANCE,
    );

    let points: Vec<Vec<f64>> = space
        .iter()
        .map(|(name, _)| numbers(&case["points_internal"][&**name]))
        .collect();
    let expected = |key: &str| {
        let own = &ordered[key];
        numbers(if own.is_null() { &case[key] } else { own })
    };
    let (log_l, log_g) = (
        acquisition.l.log_pdf(&points),
        acquisition.g.log_pdf(&points),
    );
    checks.all_close(
        format!("{name} log l"),
        &log_l,
        &expected("log_l"),
        TOLERANCE,
    );
    checks.all_close(
        format!("{name} log g"),
        &log_g,
        &expected("log_g"),
        TOLERANCE,
    );
}

fn trial_of(trial: &Value, case: &Value) -> FrozenTrial {
    let state: TrialState = trial["state"]
        .as_str()
        .expect("a state")
        .parse()
        .expect("a state");
    let space = space(&case["space"]);
    let mut params = Params::new();
    for (name, distribution) in space.iter() {
        if let Some(value) = trial["params"].get(&**name) {
            let external = ParamValue::from_json(&Json::from(value.clone())).expect("a value");
            let internal = distribution
                .to_internal(&external)
                .expect("a value of the distribution");
            params.insert(name.clone(), internal, distribution.clone());
        }
    }
    let attrs = trial["system_attrs"].as_object().expect("attributes");
    let constraints = trial["constraints"].as_object().expect("constraints");
    let mut system_attrs: kiln_tune::Attrs = attrs
        .iter()
        .map(|(key, value)| (key.clone(), Json::from(value.clone())))
        .collect();
    for (key, value) in constraints {
        system_attrs.insert(format!("constraints:{key}"), Json::Float(number(value)));
    }
    FrozenTrial {
        id: 0,
        number: trial["number"].as_u64().expect("a number"),
        state,
        values: (!trial["values"].is_null()).then(|| numbers(&trial["values"])),
        datetime_start: Some(now()),
        datetime_complete: state.is_finished().then(now),
        params,
        user_attrs: kiln_tune::Attrs::new(),
        system_attrs,
        intermediate_values: array(&trial["intermediate"])
            .iter()
            .map(|report| (report[0].as_i64().expect("a step"), number(&report[1])))
            .collect(),
    }
}
