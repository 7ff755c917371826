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

mod cnn;
mod mlp;
mod params;
mod registry;
pub mod weights;

pub use cnn::{Cnn, CnnConfig};
pub use mlp::{Mlp, MlpConfig};
pub use params::num_params;
pub use registry::{Classifier, ModelInfo, Settings, ZooError, create, models};
