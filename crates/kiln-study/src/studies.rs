//! create, list, show, delete.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::output::{
    attrs_json, params_text, print_json, print_table, time_json, time_text, trial_json, values_text,
};
use super::{CliResult, Failure, StorageArgs, StudyArgs, hint_of_names};
use kiln_tune::error::Error;
use kiln_tune::printable;
use kiln_tune::study::{StudyBuilder, StudyDirection, get_all_study_summaries};
use kiln_tune::trial::TrialState;

/// Settings of `create`.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    study: StudyArgs,
    /// What becomes of the value: minimize or maximize; once per objective [default: minimize]
    #[arg(long, alias = "directions", value_name = "DIRECTION", num_args = 1..)]
    direction: Vec<StudyDirection>,
    /// Name of an objective, for tables and plots; once per objective
    #[arg(long, value_name = "NAME")]
    metric_name: Vec<String>,
    /// Succeed when the study exists already
    #[arg(long)]
    skip_if_exists: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl Create {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let n_objectives = self.direction.len().max(1);
        if !self.metric_name.is_empty() && self.metric_name.len() != n_objectives {
            return Err(Failure::Usage(format!(
                "{} metric names are given for {n_objectives} objectives",
                self.metric_name.len()
            )));
        }
        let mut builder = StudyBuilder::new()
            .shared_storage(kiln_tune_rdb::open(&self.study.storage.url()?)?)
            .load_if_exists(self.skip_if_exists);
        if let Some(name) = &self.study.study {
            builder = builder.name(name);
        }
        if !self.direction.is_empty() {
            builder = builder.directions(self.direction);
        }
        let study = builder.create().map_err(|error| match error {
            Error::DuplicatedStudy { name } => Failure::message(format!("study {name:?} exists already; choose another name, or add --skip-if-exists to go on with it")),
            error => error.into(),
        })?;
        if !self.metric_name.is_empty() {
            study.set_metric_names(&self.metric_name)?;
        }
        if self.json {
            let directions: Vec<&str> = study
                .directions()
                .iter()
                .map(|direction| direction.name())
                .collect();
            print_json(
                out,
                &json!({ "name": study.name(), "id": study.id(), "directions": directions }),
            )?;
        } else {
            writeln!(out, "{}", printable(study.name()))?;
        }
        Ok(())
    }
}

/// Settings of `list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    storage: StorageArgs,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let studies = get_all_study_summaries(&self.storage.open()?)?;
        for study in &studies {
            if let Some(why) = &study.unreadable {
                let line = format!("warning: study {:?} cannot be read: {why}", study.name);
                // Whoever has closed stderr does not want it.
                let _ = writeln!(std::io::stderr(), "{}", printable(&line));
            }
        }
        if self.json {
            let studies: Vec<Value> = studies
                .iter()
                .map(|study| {
                    json!({
                        "name": study.name,
                        "id": study.id,
                        "directions": study.directions.iter().map(|direction| direction.name()).collect::<Vec<_>>(),
                        "n_trials": study.n_trials,
                        "datetime_start": time_json(study.datetime_start),
                        "best_trial": study.best_trial.as_ref().map(|trial| trial_json(trial)),
                        "user_attrs": attrs_json(&study.user_attrs),
                        "unreadable": study.unreadable,
                    })
                })
                .collect();
            return Ok(print_json(out, &Value::Array(studies))?);
        }
        let header = ["name", "direction", "trials", "best", "started (UTC)"].map(str::to_owned);
        let rows: Vec<Vec<String>> = studies
            .iter()
            .map(|study| {
                vec![
                    study.name.clone(),
                    study
                        .directions
                        .iter()
                        .map(|direction| direction.name())
                        .collect::<Vec<_>>()
                        .join(", "),
                    match study.unreadable {
                        None => study.n_trials.to_string(),
                        Some(_) => "?".to_owned(),
                    },
                    study
                        .best_trial
                        .as_ref()
                        .map_or_else(String::new, |trial| values_text(trial.values.as_deref())),
                    time_text(study.datetime_start),
                ]
            })
            .collect();
        Ok(print_table(out, &header, &rows)?)
    }
}

/// Settings of `show`.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    study: StudyArgs,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let study = self.study.load()?;
        let trials = study.trials()?;
        let count = |state: TrialState| trials.iter().filter(|trial| trial.state == state).count();
        let best = study.best_trials()?;
        let directions: Vec<&str> = study
            .directions()
            .iter()
            .map(|direction| direction.name())
            .collect();
        let start = trials.iter().filter_map(|trial| trial.datetime_start).min();
        let last = trials
            .iter()
            .filter_map(|trial| trial.datetime_complete)
            .max();
        if self.json {
            let states: serde_json::Map<_, _> = TrialState::ALL
                .iter()
                .map(|state| (state.name().to_owned(), count(*state).into()))
                .collect();
            let value = json!({
                "name": study.name(),
                "id": study.id(),
                "directions": directions,
                "metric_names": study.metric_names()?,
                "n_trials": trials.len(),
                "states": states,
                "datetime_start": time_json(start),
                "datetime_last": time_json(last),
                "user_attrs": attrs_json(&study.user_attrs()?),
                "best_trials": best.iter().map(|trial| trial_json(trial)).collect::<Vec<_>>(),
            });
            return Ok(print_json(out, &value)?);
        }
        writeln!(out, "study      {}", printable(study.name()))?;
        writeln!(out, "direction  {}", directions.join(", "))?;
        if let Some(names) = study.metric_names()? {
            writeln!(out, "metrics    {}", printable(&names.join(", ")))?;
        }
        let states: Vec<String> = TrialState::ALL
            .iter()
            .map(|state| (count(*state), state))
            .filter(|(n, _)| *n > 0)
            .map(|(n, state)| format!("{n} {}", state.name().to_lowercase()))
            .collect();
        let states = if states.is_empty() {
            String::new()
        } else {
            format!(" ({})", states.join(", "))
        };
        writeln!(out, "trials     {}{states}", trials.len())?;
        if let (Some(start), Some(last)) = (start, last) {
            writeln!(
                out,
                "from, to   {} to {} UTC",
                time_text(Some(start)),
                time_text(Some(last))
            )?;
        }
        for (key, value) in study.user_attrs()? {
            let line = format!("{key} = {value}");
            writeln!(out, "attribute  {}", printable(&line))?;
        }
        match (study.is_multi_objective(), study.best_trial()) {
            (true, _) => writeln!(out, "front      {} trials; see `best`", best.len())?,
            (false, Ok(trial)) => {
                writeln!(
                    out,
                    "best       {} (trial {})",
                    values_text(trial.values.as_deref()),
                    trial.number
                )?;
                writeln!(out, "           {}", params_text(&trial))?;
            }
            (false, Err(error)) => {
                writeln!(out, "best       {}", printable(&error.to_string()))?;
            }
        }
        Ok(())
    }
}

/// Settings of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    storage: StorageArgs,
    /// Name of the study
    #[arg(long, alias = "study-name", value_name = "NAME")]
    study: String,
}

impl Delete {
    pub(crate) fn execute(self, _out: &mut dyn Write) -> CliResult {
        let storage = self.storage.open()?;
        let id = storage
            .get_study_id_from_name(&self.study)
            .or_else(|error| match error {
                Error::StudyNotFound { name, .. } => Err(Error::StudyNotFound {
                    name,
                    hint: hint_of_names(&*storage)?,
                }),
                error => Err(error),
            })?;
        Ok(storage.delete_study(id)?)
    }
}
