//! Plots of values over parameters.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kiln_plot::{
    Axis, Color, ColorBar, Figure, MAX_MARKS, MAX_PANELS, Marks, Panel, Point, Rectangle, Scale,
    Side, Trace, Word, fraction, mix, number, shorten, spread, ticks, visible,
};

use super::{CONTOUR, PARALLEL, RANK, SLICE, describe, finite_trials, no_trials, objective_name};
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::study::{Study, StudyDirection};
use crate::trial::FrozenTrial;

/// Cells per side of a contour.
const CELLS: usize = 40;

type Trials = Vec<(Arc<FrozenTrial>, f64)>;

/// The value over each parameter, one panel per parameter; later trials are lighter.
///
/// `params` names the parameters; empty means all.
///
/// # Errors
/// [`Error::NoTrials`] when there is nothing to show, [`Error::InvalidArgument`] for an unknown objective or parameter.
pub fn slice(study: &Study, objective: usize, params: &[&str]) -> Result<Figure> {
    let label = objective_name(study, objective)?;
    let trials = finite_trials(study, objective)?;
    let mut columns = columns(&trials, params, "the slice plot")?;
    let (n_trials, n_columns) = (trials.len(), columns.len());
    columns.truncate(MAX_PANELS);
    let trials = spread(trials, MAX_MARKS / columns.len());
    let last = trials
        .iter()
        .map(|(trial, _)| trial.number)
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    let values = Axis::over(label, Scale::Linear, trials.iter().map(|(_, value)| *value));
    let panels = columns.iter().map(|column| {
        let points = trials.iter().filter_map(|(trial, value)| {
            let color = if trial.is_feasible() {
                Color::viridis(trial.number as f64 / last)
            } else {
                Color::GREY
            };
            Some(Point {
                x: column.place(trial)?,
                y: *value,
                color,
                hover: describe(trial),
            })
        });
        Panel {
            x: column.axis(&trials),
            y: values.clone(),
            traces: vec![Trace::points("trials", Color::BLUE, points.collect()).unlisted()],
            color_bar: Some(trial_bar(last)),
        }
    });
    let panels: Vec<Panel> = panels.collect();
    let n_in_row = panels.len().min(3);
    let figure = Figure::grid(SLICE, panels, n_in_row, (270.0, 280.0));
    Ok(figure.noting(trials.len(), n_trials, "trials").noting(
        columns.len(),
        n_columns,
        "parameters",
    ))
}

fn trial_bar(last: f64) -> ColorBar {
    ColorBar {
        label: "Trial".to_owned(),
        ticks: [0.0, 0.5, 1.0]
            .map(|share| (share, number((last * share).round())))
            .to_vec(),
    }
}

/// The value over each pair of parameters as colours, interpolated between the trials, which are the dots.
///
/// `params` names the parameters; empty means all.
///
/// # Errors
/// [`Error::NoTrials`] when there is nothing to show, [`Error::InvalidArgument`] for an unknown objective or parameter, or
/// for fewer than two of them.
pub fn contour(study: &Study, objective: usize, params: &[&str]) -> Result<Figure> {
    let label = objective_name(study, objective)?;
    let trials = finite_trials(study, objective)?;
    let (low, high) = ends(&trials);
    let share = |value: f64| fraction(value, low, high);
    let minimize = study.directions()[objective] == StudyDirection::Minimize;
    pairs(trials, params, CONTOUR, |trials, x, y| {
        let (x_axis, y_axis) = (x.axis(trials), y.axis(trials));
        let mut known: Vec<(f64, f64, f64)> = Vec::new();
        let mut at: HashMap<(u64, u64), usize> = HashMap::new();
        let mut points = Vec::new();
        for (trial, value) in trials {
            let (Some(x), Some(y)) = (x.place(trial), y.place(trial)) else {
                continue;
            };
            let color = if trial.is_feasible() {
                Color(20, 20, 20)
            } else {
                Color::GREY
            };
            points.push(Point {
                x,
                y,
                color,
                hover: describe(trial),
            });
            let (x, y) = (x_axis.place(x), y_axis.place(y));
            // Of several trials at one place the best counts.
            let value = share(*value);
            let other = *at.entry((x.to_bits(), y.to_bits())).or_insert(known.len());
            match known.get_mut(other) {
                Some(other) if minimize => other.2 = other.2.min(value),
                Some(other) => other.2 = other.2.max(value),
                None => known.push((x, y, value)),
            }
        }
        let cells = cells(&x_axis, &y_axis, &known);
        let cells = Trace {
            name: "surface".to_owned(),
            color: Color::BLUE,
            in_legend: false,
            marks: Marks::Boxes(cells),
        };
        let ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
            .map(|share| (share, number(mix(low, high, share))))
            .to_vec();
        let color_bar = Some(ColorBar {
            label: label.clone(),
            ticks,
        });
        Panel {
            x: x_axis,
            y: y_axis,
            traces: vec![
                cells,
                Trace::points("trials", Color::DARK, points).unlisted(),
            ],
            color_bar,
        }
    })
}

/// Cells coloured by the mean of the known shares, weighted by the inverse fourth power of the distance.
fn cells(x: &Axis, y: &Axis, known: &[(f64, f64, f64)]) -> Vec<Rectangle> {
    let mut cells = Vec::new();
    if known.is_empty() {
        return cells;
    }
    for i in 0..CELLS {
        for j in 0..CELLS {
            let at = |n: usize| n as f64 / CELLS as f64;
            let middle = (at(i) + 0.5 / CELLS as f64, at(j) + 0.5 / CELLS as f64);
            let (mut sum, mut weights) = (0.0, 0.0);
            for (x, y, value) in known {
                let weight = 1.0
                    / ((x - middle.0).powi(2) + (y - middle.1).powi(2))
                        .max(1e-6)
                        .powi(2);
                sum += weight * value;
                weights += weight;
            }
            cells.push(Rectangle {
                x: (x.value(at(i)), x.value(at(i + 1))),
                y: (y.value(at(j)), y.value(at(j + 1))),
                color: Color::viridis(sum / weights),
                hover: String::new(),
            });
        }
    }
    cells
}

/// The trials over each pair of parameters, coloured by the rank of their values: dark is the lowest value.
///
/// `params` names the parameters; empty means all.
///
/// # Errors
/// As [`contour`].
pub fn rank(study: &Study, objective: usize, params: &[&str]) -> Result<Figure> {
    objective_name(study, objective)?;
    let trials = finite_trials(study, objective)?;
    let mut sorted: Vec<f64> = trials.iter().map(|(_, value)| *value).collect();
    sorted.sort_by(f64::total_cmp);
    let last = (sorted.len().max(2) - 1) as f64;
    // Equal values share the mean of their ranks.
    let share = |value: f64| {
        let (first, end) = (
            sorted.partition_point(|other| *other < value),
            sorted.partition_point(|other| *other <= value),
        );
        f64::midpoint(first as f64, end as f64 - 1.0) / last
    };
    let quantile = |share: f64| {
        let at = share * (sorted.len() - 1) as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (low, high) = (at.floor() as usize, at.ceil() as usize);
        mix(sorted[low], sorted[high], at - low as f64)
    };
    pairs(trials, params, RANK, |trials, x, y| {
        let points = trials.iter().filter_map(|(trial, value)| {
            let color = if trial.is_feasible() {
                Color::viridis(share(*value))
            } else {
                Color::GREY
            };
            Some(Point {
                x: x.place(trial)?,
                y: y.place(trial)?,
                color,
                hover: describe(trial),
            })
        });
        let traces = vec![Trace::points("trials", Color::BLUE, points.collect()).unlisted()];
        let ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
            .map(|share| {
                (
                    share,
                    format!("{}% ({})", share * 100.0, number(quantile(share))),
                )
            })
            .to_vec();
        Panel {
            x: x.axis(trials),
            y: y.axis(trials),
            traces,
            color_bar: Some(ColorBar {
                label: "Rank".to_owned(),
                ticks,
            }),
        }
    })
}

/// One line per trial through its value and its parameters; lines that are dotted are infeasible.
///
/// `params` names the parameters; empty means all. A parameter that a trial does not have is in the lane below the axis.
///
/// # Errors
/// [`Error::NoTrials`] when there is nothing to show, [`Error::InvalidArgument`] for an unknown objective or parameter.
pub fn parallel_coordinate(study: &Study, objective: usize, params: &[&str]) -> Result<Figure> {
    const MISSING: f64 = -0.12;
    let label = objective_name(study, objective)?;
    let trials = finite_trials(study, objective)?;
    let mut columns = columns(&trials, params, "the parallel coordinate plot")?;
    let (n_trials, n_columns) = (trials.len(), columns.len());
    columns.truncate(MAX_PANELS);
    let mut axes = vec![Axis::over(
        label.clone(),
        Scale::Linear,
        trials.iter().map(|(_, value)| *value),
    )];
    axes.extend(columns.iter().map(|column| column.axis(&trials)));
    let (low, high) = ends(&trials);
    let share = |value: f64| fraction(value, low, high);
    let mut traces = Vec::new();
    // The best are drawn last, on top.
    let direction = study.directions()[objective];
    let mut order: Vec<&(Arc<FrozenTrial>, f64)> = trials.iter().collect();
    order.sort_by(|a, b| direction.loss(b.1).total_cmp(&direction.loss(a.1)));
    let order = spread(order, MAX_MARKS / axes.len());
    let n_drawn = order.len();
    let any_missing = order
        .iter()
        .any(|(trial, _)| columns.iter().any(|column| column.place(trial).is_none()));
    for (trial, value) in order {
        let mut points = vec![(0.0, axes[0].place(*value))];
        for (i, column) in columns.iter().enumerate() {
            points.push((
                i as f64 + 1.0,
                column
                    .place(trial)
                    .map_or(MISSING, |place| axes[i + 1].place(place)),
            ));
        }
        let hover = vec![describe(trial); points.len()];
        let marks = Marks::Line {
            points,
            width: 1.4,
            dotted: !trial.is_feasible(),
            hover,
        };
        traces.push(Trace {
            name: format!("trial {}", trial.number),
            color: Color::viridis(share(*value)),
            in_legend: false,
            marks,
        });
    }
    for (i, axis) in axes.iter().enumerate() {
        let x = i as f64;
        let marks = Marks::Line {
            points: vec![(x, 0.0), (x, 1.0)],
            width: 2.0,
            dotted: false,
            hover: Vec::new(),
        };
        traces.push(Trace {
            name: "axis".to_owned(),
            color: Color::DARK,
            in_legend: false,
            marks,
        });
        let mut words: Vec<Word> = ticks(axis, 7.0)
            .into_iter()
            .map(|(value, text)| Word {
                x,
                y: axis.place(value),
                text: shorten(&text, 12),
                side: if i == 0 { Side::Left } else { Side::Right },
            })
            .filter(|word| (0.0..=1.0).contains(&word.y))
            .collect();
        words.push(Word {
            x,
            y: 1.0,
            text: shorten(&axis.label, 20),
            side: Side::Above,
        });
        traces.push(Trace {
            name: "axis".to_owned(),
            color: Color::DARK,
            in_legend: false,
            marks: Marks::Words(words),
        });
    }
    let panel = Panel {
        x: Axis {
            label: String::new(),
            scale: Scale::Hidden,
            range: (-0.15, columns.len() as f64 + 0.35),
        },
        y: Axis {
            label: String::new(),
            scale: Scale::Hidden,
            range: (if any_missing { MISSING - 0.04 } else { -0.04 }, 1.1),
        },
        traces,
        color_bar: Some(ColorBar {
            label,
            ticks: [0.0, 0.25, 0.5, 0.75, 1.0]
                .map(|share| (share, number(mix(low, high, share))))
                .to_vec(),
        }),
    };
    let width = (130.0 * (columns.len() + 1) as f64).clamp(640.0, 1600.0);
    let figure = Figure::single(PARALLEL, panel).panel_width(width);
    Ok(figure
        .noting(n_drawn, n_trials, "trials")
        .noting(columns.len(), n_columns, "parameters"))
}

/// The lowest and the highest value.
fn ends(trials: &Trials) -> (f64, f64) {
    trials.iter().fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(low, high), (_, value)| (low.min(*value), high.max(*value)),
    )
}

/// One panel for two parameters, otherwise one for each pair.
fn pairs(
    trials: Trials,
    params: &[&str],
    title: &str,
    panel: impl Fn(&Trials, &Column, &Column) -> Panel,
) -> Result<Figure> {
    let mut columns = columns(
        &trials,
        params,
        &format!("the {} plot", title.to_lowercase()),
    )?;
    if columns.len() < 2 {
        return Err(Error::invalid(format!(
            "the {} plot needs at least two parameters, but got {}",
            title.to_lowercase(),
            columns.len()
        )));
    }
    let (n_trials, n_columns) = (trials.len(), columns.len());
    let n_pairs = |n: usize| n * (n - 1) / 2;
    while n_pairs(columns.len()) > MAX_PANELS {
        columns.pop();
    }
    let trials = spread(trials, MAX_MARKS / n_pairs(columns.len()));
    // Only one of each pair and its mirror image.
    let mut panels = Vec::new();
    for (i, x) in columns.iter().enumerate() {
        for y in &columns[i + 1..] {
            panels.push(panel(&trials, x, y));
        }
    }
    let figure = match <[Panel; 1]>::try_from(panels) {
        Ok([panel]) => Figure::single(title, panel),
        Err(panels) => Figure::grid(title, panels, 3, (270.0, 240.0)),
    };
    Ok(figure.noting(trials.len(), n_trials, "trials").noting(
        columns.len(),
        n_columns,
        "parameters",
    ))
}

/// One parameter of the trials.
struct Column {
    name: String,
    distribution: Arc<Distribution>,
    choices: Vec<String>,
}

/// The parameters by name, sorted; all of them when `wanted` is empty.
fn columns(trials: &Trials, wanted: &[&str], what: &str) -> Result<Vec<Column>> {
    if trials.is_empty() {
        return Err(no_trials(what));
    }
    let mut columns: Vec<Column> = Vec::new();
    let mut known = HashSet::new();
    for (trial, _) in trials {
        for param in &trial.params {
            if known.insert(&param.name) {
                let choices = match &*param.distribution {
                    Distribution::Categorical(categorical) => categorical
                        .choices()
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                    Distribution::Float(_) | Distribution::Int(_) => Vec::new(),
                };
                columns.push(Column {
                    name: param.name.to_string(),
                    distribution: param.distribution.clone(),
                    choices,
                });
            }
        }
    }
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !known.iter().any(|k| ***k == ***name))
    {
        const LISTED: usize = 20;
        let names = columns
            .iter()
            .take(LISTED)
            .map(|column| visible(&column.name));
        let names: Vec<_> = names.collect();
        let more = if columns.len() > LISTED { ", …" } else { "" };
        return Err(Error::invalid(format!(
            "no complete trial with a finite value has a parameter {unknown:?}; there are {}{more}",
            names.join(", ")
        )));
    }
    if !wanted.is_empty() {
        columns.retain(|column| wanted.contains(&column.name.as_str()));
    }
    if columns.is_empty() {
        return Err(Error::NoTrials(format!(
            "{what} needs parameters, but the trials have none"
        )));
    }
    Ok(columns)
}

impl Column {
    /// Where a trial lies on the axis, if it has the parameter. What an axis cannot show, which only a damaged storage
    /// holds, is left out.
    fn place(&self, trial: &FrozenTrial) -> Option<f64> {
        let value = trial.params.internal(&self.name)?;
        let is_shown = match &*self.distribution {
            Distribution::Categorical(_) => self.distribution.contains(value),
            distribution => value.is_finite() && (value > 0.0 || !distribution.is_log()),
        };
        is_shown.then_some(value)
    }

    fn axis(&self, trials: &Trials) -> Axis {
        let scale = match &*self.distribution {
            Distribution::Categorical(_) => Scale::Category(self.choices.clone()),
            distribution if distribution.is_log() => Scale::Log,
            _ => Scale::Linear,
        };
        Axis::over(
            &self.name,
            scale,
            trials.iter().filter_map(|(trial, _)| self.place(trial)),
        )
    }
}
