//! Replays `cmaes.json`: constants, the state after every told generation, and the warm start.

use kiln_tune::sampler::cmaes::{Covariance, Distribution, promising_distribution};
use serde_json::Value;

use super::replay::{Replay, array, matrix, number, numbers};

const TOLERANCE: f64 = 1e-9;

/// Replays a whole file.
pub fn replay(file: &Value) -> Replay {
    let mut replay = Replay::default();
    for (i, run) in array(&file["runs"]).iter().enumerate() {
        replay_run(&mut replay, &format!("run {i}"), run);
    }
    if !file["warm_start"].is_null() {
        replay_warm_start(&mut replay, &file["warm_start"]);
    }
    replay
}

fn replay_run(replay: &mut Replay, name: &str, run: &Value) {
    let mean = numbers(&run["mean0"]);
    let n = mean.len();
    let size = run["population_size"].as_u64().expect("a population size") as usize;
    let identity = Covariance::Full(nalgebra::DMatrix::identity(n, n));
    let mut state = Distribution::new(mean, number(&run["sigma0"]), identity, size, false);
    let constants = state.constants().clone();
    compare(
        replay,
        &format!("{name} weights"),
        &constants.weights,
        &run["weights"],
    );
    replay.exact(
        &format!("{name} mu"),
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
            replay,
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
            replay,
            &at("mean"),
            state.mean.as_slice(),
            &generation["mean"],
        );
        let sigma = number(&generation["sigma"]);
        replay.close_relative(&at("sigma"), state.sigma, sigma, TOLERANCE);
        compare(
            replay,
            &at("p_sigma"),
            state.p_sigma.as_slice(),
            &generation["p_sigma"],
        );
        compare(replay, &at("pc"), state.pc.as_slice(), &generation["pc"]);
        let Covariance::Full(c) = &state.covariance else {
            unreachable!("the distribution was made with a full covariance")
        };
        compare_matrix(replay, &at("C"), c, &generation["C"]);
    }
}

fn replay_warm_start(replay: &mut Replay, case: &Value) {
    let solutions = array(&case["solutions"])
        .iter()
        .map(|pair| (numbers(&pair[0]), number(&pair[1])))
        .collect();
    let (mean, sigma, cov) = promising_distribution(solutions).expect("there are solutions");
    compare(replay, "warm start mean", &mean, &case["mean"]);
    replay.close_relative("warm start sigma", sigma, number(&case["sigma"]), TOLERANCE);
    compare_matrix(replay, "warm start covariance", &cov, &case["cov"]);
}

/// Compares relative to the largest entry, because single entries may pass through zero.
fn compare(replay: &mut Replay, place: &str, got: &[f64], want: &Value) {
    let want = numbers(want);
    let scale = want.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    replay.all_close(place, got, &want, TOLERANCE * scale);
}

fn compare_matrix(replay: &mut Replay, place: &str, got: &nalgebra::DMatrix<f64>, want: &Value) {
    let rows: Vec<f64> = got.transpose().iter().copied().collect();
    let flat = Value::Array(
        array(want)
            .iter()
            .flat_map(|row| array(row).clone())
            .collect(),
    );
    compare(replay, place, &rows, &flat);
}
