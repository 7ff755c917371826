//! Two processes on one study, one of which is killed in the middle of a trial.
//!
//! ```text
//! $ cargo run --release -p example-two-processes -- two-processes.png
//! A was killed in trial 19
//! 80 trials complete: 9 by A, 71 by B
//! trial 19 was tried again as trial 33
//! ```
//!
//! All that the processes share is a file: each asks it for trials and writes what it found. A process that dies stops
//! marking its trial as alive; two seconds later the other one fails that trial and tries its parameters again. On two
//! machines it is the same with a `postgresql://` or `mysql://` URL instead of the file. `kiln tune --heartbeat 30s
//! --retry 1` works like that too: run the same command twice.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kiln_plot::{Curve, curves};
use kiln_tune::storage::retry_stale_trial;
use kiln_tune::{Budget, FrozenTrial, Json, Study, Trial, TrialState, max_trials_callback};
use kiln_tune_rdb::RdbOptions;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Trials that both complete together.
const TRIALS: usize = 80;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = match &arguments[..] {
        [worker, url, name] if worker == "worker" => return Ok(work(url, name)?),
        [path, ..] => path,
        [] => "two-processes.png",
    };
    let file = std::env::temp_dir().join(format!("kiln-two-processes-{}.db", std::process::id()));
    let url = format!("sqlite:///{}", file.display());
    let study = open(&url)?;
    let start = |name: &str| {
        let program = std::env::current_exe()?;
        Command::new(program).args(["worker", &url, name]).spawn()
    };
    let (mut a, mut b) = (start("A")?, start("B")?);
    // A dies when a quarter is done, early in a trial.
    let killed = loop {
        let all = study.trials()?;
        let is_new = |trial: &&Arc<FrozenTrial>| {
            trial.state == TrialState::Running && of("A")(trial) && trial.last_step().is_none()
        };
        match all.iter().find(is_new) {
            Some(trial) if all.len() >= TRIALS / 4 => break trial.number,
            _ if a.try_wait()?.is_some() => return Err("A ended before it was killed".into()),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    a.kill()?;
    a.wait()?;
    println!("A was killed in trial {killed}");
    if !b.wait()?.success() {
        return Err("B failed".into());
    }

    let complete = study.trials_in(&[TrialState::Complete])?;
    let count = |name| complete.iter().filter(|trial| of(name)(trial)).count();
    let (all, by_a, by_b) = (complete.len(), count("A"), count("B"));
    println!("{all} trials complete: {by_a} by A, {by_b} by B");
    let first = Json::from(killed as i64);
    let is_copy =
        |trial: &&Arc<FrozenTrial>| trial.system_attrs.get("failed_trial") == Some(&first);
    let copy = complete.iter().find(is_copy);
    let copy = copy.ok_or("the trial of the dead process was not tried again")?;
    println!("trial {killed} was tried again as trial {}", copy.number);

    let began = study.trials()?[0].datetime_start;
    let seconds = |trial: &FrozenTrial| Some((trial.datetime_complete? - began?).as_seconds_f64());
    let curve = |name: &str, of: &dyn Fn(&FrozenTrial) -> bool| {
        let ends = complete.iter().filter(|trial| of(trial));
        let mut ends: Vec<f64> = ends.filter_map(|trial| seconds(trial)).collect();
        ends.sort_by(f64::total_cmp);
        let points = ends.into_iter().zip((1..).map(f64::from)).collect();
        let name = name.into();
        Curve { name, points }
    };
    let (a, b) = (curve("A", &of("A")), curve("B", &of("B")));
    let lines = [curve("both", &|_| true), b, a];
    curves("Complete trials", "seconds", "trials", false, &lines).save(path)?;
    println!("written: {path}");
    std::fs::remove_file(file)?;
    if all != TRIALS || by_a == 0 || by_a + by_b != all {
        return Err("the counts do not add up".into());
    }
    Ok(())
}

/// Whether a trial was a process's.
fn of(name: &str) -> impl Fn(&FrozenTrial) -> bool {
    let name = Json::from(name);
    move |trial| trial.user_attrs.get("process") == Some(&name)
}

fn open(url: &str) -> kiln_tune::Result<Study> {
    let options = RdbOptions::new()
        .heartbeat_interval(Duration::from_secs(1))
        .on_stale_trial(retry_stale_trial(Some(1), false));
    let builder = Study::builder().name("shared").storage(options.open(url)?);
    builder.load_if_exists(true).create()
}

/// A process's part: trials until the study has enough of them, whoever completed them.
fn work(url: &str, name: &str) -> kiln_tune::Result<()> {
    let enough = max_trials_callback(TRIALS, Some(&[TrialState::Complete]));
    let budget = Budget::unlimited().callback(enough);
    open(url)?.optimize(|trial: &mut Trial| objective(trial, name), budget)
}

/// As if it trained: five epochs of 20 milliseconds.
fn objective(trial: &mut Trial, process: &str) -> kiln_tune::Result<f64> {
    trial.set_user_attr("process", process)?;
    let x = trial.suggest_float("x", -1.0, 1.0)?;
    for epoch in 1..=5 {
        std::thread::sleep(Duration::from_millis(20));
        trial.report(x * x, epoch)?;
    }
    Ok(x * x)
}
