//! U-Net for segmentation.

use burn::module::Module;
use burn::nn::Dropout;
use burn::nn::conv::{Conv2d, ConvTranspose2d};
use burn::nn::pool::MaxPool2d;
use burn::tensor::{Device, Tensor};
use kiln_norm::{Norm, NormError, NormLayer};

use crate::Activation;
use crate::layers::{Builder, Init, dropout, folded, frozen, max_pool_2};
use crate::pass::{Forward, Pass};

/// Configuration of a [`UNet`].
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `in_channels` | 3 | at least 1 |
/// | `num_classes` | | output channels, at least 1 |
/// | `bilinear` | no | enlarge by bilinear interpolation instead of a transposed convolution |
/// | `width` | 64 | channels of the first level, even; they double at each of the four levels below |
/// | `norm` | batch | any [`Norm`] |
/// | `activation` | ReLU | any [`Activation`] |
/// | `drop_rate` | 0 | dropout at the lowest level, in `[0, 1)` |
#[derive(Clone, Debug, PartialEq)]
pub struct UNetConfig {
    /// Channels of an image.
    pub in_channels: usize,
    /// Output channels.
    pub num_classes: usize,
    /// Whether to enlarge by interpolation.
    pub bilinear: bool,
    /// Channels of the first level.
    pub width: usize,
    /// The normalization.
    pub norm: Norm,
    /// The nonlinearity.
    pub activation: Activation,
    /// Dropout probability at the lowest level.
    pub drop_rate: f64,
}

impl UNetConfig {
    /// The defaults, for `num_classes` classes.
    pub fn new(num_classes: usize) -> Self {
        Self {
            in_channels: 3,
            num_classes,
            bilinear: false,
            width: 64,
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
    pub fn init(&self, device: &Device) -> Result<UNet, NormError> {
        let build = Builder {
            norm: &self.norm,
            init: Init::Default,
            device,
        };
        let with_bias = Builder {
            norm: &Norm::None,
            ..build
        };
        let double = |from, mid, to| DoubleConv::new(&build, [from, mid, to], self.activation);
        // Interpolation keeps the channels, so the level below gives half as many.
        let [w, half] = [self.width, if self.bilinear { 2 } else { 1 }];
        let down = |from, to| {
            Ok(Down {
                maxpool_conv: (max_pool_2(), double(from, to, to)?),
            })
        };
        let up = |from: usize, to: usize| {
            let (up, mid) = match self.bilinear {
                true => (None, from / 2),
                false => (Some(build.up([from, from / 2])), to),
            };
            Ok(Up {
                up,
                conv: double(from, mid, to)?,
            })
        };
        Ok(UNet {
            inc: double(self.in_channels, w, w)?,
            down1: down(w, 2 * w)?,
            down2: down(2 * w, 4 * w)?,
            down3: down(4 * w, 8 * w)?,
            down4: down(8 * w, 16 * w / half)?,
            dropout: dropout(self.drop_rate),
            up1: up(16 * w, 8 * w / half)?,
            up2: up(8 * w, 4 * w / half)?,
            up3: up(4 * w, 2 * w / half)?,
            up4: up(2 * w, w)?,
            outc: OutConv {
                conv: with_bias.conv([w, self.num_classes], 1, 1),
            },
        })
    }
}

/// Twice a convolution 3×3, a normalization and an activation.
#[derive(Module, Debug)]
pub(crate) struct DoubleConv {
    double_conv: (Conv2d, NormLayer, Activation, Conv2d, NormLayer, Activation),
}

impl DoubleConv {
    pub(crate) fn new(
        build: &Builder,
        [from, mid, to]: [usize; 3],
        activation: Activation,
    ) -> Result<Self, NormError> {
        Ok(Self {
            double_conv: (
                build.conv([from, mid], 3, 1),
                build.norm(mid)?,
                activation,
                build.conv([mid, to], 3, 1),
                build.norm(to)?,
                activation,
            ),
        })
    }

    pub(crate) fn pass<P: Pass>(&self, p: &mut P, x: P::Maps) -> P::Maps {
        let (conv0, norm1, act2, conv3, norm4, act5) = &self.double_conv;
        p.within("double_conv", x, |p, x| {
            let x = p.conv("0", conv0, x);
            let x = p.norm("1", norm1, x);
            let x = p.activation(*act2, x);
            let x = p.conv("3", conv3, x);
            let x = p.norm("4", norm4, x);
            p.activation(*act5, x)
        })
    }

    pub(crate) fn fold(self) -> Self {
        let (conv0, norm1, act2, conv3, norm4, act5) = self.double_conv;
        let (conv0, norm1) = folded(conv0, norm1);
        let (conv3, norm4) = folded(conv3, norm4);
        Self {
            double_conv: (conv0, norm1, act2, conv3, norm4, act5),
        }
    }
}

/// Half the size, then a [`DoubleConv`].
#[derive(Module, Debug)]
struct Down {
    maxpool_conv: (MaxPool2d, DoubleConv),
}

impl Down {
    fn pass<P: Pass>(&self, p: &mut P, x: P::Maps) -> P::Maps {
        let (pool, conv) = &self.maxpool_conv;
        p.within("maxpool_conv", x, |p, x| {
            let x = p.max_pool("0", pool, x);
            p.within("1", x, |p, x| conv.pass(p, x))
        })
    }

    fn fold(self) -> Self {
        let (pool, conv) = self.maxpool_conv;
        Self {
            maxpool_conv: (pool, conv.fold()),
        }
    }
}

/// Twice the size, the skip from the encoder beside it, then a [`DoubleConv`].
#[derive(Module, Debug)]
struct Up {
    /// None: bilinear interpolation.
    up: Option<ConvTranspose2d>,
    conv: DoubleConv,
}

impl Up {
    fn pass<P: Pass>(&self, p: &mut P, low: P::Maps, skip: P::Maps) -> P::Maps {
        let low = match &self.up {
            Some(up) => p.conv_transpose("up", up, low),
            None => p.upsample("up", low),
        };
        let low = p.fit(low, &skip);
        let x = p.concat(vec![skip, low]);
        p.within("conv", x, |p, x| self.conv.pass(p, x))
    }

    fn fold(self) -> Self {
        Self {
            up: self.up,
            conv: self.conv.fold(),
        }
    }
}

#[derive(Module, Debug)]
struct OutConv {
    conv: Conv2d,
}

/// U-Net ([Ronneberger et al. 2015](https://arxiv.org/abs/1505.04597)) as
/// [milesial/Pytorch-UNet](https://github.com/milesial/Pytorch-UNet) has it: normalization after every convolution, padding
/// that keeps the size, and an output as large as the image.
///
/// Four levels of half the size each, joined to the decoder by [long skips](crate::LongSkip). An image of any size from
/// 16×16 is taken: where a size is odd, the decoder pads.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_zoo::UNetConfig;
/// # let device = kiln_testing::devices().remove(0);
/// let config = UNetConfig { in_channels: 1, width: 4, ..UNetConfig::new(2) };
/// let model = config.init(&device)?;
/// assert_eq!(model.forward(Tensor::zeros([1, 1, 33, 18], &device)).dims(), [1, 2, 33, 18]);
/// # Ok::<(), kiln_norm::NormError>(())
/// ```
#[derive(Module, Debug)]
pub struct UNet {
    inc: DoubleConv,
    down1: Down,
    down2: Down,
    down3: Down,
    down4: Down,
    up1: Up,
    up2: Up,
    up3: Up,
    up4: Up,
    outc: OutConv,
    dropout: Dropout,
}

impl UNet {
    /// Logits of every pixel.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`, height and width at least 16
    /// - output: `[batch, num_classes, height, width]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        self.pass(&mut Forward, images)
    }

    /// One [pass](Pass) over the network.
    pub fn pass<P: Pass>(&self, p: &mut P, images: P::Maps) -> P::Maps {
        let mut levels = self.features(p, images);
        let mut x = levels.pop().expect("five levels");
        x = p.dropout(&self.dropout, x);
        let ups = [&self.up1, &self.up2, &self.up3, &self.up4];
        for (i, (up, skip)) in ups.into_iter().zip(levels.into_iter().rev()).enumerate() {
            x = p.within(&format!("up{}", i + 1), x, |p, x| up.pass(p, x, skip));
        }
        p.within("outc", x, |p, x| p.conv("conv", &self.outc.conv, x))
    }

    /// The encoder's output at each of the five levels, the image's own resolution first.
    pub fn features<P: Pass>(&self, p: &mut P, images: P::Maps) -> Vec<P::Maps> {
        let mut levels = vec![p.within("inc", images, |p, x| self.inc.pass(p, x))];
        let downs = [&self.down1, &self.down2, &self.down3, &self.down4];
        for (i, down) in downs.into_iter().enumerate() {
            let x = levels[i].clone();
            levels.push(p.within(&format!("down{}", i + 1), x, |p, x| down.pass(p, x)));
        }
        levels
    }

    /// The same network for inference, each batch normalization folded into the convolution before it.
    pub fn fold(self) -> Self {
        Self {
            inc: self.inc.fold(),
            down1: self.down1.fold(),
            down2: self.down2.fold(),
            down3: self.down3.fold(),
            down4: self.down4.fold(),
            up1: self.up1.fold(),
            up2: self.up2.fold(),
            up3: self.up3.fold(),
            up4: self.up4.fold(),
            outc: self.outc,
            dropout: self.dropout,
        }
    }

    /// The encoder frozen, running statistics included; the decoder is trained.
    pub fn freeze_backbone(self) -> Self {
        Self {
            inc: frozen(self.inc),
            down1: frozen(self.down1),
            down2: frozen(self.down2),
            down3: frozen(self.down3),
            down4: frozen(self.down4),
            ..self
        }
    }

    /// The same network with a freshly drawn output layer for another number of classes.
    pub fn with_new_head(self, num_classes: usize) -> Self {
        let conv = &self.outc.conv;
        let build = Builder {
            norm: &Norm::None,
            init: Init::Default,
            device: &conv.weight.lazy_device(),
        };
        let conv = build.conv([conv.weight.lazy_shape()[1], num_classes], 1, 1);
        Self {
            outc: OutConv { conv },
            ..self
        }
    }
}
