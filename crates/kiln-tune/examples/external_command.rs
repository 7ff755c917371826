//! Tuning an external command: any program that prints a number.
//!
//! `cargo run --release -p kiln-tune --example external_command`
//!
//! prints something like
//!
//! ```text
//! best value 0.0021 with x=3.02 y=-0.97
//! ```
//!
//! From the command line the same is
//! `kiln-study run --storage sqlite:///study.db --param 'x=float:-10..10' --param 'y=float:-10..10' -n 40 -- awk ... {x} {y}`,
//! which also reads intermediate values, prunes, and ends programs that take too long.

use std::process::Command;

use kiln_tune::{BoxError, Study, Trial};

/// Stands for a training script: it gets its hyperparameters as arguments and prints its loss.
fn train(x: f64, y: f64) -> Result<f64, BoxError> {
    let script = "BEGIN { x = ARGV[1]; y = ARGV[2]; print \"loss:\", (x - 3) ^ 2 + (y + 1) ^ 2 }";
    let output = Command::new("awk")
        .args([script, &x.to_string(), &y.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(format!(
            "awk ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    let printed = String::from_utf8(output.stdout)?;
    let last = printed
        .split_whitespace()
        .next_back()
        .ok_or("awk printed nothing")?;
    Ok(last.parse()?)
}

fn main() -> Result<(), BoxError> {
    let study = Study::builder().name("external").create()?;
    study.optimize(
        |trial: &mut Trial| {
            let x = trial.suggest_float("x", -10.0, 10.0)?;
            let y = trial.suggest_float("y", -10.0, 10.0)?;
            train(x, y)
        },
        40,
    )?;
    let best = study.best_trial()?;
    let params: Vec<String> = best
        .params
        .iter()
        .map(|param| format!("{}={:.2}", param.name, param.internal))
        .collect();
    println!(
        "best value {:.4} with {}",
        study.best_value()?,
        params.join(" ")
    );
    Ok(())
}
