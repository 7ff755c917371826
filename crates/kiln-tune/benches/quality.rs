//! Best value by seed on test functions: `cargo bench -p kiln-tune --bench quality -- [sampler...] [function...] [--seeds N]`.
//!
//! Prints one JSON object per sampler, function and number of trials, with the best value of every seed; for functions with
//! several objectives, which the genetic samplers and `tpe_default` run on, minus the hypervolume.
//! `benches/compare.py` runs Optuna beside it and compares.

use std::f64::consts::PI;

use kiln_tune::multi_objective::hypervolume;
use kiln_tune::sampler::{CmaEsSampler, GpSampler, NsgaIiSampler, NsgaIiiSampler};
use kiln_tune::{Error, RandomSampler, Study, StudyBuilder, StudyDirection, TpeSampler, Trial};

type Objective = fn(&mut Trial) -> Result<f64, Error>;
type Objectives = fn(&mut Trial) -> Result<Vec<f64>, Error>;
type Configure = fn(StudyBuilder, u64) -> StudyBuilder;

/// One function per line.
const FUNCTIONS: &[(&str, Objective)] = &[
    ("sphere5", sphere5),
    ("rosenbrock4", rosenbrock4),
    ("branin2", branin2),
    ("hartmann6", hartmann6),
    ("ackley5", ackley5),
    ("mixed", mixed),
    ("rastrigin4", rastrigin4),
    ("levy6", levy6),
    ("styblinski5", styblinski5),
    ("network", network),
    ("pipeline", pipeline),
];

/// Functions with several objectives, and the reference point of their hypervolume.
const MULTI_OBJECTIVE: &[(&str, Objectives, &[f64])] = &[
    ("zdt1", zdt1, &[1.1, 5.0]),
    ("zdt3", zdt3, &[1.1, 5.0]),
    ("dtlz2", dtlz2, &[2.0, 2.0, 2.0]),
];
const MULTI_OBJECTIVE_SAMPLERS: &[&str] = &["random", "tpe_default", "nsga2", "nsga3"];

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
    ("gp", |study, seed| study.sampler(GpSampler::new(seed))),
    ("nsga2", |study, seed| {
        let sampler = NsgaIiSampler::new(seed).population_size(20);
        study.sampler(sampler.expect("a population"))
    }),
    ("nsga3", |study, seed| {
        let sampler = NsgaIiiSampler::new(seed).population_size(20);
        study.sampler(sampler.expect("a population"))
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
    let functions = FUNCTIONS.iter().map(|(name, _)| *name);
    let functions = functions.chain(MULTI_OBJECTIVE.iter().map(|(name, ..)| *name));
    let functions: Vec<&str> = functions
        .filter(|name| args.iter().any(|arg| arg == name))
        .collect();
    let samplers: Vec<&str> = SAMPLERS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| args.iter().any(|arg| arg == name))
        .collect();
    let chosen = |named: &[&str], name: &str| named.is_empty() || named.contains(&name);
    for (sampler, configure) in SAMPLERS.iter().filter(|(name, _)| chosen(&samplers, name)) {
        for (function, objective) in FUNCTIONS
            .iter()
            .filter(|(name, _)| chosen(&functions, name))
        {
            if sampler.starts_with("nsga") {
                continue;
            }
            let steps = if *sampler == "gp" {
                [25, 50]
            } else {
                [50, 100]
            };
            print(sampler, function, steps, n_seeds, |seed| {
                let study = configure(Study::builder(), seed).create().expect("a study");
                steps.map(|n| {
                    study
                        .optimize(objective, n - n_finished(&study))
                        .expect("trials");
                    study.best_value().expect("a value")
                })
            });
        }
        for (function, objectives, reference) in MULTI_OBJECTIVE {
            if !MULTI_OBJECTIVE_SAMPLERS.contains(sampler) || !chosen(&functions, function) {
                continue;
            }
            let steps = [100, 200];
            print(sampler, function, steps, n_seeds, |seed| {
                let directions = vec![StudyDirection::Minimize; reference.len()];
                let builder = Study::builder().directions(directions);
                let study = configure(builder, seed).create().expect("a study");
                steps.map(|n| {
                    study
                        .optimize(objectives, n - n_finished(&study))
                        .expect("trials");
                    -volume(&study, reference)
                })
            });
        }
    }
}

fn n_finished(study: &Study) -> usize {
    study.trials().expect("trials").len()
}

fn volume(study: &Study, reference: &[f64]) -> f64 {
    let front = study.best_trials().expect("trials");
    let within: Vec<Vec<f64>> = front
        .iter()
        .filter_map(|trial| trial.values.clone())
        .filter(|values| values.iter().zip(reference).all(|(v, r)| v <= r))
        .collect();
    hypervolume(&within, reference).expect("a volume")
}

fn print(
    sampler: &str,
    function: &str,
    steps: [usize; 2],
    n_seeds: u64,
    run: impl Fn(u64) -> [f64; 2],
) {
    let runs: Vec<[f64; 2]> = (0..n_seeds).map(run).collect();
    for (i, n_trials) in steps.into_iter().enumerate() {
        let values: Vec<f64> = runs.iter().map(|run| run[i]).collect();
        println!(
            "{{\"library\": \"kiln-tune\", \"sampler\": \"{sampler}\", \"function\": \"{function}\", \
             \"n_trials\": {n_trials}, \"values\": {values:?}}}"
        );
    }
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

fn rastrigin4(trial: &mut Trial) -> Result<f64, Error> {
    let x = floats(trial, 4, -3.0, 5.0)?;
    let term = |x: &f64| x * x - 10.0 * (2.0 * PI * x).cos() + 10.0;
    Ok(x.iter().map(term).sum())
}

fn levy6(trial: &mut Trial) -> Result<f64, Error> {
    let x = floats(trial, 6, -8.0, 10.0)?;
    let w: Vec<f64> = x.iter().map(|x| 1.0 + (x - 1.0) / 4.0).collect();
    let inner = |w: &f64| (w - 1.0).powi(2) * (1.0 + 10.0 * (PI * w + 1.0).sin().powi(2));
    let last = (w[5] - 1.0).powi(2) * (1.0 + (2.0 * PI * w[5]).sin().powi(2));
    Ok((PI * w[0]).sin().powi(2) + w[..5].iter().map(inner).sum::<f64>() + last)
}

fn styblinski5(trial: &mut Trial) -> Result<f64, Error> {
    let x = floats(trial, 5, -5.0, 5.0)?;
    let term = |x: &f64| x.powi(4) - 16.0 * x * x + 5.0 * x;
    Ok(x.iter().map(term).sum::<f64>() / 2.0)
}

/// A flat space with every kind of parameter.
fn network(trial: &mut Trial) -> Result<f64, Error> {
    let lr = trial.suggest_float_log("lr", 1e-5, 1.0)?.log10();
    let decay = trial.suggest_float_log("decay", 1e-6, 1e-1)?.log10();
    let dropout = trial.suggest_float_step("dropout", 0.0, 0.8, 0.1)?;
    let layers = trial.suggest_int("layers", 1, 8)? as f64;
    let width = (trial.suggest_int_log("width", 8, 1024)? as f64).log2();
    let batch = trial.suggest_int_step("batch", 16, 256, 16)? as f64;
    let activation =
        match trial.suggest_categorical("activation", &["relu", "gelu", "tanh", "elu"])? {
            "relu" => 0.02,
            "gelu" => 0.0,
            "tanh" => 0.12,
            _ => 0.05,
        };
    let norm = trial.suggest_categorical("norm", &[true, false])?;
    let best_lr = -2.5 - 0.2 * layers / 8.0 + if norm { 0.6 } else { 0.0 };
    Ok(0.05 * (lr - best_lr).powi(2)
        + 0.01 * (decay + 4.0).powi(2)
        + 0.5 * (dropout - 0.3).powi(2)
        + 0.01 * (layers - 4.0).powi(2)
        + 0.01 * (width - 7.0).powi(2)
        + 0.02 * ((batch - 96.0) / 64.0).powi(2)
        + activation
        + if norm { 0.0 } else { 0.05 })
}

/// A conditional space: the number of steps, each with a kind and the parameters of that kind.
fn pipeline(trial: &mut Trial) -> Result<f64, Error> {
    let n = trial.suggest_int("n", 1, 3)?;
    let mut value = 0.1 * (n - 2).abs() as f64;
    for i in 0..n {
        let target = 0.3 + 0.2 * i as f64;
        value += match trial
            .suggest_categorical(&format!("kind{i}"), &["linear", "spline", "tree"])?
        {
            "linear" => {
                0.3 + 0.1 * (trial.suggest_float(&format!("w{i}"), -1.0, 1.0)? - target).abs()
            }
            "spline" => {
                let knots = trial.suggest_int(&format!("knots{i}"), 2, 20)? as f64;
                let smooth = trial
                    .suggest_float_log(&format!("smooth{i}"), 1e-3, 10.0)?
                    .log10();
                0.1 + 0.001 * (knots - 7.0).powi(2) + 0.05 * (smooth + target).powi(2)
            }
            _ => 0.2 + 0.01 * (trial.suggest_int(&format!("depth{i}"), 1, 16)? as f64 - 5.0).abs(),
        } / n as f64;
    }
    Ok(value)
}

fn zdt(trial: &mut Trial, front: impl Fn(f64, f64) -> f64) -> Result<Vec<f64>, Error> {
    let x = floats(trial, 5, 0.0, 1.0)?;
    let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / 4.0;
    Ok(vec![x[0], g * front(x[0], g)])
}

fn zdt1(trial: &mut Trial) -> Result<Vec<f64>, Error> {
    zdt(trial, |x, g| 1.0 - (x / g).sqrt())
}

fn zdt3(trial: &mut Trial) -> Result<Vec<f64>, Error> {
    zdt(trial, |x, g| {
        1.0 - (x / g).sqrt() - x / g * (10.0 * PI * x).sin()
    })
}

fn dtlz2(trial: &mut Trial) -> Result<Vec<f64>, Error> {
    let x = floats(trial, 6, 0.0, 1.0)?;
    let g = 1.0 + x[2..].iter().map(|x| (x - 0.5).powi(2)).sum::<f64>();
    let (a, b) = (x[0] * PI / 2.0, x[1] * PI / 2.0);
    Ok(vec![
        g * a.cos() * b.cos(),
        g * a.cos() * b.sin(),
        g * a.sin(),
    ])
}
