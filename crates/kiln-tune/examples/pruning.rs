//! Stops bad trials early with ASHA, on four threads: `cargo run --release -p kiln-tune --example pruning`.
//!
//! Most trials are pruned at the first rungs; few train for all 81 epochs.

use kiln_tune::{Budget, Study, SuccessiveHalvingPruner, Trial, TrialPruned, TrialState};

const EPOCHS: i32 = 81;

/// A learning curve that falls towards a floor set by the parameters.
fn objective(trial: &mut Trial) -> kiln_tune::Result<f64> {
    let learning_rate = trial.suggest_float_log("learning_rate", 1e-5, 1.0)?;
    let dropout = trial.suggest_float("dropout", 0.0, 0.8)?;
    let floor = 0.05 + 0.05 * (learning_rate.log10() + 2.5).powi(2) + (dropout - 0.3).powi(2);
    let mut loss = 1.0;
    for epoch in 0..EPOCHS {
        loss = floor + (1.0 - floor) * (-0.1 * f64::from(epoch)).exp();
        trial.report(loss, epoch)?;
        if trial.should_prune()? {
            return Err(TrialPruned.into());
        }
    }
    Ok(loss)
}

fn main() -> kiln_tune::Result<()> {
    let pruner = SuccessiveHalvingPruner::new()
        .min_resource(1)
        .reduction_factor(3);
    let study = Study::builder().pruner(pruner).create()?;
    study.optimize(objective, Budget::trials(200).n_jobs(4))?;

    let trials = study.trials()?;
    let pruned = trials
        .iter()
        .filter(|trial| trial.state == TrialState::Pruned)
        .count();
    let epochs: usize = trials
        .iter()
        .map(|trial| trial.intermediate_values.len())
        .sum();
    println!("{pruned} of {} trials were pruned", trials.len());
    println!(
        "{epochs} of {} epochs were trained",
        trials.len() * EPOCHS as usize
    );
    println!(
        "best loss {:.4} with {:?}",
        study.best_value()?,
        study.best_params()?.value("learning_rate")
    );
    Ok(())
}
