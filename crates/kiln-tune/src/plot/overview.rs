//! Plots of values, times and importances.

use std::collections::HashSet;
use std::sync::Arc;

use kiln_plot::{
    Axis, Color, Figure, MAX_MARKS, MAX_PANELS, Marks, Panel, Point, Rectangle, Scale, Side, Trace,
    Word, number, shorten, spread, visible,
};

use super::{
    EDF, HISTORY, IMPORTANCES, INTERMEDIATE, PARETO, TIMELINE, describe, finite_trials, no_trials,
    objective_name,
};
use crate::analysis;
use crate::error::{Error, Result};
use crate::multi_objective::{hypervolume, is_pareto_front};
use crate::study::{Study, StudyDirection};
use crate::trial::{FrozenTrial, Timestamp, TrialState};

/// The value of each trial and the best one so far, of one or several studies.
///
/// # Errors
/// [`Error::NoTrials`] when there is nothing to show, [`Error::InvalidArgument`] for an objective that does not exist.
pub fn optimization_history(studies: &[&Study], objective: usize) -> Result<Figure> {
    let mut traces = Vec::new();
    let mut label = "Objective value".to_owned();
    let (mut n_drawn, mut n_trials) = (0, 0);
    for (i, study) in studies.iter().enumerate() {
        label = objective_name(study, objective)?;
        let prefix = if studies.len() > 1 {
            format!("{}: ", shorten(study.name(), 40))
        } else {
            String::new()
        };
        let (points_color, line_color) = if studies.len() > 1 {
            (Color::nth(i), Color::nth(i))
        } else {
            (Color::BLUE, Color::RED)
        };
        let direction = study.directions()[objective];
        let (mut feasible, mut infeasible, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        let mut best: Option<f64> = None;
        let trials = finite_trials(study, objective)?;
        let limit = MAX_MARKS / 2 / studies.len();
        let shown: HashSet<u64> = spread(
            trials.iter().map(|(trial, _)| trial.number).collect(),
            limit,
        )
        .into_iter()
        .collect();
        (n_drawn, n_trials) = (n_drawn + shown.len(), n_trials + trials.len());
        for (trial, value) in trials {
            let x = trial.number as f64;
            let is_shown = shown.contains(&trial.number);
            if trial.is_feasible() {
                if is_shown {
                    feasible.push(Point {
                        x,
                        y: value,
                        color: points_color,
                        hover: describe(&trial),
                    });
                }
                let so_far = best.map_or(value, |best| {
                    if direction == StudyDirection::Minimize {
                        best.min(value)
                    } else {
                        best.max(value)
                    }
                });
                let is_better = best != Some(so_far);
                best = Some(so_far);
                if is_shown || is_better {
                    steps.push((trial.number, so_far, is_better));
                }
            } else if is_shown {
                infeasible.push(Point {
                    x,
                    y: value,
                    color: Color::GREY,
                    hover: describe(&trial),
                });
            }
        }
        traces.push(Trace::points(
            format!("{prefix}trials"),
            points_color,
            feasible,
        ));
        if !infeasible.is_empty() {
            traces.push(Trace::points(
                format!("{prefix}infeasible"),
                Color::GREY,
                infeasible,
            ));
        }
        let (line, hovers) = best_line(steps, limit / 2, &prefix);
        traces.push(Trace::line(
            format!("{prefix}best so far"),
            line_color,
            line,
            hovers,
        ));
    }
    let points = traces.iter().flat_map(|trace| match &trace.marks {
        Marks::Points(points) => points.iter().map(|point| (point.x, point.y)).collect(),
        _ => Vec::new(),
    });
    let points: Vec<(f64, f64)> = points.collect();
    if points.is_empty() {
        return Err(no_trials("the optimization history"));
    }
    let panel = Panel {
        x: Axis::over("Trial", Scale::Linear, points.iter().map(|point| point.0)),
        y: Axis::over(label, Scale::Linear, points.iter().map(|point| point.1)),
        traces,
        color_bar: None,
    };
    Ok(Figure::single(HISTORY, panel).noting(n_drawn, n_trials, "trials"))
}

/// The line of the best value so far, which holds until the next trial, and what its points say. A step is a trial's
/// number, the best value up to it, and whether that is a new one; of more than `limit` steps, some of the improvements
/// are drawn.
fn best_line(
    mut steps: Vec<(u64, f64, bool)>,
    limit: usize,
    prefix: &str,
) -> (Vec<(f64, f64)>, Vec<String>) {
    if steps.len() > limit {
        let last = steps.pop();
        steps.retain(|(.., is_better)| *is_better);
        steps = spread(steps, limit.saturating_sub(1));
        steps.extend(last);
    }
    let (mut line, mut hovers) = (Vec::new(), Vec::new());
    let mut before = None;
    for (trial, best, _) in steps {
        let x = trial as f64;
        if let Some(before) = before.filter(|before| *before != best) {
            line.push((x, before));
            hovers.push(String::new());
        }
        before = Some(best);
        line.push((x, best));
        hovers.push(format!(
            "{prefix}best value {} up to trial {trial}",
            number(best)
        ));
    }
    (line, hovers)
}

/// So many lines of intermediate values are drawn at most.
const MAX_LINES: usize = 2000;

/// What each complete, pruned or running trial reported, one line per trial.
///
/// # Errors
/// [`Error::NoTrials`] when no trial has reported a finite value.
pub fn intermediate_values(study: &Study) -> Result<Figure> {
    intermediate_values_of(study, 0)
}

/// The same of one of several objectives, as [`Trial::report_multi`](crate::Trial::report_multi) was given it.
///
/// # Errors
/// [`Error::NoTrials`] when no trial has reported a finite value, [`Error::InvalidArgument`] for an objective that does not
/// exist.
pub fn intermediate_values_of(study: &Study, objective: usize) -> Result<Figure> {
    let label = if study.is_multi_objective() {
        format!("Intermediate {}", objective_name(study, objective)?)
    } else {
        objective_name(study, objective).map(|_| "Intermediate value".to_owned())?
    };
    let trials = study.trials_in(&[
        TrialState::Complete,
        TrialState::Pruned,
        TrialState::Running,
    ])?;
    type Points = Vec<(f64, f64)>;
    let reported: Vec<(Arc<FrozenTrial>, Points)> = trials
        .into_iter()
        .filter_map(|trial| {
            let reports = trial.reported_values().into_iter();
            let points: Points = reports
                .filter_map(|(step, values)| Some((step as f64, *values.get(objective)?)))
                .filter(|(_, value)| value.is_finite())
                .collect();
            (!points.is_empty()).then_some((trial, points))
        })
        .collect();
    let n_reported = reported.len();
    let trials = spread(reported, MAX_LINES);
    let (mut n_drawn, mut n_steps) = (0, 0);
    let mut traces = Vec::new();
    let limit = MAX_MARKS / trials.len().max(1);
    let n_lines = trials.len();
    for (trial, points) in trials {
        n_steps += points.len();
        let points = spread(points, limit);
        n_drawn += points.len();
        let state = if trial.state == TrialState::Complete {
            String::new()
        } else {
            format!(" ({})", trial.state.name().to_lowercase())
        };
        let hover = points
            .iter()
            .map(|(step, value)| {
                format!(
                    "Trial {}{state}\nstep {step}: {}",
                    trial.number,
                    number(*value)
                )
            })
            .collect();
        let color = if trial.is_feasible() {
            Color::nth(traces.len())
        } else {
            Color::GREY
        };
        let marks = Marks::Line {
            points,
            width: 1.6,
            dotted: false,
            hover,
        };
        traces.push(Trace {
            name: format!("trial {}", trial.number),
            color,
            in_legend: true,
            marks,
        });
    }
    let points: Vec<(f64, f64)> = traces
        .iter()
        .flat_map(|trace| {
            if let Marks::Line { points, .. } = &trace.marks {
                points.clone()
            } else {
                Vec::new()
            }
        })
        .collect();
    if points.is_empty() {
        return Err(Error::NoTrials(
            "no trial has reported a finite intermediate value yet".to_owned(),
        ));
    }
    if traces.len() > 18 {
        for trace in &mut traces {
            trace.in_legend = false;
        }
    }
    let panel = Panel {
        x: Axis::over("Step", Scale::Linear, points.iter().map(|point| point.0)),
        y: Axis::over(label, Scale::Linear, points.iter().map(|point| point.1)),
        traces,
        color_bar: None,
    };
    Ok(Figure::single(INTERMEDIATE, panel)
        .noting(n_lines, n_reported, "trials")
        .noting(n_drawn, n_steps, "reports of them"))
}

/// The share of trials whose value is at most x, of one or several studies (empirical distribution function).
///
/// # Errors
/// [`Error::NoTrials`] when there is nothing to show, [`Error::InvalidArgument`] for an objective that does not exist.
pub fn edf(studies: &[&Study], objective: usize) -> Result<Figure> {
    let mut label = String::new();
    let mut values = Vec::new();
    for study in studies {
        label = objective_name(study, objective)?;
        values.push(
            finite_trials(study, objective)?
                .into_iter()
                .map(|(_, value)| value)
                .collect::<Vec<f64>>(),
        );
    }
    let curves = analysis::empirical_distribution(&values);
    if curves.x.is_empty() {
        return Err(no_trials("the empirical distribution function"));
    }
    let traces = studies
        .iter()
        .zip(&curves.y)
        .enumerate()
        .filter(|(_, (_, y))| y.iter().all(|y| y.is_finite()))
        .map(|(i, (study, y))| {
            let points: Vec<(f64, f64)> = curves.x.iter().copied().zip(y.iter().copied()).collect();
            let hover = points
                .iter()
                .map(|(x, y)| {
                    format!(
                        "{}\n{:.1} % of the trials are at most {}",
                        shorten(&visible(study.name()), 60),
                        100.0 * y,
                        number(*x)
                    )
                })
                .collect();
            Trace::line(study.name(), Color::nth(i), points, hover)
        });
    let panel = Panel {
        x: Axis::over(label, Scale::Linear, curves.x.iter().copied()),
        y: Axis {
            label: "Cumulative probability".to_owned(),
            scale: Scale::Linear,
            range: (0.0, 1.04),
        },
        traces: traces.collect(),
        color_bar: None,
    };
    Ok(Figure::single(EDF, panel))
}

/// So many bars of importances are drawn at most.
const MAX_BARS: usize = 60;

/// One bar per parameter for importances that were computed before, largest on top.
///
/// `importances` holds names and shares.
///
/// # Errors
/// [`Error::NoTrials`] when there is no importance.
pub fn param_importances(importances: &[(String, f64)]) -> Result<Figure> {
    if importances.is_empty() {
        return Err(Error::NoTrials(
            "there is no parameter whose importance could be shown".to_owned(),
        ));
    }
    // Adding zero turns a negative zero into a positive one.
    let finite = |(name, share): &(String, f64)| {
        let share = if share.is_finite() { *share } else { 0.0 };
        (visible(name).into_owned(), share + 0.0)
    };
    let mut sorted: Vec<(String, f64)> = importances.iter().map(finite).collect();
    sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
    sorted.drain(..sorted.len().saturating_sub(MAX_BARS));
    let names: Vec<String> = sorted.iter().map(|(name, _)| name.clone()).collect();
    let bars = sorted
        .iter()
        .enumerate()
        .map(|(i, (name, share))| Rectangle {
            x: (0.0, *share),
            y: (i as f64 - 0.36, i as f64 + 0.36),
            color: Color::BLUE,
            hover: format!("{}\nimportance {share:.4}", shorten(name, 60)),
        });
    let words = sorted.iter().enumerate().map(|(i, (_, share))| Word {
        x: *share,
        y: i as f64,
        text: if *share >= 0.01 {
            format!("{share:.2}")
        } else {
            "<0.01".to_owned()
        },
        side: Side::Right,
    });
    let most = sorted.last().map_or(1.0, |(_, share)| share.max(1e-9));
    let traces = vec![
        Trace {
            name: "importance".to_owned(),
            color: Color::BLUE,
            in_legend: false,
            marks: Marks::Boxes(bars.collect()),
        },
        Trace {
            name: "importance".to_owned(),
            color: Color::BLUE,
            in_legend: false,
            marks: Marks::Words(words.collect()),
        },
    ];
    let panel = Panel {
        x: Axis {
            label: "Importance".to_owned(),
            scale: Scale::Linear,
            range: (0.0, most * 1.12),
        },
        y: Axis::over("", Scale::Category(names), []),
        traces,
        color_bar: None,
    };
    let height = (34.0 * sorted.len() as f64 + 30.0).clamp(160.0, 900.0);
    let figure = Figure::single(IMPORTANCES, panel).panel_height(height);
    Ok(figure.noting(sorted.len(), importances.len(), "parameters"))
}

/// When each trial ran and how it ended. A trial that runs reaches to now, unless all that run have taken more than five
/// times as long as the longest one that ended: then their workers are gone, and the last end is the end of the axis.
///
/// # Errors
/// [`Error::NoTrials`] when no trial has started.
pub fn timeline(study: &Study) -> Result<Figure> {
    let trials = study.trials()?;
    let end_of_running = end_of_running(&trials);
    let mut traces: Vec<(&str, Color, Vec<Rectangle>)> = vec![
        ("complete", Color::BLUE, Vec::new()),
        ("pruned", Color::ORANGE, Vec::new()),
        ("fail", Color::RED, Vec::new()),
        ("running", Color::GREEN, Vec::new()),
        ("infeasible", Color::GREY, Vec::new()),
    ];
    let started: Vec<_> = trials
        .iter()
        .filter(|trial| trial.datetime_start.is_some())
        .collect();
    let n_started = started.len();
    let drawn = spread(started, MAX_MARKS / 4);
    for trial in &drawn {
        let Some(start) = trial.datetime_start.map(seconds) else {
            continue;
        };
        let end = trial
            .datetime_complete
            .map_or(end_of_running, seconds)
            .max(start);
        let kind = match trial.state {
            TrialState::Complete if !trial.is_feasible() => 4,
            TrialState::Complete => 0,
            TrialState::Pruned => 1,
            TrialState::Fail => 2,
            TrialState::Running | TrialState::Waiting => 3,
        };
        let y = trial.number as f64;
        let reason = trial
            .fail_reason()
            .map_or_else(String::new, |reason| format!("\n{}", shorten(reason, 300)));
        let hover = format!("{}\n{:.3} s{reason}", describe(trial), end - start);
        let color = traces[kind].1;
        traces[kind].2.push(Rectangle {
            x: (start, end),
            y: (y - 0.38, y + 0.38),
            color,
            hover,
        });
    }
    let boxes: Vec<&Rectangle> = traces.iter().flat_map(|trace| &trace.2).collect();
    if boxes.is_empty() {
        return Err(Error::NoTrials("no trial has started yet".to_owned()));
    }
    let x = Axis::over(
        "Time (UTC)",
        Scale::Time,
        boxes.iter().flat_map(|each| [each.x.0, each.x.1]),
    );
    let y = Axis::over(
        "Trial",
        Scale::Linear,
        boxes.iter().flat_map(|each| [each.y.0, each.y.1]),
    );
    let traces =
        traces
            .into_iter()
            .filter(|trace| !trace.2.is_empty())
            .map(|(name, color, boxes)| Trace {
                name: name.to_owned(),
                color,
                in_legend: true,
                marks: Marks::Boxes(boxes),
            });
    let panel = Panel {
        x,
        y,
        traces: traces.collect(),
        color_bar: None,
    };
    Ok(Figure::single(TIMELINE, panel).noting(drawn.len(), n_started, "trials"))
}

/// Seconds since 1970 in UTC.
fn seconds(time: Timestamp) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}

/// Up to when running trials are drawn: now, or, when all of them look dead, the last end of a trial. The rule is
/// Optuna's.
fn end_of_running(trials: &[Arc<FrozenTrial>]) -> f64 {
    let now = seconds(crate::trial::now());
    let longest = trials
        .iter()
        .filter_map(|trial| {
            Some(seconds(trial.datetime_complete?) - seconds(trial.datetime_start?))
        })
        .reduce(f64::max);
    let is_alive = |trial: &&Arc<FrozenTrial>| {
        let Some(start) = trial.datetime_start.map(seconds) else {
            return false;
        };
        trial.state == TrialState::Running
            && longest.is_none_or(|longest| now - start < 5.0 * longest)
    };
    if trials.iter().any(|trial| is_alive(&trial)) {
        return now;
    }
    let ends = trials.iter().filter_map(|trial| trial.datetime_complete);
    ends.map(seconds).reduce(f64::max).unwrap_or(now)
}

/// The trials of a study with several objectives, with the Pareto front. More than two objectives give one panel for
/// each pair.
///
/// # Errors
/// [`Error::InvalidArgument`] for a study with one objective, [`Error::NoTrials`] when there is nothing to show.
pub fn pareto_front(study: &Study) -> Result<Figure> {
    let n = study.directions().len();
    if n < 2 {
        return Err(Error::invalid(
            "the Pareto front needs a study with several objectives; use the optimization history for one",
        ));
    }
    let names = (0..n)
        .map(|objective| objective_name(study, objective))
        .collect::<Result<Vec<_>>>()?;
    let front: HashSet<u64> = study
        .best_trials()?
        .iter()
        .map(|trial| trial.number)
        .collect();
    let mut trials = study.trials_in(&[TrialState::Complete])?;
    trials.retain(|trial| {
        trial
            .values
            .as_ref()
            .is_some_and(|values| values.len() == n && values.iter().all(|value| value.is_finite()))
    });
    if trials.is_empty() {
        return Err(no_trials("the Pareto front"));
    }
    let n_trials = trials.len();
    let n_pairs = n * (n - 1) / 2;
    let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
    // Those of the front are drawn first of all.
    let limit = MAX_MARKS / n_pairs.min(MAX_PANELS);
    let (best, others): (Vec<_>, Vec<_>) = trials
        .into_iter()
        .partition(|trial| front.contains(&trial.number));
    let best = spread(best, limit);
    let others = spread(others, limit.saturating_sub(best.len()).max(2));
    let mut trials = [best, others].concat();
    trials.sort_by_key(|trial| trial.number);
    let mut panels = Vec::new();
    for (a, b) in pairs.take(MAX_PANELS) {
        let mut kinds = [
            ("infeasible", Color::GREY, Vec::new()),
            ("dominated", Color::BLUE, Vec::new()),
            ("Pareto front", Color::RED, Vec::new()),
        ];
        for trial in &trials {
            let Some(values) = &trial.values else {
                continue;
            };
            let kind = if front.contains(&trial.number) {
                2
            } else {
                usize::from(trial.is_feasible())
            };
            let color = kinds[kind].1;
            kinds[kind].2.push(Point {
                x: values[a],
                y: values[b],
                color,
                hover: describe(trial),
            });
        }
        let all = || kinds.iter().flat_map(|kind| &kind.2);
        let x = Axis::over(&names[a], Scale::Linear, all().map(|point| point.x));
        let y = Axis::over(&names[b], Scale::Linear, all().map(|point| point.y));
        let traces = kinds
            .into_iter()
            .filter(|kind| !kind.2.is_empty())
            .map(|(name, color, points)| Trace::points(name, color, points));
        panels.push(Panel {
            x,
            y,
            traces: traces.collect(),
            color_bar: None,
        });
    }
    let n_panels = panels.len();
    let figure = match <[Panel; 1]>::try_from(panels) {
        Ok([panel]) => Figure::single(PARETO, panel),
        Err(panels) => Figure::grid(PARETO, panels, n_panels.min(3), (300.0, 280.0)),
    };
    Ok(figure.noting(trials.len(), n_trials, "trials").noting(
        n_panels,
        n_pairs,
        "pairs of objectives",
    ))
}

/// The hypervolume after some of the trials, each by its position: after every one while that is quick, otherwise after
/// some of them, evenly spread.
fn hypervolumes(
    rows: &[(Vec<f64>, bool)],
    maximize: &[bool],
    reference_point: &[f64],
) -> Result<Vec<(usize, f64)>> {
    /// Up to so many trials the volume is computed after every one of them, and otherwise after so many.
    const ALL: usize = 1000;
    const SOME: usize = 50;
    let n_objectives = maximize.len();
    if rows.len() <= ALL && n_objectives <= 3 {
        let volumes = analysis::hypervolume_history(rows, maximize, reference_point);
        return Ok(volumes.into_iter().enumerate().collect());
    }
    let loss = |row: &[f64]| -> Vec<f64> {
        let signed = row.iter().zip(maximize);
        signed.map(|(v, max)| if *max { -v } else { *v }).collect()
    };
    let reference = loss(reference_point);
    let is_within = |row: &[f64]| row.iter().zip(&reference).all(|(v, r)| v <= r);
    let mut volumes = Vec::new();
    let (mut front, mut done): (Vec<Vec<f64>>, usize) = (Vec::new(), 0);
    for at in spread((0..rows.len()).collect(), SOME) {
        let news = rows[done..=at].iter().filter(|(_, feasible)| *feasible);
        front.extend(news.map(|(row, _)| loss(row)).filter(|row| is_within(row)));
        done = at + 1;
        let on_front = is_pareto_front(&front);
        front = (front.into_iter().zip(on_front))
            .filter_map(|(row, on)| on.then_some(row))
            .collect();
        // The work grows fast with the number of objectives.
        let limit = [100_000, 4000, 600, 200, 100]
            .get(n_objectives - 2)
            .copied()
            .unwrap_or(60);
        if front.len() > limit {
            return Err(Error::invalid(format!(
                "the hypervolume of {} trials on a front of {n_objectives} objectives would take too long to compute; \
                 give a reference point that fewer of them reach, or draw the Pareto front",
                front.len()
            )));
        }
        let volume = hypervolume(&front, &reference).unwrap_or(f64::INFINITY);
        volumes.push((at, volume));
    }
    Ok(volumes)
}

/// The hypervolume that the feasible trials so far dominate, up to a reference point in the signs of the study.
///
/// # Errors
/// [`Error::InvalidArgument`] for a study with one objective, a reference point of another length, or a front of more
/// trials than can be computed in a few seconds,
/// [`Error::NoTrials`] when there is nothing to show.
pub fn hypervolume_history(study: &Study, reference_point: &[f64]) -> Result<Figure> {
    let n = study.directions().len();
    if n < 2 || reference_point.len() != n {
        return Err(Error::invalid(format!(
            "the hypervolume needs several objectives and a reference point of as many values, but got {n} and {}",
            reference_point.len()
        )));
    }
    let trials = study.trials_in(&[TrialState::Complete])?;
    let rows: Vec<(Vec<f64>, bool)> = trials
        .iter()
        .map(|trial| {
            (
                trial.values.clone().unwrap_or_default(),
                trial.is_feasible(),
            )
        })
        .collect();
    let maximize: Vec<bool> = study
        .directions()
        .iter()
        .map(|direction| *direction == StudyDirection::Maximize)
        .collect();
    if rows.is_empty() {
        return Err(no_trials("the hypervolume history"));
    }
    let volumes = hypervolumes(&rows, &maximize, reference_point)?;
    let points: Vec<(f64, f64)> = volumes
        .into_iter()
        .filter(|(_, volume)| volume.is_finite())
        .map(|(at, volume)| (trials[at].number as f64, volume))
        .collect();
    if points.is_empty() {
        return Err(Error::NoTrials(
            "the hypervolume is infinite from the first trial on; give a finite reference point, closer to the values"
                .to_owned(),
        ));
    }
    let n_drawn = points.len();
    let hover = points
        .iter()
        .map(|(trial, volume)| format!("Trial {trial}\nhypervolume {}", number(*volume)))
        .collect();
    let panel = Panel {
        x: Axis::over("Trial", Scale::Linear, points.iter().map(|point| point.0)),
        y: Axis::over(
            "Hypervolume",
            Scale::Linear,
            points.iter().map(|point| point.1),
        ),
        traces: vec![Trace::line("hypervolume", Color::BLUE, points, hover)],
        color_bar: None,
    };
    Ok(Figure::single("Hypervolume history", panel).noting(n_drawn, trials.len(), "trials"))
}
