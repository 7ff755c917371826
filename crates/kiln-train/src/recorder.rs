//! Where the numbers of a run arrive once they are read from the device: `metrics.jsonl`, progress
//! lines, the totals of an epoch, and the watch for a loss that is no longer finite.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use burn::train::Interrupter;
use kiln_clip::GradHealth;
use serde::{Deserialize, Serialize};

use crate::clipping::GradNumbers;
use crate::error::TrainError;
use crate::files::{for_each_line, open_in_place, write_atomically};
use crate::health::HealthLog;
use crate::segment::Overlap;

/// Which images an entry is about.
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
    /// Images of the epoch's part seen so far, and in all.
    pub(crate) progress: (usize, usize),
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    step: usize,
    epoch: usize,
    split: Part,
    images: usize,
    loss: Option<f64>,
    accuracy: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iou: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dice: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pixel_error: Option<f64>,
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

/// Sums over the images of a part of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) loss: f64,
    pub(crate) correct: f64,
    pub(crate) images: usize,
    /// Sum of the gradients' norms, and of how many steps.
    #[serde(default)]
    pub(crate) grad_norm: f64,
    #[serde(default)]
    pub(crate) grad_steps: usize,
}

impl Totals {
    pub(crate) fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    pub(crate) fn mean_grad_norm(&self) -> Option<f64> {
        (self.grad_steps > 0).then(|| self.grad_norm / self.grad_steps as f64)
    }

    pub(crate) fn accuracy(&self) -> f64 {
        self.correct / self.images.max(1) as f64
    }
}

/// What an epoch came to.
#[derive(Debug)]
pub(crate) struct EpochTotals {
    pub(crate) train: Totals,
    pub(crate) valid: Totals,
    /// Of no class unless the task is segmentation.
    pub(crate) valid_overlap: Overlap,
}

/// A loss that is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Divergence {
    pub(crate) loss: f64,
    pub(crate) step: usize,
    pub(crate) epoch: usize,
}

pub(crate) struct Recorder {
    interrupter: Interrupter,
    inner: Mutex<Inner>,
}

struct Inner {
    path: PathBuf,
    file: File,
    train: Totals,
    valid: Totals,
    divergence: Option<Divergence>,
    error: Option<TrainError>,
    clock: Clock,
    plain: Option<Plain>,
    gradients: Watch,
    overlap: Overlaps,
}

/// What is known of the gradients.
#[derive(Default)]
struct Watch {
    /// Of the entry that is recorded next.
    next: GradNumbers,
    /// Steps skipped in a row, and that this has gone too far.
    skipped_in_a_row: usize,
    only_skips: Option<usize>,
    /// The mean norm over the last epoch that ended.
    last_epoch: Option<f64>,
    health: Option<HealthLog>,
}

/// The pixels that a part's totals are of, in segmentation.
#[derive(Default)]
struct Overlaps {
    train: Overlap,
    valid: Overlap,
    /// Of the entry that is recorded next.
    next: Overlap,
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
    /// Opens `metrics.jsonl`. Lines after `step` are dropped: they belong to steps that a killed run
    /// took after its last checkpoint and that will be taken again.
    pub(crate) fn open(
        path: &Path,
        step: usize,
        train: Totals,
        train_seconds: f64,
        interrupter: Interrupter,
    ) -> Result<Self, TrainError> {
        keep_lines_until(path, step)?;
        let file = open_in_place(path, OpenOptions::new().append(true))?;
        Ok(Self {
            interrupter,
            inner: Mutex::new(Inner {
                path: path.into(),
                file,
                train,
                valid: Totals::default(),
                divergence: None,
                error: None,
                clock: Clock {
                    seconds: train_seconds,
                    running: None,
                    last: train_seconds,
                },
                plain: None,
                gradients: Watch::default(),
                overlap: Overlaps::default(),
            }),
        })
    }

    /// Also writes progress lines to stderr.
    pub(crate) fn print(&self, epochs: usize, steps_per_epoch: usize, first_step: usize) {
        let mut inner = self.lock();
        inner.plain = Some(Plain {
            epochs,
            steps_per_epoch,
            started: inner.clock.now(),
            first_step,
            next: Instant::now() + INTERVAL,
        });
    }

    /// Also writes measurements of gradient health.
    pub(crate) fn keep_health(&self, log: HealthLog) {
        self.lock().gradients.health = Some(log);
    }

    /// Called with a measurement after `step` steps.
    pub(crate) fn record_health(&self, epoch: usize, step: usize, health: &GradHealth) {
        let mut inner = self.lock();
        if let Some(log) = &mut inner.gradients.health
            && let Err(error) = log.write(epoch, step, health)
        {
            inner.error.get_or_insert(error);
        }
    }

    /// Called with what is known of the gradients of the entry that is recorded next.
    pub(crate) fn record_gradients(&self, numbers: &GradNumbers) {
        let mut inner = self.lock();
        let watch = &mut inner.gradients;
        watch.next = *numbers;
        watch.skipped_in_a_row = match numbers.steps {
            0 => watch.skipped_in_a_row + numbers.skipped,
            _ => 0,
        };
        if watch.skipped_in_a_row >= MAX_SKIPPED && watch.only_skips.is_none() {
            watch.only_skips = Some(watch.skipped_in_a_row);
            self.interrupter.stop(Some("no gradient is finite"));
        }
    }

    /// How many steps were skipped in a row, if that ended the run.
    pub(crate) fn only_skips(&self) -> Option<usize> {
        self.lock().gradients.only_skips
    }

    /// The mean gradient norm over the last epoch that ended.
    pub(crate) fn last_grad_norm(&self) -> Option<f64> {
        self.lock().gradients.last_epoch
    }

    /// Continues with what a checkpoint says of the epoch's pixels so far.
    pub(crate) fn continue_overlap(&self, overlap: Overlap) {
        self.lock().overlap.train = overlap;
    }

    /// Called with the pixels of the entry that is recorded next.
    pub(crate) fn record_overlap(&self, part: Part, overlap: &Overlap) {
        let all = &mut self.lock().overlap;
        match part {
            Part::Train => all.train.add(overlap),
            Part::Valid => all.valid.add(overlap),
        }
        all.next = overlap.clone();
    }

    /// The training images' pixels of the epoch so far.
    pub(crate) fn train_overlap(&self) -> Overlap {
        self.lock().overlap.train.clone()
    }

    /// Called when the numbers of an entry were read: the sum of the losses and the right answers of
    /// `images` images.
    pub(crate) fn record(&self, entry: &Entry, loss: f64, correct: f64, images: usize) {
        let mut inner = self.lock();
        let numbers = std::mem::take(&mut inner.gradients.next);
        let totals = match entry.part {
            Part::Train => &mut inner.train,
            Part::Valid => &mut inner.valid,
        };
        totals.loss += loss;
        totals.grad_norm += numbers.norm;
        totals.grad_steps += numbers.steps;
        totals.correct += correct;
        totals.images += images;
        if !loss.is_finite() && inner.divergence.is_none() {
            inner.divergence = Some(Divergence {
                loss,
                step: entry.step,
                epoch: entry.epoch,
            });
            self.interrupter.stop(Some("the loss is not finite"));
        }
        if entry.part == Part::Train {
            let now = inner.clock.now();
            let seconds = now - std::mem::replace(&mut inner.clock.last, now);
            let sums = Totals {
                loss,
                correct,
                images,
                grad_norm: numbers.norm,
                grad_steps: numbers.steps,
            };
            let speed = (seconds > 0.0).then(|| images as f64 / seconds);
            let overlap = inner.overlap.next.clone();
            inner.write(entry, sums, Some(entry.lr), speed, numbers.skipped);
            inner.print_step(entry, sums, &overlap);
        }
        if inner.error.is_some() {
            self.interrupter.stop(Some("metrics could not be written"));
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

    /// Training totals of the epoch so far.
    pub(crate) fn train_totals(&self) -> Totals {
        self.lock().train
    }

    /// Ends an epoch: writes the validation's line and returns what is known of the epoch.
    pub(crate) fn end_epoch(&self, epoch: usize, step: usize) -> EpochTotals {
        let mut inner = self.lock();
        let totals = (inner.train, inner.valid);
        let entry = Entry {
            part: Part::Valid,
            epoch,
            step,
            lr: 0.0,
            progress: (0, 0),
        };
        let overlap = std::mem::take(&mut inner.overlap);
        inner.overlap.next = overlap.valid.clone();
        inner.write(&entry, totals.1, None, None, 0);
        inner.gradients.last_epoch = totals.0.mean_grad_norm();
        if let Some(plain) = &inner.plain {
            let norm = totals.0.mean_grad_norm();
            let norm = norm.map_or_else(String::new, |norm| format!(", gradient norm {norm:.4}"));
            tell!(
                "epoch {epoch}/{}  train loss {:.4}, {}{norm}  valid loss {:.4}, {}",
                plain.epochs,
                totals.0.mean_loss(),
                scores(&totals.0, &overlap.train),
                totals.1.mean_loss(),
                scores(&totals.1, &overlap.valid),
            );
        }
        inner.train = Totals::default();
        inner.valid = Totals::default();
        EpochTotals {
            train: totals.0,
            valid: totals.1,
            valid_overlap: overlap.valid,
        }
    }

    pub(crate) fn divergence(&self) -> Option<Divergence> {
        self.lock().divergence
    }

    pub(crate) fn take_error(&self) -> Option<TrainError> {
        self.lock().error.take()
    }

    /// Waits until every line is on the disk.
    pub(crate) fn sync(&self) {
        let mut inner = self.lock();
        if let Err(error) = inner.file.sync_data() {
            let error = TrainError::io("write", &inner.path, error);
            inner.error.get_or_insert(error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn write(
        &mut self,
        entry: &Entry,
        sums: Totals,
        lr: Option<f64>,
        speed: Option<f64>,
        skipped: usize,
    ) {
        let loss = sums.mean_loss();
        let overlap = std::mem::take(&mut self.overlap.next);
        let masks = !overlap.is_empty();
        let line = Line {
            step: entry.step,
            epoch: entry.epoch,
            split: entry.part,
            images: sums.images,
            // JSON has no NaN: null says that the loss was not finite, or that every step was skipped.
            loss: (loss.is_finite() && sums.images > 0).then_some(loss),
            accuracy: sums.accuracy(),
            iou: masks.then(|| overlap.iou()),
            dice: masks.then(|| overlap.dice()),
            pixel_error: masks.then(|| 1.0 - sums.accuracy()),
            lr,
            images_per_second: speed.map(|speed| (speed * 10.0).round() / 10.0),
            grad_norm: sums.mean_grad_norm(),
            skipped_steps: (skipped > 0).then_some(skipped),
        };
        let mut text = serde_json::to_string(&line).expect("plain values have a JSON form");
        text.push('\n');
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            let error = TrainError::io("write", &self.path, error);
            self.error.get_or_insert(error);
        }
    }

    fn print_step(&mut self, entry: &Entry, sums: Totals, overlap: &Overlap) {
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
        let images = entry.progress.1 as f64 / plain.steps_per_epoch as f64;
        let seen = match sums.images {
            0 => "every step skipped".into(),
            _ => format!("loss {:.4}  {}", sums.mean_loss(), scores(&sums, overlap)),
        };
        tell!(
            "epoch {}/{}  step {}/{}  {seen}  {} images/s  {} left",
            entry.epoch,
            plain.epochs,
            entry.step - (entry.epoch - 1) * plain.steps_per_epoch,
            plain.steps_per_epoch,
            speed(images / per_step),
            clock_text(per_step * left as f64),
        );
    }
}

/// Accuracy, or in segmentation IoU, Dice and pixel error, as progress lines tell them.
fn scores(sums: &Totals, overlap: &Overlap) -> String {
    match overlap.is_empty() {
        true => format!("accuracy {:.2} %", sums.accuracy() * 100.0),
        false => format!(
            "IoU {:.4}, Dice {:.4}, pixel error {:.2} %",
            overlap.iou(),
            overlap.dice(),
            (1.0 - sums.accuracy()) * 100.0
        ),
    }
}

/// Images a second; large ones are few.
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

/// All that every line of a log has.
#[derive(Deserialize)]
struct At {
    step: usize,
}

/// Drops what a log has after a step, and a line cut short.
pub(crate) fn keep_lines_until(path: &Path, step: usize) -> Result<(), TrainError> {
    let read = |error| TrainError::io("read", path, error);
    // Refused before anything is replaced, if it is a link.
    drop(open_in_place(path, OpenOptions::new().append(true))?);
    let mut kept = Vec::new();
    let mut changed = false;
    for_each_line(path, |line| match serde_json::from_slice::<At>(line) {
        Ok(parsed) if parsed.step <= step => {
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
        // A line cut short by a kill is dropped too.
        _ => changed = true,
    })?;
    let length = std::fs::metadata(path).map_err(read)?.len();
    match changed || length != kept.len() as u64 {
        true => write_atomically(path, &kept),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn entry(part: Part, step: usize) -> Entry {
        Entry {
            part,
            epoch: 1,
            step,
            lr: 0.1,
            progress: (step * 4, 100),
        }
    }

    fn open(path: &Path, step: usize) -> Recorder {
        Recorder::open(path, step, Totals::default(), 0.0, Interrupter::new()).unwrap()
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
            recorder.record(&entry(Part::Train, step), 8.0, 2.0, 4);
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
        recorder.record(&entry(Part::Train, 1), 8.0, 1.0, 4);
        recorder.record(&entry(Part::Train, 2), 1.0, 1.0, 1);
        recorder.record(&entry(Part::Valid, 2), 3.0, 2.0, 2);
        let EpochTotals { train, valid, .. } = recorder.end_epoch(1, 2);
        assert_eq!((train.mean_loss(), train.accuracy()), (1.8, 0.4));
        assert_eq!((valid.mean_loss(), valid.accuracy()), (1.5, 1.0));
        assert_eq!(recorder.end_epoch(2, 4).train, Totals::default());
    }

    #[test]
    fn a_loss_that_is_not_finite_stops_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let interrupter = Interrupter::new();
        let recorder =
            Recorder::open(&path, 0, Totals::default(), 0.0, interrupter.clone()).unwrap();
        recorder.record(&entry(Part::Train, 3), 1.0, 1.0, 4);
        assert!(!interrupter.should_stop());
        recorder.record(&entry(Part::Train, 7), f64::NAN, 1.0, 4);
        assert!(interrupter.should_stop());
        assert_eq!(recorder.divergence().unwrap().step, 7);
        assert_eq!(steps(&path), [3, 7]);
    }

    #[test]
    fn a_run_that_only_skips_steps_is_stopped_and_one_that_recovers_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let interrupter = Interrupter::new();
        let recorder =
            Recorder::open(&path, 0, Totals::default(), 0.0, interrupter.clone()).unwrap();
        let numbers = |steps: usize| GradNumbers {
            norm: steps as f64 * 2.0,
            steps,
            skipped: 4 - steps,
            skipped_images: 0,
        };
        // Eight in a row, one step that is fine, then eight again.
        for (i, steps) in [0, 0, 1, 0, 0].into_iter().enumerate() {
            recorder.record_gradients(&numbers(steps));
            recorder.record(&entry(Part::Train, i + 1), 0.0, 0.0, steps * 4);
        }
        assert_eq!(recorder.only_skips(), None);
        assert!(!interrupter.should_stop());
        recorder.record_gradients(&numbers(0));
        recorder.record(&entry(Part::Train, 6), 0.0, 0.0, 0);
        assert_eq!(recorder.only_skips(), Some(12));
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
