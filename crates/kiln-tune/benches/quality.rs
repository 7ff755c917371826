//! Best value by seed on test functions: `cargo bench -p kiln-tune --bench quality -- [sampler...] [--seeds N]`.
//!
//! Prints one JSON object per sampler, function and number of trials, with the best value of every seed.
//! `benches/compare.py` runs Optuna beside it and compares.

use std::f64::consts::PI;

use kiln_tune::sampler::CmaEsSampler;
use kiln_tune::{Error, RandomSampler, Study, StudyBuilder, TpeSampler, Trial};

type Objective = fn(&mut Trial) -> Result<f64, Error>;
type Configure = fn(StudyBuilder, u64) -> StudyBuilder;

/// One function per line.
const FUNCTIONS: &[(&str, Objective)] = &[
    ("sphere5", sphere5),
    ("rosenbrock4", rosenbrock4),
    ("branin2", branin2),
    ("hartmann6", hartmann6),
    ("ackley5", ackley5),
    ("mixed", mixed),
];

/// One sampler per line: several people add to this list.
const SAMPLERS: &[(&str, Configure)] = &[
    ("random", |study, seed| {
        study.sampler(RandomSampler::new(seed))
    }),
    ("tpe_default", |study, seed| {
        study.sampler(TpeSampler::new().seed(seed))
    }),
    ("tpe_univariate", |study, seed| {
        study.sampler(TpeSampler::new().seed(seed).multivariate(false))
    }),
    ("tpe_multivariate_group", |study, seed| {
        study.sampler(TpeSampler::new().seed(seed).group(true))
    }),
    ("cmaes", |study, seed| {
        study.sampler(CmaEsSampler::new(seed))
    }),
];

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let n_seeds = args
        .iter()
        .position(|arg| arg == "--seeds")
        .and_then(|at| args.get(at + 1)?.parse().ok())
        .unwrap_or(20);
    let chosen = |name: &str| {
        let named: Vec<_> = args
            .iter()
            .filter(|arg| SAMPLERS.iter().any(|(known, _)| known == arg))
            .collect();
        named.is_empty() || named.iter().any(|arg| *arg == name)
    };
    for (sampler, configure) in SAMPLERS.iter().filter(|(name, _)| chosen(name)) {
        for (function, objective) in FUNCTIONS {
            let (after_50, after_100): (Vec<f64>, Vec<f64>) = (0..n_seeds)
                .map(|seed| run(*configure, *objective, seed))
                .unzip();
            for (n_trials, values) in [(50, after_50), (100, after_100)] {
                println!(
                    "{{\"library\": \"kiln-tune\", \"sampler\": \"{sampler}\", \"function\": \"{function}\", \
                     \"n_trials\": {n_trials}, \"values\": {values:?}}}"
                );
            }
        }
    }
}

fn run(configure: Configure, objective: Objective, seed: u64) -> (f64, f64) {
    let study = configure(Study::builder(), seed).create().expect("a study");
    study.optimize(objective, 50).expect("trials");
    let after_50 = study.best_value().expect("a value");
    study.optimize(objective, 50).expect("trials");
    (after_50, study.best_value().expect("a value"))
}

fn floats(trial: &mut Trial, n: usize, low: f64, high: f64) -> Result<Vec<f64>, Error> {
    (0..n)
        .map(|i| trial.suggest_float(&format!("x{i}"), low, high))
        .collect()
}

fn sphere5(trial: &mut Trial) -> Result<f64, Error> {
    Ok(floats(trial, 5, -4.0, 6.0)?.iter().map(|x| x * x).sum())
}

fn rosenbrock4(trial: &mut Trial) -> Result<f64, Error> {
    let x = floats(trial, 4, -5.0, 10.0)?;
    Ok(x.windows(2)
        .map(|x| 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2))
        .sum())
}

fn branin2(trial: &mut Trial) -> Result<f64, Error> {
    let x = trial.suggest_float("x0", -5.0, 10.0)?;
    let y = trial.suggest_float("x1", 0.0, 15.0)?;
    let square = (y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0).powi(2);
    Ok(square + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0)
}

fn hartmann6(trial: &mut Trial) -> Result<f64, Error> {
    const C: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
    const A: [[f64; 6]; 4] = [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ];
    const P: [[f64; 6]; 4] = [
        [1312.0, 1696.0, 5569.0, 124.0, 8283.0, 5886.0],
        [2329.0, 4135.0, 8307.0, 3736.0, 1004.0, 9991.0],
        [2348.0, 1451.0, 3522.0, 2883.0, 3047.0, 6650.0],
        [4047.0, 8828.0, 8732.0, 5743.0, 1091.0, 381.0],
    ];
    let x = floats(trial, 6, 0.0, 1.0)?;
    let term = |k: usize| {
        let exponent: f64 = (0..6)
            .map(|j| A[k][j] * (x[j] - P[k][j] * 1e-4).powi(2))
            .sum();
        C[k] * (-exponent).exp()
    };
    Ok(-(0..4).map(term).sum::<f64>())
}

fn ackley5(trial: &mut Trial) -> Result<f64, Error> {
    let x = floats(trial, 5, -20.0, 30.0)?;
    let mean = |f: fn(f64) -> f64| x.iter().map(|x| f(*x)).sum::<f64>() / 5.0;
    let waves = mean(|x| (2.0 * PI * x).cos());
    Ok(-20.0 * (-0.2 * mean(|x| x * x).sqrt()).exp() - waves.exp() + 20.0 + 1.0_f64.exp())
}

/// A conditional space of three model families, each with its own parameters.
fn mixed(trial: &mut Trial) -> Result<f64, Error> {
    let shared = trial.suggest_float("shared", -2.0, 2.0)?;
    let v = match trial.suggest_categorical("algo", &["svm", "forest", "boost"])? {
        "svm" => {
            let c = trial.suggest_float_log("svm_C", 1e-3, 1e3)?.log10();
            if trial.suggest_categorical("svm_kernel", &["linear", "rbf"])? == "linear" {
                0.30 + 0.02 * c * c
            } else {
                let gamma = trial.suggest_float_log("svm_gamma", 1e-4, 10.0)?.log10();
                0.12 + 0.02 * (c - 1.0).powi(2) + 0.03 * (gamma + 1.5).powi(2)
            }
        }
        "forest" => {
            let depth = trial.suggest_int("forest_depth", 2, 32)? as f64;
            let trees = (trial.suggest_int_log("forest_trees", 10, 500)? as f64).log10();
            0.15 + 0.001 * (depth - 18.0).powi(2) + 0.05 * (trees - 2.3).powi(2)
        }
        _ => {
            let lr = trial.suggest_float_log("boost_lr", 1e-4, 1.0)?.log10();
            let depth = trial.suggest_int("boost_depth", 1, 12)? as f64;
            let rounds = trial.suggest_int_step("boost_rounds", 50, 1000, 50)? as f64;
            0.08 + 0.04 * (lr + 1.2).powi(2)
                + 0.004 * (depth - 6.0).powi(2)
                + 0.02 * ((rounds - 600.0) / 200.0).powi(2)
        }
    };
    Ok(v + 0.1 * (shared - 0.3).powi(2))
}
