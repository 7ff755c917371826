//! [`DeviceDataset`]: images and labels in device memory.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use thiserror::Error;

use super::augment::{Padding, Sample};
use super::loader::OnDevice;
use super::pixels::{Normalize, Packed};
use crate::LabeledImages;
use crate::scale::{ScaleError, Scaler};

/// Images and labels that belong together, as a training step takes them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Normalized images, `[batch, channels, height, width]`.
    pub images: Tensor<4>,
    /// Class indices, `[batch]`.
    pub labels: Tensor<1, Int>,
    /// What else is in the images, if they were [mixed](crate::Augment::mixup).
    pub mixed: Option<Mixed>,
}

/// The other half of mixed images: their loss is `share · loss(labels) + (1 - share) · loss(mixed.labels)`.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// Classes of the images that were mixed in, `[batch]`.
    pub labels: Tensor<1, Int>,
    /// How much of each image is its own, `[1]`, 0.5 to 1.
    pub share: Tensor<1>,
}

/// Why arrays do not form a data set.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum DeviceDatasetError {
    /// There is nothing to train on.
    #[error("the data set is empty; at least one image is needed")]
    Empty,
    /// More images than an `i32` index reaches.
    #[error("{0} images are too many for one data set; at most 2147483647")]
    TooMany(usize),
    /// The normalization does not fit the images.
    #[error(
        "normalization needs one finite mean and one positive standard deviation for each of {channels} channels, but got mean {mean:?} and std {std:?}"
    )]
    Normalization {
        /// Channels of an image.
        channels: usize,
        /// The means given.
        mean: Vec<f32>,
        /// The standard deviations given.
        std: Vec<f32>,
    },
}

/// A labelled image data set in device memory.
///
/// Pixels stay one byte each: four are packed into an `i32`, because not every GPU language has
/// an 8-bit type. [`batch`](Self::batch) gathers rows by index on the device, unpacks them there and
/// normalizes them: `x = (pixel / 255 - mean) / std`. Nothing but the indices has to reach the
/// device during training, and those once an epoch (see [`DeviceLoader`](super::DeviceLoader)).
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use kiln_data::{DeviceDataset, LabeledImages};
/// # let device = kiln_testing::devices().remove(0);
/// let pixels = vec![0, 255, 0, 255, 255, 255, 0, 0];
/// let classes = vec!["off".into(), "on".into()];
/// let data = LabeledImages::new("pair", classes, [1, 2, 2], pixels, vec![0, 1])?;
/// let data = DeviceDataset::new(&data, &device)?;
/// let batch = data.batch(Tensor::<1, Int>::from_ints([1], &device), None);
/// assert_eq!(batch.images.dims(), [1, 1, 2, 2]);
/// assert_eq!(batch.images.try_into_vec_as::<f32>().unwrap(), [1.0, 1.0, 0.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeviceDataset {
    pixels: Packed,
    labels: Tensor<1, Int>,
    normalize: Normalize,
}

impl DeviceDataset {
    /// Copies a data set to `device`.
    ///
    /// Without [`normalized`](Self::normalized), a batch holds `pixel / 255`.
    ///
    /// # Errors
    ///
    /// If the data set is empty or has more images than an `i32` can count.
    pub fn new(data: &LabeledImages, device: &Device) -> Result<Self, DeviceDatasetError> {
        let (len, shape) = (data.len(), data.shape());
        let pixels = Packed::new(data.images(), len, shape, device)?;
        let labels: Vec<i32> = data
            .labels()
            .iter()
            .map(|&label| i32::from(label))
            .collect();
        let device = pixels.device();
        let labels = TensorData::new(labels, [len]);
        Ok(Self {
            pixels,
            labels: Tensor::from_data(labels, (&device, DType::I32)),
            normalize: Normalize::none(shape[0]),
        })
    }

    /// Normalizes every batch with these means and standard deviations, one for each channel, of
    /// pixels scaled to `[0, 1]`.
    ///
    /// # Errors
    ///
    /// If there is not one finite mean and one positive standard deviation for each channel.
    pub fn normalized(mut self, mean: &[f32], std: &[f32]) -> Result<Self, DeviceDatasetError> {
        self.normalize = Normalize::new(self.shape()[0], mean, std)?;
        Ok(self)
    }

    /// Scales every batch by a scaler that was fitted on pixels scaled to `[0, 1]`, one feature for each channel.
    ///
    /// ```
    /// use burn::tensor::{Int, Tensor};
    /// use kiln_data::scale::Scaler;
    /// use kiln_data::{DeviceDataset, Digits, Split};
    /// # let device = kiln_testing::devices().remove(0);
    /// let digits = Digits::new(1).generate(Split::Train, 20);
    /// let mut scaler: Scaler = "minmax:-1,1".parse()?;
    /// scaler.fit(&digits)?;
    /// let data = DeviceDataset::new(&digits, &device)?.scaled(&scaler)?;
    /// let batch = data.batch(Tensor::<1, Int>::from_ints([0], &device), None);
    /// let lowest = batch.images.min().into_scalar::<f32>();
    /// assert!((lowest + 1.0).abs() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the scaler is not fitted, or was fitted on another number of channels.
    pub fn scaled(mut self, scaler: &Scaler) -> Result<Self, ScaleError> {
        self.normalize = Normalize::scaled(self.shape()[0], scaler)?;
        Ok(self)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.dims()[0]
    }

    /// Never true: an empty data set is refused by [`new`](Self::new).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels, height and width of an image.
    pub fn shape(&self) -> [usize; 3] {
        self.pixels.shape
    }

    /// The device that holds the data.
    pub fn device(&self) -> Device {
        self.labels.device()
    }

    /// The images `start..end` as a data set of their own (they are copied on the device).
    ///
    /// # Panics
    ///
    /// If the range is empty or reaches past the end.
    pub fn slice(&self, start: usize, end: usize) -> Self {
        assert!(
            start < end && end <= self.len(),
            "a data set of {} images has no non-empty range {start}..{end}",
            self.len()
        );
        Self {
            pixels: self.pixels.slice(start, end),
            labels: self.labels.clone().slice(start..end),
            ..self.clone()
        }
    }

    /// The data set on another device; a copy only if it is not there already.
    pub fn to_device(&self, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        if device == self.device() {
            return self.clone();
        }
        Self {
            pixels: self.pixels.to_device(&device),
            labels: self.labels.clone().to_device(&device),
            ..self.clone()
        }
    }

    /// Gathers a batch on the device.
    ///
    /// # Shapes
    ///
    /// - `indices`: `[batch]`, each below [`len`](Self::len), on the data set's device
    /// - `sample`: what is drawn for each image, or none
    /// - images: `[batch, channels, height, width]`, of the crop's size if there is one; labels: `[batch]`
    pub fn batch(&self, indices: Tensor<1, Int>, sample: Option<Sample>) -> Batch {
        let labels = self.labels.clone().select(0, indices.clone());
        let images = self.pixels.rows(indices);
        // Before normalizing, so that what moves in from outside is black.
        let images = match &sample {
            Some(sample) => sample.transform(images, Padding::Black),
            None => images,
        };
        let images = self.normalize.apply(images);
        let (images, mixed) = match &sample {
            Some(sample) => sample.mix(sample.cut_out(images), &labels),
            None => (images, None),
        };
        Batch {
            images,
            labels,
            mixed,
        }
    }
}

impl OnDevice for DeviceDataset {
    type Batch = Batch;

    fn len(&self) -> usize {
        self.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape()
    }

    fn device(&self) -> Device {
        self.device()
    }

    fn to_device(&self, device: &Device) -> Self {
        self.to_device(device)
    }

    fn slice(&self, start: usize, end: usize) -> Self {
        self.slice(start, end)
    }

    fn form(&self, indices: Tensor<1, Int>, sample: Option<Sample>) -> Batch {
        self.batch(indices, sample)
    }

    fn autodiff(batch: Batch) -> Batch {
        Batch {
            images: batch.images.autodiff(),
            labels: batch.labels.autodiff(),
            mixed: batch.mixed.map(|mixed| Mixed {
                labels: mixed.labels.autodiff(),
                share: mixed.share.autodiff(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labeled(pixels: &[u8], shape: [usize; 3], labels: &[u16]) -> LabeledImages {
        let classes = (0..10).map(|c| c.to_string()).collect();
        LabeledImages::new("test", classes, shape, pixels.to_vec(), labels.to_vec()).unwrap()
    }

    fn pixels(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 37 % 256) as u8).collect()
    }

    #[test]
    fn a_batch_holds_the_chosen_images_and_labels_normalized() {
        for device in kiln_testing::devices() {
            // 15 pixels: not a multiple of four, so the padding of the last word is cut off again.
            let (shape, len) = ([1, 3, 5], 7);
            let raw = pixels(len * 15);
            let labels: Vec<u16> = (0..len as u16).collect();
            let data = DeviceDataset::new(&labeled(&raw, shape, &labels), &device)
                .unwrap()
                .normalized(&[0.25], &[0.5])
                .unwrap();
            let chosen = [6, 0, 3, 3];
            let indices = Tensor::<1, Int>::from_ints(chosen, &device);
            let batch = data.batch(indices, None);
            assert_eq!(batch.images.dims(), [4, 1, 3, 5]);
            let got = batch.images.try_into_vec_as::<f32>().unwrap();
            assert_eq!(batch.labels.try_into_vec_as::<i32>().unwrap(), chosen);
            for (row, &index) in chosen.iter().enumerate() {
                for pixel in 0..15 {
                    let byte = f32::from(raw[index as usize * 15 + pixel]);
                    let expected = (byte / 255.0 - 0.25) / 0.5;
                    let got = got[row * 15 + pixel];
                    assert!(
                        (got - expected).abs() < 1e-6,
                        "{device:?}: {got} != {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn labels_of_more_classes_than_a_byte_counts_reach_the_device() {
        for device in kiln_testing::devices() {
            let classes = (0..300).map(|c| c.to_string()).collect();
            let data = LabeledImages::new("t", classes, [1, 1, 1], vec![0; 3], vec![299, 256, 3]);
            let data = DeviceDataset::new(&data.unwrap(), &device).unwrap();
            let batch = data.batch(Tensor::<1, Int>::from_ints([1, 0], &device), None);
            assert_eq!(batch.labels.try_into_vec_as::<i32>().unwrap(), [256, 299]);
        }
    }

    #[test]
    fn channels_are_normalized_each_by_its_own_mean_and_std() {
        for device in kiln_testing::devices() {
            let data = DeviceDataset::new(&labeled(&[255, 51, 0], [3, 1, 1], &[0]), &device)
                .unwrap()
                .normalized(&[0.5, 0.2, 0.1], &[0.5, 1.0, 0.1])
                .unwrap();
            let batch = data.batch(Tensor::<1, Int>::from_ints([0], &device), None);
            let got = batch.images.try_into_vec_as::<f32>().unwrap();
            for (got, expected) in got.iter().zip([1.0, 0.0, -1.0]) {
                assert!(
                    (got - expected).abs() < 1e-6,
                    "{device:?}: {got} != {expected}"
                );
            }
        }
    }

    #[test]
    fn an_empty_data_set_and_a_normalization_that_does_not_fit_are_refused() {
        let device = kiln_testing::devices().remove(0);
        let new = |data: &LabeledImages| DeviceDataset::new(data, &device);
        let empty = new(&labeled(&[], [1, 2, 2], &[])).unwrap_err();
        assert_eq!(empty, DeviceDatasetError::Empty);
        let data = new(&labeled(&[0; 4], [1, 2, 2], &[1])).unwrap();
        assert!(data.clone().normalized(&[0.0, 0.0], &[1.0, 1.0]).is_err());
        assert!(data.clone().normalized(&[0.0], &[0.0]).is_err());
        assert!(data.normalized(&[f32::NAN], &[1.0]).is_err());
    }
}
