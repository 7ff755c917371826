//! Models by name.

use burn::tensor::Device;
use kiln_norm::{Norm, NormError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::architecture::{self, plain};
use crate::{Activation, Classifier, Segmenter, Stem, Summary};

/// What a model is built from, whichever it is; `None` takes the model's own default. A model that does not have a
/// setting refuses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Channels, height and width of an image. Default: 1×28×28. Only the channels matter to a network of
    /// convolutions, but an image too small for it is an error.
    pub input: [usize; 3],
    /// Number of classes. Default: 10. No size here may be larger than 2³¹ - 1.
    pub num_classes: usize,
    /// Units of the hidden fully connected layers. Default: `[128]`. The CNN takes exactly one.
    pub hidden: Option<Vec<usize>>,
    /// Output channels of the CNN's convolutions. Default: `[32, 64]`. In a U-Net without backbone, those of the first level
    /// alone. Default: `[64]`. Not for other models.
    pub channels: Option<Vec<usize>>,
    /// Dropout probability. In the MLP after the hidden layers, one for each or one for all, and in the CNN after its hidden
    /// layer (default 0.25); in ResNets before the classifier, in DenseNets after each layer, in U-Nets at the lowest
    /// level (default 0).
    pub dropout: Option<Vec<f64>>,
    /// The normalization. Default: batch normalization. Not for the MLP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    /// The nonlinearity. Default: ReLU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// The stem of a ResNet or DenseNet: `imagenet` or, for small images, `cifar`. Default: that of the model's source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    /// Whether the last normalization of each residual block starts at zero. Default: no. For ResNets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_init: Option<bool>,
    /// Whether a U-Net's decoder enlarges by interpolation instead of a transposed convolution. Default: no for `unet`, yes
    /// over a backbone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bilinear: Option<bool>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            input: [1, 28, 28],
            num_classes: 10,
            hidden: None,
            channels: None,
            dropout: None,
            norm: None,
            activation: None,
            stem: None,
            zero_init: None,
            bilinear: None,
        }
    }
}

/// Why a model could not be created.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ZooError {
    /// No model has this name.
    #[error("no model is named '{name}'; {}", near(.name))]
    UnknownModel {
        /// The name given.
        name: String,
    },
    /// The model is there, but does something else.
    #[error("{name} is a model for {}, not for {wanted}; {}", wanted.other(), examples(*wanted))]
    OtherTask {
        /// The name given.
        name: String,
        /// What a model was wanted for.
        wanted: Task,
    },
    /// A setting that the model cannot take.
    #[error("{model}: {setting} = {given} is not allowed; {allowed}")]
    Setting {
        /// The model.
        model: String,
        /// The setting's name.
        setting: &'static str,
        /// The value given.
        given: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The normalization does not fit one of the model's widths.
    #[error("{model}: this normalization does not fit")]
    Norm {
        /// The model.
        model: String,
        /// What does not fit.
        source: NormError,
    },
    /// The model would not fit into the memory of this machine, or into any.
    #[error(
        "{model} is too large: {what}; give smaller or fewer layers, smaller images or fewer classes"
    )]
    TooLarge {
        /// The model.
        model: String,
        /// Its size, and what there is.
        what: String,
    },
    /// Nothing is left of the image before the network ends.
    #[error(
        "{model}: an image of {height}x{width} is too small, nothing of it is left after '{layer}'; give larger images or, \
         if the model has one, the setting stem = \"cifar\""
    )]
    TooSmall {
        /// The model.
        model: String,
        /// The image's height.
        height: usize,
        /// The image's width.
        width: usize,
        /// The first layer without output.
        layer: String,
    },
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One class for an image.
    Classification,
    /// One class for each pixel.
    Segmentation,
}

impl Task {
    fn other(self) -> Self {
        match self {
            Self::Classification => Self::Segmentation,
            Self::Segmentation => Self::Classification,
        }
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Classification => "classification",
            Self::Segmentation => "segmentation",
        })
    }
}

/// One line of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name to create it by.
    pub name: &'static str,
    /// What it is, in a few words.
    pub summary: &'static str,
    /// What it is for.
    pub task: Task,
    /// Channels, height and width of the images that its source uses.
    pub input: [usize; 3],
    /// The number of classes that its source uses.
    pub num_classes: usize,
    /// The paper or code that it is from.
    pub source: &'static str,
    /// Where that is.
    pub url: &'static str,
}

impl ModelInfo {
    /// Parameters and multiply-adds layer by layer, for the source's number of classes and an image of this size. It is
    /// worked out from shapes; no weight is drawn.
    ///
    /// # Errors
    ///
    /// [`ZooError::TooSmall`] if the image is too small for the model.
    ///
    /// ```
    /// # let device = kiln_testing::devices().remove(0);
    /// let info = kiln_zoo::models().iter().find(|model| model.name == "densenet121").unwrap();
    /// assert_eq!(info.summarize([3, 224, 224], &device)?.macs(), 2_834_161_664);
    /// # Ok::<(), kiln_zoo::ZooError>(())
    /// ```
    pub fn summarize(&self, input: [usize; 3], device: &Device) -> Result<Summary, ZooError> {
        let settings = Settings {
            input,
            num_classes: self.num_classes,
            ..Settings::default()
        };
        Ok(match self.task {
            Task::Classification => create(self.name, &settings, device)?.summary(input),
            Task::Segmentation => create_segmenter(self.name, &settings, device)?.summary(input),
        })
    }
}

/// Every model that [`create`] and [`create_segmenter`] know. Beside these, `densenet-L-K` and `densenet-bc-L-K` make
/// DenseNets for CIFAR of any depth `L` and growth rate `K`, `small-resnet-ABC` the tutorial's network of `A`, `B` and
/// `C` blocks, and `unet-NAME` a U-Net over any of the classifiers but `cnn` and `mlp`.
///
/// ```
/// assert!(kiln_zoo::models().iter().any(|model| model.name == "cnn"));
/// ```
pub fn models() -> &'static [ModelInfo] {
    crate::table::MODELS
}

/// The model of a name, in whatever spelling: `resnext50_32x4d`, `ResNeXt50-32x4d`.
///
/// # Errors
///
/// [`ZooError::UnknownModel`], which names the nearest ones.
pub fn model_info(name: &str) -> Result<&'static ModelInfo, ZooError> {
    let wanted = plain(name);
    let found = models().iter().find(|model| plain(model.name) == wanted);
    found.ok_or_else(|| ZooError::UnknownModel { name: name.into() })
}

/// Names that are told apart by a mistake or two.
const SIMILAR: f64 = 0.7;
/// How many of them are named.
const NAMED: usize = 3;

/// What the user may have meant.
fn near(name: &str) -> String {
    let given = plain(name);
    let score = |known: &str| {
        let known = plain(known);
        let similar = strsim::normalized_damerau_levenshtein(&given, &known);
        // A name that was cut short or has something added to it.
        let part = given.len() >= 3 && (known.contains(&given) || given.contains(&known));
        if part { similar.max(SIMILAR) } else { similar }
    };
    let mut scored: Vec<(f64, &str)> = models()
        .iter()
        .map(|model| (score(model.name), model.name))
        .collect();
    scored.retain(|(score, _)| *score >= SIMILAR);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<String> = scored
        .iter()
        .take(NAMED)
        .map(|(_, name)| format!("'{name}'"))
        .collect();
    match names.as_slice() {
        [] => {
            let known: Vec<&str> = models().iter().map(|model| model.name).collect();
            format!("known are {}", known.join(", "))
        }
        [name] => format!("did you mean {name}? (`kiln models` lists all)"),
        [names @ .., last] => {
            format!(
                "did you mean {} or {last}? (`kiln models` lists all)",
                names.join(", ")
            )
        }
    }
}

fn examples(task: Task) -> &'static str {
    match task {
        Task::Classification => "take one such as cnn, resnet18 or densenet121",
        Task::Segmentation => "take one such as unet, unet-bilinear or unet-resnet18",
    }
}

/// Creates a classifier by name, on `device`, with freshly drawn weights.
///
/// # Errors
///
/// [`ZooError::UnknownModel`] for a name that is not in [`models`], [`ZooError::Setting`] for a
/// setting out of range or one that the model does not have, [`ZooError::Norm`] for a normalization that does not fit,
/// [`ZooError::TooSmall`] for an image too small for the network, [`ZooError::TooLarge`] if its parameters alone need more than
/// the [memory of this machine](crate::machine_memory). Nothing is allocated before this is known.
///
/// ```
/// # let device = kiln_testing::devices().remove(0);
/// let error = kiln_zoo::create("resnet19", &Default::default(), &device).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "no model is named 'resnet19'; did you mean 'resnet18', 'resnet101' or 'resnet152'? (`kiln models` lists all)",
/// );
/// ```
pub fn create(name: &str, settings: &Settings, device: &Device) -> Result<Classifier, ZooError> {
    match architecture::classifier(name) {
        Some(architecture) => architecture.create(name, settings, device),
        None if architecture::segmenter(name).is_some() => Err(ZooError::OtherTask {
            name: name.into(),
            wanted: Task::Classification,
        }),
        None => Err(ZooError::UnknownModel { name: name.into() }),
    }
}

/// Creates a segmentation model by name, on `device`, with freshly drawn weights: `unet`, `unet-bilinear`, or
/// `unet-` and the name of a classifier that becomes the encoder.
///
/// # Errors
///
/// As [`create`].
///
/// ```
/// use burn::tensor::Tensor;
/// # let device = kiln_testing::devices().remove(0);
/// let settings = kiln_zoo::Settings { input: [1, 50, 70], num_classes: 2, ..Default::default() };
/// let model = kiln_zoo::create_segmenter("unet-resnet20", &settings, &device)?;
/// let logits = model.forward(Tensor::zeros([1, 1, 50, 70], &device));
/// assert_eq!(logits.dims(), [1, 2, 50, 70]);
/// # Ok::<(), kiln_zoo::ZooError>(())
/// ```
pub fn create_segmenter(
    name: &str,
    settings: &Settings,
    device: &Device,
) -> Result<Segmenter, ZooError> {
    match architecture::segmenter(name) {
        Some(encoder) => encoder.create(name, settings, device),
        None if architecture::classifier(name).is_some() => Err(ZooError::OtherTask {
            name: name.into(),
            wanted: Task::Segmentation,
        }),
        None => Err(ZooError::UnknownModel { name: name.into() }),
    }
}
