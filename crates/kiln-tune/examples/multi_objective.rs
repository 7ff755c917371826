//! Two objectives and a constraint: `cargo run --release -p kiln-tune --example multi_objective`.
//!
//! Trades the error of a network against its size, among those that fit into memory. Prints the Pareto front.

use kiln_tune::{Study, StudyDirection, Trial};

fn objective(trial: &mut Trial) -> kiln_tune::Result<[f64; 2]> {
    let width = trial.suggest_int_step("width", 16, 512, 16)? as f64;
    let depth = trial.suggest_int("depth", 2, 12)? as f64;
    let parameters = depth * width * width / 1e6;
    // Positive means that the limit of 2 million parameters is broken.
    trial.set_constraint("parameters", parameters - 2.0)?;
    let accuracy = 0.95 - 0.4 / (1.0 + 0.02 * width) - 0.3 / (1.0 + depth);
    Ok([accuracy, parameters])
}

fn main() -> kiln_tune::Result<()> {
    let study = Study::builder()
        .directions([StudyDirection::Maximize, StudyDirection::Minimize])
        .create()?;
    study.set_metric_names(&["accuracy", "million parameters"])?;
    study.optimize(objective, 150)?;

    let mut front = study.best_trials()?;
    front.sort_by(|a, b| {
        a.values
            .partial_cmp(&b.values)
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    println!("accuracy  parameters  width  depth");
    for trial in &front {
        let [accuracy, parameters] = trial.values.as_deref().unwrap_or_default() else {
            continue;
        };
        let [width, depth] =
            ["width", "depth"].map(|name| trial.params.value(name).unwrap_or(0.into()));
        println!("{accuracy:8.3} {parameters:10.3}M {width:>6} {depth:>6}");
    }
    Ok(())
}
