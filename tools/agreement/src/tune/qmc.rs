//! Replays `qmc.json`: the first points of the Sobol and Halton sequences and the sampler's values.

use kiln_tune::Study;
use kiln_tune::sampler::qmc::{Halton, QmcSampler, QmcType, Sobol};
use serde_json::Value;

use super::{array, external, matrix, space, text};
use crate::{Checks, Report};

const HALTON_TOLERANCE: f64 = 1e-15;
/// Two roundings of the box transform.
const SAMPLER_TOLERANCE: f64 = 1e-13;

/// Replays a whole file.
pub fn replay(file: &Value, report: &mut Report) {
    for (dimension, points) in file["sobol"].as_object().into_iter().flatten() {
        report.case(format_args!("sobol {dimension}"), points, |checks| {
            let d = dimension.parse().expect("a dimension");
            let sobol = Sobol::new(d).expect("the dimension is allowed");
            let points = matrix(points);
            let got: Vec<Vec<f64>> = (0..points.len() as u64)
                .map(|i| sobol.point(i).expect("the sequence is long enough"))
                .collect();
            checks.exact("points", &got, &points);
            Ok(())
        });
    }
    for (dimension, points) in file["halton"].as_object().into_iter().flatten() {
        report.case(format_args!("halton {dimension}"), points, |checks| {
            let halton = Halton::new(dimension.parse().expect("a dimension"));
            for (i, want) in matrix(points).iter().enumerate() {
                let place = format_args!("point {i}");
                checks.all_close(place, &halton.point(i as u64), want, HALTON_TOLERANCE);
            }
            Ok(())
        });
    }
    for case in file["sampler"].as_array().into_iter().flatten() {
        report.case(text(&case["qmc_type"]), case, |checks| {
            Ok(replay_sampler(checks, case)?)
        });
    }
}

fn replay_sampler(checks: &mut Checks, case: &Value) -> kiln_tune::Result<()> {
    let qmc_type = match case["qmc_type"].as_str() {
        Some("sobol") => QmcType::Sobol,
        _ => QmcType::Halton,
    };
    let scramble = case["scramble"].as_bool().unwrap_or(false);
    assert!(!scramble, "scrambled points are not meant to agree");
    let space = space(&case["space"]);
    let study = Study::builder()
        .sampler(QmcSampler::new(0).qmc_type(qmc_type))
        .create()?;
    let trials = array(&case["params"]);
    study.optimize(
        |trial| {
            for (name, distribution) in space.iter() {
                trial.suggest(name, (**distribution).clone())?;
            }
            Ok::<_, kiln_tune::Error>(0.0)
        },
        trials.len(),
    )?;
    // Trial 0 comes from the random sampler, with a seed the file does not give.
    for (trial, expected) in study.trials()?.iter().zip(trials).skip(1) {
        for (name, distribution) in space.iter() {
            let want = distribution.to_internal(&external(&expected[&**name]))?;
            let got = trial.params.internal(name).unwrap_or(f64::NAN);
            let place = format!("{qmc_type:?} trial {} {name}", trial.number);
            checks.close_relative(&place, got, want, SAMPLER_TOLERANCE);
        }
    }
    let attrs = study.system_attrs()?;
    for (key, value) in case["study_system_attrs"].as_object().into_iter().flatten() {
        let got = attrs.get(key).and_then(kiln_tune::Json::as_i64);
        checks.exact(
            format!("{qmc_type:?} attribute {key}"),
            &got,
            &value.as_i64(),
        );
    }
    Ok(())
}
