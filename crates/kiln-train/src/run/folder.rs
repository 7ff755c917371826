//! The folder of a run: what it was started with, its metrics, checkpoints and result.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_data::images::Preprocess;
use kiln_data::scale::Scaler;
use serde::{Deserialize, Serialize};

use super::files::{
    is_dead, open_in_place, open_to_read, plain_folder, read_json, remove_leftovers,
    write_atomically, write_json,
};
use super::summary::Summary;
use crate::error::TrainError;

const RECIPE: &str = "recipe.toml";
const INFO: &str = "run.json";
const SCALER: &str = "scaler.json";
const SUMMARY: &str = "summary.json";
const LOCK: &str = "run.lock";

/// What a run was started with, beside its recipe: `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// When it was started, UTC, RFC 3339.
    pub created: String,
    /// Kiln's version.
    pub kiln: String,
    /// Burn's version.
    pub burn: String,
    /// The device it was started on.
    pub device: String,
    /// The device's backend.
    pub backend: String,
    /// The model's settings, if it is one of Kiln's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<kiln_zoo::Settings>,
    /// The model's name.
    pub model_name: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// The data.
    pub data: DataInfo,
}

impl RunInfo {
    /// Of a run that begins now, of a model that is not Kiln's.
    pub(crate) fn new(device: [&str; 2], model_name: String, data: DataInfo) -> Self {
        Self {
            created: now(),
            kiln: env!("CARGO_PKG_VERSION").into(),
            burn: BURN.into(),
            device: device[0].into(),
            backend: device[1].into(),
            model: None,
            model_name,
            parameters: 0,
            data,
        }
    }

    /// `2026-11-22_131502-cnn-digits`, the time in UTC.
    pub(crate) fn run_name(&self) -> String {
        let time = self.created.replace('T', "_").replace([':', 'Z'], "");
        format!("{time}-{}-{}", self.model_name, self.data.name)
    }

    /// Whether the model has an output for each class (one for two classes of masks), and each class of masks a value of its own.
    fn fits_together(&self) -> bool {
        let Some(model) = &self.model else {
            return true;
        };
        let (classes, outputs) = (self.data.classes.len(), model.num_classes);
        let values_fit = match &self.data.mask_values {
            None => outputs == classes,
            Some(values) => {
                let different: std::collections::BTreeSet<&u8> = values.iter().collect();
                (outputs == classes || (classes, outputs) == (2, 1))
                    && classes >= 2
                    && values.len() == classes
                    && different.len() == classes
            }
        };
        classes > 0 && values_fit
    }
}

const BURN: &str = "0.22.1";

pub(crate) fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let format = time::format_description::well_known::Rfc3339;
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&format).unwrap_or_else(|_| now.to_string())
}

/// The data of a run: where they came from and how they are normalized.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataInfo {
    /// The data set.
    pub name: String,
    /// Where it was found.
    pub origin: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// In segmentation, the value that stands for each class in a mask file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_values: Option<Vec<u8>>,
    /// How a picture's file becomes an image as those trained on; runs of Kiln 0.1 do not tell, and theirs follows from
    /// the data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// Images trained on.
    pub train_len: usize,
    /// Images validated on after each epoch.
    pub valid_len: usize,
    /// Images tested on at the end.
    pub test_len: usize,
    /// CRC-32 of the training pixels and labels.
    pub fingerprint: String,
    /// CRC-32 of the test images and of their labels or masks; runs from before have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_fingerprint: Option<String>,
    /// Mean of each channel of the training images, scaled to `[0, 1]`.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
}

/// The folder of a run, locked against other processes while training.
///
/// | file | content |
/// |---|---|
/// | `recipe.toml` | the recipe, every default written out |
/// | `run.json` | versions, device, data, model ([`RunInfo`]) |
/// | `scaler.json` | how pixels are scaled, as fitted on the training images; not there for `scale = "none"` |
/// | `metrics.jsonl` | a line for every entry of metrics |
/// | `grad_health.jsonl`, `grad_health.png` | gradient health, if the recipe measures it: each measurement, and the norm of each layer over time |
/// | `checkpoints/` | the last states, each a folder that is complete or not there |
/// | `model.safetensors` | the trained weights, named and laid out as PyTorch's |
/// | `summary.json` | the result; it is there when the run is finished |
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Holds the lock for as long as the run is open for training.
    _lock: Option<File>,
}

impl RunDir {
    /// Makes the folder of a new run. It appears under its name complete, or not at all.
    pub(crate) fn create(
        place: &Place,
        recipe: &str,
        info: &RunInfo,
        scaler: Option<&Scaler>,
    ) -> Result<Self, TrainError> {
        let parent = place.parent();
        fs::create_dir_all(parent).map_err(|e| TrainError::io("create", parent, e))?;
        remove_abandoned(parent);
        // Several runs may start in one process.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let building = parent.join(format!("{BUILDING}{}-{number}", std::process::id()));
        let cleanup = |error| {
            let _ = fs::remove_dir_all(&building);
            error
        };
        // One left behind by a killed process that had the same number, perhaps in another container.
        if building.symlink_metadata().is_ok() && !is_locked(&building) {
            let _ = fs::remove_dir_all(&building);
        }
        fs::create_dir(&building).map_err(|e| TrainError::io("create", &building, e))?;
        let fill = || -> Result<File, TrainError> {
            // First of all, so that nobody takes the folder for abandoned.
            let held = lock(&building)?;
            write_atomically(&building.join(RECIPE), recipe.as_bytes())?;
            write_json(&building.join(INFO), info)?;
            if let Some(scaler) = scaler {
                write_json(&building.join(SCALER), scaler)?;
            }
            let checkpoints = building.join("checkpoints");
            fs::create_dir(&checkpoints).map_err(|e| TrainError::io("create", checkpoints, e))?;
            Ok(held)
        };
        let held = fill().map_err(cleanup)?;
        for candidate in place.candidates() {
            if candidate.exists() {
                continue;
            }
            match fs::rename(&building, &candidate) {
                Ok(()) => {
                    return Ok(Self {
                        path: candidate,
                        _lock: Some(held),
                    });
                }
                // Another process took the name in the meantime.
                Err(_) if candidate.exists() => continue,
                Err(error) => return Err(cleanup(TrainError::io("create", candidate, error))),
            }
        }
        Err(cleanup(TrainError::RunExists(place.first())))
    }

    /// Opens a run to train on, locked.
    pub(crate) fn open_locked(path: &Path) -> Result<Self, TrainError> {
        let run = Self::open(path)?;
        if path.to_str().is_none() {
            return Err(TrainError::NotUtf8 { path: path.into() });
        }
        let held = lock(path)?;
        plain_folder(&run.checkpoints())?;
        remove_leftovers(path);
        Ok(Self {
            _lock: Some(held),
            ..run
        })
    }

    /// Opens a run to read from.
    ///
    /// # Errors
    ///
    /// [`TrainError::NotARun`] if the folder is none that training made.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TrainError> {
        let path = path.as_ref();
        for missing in [RECIPE, INFO] {
            if !path.join(missing).is_file() {
                return Err(TrainError::NotARun {
                    path: path.into(),
                    missing,
                });
            }
        }
        Ok(Self {
            path: path.into(),
            _lock: None,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn recipe_file(&self) -> PathBuf {
        self.path.join(RECIPE)
    }

    /// What the run was started with beside its recipe.
    ///
    /// # Errors
    ///
    /// If the file was damaged.
    pub fn info(&self) -> Result<RunInfo, TrainError> {
        let info: RunInfo = read_json(&self.info_file())?;
        if !info.fits_together() {
            return Err(TrainError::Damaged {
                path: self.info_file(),
                problem: "its classes, mask values and outputs do not fit together".into(),
            });
        }
        Ok(info)
    }

    /// The settings of the run's model, if it is one of Kiln's.
    pub(crate) fn settings<'a>(
        &self,
        info: &'a RunInfo,
    ) -> Result<&'a kiln_zoo::Settings, TrainError> {
        let settings = info.model.as_ref();
        settings.ok_or_else(|| TrainError::OwnModel(self.path.clone()))
    }

    pub(crate) fn info_file(&self) -> PathBuf {
        self.path.join(INFO)
    }

    /// The file of the scaler, refused if it is something that has no end.
    pub(crate) fn scaler_file(&self) -> Result<PathBuf, TrainError> {
        let path = self.path.join(SCALER);
        if path.exists() {
            open_to_read(&path)?;
        }
        Ok(path)
    }

    /// The result, if the run is finished.
    ///
    /// # Errors
    ///
    /// If the file was damaged.
    pub fn summary(&self) -> Result<Option<Summary>, TrainError> {
        let path = self.path.join(SUMMARY);
        match path.exists() {
            true => read_json(&path).map(Some),
            false => Ok(None),
        }
    }

    /// Makes a finished run one that is to be trained on, with this recipe. A kill at any moment leaves a run that can be
    /// resumed: without its summary it is only not finished yet.
    pub(crate) fn reopen(&self, recipe: &str) -> Result<(), TrainError> {
        let path = self.path.join(SUMMARY);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(TrainError::io("remove", path, error));
            }
            _ => {}
        }
        write_atomically(&self.path.join(RECIPE), recipe.as_bytes())
    }

    pub(crate) fn write_summary(&self, summary: &Summary) -> Result<(), TrainError> {
        write_json(&self.path.join(SUMMARY), summary)
    }

    /// The file of the trained weights.
    pub fn model_file(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    pub(crate) fn metrics_file(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    pub(crate) fn health_file(&self) -> PathBuf {
        self.path.join("grad_health.jsonl")
    }

    pub(crate) fn health_plot(&self) -> PathBuf {
        self.path.join("grad_health.png")
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }
}

/// Locks a run until the file is dropped; the system releases the lock of a killed process.
fn lock(path: &Path) -> Result<File, TrainError> {
    let file = path.join(LOCK);
    let held = open_in_place(&file, OpenOptions::new().write(true))?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(TryLockError::WouldBlock) => Err(TrainError::RunInUse(path.into())),
        Err(TryLockError::Error(error)) => Err(TrainError::io("lock", file, error)),
    }
}

/// Whether a process holds the lock of a folder.
fn is_locked(path: &Path) -> bool {
    let file = path.join(LOCK);
    file.symlink_metadata().is_ok_and(|found| found.is_file())
        && File::open(file)
            .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Begins the name of a folder that becomes a run; the process that makes it, and a number, end it.
const BUILDING: &str = ".new-run-";

/// Removes the folders of runs that were killed before they had begun.
fn remove_abandoned(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name
            .to_str()
            .and_then(|name| name.strip_prefix(BUILDING))
            .and_then(|name| name.split_once('-'))
            .filter(|(_, number)| number.parse::<usize>().is_ok())
            .and_then(|(process, _)| process.parse().ok());
        // The lock tells of a process on another machine that shares the disk.
        if maker.is_some_and(is_dead) && !is_locked(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Where a new run goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Exactly here; an error if it exists.
    Folder(PathBuf),
    /// Under this folder, with a name made of time, model and data.
    Under {
        /// The folder of all runs.
        runs: PathBuf,
        /// The name, without the number that makes it unique.
        name: String,
    },
}

impl Place {
    fn parent(&self) -> &Path {
        match self {
            Self::Folder(path) => match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            },
            Self::Under { runs, .. } => runs,
        }
    }

    /// Refuses a folder whose name cannot be written into the run's files.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let given = match self {
            Self::Folder(path) => path,
            Self::Under { runs, .. } => runs,
        };
        match given.to_str() {
            Some(_) => Ok(()),
            None => Err(TrainError::NotUtf8 {
                path: given.clone(),
            }),
        }
    }

    fn first(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.clone(),
            Self::Under { runs, name } => runs.join(name),
        }
    }

    fn candidates(&self) -> Vec<PathBuf> {
        match self {
            Self::Folder(path) => vec![path.clone()],
            Self::Under { runs, name } => std::iter::once(runs.join(name))
                .chain((2..1000).map(|i| runs.join(format!("{name}-{i}"))))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_is_not_taken_through_a_link_and_never_empties_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        std::os::unix::fs::symlink(&victim, run.join(LOCK)).unwrap();
        let error = lock(&run).unwrap_err().to_string();
        assert!(
            error.contains("run.lock is damaged") && error.contains("symbolic link"),
            "{error}"
        );
        assert!(!is_locked(&run));
        fs::remove_file(run.join(LOCK)).unwrap();
        fs::write(run.join(LOCK), "a note").unwrap();
        let held = lock(&run).unwrap();
        assert!(is_locked(&run));
        assert!(matches!(lock(&run), Err(TrainError::RunInUse(_))));
        drop(held);
        assert!(!is_locked(&run));
        assert_eq!(fs::read_to_string(run.join(LOCK)).unwrap(), "a note");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[cfg(unix)]
    #[test]
    fn folders_of_runs_that_never_began_are_removed_if_their_process_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (dead, alive) = (child.id(), std::process::id());
        let make = |name: String| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(RECIPE), "x").unwrap();
            path
        };
        make(format!(".new-run-{dead}-0"));
        let held = lock(&make(format!(".new-run-{dead}-1"))).unwrap();
        make(format!(".new-run-{alive}-7"));
        make(format!(".new-run-{dead}-mine"));
        remove_abandoned(folder.path());
        let mut kept = vec![
            format!(".new-run-{dead}-1"),
            format!(".new-run-{alive}-7"),
            format!(".new-run-{dead}-mine"),
        ];
        kept.sort();
        assert_eq!(names(folder.path()), kept);
        drop(held);
        remove_abandoned(folder.path());
        assert!(!folder.path().join(format!(".new-run-{dead}-1")).exists());
    }
}
