//! The report of a study: its result, plots and trials as one HTML page.

use std::path::Path;

use kiln_plot::Page;
use kiln_tune::plot;
use kiln_tune::{FrozenTrial, Result, Study, StudyDirection, TrialState};

use super::RUN_ATTR;

/// Trials shown in the table; the others are in the database.
const SHOWN: usize = 200;

/// Writes the report of a study as an HTML page that works offline: the best trial, every plot that there are data for,
/// and the trials, the best first.
///
/// # Errors
///
/// If the study cannot be read or the page not be written.
pub fn study_report(study: &Study, path: impl AsRef<Path>) -> Result<()> {
    let trials = study.trials()?;
    let count = |state| trials.iter().filter(|trial| trial.state == state).count();
    let mut rows = vec![
        row("trials", trials.len().to_string()),
        row("complete", count(TrialState::Complete).to_string()),
        row("pruned", count(TrialState::Pruned).to_string()),
        row("failed", count(TrialState::Fail).to_string()),
    ];
    let single = !study.is_multi_objective();
    if single && let Ok(best) = study.best_trial() {
        rows.push(row("best trial", best.number.to_string()));
        rows.push(row("best value", value(&best)));
        let params = best.params.iter();
        rows.extend(params.map(|param| row(&param.name, param.value().to_string())));
        if let Some(run) = run(&best) {
            rows.push(row("best run", run));
        }
    }
    let mut page = Page::new(format!("Study {}", study.name()))
        .heading("Result")
        .table(&[], &rows);
    let objectives = if single { 1 } else { study.directions().len() };
    for objective in 0..objectives {
        let figures = plot::all(study, objective, &[])?;
        page = figures.iter().fold(page, Page::figure);
    }
    let mut sorted: Vec<&FrozenTrial> = trials.iter().map(|trial| &**trial).collect();
    if single {
        let sign = match study.direction() {
            StudyDirection::Maximize => -1.0,
            _ => 1.0,
        };
        // Those without a value come last, as they were asked.
        let place = |trial: &&FrozenTrial| match trial.state {
            TrialState::Complete => trial.value().map_or(f64::INFINITY, |value| sign * value),
            _ => f64::INFINITY,
        };
        sorted.sort_by(|a, b| place(a).total_cmp(&place(b)));
    }
    let table: Vec<Vec<String>> = sorted
        .into_iter()
        .take(SHOWN)
        .map(|trial| {
            let params: Vec<String> = trial
                .params
                .iter()
                .map(|param| format!("{} = {}", param.name, param.value()))
                .collect();
            let state = trial.state.name().to_lowercase();
            let seconds = trial.duration().map_or(String::new(), |time| {
                format!("{:.1}", time.as_seconds_f64())
            });
            let (number, run) = (trial.number.to_string(), run(trial).unwrap_or_default());
            vec![number, value(trial), state, seconds, params.join(", "), run]
        })
        .collect();
    page = page.heading(match trials.len() > SHOWN {
        true => "The best 200 trials",
        false => "Trials",
    });
    let header = ["trial", "value", "state", "seconds", "parameters", "run"];
    Ok(page.table(&header, &table).save(path)?)
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![name.into(), value]
}

fn value(trial: &FrozenTrial) -> String {
    let values = trial.values.iter().flatten();
    let values: Vec<String> = values.map(|value| format!("{value:.4}")).collect();
    values.join(", ")
}

fn run(trial: &FrozenTrial) -> Option<String> {
    Some(trial.user_attrs.get(RUN_ATTR)?.as_str()?.to_owned())
}
