//! A LeNet-like convolutional network.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{Dropout, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_norm::{Norm, NormError, NormLayer};

use crate::Activation;
use crate::layers::{Builder, Init, dropout, folded, frozen_except, max_pool_2};
use crate::pass::{Forward, Pass, product};

/// Configuration of a [`Cnn`].
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `input` | | channels, height and width of an image; height and width at least 4 |
/// | `num_classes` | | at least 1 |
/// | `channels` | `[32, 64]` | output channels of the two convolutions |
/// | `hidden` | 128 | units of the hidden fully connected layer |
/// | `dropout` | 0.25 | probability in `[0, 1)`, after the hidden layer |
/// | `norm` | batch | any [`Norm`] |
/// | `activation` | ReLU | any [`Activation`] |
#[derive(Clone, Debug, PartialEq)]
pub struct CnnConfig {
    /// Channels, height and width of an image.
    pub input: [usize; 3],
    /// Number of classes.
    pub num_classes: usize,
    /// Output channels of the two convolutions.
    pub channels: [usize; 2],
    /// Units of the hidden fully connected layer.
    pub hidden: usize,
    /// Dropout probability after the hidden layer.
    pub dropout: f64,
    /// The normalization after each convolution.
    pub norm: Norm,
    /// The nonlinearity.
    pub activation: Activation,
}

impl CnnConfig {
    /// The defaults for images of `input` (channels, height, width) and `num_classes` classes.
    pub fn new(input: [usize; 3], num_classes: usize) -> Self {
        Self {
            input,
            num_classes,
            channels: [32, 64],
            hidden: 128,
            dropout: 0.25,
            norm: Norm::Batch,
            activation: Activation::Relu,
        }
    }

    /// Initializes the network on `device`, its weights drawn as PyTorch's layers draw theirs
    /// (uniform within `1 / sqrt(fan_in)`).
    ///
    /// # Errors
    ///
    /// If the normalization cannot take one of the widths.
    ///
    /// # Panics
    ///
    /// If the image is smaller than 4×4 or a size is zero; [`create`](crate::create) returns an
    /// error instead.
    pub fn init(&self, device: &Device) -> Result<Cnn, NormError> {
        let [channels, height, width] = self.input;
        assert!(
            height >= 4 && width >= 4,
            "the CNN halves an image twice, so it needs at least 4x4 pixels, but got {height}x{width}"
        );
        let [c1, c2] = self.channels;
        let build = Builder {
            norm: &self.norm,
            init: Init::Default,
            device,
        };
        Ok(Cnn {
            conv1: build.conv([channels, c1], 3, 1),
            bn1: build.norm(c1)?,
            conv2: build.conv([c1, c2], 3, 1),
            bn2: build.norm(c2)?,
            pool: max_pool_2(),
            fc1: build.linear(product(&[c2, height / 4, width / 4]), self.hidden),
            dropout: dropout(self.dropout),
            fc2: build.linear(self.hidden, self.num_classes),
            activation: self.activation,
        })
    }
}

/// Two blocks of convolution 3×3, normalization, activation and 2×2 max pooling, then a hidden
/// layer with dropout and a linear classifier.
///
/// It is LeNet-5 ([LeCun et al. 1998](http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf)) with
/// the parts that became usual since: small kernels, ReLU, max pooling,
/// [batch normalization](https://arxiv.org/abs/1502.03167) and
/// [dropout](https://jmlr.org/papers/v15/srivastava14a.html).
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_zoo::CnnConfig;
/// # let device = kiln_testing::devices().remove(0);
/// let model = CnnConfig::new([1, 28, 28], 10).init(&device)?;
/// assert_eq!(model.forward(Tensor::zeros([4, 1, 28, 28], &device)).dims(), [4, 10]);
/// # Ok::<(), kiln_norm::NormError>(())
/// ```
#[derive(Module, Debug)]
pub struct Cnn {
    conv1: Conv2d,
    bn1: NormLayer,
    conv2: Conv2d,
    bn2: NormLayer,
    pool: MaxPool2d,
    fc1: Linear,
    dropout: Dropout,
    fc2: Linear,
    activation: Activation,
}

impl Cnn {
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
        let x = self.features(p, images).pop().expect("two blocks");
        let x = p.flatten(x);
        let x = p.linear("fc1", &self.fc1, x);
        let x = p.vectors(x, |x| self.dropout.forward(self.activation.forward(x)));
        p.linear("fc2", &self.fc2, x)
    }

    /// The outputs of the two blocks.
    pub fn features<P: Pass>(&self, p: &mut P, images: P::Maps) -> Vec<P::Maps> {
        let x = p.conv("conv1", &self.conv1, images);
        let first = self.rest(p, "bn1", &self.bn1, x);
        let x = p.conv("conv2", &self.conv2, first.clone());
        let second = self.rest(p, "bn2", &self.bn2, x);
        vec![first, second]
    }

    /// A block after its convolution.
    fn rest<P: Pass>(&self, p: &mut P, name: &str, norm: &NormLayer, x: P::Maps) -> P::Maps {
        let x = p.norm(name, norm, x);
        if self.activation == Activation::Relu {
            // Pooling before the ReLU gives the same values and rectifies a quarter as many.
            let x = p.max_pool("pool", &self.pool, x);
            return p.activation(self.activation, x);
        }
        let x = p.activation(self.activation, x);
        p.max_pool("pool", &self.pool, x)
    }

    /// The same network for inference, each batch normalization folded into the convolution before it.
    pub fn fold(self) -> Self {
        let (conv1, bn1) = folded(self.conv1, self.bn1);
        let (conv2, bn2) = folded(self.conv2, self.bn2);
        Self {
            conv1,
            bn1,
            conv2,
            bn2,
            ..self
        }
    }

    /// All but the last layer frozen, running statistics included.
    pub fn freeze_backbone(self) -> Self {
        let head = |model: &Self| model.fc2.clone();
        frozen_except(self, head, |model, fc2| Self { fc2, ..model })
    }

    /// The same network with a freshly drawn last layer for another number of classes.
    pub fn with_new_head(self, num_classes: usize) -> Self {
        let weight = &self.fc2.weight;
        let fc2 = LinearConfig::new(weight.lazy_shape()[0], num_classes);
        let fc2 = fc2.init(&weight.lazy_device());
        Self { fc2, ..self }
    }
}
