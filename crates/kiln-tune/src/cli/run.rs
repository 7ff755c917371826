//! run: tunes any program.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;

use super::heartbeat::HeartbeatArgs;
use super::lines::{Line, parse_line};
use super::output::{params_text, values_text};
use super::process::{Event, Process};
use super::search::SearchArgs;
use super::space::{ParamSpec, parse_param, space};
use super::{CliResult, Failure, StudyArgs, trials};
use crate::error::{BoxError, Error, TrialPruned};
use crate::study::{Budget, Study, StudyBuilder, StudyDirection};
use crate::sync::lock;
use crate::trial::{FrozenTrial, ParamSpace, Trial, TrialState};

pub(super) const AFTER_HELP: &str = "\
Example:
  kiln-study run --storage sqlite:///study.db --study first --param 'lr=float:1e-5..1e-1:log' \\
      --param 'layers=int:1..5' --trials 50 --jobs 2 -- ./train.sh --lr {lr} --layers {layers}

The command:
  {NAME} stands for the value of a parameter, {trial} for the number of the trial, {{ and }} for braces. The same is in the
  environment: KILN_PARAM_NAME, KILN_TRIAL, KILN_STUDY. It runs without a shell; write `-- sh -c '...'` to have one.

Its output:
  The value is that of the last line {\"value\": 0.25} (or {\"values\": [0.25, 3]}), otherwise the last number printed.
  Lines like {\"step\": 3, \"value\": 0.5}, `step 3: 0.5` or `Epoch 3/10 loss 0.5` report intermediate values; when the pruner
  finds them too bad, the program is ended with everything it started. A line with a value may hold \"constraints\" and
  \"user_attrs\" objects, too. An exit code other than 0 fails the trial.";

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
    /// Number of trials of this run
    #[arg(long, short = 'n', value_name = "N")]
    trials: Option<u64>,
    /// No trial starts after this time: 600, 90s, 15m or 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// A trial that takes longer is ended and fails
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    trial_timeout: Option<Duration>,
    /// Programs that run at once; 0 is one per core
    #[arg(long, short, value_name = "N", default_value_t = 1)]
    jobs: usize,
    #[command(flatten)]
    search: SearchArgs,
    /// Write the output of each trial to DIR/trial-NUMBER.log
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

impl Run {
    pub(super) fn execute(self, out: &mut dyn Write) -> CliResult {
        let space = space(&self.param).map_err(Failure::Usage)?;
        let template = Template::new(&self.command, &space).map_err(Failure::Usage)?;
        if self.trials.is_none() && self.timeout.is_none() {
            return Err(Failure::Usage(
                "nothing says when to stop; write --trials N or --timeout TIME".to_owned(),
            ));
        }
        let study = self.open_study(&space)?;
        if let Some(directory) = &self.log_dir {
            std::fs::create_dir_all(directory).map_err(|error| {
                Failure::message(format!("cannot make {}: {error}", directory.display()))
            })?;
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The second one ends this program at once.
            signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())
                .and_then(|_| signal_hook::flag::register(signal, interrupted.clone()))
                .map_err(|error| Failure::message(format!("cannot watch for signals: {error}")))?;
        }
        let complete = AtomicUsize::new(0);
        let last_failure = Mutex::new(None);
        let worker = Worker {
            space: &space,
            template: &template,
            n_objectives: study.directions().len(),
            interrupted: &interrupted,
            trial_timeout: self.trial_timeout,
            log_dir: self.log_dir.as_deref(),
        };
        let mut budget = self
            .trials
            .map_or_else(Budget::unlimited, Budget::trials)
            .n_jobs(self.jobs)
            .catch_if(|error| !error.is::<Fatal>());
        if let Some(timeout) = self.timeout {
            budget = budget.timeout(timeout);
        }
        let (quiet, stop) = (self.quiet, interrupted.clone());
        budget = budget.callback(move |study, trial| {
            if !quiet {
                say(study, trial);
            }
            if stop.load(Ordering::SeqCst) {
                study.stop()?;
            }
            Ok(())
        });
        let result = study.optimize(
            |trial: &mut Trial| {
                let result = worker.evaluate(trial);
                match &result {
                    Ok(_) => {
                        complete.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) if error.is::<TrialPruned>() => {}
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
        match trials::print_best(&study, self.json, out) {
            // The run has done its work; there is just nothing to be proud of.
            Err(Failure::Work(Error::NoTrials(reason))) => {
                let _ = writeln!(std::io::stderr(), "{reason}");
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

/// An error that ends the whole run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fatal(String);

struct Worker<'a> {
    space: &'a ParamSpace,
    template: &'a Template,
    n_objectives: usize,
    interrupted: &'a AtomicBool,
    trial_timeout: Option<Duration>,
    log_dir: Option<&'a std::path::Path>,
}

impl Worker<'_> {
    /// Runs the program with the parameters of the trial.
    fn evaluate(&self, trial: &mut Trial) -> Result<Vec<f64>, BoxError> {
        for (name, distribution) in self.space.iter() {
            trial.suggest(name, (**distribution).clone())?;
        }
        let command = self.template.fill(trial.record());
        let log = self
            .log_dir
            .map(|directory| directory.join(format!("trial-{}.log", trial.number())));
        let mut process = Process::start(&command, &environment(trial), log.as_deref())
            .map_err(|error| Fatal(format!("cannot start {:?}: {error}", command[0])))?;
        let start = Instant::now();
        let mut last_number_line: Vec<f64> = Vec::new();
        let mut result = None;
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
                Event::Line(line) => match parse_line(&line) {
                    Line::Report { step, value } => {
                        last_number_line = vec![value];
                        if self.n_objectives == 1 {
                            trial.report(value, step)?;
                            if trial.should_prune()? {
                                process.stop();
                                return Err(TrialPruned.into());
                            }
                        }
                    }
                    Line::Result {
                        values,
                        constraints,
                        attrs,
                    } => {
                        for (key, value) in attrs {
                            trial.set_user_attr(key, value)?;
                        }
                        for (key, value) in constraints {
                            trial.set_constraint(&key, value)?;
                        }
                        result = Some(values);
                    }
                    Line::Numbers(numbers) if numbers.len() >= self.n_objectives => {
                        last_number_line = numbers
                    }
                    Line::Numbers(_) => {}
                },
            }
        };
        if !status.success() {
            return Err(format!("the program ended with {status}").into());
        }
        let values = result.unwrap_or_else(|| {
            last_number_line[last_number_line.len().saturating_sub(self.n_objectives)..].to_vec()
        });
        if values.len() != self.n_objectives {
            return Err(format!("the program printed {} of {} values; its last line of numbers is taken, or {{\"values\": [...]}}", values.len(), self.n_objectives).into());
        }
        if values.iter().any(|value| value.is_nan()) {
            return Err("the program printed NaN as its value".into());
        }
        Ok(values)
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
        TrialState::Complete => format!("value {}", values_text(trial.values.as_deref())),
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
    let _ = writeln!(
        std::io::stderr(),
        "trial {}: {outcome} with {}{best}",
        trial.number,
        params_text(trial)
    );
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

/// `90`, `90s`, `15m`, `2h`, `1.5h`.
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
        let mut trial = crate::trial::TrialBuilder::new()
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
