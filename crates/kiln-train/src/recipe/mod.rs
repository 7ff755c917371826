//! [`Recipe`]: everything a training run is made of, as one value.

pub(crate) mod data;
mod fields;
mod run;
mod setting;

use std::io::Read;
use std::path::{Path, PathBuf};

use kiln_data::folder::Rules;
use kiln_data::{Affine, Augment};
use kiln_zoo::{Activation, Norm, Stem};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use crate::training::settings::{
    CheckpointRecipe, EarlyStoppingRecipe, OptimizerName, OptimizerRecipe, ScheduleName,
    ScheduleRecipe,
};
pub use fields::{FIELDS, Field};
pub use setting::Setting;

/// Everything a training run is made of: data, model, optimizer, schedule, augmentation.
///
/// It is a TOML file ([`from_file`](Self::from_file)), or settings over the defaults
/// ([`set`](Self::set)); every key with its default and what it allows is in [`FIELDS`]. The
/// defaults train a CNN on MNIST, or on Digits where there is no MNIST. Numbers left out are
/// PyTorch's defaults for the optimizer.
///
/// ```
/// use kiln_train::Recipe;
///
/// let mut recipe = Recipe::from_toml("batch_size = 128\n[optimizer]\nname = 'sgd'\n")?;
/// recipe.set("optimizer.momentum=0.9")?;
/// assert_eq!(recipe.optimizer.momentum, Some(0.9));
///
/// let error = recipe.set("optimizer.momentun=0.9").unwrap_err();
/// assert!(error.to_string().contains("did you mean 'optimizer.momentum'?"));
/// # Ok::<(), kiln_train::RecipeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// What is learned: a class for each image, or for each pixel.
    pub task: TaskName,
    /// Seed of the weights, the order of the data, augmentation and dropout.
    pub seed: u64,
    /// Where to train: `auto`, or a device as `kiln devices` lists it.
    pub device: String,
    /// Passes over the training data.
    pub epochs: Epochs,
    /// Images in a training step.
    pub batch_size: usize,
    /// Ends every epoch after this many steps; each epoch is shuffled anew, so that it sees other images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_per_epoch: Option<usize>,
    /// Steps between two entries of metrics.
    pub log_every: usize,
    /// How pixels are scaled, fitted on the training images alone: `none`, or a [`kiln_data::scale::Scaler`] by
    /// name, such as `standard`. A feature is a channel, its values are scaled to `[0, 1]` before.
    pub scale: String,
    /// How gradients are clipped: `none`, `norm:1.0`, `value:0.5`, `agc:0.01`, `auto:10`; see [`kiln_clip::GradClip`].
    pub clip: kiln_clip::GradClip,
    /// Whether a step whose gradients are not finite changes nothing and is counted, instead of ending the run.
    pub skip_nonfinite: bool,
    /// Steps between two measurements of gradient health. 0: never.
    pub grad_health: usize,
    /// The data.
    pub data: DataRecipe,
    /// The model.
    pub model: ModelRecipe,
    /// The loss, in segmentation.
    pub loss: LossRecipe,
    /// The optimizer.
    pub optimizer: OptimizerRecipe,
    /// The learning rate over time.
    pub schedule: ScheduleRecipe,
    /// Random changes of the training images.
    pub augment: AugmentRecipe,
    /// When to stop before the last epoch.
    pub early_stopping: EarlyStoppingRecipe,
    /// When to save the state of the run.
    pub checkpoint: CheckpointRecipe,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            task: TaskName::Classification,
            seed: 42,
            device: "auto".into(),
            epochs: Epochs::Auto,
            batch_size: 64,
            steps_per_epoch: None,
            log_every: 10,
            scale: "standard".into(),
            clip: kiln_clip::GradClip::None,
            skip_nonfinite: false,
            grad_health: 0,
            data: DataRecipe::default(),
            model: ModelRecipe::default(),
            loss: LossRecipe::default(),
            optimizer: OptimizerRecipe::default(),
            schedule: ScheduleRecipe::default(),
            augment: AugmentRecipe::default(),
            early_stopping: EarlyStoppingRecipe::default(),
            checkpoint: CheckpointRecipe::default(),
        }
    }
}

impl Recipe {
    /// The defaults for a task. For segmentation: `unet` on Shapes or, with `data.dir`, on a folder of images and masks,
    /// four images in a step.
    ///
    /// ```
    /// use kiln_train::{Recipe, TaskName};
    /// assert_eq!(Recipe::for_task(TaskName::Segmentation).model.name, "unet");
    /// assert_eq!(Recipe::from_toml("task = 'segmentation'")?.batch_size, 4);
    /// # Ok::<(), kiln_train::RecipeError>(())
    /// ```
    pub fn for_task(task: TaskName) -> Self {
        let mut recipe = Self {
            task,
            ..Self::default()
        };
        if task == TaskName::Segmentation {
            recipe.model.name = "unet".into();
            recipe.batch_size = 4;
        }
        recipe
    }
}

/// What is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// A class for each image.
    #[default]
    Classification,
    /// A class for each pixel of an image.
    Segmentation,
}

/// A loss's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    /// Binary cross-entropy where there are two classes, otherwise cross-entropy.
    #[default]
    Auto,
    /// Cross-entropy: the model has one output for each class.
    CrossEntropy,
    /// Binary cross-entropy: the model has one output, for the second of two classes.
    Bce,
}

impl std::fmt::Display for LossName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::CrossEntropy => "cross-entropy",
            Self::Bce => "bce",
        })
    }
}

/// The loss of a [`Recipe`], in segmentation: (binary) cross-entropy and Dice loss, added up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossRecipe {
    /// Which cross-entropy.
    pub name: LossName,
    /// Weight of the Dice loss beside it.
    pub dice: f64,
}

impl Default for LossRecipe {
    fn default() -> Self {
        Self {
            name: LossName::Auto,
            dice: 1.0,
        }
    }
}

/// How many passes over the training data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "EpochsText", into = "EpochsText")]
pub enum Epochs {
    /// As many as show the model about 120,000 images, at least 2 and at most 30.
    Auto,
    /// This many.
    Count(usize),
}

impl Epochs {
    /// The number of epochs for a training set of `len` images.
    ///
    /// ```
    /// use kiln_train::Epochs;
    /// assert_eq!(Epochs::Auto.resolve(60_000), 2);
    /// assert_eq!(Epochs::Auto.resolve(7_000), 17);
    /// assert_eq!(Epochs::Count(5).resolve(7_000), 5);
    /// ```
    pub fn resolve(self, len: usize) -> usize {
        match self {
            Self::Auto => (120_000 + len / 2)
                .checked_div(len)
                .unwrap_or(30)
                .clamp(2, 30),
            Self::Count(epochs) => epochs,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum EpochsText {
    Count(usize),
    Word(String),
}

impl TryFrom<EpochsText> for Epochs {
    type Error = String;

    fn try_from(text: EpochsText) -> Result<Self, String> {
        match text {
            EpochsText::Count(count) => Ok(Self::Count(count)),
            EpochsText::Word(word) if word == "auto" => Ok(Self::Auto),
            EpochsText::Word(word) => Err(word),
        }
    }
}

impl From<Epochs> for EpochsText {
    fn from(epochs: Epochs) -> Self {
        match epochs {
            Epochs::Auto => Self::Word("auto".into()),
            Epochs::Count(count) => Self::Count(count),
        }
    }
}

/// The data of a [`Recipe`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataRecipe {
    /// A data set by name, or `auto`: MNIST where it is found or can be fetched, otherwise Digits.
    pub name: String,
    /// Folder to read the files from, instead of the cache or a download.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy")]
    pub dir: Option<PathBuf>,
    /// Whether missing files may be downloaded.
    pub download: bool,
    /// Which rules make the data set of the files, 1 or 2: see [`Rules`]. New runs have the newest; a run whose recipe
    /// does not say it was made under the first.
    pub version: u8,
    /// At most this many training images: of each class its share, chosen by `split_seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_len: Option<usize>,
    /// At most this many test images, chosen likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_len: Option<usize>,
    /// Share of the training images held out to validate each epoch, where a folder has no `val` beside `train` and
    /// `test`.
    pub valid_fraction: f64,
    /// Seed of the digits or shapes that Kiln draws.
    pub seed: u64,
    /// Share of the pictures of a folder held out for testing, where it has no `train` and `test` in it.
    pub test_fraction: f64,
    /// Seed that chooses them, and `train_len` and `test_len` images.
    pub split_seed: u64,
    /// 1 makes the images gray, 3 makes them RGB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// The value in mask files of pixels that are left out of loss and scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_value: Option<u8>,
    /// Height and width that the pictures of a folder are scaled to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Height and width of the random parts that are trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_size: Option<[usize; 2]>,
    /// How often each training image comes in an epoch, each time augmented anew.
    pub crops_per_image: usize,
}

/// Writes a path as text. One that is none is refused by [`Recipe::validate`], where an error can say so.
fn lossy<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.serialize_some(&path.to_string_lossy()),
        None => serializer.serialize_none(),
    }
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self {
            name: "auto".into(),
            dir: None,
            download: true,
            version: 2,
            train_len: None,
            test_len: None,
            valid_fraction: 0.05,
            seed: 0,
            test_fraction: 0.2,
            split_seed: 0,
            channels: None,
            ignore_value: None,
            size: None,
            crop_size: None,
            crops_per_image: 1,
        }
    }
}

impl DataRecipe {
    /// The rules of its version.
    pub fn rules(&self) -> Rules {
        match self.version {
            1 => Rules::V1,
            _ => Rules::V2,
        }
    }
}

/// The model of a [`Recipe`]; what is left out is the model's own default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelRecipe {
    /// A model of the zoo by name.
    pub name: String,
    /// Units of the hidden fully connected layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Vec<usize>>,
    /// Output channels of the convolutions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<usize>>,
    /// Dropout probability after each hidden layer, or one for all; the drop rate of larger models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<Vec<f64>>,
    /// The normalization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    /// The nonlinearity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// The stem of a ResNet or DenseNet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    /// Whether the last normalization of each residual block starts at zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_init: Option<bool>,
    /// Whether a U-Net's decoder enlarges by interpolation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bilinear: Option<bool>,
    /// A file of weights to begin with: `.pth`, `.safetensors` or Burn's. `FILE#KEY` takes those below a key of a checkpoint,
    /// such as `checkpoint.pth#model_ema`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy")]
    pub weights: Option<PathBuf>,
    /// Whether that file may be for another number of classes; the last layer is drawn anew then.
    pub allow_head_mismatch: bool,
    /// Whether the backbone is held still, so that only the last layer (or a U-Net's decoder) learns.
    pub freeze: bool,
    /// Whether a DenseNet computes most activations a second time instead of keeping them: the same steps with less memory,
    /// each about a third longer.
    pub memory_efficient: bool,
}

impl Default for ModelRecipe {
    fn default() -> Self {
        Self {
            name: "cnn".into(),
            hidden: None,
            channels: None,
            dropout: None,
            norm: None,
            activation: None,
            stem: None,
            zero_init: None,
            bilinear: None,
            weights: None,
            allow_head_mismatch: false,
            freeze: false,
            memory_efficient: false,
        }
    }
}

/// Random changes of the training images, of a [`Recipe`]; see [`kiln_data::Augment`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentRecipe {
    /// Largest shift along either axis, in pixels.
    pub shift: f64,
    /// Largest rotation either way, in degrees.
    pub rotate: f64,
    /// Largest relative change of size.
    pub scale: f64,
    /// Smooth random displacement, in pixels.
    pub elastic: f64,
    /// Pixels around an image that a random crop of its own size may reach into.
    pub crop: usize,
    /// Probability to mirror left and right.
    pub hflip: f64,
    /// Probability to mirror top and bottom.
    pub vflip: f64,
    /// Side of a square that is blanked, in pixels.
    pub cutout: usize,
    /// α of the Beta distribution by which images of a batch are mixed in pairs; 0 mixes nothing. For classes only.
    pub mixup: f64,
}

impl Recipe {
    /// The random changes as kiln-data makes them.
    pub(crate) fn augment(&self) -> Augment {
        let augment = &self.augment;
        Augment {
            affine: Affine {
                shift: augment.shift,
                rotate: augment.rotate,
                scale: augment.scale,
            },
            elastic: augment.elastic,
            crop_padding: augment.crop,
            crop_size: self.data.crop_size,
            hflip: augment.hflip,
            vflip: augment.vflip,
            cutout: augment.cutout,
            mixup: augment.mixup,
        }
    }
}

/// Bytes of the longest recipe that is read.
const MAX_BYTES: u64 = 16 << 20;

/// What is wrong with a recipe.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("the recipe is not valid TOML: {message}")]
    Syntax {
        /// What the parser says, with line and column.
        message: String,
    },
    /// A setting without `=`.
    #[error("'{0}' is not a setting; write KEY=VALUE, such as optimizer.lr=0.01")]
    NoValue(String),
    /// A key that does not exist.
    #[error("the recipe has no key '{key}'; {}", fields::near(key))]
    UnknownKey {
        /// The key given.
        key: String,
    },
    /// A path that TOML, which is text, cannot hold.
    #[error("{key}: the path {} is not UTF-8, which is all that a recipe can hold; rename it", path.display())]
    NotUtf8 {
        /// The key.
        key: String,
        /// The path, lossy in the message.
        path: PathBuf,
    },
    /// A value out of range or of the wrong kind.
    #[error("{key} = {value} is not allowed; {allowed}")]
    Value {
        /// The key.
        key: String,
        /// The value given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

impl Recipe {
    /// Reads a TOML file over the defaults and checks it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not TOML, or has an unknown key or a value out of range; the
    /// error names the key, the value and what is allowed.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, RecipeError> {
        Self::from_toml(&read(path.as_ref())?)
    }

    /// Reads the recipe of a run. If it is from before recipes named the rules of their data, it means the first ones.
    pub(crate) fn of_run(path: &Path) -> Result<Self, RecipeError> {
        let mut table = parse(&read(path)?)?;
        let data = table
            .entry("data")
            .or_insert_with(|| toml::Table::new().into());
        if let Some(data) = data.as_table_mut() {
            data.entry("version").or_insert(1i64.into());
        }
        Self::from_table(table)
    }

    /// Reads TOML text over the defaults and checks it.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file).
    pub fn from_toml(text: &str) -> Result<Self, RecipeError> {
        Self::from_table(parse(text)?)
    }

    fn from_table(table: toml::Table) -> Result<Self, RecipeError> {
        let mut recipe = match table.get("task").and_then(toml::Value::as_str) {
            Some("segmentation") => Self::for_task(TaskName::Segmentation),
            _ => Self::default(),
        };
        fields::flatten("", table, &mut |key, value| recipe.assign(&key, value))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Changes one key, as `--set` does: `"optimizer.lr=0.01"`. The value is TOML; what is not TOML,
    /// or not TOML that the key takes, is a string, so that `optimizer.name=adam` needs no quotes.
    ///
    /// Only the value's kind is checked here, since several changes may belong together;
    /// [`validate`](Self::validate) checks the whole.
    ///
    /// # Errors
    ///
    /// If there is no `=`, the key is unknown or the value is of the wrong kind.
    pub fn set(&mut self, assignment: &str) -> Result<(), RecipeError> {
        self.apply(&assignment.into())
    }

    /// The recipe as TOML, defaults included.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe has only keys and values that TOML knows")
    }

    pub(crate) fn assign(&mut self, key: &str, value: toml::Value) -> Result<(), RecipeError> {
        let field = fields::find(key)?;
        let mut table = toml::Table::try_from(&*self)
            .expect("a recipe has only keys and values that TOML knows");
        let wrong = |value: &toml::Value| RecipeError::Value {
            key: key.into(),
            value: value.to_string(),
            allowed: field.allowed.into(),
        };
        match key.split_once('.') {
            Some((section, name)) => table
                .get_mut(section)
                .and_then(toml::Value::as_table_mut)
                .expect("every section is written")
                .insert(name.into(), value.clone()),
            None => table.insert(key.into(), value.clone()),
        };
        *self = table.try_into().map_err(|_| wrong(&value))?;
        Ok(())
    }

    /// Checks every value's range, and that the optimizer has the settings given to it.
    ///
    /// # Errors
    ///
    /// Names the first key that is not allowed, its value and what is.
    pub fn validate(&self) -> Result<(), RecipeError> {
        fields::validate(self)
    }

    /// Where this recipe and another differ: key, this one's value, the other's value.
    pub fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let flat = |recipe: &Self| {
            let mut pairs = std::collections::BTreeMap::new();
            let table = toml::Table::try_from(recipe)
                .expect("a recipe has only keys and values that TOML knows");
            let collect = &mut |key: String, value: toml::Value| {
                pairs.insert(key, value.to_string());
                Ok(())
            };
            fields::flatten("", table, collect).expect("collecting never fails");
            pairs
        };
        let (ours, theirs) = (flat(self), flat(other));
        let keys: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let unset = || "(default)".to_string();
        keys.into_iter()
            .filter(|key| ours.get(*key) != theirs.get(*key))
            .map(|key| {
                let value = |pairs: &std::collections::BTreeMap<_, String>| {
                    pairs.get(key).cloned().unwrap_or_else(unset)
                };
                (key.clone(), value(&ours), value(&theirs))
            })
            .collect()
    }
}

fn read(path: &Path) -> Result<String, RecipeError> {
    let text = || {
        let mut text = String::new();
        // The file may be a pipe, and a pipe may have no end.
        let file = std::fs::File::open(path)?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(std::io::Error::other("it has more than 16 MiB"));
        }
        Ok(text)
    };
    text().map_err(|source| RecipeError::Read {
        path: path.into(),
        source,
    })
}

fn parse(text: &str) -> Result<toml::Table, RecipeError> {
    toml::from_str(text).map_err(|error| RecipeError::Syntax {
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Recipe::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn the_default_recipe_survives_a_round_trip_through_toml() {
        let recipe = Recipe::default();
        assert_eq!(Recipe::from_toml(&recipe.to_toml()).unwrap(), recipe);
        recipe.validate().unwrap();
    }

    #[test]
    fn the_recipe_of_a_run_without_a_version_of_its_data_means_the_first_and_new_ones_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe.toml");
        let rules = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Recipe::of_run(&path).unwrap().data.rules()
        };
        assert_eq!(rules("[data]\nname = 'image-folder'"), Rules::V1);
        assert_eq!(rules("seed = 3"), Rules::V1);
        assert_eq!(rules(&Recipe::default().to_toml()), Rules::V2);
        assert_eq!(Recipe::from_file(&path).unwrap().data.rules(), Rules::V2);
        assert_eq!(Recipe::from_toml("").unwrap().data.rules(), Rules::V2);
        assert!(refused("[data]\nversion = 3").contains("data.version = 3 is not allowed"));
    }

    #[test]
    fn channels_and_the_value_to_ignore_are_checked() {
        assert!(refused("[data]\nchannels = 2").contains("data.channels = 2 is not allowed"));
        assert!(
            refused("[data]\nignore_value = 255").contains("setting of task = \"segmentation\"")
        );
        let masks = "task = 'segmentation'\n[data]\nignore_value = ";
        assert!(refused(&format!("{masks}256")).contains("data.ignore_value = 256 is not allowed"));
        let recipe = Recipe::from_toml(&format!("{masks}255\nchannels = 3")).unwrap();
        assert_eq!(
            (recipe.data.ignore_value, recipe.data.channels),
            (Some(255), Some(3))
        );
    }

    #[test]
    fn only_a_densenet_without_dropout_saves_memory() {
        let with = |model: &str| refused(&format!("[model]\nmemory_efficient = true\n{model}"));
        assert!(with("name = 'resnet18'").contains("a setting of DenseNets"));
        assert!(with("name = 'densenet121'\ndropout = [0.2]").contains("other masks"));
        Recipe::from_toml("[model]\nmemory_efficient = true\nname = 'DenseNet121'").unwrap();
    }

    #[test]
    fn every_field_of_the_table_exists_and_every_key_is_in_the_table() {
        for field in FIELDS {
            let error = Recipe::default().assign(field.key, toml::Value::Array(vec![]));
            if let Err(error) = error {
                assert!(matches!(error, RecipeError::Value { .. }), "{error}");
            }
        }
        let table = toml::Table::try_from(Recipe::default()).unwrap();
        fields::flatten("", table, &mut |key, _| fields::find(&key).map(|_| ())).unwrap();
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        assert_eq!(
            refused("batchsize = 3"),
            "the recipe has no key 'batchsize'; did you mean 'batch_size'?"
        );
        assert_eq!(
            refused("[optimizer]\nrate = 3"),
            "the recipe has no key 'optimizer.rate'; [optimizer] has: name, lr, weight_decay, momentum, \
             dampening, nesterov, betas, alpha, centered, eps"
        );
        assert!(refused("[optimiser]\nlr = 3").contains("did you mean 'optimizer.lr'?"));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_key_value_and_what_is_allowed() {
        assert_eq!(
            refused("batch_size = 0"),
            "batch_size = 0 is not allowed; a whole number from 1 to 1048576"
        );
        assert_eq!(
            refused("batch_size = 'many'"),
            "batch_size = \"many\" is not allowed; a whole number from 1 to 1048576"
        );
        assert_eq!(
            refused("[optimizer]\nlr = -1.0"),
            "optimizer.lr = -1.0 is not allowed; a positive number up to 1000; default 0.001 (rmsprop 0.01)"
        );
        assert!(refused("[optimizer]\nlr = nan").contains("optimizer.lr = nan is not allowed"));
        assert!(refused("[data]\nvalid_fraction = 1.0").contains("data.valid_fraction = 1.0"));
        assert!(refused("epochs = 'some'").contains("epochs = \"some\" is not allowed"));
        assert!(refused("seed = -1").contains("seed = -1 is not allowed"));
        assert!(refused("[model]\ndropout = [1.5]").contains("model.dropout = [1.5]"));
        assert!(
            refused("clip = 'norm:-1'")
                .starts_with("clip = \"norm:-1\" is not allowed; none, norm:MAX")
        );
        assert!(refused("clip = 1.0").starts_with("clip = 1.0 is not allowed; none, norm:MAX"));
    }

    #[test]
    fn settings_of_segmentation_are_for_segmentation() {
        assert!(refused("[data]\ncrop_size = [8, 8]").contains("augment.crop moves images"));
        assert_eq!(
            refused("[loss]\ndice = 0.5"),
            "loss.dice = 0.5 is not allowed; it is a setting of task = \"segmentation\""
        );
        let recipe =
            Recipe::from_toml("task = 'segmentation'\n[loss]\nname = 'cross-entropy'").unwrap();
        assert_eq!(
            (recipe.loss.name, &recipe.model.name[..]),
            (LossName::CrossEntropy, "unet")
        );
        assert!(refused("task = 'detection'").contains("classification or segmentation"));
        let mixed = refused("task = 'segmentation'\n[augment]\nmixup = 0.2");
        assert!(
            mixed.contains("augment.mixup = 0.2 is not allowed"),
            "{mixed}"
        );
        assert!(
            mixed.contains("a setting of task = \"classification\""),
            "{mixed}"
        );
        Recipe::from_toml("[augment]\nmixup = 0.2").unwrap();
    }

    #[test]
    fn the_zoos_settings_are_read_by_name() {
        let recipe =
            Recipe::from_toml("[model]\nname = 'resnet18'\nnorm = 'group:8'\nstem = 'cifar'");
        let model = recipe.unwrap().model;
        assert_eq!(model.norm, Some(Norm::Group { num_groups: 8 }));
        assert!(
            refused("[model]\nnorm = 'group'").contains("model.norm = \"group\" is not allowed")
        );
        assert!(refused("[model]\nfreeze = 1").contains("model.freeze = 1 is not allowed"));
        assert!(refused("[augment]\nhflip = 2.0").contains("augment.hflip = 2.0 is not allowed"));
        assert!(refused("[data]\ncrop_size = [0, 8]").contains("data.crop_size = [0, 8]"));
    }

    #[test]
    fn a_setting_of_another_optimizer_is_refused() {
        assert_eq!(
            refused("[optimizer]\nmomentum = 0.9"),
            "optimizer.momentum = 0.9 is not allowed; it is a setting of sgd and rmsprop, not of adam"
        );
        Recipe::from_toml("[optimizer]\nname = 'sgd'\nmomentum = 0.9\nnesterov = true").unwrap();
        // PyTorch refuses Nesterov momentum without momentum, or with dampening.
        assert!(refused("[optimizer]\nname = 'sgd'\nnesterov = true").contains("needs a momentum"));
    }

    #[test]
    fn settings_change_one_key_and_strings_need_no_quotes() {
        let mut recipe = Recipe::default();
        for setting in [
            "optimizer.name=sgd",
            "optimizer.lr = 1e-2",
            "optimizer.lr=1",
            "model.hidden=[64, 32]",
            "data.dir=/some/where",
            "epochs=7",
            "epochs=auto",
            "clip=norm:1.0",
        ] {
            recipe.set(setting).unwrap();
        }
        assert_eq!(recipe.optimizer.name, OptimizerName::Sgd);
        assert_eq!(recipe.optimizer.lr, Some(1.0));
        assert_eq!(recipe.model.hidden, Some(vec![64, 32]));
        assert_eq!(recipe.data.dir, Some("/some/where".into()));
        assert_eq!(recipe.epochs, Epochs::Auto);
        assert_eq!(recipe.clip.to_string(), "norm:1");
        assert!(recipe.set("optimizer.lr").is_err());
        assert!(recipe.set("seed=1\nbatch_size=2").is_err());
        assert!(recipe.set("optimizer=adam").is_err());
    }

    #[test]
    fn differences_name_key_and_both_values() {
        let recipe = Recipe::default();
        let mut other = recipe.clone();
        assert_eq!(recipe.differences(&other), []);
        other.set("optimizer.lr=0.5").unwrap();
        let difference = ("optimizer.lr".into(), "(default)".into(), "0.5".into());
        assert_eq!(recipe.differences(&other), [difference]);
    }
}
