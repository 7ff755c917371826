//! What can go wrong in training, evaluation and prediction.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::eval::class_names::ClassesError;
use crate::recipe::RecipeError;
use crate::text::shell_word;

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
    /// A training step of the model needs more memory than there is.
    #[error(
        "{model} is too large to train here: its {parameters} parameters with gradients and the optimizer's state, and the largest \
         output of a layer for a batch of {batch} ({maps}), need {needed} at the least, and this machine has {memory} of memory; \
         take a smaller model, smaller images or a smaller batch_size"
    )]
    TooLarge {
        /// The model.
        model: String,
        /// Its parameters.
        parameters: usize,
        /// What is needed at the least.
        needed: String,
        /// What there is.
        memory: String,
        /// What of it is the largest output of a layer.
        maps: String,
        /// Images in a step.
        batch: usize,
    },
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
    /// A path that a run would have to write into its files, where only text can be written.
    #[error("the path {} is not UTF-8, so that it cannot be written into the files of a run; rename it", path.display())]
    NotUtf8 {
        /// The path, lossy in the message.
        path: PathBuf,
    },
    /// The folder for a new run exists.
    #[error("{} exists already; choose another folder, or resume the run in it", .0.display())]
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
    /// The run cannot be trained for more epochs than it was started for.
    #[error("{} cannot be trained on to {epochs} epochs: {reason}", path.display())]
    NoMoreEpochs {
        /// The run.
        path: PathBuf,
        /// The epochs asked for.
        epochs: usize,
        /// Why, and what to do instead.
        reason: String,
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
    #[error("ended from the dashboard; continue from the last checkpoint with: kiln train --resume {} (a model of your own: Trainer::resume)", shell_word(.0))]
    Killed(PathBuf),
    /// The device reported an error.
    #[error("training stopped: {0}")]
    Backend(String),
    /// A batch could not be had.
    #[error("a batch could not be had: {0}")]
    Batch(String),
    /// The checkpoint of a run is of another model.
    #[error("{} was made with another model: {problem}", path.display())]
    OtherModel {
        /// The run, or its checkpoint.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// The run is of a program's own model, which no command can make.
    #[error(
        "{} is a run of a program's own model, which only that program can make; its report and its weights can be read here",
        .0.display()
    )]
    OwnModel(PathBuf),
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
    /// Batches that one of the model's normalizations cannot take, because they leave it a single value.
    #[error("{problem}; {advice}")]
    SingleValue {
        /// Which normalization, and what it would be left.
        problem: String,
        /// What to change.
        advice: String,
    },
    /// An image that is too small for the model.
    #[error(
        "an image of {height}x{width} is too small for the model: {problem}; give a larger one"
    )]
    SmallInput {
        /// Height of the image.
        height: usize,
        /// Width of the image.
        width: usize,
        /// What goes wrong.
        problem: String,
    },
    /// An epoch of more images than can be numbered.
    #[error(
        "data.crops_per_image = {times} of {images} training images are more than the 2147483647 images that an epoch can have; \
         give fewer"
    )]
    LongEpoch {
        /// Crops of each image.
        times: usize,
        /// Training images.
        images: usize,
    },
    /// A part of the program panicked while it trained. What was saved before stays as it was.
    #[error(
        "training ended by a panic, which is a fault of the program or of a driver: {message}; continue from the last checkpoint \
             with: kiln train --resume {} (a model of your own: Trainer::resume)",
        shell_word(run)
    )]
    Panicked {
        /// The run.
        run: PathBuf,
        /// What the panic said.
        message: String,
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
        ErrorKind::StorageFull => ": the disk that holds it is full; free some space there",
        ErrorKind::QuotaExceeded => {
            ": your share of the disk that holds it is used up; free some space there"
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
