//! Bilinear enlargement.

use burn::tensor::{Device, Tensor, TensorData};

/// Height and width doubled by bilinear interpolation that keeps the corners in place, as PyTorch's
/// `Upsample(scale_factor=2, mode="bilinear", align_corners=True)`.
///
/// It is two matrix products, one for each axis: Burn's own interpolation has no gradient on some backends.
pub(crate) fn bilinear_2x(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let device = x.device();
    let rows: Tensor<4> = weights(height, &device).unsqueeze();
    let columns: Tensor<2> = weights(width, &device).transpose();
    // One product for all rows of all maps.
    let x = x
        .reshape([batch * channels * height, width])
        .matmul(columns);
    rows.matmul(x.reshape([batch, channels, height, 2 * width]))
}

/// `[2 * size, size]`: how much each input counts in each output.
fn weights(size: usize, device: &Device) -> Tensor<2> {
    let mut data = vec![0.0f32; 2 * size * size];
    for to in 0..2 * size {
        let position = match size {
            1 => 0.0,
            // The first and last of both lie on each other.
            _ => (to * (size - 1)) as f64 / (2 * size - 1) as f64,
        };
        let low = (position.floor() as usize).min(size - 1);
        let part = position - low as f64;
        data[to * size + low] += (1.0 - part) as f32;
        if low + 1 < size {
            data[to * size + low + 1] += part as f32;
        }
    }
    Tensor::from_data(TensorData::new(data, [2 * size, size]), device)
}
