//! Gradient clipping, and what gradients tell about a training run.
//!
//! | | what | PyTorch |
//! |---|---|---|
//! | [`clip_grad_norm`] | all gradients by their global norm | `clip_grad_norm_` |
//! | [`clip_grads_with_norm`] | the same by a norm that is known | `clip_grads_with_norm_` |
//! | [`total_norm`] | the global norm alone | `get_total_norm` |
//! | [`clip_grad_value`] | each value | `clip_grad_value_` |
//! | [`clip_grad_norm_per_parameter`] | each parameter by its own norm, as Burn's `GradientClipping::Norm` | |
//! | [`AdaptiveGradClip`] | each unit by the norm of its weights (AGC) | timm's `adaptive_clip_grad` |
//! | [`AutoClip`] | the global norm by a percentile of its history | |
//! | [`ClipGroups`] | different settings for different parameters | |
//! | [`GradClip`], [`Clipper`] | any of these as a setting, `"norm:1.0"`, and at work | |
//! | [`GradHealth`] | norms, ratios, zeros of each layer's gradient, and a diagnosis | |
//!
//! Gradients go in and out as Burn's `GradientsParams`, between `backward` and the optimizer's step:
//!
//! ```
//! use burn::nn::LinearConfig;
//! use burn::optim::{GradientsParams, SgdConfig};
//! use burn::tensor::Tensor;
//! use kiln_clip::{NormType, clip_grad_norm};
//!
//! # let device = kiln_testing::devices().remove(0).autodiff();
//! let (model, mut optim) = (LinearConfig::new(4, 2).init(&device), SgdConfig::new().init());
//! let loss = model.forward(Tensor::<2>::ones([8, 4], &device)).square().mean();
//! let mut grads = GradientsParams::from_grads(loss.backward(), &model);
//! let norm = clip_grad_norm(&mut grads, &model, 1.0, NormType::L2); // on the device, not read
//! let model = optim.step(0.1, model, grads);
//! # let _ = (norm, model);
//! ```
//!
//! Numbers stay on the device: no function here waits for it unless its documentation says that it reads. f16 and bf16 gradients
//! are summed in f32, and no square overflows.

mod agc;
mod autoclip;
mod clipper;
mod config;
mod error;
mod grads;
mod health;
mod norm;
mod norm_type;
mod skip;
mod value;

pub use agc::{AdaptiveGradClip, AgcExclude};
pub use autoclip::AutoClip;
pub use clipper::{ClipGroups, ClipState, Clipped, Clipper};
pub use config::GradClip;
pub use error::ClipError;
pub use health::{Diagnosis, GradHealth, LayerHealth, Measured, Verdict};
pub use norm::{
    ClipGradNorm, check_finite, clip_grad_norm, clip_grad_norm_per_parameter, clip_grads_with_norm,
    total_norm,
};
pub use norm_type::NormType;
pub use skip::keep_if_nonfinite;
pub use value::clip_grad_value;
