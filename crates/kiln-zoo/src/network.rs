//! A model of any family behind one type: what the registry creates.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::pass::{Forward, Output, Pass, Record, Shapes};
use crate::{
    Backbone, BackboneUNet, CifarDenseNet, Cnn, DenseNet, Mlp, ResNet, SmallResNet, Summary, UNet,
};

/// A model that maps images to class logits.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Classifier {
    /// The LeNet-like CNN.
    Cnn(Cnn),
    /// The multilayer perceptron.
    Mlp(Mlp),
    /// ResNet, ResNeXt, Wide ResNet, and ResNet for CIFAR.
    ResNet(ResNet),
    /// The tutorial's residual network.
    SmallResNet(SmallResNet),
    /// DenseNet.
    DenseNet(DenseNet),
    /// DenseNet and DenseNet-BC for CIFAR.
    CifarDenseNet(CifarDenseNet),
}

/// A model that maps images to logits of every pixel.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Segmenter {
    /// U-Net.
    UNet(UNet),
    /// U-Net over another network of the zoo.
    BackboneUNet(BackboneUNet),
}

impl Classifier {
    /// Logits of a batch of images; log-probabilities for the DenseNets for CIFAR, as their source has it.
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
        match self {
            Self::Cnn(model) => model.pass(p, images),
            Self::Mlp(model) => model.pass(p, images),
            Self::ResNet(model) => model.pass(p, images),
            Self::SmallResNet(model) => model.pass(p, images),
            Self::DenseNet(model) => model.pass(p, images),
            Self::CifarDenseNet(model) => model.pass(p, images),
        }
    }

    /// The features that the classifier reads, before they are averaged over each map: the network without its head.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`
    /// - output: `[batch, features, height, width]`, such as `[batch, 512, 7, 7]` for ResNet-18 and 224×224; height and width
    ///   are 1 for the MLP
    pub fn features(&self, images: Tensor<4>) -> Tensor<4> {
        self.stages(images).pop().expect("at least one stage")
    }

    /// The output of every stage, from the largest maps to the smallest ([`Backbone`] has a table).
    pub fn stages(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        match self {
            Self::Cnn(model) => model.features(&mut Forward, images),
            Self::Mlp(model) => vec![model.features(images)],
            Self::ResNet(model) => model.features(&mut Forward, images),
            Self::SmallResNet(model) => model.features(&mut Forward, images),
            Self::DenseNet(model) => model.features(&mut Forward, images),
            Self::CifarDenseNet(model) => model.features(&mut Forward, images),
        }
    }

    /// Logits, with every named output on the way shown to `see`. Names are those of PyTorch's modules.
    pub fn record(&self, images: Tensor<4>, see: impl FnMut(&str, Output<'_>)) -> Tensor<2> {
        self.pass(&mut Record::new(see), images)
    }

    /// Layer by layer: output shape, parameters and multiply-adds for one image of this size.
    pub fn summary(&self, input: [usize; 3]) -> Summary {
        let [channels, height, width] = input;
        let mut shapes = Shapes::default();
        self.pass(&mut shapes, [1, channels, height, width]);
        Summary::new(input, shapes)
    }

    /// The same network for inference, each batch normalization folded into the convolution before it: fewer operations, the
    /// same output but for rounding. Other normalizations stay as they are.
    pub fn fold(self) -> Self {
        match self {
            Self::Cnn(model) => Self::Cnn(model.fold()),
            Self::Mlp(model) => Self::Mlp(model),
            Self::ResNet(model) => Self::ResNet(model.fold()),
            Self::SmallResNet(model) => Self::SmallResNet(model.fold()),
            Self::DenseNet(model) => Self::DenseNet(model.fold()),
            Self::CifarDenseNet(model) => Self::CifarDenseNet(model.fold()),
        }
    }

    /// All but the head frozen for fine-tuning: no gradients, running statistics used and left alone, no dropout, on a
    /// training device too.
    pub fn freeze_backbone(self) -> Self {
        match self {
            Self::Cnn(model) => Self::Cnn(model.freeze_backbone()),
            Self::Mlp(model) => Self::Mlp(model.freeze_backbone()),
            Self::ResNet(model) => Self::ResNet(model.freeze_backbone()),
            Self::SmallResNet(model) => Self::SmallResNet(model.freeze_backbone()),
            Self::DenseNet(model) => Self::DenseNet(model.freeze_backbone()),
            Self::CifarDenseNet(model) => Self::CifarDenseNet(model.freeze_backbone()),
        }
    }

    /// The same network with a freshly drawn head for another number of classes.
    pub fn with_new_head(self, num_classes: usize) -> Self {
        match self {
            Self::Cnn(model) => Self::Cnn(model.with_new_head(num_classes)),
            Self::Mlp(model) => Self::Mlp(model.with_new_head(num_classes)),
            Self::ResNet(model) => Self::ResNet(model.with_new_head(num_classes)),
            Self::SmallResNet(model) => Self::SmallResNet(model.with_new_head(num_classes)),
            Self::DenseNet(model) => Self::DenseNet(model.with_new_head(num_classes)),
            Self::CifarDenseNet(model) => Self::CifarDenseNet(model.with_new_head(num_classes)),
        }
    }

    /// As the encoder of a [`BackboneUNet`]; none for the two models that have no stages.
    pub fn into_backbone(self) -> Option<Backbone> {
        match self {
            Self::Cnn(_) | Self::Mlp(_) => None,
            Self::ResNet(model) => Some(Backbone::ResNet(model)),
            Self::SmallResNet(model) => Some(Backbone::SmallResNet(model)),
            Self::DenseNet(model) => Some(Backbone::DenseNet(model)),
            Self::CifarDenseNet(model) => Some(Backbone::CifarDenseNet(model)),
        }
    }
}

impl Segmenter {
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
        match self {
            Self::UNet(model) => model.pass(p, images),
            Self::BackboneUNet(model) => model.pass(p, images),
        }
    }

    /// The encoder's feature maps, from the largest to the smallest.
    pub fn stages(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        match self {
            Self::UNet(model) => model.features(&mut Forward, images),
            Self::BackboneUNet(model) => model.features(&mut Forward, images),
        }
    }

    /// Logits, with every named output on the way shown to `see`. Names are those of PyTorch's modules.
    pub fn record(&self, images: Tensor<4>, see: impl FnMut(&str, Output<'_>)) -> Tensor<4> {
        self.pass(&mut Record::new(see), images)
    }

    /// Layer by layer: output shape, parameters and multiply-adds for one image of this size.
    pub fn summary(&self, input: [usize; 3]) -> Summary {
        let [channels, height, width] = input;
        let mut shapes = Shapes::default();
        self.pass(&mut shapes, [1, channels, height, width]);
        Summary::new(input, shapes)
    }

    /// The same network for inference, each batch normalization folded into the convolution before it.
    pub fn fold(self) -> Self {
        match self {
            Self::UNet(model) => Self::UNet(model.fold()),
            Self::BackboneUNet(model) => Self::BackboneUNet(model.fold()),
        }
    }

    /// The encoder frozen for fine-tuning, running statistics included.
    pub fn freeze_backbone(self) -> Self {
        match self {
            Self::UNet(model) => Self::UNet(model.freeze_backbone()),
            Self::BackboneUNet(model) => Self::BackboneUNet(model.freeze_backbone()),
        }
    }

    /// The same network with a freshly drawn output layer for another number of classes.
    pub fn with_new_head(self, num_classes: usize) -> Self {
        match self {
            Self::UNet(model) => Self::UNet(model.with_new_head(num_classes)),
            Self::BackboneUNet(model) => Self::BackboneUNet(model.with_new_head(num_classes)),
        }
    }
}
