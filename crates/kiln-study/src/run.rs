//! run: tunes any program.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;

use super::heartbeat::HeartbeatArgs;
use super::logs::Logs;
use super::output::{params_text, values_text};
use super::process::{Event, Process};
use super::search::SearchArgs;
use super::space::{ParamSpec, parse_param, space};
use super::terminator::{StopArgs, callback, reason_to_end};
use super::transcript::Transcript;
use super::{CliResult, Failure, StudyArgs, trials};
use kiln_tune::error::{BoxError, Error, TrialPruned};
use kiln_tune::printable;
use kiln_tune::study::{Budget, Study, StudyBuilder, StudyDirection};
use kiln_tune::sync::lock;
use kiln_tune::terminator::report_cross_validation_scores;
use kiln_tune::trial::{FIXED_PARAMS_KEY, FrozenTrial, ParamSpace, Trial, TrialState};

pub(crate) const AFTER_HELP: &str = "\
Example:
  kiln-study run --storage sqlite:///study.db --study first --param 'lr=float:1e-5..1e-1:log' \\
      --param 'layers=int:1..5' --trials 50 --jobs 2 -- ./train.sh --lr {lr} --layers {layers}

The command:
  {NAME} stands for the value of a parameter, {trial} for the number of the trial, {{ and }} for braces. The same is in the
  environment: KILN_PARAM_NAME, KILN_TRIAL, KILN_STUDY. It runs without a shell; write `-- sh -c '...'` to have one.

Its output:
  The value is that of the last line {\"value\": 0.25} (or {\"values\": [0.25, 3]}); otherwise, with --metric loss, that of
  the last `loss: 0.25`, `loss=0.25`, `'loss': 0.25`, {\"loss\": 0.25} or column `loss` of a table; otherwise the last number
  printed. Counters (`25/25`), percentages, times and rates are no values, nor are other JSON objects; null and NaN fail
  the trial.
  Lines like {\"step\": 3, \"value\": 0.5}, {\"step\": 3, \"values\": [0.5, 12]}, `step 3: 0.5` or `Epoch 3/10 loss 0.5` report
  intermediate values, and so do the lines below `Epoch 3/10` that have the metric or end a progress bar; of several
  objectives once all have a value at the step. When the pruner finds them too bad, the program is ended with everything it
  started. A JSON line with a value may hold \"constraints\" and \"user_attrs\" objects, too, and a list \"cv_scores\" of
  cross-validation scores; those of the last one count. An exit code other than 0 fails the trial.";

/// The most programs at once: each takes a thread, and a system has some thousands.
const MAX_JOBS: usize = 1000;

/// Settings of `run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    study: StudyArgs,
    /// A parameter: NAME=float:LOW..HIGH[:log|:step=S], NAME=int:LOW..HIGH[:log|:step=S] or NAME=choice:A,B,C
    #[arg(long, short, value_name = "SPEC", required = true, value_parser = parse_param)]
    param: Vec<ParamSpec>,
    /// What becomes of the value: minimize or maximize; once per objective [default: that of the study, or minimize]
    #[arg(long, alias = "directions", value_name = "DIRECTION")]
    direction: Vec<StudyDirection>,
    /// Name of the value in the output, as in `loss: 0.25`; once per objective [default: the last number counts]
    #[arg(long, value_name = "NAME")]
    metric: Vec<String>,
    /// Number of trials of this run
    #[arg(long, short = 'n', value_name = "N")]
    trials: Option<u64>,
    /// No trial starts after this time: 600, 90s, 15m or 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// A trial that takes longer is ended and fails
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    trial_timeout: Option<Duration>,
    /// Run no parameters twice that a complete trial has: such a trial gets the old values and does not count for --trials
    #[arg(long)]
    skip_duplicates: bool,
    /// Programs that run at once; 0 is one per core
    #[arg(long, short, value_name = "N", default_value_t = 1)]
    jobs: usize,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    stop: StopArgs,
    /// Write the output of each trial to DIR/trial-NUMBER.log (in DIR/STUDY/ if another study has its logs in DIR)
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    #[command(flatten)]
    heartbeat: HeartbeatArgs,
    /// Print no line per trial
    #[arg(long, short)]
    quiet: bool,
    /// Print the best trial as one JSON object at the end
    #[arg(long)]
    json: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Failures in a row that end a run which neither a number of trials nor a time does.
const MAX_FAILURES: usize = 100;

impl Run {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let space = space(&self.param).map_err(Failure::Usage)?;
        let template = Template::new(&self.command, &space).map_err(Failure::Usage)?;
        if self.trials.is_none() && self.timeout.is_none() && !self.stop.is_given() {
            return Err(Failure::Usage(
                "nothing says when to stop; write --trials N, --timeout TIME or --stop-when-no-better N"
                    .to_owned(),
            ));
        }
        if self.jobs > MAX_JOBS {
            return Err(Failure::Usage(format!(
                "--jobs must be at most {MAX_JOBS}, but got {}",
                self.jobs
            )));
        }
        let study = self.open_study(&space)?;
        let n_objectives = study.directions().len();
        if !self.metric.is_empty() && self.metric.len() != n_objectives {
            return Err(Failure::Usage(format!(
                "{} metrics are named for {n_objectives} objectives; write --metric NAME once per objective",
                self.metric.len()
            )));
        }
        if self.metric.iter().any(String::is_empty) {
            return Err(Failure::Usage("--metric needs a name".to_owned()));
        }
        // Otherwise every trial would fail for the same reason.
        study.check_space(&space).map_err(|error| {
            Failure::message(format!(
                "{error}; give the parameters that study {:?} has, or another name with --study",
                study.name()
            ))
        })?;
        let rules = self.stop.rules(&study, self.search.seed())?;
        if let Some(says) = reason_to_end(&rules, &study)? {
            let _ = writeln!(std::io::stderr(), "no trial is run: {}", printable(says));
            return self.print_best(&study, out);
        }
        let logs = match &self.log_dir {
            Some(directory) => Some(Logs::new(directory, study.name())?),
            None => None,
        };
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in signals() {
            // The second Ctrl-C ends this program at once. Of the others a second one says nothing: a terminal that is closed and
            // the shell in it send one each.
            let again = if signal == signal_hook::consts::SIGINT {
                signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())
                    .map(drop)
            } else {
                Ok(())
            };
            again
                .and_then(|()| signal_hook::flag::register(signal, interrupted.clone()))
                .map_err(|error| Failure::message(format!("cannot watch for signals: {error}")))?;
        }
        let complete = AtomicUsize::new(0);
        let last_failure = Mutex::new(None);
        let worker = Worker {
            space: &space,
            template: &template,
            metrics: &self.metric,
            n_objectives,
            interrupted: &interrupted,
            any_ended: AtomicBool::new(false),
            trial_timeout: self.trial_timeout,
            logs: logs.as_ref(),
            skip_duplicates: self.skip_duplicates,
            judges: n_objectives == 1 || study.pruner().judges_several_objectives(),
        };
        if !worker.judges {
            log::warn!(
                "this pruner judges one objective only, so that no trial is pruned; --pruner asha, hyperband, median and percentile judge several"
            );
        }
        let mut budget = self
            .trials
            .map_or_else(Budget::unlimited, Budget::trials)
            .n_jobs(self.jobs)
            .catch_if(|error| !error.is::<Fatal>());
        if let Some(timeout) = self.timeout {
            budget = budget.timeout(timeout);
        }
        let (quiet, stop) = (self.quiet, interrupted.clone());
        let has_bound = self.trials.is_some() || self.timeout.is_some();
        let failures = AtomicUsize::new(0);
        budget = budget.callback(move |study, trial| {
            if !quiet {
                say(study, trial);
            }
            let in_a_row = if trial.state == TrialState::Fail {
                failures.fetch_add(1, Ordering::SeqCst) + 1
            } else {
                failures.store(0, Ordering::SeqCst);
                0
            };
            // No rule ends a study in which nothing succeeds.
            if !has_bound && in_a_row >= MAX_FAILURES {
                log::warn!("the run ends: {in_a_row} trials in a row failed");
                study.stop()?;
            }
            if stop.load(Ordering::SeqCst) {
                study.stop()?;
            }
            Ok(())
        });
        budget = budget.callback(callback(rules));
        let result = study.optimize(
            |trial: &mut Trial| {
                let result = worker.evaluate(trial);
                match &result {
                    Ok(_) => {
                        complete.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) if error.is::<TrialPruned>() => {}
                    Err(error) if is_duplicate(&**error) => {
                        complete.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) => *lock(&last_failure) = Some(error.to_string()),
                }
                result
            },
            budget,
        );
        match result {
            Err(Error::Objective { source, .. }) if interrupted.load(Ordering::SeqCst) => {
                return Err(Failure::message(source.to_string()));
            }
            other => other?,
        }
        if interrupted.load(Ordering::SeqCst) {
            return Err(Failure::message(
                "interrupted; running programs were ended and their trials marked as failed",
            ));
        }
        if complete.into_inner() == 0
            && let Some(reason) = lock(&last_failure).take()
        {
            return Err(Failure::message(format!(
                "no trial of this run is complete; the last one failed: {reason}"
            )));
        }
        self.print_best(&study, out)
    }

    fn print_best(&self, study: &Study, out: &mut dyn Write) -> CliResult {
        match trials::print_best(study, self.json, out) {
            // The run has done its work; there is just nothing to be proud of.
            Err(Failure::Work(Error::NoTrials(reason))) => {
                let _ = writeln!(std::io::stderr(), "{}", printable(&reason));
                if self.json {
                    writeln!(out, "null")?;
                }
                Ok(())
            }
            other => other,
        }
    }

    fn open_study(&self, space: &ParamSpace) -> CliResult<Study> {
        let url = self.study.storage.url()?;
        let storage = self.heartbeat.open(&url)?;
        let storage_studies = storage.get_all_studies()?;
        let mut builder = self
            .search
            .apply(StudyBuilder::new(), space)?
            .shared_storage(storage.clone())
            .load_if_exists(true);
        let name = match (&self.study.study, &storage_studies[..]) {
            (Some(name), _) => Some(name.clone()),
            (None, []) => None,
            (None, [only]) => Some(only.name.clone()),
            (None, _) => {
                let hint = super::hint_of_names(&*storage)?;
                return Err(Failure::Usage(format!(
                    "no study is named; write --study NAME{hint}"
                )));
            }
        };
        if let Some(name) = name {
            builder = builder.name(name);
        }
        if !self.direction.is_empty() {
            builder = builder.directions(self.direction.clone());
        }
        Ok(builder.create()?)
    }
}

/// The signals that end a run with everything it started. Ctrl-C, `kill`, a closed terminal and Ctrl-\ are signals to
/// this program alone, since each program of a trial has a group of its own.
#[cfg(unix)]
fn signals() -> Vec<std::ffi::c_int> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let mut signals = vec![SIGINT, SIGTERM, SIGQUIT];
    // `nohup` lets a run outlive its terminal by having this signal ignored.
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    signals
}

#[cfg(not(unix))]
fn signals() -> Vec<std::ffi::c_int> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    vec![SIGINT, SIGTERM]
}

/// Whether this program was started with a signal ignored, as far as the system says so.
#[cfg(unix)]
fn is_ignored(signal: std::ffi::c_int) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn is_duplicate(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(Error::Duplicate(_)))
}

/// An error that ends the whole run, because every other trial would have it, too.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fatal(String);

/// An error of the study: fatal if it lies in the space or the settings, which all trials share.
fn fatal_if_shared(error: Error) -> BoxError {
    match error {
        Error::IncompatibleDistribution { .. }
        | Error::InvalidDistribution(_)
        | Error::InvalidArgument(_)
        | Error::MultiObjective { .. } => Fatal(error.to_string()).into(),
        error => error.into(),
    }
}

struct Worker<'a> {
    space: &'a ParamSpace,
    template: &'a Template,
    metrics: &'a [String],
    n_objectives: usize,
    interrupted: &'a AtomicBool,
    /// Whether a program of this run has ended as it should.
    any_ended: AtomicBool,
    trial_timeout: Option<Duration>,
    logs: Option<&'a Logs>,
    skip_duplicates: bool,
    /// Whether the pruner can judge reports of this study.
    judges: bool,
}

impl Worker<'_> {
    /// Runs the program with the parameters of the trial.
    fn evaluate(&self, trial: &mut Trial) -> Result<Vec<f64>, BoxError> {
        // What is wrong with the values that somebody enqueued is wrong with this trial alone.
        let enqueued = trial.record().system_attrs.contains_key(FIXED_PARAMS_KEY);
        for (name, distribution) in self.space.iter() {
            let suggested = trial.suggest(name, (**distribution).clone());
            suggested.map_err(|error| {
                if enqueued {
                    error.into()
                } else {
                    fatal_if_shared(error)
                }
            })?;
        }
        if self.skip_duplicates {
            trial.skip_duplicate()?;
        }
        let command = self.template.fill(trial.record());
        let log = self.logs.map(|logs| logs.create(trial.number()));
        let log = log.transpose().map_err(Fatal)?;
        let mut process = Process::start(&command, &environment(trial), log)
            .map_err(|error| Fatal(format!("cannot start {:?}: {error}", command[0])))?;
        let mut transcript = Transcript::new(self.metrics, self.n_objectives);
        let ended = self.watch(trial, &mut process, &mut transcript);
        // Also with a trial that fails or is pruned: it is then that they are read.
        let notes = transcript.notes();
        for (key, value) in notes.attrs {
            trial.set_user_attr(key, value)?;
        }
        for (key, value) in notes.constraints {
            trial.set_constraint(&key, value)?;
        }
        if let Some(scores) = notes.scores {
            report_cross_validation_scores(trial, &scores)?;
        }
        ended?;
        Ok(transcript.values()?)
    }

    /// Follows a program to its end.
    fn watch(
        &self,
        trial: &mut Trial,
        process: &mut Process,
        transcript: &mut Transcript<'_>,
    ) -> Result<(), BoxError> {
        let start = Instant::now();
        let status = loop {
            if self.interrupted.load(Ordering::SeqCst) {
                process.stop();
                return Err(Fatal(
                    "interrupted; running programs were ended and their trials marked as failed"
                        .to_owned(),
                )
                .into());
            }
            if let Some(limit) = self.trial_timeout.filter(|limit| start.elapsed() > *limit) {
                process.stop();
                return Err(format!("timed out after {} s", limit.as_secs_f64()).into());
            }
            match process.next()? {
                Event::Ended(status) => break status,
                Event::Nothing => {}
                Event::Line(line) => {
                    let reports = transcript.read(&line).inspect_err(|_| process.stop())?;
                    for report in reports {
                        trial.report_multi(&report.values, report.step)?;
                        if self.judges && trial.should_prune().map_err(fatal_if_shared)? {
                            process.stop();
                            self.any_ended.store(true, Ordering::SeqCst);
                            return Err(TrialPruned.into());
                        }
                    }
                }
            }
        };
        if !status.success() {
            let reason = format!("the program ended with {status}");
            return Err(match status.code().and_then(not_run) {
                Some(why) if !self.any_ended.load(Ordering::SeqCst) => {
                    Fatal(format!("{reason}: {why}")).into()
                }
                _ => reason.into(),
            });
        }
        self.any_ended.store(true, Ordering::SeqCst);
        // Its last epoch needs no judgement any more, but other trials are compared with it.
        if let Some(report) = transcript.end() {
            trial.report_multi(&report.values, report.step)?;
        }
        Ok(())
    }
}

/// What a shell says by its exit code about a command that it could not run.
fn not_run(code: i32) -> Option<&'static str> {
    match code {
        126 => Some("a shell says so of a command that it may not execute"),
        127 => Some("a shell says so of a command that it does not find"),
        _ => None,
    }
}

fn environment(trial: &Trial) -> Vec<(String, String)> {
    let params = trial.params().iter().map(|param| {
        (
            format!("KILN_PARAM_{}", param.name),
            param.value().to_string(),
        )
    });
    let more = [
        ("KILN_TRIAL".to_owned(), trial.number().to_string()),
        ("KILN_STUDY".to_owned(), trial.study().name().to_owned()),
    ];
    params
        .chain(more)
        .filter(|(key, _)| !key.contains(['=', '\0']))
        .collect()
}

/// One line per finished trial on stderr.
fn say(study: &Study, trial: &FrozenTrial) {
    let outcome = match trial.state {
        TrialState::Complete => {
            let as_before = trial
                .duplicate_of()
                .map(|of| format!(" as trial {of}, not run again,"));
            format!(
                "value {}{}",
                values_text(trial.values.as_deref()),
                as_before.unwrap_or_default()
            )
        }
        TrialState::Pruned => format!("pruned at step {}", trial.last_step().unwrap_or(0)),
        _ => format!("failed: {}", trial.fail_reason().unwrap_or("no value")),
    };
    let best = match study.best_trial() {
        Ok(best) if !study.is_multi_objective() => format!(
            "; best {} (trial {})",
            values_text(best.values.as_deref()),
            best.number
        ),
        _ => String::new(),
    };
    let line = format!(
        "trial {}: {outcome} with {}{best}",
        trial.number,
        params_text(trial)
    );
    let _ = writeln!(std::io::stderr(), "{}", printable(&line));
}

/// The command with its placeholders.
struct Template {
    arguments: Vec<Vec<Piece>>,
}

enum Piece {
    Text(String),
    Param(String),
    Number,
}

impl Template {
    fn new(command: &[String], space: &ParamSpace) -> Result<Self, String> {
        let arguments = command
            .iter()
            .map(|argument| pieces(argument, space))
            .collect::<Result<_, _>>()?;
        Ok(Self { arguments })
    }

    fn fill(&self, trial: &FrozenTrial) -> Vec<String> {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Number => trial.number.to_string(),
            Piece::Param(name) => trial
                .params
                .value(name)
                .map_or_else(String::new, |value| value.to_string()),
        };
        self.arguments
            .iter()
            .map(|pieces| pieces.iter().map(text).collect())
            .collect()
    }
}

fn pieces(argument: &str, space: &ParamSpace) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = argument;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        let brace = &after[..1];
        if after[1..].starts_with(brace) {
            text.push_str(brace);
            rest = &after[2..];
            continue;
        }
        let name = after[1..]
            .split_once('}')
            .map(|(name, _)| name)
            .filter(|_| brace == "{");
        let piece = match name {
            Some("trial") if !space.contains("trial") => Piece::Number,
            Some(name) if space.contains(name) => Piece::Param(name.to_owned()),
            Some(name) => {
                let names: Vec<String> = space
                    .iter()
                    .map(|(name, _)| format!("{{{name}}}"))
                    .collect();
                return Err(format!(
                    "{argument:?} asks for {{{name}}}, but the parameters are {} and {{trial}}; write {{{{ and }}}} for braces",
                    names.join(", ")
                ));
            }
            None => {
                return Err(format!(
                    "{argument:?} has a brace without its partner; write {{{{ and }}}} for braces"
                ));
            }
        };
        pieces.push(Piece::Text(std::mem::take(&mut text)));
        pieces.push(piece);
        rest = &after[name.map_or(1, |name| name.len() + 2)..];
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// Reads `90s`, `15m`, `2h`; a number alone is seconds.
///
/// # Errors
/// Says how to write a time.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text
        .trim()
        .char_indices()
        .find(|(_, c)| c.is_ascii_alphabetic())
    {
        Some((at, _)) => text.trim().split_at(at),
        None => (text.trim(), "s"),
    };
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => {
            return Err(format!(
                "write a time like 90s, 15m or 2h, but got {text:?}"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("write a time like 90s, 15m or 2h, but got {text:?}"))?;
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| format!("a time must be positive, but got {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_braces_kept() {
        let space: ParamSpace = [("lr", parse_param("lr=float:0..1").unwrap().distribution)]
            .into_iter()
            .collect();
        let command =
            ["--lr={lr}", "{trial}:{lr}", "awk '{{print $1}}'", "plain"].map(str::to_owned);
        let template = Template::new(&command, &space).unwrap();
        let mut trial = kiln_tune::TrialBuilder::new()
            .param("lr", 0.5, space.get("lr").unwrap().as_ref().clone())
            .value(0.0)
            .build()
            .unwrap();
        trial.number = 7;
        assert_eq!(
            template.fill(&trial),
            ["--lr=0.5", "7:0.5", "awk '{print $1}'", "plain"]
        );
        for (argument, reason) in [("{rate}", "{lr}"), ("{lr", "partner"), ("lr}", "partner")] {
            let error = Template::new(&[argument.to_owned()], &space).err().unwrap();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("90", 90.0),
            ("90s", 90.0),
            ("15m", 900.0),
            ("1.5h", 5400.0),
            ("250ms", 0.25),
        ] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs_f64(seconds)));
        }
        for text in ["", "0s", "-1s", "5 parsecs", "1e400h"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
