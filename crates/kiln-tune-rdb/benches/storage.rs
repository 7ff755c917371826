//! Time per trial on SQLite: ten float parameters, 200 trials, beside Optuna when a Python that has it is given.
//!
//! `cargo bench -p kiln-tune-rdb --bench storage -- path/to/python`

use std::process::Command;
use std::time::Instant;

use kiln_tune::{BoxError, RandomSampler, Study, TpeSampler, Trial};
use kiln_tune_rdb::open;

const TRIALS: u32 = 200;

/// Prints milliseconds per trial for the file and the sampler in its arguments.
const OPTUNA: &str = r#"
import sys, time, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
path, name, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])
sampler = optuna.samplers.RandomSampler(seed=1) if name == "random" else optuna.samplers.TPESampler(seed=1)
study = optuna.create_study(storage=f"sqlite:///{path}", sampler=sampler)
start = time.perf_counter()
study.optimize(lambda t: sum(t.suggest_float(f"x{i}", -1, 1) ** 2 for i in range(10)), n_trials=trials)
print((time.perf_counter() - start) / trials * 1e3)
"#;

fn objective(trial: &mut Trial) -> kiln_tune::Result<f64> {
    (0..10).try_fold(0.0, |sum, i| {
        Ok(sum + trial.suggest_float(&format!("x{i}"), -1.0, 1.0)?.powi(2))
    })
}

fn main() -> Result<(), BoxError> {
    let python = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    let directory = tempfile::tempdir()?;
    println!("SQLite, 10 float parameters, mean of {TRIALS} trials, ms per trial");
    for name in ["random", "tpe"] {
        let path = directory.path().join(format!("{name}.db"));
        let builder =
            Study::builder().shared_storage(open(&format!("sqlite:///{}", path.display()))?);
        let study = match name {
            "random" => builder.sampler(RandomSampler::new(1)).create()?,
            _ => builder.sampler(TpeSampler::new().seed(1)).create()?,
        };
        let start = Instant::now();
        study.optimize(objective, TRIALS)?;
        let ours = start.elapsed().as_secs_f64() * 1e3 / f64::from(TRIALS);
        assert_eq!(study.trials()?.len(), TRIALS as usize);
        let Some(python) = &python else {
            println!("{name:8} Kiln {ours:.3}");
            continue;
        };
        let path = directory.path().join(format!("{name}-optuna.db"));
        let output = Command::new(python)
            .args(["-c", OPTUNA])
            .arg(&path)
            .args([name, &TRIALS.to_string()])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let theirs: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        println!(
            "{name:8} Kiln {ours:.3}  Optuna {theirs:.1}  ratio {:.0}",
            theirs / ours
        );
    }
    Ok(())
}
