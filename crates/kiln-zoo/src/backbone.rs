//! U-Net over another network of the zoo as encoder.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d};
use burn::nn::{Dropout, Initializer};
use burn::tensor::{Device, Tensor};
use kiln_norm::{Norm, NormError};

use crate::layers::{Builder, Init, dropout, frozen};
use crate::pass::{Forward, Pass, Shapes};
use crate::unet::DoubleConv;
use crate::{Activation, CifarDenseNet, DenseNet, ResNet, SmallResNet};

/// A network that gives feature maps at several resolutions: every classifier of the zoo that is made of stages.
///
/// [`features`](Self::features) is the contract. For an image of 3×224×224, ResNet-50 gives
///
/// | feature | shape |
/// |---|---|
/// | stem | 64×112×112 |
/// | layer1 | 256×56×56 |
/// | layer2 | 512×28×28 |
/// | layer3 | 1024×14×14 |
/// | layer4 | 2048×7×7 |
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, missing_docs)]
pub enum Backbone {
    ResNet(ResNet),
    SmallResNet(SmallResNet),
    DenseNet(DenseNet),
    CifarDenseNet(CifarDenseNet),
}

impl Backbone {
    /// The output of every stage, from the largest maps to the smallest.
    pub fn features<P: Pass>(&self, p: &mut P, images: P::Maps) -> Vec<P::Maps> {
        match self {
            Self::ResNet(model) => model.features(p, images),
            Self::SmallResNet(model) => model.features(p, images),
            Self::DenseNet(model) => model.features(p, images),
            Self::CifarDenseNet(model) => model.features(p, images),
        }
    }

    /// [`features`](Self::features) of a batch of images.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`
    /// - each output: `[batch, channels, height, width]` of its stage
    pub fn forward(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        self.features(&mut Forward, images)
    }

    /// The same network for inference.
    pub fn fold(self) -> Self {
        match self {
            Self::ResNet(model) => Self::ResNet(model.fold()),
            Self::SmallResNet(model) => Self::SmallResNet(model.fold()),
            Self::DenseNet(model) => Self::DenseNet(model.fold()),
            Self::CifarDenseNet(model) => Self::CifarDenseNet(model.fold()),
        }
    }

    /// The same network without its classifier.
    pub fn without_head(self) -> Self {
        match self {
            Self::ResNet(model) => Self::ResNet(model.without_head()),
            Self::SmallResNet(model) => Self::SmallResNet(model.without_head()),
            Self::DenseNet(model) => Self::DenseNet(model.without_head()),
            Self::CifarDenseNet(model) => Self::CifarDenseNet(model.without_head()),
        }
    }
}

/// Configuration of a [`BackboneUNet`].
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `num_classes` | | output channels, at least 1 |
/// | `widths` | 256, 128, 64, 32, 16 | channels of the decoder's steps; the last ones serve a backbone of fewer stages |
/// | `bilinear` | yes | enlarge by bilinear interpolation; if not, by a transposed convolution |
/// | `norm` | batch | any [`Norm`], for the decoder |
/// | `activation` | ReLU | any [`Activation`], for the decoder |
/// | `drop_rate` | 0 | dropout on the backbone's last feature, in `[0, 1)` |
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct BackboneUNetConfig {
    pub num_classes: usize,
    pub widths: [usize; 5],
    pub bilinear: bool,
    pub norm: Norm,
    pub activation: Activation,
    pub drop_rate: f64,
}

/// An image of this size shows how a backbone's features differ in size; none makes it smaller than 1/32.
const PROBE: usize = 256;

impl BackboneUNetConfig {
    /// The defaults, for `num_classes` classes.
    pub fn new(num_classes: usize) -> Self {
        Self {
            num_classes,
            widths: [256, 128, 64, 32, 16],
            bilinear: true,
            norm: Norm::Batch,
            activation: Activation::Relu,
            drop_rate: 0.0,
        }
    }

    /// Builds the decoder for a backbone that takes images of `in_channels` channels. Its convolutions are drawn from
    /// `U(±sqrt(6 / fan_in))` and the output layer by Xavier's rule with a bias of zero, as in
    /// [segmentation_models.pytorch](https://github.com/qubvel-org/segmentation_models.pytorch).
    ///
    /// # Errors
    ///
    /// If the normalization cannot take one of the widths.
    pub fn init(
        &self,
        backbone: Backbone,
        in_channels: usize,
        device: &Device,
    ) -> Result<BackboneUNet, NormError> {
        let encoder = backbone.without_head();
        let shapes = encoder.features(&mut Shapes::default(), [1, in_channels, PROBE, PROBE]);
        // Of several features of one size, the last knows most.
        let keep: Vec<usize> = (0..shapes.len())
            .filter(|&i| shapes.get(i + 1).is_none_or(|next| next[2] < shapes[i][2]))
            .collect();
        let levels: Vec<[usize; 4]> = keep.iter().map(|&i| shapes[i]).collect();
        let mut skips: Vec<usize> = levels.iter().rev().skip(1).map(|shape| shape[1]).collect();
        if levels[0][2] < PROBE {
            // The last step comes to the image's own size, where there is no feature.
            skips.push(0);
        }
        let build = Builder {
            norm: &self.norm,
            init: Init::KaimingUniform,
            device,
        };
        let widths = &self.widths[self.widths.len().saturating_sub(skips.len())..];
        let mut channels = levels.last().expect("at least the stem")[1];
        let mut decoder = Vec::with_capacity(skips.len());
        for (i, &skip) in skips.iter().enumerate() {
            let width = widths[i.min(widths.len() - 1)];
            let (up, low) = match self.bilinear {
                true => (None, channels),
                false => (Some(build.up([channels, channels / 2])), channels / 2),
            };
            decoder.push(Step {
                up,
                conv: DoubleConv::new(&build, [low + skip, width, width], self.activation)?,
            });
            channels = width;
        }
        Ok(BackboneUNet {
            encoder,
            decoder,
            head: head(channels, self.num_classes, device),
            dropout: dropout(self.drop_rate),
            keep,
        })
    }
}

/// 1×1, by Xavier's rule.
fn head(from: usize, to: usize, device: &Device) -> Conv2d {
    let bound = (6.0 / (from + to) as f64).sqrt();
    let initializer = Initializer::Uniform {
        min: -bound,
        max: bound,
    };
    let conv = Conv2dConfig::new([from, to], [1, 1]).with_initializer(initializer);
    let mut conv = conv.with_bias(false).init(device);
    conv.bias = Some(Initializer::Zeros.init([to], device));
    conv
}

/// Twice the size, beside a feature of the encoder if there is one of this size, then two convolutions.
#[derive(Module, Debug)]
struct Step {
    /// None: bilinear interpolation.
    up: Option<ConvTranspose2d>,
    conv: DoubleConv,
}

impl Step {
    fn pass<P: Pass>(&self, p: &mut P, low: P::Maps, to: &P::Maps, skip: bool) -> P::Maps {
        let low = match &self.up {
            Some(up) => p.conv_transpose("up", up, low),
            None => p.upsample("up", low),
        };
        let mut x = p.fit(low, to);
        if skip {
            x = p.concat(vec![to.clone(), x]);
        }
        p.within("conv", x, |p, x| self.conv.pass(p, x))
    }
}

/// A U-Net whose encoder is another network of the zoo, so that its weights may come from ImageNet.
///
/// The backbone's feature of each resolution is joined to the decoder by a [long skip](crate::LongSkip). The output is as
/// large as the image, whatever its size.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_zoo::{Backbone, BackboneUNetConfig, ResNetConfig};
/// # let device = kiln_testing::devices().remove(0);
/// let backbone = Backbone::ResNet(ResNetConfig::cifar(3).init(&device)?);
/// let model = BackboneUNetConfig::new(2).init(backbone, 3, &device)?;
/// assert_eq!(model.forward(Tensor::zeros([1, 3, 33, 18], &device)).dims(), [1, 2, 33, 18]);
/// # Ok::<(), kiln_norm::NormError>(())
/// ```
#[derive(Module, Debug)]
pub struct BackboneUNet {
    encoder: Backbone,
    decoder: Vec<Step>,
    head: Conv2d,
    dropout: Dropout,
    /// Which of the backbone's features are joined.
    #[module(skip)]
    keep: Vec<usize>,
}

impl BackboneUNet {
    /// Logits of every pixel.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`
    /// - output: `[batch, num_classes, height, width]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        self.pass(&mut Forward, images)
    }

    /// One [pass](Pass) over the network.
    pub fn pass<P: Pass>(&self, p: &mut P, images: P::Maps) -> P::Maps {
        let mut skips = self.features(p, images.clone());
        let x = skips.pop().expect("at least the stem");
        let mut x = p.dropout(&self.dropout, x);
        for (i, step) in self.decoder.iter().enumerate() {
            let skip = skips.pop();
            let to = skip.as_ref().unwrap_or(&images);
            x = p.within(&format!("decoder.{i}"), x, |p, x| {
                step.pass(p, x, to, skip.is_some())
            });
        }
        p.conv("head", &self.head, x)
    }

    /// The backbone's features that the decoder reads, from the largest maps to the smallest.
    pub fn features<P: Pass>(&self, p: &mut P, images: P::Maps) -> Vec<P::Maps> {
        p.enter(format_args!("encoder"));
        let features = self.encoder.features(p, images);
        p.leave(features.last().expect("at least the stem"));
        self.keep.iter().map(|&i| features[i].clone()).collect()
    }

    /// The same network with another encoder of the same shape: one with weights loaded into it.
    ///
    /// # Errors
    ///
    /// Those of `change`.
    pub fn map_backbone<E>(
        self,
        change: impl FnOnce(Backbone) -> Result<Backbone, E>,
    ) -> Result<Self, E> {
        let encoder = change(self.encoder)?;
        Ok(Self { encoder, ..self })
    }

    /// The same network for inference, each batch normalization folded into the convolution before it.
    pub fn fold(self) -> Self {
        let fold = |step: Step| Step {
            up: step.up,
            conv: step.conv.fold(),
        };
        Self {
            encoder: self.encoder.fold(),
            decoder: self.decoder.into_iter().map(fold).collect(),
            ..self
        }
    }

    /// The encoder frozen, running statistics included; the decoder is trained.
    pub fn freeze_backbone(self) -> Self {
        Self {
            encoder: frozen(self.encoder),
            ..self
        }
    }

    /// The same network with a freshly drawn output layer for another number of classes.
    pub fn with_new_head(self, num_classes: usize) -> Self {
        let weight = &self.head.weight;
        let head = head(weight.lazy_shape()[1], num_classes, &weight.lazy_device());
        Self { head, ..self }
    }
}
