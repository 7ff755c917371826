//! Time per trial by the number of finished trials: `cargo bench -p kiln-tune --bench speed -- [random|tpe|cmaes] [n...]`.
//!
//! Ten float parameters in memory. For each size `n` the study first gets `n` finished trials, drawn at random; then
//! whole trials (ask, ten suggestions, tell) are timed. Prints one JSON object per line.

use std::time::Instant;

use kiln_tune::sampler::CmaEsSampler;
use kiln_tune::{FloatDistribution, ParamValue, RandomSampler, Study, TpeSampler, TrialBuilder};

const N_PARAMS: usize = 10;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let names: Vec<String> = (0..N_PARAMS).map(|i| format!("x{i}")).collect();
    let sizes: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() {
        vec![100, 1_000, 10_000]
    } else {
        sizes
    };
    let samplers = ["random", "tpe", "cmaes"];
    for sampler in samplers {
        if args.iter().any(|arg| samplers.contains(&arg.as_str()))
            && !args.iter().any(|arg| arg == sampler)
        {
            continue;
        }
        for n in &sizes {
            run(sampler, *n, &names);
        }
    }
}

fn run(sampler: &str, n: usize, names: &[String]) {
    let builder = Study::builder();
    let study = match sampler {
        "random" => builder.sampler(RandomSampler::new(1)),
        "cmaes" => builder.sampler(CmaEsSampler::new(1)),
        _ => builder.sampler(TpeSampler::new().seed(1)),
    }
    .create()
    .expect("a study");
    let distribution = FloatDistribution::new(-5.0, 5.0).expect("a range");
    let draw = RandomSampler::new(7);
    let before = resident_bytes();
    for _ in 0..n {
        let mut trial = TrialBuilder::new();
        let mut value = 0.0;
        for name in names {
            let x = draw.sample(&distribution.into());
            value += x * x;
            trial = trial.param(name, ParamValue::Float(x), distribution);
        }
        study
            .add_trial(&trial.value(value).build().expect("a trial"))
            .expect("an added trial");
    }
    let trial = || {
        let mut trial = study.ask().expect("a trial");
        let start = Instant::now();
        let mut value = 0.0;
        for name in names {
            let x = trial.suggest_float(name, -5.0, 5.0).expect("a suggestion");
            value += x * x;
        }
        let suggested = start.elapsed();
        study.tell(trial, value).expect("a finished trial");
        suggested
    };
    // The first trial takes in all of the history; a study that grows trial by trial never pays that at once.
    let first = Instant::now();
    trial();
    let first = first.elapsed();
    let n_timed = 30;
    let start = Instant::now();
    let mut suggesting: Vec<f64> = (0..n_timed).map(|_| trial().as_secs_f64() * 1e3).collect();
    let total = start.elapsed().as_secs_f64() * 1e3 / f64::from(n_timed);
    suggesting.sort_by(f64::total_cmp);
    let memory = resident_bytes().saturating_sub(before);
    println!(
        "{{\"library\": \"kiln-tune\", \"sampler\": \"{sampler}\", \"n_trials\": {n}, \"ms_per_trial\": {total:.4}, \
         \"suggest_ms_median\": {:.4}, \"first_trial_ms\": {:.2}, \"kib_per_trial\": {:.2}}}",
        suggesting[suggesting.len() / 2],
        first.as_secs_f64() * 1e3,
        memory as f64 / 1024.0 / n as f64,
    );
}

/// Resident memory of this process on Linux, 0 elsewhere.
fn resident_bytes() -> usize {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else {
        return 0;
    };
    text.split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or(0)
        * 4096
}
