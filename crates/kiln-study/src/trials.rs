//! best, trials.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::output::{
    Format, params_text, print_csv, print_json, print_table, trial_json, trial_table, values_text,
};
use super::{CliResult, StudyArgs};
use kiln_tune::error::Error;
use kiln_tune::study::Study;
use kiln_tune::trial::TrialState;

/// Settings of `best`.
#[derive(Debug, Args)]
pub struct Best {
    #[command(flatten)]
    study: StudyArgs,
    /// Print the result as JSON: an object, or an array for several objectives
    #[arg(long)]
    json: bool,
}

impl Best {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        print_best(&self.study.load()?, self.json, out)
    }
}

/// Prints the best trial, or the Pareto front.
pub(crate) fn print_best(study: &Study, json: bool, out: &mut dyn Write) -> CliResult {
    if study.is_multi_objective() {
        let front = study.best_trials()?;
        if front.is_empty() {
            return Err(
                Error::NoTrials("no trial is complete (and feasible) yet".to_owned()).into(),
            );
        }
        if json {
            let front = front.iter().map(|trial| trial_json(trial)).collect();
            return Ok(print_json(out, &Value::Array(front))?);
        }
        let (header, rows) = trial_table(study, &front)?;
        return Ok(print_table(out, &header, &rows)?);
    }
    let trial = study.best_trial()?;
    if json {
        return Ok(print_json(out, &trial_json(&trial))?);
    }
    writeln!(out, "trial   {}", trial.number)?;
    writeln!(out, "value   {}", values_text(trial.values.as_deref()))?;
    writeln!(out, "params  {}", params_text(&trial))?;
    Ok(())
}

/// Settings of `trials`.
#[derive(Debug, Args)]
pub struct Trials {
    #[command(flatten)]
    study: StudyArgs,
    /// Layout of the result
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Only trials in this state: running, complete, pruned, fail or waiting; may be repeated
    #[arg(long, value_name = "STATE")]
    state: Vec<TrialState>,
}

impl Trials {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let study = self.study.load()?;
        let trials = if self.state.is_empty() {
            study.trials()?
        } else {
            study.trials_in(&self.state)?
        };
        let format = if self.json { Format::Json } else { self.format };
        if format == Format::Json {
            return Ok(print_json(
                out,
                &Value::Array(trials.iter().map(|trial| trial_json(trial)).collect()),
            )?);
        }
        let (header, rows) = trial_table(&study, &trials)?;
        match format {
            Format::Csv => print_csv(out, &header, &rows)?,
            Format::Table | Format::Json => print_table(out, &header, &rows)?,
        }
        Ok(())
    }
}
