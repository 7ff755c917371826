//! Replays `transform.json`, `search_space.json` and `random_sampler.json`.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_tune::rng::Rng;
use kiln_tune::search_space::{SearchSpaceGroup, intersection_search_space};
use kiln_tune::transform::{BoxOptions, BoxTransform};
use kiln_tune::{
    Distribution, FloatDistribution, IntDistribution, Json, ParamSpace, ParamValue, RandomSampler,
    TrialBuilder,
};
use serde_json::Value;

use super::{array, distribution, matrix, number, numbers, space};
use crate::{Checks, Report};

/// Replays the box transform, membership and the lowering of `high`.
pub fn replay_transform(file: &Value, report: &mut Report) {
    let space = space(&file["space"]);
    for (i, case) in array(&file["cases"]).iter().enumerate() {
        report.case(format_args!("case {i}"), case, |checks| {
            replay_transform_case(checks, &format!("case {i}"), &space, case);
            Ok(())
        });
    }
    for case in file["contains"].as_array().into_iter().flatten() {
        report.case(
            format_args!("{} in {}", case["value"], case["dist"]),
            case,
            |checks| {
                let distribution = distribution(&case["dist"]);
                // Categories are asked by index.
                let contained = distribution.contains(number(&case["value"]));
                let place = format!("{} in {distribution}", case["value"]);
                checks.exact(&place, &Some(contained), &case["contains"].as_bool());
                Ok(())
            },
        );
    }
    for case in file["adjusted"].as_array().into_iter().flatten() {
        report.case(format_args!("high of {}", case["args"]), case, |checks| {
            let high = match array(&case["args"]).as_slice() {
                [kind, low, high, step] if kind == "int" => {
                    let [low, high, step] =
                        [low, high, step].map(|x| x.as_i64().expect("an integer"));
                    IntDistribution::with_step(low, high, step)
                        .expect("a valid range")
                        .high() as f64
                }
                [_, low, high, step] => {
                    let [low, high, step] = [low, high, step].map(number);
                    FloatDistribution::with_step(low, high, step)
                        .expect("a valid range")
                        .high()
                }
                other => panic!("{other:?} is not kind, low, high, step"),
            };
            checks.exact(
                format!("high of {}", case["args"]),
                &high,
                &number(&case["high"]),
            );
            Ok(())
        });
    }
}

fn replay_transform_case(checks: &mut Checks, name: &str, space: &ParamSpace, case: &Value) {
    let option = |key: &str, default: bool| case["options"][key].as_bool().unwrap_or(default);
    let options = BoxOptions {
        log: option("transform_log", true),
        step: option("transform_step", true),
        unit: option("transform_0_1", false),
    };
    let transform = BoxTransform::new(space, options);
    let bounds = |bounds: &[[f64; 2]]| bounds.concat();
    let expected = |key: &str| matrix(&case[key]).concat();
    let place = format!("{name} bounds");
    checks.all_close(
        &place,
        &bounds(transform.raw_bounds()),
        &expected("raw_bounds"),
        1e-12,
    );
    checks.all_close(
        &place,
        &bounds(&transform.bounds()),
        &expected("bounds"),
        1e-12,
    );
    let internal = internal_values(space, &case["params"]);
    let place = format!("{name} transformed");
    checks.all_close(
        &place,
        &transform.transform(&internal),
        &numbers(&case["transformed"]),
        1e-12,
    );
    let points = matrix(&case["points"]);
    for (i, (point, params)) in points.iter().zip(array(&case["untransformed"])).enumerate() {
        let expected = internal_values(space, params);
        // Of equal choices, such as 1 and true, the file does not say which one is meant.
        let got: Vec<f64> = transform
            .untransform(point)
            .into_iter()
            .zip(space.iter())
            .map(|(value, (_, distribution))| match &**distribution {
                Distribution::Categorical(_) => distribution
                    .to_internal(&distribution.to_external(value))
                    .expect("a choice"),
                _ => value,
            })
            .collect();
        checks.all_close(format!("{name} point {i}"), &got, &expected, 1e-12);
    }
}

/// Replays the intersection and the groups of search spaces.
pub fn replay_search_space(file: &Value, report: &mut Report) {
    for (i, case) in array(file).iter().enumerate() {
        report.case(format_args!("space {i}"), case, |checks| {
            let mut trials = Vec::new();
            let mut groups = SearchSpaceGroup::new();
            for params in array(&case["trials"]) {
                let mut trial = TrialBuilder::new().value(0.0);
                for (name, distribution) in space(params).iter() {
                    let any = distribution.to_external(distribution.single_value());
                    trial = trial.param(&**name, any, (**distribution).clone());
                }
                let trial = trial.build().expect("a trial");
                groups.add(&trial.params);
                trials.push(Arc::new(trial));
            }
            let intersection = intersection_search_space(&trials, false);
            checks.exact(
                format!("intersection {i}"),
                &intersection,
                &space(&case["intersection"]),
            );
            let names =
                |group: &ParamSpace| group.iter().map(|(name, _)| name.to_string()).collect();
            let found: BTreeSet<BTreeSet<String>> = groups.groups().iter().map(names).collect();
            let expected: BTreeSet<BTreeSet<String>> = array(&case["groups"])
                .iter()
                .map(|group| {
                    array(group)
                        .iter()
                        .filter_map(Value::as_str)
                        .map(str::to_owned)
                        .collect()
                })
                .collect();
            checks.exact(format!("groups {i}"), &found, &expected);
            Ok(())
        });
    }
}

/// Replays the random streams and random search.
pub fn replay_random(file: &Value, report: &mut Report) {
    for case in array(&file["studies"]) {
        report.case(
            format_args!("study of seed {}", case["seed"]),
            case,
            |checks| {
                let sampler = RandomSampler::new(case["seed"].as_u64());
                let space = space(&case["space"]);
                for (i, trial) in array(&case["params_in_suggest_order"]).iter().enumerate() {
                    for param in array(trial) {
                        let name = param[0].as_str().expect("a name");
                        let distribution = space.get(name).expect("a parameter of the space");
                        let drawn = distribution.to_external(sampler.sample(distribution));
                        let expected =
                            ParamValue::from_json(&Json::from(param[1].clone())).expect("a value");
                        let place = format!("seed {} trial {i} {name}", case["seed"]);
                        match (&drawn, &expected) {
                            (ParamValue::Float(drawn), ParamValue::Float(expected)) => {
                                checks.close_relative(&place, *drawn, *expected, 1e-14);
                            }
                            _ => checks.exact(&place, &drawn, &expected),
                        }
                    }
                }
                Ok(())
            },
        );
    }
    type Draw = fn(&mut Rng) -> f64;
    let streams: [(&str, Draw, f64); 2] = [
        ("mt19937_random_sample", Rng::uniform, 0.0),
        // The logarithm of the system's mathematics library may differ in the last bit.
        ("mt19937_standard_normal", Rng::normal, 1e-15),
    ];
    for (key, draw, tolerance) in streams {
        for (seed, expected) in file[key].as_object().expect("streams by seed") {
            report.case(format_args!("{key} of seed {seed}"), expected, |checks| {
                let mut rng = Rng::new(Some(seed.parse().expect("a seed")));
                for (i, expected) in numbers(expected).into_iter().enumerate() {
                    checks.close(
                        format!("{key} seed {seed} draw {i}"),
                        draw(&mut rng),
                        expected,
                        tolerance,
                    );
                }
                Ok(())
            });
        }
    }
}

fn internal_values(space: &ParamSpace, params: &Value) -> Vec<f64> {
    space
        .iter()
        .map(|(name, distribution)| {
            let external =
                ParamValue::from_json(&Json::from(params[&**name].clone())).expect("a value");
            // Without the log scale an integer may come out below its range.
            match external.as_f64().filter(|_| !distribution.is_categorical()) {
                Some(number) => number,
                None => distribution
                    .to_internal(&external)
                    .expect("a value of the distribution"),
            }
        })
        .collect()
}
