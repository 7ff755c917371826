//! Group normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};
use kiln_kernels::{RowSpec, row_norm};

use crate::batch::check_epsilon;
use crate::running::per_channel;
use crate::weights::zeroed;

/// Configuration of a [`GroupNorm`] layer.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `num_groups` | | a divisor of `num_channels` |
/// | `num_channels` | | channels of the input, at least 1 |
/// | `epsilon` | 1e-5 | finite, not negative |
/// | `affine` | `true` | whether there are `weight` and `bias` |
#[derive(Config, Debug, PartialEq)]
pub struct GroupNormConfig {
    /// Into how many groups the channels are cut.
    pub num_groups: usize,
    /// Channels of the input.
    pub num_channels: usize,
    /// Added to the variance before the square root.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether there are `weight` and `bias`.
    #[config(default = true)]
    pub affine: bool,
}

impl GroupNormConfig {
    /// Initializes the layer: weight 1, bias 0.
    ///
    /// # Panics
    ///
    /// If a setting is not allowed.
    pub fn init(&self, device: &Device) -> GroupNorm {
        let (groups, channels) = (self.num_groups, self.num_channels);
        assert!(
            groups > 0 && channels > 0 && channels.is_multiple_of(groups),
            "GroupNorm: num_groups ({groups}) must divide num_channels ({channels})"
        );
        check_epsilon("GroupNorm", self.epsilon);
        GroupNorm {
            weight: per_channel(self.affine, channels, 1.0, device),
            bias: per_channel(self.affine, channels, 0.0, device),
            num_groups: groups,
            num_channels: channels,
            epsilon: self.epsilon,
        }
    }
}

/// Group normalization: `y = (x - E[x]) / sqrt(Var[x] + epsilon) * weight + bias`.
///
/// Mean and (biased) variance are those of one sample and of one of `num_groups` groups of consecutive channels, over
/// space; `weight` and `bias` belong to a channel. Training and evaluation are the same.
///
/// Wu and He, [Group Normalization](https://arxiv.org/abs/1803.08494), 2018. As PyTorch's `GroupNorm`.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct GroupNorm {
    /// Scale of each channel.
    pub weight: Option<Param<Tensor<1>>>,
    /// Shift of each channel.
    pub bias: Option<Param<Tensor<1>>>,
    num_groups: usize,
    num_channels: usize,
    epsilon: f64,
}

impl GroupNorm {
    pub(crate) fn channels_of_a_group(&self) -> usize {
        self.num_channels / self.num_groups
    }

    /// Normalizes the groups of `x`.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[batch, num_channels, ...]`
    ///
    /// # Panics
    ///
    /// If the shape differs, or if there is one value in each group and one group in the batch for each of the
    /// layer's, as PyTorch refuses it.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = x.shape();
        assert!(
            D >= 2 && shape[1] == self.num_channels,
            "GroupNorm: expected [batch, {}, ...], but the input is {:?}",
            self.num_channels,
            shape.as_slice()
        );
        let span: usize = shape[2..].iter().product();
        assert!(
            shape[0] * self.channels_of_a_group() * span != 1,
            "GroupNorm: expected more than 1 value per group, but the input is {:?} with {} groups",
            shape.as_slice(),
            self.num_groups
        );
        let spec = RowSpec::groups_of(
            shape[0],
            self.num_channels,
            span,
            self.num_groups,
            self.epsilon,
        );
        let weight = self.weight.as_ref().map(Param::val);
        let bias = self.bias.as_ref().map(Param::val);
        row_norm(x, weight, bias, spec).output
    }

    /// The layer with its weight set to zero, which makes a residual block the identity at first.
    pub fn zero_init(mut self) -> Self {
        self.weight = self.weight.map(zeroed);
        self
    }
}

impl ModuleDisplay for GroupNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_groups", &self.num_groups)
            .add("num_channels", &self.num_channels)
            .add("epsilon", &self.epsilon)
            .add("affine", &self.weight.is_some())
            .optional()
    }
}
