//! Bytes in device memory, and how a batch of them is normalized.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::dataset::DeviceDatasetError;
use crate::scale::{ScaleError, Scaler};

/// 8-bit images, four bytes in an `i32`: not every GPU language has an 8-bit type.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    /// `[len, ceil(pixels / 4)]`, little-endian.
    words: Tensor<2, Int>,
    pub(super) shape: [usize; 3],
}

impl Packed {
    /// Copies `len` images to a device.
    pub(super) fn new(
        bytes: &[u8],
        len: usize,
        shape: [usize; 3],
        device: &Device,
    ) -> Result<Self, DeviceDatasetError> {
        if len == 0 {
            return Err(DeviceDatasetError::Empty);
        }
        if len > i32::MAX as usize {
            return Err(DeviceDatasetError::TooMany(len));
        }
        let image = shape.iter().product::<usize>();
        let words = image.div_ceil(4);
        let mut packed = Vec::with_capacity(len * words);
        for row in bytes.chunks_exact(image) {
            packed.extend(row.chunks(4).map(|bytes| {
                let mut word = [0; 4];
                word[..bytes.len()].copy_from_slice(bytes);
                i32::from_le_bytes(word)
            }));
        }
        // The data itself needs no gradient: a batch joins the autodiff graph in the model.
        let device = device.clone().without_autodiff();
        let packed = TensorData::new(packed, [len, words]);
        Ok(Self {
            words: Tensor::from_data(packed, (&device, DType::I32)),
            shape,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.words.dims()[0]
    }

    pub(super) fn device(&self) -> Device {
        self.words.device()
    }

    pub(super) fn slice(&self, start: usize, end: usize) -> Self {
        Self {
            words: self.words.clone().slice(start..end),
            shape: self.shape,
        }
    }

    pub(super) fn to_device(&self, device: &Device) -> Self {
        Self {
            words: self.words.clone().to_device(device),
            shape: self.shape,
        }
    }

    /// The images at `indices` (`[batch]`), 0 to 255, `[batch, channels, height, width]`.
    pub(super) fn rows(&self, indices: Tensor<1, Int>) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let [batch] = indices.dims();
        let [_, words] = self.words.dims();
        let device = self.device();
        let shifts = TensorData::new(vec![0, 8, 16, 24], [1, 1, 4]);
        let shifts = Tensor::<3, Int>::from_data(shifts, (&device, DType::I32));
        let bytes = self
            .words
            .clone()
            .select(0, indices)
            .reshape([batch, words, 1])
            .bitwise_right_shift(shifts)
            .bitwise_and_scalar(255)
            .reshape([batch, words * 4]);
        let pixels = channels * height * width;
        let bytes = match pixels == words * 4 {
            true => bytes,
            false => bytes.slice([0..batch, 0..pixels]),
        };
        bytes.reshape([batch, channels, height, width]).float()
    }
}

/// `x = (pixel / 255 - mean) / std` for each channel, and then what a scaler does beside.
#[derive(Clone, Debug)]
pub(super) struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
    /// What mean and standard deviation cannot say, after them.
    scaler: Option<Arc<Scaler>>,
}

impl Normalize {
    /// `pixel / 255`.
    pub(super) fn none(channels: usize) -> Self {
        Self {
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
            scaler: None,
        }
    }

    pub(super) fn new(
        channels: usize,
        mean: &[f32],
        std: &[f32],
    ) -> Result<Self, DeviceDatasetError> {
        let fits = mean.len() == channels && std.len() == channels;
        if !fits || !mean.iter().all(|m| m.is_finite()) || !std.iter().all(|&s| s > 0.0) {
            return Err(DeviceDatasetError::Normalization {
                channels,
                mean: mean.to_vec(),
                std: std.to_vec(),
            });
        }
        Ok(Self {
            mean: mean.to_vec(),
            std: std.to_vec(),
            scaler: None,
        })
    }

    pub(super) fn scaled(channels: usize, scaler: &Scaler) -> Result<Self, ScaleError> {
        scaler.check(channels)?;
        let to_f32 = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
        // One multiplication and one subtraction, where that is all it does.
        Ok(match scaler.mean_and_std() {
            Some((mean, std)) => Self {
                mean: to_f32(mean),
                std: to_f32(std),
                scaler: None,
            },
            None => Self {
                scaler: Some(Arc::new(scaler.clone())),
                ..Self::none(channels)
            },
        })
    }

    /// Normalizes pixels from 0 to 255, `[batch, channels, height, width]`.
    pub(super) fn apply(&self, images: Tensor<4>) -> Tensor<4> {
        let images = self.shift_and_scale(images);
        match &self.scaler {
            Some(scaler) => scaler
                .transform(&images)
                .expect("it was checked against the channels, and tensors are not looked at"),
            None => images,
        }
    }

    fn shift_and_scale(&self, images: Tensor<4>) -> Tensor<4> {
        let scale: Vec<f32> = self.std.iter().map(|std| 1.0 / (255.0 * std)).collect();
        let shift: Vec<f32> = self
            .mean
            .iter()
            .zip(&self.std)
            .map(|(m, s)| m / s)
            .collect();
        if let ([scale], [shift]) = (&scale[..], &shift[..]) {
            return images.mul_scalar(*scale).sub_scalar(*shift);
        }
        let device = images.device();
        let per_channel = |values: Vec<f32>| {
            let shape = [1, values.len(), 1, 1];
            Tensor::<4>::from_data(TensorData::new(values, shape), &device)
        };
        images * per_channel(scale) - per_channel(shift)
    }
}
