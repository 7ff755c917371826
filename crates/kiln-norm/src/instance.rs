//! Instance normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Int, Tensor};
use kiln_kernels::{Normalized, RowSpec, row_norm};

use crate::batch::{check_epsilon, check_momentum};
use crate::buffer::Buffer;
use crate::running::{blend, per_channel, tracked, with_running};
use crate::weights::zeroed;

/// Configuration of an [`InstanceNorm`] layer.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `num_features` | | channels of the input, at least 1 |
/// | `epsilon` | 1e-5 | finite, not negative |
/// | `momentum` | `Some(0.1)` | share of a new batch in the running statistics, 0 to 1; `None` is 0, as in PyTorch |
/// | `affine` | `false` | whether there are `weight` and `bias` |
/// | `track_running_stats` | `false` | whether there are running statistics, which are used outside training |
#[derive(Config, Debug, PartialEq)]
pub struct InstanceNormConfig {
    /// Channels of the input.
    pub num_features: usize,
    /// Added to the variance before the square root.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Share of a new batch in the running statistics; `None` is 0.
    #[config(default = "Some(0.1)")]
    pub momentum: Option<f64>,
    /// Whether there are `weight` and `bias`.
    #[config(default = false)]
    pub affine: bool,
    /// Whether there are running statistics.
    #[config(default = false)]
    pub track_running_stats: bool,
}

impl InstanceNormConfig {
    /// Initializes the layer: weight 1, bias 0, running mean 0, running variance 1.
    ///
    /// # Panics
    ///
    /// If a setting is not allowed.
    pub fn init(&self, device: &Device) -> InstanceNorm {
        let len = self.num_features;
        assert!(len > 0, "InstanceNorm: num_features must be at least 1");
        check_epsilon("InstanceNorm", self.epsilon);
        check_momentum("InstanceNorm", self.momentum);
        let track = self.track_running_stats;
        InstanceNorm {
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

/// Instance normalization: `y = (x - E[x]) / sqrt(Var[x] + epsilon) * weight + bias`.
///
/// Mean and (biased) variance are those of one sample and one channel, over space. With `track_running_stats` the
/// running statistics take in the mean over the batch of each sample's mean and unbiased variance,
///
/// ```text
/// running = (1 - momentum) * running + momentum * batch
/// ```
///
/// and are used outside training and in a frozen layer. PyTorch never counts in `num_batches_tracked` here, so it
/// stays 0.
///
/// Ulyanov, Vedaldi and Lempitsky, [Instance Normalization](https://arxiv.org/abs/1607.08022), 2016. As PyTorch's
/// `InstanceNorm1d`, `InstanceNorm2d` and `InstanceNorm3d`.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct InstanceNorm {
    /// Scale of each channel.
    pub weight: Option<Param<Tensor<1>>>,
    /// Shift of each channel.
    pub bias: Option<Param<Tensor<1>>>,
    /// Running mean of each channel.
    pub running_mean: Option<Buffer>,
    /// Running unbiased variance of each channel.
    pub running_var: Option<Buffer>,
    /// Always 0, kept for PyTorch's state.
    pub num_batches_tracked: Option<Buffer<Int>>,
    /// Whether an autodiff device means training for this layer.
    pub training: Param<Flag>,
    num_features: usize,
    #[module(skip)]
    momentum: Option<f64>,
    epsilon: f64,
}

impl InstanceNorm {
    /// Normalizes each channel of each sample of `x`.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[batch, num_features, ...]` with one axis of space or more
    ///
    /// # Panics
    ///
    /// If the shape differs, or if there is one element of space and its own statistics are asked for.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = x.shape();
        assert!(
            D >= 3 && shape[1] == self.num_features,
            "InstanceNorm: expected [batch, {}, space...], but the input is {:?}",
            self.num_features,
            shape.as_slice()
        );
        let training = x.device().is_autodiff() && self.training.is_enabled();
        let weight = self.weight.as_ref().map(Param::val);
        let bias = self.bias.as_ref().map(Param::val);
        if let (Some(mean), Some(var), false) = (&self.running_mean, &self.running_var, training) {
            return with_running(x, mean, var, self.epsilon, weight, bias);
        }
        let span: usize = shape[2..].iter().product();
        assert!(
            span != 1,
            "InstanceNorm: expected more than 1 spatial element when training, but the input is {:?}",
            shape.as_slice()
        );
        let channels = self.num_features;
        let spec = RowSpec::groups_of(shape[0], channels, span, channels, self.epsilon);
        let normalized = row_norm(x, weight, bias, spec);
        if training {
            self.track(&normalized, shape[0], span);
        }
        normalized.output
    }

    /// Normalizes each channel of one sample, an input without a batch axis.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[num_features, ...]` with one axis of space or more; `DB` must be `D + 1`
    ///
    /// # Panics
    ///
    /// As [`forward`](InstanceNorm::forward).
    pub fn forward_unbatched<const D: usize, const DB: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward(x.unsqueeze_dim::<DB>(0)).squeeze_dim::<D>(0)
    }

    fn track<const D: usize>(&self, batch: &Normalized<D>, samples: usize, span: usize) {
        let (Some(mean), Some(var)) = (&self.running_mean, &self.running_var) else {
            return;
        };
        let momentum = self.momentum.unwrap_or(0.0);
        if momentum == 0.0 || samples == 0 || span == 0 {
            return;
        }
        let over_batch = |rows: Tensor<1>| -> Tensor<1> {
            rows.reshape([samples, self.num_features])
                .mean_dim(0)
                .reshape([self.num_features])
        };
        let n = span as f64;
        let unbiased = over_batch(batch.var.clone()) * (n / (n - 1.0));
        blend(mean, over_batch(batch.mean.clone()), momentum);
        blend(var, unbiased, momentum);
    }

    /// The layer with its weight set to zero, which makes a residual block the identity at first.
    pub fn zero_init(mut self) -> Self {
        self.weight = self.weight.map(zeroed);
        self
    }
}

impl ModuleDisplay for InstanceNorm {
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
