//! Replays `parzen.json` and `truncnorm.json`.

use kiln_tune::TpeSampler;
use kiln_tune::parzen::{ParzenEstimator, ParzenOptions, TieOrder, default_weights, truncnorm};
use serde_json::Value;

use super::{array, matrix, numbers, space};
use crate::{Checks, Report};

const COMPONENT_TOLERANCE: f64 = 1e-12;
const LOG_PDF_TOLERANCE: f64 = 1e-9;

/// Replays weights, kernels and log-densities.
pub fn replay(file: &Value, report: &mut Report) {
    for case in array(&file["cases"]) {
        report.case("(no name)", case, |checks| {
            replay_case(checks, case);
            Ok(())
        });
    }
    report.case("defaults", &Value::Null, |checks| {
        for (n, expected) in entries(&file["default_weights"]) {
            checks.all_close(
                format!("default weights of {n}"),
                &default_weights(n),
                &numbers(expected),
                1e-12,
            );
        }
        for (key, several_objectives) in [
            ("default_gamma", false),
            ("default_gamma_multiobjective", true),
        ] {
            for (n, expected) in entries(&file[key]) {
                let n_below = TpeSampler::default_gamma(n, several_objectives);
                checks.exact(
                    format!("{key} of {n}"),
                    &Some(n_below as u64),
                    &expected.as_u64(),
                );
            }
        }
        Ok(())
    });
}

/// Replays the truncated normal distribution.
pub fn replay_truncnorm(file: &Value, report: &mut Report) {
    type Function = fn(&[f64]) -> f64;
    let functions: [(&str, Function, f64); 4] = [
        ("log_ndtr", |row| truncnorm::log_ndtr(row[0]), 1e-10),
        (
            "log_gauss_mass",
            |row| truncnorm::log_gauss_mass(row[0], row[1]),
            1e-10,
        ),
        ("ppf", |row| truncnorm::ppf(row[2], row[0], row[1]), 1e-7),
        ("ndtri_exp", |row| truncnorm::ndtri_exp(row[0]), 1e-7),
    ];
    for (key, function, tolerance) in functions {
        report.case(key, &file[key], |checks| {
            for (i, row) in matrix(&file[key]).iter().enumerate() {
                let want = row[row.len() - 1];
                checks.close_relative(format_args!("row {i}"), function(row), want, tolerance);
            }
            Ok(())
        });
    }
}

/// The orders of equal observations that a case has numbers for, with these numbers. Where the order does not show, a file has
/// only its own.
pub fn orders(case: &Value) -> Vec<(TieOrder, &Value)> {
    let known = [
        ("stable_sort", TieOrder::Stable),
        ("scalar_sort", TieOrder::NumPy),
    ];
    let given: Vec<_> = known
        .into_iter()
        .filter(|(key, _)| case[key].is_object())
        .map(|(key, order)| (order, &case[key]))
        .collect();
    if given.is_empty() {
        vec![(TieOrder::Stable, &Value::Null)]
    } else {
        given
    }
}

fn replay_case(checks: &mut Checks, case: &Value) {
    for (ties, ordered) in orders(case) {
        replay_ordered(checks, case, ties, ordered);
    }
}

fn replay_ordered(checks: &mut Checks, case: &Value, ties: TieOrder, ordered: &Value) {
    let name = case["name"].as_str().unwrap_or("?");
    let space = space(&case["space"]);
    let column = |table: &Value, name: &str| numbers(&table[name]);
    let observations: Vec<Vec<f64>> = space
        .iter()
        .map(|(name, _)| column(&case["observations_internal"], name))
        .collect();
    let mut options = ParzenOptions {
        ties,
        ..ParzenOptions::default()
    };
    if let Some(weight) = case["options"]["prior_weight"].as_f64() {
        options.prior_weight = weight;
    }
    if let Some(endpoints) = case["options"]["consider_endpoints"].as_bool() {
        options.consider_endpoints = endpoints;
    }
    if let Some(clip) = case["options"]["consider_magic_clip"].as_bool() {
        options.consider_magic_clip = clip;
    }
    let weights =
        (!case["predetermined_weights"].is_null()).then(|| numbers(&case["predetermined_weights"]));
    let estimator = ParzenEstimator::new(&space, &observations, weights.as_deref(), options)
        .expect("the golden observations are valid");

    let expected = numbers(&case["mixture_weights"]);
    checks.all_close(
        format!("{name} weights"),
        estimator.weights(),
        &expected,
        COMPONENT_TOLERANCE,
    );
    for (i, (parameter, _)) in space.iter().enumerate() {
        let component = &case["components"][&**parameter];
        let place = format!("{name} {parameter}");
        if let Some(kernels) = estimator.numeric(i) {
            let mus = numbers(&component["mus"]);
            checks.all_close(
                format!("{place} mus"),
                kernels.mus(),
                &mus,
                COMPONENT_TOLERANCE,
            );
            let sigmas = match &ordered["sigmas"] {
                Value::Object(by_name) if by_name.contains_key(&**parameter) => {
                    numbers(&by_name[&**parameter])
                }
                Value::Array(_) => numbers(&ordered["sigmas"]),
                _ => numbers(&component["sigmas"]),
            };
            checks.all_close(
                format!("{place} sigmas"),
                kernels.sigmas(),
                &sigmas,
                COMPONENT_TOLERANCE,
            );
        }
        if let Some(kernels) = estimator.categorical(i) {
            for (k, row) in matrix(&component["weights"]).iter().enumerate() {
                let place = format!("{place} kernel {k}");
                checks.all_close(&place, &kernels.row(k), row, COMPONENT_TOLERANCE);
            }
        }
    }
    let points: Vec<Vec<f64>> = space
        .iter()
        .map(|(name, _)| column(&case["points_internal"], name))
        .collect();
    let expected = if ordered["log_pdf"].is_null() {
        &case["log_pdf"]
    } else {
        &ordered["log_pdf"]
    };
    let place = format!("{name} log pdf");
    checks.all_close(
        &place,
        &estimator.log_pdf(&points),
        &numbers(expected),
        LOG_PDF_TOLERANCE,
    );
}

/// The entries of an object whose keys are numbers.
fn entries(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    let object = value.as_object().expect("an object");
    object
        .iter()
        .map(|(key, value)| (key.parse().expect("a number as key"), value))
}
