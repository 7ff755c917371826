//! ResNet, ResNeXt, Wide ResNet, and the residual networks for small images.

use std::fmt;
use std::str::FromStr;

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{Dropout, Linear};
use burn::tensor::{Device, Tensor};
use kiln_norm::{Norm, NormError, NormLayer};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Activation;
use crate::layers::{Builder, Init, dropout, folded, frozen_except, stem_pool};
use crate::pass::{Forward, Layer, Pass};

const NO_HEAD: &str = "an encoder has no classifier";

/// What stands before the first stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// A large convolution of stride 2 and a 3×3 max pooling of stride 2: the stages begin at a quarter of the size.
    #[default]
    ImageNet,
    /// A 3×3 convolution of stride 1 alone: the stages begin at full size. For images of 28×28 or 32×32.
    Cifar,
}

impl FromStr for Stem {
    type Err = UnknownStem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_lowercase().as_str() {
            "imagenet" => Ok(Self::ImageNet),
            "cifar" => Ok(Self::Cifar),
            _ => Err(UnknownStem(text.into())),
        }
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ImageNet => "imagenet",
            Self::Cifar => "cifar",
        })
    }
}

/// A name that is no stem's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{0}' is no stem; write imagenet or cifar")]
pub struct UnknownStem(
    /// What was given.
    pub String,
);

/// The kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3, 1×1, of which the last has four times the channels. The stride is in the 3×3 (torchvision's placement).
    Bottleneck,
}

impl BlockKind {
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// How the shortcut of a block that changes the shape is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortcutKind {
    /// A convolution with a kernel of this size and a normalization: the paper's option B with 1.
    Projection(usize),
    /// Every second pixel, and zeros for the channels that are new: the paper's option A, without parameters.
    ZeroPad,
}

/// Configuration of a [`ResNet`].
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `block`, `layers` | | the kind of block, and how many of them each of the 3 or 4 stages has |
/// | `num_classes` | 1000 | at least 1 |
/// | `in_channels` | 3 | at least 1 |
/// | `width` | 64 | channels of the stem and the first stage; each stage doubles them |
/// | `groups`, `width_per_group` | 1, 64 | of the bottleneck's 3×3 convolution, whose width is `planes * width_per_group / 64 * groups` |
/// | `stem` | ImageNet | [`Stem`] |
/// | `shortcut` | projection 1×1 | [`ShortcutKind`] |
/// | `zero_init_residual` | no | the last normalization of each block starts at 0, so that the block starts as the identity |
/// | `norm` | batch | any [`Norm`] |
/// | `activation` | ReLU | any [`Activation`] |
/// | `drop_rate` | 0 | dropout before the classifier, in `[0, 1)` |
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct ResNetConfig {
    pub block: BlockKind,
    pub layers: Vec<usize>,
    pub num_classes: usize,
    pub in_channels: usize,
    pub width: usize,
    pub groups: usize,
    pub width_per_group: usize,
    pub stem: Stem,
    pub shortcut: ShortcutKind,
    pub zero_init_residual: bool,
    pub norm: Norm,
    pub activation: Activation,
    pub drop_rate: f64,
}

impl ResNetConfig {
    /// A network for ImageNet of these blocks.
    pub fn new(block: BlockKind, layers: impl Into<Vec<usize>>) -> Self {
        Self {
            block,
            layers: layers.into(),
            num_classes: 1000,
            in_channels: 3,
            width: 64,
            groups: 1,
            width_per_group: 64,
            stem: Stem::ImageNet,
            shortcut: ShortcutKind::Projection(1),
            zero_init_residual: false,
            norm: Norm::Batch,
            activation: Activation::Relu,
            drop_rate: 0.0,
        }
    }

    /// ResNet-18.
    pub fn resnet18() -> Self {
        Self::new(BlockKind::Basic, [2, 2, 2, 2])
    }

    /// ResNet-34.
    pub fn resnet34() -> Self {
        Self::new(BlockKind::Basic, [3, 4, 6, 3])
    }

    /// ResNet-50.
    pub fn resnet50() -> Self {
        Self::new(BlockKind::Bottleneck, [3, 4, 6, 3])
    }

    /// ResNet-101.
    pub fn resnet101() -> Self {
        Self::new(BlockKind::Bottleneck, [3, 4, 23, 3])
    }

    /// ResNet-152.
    pub fn resnet152() -> Self {
        Self::new(BlockKind::Bottleneck, [3, 8, 36, 3])
    }

    /// ResNeXt: bottlenecks whose 3×3 convolution has `groups` groups of `width_per_group` channels
    /// ([Xie et al. 2016](https://arxiv.org/abs/1611.05431)).
    pub fn resnext(self, groups: usize, width_per_group: usize) -> Self {
        Self {
            groups,
            width_per_group,
            ..self
        }
    }

    /// Wide ResNet: bottlenecks whose 3×3 convolution is `factor` times as wide
    /// ([Zagoruyko and Komodakis 2016](https://arxiv.org/abs/1605.07146)).
    pub fn wide(self, factor: usize) -> Self {
        Self {
            width_per_group: 64 * factor,
            ..self
        }
    }

    /// The paper's network of `6 * n + 2` layers for CIFAR-10: three stages of 16, 32 and 64 channels with `n` basic blocks
    /// each and shortcuts without parameters. `n` is 3, 5, 7, 9 and 18 in the paper.
    pub fn cifar(n: usize) -> Self {
        Self {
            num_classes: 10,
            width: 16,
            stem: Stem::Cifar,
            shortcut: ShortcutKind::ZeroPad,
            ..Self::new(BlockKind::Basic, [n, n, n])
        }
    }

    /// Initializes the network on `device`: convolutions from `N(0, 2 / fan_out)`, normalizations as the identity, and
    /// the classifier as PyTorch draws a linear layer, all as torchvision does.
    ///
    /// # Errors
    ///
    /// If the normalization cannot take one of the widths.
    ///
    /// # Panics
    ///
    /// If there are not 3 or 4 stages.
    pub fn init(&self, device: &Device) -> Result<ResNet, NormError> {
        assert!(
            matches!(self.layers.len(), 3 | 4),
            "a ResNet has 3 or 4 stages, but {:?} were given",
            self.layers
        );
        let build = Builder {
            norm: &self.norm,
            init: Init::KaimingFanOut,
            device,
        };
        let (kernel, stride) = match self.stem {
            Stem::ImageNet => (7, 2),
            Stem::Cifar => (3, 1),
        };
        let conv1 = build.conv([self.in_channels, self.width], kernel, stride);
        let bn1 = build.norm(self.width)?;
        let mut channels = self.width;
        let mut stages = Vec::with_capacity(4);
        for (i, &count) in self.layers.iter().enumerate() {
            let stride = if i == 0 { 1 } else { 2 };
            stages.push(self.stage(&build, &mut channels, self.width << i, count, stride)?);
        }
        stages.resize_with(4, Vec::new);
        let [layer1, layer2, layer3, layer4] =
            <[_; 4]>::try_from(stages).unwrap_or_else(|_| unreachable!("resized to four"));
        Ok(ResNet {
            conv1,
            bn1,
            maxpool: (self.stem == Stem::ImageNet).then(stem_pool),
            layer1,
            layer2,
            layer3,
            layer4,
            fc: Some(build.linear(channels, self.num_classes)),
            dropout: dropout(self.drop_rate),
            activation: self.activation,
        })
    }

    /// Blocks of which the first changes the shape.
    fn stage(
        &self,
        build: &Builder,
        channels: &mut usize,
        planes: usize,
        count: usize,
        stride: usize,
    ) -> Result<Vec<Block>, NormError> {
        let mut blocks = Vec::with_capacity(count);
        for i in 0..count {
            let stride = if i == 0 { stride } else { 1 };
            blocks.push(self.block(build, *channels, planes, stride)?);
            *channels = planes * self.block.expansion();
        }
        Ok(blocks)
    }

    fn block(
        &self,
        build: &Builder,
        from: usize,
        planes: usize,
        stride: usize,
    ) -> Result<Block, NormError> {
        let to = planes * self.block.expansion();
        let last = |norm: NormLayer| match self.zero_init_residual {
            true => norm.zero_init(),
            false => norm,
        };
        let downsample = match self.shortcut {
            ShortcutKind::Projection(kernel) if stride != 1 || from != to => {
                let conv = build.conv([from, to], kernel, stride);
                Some((conv, build.norm(to)?))
            }
            _ => None,
        };
        let shortcut = (stride, to);
        let activation = self.activation;
        Ok(match self.block {
            BlockKind::Basic => Block::Basic(BasicBlock {
                conv1: build.conv([from, planes], 3, stride),
                bn1: build.norm(planes)?,
                conv2: build.conv([planes, planes], 3, 1),
                bn2: last(build.norm(planes)?),
                downsample,
                shortcut,
                activation,
            }),
            BlockKind::Bottleneck => {
                let width = planes * self.width_per_group / 64 * self.groups;
                Block::Bottleneck(Bottleneck {
                    conv1: build.conv([from, width], 1, 1),
                    bn1: build.norm(width)?,
                    conv2: build.grouped([width, width], 3, stride, self.groups),
                    bn2: build.norm(width)?,
                    conv3: build.conv([width, to], 1, 1),
                    bn3: last(build.norm(to)?),
                    downsample,
                    shortcut,
                    activation,
                })
            }
        })
    }
}

/// A block of either kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
enum Block {
    Basic(BasicBlock),
    Bottleneck(Bottleneck),
}

impl Block {
    fn pass<P: Pass>(&self, p: &mut P, x: P::Maps) -> P::Maps {
        match self {
            Self::Basic(block) => block.pass(p, x),
            Self::Bottleneck(block) => block.pass(p, x),
        }
    }

    fn fold(self) -> Self {
        match self {
            Self::Basic(block) => Self::Basic(block.fold()),
            Self::Bottleneck(block) => Self::Bottleneck(block.fold()),
        }
    }
}

type Projection = Option<(Conv2d, NormLayer)>;

/// `act(shortcut(x) + norm(conv(act(norm(conv(x))))))`.
#[derive(Module, Debug)]
struct BasicBlock {
    conv1: Conv2d,
    bn1: NormLayer,
    conv2: Conv2d,
    bn2: NormLayer,
    downsample: Projection,
    /// Stride and output channels.
    #[module(skip)]
    shortcut: (usize, usize),
    activation: Activation,
}

impl BasicBlock {
    fn pass<P: Pass>(&self, p: &mut P, x: P::Maps) -> P::Maps {
        let y = p.conv("conv1", &self.conv1, x.clone());
        let y = p.norm("bn1", &self.bn1, y);
        let y = p.activation(self.activation, y);
        let y = p.conv("conv2", &self.conv2, y);
        let y = p.norm("bn2", &self.bn2, y);
        let x = shortcut(p, &self.downsample, self.shortcut, x);
        let y = p.add(x, y);
        p.activation(self.activation, y)
    }

    fn fold(self) -> Self {
        let (conv1, bn1) = folded(self.conv1, self.bn1);
        let (conv2, bn2) = folded(self.conv2, self.bn2);
        Self {
            conv1,
            bn1,
            conv2,
            bn2,
            downsample: self.downsample.map(|(conv, norm)| folded(conv, norm)),
            ..self
        }
    }
}

/// As [`BasicBlock`], of three convolutions.
#[derive(Module, Debug)]
struct Bottleneck {
    conv1: Conv2d,
    bn1: NormLayer,
    conv2: Conv2d,
    bn2: NormLayer,
    conv3: Conv2d,
    bn3: NormLayer,
    downsample: Projection,
    /// Stride and output channels.
    #[module(skip)]
    shortcut: (usize, usize),
    activation: Activation,
}

impl Bottleneck {
    fn pass<P: Pass>(&self, p: &mut P, x: P::Maps) -> P::Maps {
        let y = p.conv("conv1", &self.conv1, x.clone());
        let y = p.norm("bn1", &self.bn1, y);
        let y = p.activation(self.activation, y);
        let y = p.conv("conv2", &self.conv2, y);
        let y = p.norm("bn2", &self.bn2, y);
        let y = p.activation(self.activation, y);
        let y = p.conv("conv3", &self.conv3, y);
        let y = p.norm("bn3", &self.bn3, y);
        let x = shortcut(p, &self.downsample, self.shortcut, x);
        let y = p.add(x, y);
        p.activation(self.activation, y)
    }

    fn fold(self) -> Self {
        let (conv1, bn1) = folded(self.conv1, self.bn1);
        let (conv2, bn2) = folded(self.conv2, self.bn2);
        let (conv3, bn3) = folded(self.conv3, self.bn3);
        Self {
            conv1,
            bn1,
            conv2,
            bn2,
            conv3,
            bn3,
            downsample: self.downsample.map(|(conv, norm)| folded(conv, norm)),
            ..self
        }
    }
}

/// What the block's output is added to.
fn shortcut<P: Pass>(
    p: &mut P,
    downsample: &Projection,
    (stride, channels): (usize, usize),
    x: P::Maps,
) -> P::Maps {
    match downsample {
        Some((conv, norm)) => p.within("downsample", x, |p, x| {
            let x = p.conv("0", conv, x);
            p.norm("1", norm, x)
        }),
        None => p.layer(
            Layer::unnamed(),
            x,
            |x| zero_padded(x, stride, channels),
            |[batch, _, height, width]| {
                [
                    batch,
                    channels,
                    height.div_ceil(stride),
                    width.div_ceil(stride),
                ]
            },
        ),
    }
}

/// Every `stride`-th pixel, and zeros in the channels that are new; the input itself where nothing changes.
fn zero_padded(x: Tensor<4>, stride: usize, channels: usize) -> Tensor<4> {
    let x = match stride {
        1 => x,
        stride => {
            let step = burn::tensor::Slice::new(0, None, stride as isize);
            let all = burn::tensor::Slice::full();
            x.slice([all, all, step, step])
        }
    };
    let [batch, from, height, width] = x.dims();
    if from == channels {
        return x;
    }
    let zeros = Tensor::zeros([batch, channels - from, height, width], &x.device());
    Tensor::cat(vec![x, zeros], 1)
}

/// ResNet ([He et al. 2015](https://arxiv.org/abs/1512.03385)) with torchvision's names and details, and the members of its
/// family that differ in numbers only: ResNeXt, Wide ResNet, the networks for CIFAR.
///
/// A stem, four stages (three for CIFAR) of [residual](crate::Residual) blocks, the mean over each map, and a linear
/// classifier.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_zoo::ResNetConfig;
/// # let device = kiln_testing::devices().remove(0);
/// let model = ResNetConfig::cifar(3).init(&device)?; // ResNet-20
/// assert_eq!(kiln_zoo::num_params(&model), 269_722);
/// assert_eq!(model.forward(Tensor::zeros([1, 3, 32, 32], &device)).dims(), [1, 10]);
/// # Ok::<(), kiln_norm::NormError>(())
/// ```
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: NormLayer,
    maxpool: Option<MaxPool2d>,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    /// Empty in a network of three stages.
    layer4: Vec<Block>,
    /// None in an encoder.
    fc: Option<Linear>,
    dropout: Dropout,
    activation: Activation,
}

impl ResNet {
    /// Logits of a batch of images.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`
    /// - output: `[batch, num_classes]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.pass(&mut Forward, images)
    }

    /// One [pass](Pass) over the network.
    pub fn pass<P: Pass>(&self, p: &mut P, images: P::Maps) -> P::Vectors {
        let x = self.features(p, images).pop().expect("at least the stem");
        head(p, x, &self.dropout, &self.fc)
    }

    /// The outputs of the stem (before its pooling) and of each stage.
    pub fn features<P: Pass>(&self, p: &mut P, images: P::Maps) -> Vec<P::Maps> {
        let x = p.conv("conv1", &self.conv1, images);
        let x = p.norm("bn1", &self.bn1, x);
        let stem = p.activation(self.activation, x);
        let x = match &self.maxpool {
            Some(pool) => p.max_pool("maxpool", pool, stem.clone()),
            None => stem.clone(),
        };
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        stages_of(p, stem, x, &stages)
    }

    /// The same network for inference, each batch normalization folded into the convolution before it.
    pub fn fold(self) -> Self {
        let (conv1, bn1) = folded(self.conv1, self.bn1);
        let fold = |stage: Vec<Block>| stage.into_iter().map(Block::fold).collect();
        Self {
            conv1,
            bn1,
            layer1: fold(self.layer1),
            layer2: fold(self.layer2),
            layer3: fold(self.layer3),
            layer4: fold(self.layer4),
            ..self
        }
    }

    /// All but the classifier frozen, running statistics included.
    pub fn freeze_backbone(self) -> Self {
        let head = |model: &Self| (model.fc.clone(), model.dropout.clone());
        frozen_except(self, head, |model, (fc, dropout)| Self {
            fc,
            dropout,
            ..model
        })
    }

    /// The same network with a freshly drawn classifier for another number of classes.
    pub fn with_new_head(self, num_classes: usize) -> Self {
        let fc = Some(new_head(&self.fc, num_classes));
        Self { fc, ..self }
    }

    /// The same network without its classifier, as an encoder.
    pub fn without_head(self) -> Self {
        Self { fc: None, ..self }
    }
}

/// Each stage that has blocks, after the stem's output `stem`; the first one reads `x`.
fn stages_of<P: Pass>(
    p: &mut P,
    stem: P::Maps,
    mut x: P::Maps,
    stages: &[&Vec<Block>],
) -> Vec<P::Maps> {
    let mut outputs = vec![stem];
    for (i, stage) in stages
        .iter()
        .enumerate()
        .filter(|(_, stage)| !stage.is_empty())
    {
        x = p.within(&format!("layer{}", i + 1), x, |p, x| {
            p.sequence(("", 0), stage, x, |p, block: &Block, x| block.pass(p, x))
        });
        outputs.push(x.clone());
    }
    outputs
}

fn head<P: Pass>(p: &mut P, x: P::Maps, dropout: &Dropout, fc: &Option<Linear>) -> P::Vectors {
    let fc = fc.as_ref().expect(NO_HEAD);
    let x = p.global_avg_pool("avgpool", x);
    let x = p.flatten(x);
    let x = p.vectors(x, |x| dropout.forward(x));
    p.linear("fc", fc, x)
}

fn new_head(fc: &Option<Linear>, num_classes: usize) -> Linear {
    let fc = fc.as_ref().expect(NO_HEAD);
    let build = Builder {
        norm: &Norm::None,
        init: Init::Default,
        device: &fc.weight.lazy_device(),
    };
    build.linear(fc.weight.lazy_shape()[0], num_classes)
}

/// Configuration of a [`SmallResNet`]: as [`ResNetConfig`], with fewer choices.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct SmallResNetConfig {
    /// Blocks in each of the three stages. Default: 2, 2, 2.
    pub layers: [usize; 3],
    pub num_classes: usize,
    pub in_channels: usize,
    pub norm: Norm,
    pub activation: Activation,
    pub drop_rate: f64,
}

impl SmallResNetConfig {
    /// The defaults, for `num_classes` classes.
    pub fn new(num_classes: usize) -> Self {
        Self {
            layers: [2, 2, 2],
            num_classes,
            in_channels: 3,
            norm: Norm::Batch,
            activation: Activation::Relu,
            drop_rate: 0.0,
        }
    }

    /// Initializes the network on `device`, its weights drawn as PyTorch's layers draw theirs, as the original's are.
    ///
    /// # Errors
    ///
    /// If the normalization cannot take one of the widths.
    pub fn init(&self, device: &Device) -> Result<SmallResNet, NormError> {
        let build = Builder {
            norm: &self.norm,
            init: Init::Default,
            device,
        };
        let blocks = ResNetConfig {
            shortcut: ShortcutKind::Projection(3),
            activation: self.activation,
            ..ResNetConfig::new(BlockKind::Basic, self.layers)
        };
        let mut channels = 16;
        let mut stage =
            |planes, count, stride| blocks.stage(&build, &mut channels, planes, count, stride);
        Ok(SmallResNet {
            conv: build.conv([self.in_channels, 16], 3, 1),
            bn: build.norm(16)?,
            layer1: stage(16, self.layers[0], 1)?,
            layer2: stage(32, self.layers[1], 2)?,
            layer3: stage(64, self.layers[2], 2)?,
            fc: Some(build.linear(64, self.num_classes)),
            dropout: dropout(self.drop_rate),
            activation: self.activation,
        })
    }
}

/// The residual network of the tutorial
/// [yunjey/pytorch-tutorial](https://github.com/yunjey/pytorch-tutorial/tree/master/tutorials/02-intermediate/deep_residual_network):
/// three stages of 16, 32 and 64 channels, 3×3 convolutions in the shortcuts too.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_zoo::SmallResNetConfig;
/// # let device = kiln_testing::devices().remove(0);
/// let model = SmallResNetConfig::new(10).init(&device)?;
/// assert_eq!(kiln_zoo::num_params(&model), 195_738);
/// assert_eq!(model.forward(Tensor::zeros([1, 3, 32, 32], &device)).dims(), [1, 10]);
/// # Ok::<(), kiln_norm::NormError>(())
/// ```
#[derive(Module, Debug)]
pub struct SmallResNet {
    conv: Conv2d,
    bn: NormLayer,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    /// None in an encoder.
    fc: Option<Linear>,
    dropout: Dropout,
    activation: Activation,
}

impl SmallResNet {
    /// Logits of a batch of images.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`; 32×32 in the tutorial
    /// - output: `[batch, num_classes]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.pass(&mut Forward, images)
    }

    /// One [pass](Pass) over the network.
    pub fn pass<P: Pass>(&self, p: &mut P, images: P::Maps) -> P::Vectors {
        let x = self.features(p, images).pop().expect("at least the stem");
        head(p, x, &self.dropout, &self.fc)
    }

    /// The outputs of the stem and of each stage.
    pub fn features<P: Pass>(&self, p: &mut P, images: P::Maps) -> Vec<P::Maps> {
        let x = p.conv("conv", &self.conv, images);
        let x = p.norm("bn", &self.bn, x);
        let stem = p.activation(self.activation, x);
        let stages = [&self.layer1, &self.layer2, &self.layer3];
        stages_of(p, stem.clone(), stem, &stages)
    }

    /// The same network for inference, each batch normalization folded into the convolution before it.
    pub fn fold(self) -> Self {
        let (conv, bn) = folded(self.conv, self.bn);
        let fold = |stage: Vec<Block>| stage.into_iter().map(Block::fold).collect();
        Self {
            conv,
            bn,
            layer1: fold(self.layer1),
            layer2: fold(self.layer2),
            layer3: fold(self.layer3),
            ..self
        }
    }

    /// All but the classifier frozen, running statistics included.
    pub fn freeze_backbone(self) -> Self {
        let head = |model: &Self| (model.fc.clone(), model.dropout.clone());
        frozen_except(self, head, |model, (fc, dropout)| Self {
            fc,
            dropout,
            ..model
        })
    }

    /// The same network with a freshly drawn classifier for another number of classes.
    pub fn with_new_head(self, num_classes: usize) -> Self {
        let fc = Some(new_head(&self.fc, num_classes));
        Self { fc, ..self }
    }

    /// The same network without its classifier, as an encoder.
    pub fn without_head(self) -> Self {
        Self { fc: None, ..self }
    }
}
