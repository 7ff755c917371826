//! Where the numbers of a run arrive once they are read from the device: `metrics.jsonl`, progress lines, the totals of an
//! epoch, and the watch for a loss that is no longer finite.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use burn::train::Interrupter;
use kiln_clip::GradHealth;
use serde::{Deserialize, Serialize};

use super::gradients::GradNumbers;
use super::renderer::Dashboard;
use super::state::RunState;
use super::sums::{ReadSums, Scorer, Scores, Totals};
use crate::error::TrainError;
use crate::run::health::Measurement;
use crate::run::log::Log;

/// Which items an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Train,
    Valid,
}

/// What is known of an entry before its numbers are read.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) part: Part,
    pub(crate) epoch: usize,
    /// Training steps taken.
    pub(crate) step: usize,
    /// Of the last step.
    pub(crate) lr: f64,
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    step: usize,
    epoch: usize,
    split: Part,
    images: usize,
    loss: Option<f64>,
    #[serde(flatten)]
    metrics: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images_per_second: Option<f64>,
    /// Mean global norm of the gradients before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grad_norm: Option<f64>,
    /// Steps skipped because their gradients were not finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped_steps: Option<usize>,
}

/// A loss that is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Divergence {
    loss: f64,
    step: usize,
    epoch: usize,
}

pub(crate) struct Recorder {
    run: PathBuf,
    interrupter: Interrupter,
    /// What to try if the loss is not finite.
    advice: String,
    inner: Mutex<Inner>,
}

struct Inner {
    log: Log,
    train: Sums,
    valid: Sums,
    divergence: Option<Divergence>,
    error: Option<TrainError>,
    clock: Clock,
    plain: Option<Plain>,
    dashboard: Option<Dashboard>,
    gradients: Watch,
}

/// What a part's items have come to so far.
#[derive(Default)]
struct Sums {
    totals: Totals,
    scorer: Scorer,
}

impl Sums {
    fn scores(&self) -> Scores {
        self.totals.scores(self.scorer)
    }
}

/// What is known of the gradients.
#[derive(Default)]
struct Watch {
    /// Steps skipped in a row, and that this has gone too far.
    skipped_in_a_row: usize,
    only_skips: Option<usize>,
    /// The mean norm over the last epoch that ended.
    last_epoch: Option<f64>,
    health: Option<Log>,
}

impl Watch {
    /// Counts the skipped steps in a row; whether they are too many.
    fn count(&mut self, numbers: &GradNumbers) -> bool {
        self.skipped_in_a_row = match numbers.steps {
            0 => self.skipped_in_a_row + numbers.skipped,
            _ => 0,
        };
        let too_many = self.skipped_in_a_row >= MAX_SKIPPED && self.only_skips.is_none();
        if too_many {
            self.only_skips = Some(self.skipped_in_a_row);
        }
        too_many
    }
}

/// Measures the time in training steps alone.
struct Clock {
    seconds: f64,
    running: Option<Instant>,
    /// At the last entry, for the speed since.
    last: f64,
}

impl Clock {
    fn now(&self) -> f64 {
        self.seconds
            + self
                .running
                .map_or(0.0, |start| start.elapsed().as_secs_f64())
    }
}

/// Progress lines on stderr.
struct Plain {
    epochs: usize,
    steps_per_epoch: usize,
    /// Items of an epoch, and what they are called.
    items: (usize, &'static str),
    started: f64,
    first_step: usize,
    next: Instant,
}

/// Steps without a finite gradient in a row after which a run that skips them ends: it does not learn any more.
const MAX_SKIPPED: usize = 10;

/// Prints a line to stderr as `eprintln!` does, but does not mind that nobody reads it any more, as after a terminal was closed.
macro_rules! tell {
    ($($what:tt)*) => {{
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

/// Time between two progress lines of the same epoch.
const INTERVAL: Duration = Duration::from_secs(2);

impl Recorder {
    /// Opens `metrics.jsonl` for a run that is in this state. `advice` says what to try if the loss is not finite.
    pub(crate) fn open(
        path: &Path,
        run: &Path,
        state: &RunState,
        interrupter: Interrupter,
        advice: String,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            run: run.into(),
            interrupter,
            advice,
            inner: Mutex::new(Inner {
                log: Log::open(path, state.step)?,
                train: Sums {
                    totals: state.totals.clone(),
                    scorer: Scorer::default(),
                },
                valid: Sums::default(),
                divergence: None,
                error: None,
                clock: Clock {
                    seconds: state.train_seconds,
                    running: None,
                    last: state.train_seconds,
                },
                plain: None,
                dashboard: None,
                gradients: Watch::default(),
            }),
        })
    }

    /// Also writes progress lines to stderr, of a run of so many epochs of so many steps and items.
    pub(crate) fn print(
        &self,
        epochs: usize,
        steps_per_epoch: usize,
        items: (usize, &'static str),
        step: usize,
    ) {
        let mut inner = self.lock();
        inner.plain = Some(Plain {
            epochs,
            steps_per_epoch,
            items,
            started: inner.clock.now(),
            first_step: step,
            next: Instant::now() + INTERVAL,
        });
    }

    /// Also shows a dashboard.
    pub(crate) fn show(&self, dashboard: Dashboard) {
        self.lock().dashboard = Some(dashboard);
    }

    /// Closes the dashboard.
    pub(crate) fn close(&self) {
        let dashboard = self.lock().dashboard.take();
        drop(dashboard);
    }

    /// Also writes measurements of gradient health.
    pub(crate) fn keep_health(&self, log: Log) {
        self.lock().gradients.health = Some(log);
    }

    /// Called with a measurement after `step` steps.
    pub(crate) fn record_health(&self, epoch: usize, step: usize, health: &GradHealth) {
        let mut inner = self.lock();
        if let Some(log) = &mut inner.gradients.health {
            let written = log.write(&Measurement::new(epoch, step, health));
            inner.keep_error(written);
        }
    }

    /// The mean gradient norm over the last epoch that ended.
    pub(crate) fn last_grad_norm(&self) -> Option<f64> {
        self.lock().gradients.last_epoch
    }

    /// Called when the numbers of an entry were read.
    pub(crate) fn record(&self, entry: &Entry, read: &ReadSums) {
        let mut inner = self.lock();
        let sums = match entry.part {
            Part::Train => &mut inner.train,
            Part::Valid => &mut inner.valid,
        };
        sums.totals += &read.totals;
        sums.scorer = read.scorer;
        if !read.totals.loss.is_finite() && inner.divergence.is_none() {
            inner.divergence = Some(Divergence {
                loss: read.totals.loss,
                step: entry.step,
                epoch: entry.epoch,
            });
            self.interrupter.stop(Some("the loss is not finite"));
        }
        if entry.part == Part::Train {
            if inner.gradients.count(&read.gradients) {
                self.interrupter.stop(Some("no gradient is finite"));
            }
            let now = inner.clock.now();
            let seconds = now - std::mem::replace(&mut inner.clock.last, now);
            let speed = (seconds > 0.0).then(|| read.totals.items as f64 / seconds);
            let scores = read.totals.scores(read.scorer);
            let skipped = read.gradients.skipped;
            inner.write(entry, &read.totals, &scores, Some(entry.lr), speed, skipped);
            inner.print_step(entry, &read.totals, &scores);
        }
        inner.show(entry, read);
        if inner.error.is_some() {
            self.interrupter.stop(Some("metrics could not be written"));
        }
    }

    /// Keeps what went wrong, and ends the run.
    pub(crate) fn fail(&self, error: TrainError) {
        self.lock().keep_error(Err(error));
        self.interrupter.stop(Some("an error ended the run"));
    }

    /// Keeps what a panic said, and ends the run. Burn's dashboard panics where the user chooses to end at once.
    pub(crate) fn panicked(&self, message: String) {
        let run = self.run.clone();
        self.fail(match message.contains("from user input") {
            true => TrainError::Killed(run),
            false => TrainError::Panicked { run, message },
        });
    }

    /// What ends the run, if anything does.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let mut inner = self.lock();
        if let Some(error) = inner.error.take() {
            return Err(error);
        }
        if let Some(skipped) = inner.gradients.only_skips {
            return Err(TrainError::OnlySkips { skipped });
        }
        match inner.divergence {
            None => Ok(()),
            Some(Divergence { loss, step, epoch }) => Err(TrainError::Diverged {
                loss,
                step,
                epoch,
                advice: self.advice.clone(),
            }),
        }
    }

    /// Starts the clock of training steps.
    pub(crate) fn start_clock(&self) {
        self.lock().clock.running = Some(Instant::now());
    }

    /// Stops it and returns the seconds so far.
    pub(crate) fn stop_clock(&self) -> f64 {
        let clock = &mut self.lock().clock;
        clock.seconds = clock.now();
        clock.last = clock.seconds;
        clock.running = None;
        clock.seconds
    }

    /// For a checkpoint: the training totals of the epoch so far and the seconds in training steps, with every line on the
    /// disk.
    pub(crate) fn pause(&self) -> (Totals, f64) {
        let seconds = self.stop_clock();
        let mut inner = self.lock();
        let synced = inner.log.sync();
        inner.keep_error(synced);
        (inner.train.totals.clone(), seconds)
    }

    /// Ends an epoch: writes the validation's line and returns the scores of both parts.
    pub(crate) fn end_epoch(&self, epoch: usize, step: usize) -> (Scores, Scores) {
        let mut inner = self.lock();
        let (mut train, valid) = (
            std::mem::take(&mut inner.train),
            std::mem::take(&mut inner.valid),
        );
        // A run that was resumed between an epoch's last step and its end has read no step of it.
        if train.scorer.is_empty() {
            train.scorer = valid.scorer;
        }
        let (trained, validated) = (train.scores(), valid.scores());
        let entry = Entry {
            part: Part::Valid,
            epoch,
            step,
            lr: 0.0,
        };
        inner.write(&entry, &valid.totals, &validated, None, None, 0);
        let norm = train.totals.mean_grad_norm();
        inner.gradients.last_epoch = norm;
        if let Some(plain) = &inner.plain {
            let norm = norm.map_or_else(String::new, |norm| format!(", gradient norm {norm:.4}"));
            tell!(
                "epoch {epoch}/{}  train loss {:.4}{}{norm}  valid loss {:.4}{}",
                plain.epochs,
                trained.loss,
                shown(&trained, ", "),
                validated.loss,
                shown(&validated, ", "),
            );
        }
        if let Some(dashboard) = &mut inner.dashboard {
            dashboard.end_epoch(epoch);
        }
        (trained, validated)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn keep_error(&mut self, result: Result<(), TrainError>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }

    fn write(
        &mut self,
        entry: &Entry,
        totals: &Totals,
        scores: &Scores,
        lr: Option<f64>,
        speed: Option<f64>,
        skipped: usize,
    ) {
        let metrics = scores.metrics.iter();
        let line = Line {
            step: entry.step,
            epoch: entry.epoch,
            split: entry.part,
            images: totals.items,
            // JSON has no NaN: null says that the loss was not finite, or that every step was skipped.
            loss: (scores.loss.is_finite() && totals.items > 0).then_some(scores.loss),
            metrics: metrics
                .map(|(name, value)| (name.clone(), (*value).into()))
                .collect(),
            lr,
            images_per_second: speed.map(|speed| (speed * 10.0).round() / 10.0),
            grad_norm: totals.mean_grad_norm(),
            skipped_steps: (skipped > 0).then_some(skipped),
        };
        let written = self.log.write(&line);
        self.keep_error(written);
    }

    fn print_step(&mut self, entry: &Entry, totals: &Totals, scores: &Scores) {
        let now = self.clock.now();
        let Some(plain) = &mut self.plain else {
            return;
        };
        if Instant::now() < plain.next {
            return;
        }
        plain.next = Instant::now() + INTERVAL;
        let steps = (entry.step - plain.first_step).max(1) as f64;
        let per_step = (now - plain.started) / steps;
        let left = (plain.epochs * plain.steps_per_epoch).saturating_sub(entry.step);
        let items = plain.items.0 as f64 / plain.steps_per_epoch as f64;
        let seen = match totals.items {
            0 => "every step skipped".into(),
            _ => format!("loss {:.4}{}", scores.loss, shown(scores, "  ")),
        };
        tell!(
            "epoch {}/{}  step {}/{}  {seen}  {} {}/s  {} left",
            entry.epoch,
            plain.epochs,
            entry.step - (entry.epoch - 1) * plain.steps_per_epoch,
            plain.steps_per_epoch,
            speed(items / per_step),
            plain.items.1,
            clock_text(per_step * left as f64),
        );
    }

    fn show(&mut self, entry: &Entry, read: &ReadSums) {
        let Some(dashboard) = &mut self.dashboard else {
            return;
        };
        let epoch = match entry.part {
            Part::Train => &self.train,
            Part::Valid => &self.valid,
        };
        let norms = [&read.totals, &epoch.totals].map(Totals::mean_grad_norm);
        let now = read.totals.scores(read.scorer);
        dashboard.update(entry, [&now, &epoch.scores()], norms);
    }
}

/// The metrics but for the loss, each after a separator, or the first after `first`.
fn shown(scores: &Scores, first: &str) -> String {
    let masks = scores.get("pixel_error").is_some();
    let mut text = String::new();
    for (name, value) in &scores.metrics {
        let part = match name.as_str() {
            // The share of right pixels says the same as the pixel error.
            "accuracy" if masks => continue,
            "accuracy" => format!("accuracy {:.2} %", value * 100.0),
            "pixel_error" => format!("pixel error {:.2} %", value * 100.0),
            "iou" => format!("IoU {value:.4}"),
            "dice" => format!("Dice {value:.4}"),
            name => format!("{name} {value:.4}"),
        };
        text.push_str(if text.is_empty() { first } else { ", " });
        text.push_str(&part);
    }
    text
}

/// Items a second; large ones are few.
fn speed(per_second: f64) -> String {
    match per_second < 20.0 {
        true => format!("{per_second:.1}"),
        false => format!("{per_second:.0}"),
    }
}

/// `1:05` or `2:00:07`.
pub(crate) fn clock_text(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};

    fn entry(part: Part, step: usize) -> Entry {
        Entry {
            part,
            epoch: 1,
            step,
            lr: 0.1,
        }
    }

    fn open_with(path: &Path, step: usize, interrupter: &Interrupter) -> Recorder {
        let state = RunState {
            step,
            ..RunState::default()
        };
        let run = path.parent().unwrap();
        Recorder::open(path, run, &state, interrupter.clone(), "less".into()).unwrap()
    }

    fn open(path: &Path, step: usize) -> Recorder {
        open_with(path, step, &Interrupter::new())
    }

    /// The losses and right answers of so many images, and what is known of the gradients.
    fn sums(loss: f64, correct: f64, items: usize, gradients: GradNumbers) -> ReadSums {
        ReadSums {
            totals: Totals {
                loss,
                items,
                means: vec![("accuracy".into(), correct)],
                grad_norm: gradients.norm,
                grad_steps: gradients.steps,
                ..Totals::default()
            },
            gradients,
            ..ReadSums::default()
        }
    }

    fn record(recorder: &Recorder, entry: Entry, loss: f64, correct: f64, items: usize) {
        recorder.record(&entry, &sums(loss, correct, items, GradNumbers::default()));
    }

    fn steps(path: &Path) -> Vec<usize> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Line>(line).unwrap().step)
            .collect()
    }

    #[test]
    fn a_resumed_run_drops_the_lines_after_its_checkpoint_and_a_line_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let recorder = open(&path, 0);
        for step in [10, 20, 30] {
            record(&recorder, entry(Part::Train, step), 8.0, 2.0, 4);
        }
        drop(recorder);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"step\": 20, \"epo").unwrap();
        drop(open(&path, 20));
        assert_eq!(steps(&path), [10, 20]);
    }

    #[test]
    fn the_totals_of_an_epoch_are_weighted_by_images() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = open(&folder.path().join("metrics.jsonl"), 0);
        record(&recorder, entry(Part::Train, 1), 8.0, 1.0, 4);
        record(&recorder, entry(Part::Train, 2), 1.0, 1.0, 1);
        record(&recorder, entry(Part::Valid, 2), 3.0, 2.0, 2);
        let (train, valid) = recorder.end_epoch(1, 2);
        assert_eq!((train.loss, train.get("accuracy")), (1.8, Some(0.4)));
        assert_eq!((valid.loss, valid.get("accuracy")), (1.5, Some(1.0)));
        assert_eq!(recorder.end_epoch(2, 4).0, Scores::default());
    }

    #[test]
    fn a_loss_that_is_not_finite_stops_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let interrupter = Interrupter::new();
        let recorder = open_with(&path, 0, &interrupter);
        record(&recorder, entry(Part::Train, 3), 1.0, 1.0, 4);
        assert!(!interrupter.should_stop());
        record(&recorder, entry(Part::Train, 7), f64::NAN, 1.0, 4);
        assert!(interrupter.should_stop());
        let ended = recorder.check().unwrap_err();
        assert!(
            matches!(ended, TrainError::Diverged { step: 7, .. }),
            "{ended}"
        );
        assert_eq!(steps(&path), [3, 7]);
    }

    #[test]
    fn a_run_that_only_skips_steps_is_stopped_and_one_that_recovers_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let interrupter = Interrupter::new();
        let recorder = open_with(&path, 0, &interrupter);
        let numbers = |steps: usize| GradNumbers {
            norm: steps as f64 * 2.0,
            steps,
            skipped: 4 - steps,
            skipped_items: 0,
        };
        // Eight in a row, one step that is fine, then eight again.
        for (i, steps) in [0, 0, 1, 0, 0].into_iter().enumerate() {
            let read = sums(0.0, 0.0, steps * 4, numbers(steps));
            recorder.record(&entry(Part::Train, i + 1), &read);
        }
        recorder.check().unwrap();
        assert!(!interrupter.should_stop());
        recorder.record(&entry(Part::Train, 6), &sums(0.0, 0.0, 0, numbers(0)));
        let ended = recorder.check().unwrap_err();
        assert!(
            matches!(ended, TrainError::OnlySkips { skipped: 12 }),
            "{ended}"
        );
        assert!(interrupter.should_stop());
        recorder.end_epoch(1, 6);
        assert_eq!(recorder.last_grad_norm(), Some(2.0));
        let text = fs::read_to_string(&path).unwrap();
        let first: Line = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (first.loss, first.skipped_steps, first.grad_norm),
            (None, Some(4), None)
        );
    }

    #[test]
    fn time_left_reads_as_a_clock() {
        assert_eq!(clock_text(65.4), "1:05");
        assert_eq!(clock_text(7207.0), "2:00:07");
    }
}
