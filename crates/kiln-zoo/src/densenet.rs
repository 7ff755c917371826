//! DenseNet, and the DenseNets for small images.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2d, MaxPool2d};
use burn::nn::{Dropout, Linear};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use kiln_norm::{Norm, NormError, NormLayer};

use crate::checkpoint::{Segment, Segmented};
use crate::layers::{
    Builder, Init, Numbered, avg_pool_2, dropout, folded, frozen_except, stem_pool,
};
use crate::pass::{Forward, Pass, convolve};
use crate::{Activation, Stem};

/// Layers whose activations are kept at the same time where memory is saved.
const LAYERS: usize = 4;

const NO_HEAD: &str = "an encoder has no classifier";

/// Configuration of a [`DenseNet`].
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `growth_rate` | | channels that each layer adds |
/// | `blocks` | | layers in each of the four blocks |
/// | `num_init_features` | | channels of the stem |
/// | `num_classes` | 1000 | at least 1 |
/// | `in_channels` | 3 | at least 1 |
/// | `bn_size` | 4 | the bottleneck has `bn_size * growth_rate` channels |
/// | `stem` | ImageNet | [`Stem`] |
/// | `norm` | batch | any [`Norm`] |
/// | `activation` | ReLU | any [`Activation`] |
/// | `drop_rate` | 0 | dropout after each layer, in `[0, 1)` |
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct DenseNetConfig {
    pub growth_rate: usize,
    pub blocks: [usize; 4],
    pub num_init_features: usize,
    pub num_classes: usize,
    pub in_channels: usize,
    pub bn_size: usize,
    pub stem: Stem,
    pub norm: Norm,
    pub activation: Activation,
    pub drop_rate: f64,
}

impl DenseNetConfig {
    /// A network for ImageNet of these numbers.
    pub fn new(growth_rate: usize, blocks: [usize; 4], num_init_features: usize) -> Self {
        Self {
            growth_rate,
            blocks,
            num_init_features,
            num_classes: 1000,
            in_channels: 3,
            bn_size: 4,
            stem: Stem::ImageNet,
            norm: Norm::Batch,
            activation: Activation::Relu,
            drop_rate: 0.0,
        }
    }

    /// DenseNet-121.
    pub fn densenet121() -> Self {
        Self::new(32, [6, 12, 24, 16], 64)
    }

    /// DenseNet-161.
    pub fn densenet161() -> Self {
        Self::new(48, [6, 12, 36, 24], 96)
    }

    /// DenseNet-169.
    pub fn densenet169() -> Self {
        Self::new(32, [6, 12, 32, 32], 64)
    }

    /// DenseNet-201.
    pub fn densenet201() -> Self {
        Self::new(32, [6, 12, 48, 32], 64)
    }

    /// Initializes the network on `device`: convolutions from `N(0, 2 / fan_in)`, normalizations as the identity, the
    /// classifier's weight as PyTorch draws it and its bias at zero, all as torchvision does.
    ///
    /// # Errors
    ///
    /// If the normalization cannot take one of the widths.
    pub fn init(&self, device: &Device) -> Result<DenseNet, NormError> {
        let build = Builder {
            norm: &self.norm,
            init: Init::KaimingFanIn,
            device,
        };
        let mut channels = self.num_init_features;
        let block = |channels: &mut usize, count: usize| {
            let mut layers = Vec::with_capacity(count);
            for _ in 0..count {
                layers.push(self.layer(&build, *channels)?);
                *channels += self.growth_rate;
            }
            Ok(Numbered {
                prefix: "denselayer",
                layers,
            })
        };
        let transition = |channels: &mut usize| {
            let from = std::mem::replace(channels, *channels / 2);
            Ok(Transition {
                norm: build.norm(from)?,
                conv: build.conv([from, *channels], 1, 1),
                pool: avg_pool_2(),
                activation: self.activation,
            })
        };
        let (kernel, stride) = match self.stem {
            Stem::ImageNet => (7, 2),
            Stem::Cifar => (3, 1),
        };
        let features = Features {
            conv0: build.conv([self.in_channels, channels], kernel, stride),
            norm0: build.norm(channels)?,
            pool0: (self.stem == Stem::ImageNet).then(stem_pool),
            denseblock1: block(&mut channels, self.blocks[0])?,
            transition1: transition(&mut channels)?,
            denseblock2: block(&mut channels, self.blocks[1])?,
            transition2: transition(&mut channels)?,
            denseblock3: block(&mut channels, self.blocks[2])?,
            transition3: transition(&mut channels)?,
            denseblock4: block(&mut channels, self.blocks[3])?,
            norm5: build.norm(channels)?,
        };
        Ok(DenseNet {
            features,
            classifier: Some(build.linear_zero_bias(channels, self.num_classes)),
            activation: self.activation,
        })
    }

    fn layer(&self, build: &Builder, from: usize) -> Result<DenseLayer, NormError> {
        let mid = self.bn_size * self.growth_rate;
        Ok(DenseLayer {
            norm1: build.norm(from)?,
            conv1: build.conv([from, mid], 1, 1),
            norm2: build.norm(mid)?,
            conv2: build.conv([mid, self.growth_rate], 3, 1),
            dropout: dropout(self.drop_rate),
            activation: self.activation,
        })
    }
}

/// `[x, conv3x3(act(norm(conv1x1(act(norm(x))))))]`.
#[derive(Module, Debug)]
struct DenseLayer {
    norm1: NormLayer,
    conv1: Conv2d,
    norm2: NormLayer,
    conv2: Conv2d,
    dropout: Dropout,
    activation: Activation,
}

impl DenseLayer {
    /// The new channels alone.
    fn pass<P: Pass>(&self, p: &mut P, x: P::Maps) -> P::Maps {
        let y = p.norm("norm1", &self.norm1, x);
        let y = p.activation(self.activation, y);
        let y = p.conv("conv1", &self.conv1, y);
        let y = p.norm("norm2", &self.norm2, y);
        let y = p.activation(self.activation, y);
        let y = p.conv("conv2", &self.conv2, y);
        p.dropout(&self.dropout, y)
    }

    /// The first normalization reads what is also passed on, so only the second one can be folded.
    fn fold(self) -> Self {
        let (conv1, norm2) = folded(self.conv1, self.norm2);
        Self {
            conv1,
            norm2,
            ..self
        }
    }
}

/// `pool(conv1x1(act(norm(x))))`.
#[derive(Module, Debug)]
struct Transition {
    norm: NormLayer,
    conv: Conv2d,
    pool: AvgPool2d,
    activation: Activation,
}

impl Transition {
    /// What the convolution reads, and what comes out in the end.
    fn pass<P: Pass>(&self, p: &mut P, x: P::Maps) -> (P::Maps, P::Maps) {
        let x = p.norm("norm", &self.norm, x);
        let normalized = p.activation(self.activation, x);
        let x = p.conv("conv", &self.conv, normalized.clone());
        (normalized, p.avg_pool("pool", &self.pool, x))
    }
}

/// The layers' names are torchvision's.
#[derive(Module, Debug)]
struct Features {
    conv0: Conv2d,
    norm0: NormLayer,
    pool0: Option<MaxPool2d>,
    denseblock1: Numbered<DenseLayer>,
    transition1: Transition,
    denseblock2: Numbered<DenseLayer>,
    transition2: Transition,
    denseblock3: Numbered<DenseLayer>,
    transition3: Transition,
    denseblock4: Numbered<DenseLayer>,
    norm5: NormLayer,
}

/// DenseNet ([Huang et al. 2016](https://arxiv.org/abs/1608.06993)) with torchvision's names and details.
///
/// A stem, four blocks of [densely connected](crate::DenseSkip) layers with transitions between them that halve channels
/// and size, a last normalization, the mean over each map, and a linear classifier.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_zoo::DenseNetConfig;
/// # let device = kiln_testing::devices().remove(0);
/// let config = DenseNetConfig { num_classes: 10, ..DenseNetConfig::new(8, [2, 2, 2, 2], 16) };
/// let model = config.init(&device)?;
/// assert_eq!(model.forward(Tensor::zeros([1, 3, 32, 32], &device)).dims(), [1, 10]);
/// # Ok::<(), kiln_norm::NormError>(())
/// ```
#[derive(Module, Debug)]
pub struct DenseNet {
    features: Features,
    /// None in an encoder.
    classifier: Option<Linear>,
    activation: Activation,
}

impl DenseNet {
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
        self.head(p, x)
    }

    fn head<P: Pass>(&self, p: &mut P, x: P::Maps) -> P::Vectors {
        let x = p.global_avg_pool("", x);
        let x = p.flatten(x);
        p.linear("classifier", self.classifier.as_ref().expect(NO_HEAD), x)
    }

    /// The outputs of the stem (before its pooling) and of each block, normalized and activated.
    pub fn features<P: Pass>(&self, p: &mut P, images: P::Maps) -> Vec<P::Maps> {
        p.enter(format_args!("features"));
        let (stem, mut x) = self.stem(p, images);
        let mut outputs = vec![stem];
        for (i, block) in self.blocks().into_iter().enumerate() {
            x = p.within(&format!("denseblock{}", i + 1), x, |p, x| {
                dense_block(p, block.prefix, 1, &block.layers, x, DenseLayer::pass)
            });
            let Some(transition) = self.transitions().get(i).copied() else {
                break;
            };
            x = p.within(&format!("transition{}", i + 1), x, |p, x| {
                let (normalized, x) = transition.pass(p, x);
                outputs.push(normalized);
                x
            });
        }
        let x = p.norm("norm5", &self.features.norm5, x);
        p.leave(&x);
        outputs.push(p.activation(self.activation, x));
        outputs
    }

    /// The stem before and after its pooling.
    fn stem<P: Pass>(&self, p: &mut P, images: P::Maps) -> (P::Maps, P::Maps) {
        let x = p.conv("conv0", &self.features.conv0, images);
        let x = p.norm("norm0", &self.features.norm0, x);
        let x = p.activation(self.activation, x);
        let pooled = match &self.features.pool0 {
            Some(pool) => p.max_pool("pool0", pool, x.clone()),
            None => x.clone(),
        };
        (x, pooled)
    }

    fn blocks(&self) -> [&Numbered<DenseLayer>; 4] {
        let f = &self.features;
        [
            &f.denseblock1,
            &f.denseblock2,
            &f.denseblock3,
            &f.denseblock4,
        ]
    }

    fn transitions(&self) -> [&Transition; 3] {
        let f = &self.features;
        [&f.transition1, &f.transition2, &f.transition3]
    }

    /// The same network for inference, each batch normalization that follows a convolution folded into it. Most
    /// of a DenseNet's normalizations come before their convolution, with an activation between, and stay.
    pub fn fold(self) -> Self {
        let f = self.features;
        let fold = |block: Numbered<DenseLayer>| Numbered {
            prefix: block.prefix,
            layers: block.layers.into_iter().map(DenseLayer::fold).collect(),
        };
        let (conv0, norm0) = folded(f.conv0, f.norm0);
        Self {
            features: Features {
                conv0,
                norm0,
                denseblock1: fold(f.denseblock1),
                denseblock2: fold(f.denseblock2),
                denseblock3: fold(f.denseblock3),
                denseblock4: fold(f.denseblock4),
                ..f
            },
            ..self
        }
    }

    /// All but the classifier frozen, running statistics included.
    pub fn freeze_backbone(self) -> Self {
        let head = |model: &Self| model.classifier.clone();
        frozen_except(self, head, |model, classifier| Self {
            classifier,
            ..model
        })
    }

    /// The same network with a freshly drawn classifier for another number of classes.
    pub fn with_new_head(self, num_classes: usize) -> Self {
        let classifier = Some(new_head(&self.classifier, num_classes));
        Self { classifier, ..self }
    }

    /// The same network without its classifier, as an encoder.
    pub fn without_head(self) -> Self {
        Self {
            classifier: None,
            ..self
        }
    }
}

impl Segmented for DenseNet {
    fn segments(&self) -> Vec<Segment<'_>> {
        let mut segments: Vec<Segment> = vec![Box::new(|x| self.stem(&mut Forward, x).1)];
        for (i, block) in self.blocks().into_iter().enumerate() {
            for layers in block.layers.chunks(LAYERS) {
                let part = |x| dense_block(&mut Forward, "", 0, layers, x, DenseLayer::pass);
                segments.push(Box::new(part));
            }
            if let Some(transition) = self.transitions().get(i).copied() {
                segments.push(Box::new(|x| transition.pass(&mut Forward, x).1));
            }
        }
        let norm = &self.features.norm5;
        segments.push(Box::new(|x| self.activation.forward(norm.forward(x))));
        segments
    }

    fn classify(&self, x: Tensor<4>) -> Tensor<2> {
        self.head(&mut Forward, x)
    }
}

impl Segmented for CifarDenseNet {
    fn segments(&self) -> Vec<Segment<'_>> {
        let mut segments: Vec<Segment> = vec![Box::new(|x| convolve(&self.conv1, x))];
        for (i, block) in self.blocks().into_iter().enumerate() {
            for units in block.chunks(LAYERS) {
                let part = |x| dense_block(&mut Forward, "", 0, units, x, DenseUnit::pass);
                segments.push(Box::new(part));
            }
            if let Some(transition) = self.transitions().get(i).copied() {
                segments.push(Box::new(|x| transition.pass(&mut Forward, x).1));
            }
        }
        segments.push(Box::new(|x| self.activation.forward(self.bn1.forward(x))));
        segments
    }

    fn classify(&self, x: Tensor<4>) -> Tensor<2> {
        self.head(&mut Forward, x)
    }
}

/// Layers that each read all that came before, and add to it.
fn dense_block<P: Pass, T>(
    p: &mut P,
    prefix: &str,
    first: usize,
    layers: &[T],
    x: P::Maps,
    layer: impl Fn(&T, &mut P, P::Maps) -> P::Maps,
) -> P::Maps {
    layers.iter().enumerate().fold(x, |x, (i, part)| {
        p.enter(format_args!("{prefix}{}", i + first));
        let new = layer(part, p, x.clone());
        p.leave(&new);
        p.concat(vec![x, new])
    })
}

fn new_head(head: &Option<Linear>, num_classes: usize) -> Linear {
    let head = head.as_ref().expect(NO_HEAD);
    let build = Builder {
        norm: &Norm::None,
        init: Init::Default,
        device: &head.weight.lazy_device(),
    };
    build.linear_zero_bias(head.weight.lazy_shape()[0], num_classes)
}

/// Configuration of a [`CifarDenseNet`].
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `depth` | | layers in all: `6n + 4` with bottlenecks, `3n + 4` without |
/// | `growth_rate` | | channels that each layer adds |
/// | `bottleneck`, `reduction` | yes, 0.5 | the `BC` of DenseNet-BC: 1×1 convolutions first, and transitions that keep this share of the channels; `no, 1.0` is the plain DenseNet |
/// | `num_classes` | 10 | at least 1 |
/// | `in_channels` | 3 | at least 1 |
/// | `norm` | batch | any [`Norm`] |
/// | `activation` | ReLU | any [`Activation`] |
/// | `drop_rate` | 0 | dropout after each convolution, in `[0, 1)`; 0.2 in the paper without augmentation |
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct CifarDenseNetConfig {
    pub depth: usize,
    pub growth_rate: usize,
    pub bottleneck: bool,
    pub reduction: f64,
    pub num_classes: usize,
    pub in_channels: usize,
    pub norm: Norm,
    pub activation: Activation,
    pub drop_rate: f64,
}

impl CifarDenseNetConfig {
    /// DenseNet-BC of a depth and growth rate: 100 and 12, 250 and 24, 190 and 40 in the paper.
    pub fn bc(depth: usize, growth_rate: usize) -> Self {
        Self {
            depth,
            growth_rate,
            bottleneck: true,
            reduction: 0.5,
            num_classes: 10,
            in_channels: 3,
            norm: Norm::Batch,
            activation: Activation::Relu,
            drop_rate: 0.0,
        }
    }

    /// DenseNet of a depth and growth rate: 40 and 12, 100 and 12, 100 and 24 in the paper.
    pub fn plain(depth: usize, growth_rate: usize) -> Self {
        Self {
            bottleneck: false,
            reduction: 1.0,
            ..Self::bc(depth, growth_rate)
        }
    }

    /// Layers in each of the three blocks.
    fn layers(&self) -> usize {
        let convolutions = self.depth.saturating_sub(4) / 3;
        convolutions / if self.bottleneck { 2 } else { 1 }
    }

    /// Initializes the network on `device`: convolutions from `N(0, 2 / fan_out)`, normalizations as the identity, the
    /// classifier's weight as PyTorch draws it and its bias at zero, all as the original does.
    ///
    /// # Errors
    ///
    /// If the normalization cannot take one of the widths.
    pub fn init(&self, device: &Device) -> Result<CifarDenseNet, NormError> {
        let build = Builder {
            norm: &self.norm,
            init: Init::KaimingFanOut,
            device,
        };
        let mut channels = 2 * self.growth_rate;
        let block = |channels: &mut usize| {
            let mut units = Vec::with_capacity(self.layers());
            for _ in 0..self.layers() {
                units.push(self.unit(&build, *channels)?);
                *channels += self.growth_rate;
            }
            Ok(units)
        };
        let transition = |channels: &mut usize| {
            let to = (*channels as f64 * self.reduction) as usize;
            let from = std::mem::replace(channels, to);
            Ok(CifarTransition {
                bn1: build.norm(from)?,
                conv1: build.conv([from, to], 1, 1),
                pool: avg_pool_2(),
                dropout: dropout(self.drop_rate),
                activation: self.activation,
            })
        };
        Ok(CifarDenseNet {
            conv1: build.conv([self.in_channels, channels], 3, 1),
            dense1: block(&mut channels)?,
            trans1: transition(&mut channels)?,
            dense2: block(&mut channels)?,
            trans2: transition(&mut channels)?,
            dense3: block(&mut channels)?,
            bn1: build.norm(channels)?,
            fc: Some(build.linear_zero_bias(channels, self.num_classes)),
            activation: self.activation,
        })
    }

    fn unit(&self, build: &Builder, from: usize) -> Result<DenseUnit, NormError> {
        let growth = self.growth_rate;
        let (bn1, activation) = (build.norm(from)?, self.activation);
        let dropout = dropout(self.drop_rate);
        if !self.bottleneck {
            let conv1 = build.conv([from, growth], 3, 1);
            return Ok(DenseUnit {
                bn1,
                conv1,
                bn2: None,
                conv2: None,
                dropout,
                activation,
            });
        }
        let mid = 4 * growth;
        Ok(DenseUnit {
            bn1,
            conv1: build.conv([from, mid], 1, 1),
            bn2: Some(build.norm(mid)?),
            conv2: Some(build.conv([mid, growth], 3, 1)),
            dropout,
            activation,
        })
    }
}

/// One layer, with a bottleneck or without.
#[derive(Module, Debug)]
struct DenseUnit {
    bn1: NormLayer,
    conv1: Conv2d,
    bn2: Option<NormLayer>,
    conv2: Option<Conv2d>,
    dropout: Dropout,
    activation: Activation,
}

impl DenseUnit {
    /// The new channels alone.
    fn pass<P: Pass>(&self, p: &mut P, x: P::Maps) -> P::Maps {
        let y = p.norm("bn1", &self.bn1, x);
        let y = p.activation(self.activation, y);
        let y = p.conv("conv1", &self.conv1, y);
        let mut y = p.dropout(&self.dropout, y);
        if let (Some(bn2), Some(conv2)) = (&self.bn2, &self.conv2) {
            y = p.norm("bn2", bn2, y);
            y = p.activation(self.activation, y);
            y = p.conv("conv2", conv2, y);
            y = p.dropout(&self.dropout, y);
        }
        y
    }

    fn fold(self) -> Self {
        let (conv1, bn2) = match self.bn2 {
            Some(bn2) => {
                let (conv1, bn2) = folded(self.conv1, bn2);
                (conv1, Some(bn2))
            }
            None => (self.conv1, None),
        };
        Self { conv1, bn2, ..self }
    }
}

#[derive(Module, Debug)]
struct CifarTransition {
    bn1: NormLayer,
    conv1: Conv2d,
    pool: AvgPool2d,
    dropout: Dropout,
    activation: Activation,
}

impl CifarTransition {
    /// What the convolution reads, and what comes out in the end.
    fn pass<P: Pass>(&self, p: &mut P, x: P::Maps) -> (P::Maps, P::Maps) {
        let x = p.norm("bn1", &self.bn1, x);
        let normalized = p.activation(self.activation, x);
        let x = p.conv("conv1", &self.conv1, normalized.clone());
        let x = p.dropout(&self.dropout, x);
        (normalized, p.avg_pool("pool", &self.pool, x))
    }
}

/// DenseNet and DenseNet-BC for 32×32 images, with the names of
/// [bamos/densenet.pytorch](https://github.com/bamos/densenet.pytorch).
///
/// Three blocks at full, half and quarter size. As there, the output is the *logarithm of the probabilities* (log-softmax);
/// cross-entropy computed from it is the same as from logits.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_zoo::CifarDenseNetConfig;
/// # let device = kiln_testing::devices().remove(0);
/// let model = CifarDenseNetConfig::bc(40, 12).init(&device)?;
/// assert_eq!(kiln_zoo::num_params(&model), 176_122);
/// let output = model.forward(Tensor::zeros([1, 3, 32, 32], &device));
/// assert!((output.exp().sum().into_scalar::<f32>() - 1.0).abs() < 1e-5);
/// # Ok::<(), kiln_norm::NormError>(())
/// ```
#[derive(Module, Debug)]
pub struct CifarDenseNet {
    conv1: Conv2d,
    dense1: Vec<DenseUnit>,
    trans1: CifarTransition,
    dense2: Vec<DenseUnit>,
    trans2: CifarTransition,
    dense3: Vec<DenseUnit>,
    bn1: NormLayer,
    /// None in an encoder.
    fc: Option<Linear>,
    activation: Activation,
}

impl CifarDenseNet {
    /// Logarithms of the classes' probabilities.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`; 32×32 in the paper
    /// - output: `[batch, num_classes]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.pass(&mut Forward, images)
    }

    /// One [pass](Pass) over the network.
    pub fn pass<P: Pass>(&self, p: &mut P, images: P::Maps) -> P::Vectors {
        let x = self.features(p, images).pop().expect("at least the stem");
        self.head(p, x)
    }

    fn head<P: Pass>(&self, p: &mut P, x: P::Maps) -> P::Vectors {
        let x = p.global_avg_pool("", x);
        let x = p.flatten(x);
        let x = p.linear("fc", self.fc.as_ref().expect(NO_HEAD), x);
        p.vectors(x, |x| log_softmax(x, 1))
    }

    /// The outputs of the first convolution and of each block, the blocks' normalized and activated.
    pub fn features<P: Pass>(&self, p: &mut P, images: P::Maps) -> Vec<P::Maps> {
        let mut x = p.conv("conv1", &self.conv1, images);
        let mut outputs = vec![x.clone()];
        for (i, block) in self.blocks().into_iter().enumerate() {
            x = p.within(&format!("dense{}", i + 1), x, |p, x| {
                dense_block(p, "", 0, block, x, DenseUnit::pass)
            });
            let Some(transition) = self.transitions().get(i).copied() else {
                break;
            };
            x = p.within(&format!("trans{}", i + 1), x, |p, x| {
                let (normalized, x) = transition.pass(p, x);
                outputs.push(normalized);
                x
            });
        }
        let x = p.norm("bn1", &self.bn1, x);
        outputs.push(p.activation(self.activation, x));
        outputs
    }

    fn blocks(&self) -> [&Vec<DenseUnit>; 3] {
        [&self.dense1, &self.dense2, &self.dense3]
    }

    fn transitions(&self) -> [&CifarTransition; 2] {
        [&self.trans1, &self.trans2]
    }

    /// The same network for inference, each batch normalization that follows a convolution folded into it.
    pub fn fold(self) -> Self {
        let fold = |block: Vec<DenseUnit>| block.into_iter().map(DenseUnit::fold).collect();
        Self {
            dense1: fold(self.dense1),
            dense2: fold(self.dense2),
            dense3: fold(self.dense3),
            ..self
        }
    }

    /// All but the classifier frozen, running statistics included.
    pub fn freeze_backbone(self) -> Self {
        let head = |model: &Self| model.fc.clone();
        frozen_except(self, head, |model, fc| Self { fc, ..model })
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
