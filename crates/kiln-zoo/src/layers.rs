//! Building layers as the models' sources initialise them.

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    Param,
};
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use kiln_norm::{Norm, NormError, NormLayer};

/// How the weights of a convolution are drawn. Fans are PyTorch's: `fan_in` = values that one output is summed of,
/// `fan_out` = output channels × kernel area, whatever the groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Init {
    /// `N(0, 2 / fan_out)`: `kaiming_normal_(mode="fan_out", nonlinearity="relu")`.
    KaimingFanOut,
    /// `N(0, 2 / fan_in)`: `kaiming_normal_()`.
    KaimingFanIn,
    /// `U(±sqrt(6 / fan_in))`: `kaiming_uniform_(nonlinearity="relu")`.
    KaimingUniform,
    /// `U(±1 / sqrt(fan_in))`, weights and bias: what PyTorch's layers do by themselves.
    Default,
}

/// What the layers of one network have in common.
#[derive(Clone, Copy)]
pub(crate) struct Builder<'a> {
    pub(crate) norm: &'a Norm,
    pub(crate) init: Init,
    pub(crate) device: &'a Device,
}

impl Builder<'_> {
    /// A square convolution that keeps the size (before the stride), followed by a normalization or not.
    ///
    /// It has a bias only where no normalization takes the bias's place.
    pub(crate) fn conv(&self, channels: [usize; 2], kernel: usize, stride: usize) -> Conv2d {
        self.grouped(channels, kernel, stride, 1)
    }

    pub(crate) fn grouped(
        &self,
        [from, to]: [usize; 2],
        kernel: usize,
        stride: usize,
        groups: usize,
    ) -> Conv2d {
        let fan_in = from / groups * kernel * kernel;
        let fan_out = to * kernel * kernel;
        let std = |fan: usize| (2.0 / fan as f64).sqrt();
        let uniform = |bound: f64| Initializer::Uniform {
            min: -bound,
            max: bound,
        };
        let initializer = match self.init {
            Init::KaimingFanOut => Initializer::Normal {
                mean: 0.0,
                std: std(fan_out),
            },
            Init::KaimingFanIn => Initializer::Normal {
                mean: 0.0,
                std: std(fan_in),
            },
            Init::KaimingUniform => uniform((6.0 / fan_in as f64).sqrt()),
            Init::Default => uniform(1.0 / (fan_in as f64).sqrt()),
        };
        let pad = kernel / 2;
        let config = Conv2dConfig::new([from, to], [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_groups(groups)
            .with_initializer(initializer);
        let mut conv = config.with_bias(false).init(self.device);
        if *self.norm == Norm::None {
            let bias = match self.init {
                Init::Default => uniform(1.0 / (fan_in as f64).sqrt()),
                _ => Initializer::Zeros,
            };
            conv.bias = Some(bias.init([to], self.device));
        }
        conv
    }

    pub(crate) fn norm(&self, channels: usize) -> Result<NormLayer, NormError> {
        self.norm.init(channels, self.device)
    }

    /// Doubles height and width: kernel 2, stride 2, with bias, drawn as PyTorch draws it.
    pub(crate) fn up(&self, [from, to]: [usize; 2]) -> ConvTranspose2d {
        // PyTorch takes the second axis of [in, out, kernel, kernel] for the fan-in.
        let bound = 1.0 / ((to * 4) as f64).sqrt();
        let initializer = Initializer::Uniform {
            min: -bound,
            max: bound,
        };
        ConvTranspose2dConfig::new([from, to], [2, 2])
            .with_stride([2, 2])
            .with_initializer(initializer)
            .init(self.device)
    }

    /// The classifier, drawn as PyTorch draws it: `U(±1 / sqrt(fan_in))`.
    pub(crate) fn linear(&self, from: usize, to: usize) -> Linear {
        LinearConfig::new(from, to).init(self.device)
    }

    /// The same with a bias of zeros.
    pub(crate) fn linear_zero_bias(&self, from: usize, to: usize) -> Linear {
        let mut linear = self.linear(from, to);
        linear.bias = Some(Initializer::Zeros.init([to], self.device));
        linear
    }
}

/// A part of a network held still for fine-tuning, the rest of which learns: no gradients, running statistics used and left
/// alone, no dropout.
pub(crate) fn frozen<M: Module>(part: M) -> M {
    drawn(part).freeze()
}

/// A network of which the part that `head` takes out learns, and nothing else does. What it takes out is put back with `join`.
pub(crate) fn frozen_except<M: Module, H: Module>(
    network: M,
    head: impl FnOnce(&M) -> H,
    join: impl FnOnce(M, H) -> M,
) -> M {
    let network = drawn(network);
    let head = head(&network).unfreeze();
    join(network.freeze(), head)
}

/// A module whose parameters all have their values.
///
/// Until a parameter is first used, Burn keeps how it will be drawn in one place for all its clones, and whether it is
/// trained with it: freezing one clone would freeze the others.
fn drawn<M: Module>(module: M) -> M {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
    }
    module.visit(&mut Draw);
    module
}

pub(crate) fn dropout(probability: f64) -> Dropout {
    DropoutConfig::new(probability).init()
}

/// 3×3, stride 2, padding 1: after a stem's convolution.
pub(crate) fn stem_pool() -> MaxPool2d {
    MaxPool2dConfig::new([3, 3])
        .with_strides([2, 2])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init()
}

/// 2×2, stride 2.
pub(crate) fn max_pool_2() -> MaxPool2d {
    MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init()
}

/// 2×2, stride 2.
pub(crate) fn avg_pool_2() -> AvgPool2d {
    AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init()
}

/// Convolution and the normalization after it as one convolution with bias, and nothing in the place of the normalization.
///
/// Only a batch normalization with running statistics is a linear map that does not depend on the input; others are
/// left as they are.
pub(crate) fn folded(mut conv: Conv2d, norm: NormLayer) -> (Conv2d, NormLayer) {
    let Some((scale, shift)) = norm.scale_and_shift() else {
        return (conv, norm);
    };
    let channels = scale.dims()[0];
    let factor = scale.clone().reshape([channels, 1, 1, 1]);
    conv.weight = conv.weight.map(|weight| weight * factor);
    let bias = match &conv.bias {
        Some(bias) => bias.val() * scale + shift,
        None => shift,
    };
    conv.bias = Some(burn::module::Param::from_tensor(bias));
    (conv, NormLayer::Identity(kiln_norm::Identity))
}

/// Layers with PyTorch's numbered names: `denselayer1`, `denselayer2`, ...
#[derive(Clone, Debug)]
pub(crate) struct Numbered<T> {
    pub(crate) prefix: &'static str,
    pub(crate) layers: Vec<T>,
}

impl<T> Numbered<T> {
    fn each(self, f: impl FnMut(T) -> T) -> Self {
        Self {
            prefix: self.prefix,
            layers: self.layers.into_iter().map(f).collect(),
        }
    }
}

impl<T: Module> Module for Numbered<T> {
    fn num_params(&self) -> usize {
        self.layers.num_params()
    }
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.layers.collect_devices(devices)
    }
    fn fork(self, device: &Device) -> Self {
        self.each(|layer| layer.fork(device))
    }
    fn to_device(self, device: &Device) -> Self {
        self.each(|layer| layer.to_device(device))
    }
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (i, layer) in self.layers.iter().enumerate() {
            let name = format!("{}{}", self.prefix, i + 1);
            visitor.enter_module(&name, "Vec");
            layer.visit(visitor);
            visitor.exit_module(&name, "Vec");
        }
    }
    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let mut number = 0;
        let prefix = self.prefix;
        self.each(|layer| {
            number += 1;
            let name = format!("{prefix}{number}");
            mapper.enter_module(&name, "Vec");
            let layer = layer.map(mapper);
            mapper.exit_module(&name, "Vec");
            layer
        })
    }
    fn valid(&self) -> Self {
        Self {
            prefix: self.prefix,
            layers: self.layers.valid(),
        }
    }
    fn train(self) -> Self {
        self.each(Module::train)
    }
    fn materialize(self) -> Self {
        self.each(Module::materialize)
    }
}

impl<T: ModuleDisplay> ModuleDisplayDefault for Numbered<T> {
    fn content(&self, content: Content) -> Option<Content> {
        let add = |content: Content, (i, layer): (usize, &T)| {
            content.add(&format!("{}{}", self.prefix, i + 1), layer)
        };
        self.layers.iter().enumerate().fold(content, add).optional()
    }
}

impl<T: ModuleDisplay> ModuleDisplay for Numbered<T> {}
