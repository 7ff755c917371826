//! `kiln tune`

use std::collections::BTreeMap;
use std::process::ExitCode;

use kiln::train::tune::{RUN_ATTR, study_report};
use kiln::train::{Objective, OnDiverged, RecipeSpace, TuneEnd, Tuner, shell_word};
use kiln::tune::importance::get_param_importances;
use kiln::tune::{
    FrozenTrial, ParamValue, Study, StudyBuilder, StudyDirection, TrialState, printable,
};
use kiln_study::{show_warnings, storage_url};
use serde::Serialize;

use super::report::study_file;
use super::train::{recipe, settings};
use super::{Result, make_folder};
use crate::args::{DivergedChoice, MetricChoice, Tune};
use crate::{output, signals};

/// What `--json` prints.
#[derive(Serialize)]
struct Json {
    study: String,
    storage: Option<String>,
    metric: &'static str,
    trials: usize,
    complete: usize,
    pruned: usize,
    failed: usize,
    best_trial: Option<u64>,
    best_value: Option<f64>,
    best_params: BTreeMap<String, serde_json::Value>,
    best_run: Option<String>,
    importances: BTreeMap<String, f64>,
    report: Option<String>,
    interrupted: bool,
}

pub fn run(args: Tune) -> Result<ExitCode> {
    show_warnings();
    if args.trials.is_none() && args.timeout.is_none() {
        return Err("nothing says when to stop; write --trials N or --timeout TIME".into());
    }
    let recipe = recipe(
        args.recipe_args.recipe.as_deref(),
        &settings(&args.recipe_args, [])?,
    )?;
    let space = RecipeSpace::from_file(&args.space)?;
    space.check(&recipe)?;
    let metric = metric(args.metric);
    metric.check(&recipe)?;
    let device = kiln::device::select(&recipe.device)?;
    output::note(&format!("device: {}", device.reason));
    let study = open_study(&args, &space, metric.direction())?;
    let mut tuner = Tuner::new(recipe, space, device.into())
        .metric(metric)
        .on_diverged(match args.on_diverged {
            DivergedChoice::Fail => OnDiverged::Fail,
            DivergedChoice::Worst => OnDiverged::Worst,
        })
        .jobs(args.jobs)
        .runs(&args.runs);
    if let Some(trials) = args.trials {
        tuner = tuner.trials(trials);
    }
    if let Some(timeout) = args.timeout {
        tuner = tuner.timeout(timeout);
    }
    if !args.quiet {
        tuner = tuner.on_notice(output::note);
    }
    let stop = tuner.stop_handle();
    signals::on_request("stopping the running trials after their step", move || {
        stop.stop()
    })?;
    let end = tuner.run(&study)?;
    let mut result = summarize(&args, &study, end)?;
    if result.trials > 0 {
        let report = args.runs.join(study_file(study.name()));
        make_folder(&args.runs)?;
        study_report(&study, &report)?;
        result.report = Some(report.display().to_string());
    }
    match args.json {
        true => output::json(&result)?,
        false => output::text(&text(&result))?,
    }
    Ok(match end {
        TuneEnd::Finished => ExitCode::SUCCESS,
        TuneEnd::Interrupted => {
            output::note("interrupted; the same command continues the study");
            ExitCode::from(signals::exit_code())
        }
    })
}

fn metric(choice: MetricChoice) -> Objective {
    match choice {
        MetricChoice::Accuracy => Objective::ValidAccuracy,
        MetricChoice::Loss => Objective::ValidLoss,
        MetricChoice::Dice => Objective::ValidDice,
        MetricChoice::Iou => Objective::ValidIou,
    }
}

fn open_study(args: &Tune, space: &RecipeSpace, direction: StudyDirection) -> Result<Study> {
    let mut builder = args
        .search
        .study_builder(StudyBuilder::new(), &space.param_space())?
        .name(&args.study)
        .direction(direction)
        .load_if_exists(true);
    match storage_url(args.storage.as_deref()) {
        Some(url) => builder = builder.shared_storage(args.heartbeat.open(&url)?),
        None => output::note(
            "no --storage is given: the study lives in memory, and is lost when this ends",
        ),
    }
    Ok(builder.create()?)
}

fn summarize(args: &Tune, study: &Study, end: TuneEnd) -> Result<Json> {
    let trials = study.trials()?;
    let count = |state| trials.iter().filter(|trial| trial.state == state).count();
    let best = study.best_trial().ok();
    let run = |trial: &FrozenTrial| {
        let run = trial.user_attrs.get(RUN_ATTR)?;
        Some(run.as_str()?.to_owned())
    };
    let params = best.iter().flat_map(|trial| trial.params.iter());
    let importances = match count(TrialState::Complete) {
        0 | 1 => BTreeMap::new(),
        _ => get_param_importances(study)?.into_iter().collect(),
    };
    Ok(Json {
        study: study.name().into(),
        storage: storage_url(args.storage.as_deref()),
        metric: metric(args.metric).name(),
        trials: trials.len(),
        complete: count(TrialState::Complete),
        pruned: count(TrialState::Pruned),
        failed: count(TrialState::Fail),
        best_trial: best.as_ref().map(|trial| trial.number),
        best_value: best.as_ref().and_then(|trial| trial.value()),
        best_params: params
            .map(|param| (param.name.to_string(), plain(&param.value())))
            .collect(),
        best_run: best.as_ref().and_then(|trial| run(trial)),
        importances,
        report: None,
        interrupted: end == TuneEnd::Interrupted,
    })
}

fn plain(value: &ParamValue) -> serde_json::Value {
    match value {
        ParamValue::Null => serde_json::Value::Null,
        ParamValue::Bool(value) => (*value).into(),
        ParamValue::Int(value) => (*value).into(),
        ParamValue::Float(value) => (*value).into(),
        ParamValue::Str(value) => value.as_str().into(),
        ParamValue::Json(value) => value.to_strict(),
    }
}

fn text(result: &Json) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("study", result.study.clone()),
        row(
            "trials",
            format!(
                "{}: {} complete, {} pruned, {} failed",
                result.trials, result.complete, result.pruned, result.failed
            ),
        ),
    ];
    if let (Some(number), Some(value)) = (result.best_trial, result.best_value) {
        rows.push(row("best trial", number.to_string()));
        rows.push(row(
            &format!("best {}", result.metric),
            format!("{value:.4}"),
        ));
    }
    let params = result.best_params.iter();
    rows.extend(params.map(|(name, value)| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        row(&format!("  {name}"), text)
    }));
    if !result.importances.is_empty() {
        rows.push(row("importance", String::new()));
        let mut sorted: Vec<_> = result.importances.iter().collect();
        sorted.sort_by(|a, b| b.1.total_cmp(a.1));
        let each = sorted.into_iter();
        rows.extend(
            each.map(|(name, share)| row(&format!("  {name}"), format!("{:.3}", share.max(0.0)))),
        );
    }
    if let Some(run) = &result.best_run {
        rows.push(row("best run", run.clone()));
        rows.push(row(
            "test it with",
            format!("kiln eval {}", shell_word(run.as_ref())),
        ));
    }
    if let Some(report) = &result.report {
        rows.push(row("report", report.clone()));
    }
    // Names and choices may hold anything.
    for cell in rows.iter_mut().flatten() {
        *cell = printable(cell).into_owned();
    }
    output::table(&rows)
}
