//! Where evaluations are kept: the run's own in its folder, each one on other data in a folder of its own within.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::eval::evaluation::{EVALUATION, Evaluation, TrainedModel};
use crate::eval::test_data::TestData;
use crate::report::plot;
use crate::run::files::{read_json, write_json};
use crate::run::folder::RunDir;
use crate::run::folder::now;

/// The folder of a run that holds its evaluations on other data.
const OTHERS: &str = "evaluations";
/// The folder of a run that predicted masks are written to.
const PREDICTIONS: &str = "predictions";

/// An evaluation on other data than the run's own, and what it was made on: `evaluation.json` in a folder under the run's
/// `evaluations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// The data set.
    pub data: String,
    /// Where it was found.
    pub origin: String,
    /// When it was evaluated, UTC, RFC 3339.
    pub evaluated: String,
    /// The scores.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// The evaluations on other data that are kept in a run's folder, each with its folder, sorted by their names.
///
/// # Errors
///
/// If the folder holds no run, or a file was damaged.
pub fn evaluations(run: impl AsRef<Path>) -> Result<Vec<(PathBuf, EvaluationRecord)>, TrainError> {
    let others = RunDir::open(run)?.path().join(OTHERS);
    if !others.is_dir() {
        return Ok(Vec::new());
    }
    let io = |error| TrainError::io("list", &others, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(&others).map_err(io)? {
        let folder = entry.map_err(io)?.path();
        let file = folder.join(EVALUATION);
        if file.is_file() {
            let mut record: EvaluationRecord = read_json(&file)?;
            record.evaluation = record.evaluation.checked(&file)?;
            found.push((folder, record));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// The run's evaluation on its own test images, if it has been tested.
///
/// # Errors
///
/// If the folder holds no run, or the file was damaged.
pub fn own_evaluation(run: impl AsRef<Path>) -> Result<Option<Evaluation>, TrainError> {
    let file = RunDir::open(run)?.path().join(EVALUATION);
    match file.is_file() {
        true => Evaluation::read(&file).map(Some),
        false => Ok(None),
    }
}

impl TrainedModel {
    /// Writes an evaluation, its confusion matrix as `confusion.png` and, in segmentation, `overlays.png`; returns the
    /// files. They go into `out` or, without it, into the run's folder if the data are the run's
    /// [own](TestData::is_own), otherwise into a folder of their own under the run's `evaluations`: what a run's report
    /// shows stays what it was tested on.
    ///
    /// # Errors
    ///
    /// If a folder cannot be made or a file cannot be written.
    pub fn write_evaluation(
        &self,
        evaluation: &Evaluation,
        data: &TestData,
        out: Option<&Path>,
    ) -> Result<Vec<PathBuf>, TrainError> {
        let folder = match out {
            Some(out) => {
                fs::create_dir_all(out).map_err(|e| TrainError::io("create", out, e))?;
                out.to_owned()
            }
            None if data.is_own() => self.run.clone(),
            None => folder_of(&folder_in(&self.run, OTHERS)?, evaluation, data)?,
        };
        let mut files = vec![folder.join(EVALUATION), folder.join("confusion.png")];
        match data.is_own() {
            true => write_json(&files[0], evaluation)?,
            false => write_json(
                &files[0],
                &EvaluationRecord {
                    data: data.name().into(),
                    origin: data.origin().into(),
                    evaluated: now(),
                    evaluation: evaluation.clone(),
                },
            )?,
        }
        plot::confusion_matrix(evaluation, &files[1])?;
        if self.write_overlays(data, &folder)? {
            files.push(folder.join("overlays.png"));
        }
        Ok(files)
    }

    /// The folder in the run that predicted masks are written to unless another is named; it is made if need be.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn predictions_folder(&self) -> Result<PathBuf, TrainError> {
        folder_in(&self.run, PREDICTIONS)
    }
}

/// A folder within another, made if need be. A symbolic link is not followed: a run may come from elsewhere, and must not
/// say which files are written over.
fn folder_in(parent: &Path, name: &str) -> Result<PathBuf, TrainError> {
    let folder = parent.join(name);
    match fs::symlink_metadata(&folder) {
        Ok(there) if there.is_dir() => return Ok(folder),
        Ok(_) => {
            let other = std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "something else than a folder has this name; remove it, or name another folder with --out",
            );
            return Err(TrainError::io("create", folder, other));
        }
        Err(_) => (),
    }
    fs::create_dir(&folder).map_err(|error| TrainError::io("create", &folder, error))?;
    Ok(folder)
}

/// The folder for an evaluation on some data: that of an earlier one on the same data and for the same classes, which is
/// written over, or a new one.
fn folder_of(
    others: &Path,
    evaluation: &Evaluation,
    data: &TestData,
) -> Result<PathBuf, TrainError> {
    let classes = |evaluation: &Evaluation| -> Vec<String> {
        evaluation.classes.iter().map(|c| c.name.clone()).collect()
    };
    let same = |folder: &Path| {
        let record: Result<EvaluationRecord, _> = read_json(&folder.join(EVALUATION));
        record.is_ok_and(|record| {
            (record.data.as_str(), record.origin.as_str()) == (data.name(), data.origin())
                && classes(&record.evaluation) == classes(evaluation)
        })
    };
    let name = data.file_name();
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.clone())
        .chain(numbered)
        .find(|name| {
            let folder = others.join(name);
            fs::symlink_metadata(&folder).is_err() || same(&folder)
        })
        .expect("there is always another number");
    folder_in(others, &free)
}
