//! Models by name.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Cnn, CnnConfig, Mlp, MlpConfig};

/// What a model is built from, whichever it is; `None` takes the model's own default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Channels, height and width of an image. Default: 1×28×28.
    pub input: [usize; 3],
    /// Number of classes. Default: 10.
    pub num_classes: usize,
    /// Units of the hidden fully connected layers. Default: `[128]`. The CNN takes exactly one.
    pub hidden: Option<Vec<usize>>,
    /// Output channels of the convolutions. Default: `[32, 64]`. Not for the MLP.
    pub channels: Option<Vec<usize>>,
    /// Dropout probability after the hidden layers, one for each or one for all. Default: 0.25.
    pub dropout: Option<Vec<f64>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            input: [1, 28, 28],
            num_classes: 10,
            hidden: None,
            channels: None,
            dropout: None,
        }
    }
}

/// Why a model could not be created.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ZooError {
    /// No model has this name.
    #[error("no model is named '{name}'; {}", known(.name))]
    UnknownModel {
        /// The name given.
        name: String,
    },
    /// A setting that the model cannot take.
    #[error("{model}: {setting} = {given} is not allowed; {allowed}")]
    Setting {
        /// The model.
        model: &'static str,
        /// The setting's name.
        setting: &'static str,
        /// The value given.
        given: String,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// One line of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name to create it by.
    pub name: &'static str,
    /// What it is, in a few words.
    pub summary: &'static str,
}

/// Every model that [`create`] knows.
///
/// ```
/// assert!(kiln_zoo::models().iter().any(|model| model.name == "cnn"));
/// ```
pub fn models() -> &'static [ModelInfo] {
    &[
        ModelInfo {
            name: "cnn",
            summary: "LeNet-like: two 3x3 convolutions with batch norm and pooling, one hidden layer",
        },
        ModelInfo {
            name: "mlp",
            summary: "multilayer perceptron with dropout",
        },
    ]
}

fn known(name: &str) -> String {
    let names: Vec<&str> = models().iter().map(|m| m.name).collect();
    let lower = name.to_lowercase();
    match names
        .iter()
        .find(|n| !lower.is_empty() && (lower.contains(*n) || n.contains(lower.as_str())))
    {
        Some(near) => format!("did you mean '{near}'? (known: {})", names.join(", ")),
        None => format!("known: {}", names.join(", ")),
    }
}

/// A model that maps images to class logits.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Classifier {
    /// The LeNet-like CNN.
    Cnn(Cnn),
    /// The multilayer perceptron.
    Mlp(Mlp),
}

impl Classifier {
    /// Logits of a batch of images.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`
    /// - output: `[batch, num_classes]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Cnn(model) => model.forward(images),
            Self::Mlp(model) => model.forward(images),
        }
    }
}

/// Creates a model by name, on `device`, with freshly drawn weights.
///
/// # Errors
///
/// [`ZooError::UnknownModel`] for a name that is not in [`models`], [`ZooError::Setting`] for a
/// setting out of range or one that the model does not have.
///
/// ```
/// # let device = kiln_testing::devices().remove(0);
/// let error = kiln_zoo::create("cnnn", &Default::default(), &device).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "no model is named 'cnnn'; did you mean 'cnn'? (known: cnn, mlp)",
/// );
/// ```
pub fn create(name: &str, settings: &Settings, device: &Device) -> Result<Classifier, ZooError> {
    match name {
        "cnn" => Ok(Classifier::Cnn(cnn_config(settings)?.init(device))),
        "mlp" => Ok(Classifier::Mlp(mlp_config(settings)?.init(device))),
        _ => Err(ZooError::UnknownModel { name: name.into() }),
    }
}

fn cnn_config(settings: &Settings) -> Result<CnnConfig, ZooError> {
    let model = "cnn";
    check_common(model, settings)?;
    let mut config = CnnConfig::new(settings.input, settings.num_classes);
    let [_, height, width] = settings.input;
    if height < 4 || width < 4 {
        return refuse(
            model,
            "input",
            &settings.input,
            "an image must have at least 4x4 pixels, since it is halved twice",
        );
    }
    if let Some(channels) = &settings.channels {
        config.channels = match channels[..] {
            [c1, c2] if c1 > 0 && c2 > 0 => [c1, c2],
            _ => return refuse(model, "channels", channels, "give two positive numbers"),
        };
    }
    if let Some(hidden) = &settings.hidden {
        config.hidden = match hidden[..] {
            [units] => units,
            _ => return refuse(model, "hidden", hidden, "give one positive number"),
        };
    }
    if let Some(dropout) = &settings.dropout {
        config.dropout = match dropout[..] {
            [probability] => probability,
            _ => return refuse(model, "dropout", dropout, "give one probability"),
        };
    }
    Ok(config)
}

fn mlp_config(settings: &Settings) -> Result<MlpConfig, ZooError> {
    let model = "mlp";
    check_common(model, settings)?;
    let mut config = MlpConfig::new(settings.input.iter().product(), settings.num_classes);
    if let Some(channels) = &settings.channels {
        let allowed = "the MLP has no convolutions; leave the setting out";
        return refuse(model, "channels", channels, allowed);
    }
    if let Some(hidden) = &settings.hidden {
        config.hidden = hidden.clone();
    }
    if let Some(dropout) = &settings.dropout {
        let allowed = "give one probability, or one for each hidden layer";
        if dropout.len() > 1 && dropout.len() != config.hidden.len() {
            return refuse(model, "dropout", dropout, allowed);
        }
        config.dropout = dropout.clone();
    }
    Ok(config)
}

fn check_common(model: &'static str, settings: &Settings) -> Result<(), ZooError> {
    if settings.input.contains(&0) {
        return refuse(
            model,
            "input",
            &settings.input,
            "every size must be positive",
        );
    }
    if settings.num_classes == 0 {
        return refuse(model, "num_classes", &0, "at least 1");
    }
    if let Some(hidden) = &settings.hidden
        && hidden.contains(&0)
    {
        return refuse(
            model,
            "hidden",
            hidden,
            "every layer needs at least one unit",
        );
    }
    if let Some(dropout) = &settings.dropout
        && (dropout.is_empty() || dropout.iter().any(|p| !(0.0..1.0).contains(p)))
    {
        return refuse(model, "dropout", dropout, "a probability must be in [0, 1)");
    }
    Ok(())
}

fn refuse<T>(
    model: &'static str,
    setting: &'static str,
    given: &impl std::fmt::Debug,
    allowed: &'static str,
) -> Result<T, ZooError> {
    Err(ZooError::Setting {
        model,
        setting,
        given: format!("{given:?}"),
        allowed,
    })
}
