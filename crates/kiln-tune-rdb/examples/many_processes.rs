//! Many processes on one study: each is a worker that asks the shared storage for trials.
//!
//! `cargo run --release -p kiln-tune-rdb --example many_processes -- sqlite:///shared.db 4 200`
//!
//! starts 4 processes that finish 200 trials together, and prints
//!
//! ```text
//! 200 trials by 4 processes, best value 0.0123
//! ```
//!
//! The same works from several machines on one `postgresql://` (`--features postgres`) or `mysql://` (`--features mysql`)
//! URL, and together with Python workers of Optuna. `interop/run.sh` uses this program for that.

use std::process::{Command, ExitCode};
use std::sync::Arc;

use kiln_tune::{BoxError, Storage, Study, Trial, TrialState};
use kiln_tune_rdb::open;

const STUDY: &str = "many-processes";

fn objective(trial: &mut Trial) -> kiln_tune::Result<f64> {
    let mut value = 0.0;
    for i in 0..5 {
        let x = trial.suggest_float(&format!("x{i}"), -1.0, 1.0)?;
        value += x * x;
        trial.report(value, i)?;
    }
    trial.set_user_attr("process", i64::from(std::process::id()))?;
    Ok(value)
}

fn study(storage: Arc<dyn Storage>) -> kiln_tune::Result<Study> {
    Study::builder()
        .name(STUDY)
        .shared_storage(storage)
        .load_if_exists(true)
        .create()
}

fn worker(url: &str, trials: u64) -> kiln_tune::Result<()> {
    study(open(url)?)?.optimize(objective, trials)
}

fn run() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", url, trials] => Ok(worker(url, trials.parse()?)?),
        [url, processes, trials] => {
            let (processes, trials): (u64, u64) = (processes.parse()?, trials.parse()?);
            let share = |i: u64| trials / processes + u64::from(i < trials % processes);
            let program = std::env::current_exe()?;
            let spawn = |i| {
                Command::new(&program)
                    .args(["worker", url, &share(i).to_string()])
                    .spawn()
            };
            let children: Vec<_> = (0..processes).map(spawn).collect::<Result<_, _>>()?;
            for mut child in children {
                if !child.wait()?.success() {
                    return Err("a worker failed".into());
                }
            }
            let study = study(open(url)?)?;
            let complete = study.trials_in(&[TrialState::Complete])?.len();
            println!(
                "{complete} trials by {processes} processes, best value {:.4}",
                study.best_value()?
            );
            Ok(())
        }
        _ => Err("usage: many_processes URL PROCESSES TRIALS".into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error
                .source()
                .map_or_else(String::new, |cause| format!(": {cause}"));
            eprintln!("{error}{cause}");
            ExitCode::FAILURE
        }
    }
}
