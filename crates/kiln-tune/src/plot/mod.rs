//! Plots of studies, each a function that returns a [`Figure`] of `kiln-plot` to be saved as interactive HTML, SVG or PNG.
//!
//! They show what Optuna's plots of the same names show. Only complete trials count unless said otherwise, non-finite
//! values are left out, and trials that violate a constraint are grey. `objective` is the position of one of several
//! objectives, from 0.
//!
//! A figure stays small enough for a browser whatever the study: of more trials, parameters or steps than it can show it
//! draws some, evenly spread, and says so below its title. Control characters in names and texts are shown escaped.

mod overview;
mod params;
mod terminator;

use std::sync::Arc;

use kiln_plot::{shorten, visible};

pub use kiln_plot::Figure;
pub use overview::{
    edf, hypervolume_history, intermediate_values, intermediate_values_of, optimization_history,
    param_importances, pareto_front, timeline,
};
pub use params::{contour, parallel_coordinate, rank, slice};
pub use terminator::terminator_improvement;

use crate::error::{Error, Result};
use crate::importance;
use crate::json::python_float;
use crate::study::Study;
use crate::trial::{FrozenTrial, TrialState};

/// Every plot of a study. One that cannot be drawn has a figure that says why; without anything to draw there is none.
/// Plots of parameters show `params`, or, when none are given, the first five by name that complete trials with a finite
/// value have.
///
/// ```
/// use kiln_tune::{Study, plot};
///
/// let study = Study::builder().create()?;
/// assert!(plot::all(&study, 0, &[])?.is_empty());
/// study.optimize(|trial| trial.suggest_float("x", -1.0, 1.0), 10)?;
/// assert!(plot::all(&study, 0, &[])?.len() > 5);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
///
/// # Errors
/// When the storage fails.
pub fn all(study: &Study, objective: usize, params: &[&str]) -> Result<Vec<Figure>> {
    let first_five = first_params(study, objective)?;
    let params: Vec<&str> = match params {
        [] => first_five.iter().map(String::as_str).collect(),
        some => some.to_vec(),
    };
    let importances = || {
        let evaluator = importance::PedAnovaEvaluator::default();
        let assessed = importance::for_objective(study, &evaluator, None, Some(objective))?;
        param_importances(&assessed)
    };
    let mut plots = vec![
        (HISTORY, optimization_history(&[study], objective)),
        (INTERMEDIATE, intermediate_values_of(study, objective)),
        (IMPORTANCES, importances()),
        (SLICE, slice(study, objective, &params)),
        (CONTOUR, contour(study, objective, &params)),
        (PARALLEL, parallel_coordinate(study, objective, &params)),
        (RANK, rank(study, objective, &params)),
        (EDF, edf(&[study], objective)),
        (TIMELINE, timeline(study)),
    ];
    if study.is_multi_objective() {
        plots.push((PARETO, pareto_front(study)));
    }
    let mut figures = Vec::new();
    let mut is_empty = true;
    for (title, figure) in plots {
        figures.push(match figure {
            Ok(figure) => {
                is_empty = false;
                figure
            }
            Err(error @ (Error::NoTrials(_) | Error::InvalidArgument(_))) => {
                Figure::missing(title, &format!("Not drawn: {error}"))
            }
            Err(error) => return Err(error),
        });
    }
    if is_empty {
        figures.clear();
    }
    Ok(figures)
}

/// The first five parameters by name of the trials that plots of parameters show; plots of pairs grow with the square
/// of their number.
///
/// # Errors
/// When the storage fails.
pub fn first_params(study: &Study, objective: usize) -> Result<Vec<String>> {
    let mut names = std::collections::BTreeSet::new();
    for (trial, _) in finite_trials(study, objective)? {
        for param in &trial.params {
            names.insert(param.name.clone());
            if names.len() > 5 {
                names.pop_last();
            }
        }
    }
    Ok(names.iter().map(ToString::to_string).collect())
}

/// What an objective is called: its metric name if it has one.
fn objective_name(study: &Study, objective: usize) -> Result<String> {
    let n = study.directions().len();
    if objective >= n {
        return Err(Error::invalid(format!(
            "the study has {n} objectives, so the objective must be less than {n}, but got {objective}"
        )));
    }
    Ok(match study.metric_names()? {
        Some(names) if names.len() == n => names[objective].clone(),
        _ if n == 1 => "Objective value".to_owned(),
        _ => format!("Objective {objective}"),
    })
}

/// The complete trials with a finite value, and that value.
fn finite_trials(study: &Study, objective: usize) -> Result<Vec<(Arc<FrozenTrial>, f64)>> {
    let trials = study.trials_in(&[TrialState::Complete])?;
    let with_value = trials.into_iter().filter_map(|trial| {
        let value = *trial.values.as_ref()?.get(objective)?;
        value.is_finite().then_some((trial, value))
    });
    Ok(with_value.collect())
}

fn no_trials(what: &str) -> Error {
    Error::NoTrials(format!(
        "{what} needs complete trials with finite values, but there is none yet"
    ))
}

const HISTORY: &str = "Optimization history";
const INTERMEDIATE: &str = "Intermediate values";
const IMPORTANCES: &str = "Hyperparameter importances";
const SLICE: &str = "Slice";
const CONTOUR: &str = "Contour";
const PARALLEL: &str = "Parallel coordinate";
const RANK: &str = "Rank";
const EDF: &str = "Empirical distribution function";
const TIMELINE: &str = "Timeline";
const PARETO: &str = "Pareto front";

/// What is told about a trial on hovering.
fn describe(trial: &FrozenTrial) -> String {
    let mut text = format!("Trial {}", trial.number);
    if trial.state != TrialState::Complete {
        text.push_str(&format!(" ({})", trial.state.name().to_lowercase()));
    }
    if let Some(values) = &trial.values {
        let shown = values.iter().take(20);
        let values: Vec<String> = shown.map(|value| python_float(*value)).collect();
        text.push_str(&format!("\nvalue {}", values.join(", ")));
    }
    for param in trial.params.iter().take(20) {
        text.push_str(&format!(
            "\n{} = {}",
            shorten(&visible(&param.name), 40),
            shorten(&visible(&param.value().to_string()), 60)
        ));
    }
    if trial.params.len() > 20 {
        text.push_str("\n…");
    }
    if !trial.is_feasible() {
        text.push_str("\ninfeasible");
    }
    text
}
