//! Replays `cmaes.json`: constants, the state after every told generation, and the warm start.

use kiln_tune::sampler::cmaes::{Covariance, Distribution, promising_distribution};
use serde_json::Value;

use super::{array, matrix, number, numbers};
use crate::{Checks, Report};

const TOLERANCE: f64 = 1e-9;

/// Replays a whole file.
pub fn replay(file: &Value, report: &mut Report) {
    for (i, run) in array(&file["runs"]).iter().enumerate() {
        report.case(format_args!("run {i}"), run, |checks| {
            replay_run(checks, &format!("run {i}"), run);
            Ok(())
        });
    }
    if !file["warm_start"].is_null() {
        let case = &file["warm_start"];
        report.case("warm start", case, |checks| {
            replay_warm_start(checks, case);
            Ok(())
        });
    }
}

fn replay_run(checks: &mut Checks, name: &str, run: &Value) {
    let mean = numbers(&run["mean0"]);
    let n = mean.len();
    let size = run["population_size"].as_u64().expect("a population size") as usize;
    let identity = Covariance::Full(nalgebra::DMatrix::identity(n, n));
    let mut state = Distribution::new(mean, number(&run["sigma0"]), identity, size, false);
    let constants = state.constants().clone();
    compare(
        checks,
        &format!("{name} weights"),
        &constants.weights,
        &run["weights"],
    );
    checks.exact(
        format!("{name} mu"),
        &(constants.mu as f64),
        &number(&run["mu"]),
    );
    for (key, got) in [
        ("mu_eff", constants.mu_eff),
        ("c1", constants.c1),
        ("cmu", constants.cmu),
        ("c_sigma", constants.c_sigma),
        ("d_sigma", constants.d_sigma),
        ("cc", constants.cc),
        ("chi_n", constants.chi_n),
    ] {
        compare(
            checks,
            &format!("{name} {key}"),
            &[got],
            &Value::Array(vec![run[key].clone()]),
        );
    }
    for (g, generation) in array(&run["generations"]).iter().enumerate() {
        let solutions = matrix(&generation["x"])
            .into_iter()
            .map(nalgebra::DVector::from_vec)
            .zip(numbers(&generation["y"]))
            .collect();
        state.tell(solutions);
        let at = |what: &str| format!("{name} generation {g} {what}");
        compare(
            checks,
            &at("mean"),
            state.mean.as_slice(),
            &generation["mean"],
        );
        let sigma = number(&generation["sigma"]);
        checks.close_relative(at("sigma"), state.sigma, sigma, TOLERANCE);
        compare(
            checks,
            &at("p_sigma"),
            state.p_sigma.as_slice(),
            &generation["p_sigma"],
        );
        compare(checks, &at("pc"), state.pc.as_slice(), &generation["pc"]);
        let Covariance::Full(c) = &state.covariance else {
            unreachable!("the distribution was made with a full covariance")
        };
        compare_matrix(checks, &at("C"), c, &generation["C"]);
    }
}

fn replay_warm_start(checks: &mut Checks, case: &Value) {
    let solutions = array(&case["solutions"])
        .iter()
        .map(|pair| (numbers(&pair[0]), number(&pair[1])))
        .collect();
    let (mean, sigma, cov) = promising_distribution(solutions).expect("there are solutions");
    compare(checks, "warm start mean", &mean, &case["mean"]);
    checks.close_relative("warm start sigma", sigma, number(&case["sigma"]), TOLERANCE);
    compare_matrix(checks, "warm start covariance", &cov, &case["cov"]);
}

/// Compares relative to the largest entry, because single entries may pass through zero.
fn compare(checks: &mut Checks, place: &str, got: &[f64], want: &Value) {
    let want = numbers(want);
    let scale = want.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    checks.all_close(place, got, &want, TOLERANCE * scale);
}

fn compare_matrix(checks: &mut Checks, place: &str, got: &nalgebra::DMatrix<f64>, want: &Value) {
    let rows: Vec<f64> = got.transpose().iter().copied().collect();
    let flat = Value::Array(
        array(want)
            .iter()
            .flat_map(|row| array(row).clone())
            .collect(),
    );
    compare(checks, place, &rows, &flat);
}
