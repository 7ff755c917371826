//! Normalization layers for [Burn](https://burn.dev), equal to PyTorch's layers of the same names in every option.
//!
//! | layer | statistics over | PyTorch |
//! |---|---|---|
//! | [`BatchNorm`] | batch and space, for each channel | `BatchNorm1d`, `2d`, `3d` |
//! | [`LayerNorm`] | the trailing axes of `normalized_shape` | `LayerNorm` |
//! | [`InstanceNorm`] | space, for each sample and channel | `InstanceNorm1d`, `2d`, `3d` |
//! | [`GroupNorm`] | space and a group of channels, for each sample | `GroupNorm` |
//! | [`RmsNorm`] | the trailing axes, without subtracting the mean | `RMSNorm` |
//! | [`LocalResponseNorm`] | neighbouring channels of a position | `LocalResponseNorm` |
//!
//! Each is Burn's trio of `XConfig::new(..)`, `init(&device)` and `forward`. Parameters and buffers have PyTorch's
//! names: `weight`, `bias`, `running_mean`, `running_var`, `num_batches_tracked`. [`Norm`] is the setting by which a
//! model chooses its normalization (`"batch"`, `"group:8"`, ...), [`NormLayer`] the layer that it makes.
//!
//! As everywhere in Burn, an autodiff device means training: there BatchNorm normalizes with the statistics of the
//! batch and updates the running ones, unless the layer is frozen.
//!
//! The arithmetic is `kiln-kernels`': fused on the backends that this build names by its features (`flex`, `wgpu`,
//! `cuda`, `rocm`, `cpu`), plain tensor operations on any other.
//!
//! ```no_run
//! use burn::tensor::{Device, Distribution, Tensor};
//! use kiln_norm::{BatchNormConfig, Norm};
//!
//! let device = Device::default().autodiff();
//! let x = Tensor::<4>::random([8, 16, 28, 28], Distribution::Default, &device);
//! let y = BatchNormConfig::new(16).init(&device).forward(x.clone());
//! assert_eq!(y.dims(), [8, 16, 28, 28]);
//!
//! let norm: Norm = "group:4".parse()?;
//! let y = norm.init(16, &device)?.forward(x);
//! # Ok::<(), kiln_norm::NormError>(())
//! ```

mod batch;
mod buffer;
mod group;
mod instance;
mod layer;
mod lrn;
mod rms;
mod running;
mod setting;
mod shape;
mod weights;

pub use batch::{BatchNorm, BatchNormConfig};
pub use buffer::Buffer;
pub use group::{GroupNorm, GroupNormConfig};
pub use instance::{InstanceNorm, InstanceNormConfig};
pub use layer::{LayerNorm, LayerNormConfig};
pub use lrn::{LocalResponseNorm, LocalResponseNormConfig};
pub use rms::{RmsNorm, RmsNormConfig};
pub use setting::{Identity, Norm, NormError, NormLayer};
pub use shape::NormalizedShape;
pub use weights::Weights;
