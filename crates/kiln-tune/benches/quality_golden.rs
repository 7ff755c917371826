//! Compares the quality of the samplers with Optuna's, on the functions of `tests/golden/quality*.json`.
//!
//! ```text
//! cargo bench -p kiln-tune --bench quality_golden            # all
//! cargo bench -p kiln-tune --bench quality_golden -- cmaes   # samplers or functions whose name has "cmaes"
//! ```
//!
//! Every sampler runs 60 seeds of its own, other ones than Optuna's (`KILN_SEEDS` sets another number). A line fails when the best values
//! are worse than Optuna's by a one-sided Mann-Whitney test at 1 %, or when their median is worse than
//! the worst quartile of Optuna's.

use std::f64::consts::PI;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kiln_tune::multi_objective::hypervolume;
use kiln_tune::sampler::{CmaEsSampler, GpSampler, NsgaIiSampler, NsgaIiiSampler, TpeSampler};
use kiln_tune::{RandomSampler, Result, Sampler, Study, StudyDirection, Trial};
use serde_json::Value;

/// Seeds per line, unless the variable `KILN_SEEDS` says otherwise.
const N_SEEDS: u64 = 60;
const SINGLE: &str = include_str!("../tests/golden/quality.json");
const SEVERAL: &str = include_str!("../tests/golden/quality_multi_objective.json");

/// One line of the table: what is run, how long, and what Optuna reached.
struct Case {
    function: String,
    sampler: String,
    n_trials: u64,
    /// Optuna's values, as losses.
    reference: Vec<f64>,
    run: Arc<dyn Fn(u64) -> Result<f64> + Send + Sync>,
}

fn main() -> ExitCode {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let cases: Vec<Case> = single_objective()
        .into_iter()
        .chain(multi_objective())
        .filter(|case| {
            filter.as_ref().is_none_or(|f| {
                case.sampler.contains(f.as_str()) || case.function.contains(f.as_str())
            })
        })
        .collect();
    println!(
        "| function | sampler | trials | Kiln median | Optuna median | Optuna worst quartile | p | |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut failed = 0;
    for case in &cases {
        let mut values = run(case);
        let mut reference = case.reference.clone();
        values.sort_by(f64::total_cmp);
        reference.sort_by(f64::total_cmp);
        let p = worse_p_value(&values, &reference);
        let (own, limit) = (quantile(&values, 0.5), quantile(&reference, 0.75));
        let agrees = p >= 0.01 && own <= limit;
        failed += usize::from(!agrees);
        println!(
            "| {} | {} | {} | {own:.4} | {:.4} | {limit:.4} | {p:.3} | {} |",
            case.function,
            case.sampler,
            case.n_trials,
            quantile(&reference, 0.5),
            if agrees { "ok" } else { "WORSE" }
        );
    }
    println!(
        "\n{} of {} lines are no worse than Optuna",
        cases.len() - failed,
        cases.len()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The values of all seeds, several at once.
fn run(case: &Case) -> Vec<f64> {
    let n_seeds = std::env::var("KILN_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(N_SEEDS);
    let next = AtomicUsize::new(0);
    let values = Mutex::new(Vec::new());
    let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if seed >= n_seeds {
                        break;
                    }
                    // Other seeds than those of the golden values, far apart from each other.
                    let value = (case.run)(1_000 + 7_919 * seed).expect("the study runs");
                    values.lock().expect("no thread panicked").push(value);
                }
            });
        }
    });
    values.into_inner().expect("no thread panicked")
}

fn sampler(name: &str, seed: u64) -> Option<Arc<dyn Sampler>> {
    Some(match name {
        "random" => Arc::new(RandomSampler::new(seed)),
        "tpe_default" => Arc::new(TpeSampler::new().seed(seed)),
        "tpe_univariate" => Arc::new(TpeSampler::new().seed(seed).multivariate(false)),
        "tpe_multivariate_group" => {
            Arc::new(TpeSampler::new().seed(seed).multivariate(true).group(true))
        }
        "cmaes" => Arc::new(CmaEsSampler::new(seed)),
        "gp" => Arc::new(GpSampler::new(seed)),
        "nsga2" => Arc::new(NsgaIiSampler::new(seed).population_size(20).ok()?),
        "nsga3" => Arc::new(NsgaIiiSampler::new(seed).population_size(20).ok()?),
        _ => return None,
    })
}

fn single_objective() -> Vec<Case> {
    let file: Value = serde_json::from_str(SINGLE).expect("the golden file is JSON");
    let mut cases = Vec::new();
    for (function, entry) in file["functions"].as_object().expect("functions") {
        for (name, results) in entry["results"].as_object().expect("results") {
            for (budget, statistics) in results.as_object().expect("budgets") {
                let n_trials = budget
                    .trim_start_matches("after_")
                    .parse()
                    .expect("a number");
                let (objective, sampler_name) = (function.clone(), name.clone());
                cases.push(Case {
                    function: function.clone(),
                    sampler: name.clone(),
                    n_trials,
                    reference: numbers(&statistics["values_by_seed"]),
                    run: Arc::new(move |seed| {
                        let sampler = sampler(&sampler_name, seed).expect("a known sampler");
                        let study = Study::builder().sampler(sampler).create()?;
                        study.optimize(|trial| evaluate(&objective, trial), n_trials)?;
                        study.best_value()
                    }),
                });
            }
        }
    }
    cases
}

fn multi_objective() -> Vec<Case> {
    let file: Value = serde_json::from_str(SEVERAL).expect("the golden file is JSON");
    let mut cases = Vec::new();
    for (function, entries) in file.as_object().expect("functions") {
        for (name, entry) in entries.as_object().expect("samplers") {
            let n_trials = entry["n_trials"].as_u64().expect("a number");
            let is_zdt1 = function == "zdt1";
            let key = if is_zdt1 {
                "hypervolume_ref_1p1_5p0"
            } else {
                "best_feasible"
            };
            let values = numbers(&entry[key]["values"]);
            let sampler_name = name.clone();
            cases.push(Case {
                function: function.clone(),
                sampler: name.clone(),
                n_trials,
                // A larger hypervolume is better.
                reference: values
                    .iter()
                    .map(|v| if is_zdt1 { -v } else { *v })
                    .collect(),
                run: Arc::new(move |seed| {
                    let sampler = sampler(&sampler_name, seed).expect("a known sampler");
                    if is_zdt1 {
                        zdt1(sampler, n_trials)
                    } else {
                        constrained(sampler, n_trials)
                    }
                }),
            });
        }
    }
    cases
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v.as_f64().expect("a number"))
        .collect()
}

/// Minus the hypervolume of ZDT1 with five parameters.
fn zdt1(sampler: Arc<dyn Sampler>, n_trials: u64) -> Result<f64> {
    let study = Study::builder()
        .directions([StudyDirection::Minimize; 2])
        .sampler(sampler)
        .create()?;
    study.optimize(
        |trial| {
            let x = floats(trial, 5, 0.0, 1.0)?;
            let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / 4.0;
            Ok::<_, kiln_tune::Error>([x[0], g * (1.0 - (x[0] / g).sqrt())])
        },
        n_trials,
    )?;
    let reference = [1.1, 5.0];
    let front: Vec<Vec<f64>> = study
        .best_trials()?
        .iter()
        .filter_map(|t| t.values.clone())
        .filter(|v| v.iter().zip(reference).all(|(v, r)| *v <= r))
        .collect();
    Ok(-hypervolume(&front, &reference).expect("the points are within the reference"))
}

/// Best feasible value of Branin within a disk.
fn constrained(sampler: Arc<dyn Sampler>, n_trials: u64) -> Result<f64> {
    let study = Study::builder().sampler(sampler).create()?;
    study.optimize(
        |trial| {
            let x = trial.suggest_float("x0", -5.0, 10.0)?;
            let y = trial.suggest_float("x1", 0.0, 15.0)?;
            trial.set_constraint("disk", (x - 2.5).powi(2) + (y - 7.5).powi(2) - 50.0)?;
            Ok::<_, kiln_tune::Error>(branin(x, y))
        },
        n_trials,
    )?;
    study.best_value()
}

fn floats(trial: &mut Trial, n: usize, low: f64, high: f64) -> Result<Vec<f64>> {
    (0..n)
        .map(|i| trial.suggest_float(&format!("x{i}"), low, high))
        .collect()
}

fn branin(x: f64, y: f64) -> f64 {
    let valley = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
    valley * valley + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0
}

fn evaluate(function: &str, trial: &mut Trial) -> Result<f64> {
    Ok(match function {
        "sphere5" => floats(trial, 5, -4.0, 6.0)?.iter().map(|x| x * x).sum(),
        "rosenbrock4" => floats(trial, 4, -5.0, 10.0)?
            .windows(2)
            .map(|x| 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2))
            .sum(),
        "branin2" => {
            let x = trial.suggest_float("x0", -5.0, 10.0)?;
            branin(x, trial.suggest_float("x1", 0.0, 15.0)?)
        }
        "hartmann6" => hartmann6(&floats(trial, 6, 0.0, 1.0)?),
        "ackley5" => {
            let x = floats(trial, 5, -20.0, 30.0)?;
            let squares = x.iter().map(|v| v * v).sum::<f64>() / 5.0;
            let waves = x.iter().map(|v| (2.0 * PI * v).cos()).sum::<f64>() / 5.0;
            -20.0 * (-0.2 * squares.sqrt()).exp() - waves.exp() + 20.0 + 1f64.exp()
        }
        "mixed" => mixed(trial)?,
        other => panic!("the function {other} is not known here"),
    })
}

fn hartmann6(x: &[f64]) -> f64 {
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
    -(0..4)
        .map(|k| {
            let exponent: f64 = (0..6)
                .map(|j| A[k][j] * (x[j] - P[k][j] * 1e-4).powi(2))
                .sum();
            C[k] * (-exponent).exp()
        })
        .sum::<f64>()
}

fn mixed(trial: &mut Trial) -> Result<f64> {
    let shared = trial.suggest_float("shared", -2.0, 2.0)?;
    let value = match trial.suggest_categorical("algo", &["svm", "forest", "boost"])? {
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
            let trees = trial.suggest_int_log("forest_trees", 10, 500)? as f64;
            0.15 + 0.001 * (depth - 18.0).powi(2) + 0.05 * (trees.log10() - 2.3).powi(2)
        }
        _ => {
            let rate = trial.suggest_float_log("boost_lr", 1e-4, 1.0)?.log10();
            let depth = trial.suggest_int("boost_depth", 1, 12)? as f64;
            let rounds = trial.suggest_int_step("boost_rounds", 50, 1000, 50)? as f64;
            0.08 + 0.04 * (rate + 1.2).powi(2)
                + 0.004 * (depth - 6.0).powi(2)
                + 0.02 * ((rounds - 600.0) / 200.0).powi(2)
        }
    };
    Ok(value + 0.1 * (shared - 0.3).powi(2))
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let (low, share) = (position.floor() as usize, position.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] * (1.0 - share) + sorted[high] * share
}

/// One-sided p value of the Mann-Whitney test that `values` tend to be larger than `reference`: the
/// normal approximation with correction for ties and continuity.
fn worse_p_value(values: &[f64], reference: &[f64]) -> f64 {
    let (n, m) = (values.len() as f64, reference.len() as f64);
    let wins: f64 = values
        .iter()
        .flat_map(|v| reference.iter().map(move |r| (v, r)))
        .map(|(v, r)| {
            if v > r {
                1.0
            } else if v == r {
                0.5
            } else {
                0.0
            }
        })
        .sum();
    let mut all: Vec<f64> = values.iter().chain(reference).copied().collect();
    all.sort_by(f64::total_cmp);
    let ties: f64 = all
        .chunk_by(|a, b| a == b)
        .map(|group| (group.len() as f64).powi(3) - group.len() as f64)
        .sum();
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (wins - n * m / 2.0 - 0.5) / variance.sqrt();
    0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
}
