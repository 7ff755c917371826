//! Batch normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Int, Tensor};
use kiln_kernels::{ChannelSpec, Normalized, channel_norm};

use crate::buffer::Buffer;
use crate::running::{blend, per_channel, scale, tracked, with_running};
use crate::weights::zeroed;

/// Configuration of a [`BatchNorm`] layer.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `num_features` | | channels of the input, at least 1 |
/// | `epsilon` | 1e-5 | finite, not negative |
/// | `momentum` | `Some(0.1)` | share of a new batch in the running statistics, 0 to 1; `None`: the mean over all batches |
/// | `affine` | `true` | whether there are `weight` and `bias` |
/// | `track_running_stats` | `true` | whether there are running statistics; without them every batch is normalized with its own |
#[derive(Config, Debug, PartialEq)]
pub struct BatchNormConfig {
    /// Channels of the input.
    pub num_features: usize,
    /// Added to the variance before the square root.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Share of a new batch in the running statistics; `None` for the cumulative mean over all batches.
    #[config(default = "Some(0.1)")]
    pub momentum: Option<f64>,
    /// Whether there are `weight` and `bias`.
    #[config(default = true)]
    pub affine: bool,
    /// Whether there are running statistics.
    #[config(default = true)]
    pub track_running_stats: bool,
}

impl BatchNormConfig {
    /// Initializes the layer: weight 1, bias 0, running mean 0, running variance 1.
    ///
    /// # Panics
    ///
    /// If a setting is not allowed.
    pub fn init(&self, device: &Device) -> BatchNorm {
        let len = self.num_features;
        assert!(len > 0, "BatchNorm: num_features must be at least 1");
        check_epsilon("BatchNorm", self.epsilon);
        check_momentum("BatchNorm", self.momentum);
        let track = self.track_running_stats;
        BatchNorm {
            weight: per_channel(self.affine, len, 1.0, device),
            bias: per_channel(self.affine, len, 0.0, device),
            running_mean: tracked(track, len, 0.0, device),
            running_var: tracked(track, len, 1.0, device),
            num_batches_tracked: track.then(|| Buffer::new(Tensor::zeros([1], device))),
            training: Param::from_bool(true),
            num_features: len,
            momentum: self.momentum,
            epsilon: self.epsilon,
        }
    }
}

/// Batch normalization: `y = (x - E[x]) / sqrt(Var[x] + epsilon) * weight + bias` for each channel.
///
/// In training (an autodiff device, and the layer not frozen) mean and variance are the batch's, over every axis but
/// the second; the variance is the biased one. Running statistics take in each batch:
///
/// ```text
/// running = (1 - momentum) * running + momentum * batch
/// ```
///
/// where the batch's variance is the unbiased one, and for `momentum: None` momentum is 1 / `num_batches_tracked`.
/// Otherwise mean and variance are the running ones. Without running statistics they are always the batch's.
///
/// [`freeze`](Module::freeze) makes the layer use its running statistics and leave them alone in training too.
///
/// Ioffe and Szegedy, [Batch Normalization](https://arxiv.org/abs/1502.03167), 2015. As PyTorch's `BatchNorm1d`,
/// `BatchNorm2d` and `BatchNorm3d`.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BatchNorm {
    /// Scale of each channel.
    pub weight: Option<Param<Tensor<1>>>,
    /// Shift of each channel.
    pub bias: Option<Param<Tensor<1>>>,
    /// Running mean of each channel.
    pub running_mean: Option<Buffer>,
    /// Running unbiased variance of each channel.
    pub running_var: Option<Buffer>,
    /// How many batches the running statistics have seen.
    pub num_batches_tracked: Option<Buffer<Int>>,
    /// Whether an autodiff device means training for this layer.
    pub training: Param<Flag>,
    num_features: usize,
    #[module(skip)]
    momentum: Option<f64>,
    epsilon: f64,
}

impl BatchNorm {
    /// Normalizes the channels of `x`.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[batch, num_features, ...]`
    ///
    /// # Panics
    ///
    /// If the shape differs, or if a channel has one value only and the batch's statistics are asked for.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = x.shape();
        assert!(
            D >= 2 && shape[1] == self.num_features,
            "BatchNorm: expected [batch, {}, ...], but the input is {:?}",
            self.num_features,
            shape.as_slice()
        );
        let training = x.device().is_autodiff() && self.training.is_enabled();
        match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) if !training => {
                let weight = self.weight.as_ref().map(Param::val);
                let bias = self.bias.as_ref().map(Param::val);
                with_running(x, mean, var, self.epsilon, weight, bias)
            }
            _ => self.with_batch(x, training),
        }
    }

    fn with_batch<const D: usize>(&self, x: Tensor<D>, training: bool) -> Tensor<D> {
        let shape = x.shape();
        let spec = ChannelSpec::of(shape.as_slice(), self.epsilon);
        let n = spec.count();
        assert!(
            n != 1,
            "BatchNorm: expected more than 1 value per channel when training, but the input is {:?}",
            shape.as_slice()
        );
        let weight = self.weight.as_ref().map(Param::val);
        let bias = self.bias.as_ref().map(Param::val);
        let normalized = channel_norm(x, weight, bias, spec);
        if training {
            self.track(&normalized, n);
        }
        normalized.output
    }

    fn track<const D: usize>(&self, batch: &Normalized<D>, n: usize) {
        let (Some(mean), Some(var), Some(count)) = (
            &self.running_mean,
            &self.running_var,
            &self.num_batches_tracked,
        ) else {
            return;
        };
        count.update(|count| count + 1);
        // An empty batch is counted, as PyTorch does, and has no statistics.
        if n == 0 {
            return;
        }
        let unbiased = batch.var.clone() * (n as f64 / (n as f64 - 1.0));
        match self.momentum {
            Some(momentum) => {
                blend(mean, batch.mean.clone(), momentum);
                blend(var, unbiased, momentum);
            }
            // The count stays on the device, where reading it would wait for it.
            None => {
                let momentum = count.value().float().recip();
                mean.update(|running| {
                    running.clone() + (batch.mean.clone() - running) * momentum.clone()
                });
                var.update(|running| running.clone() + (unbiased - running) * momentum);
            }
        }
    }

    /// The layer as `y = scale * x + shift` for each channel, as it is outside training; `None` without running
    /// statistics. It is what folding the layer into a convolution needs.
    pub fn scale_and_shift(&self) -> Option<(Tensor<1>, Tensor<1>)> {
        let (mean, var) = (self.running_mean.as_ref()?, self.running_var.as_ref()?);
        let scale = scale(var, self.epsilon, self.weight.as_ref().map(Param::val));
        let shift = mean.value() * scale.clone();
        let shift = match &self.bias {
            Some(bias) => bias.val() - shift,
            None => -shift,
        };
        Some((scale, shift))
    }

    /// The layer with its weight set to zero, which makes a residual block the identity at first.
    pub fn zero_init(mut self) -> Self {
        self.weight = self.weight.map(zeroed);
        self
    }
}

impl ModuleDisplay for BatchNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_features", &self.num_features)
            .add("epsilon", &self.epsilon)
            .add_debug_attribute("momentum", &self.momentum)
            .add("affine", &self.weight.is_some())
            .add("track_running_stats", &self.running_mean.is_some())
            .optional()
    }
}

pub(crate) fn check_epsilon(layer: &str, epsilon: f64) {
    assert!(
        epsilon.is_finite() && epsilon >= 0.0,
        "{layer}: epsilon must be finite and not negative, but it is {epsilon}"
    );
}

pub(crate) fn check_momentum(layer: &str, momentum: Option<f64>) {
    assert!(
        momentum.is_none_or(|m| (0.0..=1.0).contains(&m)),
        "{layer}: momentum must be between 0 and 1, or none, but it is {momentum:?}"
    );
}
