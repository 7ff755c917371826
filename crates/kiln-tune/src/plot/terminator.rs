//! The plot of what is left to gain.

use kiln_plot::{Axis, Color, Figure, Marks, Panel, Scale, Trace, number, spread};

use crate::error::{Error, Result};
use crate::study::Study;
use crate::terminator::{
    ErrorEvaluator, ImprovementEvaluator, UNKNOWN_ERROR, require_one_objective,
};
use crate::trial::TrialState;

const TITLE: &str = "Terminator improvement";

/// So many trials are evaluated at most, since each takes a fit of its own.
const MAX_EVALUATIONS: usize = 200;

/// Beyond this a number says that nothing is known yet.
const UNKNOWN: f64 = 1e300;

/// What was left to gain after each complete trial, and the error of the values if it is given: a
/// [`Terminator`](crate::terminator::Terminator) of these evaluators ends the study where the first falls below the
/// second. The line is dotted before `min_n_trials` trials were complete, when no study ends.
///
/// Of more than 200 complete trials some are evaluated, evenly spread.
///
/// ```
/// use kiln_tune::terminator::{DEFAULT_MIN_N_TRIALS, RegretBoundEvaluator, StaticErrorEvaluator};
/// use kiln_tune::{Study, plot};
///
/// let study = Study::builder().create()?;
/// study.optimize(|trial| trial.suggest_float("x", -1.0, 1.0), 25)?;
/// let improvement = RegretBoundEvaluator::new().seed(0);
/// let error = StaticErrorEvaluator::new(0.1);
/// let figure = plot::terminator_improvement(&study, &improvement, Some(&error), DEFAULT_MIN_N_TRIALS)?;
/// assert!(figure.to_svg().contains("Terminator improvement"));
/// # Ok::<(), kiln_tune::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoTrials`] without a complete trial, [`Error::MultiObjective`], and errors of the evaluators.
pub fn terminator_improvement(
    study: &Study,
    improvement: &dyn ImprovementEvaluator,
    error: Option<&dyn ErrorEvaluator>,
    min_n_trials: usize,
) -> Result<Figure> {
    require_one_objective(study)?;
    let complete = study.trials_in(&[TrialState::Complete])?;
    let counts = spread((1..=complete.len()).collect(), MAX_EVALUATIONS);
    let (mut improvements, mut errors) = (Vec::new(), Vec::new());
    for &n in &counts {
        let trials = &complete[..n];
        let x = trials[n - 1].number as f64;
        improvements.push((n, x, improvement.evaluate(trials, study.direction())?));
        if let Some(error) = error {
            // It is drawn from where it is known: scores of the best trial may come later.
            match error.evaluate(trials, study.direction()) {
                Ok(y) => errors.push((n, x, y)),
                Err(Error::InvalidArgument(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    improvements.retain(|(_, _, y)| y.abs() < UNKNOWN);
    errors.retain(|(_, _, y)| y.abs() < UNKNOWN && *y != UNKNOWN_ERROR);
    if improvements.is_empty() {
        return Err(Error::NoTrials(
            "nothing is known yet of what is left to gain: it takes more complete trials"
                .to_owned(),
        ));
    }
    // Both lines have the trial at which the study may end, so that they meet.
    let (before, after): (Vec<_>, Vec<_>) = (
        kept(&improvements, |n| n <= min_n_trials),
        kept(&improvements, |n| n >= min_n_trials),
    );
    let heights: Vec<f64> = if after.is_empty() { &before } else { &after }
        .iter()
        .chain(&kept(&errors, |_| true))
        .map(|(_, y)| *y)
        .collect();
    let lowest = improvements.iter().map(|(_, _, y)| *y);
    let lowest = lowest.reduce(f64::min);
    let y = Axis::over(TITLE, Scale::Linear, heights.into_iter().chain(lowest));
    let has_ended = !after.is_empty();
    let mut traces = Vec::new();
    if !before.is_empty() {
        let dotted = Marks::Line {
            hover: hovers("left to gain", &before),
            // The first ones may be many times higher than those that decide; they run along the upper edge.
            points: before.iter().map(|p| (p.0, p.1.min(y.range.1))).collect(),
            width: 1.6,
            dotted: true,
        };
        traces.push(Trace {
            name: "improvement, too early to end".to_owned(),
            color: Color::BLUE,
            in_legend: true,
            marks: dotted,
        });
    }
    if has_ended {
        let hover = hovers("left to gain", &after);
        traces.push(Trace::line("improvement", Color::BLUE, after, hover));
    }
    if !errors.is_empty() {
        let points = kept(&errors, |_| true);
        let hover = hovers("error", &points);
        traces.push(Trace::line("error", Color::RED, points, hover));
    }
    let panel = Panel {
        x: Axis::over(
            "Trial",
            Scale::Linear,
            improvements.iter().map(|(_, x, _)| *x),
        ),
        y,
        traces,
        color_bar: None,
    };
    Ok(Figure::single(TITLE, panel).noting(counts.len(), complete.len(), "trials"))
}

/// The places of those whose number of complete trials is meant.
fn kept(all: &[(usize, f64, f64)], is_meant: impl Fn(usize) -> bool) -> Vec<(f64, f64)> {
    let meant = all.iter().filter(|(n, _, _)| is_meant(*n));
    meant.map(|(_, x, y)| (*x, *y)).collect()
}

fn hovers(what: &str, points: &[(f64, f64)]) -> Vec<String> {
    let hover = |(x, y): &(f64, f64)| format!("{what} after trial {x}: {}", number(*y));
    points.iter().map(hover).collect()
}
