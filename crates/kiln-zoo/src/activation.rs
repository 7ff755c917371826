//! The activation function as a setting.

use std::fmt;
use std::str::FromStr;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The nonlinearity of a network. In settings it is written as its name, such as `"gelu"` or `"leaky_relu:0.1"`.
///
/// | name | formula |
/// |---|---|
/// | `relu` (default) | max(x, 0) |
/// | `leaky_relu:SLOPE` | x if x > 0, else SLOPE · x; SLOPE is 0.01 if left out |
/// | `elu` | x if x > 0, else exp(x) − 1 |
/// | `gelu` | x · Φ(x), the exact form |
/// | `silu` | x · sigmoid(x) |
/// | `mish` | x · tanh(softplus(x)) |
/// | `tanh` | tanh(x) |
///
/// The published weights of every model in the zoo belong to ReLU.
///
/// ```
/// use kiln_zoo::Activation;
/// assert_eq!("leaky-relu:0.2".parse(), Ok(Activation::LeakyRelu { slope: 0.2 }));
/// assert_eq!(Activation::LeakyRelu { slope: 0.2 }.to_string(), "leaky_relu:0.2");
/// assert!("sine".parse::<Activation>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[allow(missing_docs)]
pub enum Activation {
    #[default]
    Relu,
    LeakyRelu {
        slope: f64,
    },
    Elu,
    Gelu,
    Silu,
    Mish,
    Tanh,
}

/// A name that is no activation's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "'{0}' is no activation; known are relu, leaky_relu[:SLOPE], elu, gelu, silu, mish and tanh"
)]
pub struct UnknownActivation(
    /// What was given.
    pub String,
);

impl Activation {
    /// The function's value at every element.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match *self {
            Self::Relu => kiln_kernels::relu(x),
            Self::LeakyRelu { slope } => activation::leaky_relu(x, slope),
            Self::Elu => activation::elu(x, 1.0),
            Self::Gelu => activation::gelu(x),
            Self::Silu => activation::silu(x),
            Self::Mish => activation::mish(x),
            Self::Tanh => activation::tanh(x),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relu => "relu",
            Self::LeakyRelu { slope } => return write!(f, "leaky_relu:{slope}"),
            Self::Elu => "elu",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Mish => "mish",
            Self::Tanh => "tanh",
        })
    }
}

impl FromStr for Activation {
    type Err = UnknownActivation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownActivation(text.into());
        let plain = text.to_lowercase().replace('-', "_");
        let (name, slope) = match plain.split_once(':') {
            Some((name, slope)) => (name, Some(slope)),
            None => (plain.as_str(), None),
        };
        let activation = match name {
            "leaky_relu" => {
                let slope: f64 = slope.unwrap_or("0.01").parse().map_err(|_| unknown())?;
                return match slope.is_finite() {
                    true => Ok(Self::LeakyRelu { slope }),
                    false => Err(unknown()),
                };
            }
            "relu" => Self::Relu,
            "elu" => Self::Elu,
            "gelu" => Self::Gelu,
            "silu" | "swish" => Self::Silu,
            "mish" => Self::Mish,
            "tanh" => Self::Tanh,
            _ => return Err(unknown()),
        };
        match slope {
            Some(_) => Err(unknown()),
            None => Ok(activation),
        }
    }
}

impl TryFrom<String> for Activation {
    type Error = UnknownActivation;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Activation> for String {
    fn from(activation: Activation) -> Self {
        activation.to_string()
    }
}

/// It holds no parameters: as a module it is there so that it can stand between layers in a tuple.
impl Module for Activation {
    fn collect_devices(&self, devices: Devices) -> Devices {
        devices
    }
    fn fork(self, _device: &Device) -> Self {
        self
    }
    fn to_device(self, _device: &Device) -> Self {
        self
    }
    fn visit<V: ModuleVisitor>(&self, _visitor: &mut V) {}
    fn map<M: ModuleMapper>(self, _mapper: &mut M) -> Self {
        self
    }
    fn valid(&self) -> Self {
        *self
    }
    fn train(self) -> Self {
        self
    }
    fn materialize(self) -> Self {
        self
    }
}

impl ModuleDisplayDefault for Activation {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(self).optional()
    }
}

impl ModuleDisplay for Activation {}
