//! Replays `gp.json` (normalisation, kernel, likelihood, posterior, acquisition, fit and optimum) and
//! `gp_running.json` (acquisition functions while trials are running).

use kiln_tune::ParamSpace;
use kiln_tune::rng::Rng;
use kiln_tune::sampler::gp::{
    Acquisition, Conditional, Data, Feasibility, GpSpace, KernelParams, LogEhvi, LogEi, QLogEhvi,
    QLogEi, Regressor, maximize, standard_log_ei, standardize,
};
use serde_json::Value;

use super::{array, external, matrix, number, numbers, space};
use crate::{Checks, Report};

const DATA_TOLERANCE: f64 = 1e-12;
const FIXED_TOLERANCE: f64 = 1e-8;
const LOG_EI_TOLERANCE: f64 = 1e-10;
/// By how much a fit or an optimum may stay behind.
const SLACK: f64 = 0.01;

/// Replays a whole file.
pub fn replay(file: &Value, report: &mut Report) {
    for case in array(file) {
        report.case("(no name)", case, |checks| {
            if case["z"].is_null() {
                replay_case(checks, case);
                return Ok(());
            }
            for (z, value) in numbers(&case["z"]).into_iter().zip(numbers(&case["value"])) {
                let place = format!("standard_logei({z})");
                checks.close_relative(&place, standard_log_ei(z), value, LOG_EI_TOLERANCE);
            }
            Ok(())
        });
    }
}

fn replay_case(checks: &mut Checks, case: &Value) {
    let name = case["name"].as_str().unwrap_or("?");
    let at = |what: &str| format!("{name} {what}");
    let space: ParamSpace = space(&case["space"]);
    let gp_space = GpSpace::new(&space);
    let x: Vec<Vec<f64>> = array(&case["params"])
        .iter()
        .map(|params| {
            let internal: Vec<f64> = space
                .iter()
                .map(|(name, d)| {
                    d.to_internal(&external(&params[&**name]))
                        .expect("the value is in the distribution")
                })
                .collect();
            gp_space.normalize(&internal)
        })
        .collect();
    for (i, (got, want)) in x.iter().zip(matrix(&case["X_normalized"])).enumerate() {
        checks.all_close(
            at(&format!("X_normalized[{i}]")),
            got,
            &want,
            DATA_TOLERANCE,
        );
    }
    let scores: Vec<f64> = numbers(&case["values_minimize"])
        .iter()
        .map(|v| -v)
        .collect();
    let (y, mean, std) = standardize(&scores);
    checks.all_close(
        at("y_standardized"),
        &y,
        &numbers(&case["y_standardized"]),
        DATA_TOLERANCE,
    );
    checks.close(at("y_mean"), mean, number(&case["y_mean"]), DATA_TOLERANCE);
    checks.close(at("y_std"), std, number(&case["y_std"]), DATA_TOLERANCE);
    let is_categorical = gp_space.is_categorical();
    let data = Data {
        x: x.clone(),
        y: y.clone(),
        is_categorical,
    };

    let best = y.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    replay_fixed(
        checks,
        &at("fixed kernel"),
        &case["fixed_kernel"],
        &data,
        best,
    );

    let loose = &case["fitted"]["gtol_0p01"];
    let fitted = Regressor::fit(data.clone(), None, false, 0.01);
    let objective = data
        .marginal_log_likelihood(&fitted.params)
        .map_or(f64::NAN, |mll| mll + fitted.params.log_prior());
    let want = number(&loose["objective_mll_plus_prior"]);
    checks.at_least(at("fitted objective"), objective, want - SLACK);

    let warm = (0..y.len()).find(|&i| y[i] == best).map(|i| x[i].clone());
    let acquisition = log_ei(
        Regressor::new(data, params(loose)).expect("the kernel is regular"),
        best,
    );
    let want = number(&case["acquisition_optimum_over_8_seeds"]["best_log_ei"]);
    for seed in 0..3 {
        let warm: Vec<Vec<f64>> = warm.iter().cloned().collect();
        let (_, value) = maximize(&acquisition, &gp_space, &warm, &mut Rng::new(Some(seed)))
            .expect("the space has few dimensions");
        checks.at_least(
            at(&format!("acquisition optimum, seed {seed}")),
            value,
            want - SLACK,
        );
    }
}

/// Replays the acquisition functions of running trials, whose kernels and normal samples are given.
pub fn replay_running(file: &Value, report: &mut Report) {
    for case in array(&file["running_cases"]) {
        report.case("(no name)", case, |checks| {
            replay_running_case(checks, case);
            Ok(())
        });
    }
}

fn replay_running_case(checks: &mut Checks, case: &Value) {
    let name = case["name"].as_str().unwrap_or("?");
    let acquisition = running(case);
    let values = numbers(&case["acquisition"]);
    let gradients = case["gradients"]
        .as_array()
        .map(|_| matrix(&case["gradients"]));
    for (i, x) in matrix(&case["candidates"]).iter().enumerate() {
        let at = |what: &str| format!("{name}, {what} at candidate {i}");
        // Far from the optimum the logarithm is large, and so is its error.
        let tolerance = FIXED_TOLERANCE * values[i].abs().max(1.0);
        checks.close(at("value"), acquisition.value(x), values[i], tolerance);
        if let Some(want) = gradients.as_ref().map(|g| &g[i]) {
            let mut gradient = vec![0.0; x.len()];
            acquisition.value_and_gradient(x, &mut gradient);
            let largest = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            checks.all_close(at("gradient"), &gradient, want, FIXED_TOLERANCE * largest);
        }
    }
}

fn running(case: &Value) -> Box<dyn Acquisition> {
    let (x, running) = (matrix(&case["x"]), matrix(&case["running"]));
    let is_categorical: Vec<bool> = array(&case["is_categorical"])
        .iter()
        .map(|flag| flag == true)
        .collect();
    let processes = array(&case["processes"]);
    let columns: Vec<Vec<f64>> = processes.iter().map(|p| numbers(&p["y"])).collect();
    let regressors: Vec<Regressor> = processes
        .iter()
        .zip(&columns)
        .map(|(process, y)| {
            let data = Data {
                x: x.clone(),
                y: y.clone(),
                is_categorical: is_categorical.clone(),
            };
            Regressor::new(data, params(process)).expect("the kernel is regular")
        })
        .collect();
    let mut conditional: Vec<Conditional> = regressors
        .iter()
        .zip(processes)
        .map(|(regressor, process)| {
            Conditional::new(regressor.clone(), &running, &matrix(&process["samples"]))
                .expect("the running trials are apart")
        })
        .collect();
    let n_objectives = case["n_objectives"].as_u64().expect("a number") as usize;
    let thresholds = numbers(&case["thresholds"]);
    let values: Vec<Vec<f64>> = (0..x.len())
        .filter(|&i| {
            let limits = columns[n_objectives..].iter().zip(&thresholds);
            limits
                .into_iter()
                .all(|(column, limit)| column[i] >= *limit)
        })
        .map(|i| columns[..n_objectives].iter().map(|c| c[i]).collect())
        .collect();
    let constraints = conditional.split_off(n_objectives);
    let constraints = constraints.into_iter().zip(thresholds.clone()).collect();
    if n_objectives == 1 {
        let threshold = values
            .iter()
            .map(|v| v[0])
            .fold(f64::NEG_INFINITY, f64::max);
        return Box::new(QLogEi {
            objective: conditional.remove(0),
            threshold,
            constraints,
        });
    }
    if !values.is_empty() {
        return Box::new(QLogEhvi::new(conditional, constraints, &values));
    }
    let feasibility = regressors[n_objectives..].iter().zip(thresholds);
    let feasibility = feasibility
        .map(|(regressor, threshold)| Feasibility {
            regressor: regressor.clone(),
            threshold,
        })
        .collect();
    let objectives = regressors[..n_objectives].to_vec();
    Box::new(LogEhvi::new(objectives, feasibility, &values, Vec::new()))
}

fn params(value: &Value) -> KernelParams {
    KernelParams {
        inverse_squared_lengthscales: numbers(&value["inverse_squared_lengthscales"]),
        kernel_scale: number(&value["kernel_scale"]),
        noise_var: number(&value["noise_var"]),
    }
}

fn log_ei(regressor: Regressor, threshold: f64) -> LogEi {
    LogEi {
        regressor,
        threshold,
        constraints: Vec::new(),
    }
}

fn replay_fixed(checks: &mut Checks, name: &str, case: &Value, data: &Data, best: f64) {
    let params = params(case);
    let likelihood = data.marginal_log_likelihood(&params).unwrap_or(f64::NAN);
    checks.close(
        format!("{name} likelihood"),
        likelihood,
        number(&case["marginal_log_likelihood_without_2pi_constant"]),
        FIXED_TOLERANCE,
    );
    let prior = number(&case["log_prior"]);
    checks.close(
        format!("{name} prior"),
        params.log_prior(),
        prior,
        FIXED_TOLERANCE,
    );
    let regressor = Regressor::new(data.clone(), params).expect("the kernel is regular");
    for (i, row) in matrix(&case["kernel_5x5_without_noise"]).iter().enumerate() {
        for (j, want) in row.iter().enumerate() {
            let got = regressor.kernel(&data.x[i], &data.x[j]);
            checks.close(
                format!("{name} kernel[{i}][{j}]"),
                got,
                *want,
                FIXED_TOLERANCE,
            );
        }
    }
    let acquisition = log_ei(regressor.clone(), best);
    let feasibility = LogEi {
        regressor: regressor.clone(),
        threshold: f64::NEG_INFINITY,
        constraints: vec![Feasibility {
            regressor: regressor.clone(),
            threshold: 0.2,
        }],
    };
    let column = |key: &str| numbers(&case[key]);
    let (means, variances) = (column("posterior_mean"), column("posterior_var"));
    let (log_eis, log_pis) = (column("log_ei"), column("log_pi_threshold_0p2"));
    let gradients = matrix(&case["log_ei_gradient_first3"]);
    for (i, x) in matrix(&case["points"]).iter().enumerate() {
        let at = |what: &str| format!("{name} {what} at point {i}");
        let (mean, variance) = regressor.mean_variance(x);
        checks.close(at("mean"), mean, means[i], FIXED_TOLERANCE);
        checks.close(at("variance"), variance, variances[i], FIXED_TOLERANCE);
        // Far from the optimum the logarithm is large, and so is its error.
        let tolerance = |want: f64| FIXED_TOLERANCE * want.abs().max(1.0);
        checks.close(
            at("log EI"),
            acquisition.value(x),
            log_eis[i],
            tolerance(log_eis[i]),
        );
        checks.close(
            at("log PI"),
            feasibility.value(x),
            log_pis[i],
            tolerance(log_pis[i]),
        );
        if let Some(want) = gradients.get(i) {
            let mut gradient = vec![0.0; x.len()];
            acquisition.value_and_gradient(x, &mut gradient);
            let largest = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            checks.all_close(at("gradient"), &gradient, want, FIXED_TOLERANCE * largest);
        }
    }
}
