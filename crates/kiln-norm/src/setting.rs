//! Which normalization a model uses, as a setting.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::batch::{BatchNorm, BatchNormConfig};
use crate::group::{GroupNorm, GroupNormConfig};
use crate::instance::{InstanceNorm, InstanceNormConfig};
use crate::layer::{LayerNorm, LayerNormConfig};
use crate::rms::{RmsNorm, RmsNormConfig};

/// The normalization of a model of images or other inputs `[batch, channels, ...]`.
///
/// It is written as one word: in a recipe `norm = "group:8"`.
///
/// | written | layer |
/// |---|---|
/// | `batch` | [`BatchNorm`], the default |
/// | `layer` | [`LayerNorm`] over the channels of each position |
/// | `instance` | [`InstanceNorm`] with weight and bias |
/// | `group:8` | [`GroupNorm`] with 8 groups |
/// | `group-size:16` | [`GroupNorm`] with groups of 16 channels |
/// | `rms` | [`RmsNorm`] over the channels of each position |
/// | `none` | none |
///
/// ```
/// use kiln_norm::Norm;
///
/// let norm: Norm = "group:8".parse()?;
/// assert_eq!(norm, Norm::Group { num_groups: 8 });
/// assert_eq!(norm.to_string(), "group:8");
/// # Ok::<(), kiln_norm::NormError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Norm {
    /// [`BatchNorm`].
    #[default]
    Batch,
    /// [`LayerNorm`] over the channels of each position.
    Layer,
    /// [`InstanceNorm`] with weight and bias.
    Instance,
    /// [`GroupNorm`] with a number of groups.
    Group {
        /// Into how many groups the channels are cut.
        num_groups: usize,
    },
    /// [`GroupNorm`] with groups of a size.
    GroupSize {
        /// How many channels a group has.
        channels: usize,
    },
    /// [`RmsNorm`] over the channels of each position.
    Rms,
    /// No normalization.
    None,
}

/// A normalization that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NormError {
    /// The word is not one of those that [`Norm`] lists.
    #[error(
        "unknown normalization '{given}'; write batch, layer, instance, group:N (N groups), group-size:N (groups of N \
         channels), rms or none"
    )]
    Unknown {
        /// What was written.
        given: String,
    },
    /// A model's layer has no channels.
    #[error("a normalization needs 1 channel or more")]
    NoChannels,
    /// The groups do not come out even.
    #[error("num_groups ({num_groups}) must divide num_channels ({num_channels}); try {}", list(.allowed))]
    NumGroups {
        /// How many groups were asked for.
        num_groups: usize,
        /// How many channels there are.
        num_channels: usize,
        /// Numbers of groups that would do, near the one asked for.
        allowed: Vec<usize>,
    },
    /// The groups do not come out even.
    #[error("groups of {channels} channels must fill num_channels ({num_channels}); try groups of {}", list(.allowed))]
    GroupSize {
        /// How large a group was asked for.
        channels: usize,
        /// How many channels there are.
        num_channels: usize,
        /// Sizes that would do, near the one asked for.
        allowed: Vec<usize>,
    },
}

fn list(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "another".into(),
    }
}

/// Up to three divisors of `n`, those nearest to `wanted`, in rising order.
fn divisors_near(n: usize, wanted: usize) -> Vec<usize> {
    let mut divisors: Vec<usize> = (1..=n).filter(|d| n.is_multiple_of(*d)).collect();
    divisors.sort_by_key(|d| d.abs_diff(wanted));
    divisors.truncate(3);
    divisors.sort_unstable();
    divisors
}

impl Norm {
    /// Initializes the layer for `num_channels` channels.
    ///
    /// # Errors
    ///
    /// If there are no channels, or groups that do not come out even.
    pub fn init(&self, num_channels: usize, device: &Device) -> Result<NormLayer, NormError> {
        self.check(num_channels)?;
        let group = |num_groups| {
            NormLayer::Group(GroupNormConfig::new(num_groups, num_channels).init(device))
        };
        Ok(match *self {
            Self::Batch => NormLayer::Batch(BatchNormConfig::new(num_channels).init(device)),
            Self::Layer => NormLayer::Layer(LayerNormConfig::new(num_channels).init(device)),
            Self::Instance => {
                let config = InstanceNormConfig::new(num_channels).with_affine(true);
                NormLayer::Instance(config.init(device))
            }
            Self::Group { num_groups } => group(num_groups),
            Self::GroupSize { channels } => group(num_channels / channels),
            Self::Rms => NormLayer::Rms(RmsNormConfig::new(num_channels).init(device)),
            Self::None => NormLayer::Identity(Identity),
        })
    }

    /// Whether the layer can be made for `num_channels` channels; what [`init`](Norm::init) would say, without a
    /// device.
    ///
    /// # Errors
    ///
    /// If there are no channels, or groups that do not come out even.
    pub fn check(&self, num_channels: usize) -> Result<(), NormError> {
        if num_channels == 0 {
            return Err(NormError::NoChannels);
        }
        let even = |n: usize| n > 0 && num_channels.is_multiple_of(n);
        match *self {
            Self::Group { num_groups } if !even(num_groups) => Err(NormError::NumGroups {
                num_groups,
                num_channels,
                allowed: divisors_near(num_channels, num_groups),
            }),
            Self::GroupSize { channels } if !even(channels) => Err(NormError::GroupSize {
                channels,
                num_channels,
                allowed: divisors_near(num_channels, channels),
            }),
            _ => Ok(()),
        }
    }
}

impl Display for Norm {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Batch => f.write_str("batch"),
            Self::Layer => f.write_str("layer"),
            Self::Instance => f.write_str("instance"),
            Self::Group { num_groups } => write!(f, "group:{num_groups}"),
            Self::GroupSize { channels } => write!(f, "group-size:{channels}"),
            Self::Rms => f.write_str("rms"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for Norm {
    type Err = NormError;

    fn from_str(given: &str) -> Result<Self, NormError> {
        let unknown = || NormError::Unknown {
            given: given.into(),
        };
        let number = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(unknown()),
            Ok(number) => Ok(number),
        };
        Ok(match given.split_once(':') {
            None => match given {
                "batch" => Self::Batch,
                "layer" => Self::Layer,
                "instance" => Self::Instance,
                "rms" => Self::Rms,
                "none" => Self::None,
                _ => return Err(unknown()),
            },
            Some(("group", n)) => Self::Group {
                num_groups: number(n)?,
            },
            Some(("group-size", n)) => Self::GroupSize {
                channels: number(n)?,
            },
            Some(_) => return Err(unknown()),
        })
    }
}

impl From<Norm> for String {
    fn from(norm: Norm) -> Self {
        norm.to_string()
    }
}

impl TryFrom<String> for Norm {
    type Error = NormError;

    fn try_from(given: String) -> Result<Self, NormError> {
        given.parse()
    }
}

/// No normalization: the output is the input.
#[derive(Module, Debug)]
pub struct Identity;

/// The normalization layer that a [`Norm`] chose, for inputs `[batch, channels, ...]`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A model has few layers; a box would cost each its own allocation.
pub enum NormLayer {
    /// Over batch and space.
    Batch(BatchNorm),
    /// Over the channels of each position.
    Layer(LayerNorm),
    /// Over the space of each sample and channel.
    Instance(InstanceNorm),
    /// Over groups of channels of each sample.
    Group(GroupNorm),
    /// Over the channels of each position, without subtracting the mean.
    Rms(RmsNorm),
    /// The input itself.
    Identity(Identity),
}

impl NormLayer {
    /// Normalizes `x`.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[batch, channels, ...]`
    ///
    /// # Panics
    ///
    /// As the layer's own `forward` does.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Batch(layer) => layer.forward(x),
            Self::Layer(layer) => over_channels(x, |x| layer.forward(x)),
            Self::Instance(layer) => layer.forward(x),
            Self::Group(layer) => layer.forward(x),
            Self::Rms(layer) => over_channels(x, |x| layer.forward(x)),
            Self::Identity(_) => x,
        }
    }

    /// Whether [`forward`](Self::forward) refuses inputs of this shape, `[batch, channels, ...]`, because a mean and a
    /// variance would be of a single value: a BatchNorm in training whose channels have one value in the whole batch, an
    /// InstanceNorm over maps of 1×1, a GroupNorm of one group of one value. Layers that are frozen, or used outside
    /// training, take their running statistics and any shape.
    ///
    /// ```
    /// use kiln_norm::Norm;
    /// # let device = kiln_testing::devices().remove(0);
    /// let layer = Norm::Batch.init(8, &device)?;
    /// assert!(layer.refuses(&[1, 8, 1, 1], true));
    /// assert!(!layer.refuses(&[2, 8, 1, 1], true) && !layer.refuses(&[1, 8, 1, 1], false));
    /// # Ok::<(), kiln_norm::NormError>(())
    /// ```
    pub fn refuses(&self, shape: &[usize], training: bool) -> bool {
        let of = |axes: &[usize]| axes.iter().product::<usize>();
        let (batch, space) = (shape[0], of(shape.get(2..).unwrap_or_default()));
        match self {
            Self::Batch(layer) => {
                let running = layer.running_mean.is_some() && layer.running_var.is_some();
                let own = !running || (training && layer.training.is_enabled());
                own && batch * space == 1
            }
            Self::Instance(layer) => {
                let running = layer.running_mean.is_some() && layer.running_var.is_some();
                let own = !running || (training && layer.training.is_enabled());
                own && space == 1
            }
            Self::Group(layer) => batch * layer.channels_of_a_group() * space == 1,
            Self::Layer(_) | Self::Rms(_) | Self::Identity(_) => false,
        }
    }

    /// The layer with its weight set to zero: as the last one of a residual block it makes the block the identity
    /// at first (Goyal et al., [Accurate, Large Minibatch SGD](https://arxiv.org/abs/1706.02677), 2017).
    pub fn zero_init(self) -> Self {
        match self {
            Self::Batch(layer) => Self::Batch(layer.zero_init()),
            Self::Layer(layer) => Self::Layer(layer.zero_init()),
            Self::Instance(layer) => Self::Instance(layer.zero_init()),
            Self::Group(layer) => Self::Group(layer.zero_init()),
            Self::Rms(layer) => Self::Rms(layer.zero_init()),
            Self::Identity(layer) => Self::Identity(layer),
        }
    }

    /// The layer out of training: its parameters get no gradients, its running statistics are used and left alone,
    /// on an autodiff device too. It is [`Module::freeze`].
    pub fn freeze(self) -> Self {
        Module::freeze(self)
    }

    /// The layer as `y = scale * x + shift` for each channel, as it is outside training. `None` where it is not of
    /// that form: that is every layer but a [`BatchNorm`] with running statistics.
    pub fn scale_and_shift(&self) -> Option<(Tensor<1>, Tensor<1>)> {
        match self {
            Self::Batch(layer) => layer.scale_and_shift(),
            _ => None,
        }
    }
}

/// Runs a layer that normalizes the last axis over the second one.
fn over_channels<const D: usize>(
    x: Tensor<D>,
    layer: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    if D <= 2 {
        return layer(x);
    }
    layer(x.movedim(1, D as i32 - 1)).movedim(D as i32 - 1, 1)
}
