//! Neural networks for Burn, created by name.
//!
//! A model is an ordinary Burn `Module`: build it from its config, or by name through the
//! [registry](create). All image models take `[batch, channels, height, width]` and return logits
//! `[batch, num_classes]`.
//!
//! ```
//! use burn::tensor::Tensor;
//! # let device = kiln_testing::devices().remove(0);
//! let settings = kiln_zoo::Settings { input: [1, 28, 28], num_classes: 10, ..Default::default() };
//! let model = kiln_zoo::create("cnn", &settings, &device)?;
//! let logits = model.forward(Tensor::zeros([2, 1, 28, 28], &device));
//! assert_eq!(logits.dims(), [2, 10]);
//! assert_eq!(kiln_zoo::num_params(&model), 421_738);
//! # Ok::<(), kiln_zoo::ZooError>(())
//! ```

mod activation;
mod architecture;
mod backbone;
mod checkpoint;
mod cnn;
mod densenet;
mod layers;
mod memory;
mod mlp;
mod network;
mod params;
pub mod pass;
mod pretrained;
mod registry;
mod resnet;
mod skip;
mod summary;
mod table;
mod unet;
mod upsample;
pub mod weights;

pub use activation::{Activation, UnknownActivation};
pub use backbone::{Backbone, BackboneUNet, BackboneUNetConfig};
pub use cnn::{Cnn, CnnConfig};
pub use densenet::{CifarDenseNet, CifarDenseNetConfig, DenseNet, DenseNetConfig};
pub use kiln_norm::{Norm, NormLayer};
pub use memory::{bytes_text, machine_memory};
pub use mlp::{Mlp, MlpConfig};
pub use network::{Classifier, Segmenter};
pub use params::num_params;
pub use pretrained::Pretrained;
pub use registry::{
    ModelInfo, Settings, Task, ZooError, create, create_segmenter, model_info, models,
};
pub use resnet::{
    BlockKind, ResNet, ResNetConfig, ShortcutKind, SmallResNet, SmallResNetConfig, Stem,
    UnknownStem,
};
pub use skip::{Branch, DenseSkip, LongSkip, Residual};
pub use summary::{LayerRow, Summary};
pub use unet::{UNet, UNetConfig};
