//! Time per trial of the crate `optimizer` 1.0, in the layout of kiln-tune's `speed` bench.
//!
//! Its study grows by its own trials, drawn at random; then the timed sampler goes on with them.

use std::time::Instant;

use optimizer::prelude::*;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let params: Vec<FloatParam> = (0..10).map(|i| FloatParam::new(-5.0, 5.0).name(format!("x{i}"))).collect();
    for n in sizes {
        let mut study: Study<f64> = Study::with_sampler(Direction::Minimize, RandomSampler::with_seed(7));
        let trial = |study: &Study<f64>| {
            let mut trial = study.create_trial();
            let value: f64 = params.iter().map(|p| p.suggest(&mut trial).expect("a suggestion").powi(2)).sum();
            study.complete_trial(trial, value);
        };
        (0..n).for_each(|_| trial(&study));
        study.set_sampler(TpeSampler::builder().seed(1).build().expect("a sampler"));
        trial(&study);
        let n_timed = if n > 3_000 { 3 } else { 30 };
        let start = Instant::now();
        (0..n_timed).for_each(|_| trial(&study));
        let ms = start.elapsed().as_secs_f64() * 1e3 / f64::from(n_timed);
        println!("{{\"library\": \"optimizer 1.0.1\", \"sampler\": \"tpe\", \"n_trials\": {n}, \"ms_per_trial\": {ms:.4}}}");
    }
}
