//! Plots of studies, each a function that returns a [`Figure`] to be saved as interactive HTML, SVG or PNG.
//!
//! They show what Optuna's plots of the same names show. Only complete trials count unless said otherwise, non-finite
//! values are left out, and trials that violate a constraint are grey. `objective` is the position of one of several
//! objectives, from 0.

mod figure;
mod html;
mod layout;
mod overview;
mod params;
mod render;

use std::path::Path;
use std::sync::Arc;

pub use figure::Figure;
pub use overview::{
    edf, hypervolume_history, intermediate_values, optimization_history, param_importances,
    pareto_front, timeline,
};
pub use params::{contour, parallel_coordinate, rank, slice};

use crate::error::{Error, Result};
use crate::study::Study;
use crate::trial::{FrozenTrial, TrialState};

/// Writes figures one below the other as one HTML page that needs nothing else.
///
/// ```
/// use kiln_tune::{Study, plot};
///
/// let study = Study::builder().name("first").create()?;
/// study.optimize(|trial| trial.suggest_float("x", -1.0, 1.0), 10)?;
/// let figures = [plot::optimization_history(&[&study], 0)?, plot::timeline(&study)?];
/// let path = std::env::temp_dir().join(format!("kiln-tune-report-{}.html", std::process::id()));
/// plot::save_report("Study first", &figures, &path)?;
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), kiln_tune::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidArgument`] when the name does not end with `.html`, [`Error::Storage`] when it cannot be written.
pub fn save_report(title: &str, figures: &[Figure], path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if !path.extension().is_some_and(|ending| {
        ending.eq_ignore_ascii_case("html") || ending.eq_ignore_ascii_case("htm")
    }) {
        return Err(Error::invalid(format!(
            "several plots are saved as one .html page, but got {}",
            path.display()
        )));
    }
    figure::write(path, html::page(title, figures).as_bytes())
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

/// What is told about a trial on hovering.
fn describe(trial: &FrozenTrial) -> String {
    let mut text = format!("Trial {}", trial.number);
    if trial.state != TrialState::Complete {
        text.push_str(&format!(" ({})", trial.state.name().to_lowercase()));
    }
    if let Some(values) = &trial.values {
        let values: Vec<String> = values.iter().map(f64::to_string).collect();
        text.push_str(&format!("\nvalue {}", values.join(", ")));
    }
    for param in trial.params.iter().take(20) {
        text.push_str(&format!(
            "\n{} = {}",
            layout::shorten(&param.name, 40),
            layout::shorten(&param.value().to_string(), 60)
        ));
    }
    if !trial.is_feasible() {
        text.push_str("\ninfeasible");
    }
    text
}
