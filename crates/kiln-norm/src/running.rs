//! What the layers with running statistics share.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use kiln_kernels::channel_affine;

use crate::buffer::Buffer;

/// A parameter with one value for each channel, if it is wanted.
pub(crate) fn per_channel(
    wanted: bool,
    channels: usize,
    value: f32,
    device: &Device,
) -> Option<Param<Tensor<1>>> {
    wanted.then(|| Param::from_tensor(Tensor::full([channels], value, device)))
}

/// A buffer with one value for each channel, if it is wanted.
pub(crate) fn tracked(
    wanted: bool,
    channels: usize,
    value: f32,
    device: &Device,
) -> Option<Buffer> {
    wanted.then(|| Buffer::new(Tensor::full([channels], value, device)))
}

/// `running = (1 - momentum) * running + momentum * batch`.
pub(crate) fn blend(running: &Buffer, batch: Tensor<1>, momentum: f64) {
    running.update(|running| running * (1.0 - momentum) + batch * momentum);
}

/// Normalizes with running statistics.
pub(crate) fn with_running<const D: usize>(
    x: Tensor<D>,
    mean: &Buffer,
    var: &Buffer,
    epsilon: f64,
    weight: Option<Tensor<1>>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let mean = mean.value();
    let scale = scale(var, epsilon, weight);
    let shift = bias.unwrap_or_else(|| mean.zeros_like());
    channel_affine(x, mean, scale, shift)
}

/// `weight / sqrt(var + epsilon)`.
pub(crate) fn scale(var: &Buffer, epsilon: f64, weight: Option<Tensor<1>>) -> Tensor<1> {
    let rstd = (var.value() + epsilon).sqrt().recip();
    match weight {
        Some(weight) => rstd * weight,
        None => rstd,
    }
}
