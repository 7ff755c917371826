//! Batches of either task, as the training loop takes them.

use burn::tensor::Device;
use kiln_data::{Batch, DeviceDataset, DeviceLoader, DeviceMasks, MaskBatch, OnDevice};

use crate::training::data::{Batches, Epoch};

/// What a training step takes.
#[allow(clippy::large_enum_variant)] // One lives for a step; a box would only add an allocation.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Labels(Batch),
    Masks(MaskBatch),
}

/// The loader of the training images, whose position a resumed run sets.
#[derive(Clone)]
pub(crate) enum Loader {
    Labels(DeviceLoader<DeviceDataset>),
    Masks(DeviceLoader<DeviceMasks>),
}

impl Loader {
    /// Lets a last batch of a single image join the one before it.
    pub(crate) fn single_last_merged(self) -> Self {
        match self {
            Self::Labels(loader) => Self::Labels(loader.single_last_merged()),
            Self::Masks(loader) => Self::Masks(loader.single_last_merged()),
        }
    }

    /// Whether the last batch of an epoch holds a single image, if that is not merged.
    pub(crate) fn ends_with_a_single(&self) -> bool {
        match self {
            Self::Labels(loader) => loader.ends_with_a_single(),
            Self::Masks(loader) => loader.ends_with_a_single(),
        }
    }

    /// Number of images of the data.
    pub(crate) fn num_images(&self) -> usize {
        match self {
            Self::Labels(loader) => OnDevice::len(loader.dataset()),
            Self::Masks(loader) => OnDevice::len(loader.dataset()),
        }
    }
}

impl Batches<Input> for Loader {
    fn num_items(&self) -> usize {
        match self {
            Self::Labels(loader) => Batches::num_items(loader),
            Self::Masks(loader) => Batches::num_items(loader),
        }
    }

    fn num_batches(&self) -> usize {
        match self {
            Self::Labels(loader) => loader.num_batches(),
            Self::Masks(loader) => loader.num_batches(),
        }
    }

    fn epoch(&self, epoch: usize, from: usize, device: &Device) -> Epoch<'_, Input> {
        match self {
            Self::Labels(loader) => Box::new(
                loader
                    .epoch(epoch, from, device)
                    .map(|b| b.map(Input::Labels)),
            ),
            Self::Masks(loader) => Box::new(
                loader
                    .epoch(epoch, from, device)
                    .map(|b| b.map(Input::Masks)),
            ),
        }
    }
}
