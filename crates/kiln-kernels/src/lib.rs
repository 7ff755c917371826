//! Fused tensor operations for [Burn](https://burn.dev): the arithmetic below Kiln's layers.
//!
//! Two shapes of normalization cover every layer of `kiln-norm`:
//!
//! - [`row_norm`]: statistics over the trailing elements of one sample or group (LayerNorm, RMSNorm, GroupNorm,
//!   InstanceNorm);
//! - [`channel_norm`]: statistics over batch and space for each channel (BatchNorm in training); with statistics
//!   that are already there it is [`channel_affine`].
//!
//! Each is one operation forward and one backward, a Burn backend extension ([`NormOps`]) with several bodies:
//!
//! | backend | body | file |
//! |---|---|---|
//! | any | plain tensor operations, the reference of every test | `norm/plain.rs` |
//! | `flex` (feature `flex`) | SIMD and rayon over rows or channels | `flex/` |
//! | CubeCL's runtimes (features `wgpu`, `cuda`, `rocm`, `cpu`) | GPU kernels | `cube/` |
//!
//! [`conv2d`], [`max_pool2d`], [`relu`] and a step of [`adam`] are Burn's operations, with kernels of their own on `flex`.
//!
//! [`multi_tensor`] holds the operations on many tensors at once that gradient clipping is made of.
//!
//! A backend that has no body of its own runs the plain one, differentiated by Burn. Means and variances are
//! accumulated in `f32` or wider, also for `f16` and `bf16` inputs, in a way that survives a large mean with a small
//! variance.

mod cnn;
#[cfg(feature = "cubecl")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
mod graph;
pub mod multi_tensor;
mod norm;
mod optim;

#[cfg(feature = "flex")]
pub use cnn::{CnnOps, PoolSpec};
pub use cnn::{conv2d, max_pool2d, relu};
pub use norm::{
    Affine, ChannelSpec, NormOps, Normalized, RowSpec, channel_affine, channel_norm, plain,
    row_norm,
};
pub use optim::{AdamStep, adam, plain_adam};
