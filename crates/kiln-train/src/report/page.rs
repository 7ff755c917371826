//! The report of a run: one HTML page that needs nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_plot::{Curve, Page, curves};
use kiln_tune::printable;
use serde_json::Value;

use crate::error::TrainError;
use crate::eval::evaluation::{EVALUATION, Evaluation, MAX_MATRIX, MISTAKES};
use crate::eval::samples;
use crate::run::files::{for_each_line, read_bounded, remove_leftovers_of, write_atomically};
use crate::run::folder::RunDir;

const FILE: &str = "report.html";
const STYLE: &str = include_str!("report.css");

/// Writes the report of a run into its folder, as `report.html`, and returns its path.
///
/// The page works offline. It holds the result, the curves of every metric, the confusion matrix and the scores of each
/// class, test images with what the model says of them, gradient health where it was watched, the recipe and the
/// environment. A run that is not finished has what there is so far.
///
/// # Errors
///
/// If the folder holds no run, a file of it is damaged, or the page cannot be written.
pub fn report(run: impl AsRef<Path>) -> Result<PathBuf, TrainError> {
    let path = run.as_ref().join(FILE);
    report_to(run, &path)?;
    Ok(path)
}

/// Writes the report of a run, as [`report`] does, into a file of any name; the run's folder is only read.
///
/// # Errors
///
/// As [`report`].
pub fn report_to(run: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<(), TrainError> {
    let (run, path) = (RunDir::open(run)?, path.as_ref());
    let page = page(&run)?.to_html();
    remove_leftovers_of(path);
    write_atomically(path, page.as_bytes())
}

fn page(run: &RunDir) -> Result<Page, TrainError> {
    let info = run.info()?;
    let name = run
        .path()
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let title = format!("{} on {}", info.model_name, info.data.name);
    let mut page = Page::new(title).html(&format!("<style>{STYLE}</style>\n"));
    page = page.heading("Result");
    let mut rows = vec![vec!["run".to_owned(), name.unwrap_or_else(|| ".".into())]];
    match run.summary()? {
        Some(summary) => {
            let summary = serde_json::to_value(&summary).unwrap_or_default();
            let entries = summary.as_object().into_iter().flatten();
            let shown = entries.filter(|(key, value)| *key != "run" && !value.is_null());
            rows.extend(shown.map(|(key, value)| vec![words(key), plain(key, value)]));
        }
        None => rows.push(vec!["state".into(), "not finished".into()]),
    }
    page = page.table(&[], &rows);
    page = metrics(page, &run.metrics_file())?;
    let evaluation = run.path().join(EVALUATION);
    if evaluation.is_file() {
        page = scores(page, &Evaluation::read(&evaluation)?);
    }
    page = predictions(page, &samples::read(run.path())?);
    page = pictures(page, run.path())?;
    page = page.heading("Recipe").code(&run.recipe()?.to_toml());
    let environment = serde_json::to_value(&info).unwrap_or_default();
    let mut rows = Vec::new();
    flatten("", &environment, &mut rows);
    Ok(page.heading("Environment").table(&[], &rows))
}

/// Points of a curve that are drawn: more than a page has pixels.
const MAX_POINTS: usize = 10_000;
/// Curves of a page; what nothing of Kiln writes may have any number.
const MAX_CURVES: usize = 200;
/// Numbers beyond these are drawn as these: an axis to where f64 ends would have no end.
const MAX_NUMBER: f64 = 1e300;

/// Points of which every second one is dropped as often as they become too many.
#[derive(Default)]
struct Thinned {
    points: Vec<(f64, f64)>,
    last: Option<(f64, f64)>,
    seen: usize,
    every: usize,
}

impl Thinned {
    fn push(&mut self, point: (f64, f64)) {
        self.every = self.every.max(1);
        if self.seen.is_multiple_of(self.every) {
            self.points.push(point);
        }
        self.seen += 1;
        self.last = Some(point);
        if self.points.len() >= MAX_POINTS {
            let mut kept = false;
            self.points.retain(|_| {
                kept = !kept;
                kept
            });
            self.every *= 2;
        }
    }

    /// The points, the last one among them.
    fn into_points(self) -> Vec<(f64, f64)> {
        let mut points = self.points;
        if points.last() != self.last.as_ref() {
            points.extend(self.last);
        }
        points
    }
}

/// A figure for every metric of `metrics.jsonl`, over the training steps.
fn metrics(mut page: Page, path: &Path) -> Result<Page, TrainError> {
    if !path.exists() {
        return Ok(page);
    }
    // By metric, in the order in which they first appear, then by split.
    let mut names: Vec<String> = Vec::new();
    let mut found: BTreeMap<(String, String), Thinned> = BTreeMap::new();
    for_each_line(path, |line| {
        // The last line of a running program may be half written.
        let Ok(Value::Object(line)) = serde_json::from_slice(line) else {
            return;
        };
        let number = |value: &Value| {
            let number = value.as_f64().filter(|number| number.is_finite())?;
            Some(number.clamp(-MAX_NUMBER, MAX_NUMBER))
        };
        let step = line.get("step").and_then(number).unwrap_or_default();
        let split = line.get("split").and_then(Value::as_str).unwrap_or("train");
        for (key, value) in &line {
            if ["step", "epoch", "images"].contains(&key.as_str()) {
                continue;
            }
            let (Some(value), curve) = (number(value), (key.clone(), split.to_owned())) else {
                continue;
            };
            if !found.contains_key(&curve) && found.len() >= MAX_CURVES {
                continue;
            }
            if !names.contains(key) {
                names.push(key.clone());
            }
            found.entry(curve).or_default().push((step, value));
        }
    })?;
    if names.is_empty() {
        return Ok(page);
    }
    page = page.heading("Curves");
    for name in names {
        let (this, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = found
            .into_iter()
            .partition(|((metric, _), _)| *metric == name);
        found = rest;
        let lines: Vec<Curve> = this
            .into_iter()
            .map(|((_, split), points)| Curve {
                name: printable(&split).into_owned(),
                points: points.into_points(),
            })
            .collect();
        // Losses and norms span orders of magnitude; shares do not.
        let values = lines
            .iter()
            .flat_map(|line| line.points.iter().map(|point| point.1));
        let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), value| {
            (low.min(value), high.max(value))
        });
        let spans = name.contains("loss") || name.contains("norm");
        let log = spans && low > 0.0 && high / low > 30.0;
        let title = printable(&words(&name)).into_owned();
        page = page.figure(&curves(&title, "step", &title, log, &lines));
    }
    Ok(page)
}

/// The confusion matrix, or of very many classes the most frequent mistakes, and the scores of each class.
fn scores(page: Page, seen: &Evaluation) -> Page {
    let page = match seen.classes.len() {
        0..=MAX_MATRIX => page.heading("Confusion matrix").html(&matrix(seen)),
        _ => {
            let name = |class: usize| seen.classes[class].name.clone();
            let mistakes = seen.mistakes(MISTAKES).into_iter();
            let rows: Vec<Vec<String>> = mistakes
                .map(|(truth, answer, count)| vec![name(truth), name(answer), count.to_string()])
                .collect();
            page.heading("Most frequent mistakes")
                .table(&["truth", "answer", "images"], &rows)
        }
    };
    let rows: Vec<Vec<String>> = seen
        .classes
        .iter()
        .enumerate()
        .map(|(at, class)| {
            let mut row = vec![class.name.clone()];
            row.extend(seen.shown(at));
            row.push(class.support.to_string());
            row
        })
        .collect();
    page.heading("Scores of each class")
        .table(&["class", "precision", "recall", "f1", "images"], &rows)
}

/// The confusion matrix, darker where there are more.
fn matrix(seen: &Evaluation) -> String {
    let mut html = String::from(
        "<div class=\"wide\"><table class=\"confusion\">\n<tr><th>truth \\ answer</th>",
    );
    let names: Vec<String> = seen
        .classes
        .iter()
        .map(|class| escape(&class.name))
        .collect();
    names
        .iter()
        .for_each(|name| html.push_str(&format!("<th>{name}</th>")));
    html.push_str("</tr>\n");
    for (row, counts) in seen.confusion.iter().enumerate() {
        html.push_str(&format!("<tr><th>{}</th>", names[row]));
        let support = seen.classes[row].support.max(1) as f64;
        for (column, count) in counts.iter().enumerate() {
            // Mistakes are few: the square root lets them be seen.
            let share = (*count as f64 / support).sqrt();
            let hue = if row == column {
                "33,102,172"
            } else {
                "178,24,43"
            };
            let ink = if share > 0.55 { "#fff" } else { "#2a3f5f" };
            let count = if *count == 0 {
                String::new()
            } else {
                count.to_string()
            };
            html.push_str(&format!(
                "<td style=\"background:rgba({hue},{share:.3});color:{ink}\">{count}</td>"
            ));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
    html
}

fn predictions(mut page: Page, samples: &[samples::Sample]) -> Page {
    let (right, wrong): (Vec<_>, Vec<_>) = samples.iter().partition(|s| s.truth == s.answer);
    for (heading, samples) in [
        ("Test images, read right", right),
        ("Test images, read wrong with most confidence", wrong),
    ] {
        if samples.is_empty() {
            continue;
        }
        let mut html = String::from("<div class=\"samples\">\n");
        for sample in samples {
            let (truth, answer) = (escape(&sample.truth), escape(&sample.answer));
            let is = match truth == answer {
                true => truth,
                false => format!("{answer}<br>is {truth}"),
            };
            html.push_str(&format!(
                "<div><img alt=\"{}\" src=\"data:image/png;base64,{}\"><span>{is}<br>{:.1} %</span></div>\n",
                escape(&sample.truth),
                escape(&sample.png),
                sample.probability * 100.0
            ));
        }
        html.push_str("</div>\n");
        page = page.heading(heading).html(&html);
    }
    page
}

/// Bytes of the largest picture that a page takes.
const MAX_PICTURE: u64 = 64 << 20;

/// Pictures that other parts of a run have drawn.
fn pictures(mut page: Page, folder: &Path) -> Result<Page, TrainError> {
    for (heading, name) in [
        ("Gradient health", "grad_health.png"),
        ("Overlays", "overlays.png"),
    ] {
        let path = folder.join(name);
        if path.is_file() {
            let bytes = read_bounded(&path, MAX_PICTURE)?;
            let data = STANDARD.encode(bytes);
            page = page.heading(heading).html(&format!(
                "<img class=\"picture\" alt=\"{heading}\" src=\"data:image/png;base64,{data}\">\n"
            ));
        }
    }
    Ok(page)
}

/// `samples_per_second` as `samples per second`.
fn words(key: &str) -> String {
    key.replace('_', " ")
}

fn plain(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let value = number.as_f64().unwrap_or(f64::NAN);
            match key {
                key if key.ends_with("accuracy") => format!("{:.2} %", value * 100.0),
                key if key.ends_with("seconds") => format!("{value:.1} s"),
                key if key.ends_with("per_second") => format!("{value:.0}"),
                _ => format!("{value:.4}"),
            }
        }
        other => other.to_string(),
    }
}

fn flatten(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let key = match prefix {
                    "" => words(key),
                    prefix => format!("{prefix} {}", words(key)),
                };
                flatten(&key, value, rows);
            }
        }
        Value::Null => {}
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| plain("", item)).collect();
            rows.push(vec![prefix.into(), items.join(", ")]);
        }
        value => rows.push(vec![prefix.into(), plain("", value)]),
    }
}

fn escape(text: &str) -> String {
    let text = printable(text).replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}
