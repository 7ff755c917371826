//! [`DeviceMasks`]: images and masks in device memory.

use burn::tensor::{Device, Int, Tensor};

use super::augment::{Padding, Sample};
use super::dataset::DeviceDatasetError;
use super::loader::OnDevice;
use super::pixels::{Normalize, Packed};
use crate::MaskedImages;
use crate::scale::{ScaleError, Scaler};

/// Images and masks that belong together, as a training step takes them.
#[derive(Clone, Debug)]
pub struct MaskBatch {
    /// Normalized images, `[batch, channels, height, width]`.
    pub images: Tensor<4>,
    /// Class indices, `[batch, height, width]`.
    pub masks: Tensor<3, Int>,
    /// Whether [`MaskedImages::IGNORED`] among them stands for pixels that count for nothing.
    pub ignores: bool,
}

/// A data set for segmentation in device memory.
///
/// Pixels and masks stay one byte each there, as in [`DeviceDataset`](super::DeviceDataset). What moves an image
/// moves its mask: the image by linear interpolation, the mask by its nearest value. What lies outside an image is its
/// mirror image, and the mask's (Ronneberger et al. 2015, <https://arxiv.org/abs/1505.04597>).
///
/// ```
/// use kiln_data::{Augment, DeviceLoader, DeviceMasks, Shapes, Split};
/// use burn::data::dataloader::DataLoader;
/// # let device = kiln_testing::devices().remove(0);
/// let data = DeviceMasks::new(&Shapes::new(1).generate(Split::Train, 4), &device)?;
/// let augment = Augment { hflip: 0.5, elastic: 2.0, crop_size: Some([32, 32]), ..Default::default() };
/// let loader = DeviceLoader::new(data, 2).shuffled(42).augmented(augment);
/// let batch = loader.iter().next().unwrap()?;
/// assert_eq!(batch.images.dims(), [2, 3, 32, 32]);
/// assert_eq!(batch.masks.dims(), [2, 32, 32]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeviceMasks {
    pixels: Packed,
    masks: Packed,
    ignores: bool,
    normalize: Normalize,
}

impl DeviceMasks {
    /// Copies a data set to `device`; without [`scaled`](Self::scaled), a batch holds `pixel / 255`.
    ///
    /// # Errors
    ///
    /// If the data set is empty or has more images than an `i32` can count.
    pub fn new(data: &MaskedImages, device: &Device) -> Result<Self, DeviceDatasetError> {
        let (len, [channels, height, width]) = (data.len(), data.shape());
        Ok(Self {
            pixels: Packed::new(data.images(), len, data.shape(), device)?,
            masks: Packed::new(data.masks(), len, [1, height, width], device)?,
            ignores: data.ignore_value().is_some(),
            normalize: Normalize::none(channels),
        })
    }

    /// Scales every batch by a scaler that was fitted on pixels scaled to `[0, 1]`, one feature for each channel.
    ///
    /// # Errors
    ///
    /// If the scaler is not fitted, or was fitted on another number of channels.
    pub fn scaled(mut self, scaler: &Scaler) -> Result<Self, ScaleError> {
        self.normalize = Normalize::scaled(self.pixels.shape[0], scaler)?;
        Ok(self)
    }
}

impl OnDevice for DeviceMasks {
    type Batch = MaskBatch;

    fn len(&self) -> usize {
        self.pixels.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.pixels.shape
    }

    fn device(&self) -> Device {
        self.pixels.device()
    }

    fn to_device(&self, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        if device == self.device() {
            return self.clone();
        }
        Self {
            pixels: self.pixels.to_device(&device),
            masks: self.masks.to_device(&device),
            ignores: self.ignores,
            normalize: self.normalize.clone(),
        }
    }

    fn slice(&self, start: usize, end: usize) -> Self {
        Self {
            pixels: self.pixels.slice(start, end),
            masks: self.masks.slice(start, end),
            ignores: self.ignores,
            normalize: self.normalize.clone(),
        }
    }

    fn form(&self, indices: Tensor<1, Int>, sample: Option<Sample>) -> MaskBatch {
        let masks = self.masks.rows(indices.clone());
        let images = self.pixels.rows(indices);
        let (images, masks) = match &sample {
            Some(sample) => (
                sample.transform(images, Padding::Mirror),
                sample.transform_mask(masks),
            ),
            None => (images, masks),
        };
        let images = self.normalize.apply(images);
        let images = match &sample {
            Some(sample) => sample.cut_out(images),
            None => images,
        };
        let [batch, _, height, width] = masks.dims();
        MaskBatch {
            images,
            masks: masks.reshape([batch, height, width]).int(),
            ignores: self.ignores,
        }
    }

    fn autodiff(batch: MaskBatch) -> MaskBatch {
        MaskBatch {
            images: batch.images.autodiff(),
            masks: batch.masks.autodiff(),
            ignores: batch.ignores,
        }
    }
}
