//! A LeNet-like convolutional network.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::nn::{PaddingConfig2d, Relu};
use burn::tensor::{Device, Tensor};

/// Configuration of a [`Cnn`].
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `input` | | channels, height and width of an image; height and width at least 4 |
/// | `num_classes` | | at least 1 |
/// | `channels` | `[32, 64]` | output channels of the two convolutions |
/// | `hidden` | 128 | units of the hidden fully connected layer |
/// | `dropout` | 0.25 | probability in `[0, 1)`, after the hidden layer |
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
        }
    }

    /// Initializes the network on `device`, its weights drawn as PyTorch's layers draw theirs
    /// (uniform within `1 / sqrt(fan_in)`).
    ///
    /// # Panics
    ///
    /// If the image is smaller than 4×4 or a size is zero; [`create`](crate::create) returns an
    /// error instead.
    pub fn init(&self, device: &Device) -> Cnn {
        let [channels, height, width] = self.input;
        assert!(
            height >= 4 && width >= 4,
            "the CNN halves an image twice, so it needs at least 4x4 pixels, but got {height}x{width}"
        );
        let [c1, c2] = self.channels;
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                // A bias is lost in the normalization that follows.
                .with_bias(false)
                .init(device)
        };
        Cnn {
            conv1: conv(channels, c1),
            bn1: BatchNormConfig::new(c1).init(device),
            conv2: conv(c1, c2),
            bn2: BatchNormConfig::new(c2).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc1: LinearConfig::new(c2 * (height / 4) * (width / 4), self.hidden).init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            fc2: LinearConfig::new(self.hidden, self.num_classes).init(device),
            relu: Relu::new(),
        }
    }
}

/// Two blocks of convolution 3×3, batch normalization, ReLU and 2×2 max pooling, then a hidden
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
/// let model = CnnConfig::new([1, 28, 28], 10).init(&device);
/// assert_eq!(model.forward(Tensor::zeros([4, 1, 28, 28], &device)).dims(), [4, 10]);
/// ```
#[derive(Module, Debug)]
pub struct Cnn {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    pool: MaxPool2d,
    fc1: Linear,
    dropout: Dropout,
    fc2: Linear,
    relu: Relu,
}

impl Cnn {
    /// Logits of a batch of images.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`
    /// - output: `[batch, num_classes]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        // Pooling before the ReLU gives the same values and rectifies a quarter as many.
        let x = self.bn1.forward(self.conv1.forward(images));
        let x = self.relu.forward(self.pool.forward(x));
        let x = self.bn2.forward(self.conv2.forward(x));
        let x = self.relu.forward(self.pool.forward(x));
        let x = self.fc1.forward(x.flatten(1, 3));
        self.fc2.forward(self.dropout.forward(self.relu.forward(x)))
    }
}
