//! Minimizes a quadratic: `cargo run --release -p kiln-tune --example quadratic`.

use kiln_tune::{Study, Trial};

fn objective(trial: &mut Trial) -> kiln_tune::Result<f64> {
    let x = trial.suggest_float("x", -10.0, 10.0)?;
    Ok((x - 2.0).powi(2))
}

fn main() -> kiln_tune::Result<()> {
    let study = Study::builder().create()?;
    study.optimize(objective, 100)?;
    println!(
        "x = {}, value = {:.6}",
        study.best_params()?.value("x").unwrap(),
        study.best_value()?
    );
    Ok(())
}
