//! A conditional search space as plain Rust types: `cargo run --release -p kiln-tune --example conditional`.
//!
//! The fields of a variant are parameters only in the trials which chose it. Prints the best configuration, such as
//! `Boost { learning_rate: 0.06, depth: 6 }`.

use kiln_tune::{SearchSpace, Study, TpeSampler};

#[derive(Debug, SearchSpace)]
enum Model {
    Svm {
        #[param(low = 1e-3, high = 1e3, log)]
        c: f64,
        kernel: Kernel,
    },
    Boost {
        #[param(low = 1e-4, high = 1.0, log)]
        learning_rate: f64,
        #[param(low = 1, high = 12)]
        depth: u32,
    },
}

#[derive(Debug, SearchSpace)]
enum Kernel {
    Linear,
    Rbf {
        #[param(low = 1e-4, high = 10.0, log)]
        gamma: f64,
    },
}

/// Stands for a validation error.
fn error_of(model: &Model) -> f64 {
    match model {
        Model::Svm {
            c,
            kernel: Kernel::Linear,
        } => 0.30 + 0.02 * c.log10().powi(2),
        Model::Svm {
            c,
            kernel: Kernel::Rbf { gamma },
        } => 0.12 + 0.02 * (c.log10() - 1.0).powi(2) + 0.03 * (gamma.log10() + 1.5).powi(2),
        Model::Boost {
            learning_rate,
            depth,
        } => {
            0.08 + 0.04 * (learning_rate.log10() + 1.2).powi(2)
                + 0.004 * (f64::from(*depth) - 6.0).powi(2)
        }
    }
}

fn main() -> kiln_tune::Result<()> {
    // With `group`, the parameters of each variant are sampled jointly.
    let study = Study::builder()
        .sampler(TpeSampler::new().group(true).seed(1))
        .create()?;
    study.optimize(
        |trial| trial.suggest_space::<Model>().map(|model| error_of(&model)),
        200,
    )?;
    println!(
        "{:?}: {:.4}",
        study.best_params_as::<Model>()?,
        study.best_value()?
    );
    for trial in study.trials()?.iter().take(3) {
        let names: Vec<&str> = trial.params.iter().map(|param| &*param.name).collect();
        println!(
            "trial {} had the parameters {}",
            trial.number,
            names.join(", ")
        );
    }
    Ok(())
}
