//! What can go wrong in training, evaluation and prediction.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::class_names::ClassesError;
use crate::recipe::RecipeError;

/// Why a run could not start, go on or be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe is not usable.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The data could not be loaded.
    #[error(transparent)]
    Data(#[from] kiln_data::DataError),
    /// The data do not fit on the device or in a batch.
    #[error(transparent)]
    DeviceData(#[from] kiln_data::DeviceDatasetError),
    /// The pixels could not be scaled.
    #[error(transparent)]
    Scale(#[from] kiln_data::scale::ScaleError),
    /// The model could not be created.
    #[error(transparent)]
    Model(#[from] kiln_zoo::ZooError),
    /// The weights could not be read, or do not fit the model.
    #[error(transparent)]
    Weights(#[from] kiln_zoo::weights::WeightsError),
    /// Class names that could not be read, or classes of the data that the model does not know.
    #[error(transparent)]
    Classes(#[from] ClassesError),
    /// Too few images to hold some out for validation.
    #[error(
        "data.valid_fraction = {fraction} of {images} training images leaves nothing to train on or to validate on; give more images, or 0 to validate on the test images"
    )]
    NothingLeft {
        /// The share asked for.
        fraction: f64,
        /// Training images there are.
        images: usize,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}{}", path.display(), hint(source))]
    Io {
        /// What was being done: `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder for a new run exists.
    #[error("{} exists already; choose another folder, or continue a run with --resume", .0.display())]
    RunExists(PathBuf),
    /// Another process works on the run.
    #[error("{} is in use by another process; wait for it, or stop it", .0.display())]
    RunInUse(PathBuf),
    /// A folder without a run in it.
    #[error("{} holds no run: {missing} is missing; name a folder that `kiln train` made", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// The file that is missing.
        missing: &'static str,
    },
    /// A file of the run cannot be understood.
    #[error("{} is damaged or not Kiln's: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The run was started with another recipe.
    #[error(
        "{} was started with another recipe: {}; resume it without changes, or start a new run",
        path.display(),
        list(differences)
    )]
    OtherRecipe {
        /// The run.
        path: PathBuf,
        /// Key, value of the run, value given now.
        differences: Vec<(String, String, String)>,
    },
    /// The data are not those the run was started with.
    #[error(
        "the data are not those that {} was started with ({started}, now {now}); restore them, or start a new run",
        path.display()
    )]
    OtherData {
        /// The run.
        path: PathBuf,
        /// The data of the run.
        started: String,
        /// The data found now.
        now: String,
    },
    /// The loss became NaN or infinite.
    #[error("the loss became {loss} at step {step} (epoch {epoch}): training diverged; {advice}")]
    Diverged {
        /// The loss.
        loss: f64,
        /// The step at which it was noticed.
        step: usize,
        /// Its epoch.
        epoch: usize,
        /// What to try.
        advice: String,
    },
    /// Every step is skipped because its gradients are not finite.
    #[error(
        "the gradients of the last {skipped} steps are NaN or infinite, so all of them were skipped: training diverged; try a \
         lower learning rate or clip=norm:1.0; the last checkpoint is from before"
    )]
    OnlySkips {
        /// Steps skipped in a row.
        skipped: usize,
    },
    /// A setting of gradient clipping that is none, or a device that failed.
    #[error(transparent)]
    Clip(#[from] kiln_clip::ClipError),
    /// The user ended the run at once, in the dashboard.
    #[error("ended from the dashboard; continue from the last checkpoint with: kiln train --resume {}", .0.display())]
    Killed(PathBuf),
    /// The device or burn-train reported an error.
    #[error("training stopped: {0}")]
    Backend(String),
    /// A picture could not be read for prediction.
    #[error(transparent)]
    Picture(#[from] kiln_data::images::ImageError),
    /// A picture could not be written.
    #[error(transparent)]
    Written(#[from] kiln_data::info::PictureError),
    /// A mask asked of a classifier.
    #[error("the model predicts a class for each image, not a mask")]
    NoMasks,
    /// A class asked of a model for segmentation.
    #[error("the model predicts a mask for each image, not a class")]
    OnlyMasks,
    /// The augmentation does not fit the images.
    #[error(transparent)]
    Augment(#[from] kiln_data::AffineError),
    /// A binary loss for more than two classes.
    #[error("loss.name = bce is for two classes, but the masks have {classes}; take cross-entropy")]
    BinaryLoss {
        /// Classes of the data.
        classes: usize,
    },
    /// A picture is to be framed for a model that does not take 28×28 pixels.
    #[error(
        "pictures are framed as digits of 28x28 pixels, but the model takes images of {}x{}x{}; leave --frame out",
        input[0], input[1], input[2]
    )]
    CannotFrame {
        /// Channels, height and width of the model's images.
        input: [usize; 3],
    },
    /// Data of another shape than the model takes.
    #[error("the model takes {model}, but the data are {data}")]
    OtherShape {
        /// What the model takes.
        model: String,
        /// What was given.
        data: String,
    },
    /// A plot could not be drawn.
    #[error("cannot draw the plot: {0}")]
    Plot(String),
}

impl TrainError {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io {
            action,
            path: path.as_ref().into(),
            source,
        }
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            " (free some space, or choose another folder with --run-dir)"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            " (choose a folder that you may write to, with --run-dir)"
        }
        _ => "",
    }
}

fn list(differences: &[(String, String, String)]) -> String {
    let each: Vec<String> = differences
        .iter()
        .map(|(key, run, now)| format!("{key} was {run}, now {now}"))
        .collect();
    each.join("; ")
}
