//! Checkpoints: the whole state of a run at one step, complete or not there.
//!
//! The parts are written into a temporary folder, last of all `state.json` with the length and CRC-32 of every file; then the
//! folder is renamed. A reader takes the newest folder whose files all match, so that neither a kill in the middle nor a disk
//! that lost a block is ever picked up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use burn::train::checkpoint::Checkpoint;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::{plain_folder, read_bounded, read_json, sync_folder, write_synced};
use crate::error::TrainError;

const STATE: &str = "state.json";
const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const BEST: &str = "best.bpk";
/// Kiln 0.1 wrote the schedule's step too, which `state.json` has.
const SCHEDULE: &str = "schedule.bpk";

/// What a checkpoint holds beside its state.
pub(crate) struct Records {
    pub(crate) model: ModuleRecord,
    pub(crate) optimizer: OptimizerRecord,
    /// The weights of the best epoch, if they are not those of the model.
    pub(crate) best: Option<ModuleRecord>,
}

/// `state.json`: the state and what the other files must be.
#[derive(Serialize, Deserialize)]
struct Manifest<S> {
    state: S,
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

/// Writes the checkpoint of a step into a folder, and removes all but the newest `keep`.
pub(crate) fn write(
    folder: &Path,
    keep: usize,
    step: usize,
    state: &impl Serialize,
    records: Records,
) -> Result<(), TrainError> {
    plain_folder(folder)?;
    let temporary = folder.join(format!(".step-{step:09}.partial"));
    // A link or a folder that someone else has put there is not written into.
    if temporary.symlink_metadata().is_ok() {
        let removed = fs::remove_dir_all(&temporary);
        removed.map_err(|error| TrainError::io("remove", &temporary, error))?;
    }
    fs::create_dir_all(&temporary).map_err(|error| TrainError::io("create", &temporary, error))?;
    let mut files = BTreeMap::new();
    let mut part = |name: &str, bytes: Result<Bytes, burn::store::RecordError>| {
        let path = temporary.join(name);
        let bytes = bytes.map_err(|error| damaged(&path, &error))?;
        write_synced(&path, &bytes).map_err(|error| TrainError::io("write", &path, error))?;
        files.insert(name.to_owned(), Contents::of(&bytes));
        Ok::<(), TrainError>(())
    };
    if let Some(best) = records.best {
        part(BEST, best.checkpoint_into_bytes())?;
    }
    part(MODEL, records.model.checkpoint_into_bytes())?;
    part(OPTIMIZER, records.optimizer.checkpoint_into_bytes())?;
    publish(folder, keep, step, &temporary, &Manifest { state, files })
}

/// Makes a checkpoint whose other files are written one that is there, and removes old ones.
fn publish(
    folder: &Path,
    keep: usize,
    step: usize,
    temporary: &Path,
    manifest: &Manifest<&impl Serialize>,
) -> Result<(), TrainError> {
    let path = temporary.join(STATE);
    let bytes = serde_json::to_vec_pretty(manifest).expect("plain values have a JSON form");
    let published = folder.join(format!("step-{step:09}"));
    write_synced(&path, &bytes)
        .and_then(|()| sync_folder(&path))
        .and_then(|()| match published.exists() {
            // A resumed run may pass the step of a checkpoint that was damaged.
            true => fs::remove_dir_all(&published),
            false => Ok(()),
        })
        .and_then(|()| fs::rename(temporary, &published))
        .and_then(|()| sync_folder(&published))
        .map_err(|error| TrainError::io("write", &published, error))?;
    for (_, old) in list(folder).into_iter().skip(keep) {
        fs::remove_dir_all(&old).map_err(|error| TrainError::io("remove", old, error))?;
    }
    Ok(())
}

fn damaged(path: &Path, error: &impl std::fmt::Display) -> TrainError {
    TrainError::Damaged {
        path: path.into(),
        problem: error.to_string(),
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
pub(crate) struct Found<S> {
    pub(crate) path: PathBuf,
    pub(crate) state: S,
}

impl<S> Found<S> {
    /// The state is none that this run can be in.
    pub(crate) fn refused(&self, problem: String) -> TrainError {
        TrainError::Damaged {
            path: self.path.join(STATE),
            problem,
        }
    }

    /// The model's weights and the optimizer's state.
    pub(crate) fn records(&self) -> Result<Records, TrainError> {
        Ok(Records {
            model: self.load(MODEL)?,
            optimizer: self.load(OPTIMIZER)?,
            best: match self.path.join(BEST).exists() {
                true => Some(self.load(BEST)?),
                false => None,
            },
        })
    }

    fn load<R: Checkpoint>(&self, name: &str) -> Result<R, TrainError> {
        let path = self.path.join(name);
        R::load(path.clone()).map_err(|error| damaged(&path, &error))
    }
}

/// The newest complete checkpoint, and a line for each newer one that is damaged. Removes what
/// a killed process left half-written.
pub(crate) fn newest<S: DeserializeOwned>(folder: &Path) -> (Option<Found<S>>, Vec<String>) {
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

fn check<S: DeserializeOwned>(path: &Path) -> Result<S, TrainError> {
    let manifest: Manifest<S> = read_json(&path.join(STATE))?;
    let problem = |problem: String| TrainError::Damaged {
        path: path.join(STATE),
        problem,
    };
    for part in [MODEL, OPTIMIZER] {
        if !manifest.files.contains_key(part) {
            return Err(problem(format!("it does not list {part}")));
        }
    }
    for (name, contents) in &manifest.files {
        if ![MODEL, OPTIMIZER, BEST, SCHEDULE].contains(&name.as_str()) {
            return Err(problem(format!("{name:?} is no file of a checkpoint")));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Records {
        let device = kiln_testing::devices().remove(0);
        let linear = burn::nn::LinearConfig::new(2, 2).init(&device);
        Records {
            model: burn::module::Module::into_record(linear),
            optimizer: crate::optimizer(&Default::default()).to_record(),
            best: None,
        }
    }

    fn save(folder: &Path, keep: usize, step: usize) {
        write(folder, keep, step, &step, records()).unwrap();
    }

    fn newest_step(folder: &Path) -> (usize, Vec<String>) {
        let (found, skipped) = newest::<usize>(folder);
        (found.unwrap().state, skipped)
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
    fn a_checkpoint_gives_back_what_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let mut saved = records();
        saved.best = Some(saved.model.clone());
        write(folder.path(), 2, 7, &7, saved).unwrap();
        assert_eq!(names(folder.path()), ["step-000000007"]);
        let (found, skipped) = newest::<usize>(folder.path());
        let (found, loaded) = found
            .map(|found| (found.state, found.records().unwrap()))
            .unwrap();
        assert_eq!((found, skipped.len()), (7, 0));
        assert_eq!((loaded.model.len(), loaded.best.unwrap().len()), (2, 2));
    }

    #[test]
    fn only_the_newest_checkpoints_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        (1..=4).for_each(|step| save(folder.path(), 2, step * 10));
        assert_eq!(names(folder.path()), ["step-000000030", "step-000000040"]);
    }

    #[test]
    fn a_damaged_checkpoint_is_skipped_for_the_one_before() {
        for damage in ["flip", "truncate", "remove", "state"] {
            let folder = tempfile::tempdir().unwrap();
            save(folder.path(), 3, 10);
            save(folder.path(), 3, 20);
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
            let (found, skipped) = newest_step(folder.path());
            assert_eq!(found, 10, "{damage}");
            assert_eq!(skipped.len(), 1, "{damage}");
            assert!(skipped[0].contains("step-000000020"), "{}", skipped[0]);
        }
    }

    #[test]
    fn what_a_killed_process_left_is_never_picked_up_and_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), 3, 10);
        let partial = folder.path().join(".step-000000020.partial");
        fs::create_dir(&partial).unwrap();
        fs::copy(
            folder.path().join("step-000000010").join(MODEL),
            partial.join(MODEL),
        )
        .unwrap();
        assert_eq!(newest_step(folder.path()).0, 10);
        assert_eq!(names(folder.path()), ["step-000000010"]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("file");
        fs::write(&missing, b"not a folder").unwrap();
        let error = write(&missing, 2, 1, &1, records())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot create") && error.contains("file"),
            "{error}"
        );
    }
}
