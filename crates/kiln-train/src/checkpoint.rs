//! Checkpoints: the whole state of a run at one step, complete or not there.
//!
//! burn-train hands the model, the optimizer and the schedule to three threads. Each writes its
//! file into a temporary folder; the one that finishes last adds `state.json`, with the length and
//! CRC-32 of every file, and renames the folder. A reader takes the newest folder whose files all
//! match, so that neither a kill in the middle nor a disk that lost a block is ever picked up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use burn::store::ModuleRecord;
use burn::train::SupervisedTraining;
use burn::train::checkpoint::{
    Checkpoint, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
};
use burn::train::metric::store::EventStoreClient;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::files::{plain_folder, read_bounded, read_json, sync_folder, write_synced};
use crate::recorder::Totals;
use crate::task::Task;

const STATE: &str = "state.json";
const BEST: &str = "best";
const PARTS: [&str; 3] = ["model", "optimizer", "schedule"];

/// Where a run is, beside its weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    /// Training steps taken.
    pub(crate) step: usize,
    /// The epoch that the next step belongs to, from 1.
    pub(crate) epoch: usize,
    /// Batches of that epoch taken already.
    pub(crate) batch: usize,
    /// Metrics of the epoch so far.
    pub(crate) totals: Totals,
    /// Seconds spent in training steps.
    pub(crate) train_seconds: f64,
    /// In segmentation, the pixels that `totals` are of.
    #[serde(default)]
    pub(crate) overlap: crate::segment::Overlap,
    /// The best validated epoch, for early stopping.
    pub(crate) best: Option<Best>,
    /// What gradient clipping has gathered.
    #[serde(default)]
    pub(crate) clip: kiln_clip::ClipState,
}

/// The best validated epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    pub(crate) epoch: usize,
    pub(crate) loss: f64,
}

/// `state.json`: the state and what the other files must be.
#[derive(Serialize, Deserialize)]
struct Manifest {
    state: RunState,
    files: BTreeMap<String, Contents>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Contents {
    bytes: u64,
    crc32: u32,
}

impl Contents {
    fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(bytes),
        }
    }
}

/// Writes checkpoints of one run.
#[derive(Clone)]
pub(crate) struct Writer {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    folder: PathBuf,
    keep: usize,
    /// Checkpoints begun and not complete, by step.
    open: BTreeMap<usize, Manifest>,
    error: Option<TrainError>,
    /// Where a resumed run reads from.
    source: Option<PathBuf>,
}

impl Writer {
    /// Writes into `folder` and keeps the newest `keep`; `source` is what a resumed run restores.
    pub(crate) fn new(folder: PathBuf, keep: usize, source: Option<PathBuf>) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                folder,
                keep,
                open: BTreeMap::new(),
                error: None,
                source,
            })),
        }
    }

    /// Registers the writer with burn-train.
    pub(crate) fn install(&self, training: SupervisedTraining<Task>) -> SupervisedTraining<Task> {
        let part = |name| Part {
            writer: self.clone(),
            name,
        };
        training
            .with_checkpointing_strategy(Always)
            .with_custom_checkpointers(part(PARTS[0]), part(PARTS[1]), part(PARTS[2]))
    }

    /// Begins the checkpoint of a state; burn-train's checkpointer then delivers its parts.
    pub(crate) fn begin(&self, state: RunState, best: Option<ModuleRecord>) {
        let mut shared = self.lock();
        let step = state.step;
        let manifest = Manifest {
            state,
            files: BTreeMap::new(),
        };
        shared.open.insert(step, manifest);
        let written = shared.start(step).and_then(|()| match best {
            Some(best) => shared.write(step, BEST, best),
            None => Ok(()),
        });
        if let Err(error) = written {
            shared.error.get_or_insert(error);
        }
    }

    /// What went wrong while writing, if anything did.
    pub(crate) fn take_error(&self) -> Option<TrainError> {
        self.lock().error.take()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Shared {
    fn temporary(&self, step: usize) -> PathBuf {
        self.folder.join(format!(".step-{step:09}.partial"))
    }

    /// Makes the temporary folder of a step.
    fn start(&self, step: usize) -> Result<(), TrainError> {
        plain_folder(&self.folder)?;
        let temporary = self.temporary(step);
        // A link or a folder that someone else has put there is not written into.
        if temporary.symlink_metadata().is_ok() {
            let removed = fs::remove_dir_all(&temporary);
            removed.map_err(|error| TrainError::io("remove", &temporary, error))?;
        }
        fs::create_dir_all(&temporary).map_err(|error| TrainError::io("create", temporary, error))
    }

    fn write(
        &mut self,
        step: usize,
        name: &str,
        record: impl Checkpoint,
    ) -> Result<(), TrainError> {
        let file = format!("{name}.bpk");
        let path = self.temporary(step).join(&file);
        let bytes = record
            .checkpoint_into_bytes()
            .map_err(|error| TrainError::Damaged {
                path: path.clone(),
                problem: error.to_string(),
            })?;
        write_synced(&path, &bytes).map_err(|error| TrainError::io("write", &path, error))?;
        if let Some(manifest) = self.open.get_mut(&step) {
            manifest.files.insert(file, Contents::of(&bytes));
        }
        Ok(())
    }

    /// Publishes the checkpoint when all its parts are there, and removes old ones.
    fn publish_if_complete(&mut self, step: usize) -> Result<(), TrainError> {
        let complete = self.open.get(&step).is_some_and(|manifest| {
            let there = |part| manifest.files.contains_key(&format!("{part}.bpk"));
            PARTS.into_iter().all(there)
        });
        if !complete {
            return Ok(());
        }
        let Some(manifest) = self.open.remove(&step) else {
            return Ok(());
        };
        let temporary = self.temporary(step);
        let path = temporary.join(STATE);
        let bytes = serde_json::to_vec_pretty(&manifest).expect("plain values have a JSON form");
        let published = self.folder.join(format!("step-{step:09}"));
        write_synced(&path, &bytes)
            .and_then(|()| sync_folder(&path))
            .and_then(|()| match published.exists() {
                // A resumed run may pass the step of a checkpoint that was damaged.
                true => fs::remove_dir_all(&published),
                false => Ok(()),
            })
            .and_then(|()| fs::rename(&temporary, &published))
            .and_then(|()| sync_folder(&published))
            .map_err(|error| TrainError::io("write", &published, error))?;
        for (_, old) in list(&self.folder).into_iter().skip(self.keep) {
            fs::remove_dir_all(&old).map_err(|error| TrainError::io("remove", old, error))?;
        }
        Ok(())
    }
}

/// The checkpoints of a folder, newest first.
fn list(folder: &Path) -> Vec<(usize, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(usize, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let step = name.strip_prefix("step-")?.parse().ok()?;
            Some((step, entry.path()))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// A checkpoint found on disk, every file checked.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) state: RunState,
}

impl Found {
    /// Refuses a state that no run of this length can be in.
    pub(crate) fn check(&self, epochs: usize, steps_per_epoch: usize) -> Result<(), TrainError> {
        let RunState {
            step, epoch, batch, ..
        } = self.state;
        let steps = epoch
            .checked_sub(1)
            .and_then(|done| done.checked_mul(steps_per_epoch)?.checked_add(batch));
        let fits = batch <= steps_per_epoch && epoch <= epochs + 1 && steps == Some(step);
        match fits
            && self
                .state
                .best
                .is_none_or(|best| (1..=epoch).contains(&best.epoch))
        {
            true => Ok(()),
            false => Err(TrainError::Damaged {
                path: self.path.join(STATE),
                problem: format!(
                    "step {step} is not batch {batch} of epoch {epoch} of {epochs}, each of {steps_per_epoch} batches"
                ),
            }),
        }
    }
}

/// The newest complete checkpoint, and a line for each newer one that is damaged. Removes what
/// a killed process left half-written.
pub(crate) fn newest(folder: &Path) -> (Option<Found>, Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if plain_folder(folder).is_ok() && name.starts_with(".step-") && name.ends_with(".partial")
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let mut skipped = Vec::new();
    for (_, path) in list(folder) {
        match check(&path) {
            Ok(state) => return (Some(Found { path, state }), skipped),
            Err(error) => skipped.push(format!("skipping a checkpoint: {error}")),
        }
    }
    (None, skipped)
}

fn check(path: &Path) -> Result<RunState, TrainError> {
    let manifest: Manifest = read_json(&path.join(STATE))?;
    for part in PARTS {
        if !manifest.files.contains_key(&format!("{part}.bpk")) {
            return Err(TrainError::Damaged {
                path: path.join(STATE),
                problem: format!("it does not list {part}.bpk"),
            });
        }
    }
    for (name, contents) in &manifest.files {
        let parts = PARTS.into_iter().chain([BEST]);
        if !parts
            .map(|part| format!("{part}.bpk"))
            .any(|part| part == *name)
        {
            return Err(TrainError::Damaged {
                path: path.join(STATE),
                problem: format!("{name:?} is no file of a checkpoint"),
            });
        }
        let file = path.join(name);
        let bytes = read_bounded(&file, contents.bytes)?;
        if Contents::of(&bytes) != *contents {
            return Err(TrainError::Damaged {
                path: file,
                problem: "its length or CRC-32 differs from state.json".into(),
            });
        }
    }
    Ok(manifest.state)
}

/// The weights of the best epoch that a checkpoint holds, if it holds any.
pub(crate) fn best_weights(checkpoint: &Path) -> Result<Option<ModuleRecord>, TrainError> {
    let path = checkpoint.join(format!("{BEST}.bpk"));
    if !path.exists() {
        return Ok(None);
    }
    let record = ModuleRecord::load(&path);
    record.map(Some).map_err(|error| TrainError::Damaged {
        path,
        problem: error.to_string(),
    })
}

/// One of the three records that burn-train saves and restores.
struct Part {
    writer: Writer,
    name: &'static str,
}

impl<R: Checkpoint> Checkpointer<R> for Part {
    fn save(&self, step: usize, record: R) -> Result<(), CheckpointerError> {
        let mut shared = self.writer.lock();
        let result = shared
            .write(step, self.name, record)
            .and_then(|()| shared.publish_if_complete(step));
        result.map_err(|error| {
            let message = error.to_string();
            shared.error.get_or_insert(error);
            CheckpointerError::Unknown(message)
        })
    }

    fn delete(&self, _step: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    /// Restores from the checkpoint that the run resumes from, which was checked before.
    fn restore(&self, _epoch: usize) -> Result<R, CheckpointerError> {
        let source = self.writer.lock().source.clone();
        let Some(source) = source else {
            return Err(CheckpointerError::Unknown(
                "no checkpoint to restore".into(),
            ));
        };
        R::load(source.join(format!("{}.bpk", self.name)))
    }
}

/// burn-train asks after every epoch; Kiln's loop asks only when it wants a checkpoint.
struct Always;

impl CheckpointingStrategy for Always {
    fn checkpointing(&mut self, _: usize, _: &EventStoreClient) -> Vec<CheckpointingAction> {
        vec![CheckpointingAction::Save]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::lr_scheduler::LrSchedulerRecord;
    use burn::optim::OptimizerRecord;

    fn records() -> (ModuleRecord, OptimizerRecord, LrSchedulerRecord) {
        let device = kiln_testing::devices().remove(0);
        let linear = burn::nn::LinearConfig::new(2, 2).init(&device);
        let model = burn::module::Module::into_record(linear);
        let optimizer = crate::optimizer(&Default::default()).to_record();
        (
            model,
            optimizer,
            LrSchedulerRecord::new().with_scalar("next", 3usize),
        )
    }

    fn part(writer: &Writer, name: &'static str) -> Part {
        Part {
            writer: writer.clone(),
            name,
        }
    }

    fn save(writer: &Writer, step: usize) {
        let (model, optimizer, schedule) = records();
        writer.begin(
            RunState {
                step,
                epoch: 1,
                ..Default::default()
            },
            None,
        );
        part(writer, "schedule").save(step, schedule).unwrap();
        part(writer, "model").save(step, model).unwrap();
        part(writer, "optimizer").save(step, optimizer).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_checkpoint_appears_only_when_its_last_part_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::new(folder.path().into(), 2, None);
        let (model, optimizer, schedule) = records();
        writer.begin(
            RunState {
                step: 7,
                ..Default::default()
            },
            None,
        );
        part(&writer, "model").save(7, model).unwrap();
        part(&writer, "optimizer").save(7, optimizer).unwrap();
        assert!(list(folder.path()).is_empty());
        part(&writer, "schedule").save(7, schedule).unwrap();
        assert_eq!(names(folder.path()), ["step-000000007"]);
        assert_eq!(newest(folder.path()).0.unwrap().state.step, 7);
    }

    #[test]
    fn only_the_newest_checkpoints_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::new(folder.path().into(), 2, None);
        (1..=4).for_each(|step| save(&writer, step * 10));
        assert_eq!(names(folder.path()), ["step-000000030", "step-000000040"]);
    }

    #[test]
    fn a_damaged_checkpoint_is_skipped_for_the_one_before() {
        for damage in ["flip", "truncate", "remove", "state"] {
            let folder = tempfile::tempdir().unwrap();
            let writer = Writer::new(folder.path().into(), 3, None);
            save(&writer, 10);
            save(&writer, 20);
            let newest_folder = folder.path().join("step-000000020");
            let model = newest_folder.join("model.bpk");
            let mut bytes = fs::read(&model).unwrap();
            match damage {
                "flip" => {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    fs::write(&model, bytes).unwrap();
                }
                "truncate" => fs::write(&model, &bytes[..bytes.len() - 1]).unwrap(),
                "remove" => fs::remove_file(&model).unwrap(),
                _ => fs::write(newest_folder.join(STATE), b"{\"state\": ").unwrap(),
            }
            let (found, skipped) = newest(folder.path());
            assert_eq!(found.unwrap().state.step, 10, "{damage}");
            assert_eq!(skipped.len(), 1, "{damage}");
            assert!(skipped[0].contains("step-000000020"), "{}", skipped[0]);
        }
    }

    #[test]
    fn what_a_killed_process_left_is_never_picked_up_and_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::new(folder.path().into(), 3, None);
        save(&writer, 10);
        writer.begin(
            RunState {
                step: 20,
                ..Default::default()
            },
            None,
        );
        part(&writer, "model").save(20, records().0).unwrap();
        assert_eq!(newest(folder.path()).0.unwrap().state.step, 10);
        assert_eq!(names(folder.path()), ["step-000000010"]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("file");
        fs::write(&missing, b"not a folder").unwrap();
        let writer = Writer::new(missing, 2, None);
        writer.begin(RunState::default(), None);
        let error = writer.take_error().unwrap().to_string();
        assert!(
            error.contains("cannot create") && error.contains("file"),
            "{error}"
        );
    }
}
