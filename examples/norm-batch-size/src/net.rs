//! A small convolutional network with a normalization after every layer but the last.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use kiln::norm::{Norm, NormError, NormLayer};

#[derive(Module, Debug)]
pub struct Net {
    convs: Vec<Conv2d>,
    norms: Vec<NormLayer>,
    hidden: Linear,
    hidden_norm: NormLayer,
    head: Linear,
}

impl Net {
    /// Each of three convolutions halves the image, from 28x28 to 4x4; a hidden layer follows. That one has no space, so
    /// BatchNorm has as many values of a unit as there are samples, and InstanceNorm, which needs space, is left out.
    pub fn new(norm: Norm, device: &Device) -> Result<Self, NormError> {
        let channels = [1, 16, 32, 32];
        let of_hidden = match norm {
            Norm::Instance => Norm::None,
            norm => norm,
        };
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .init(device)
        };
        let outs = &channels[1..];
        Ok(Self {
            convs: channels.windows(2).map(|c| conv(c[0], c[1])).collect(),
            norms: outs
                .iter()
                .map(|&c| norm.init(c, device))
                .collect::<Result<_, _>>()?,
            hidden: LinearConfig::new(32 * 4 * 4, 64)
                .with_bias(false)
                .init(device),
            hidden_norm: of_hidden.init(64, device)?,
            head: LinearConfig::new(64, 10).init(device),
        })
    }

    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let layers = self.convs.iter().zip(&self.norms);
        let features = layers.fold(images, |x, (conv, norm)| {
            relu(norm.forward(conv.forward(x)))
        });
        let hidden = self.hidden.forward(features.flatten(1, 3));
        self.head.forward(relu(self.hidden_norm.forward(hidden)))
    }
}
