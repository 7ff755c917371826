//! Batches of either task, as the training loop takes them.

use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use kiln_data::{Batch, DeviceDataset, DeviceLoader, DeviceMasks, MaskBatch, OnDevice};

/// What a training step takes.
#[allow(clippy::large_enum_variant)] // One lives for a step; a box would only add an allocation.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Labels(Batch),
    Masks(MaskBatch),
}

impl From<Batch> for Input {
    fn from(batch: Batch) -> Self {
        Self::Labels(batch)
    }
}

impl From<MaskBatch> for Input {
    fn from(batch: MaskBatch) -> Self {
        Self::Masks(batch)
    }
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

    pub(crate) fn num_batches(&self) -> usize {
        match self {
            Self::Labels(loader) => loader.num_batches(),
            Self::Masks(loader) => loader.num_batches(),
        }
    }

    pub(crate) fn num_items(&self) -> usize {
        match self {
            Self::Labels(loader) => loader.num_items(),
            Self::Masks(loader) => loader.num_items(),
        }
    }

    pub(crate) fn set_position(&self, epoch: usize, batch: usize) {
        match self {
            Self::Labels(loader) => loader.set_position(epoch, batch),
            Self::Masks(loader) => loader.set_position(epoch, batch),
        }
    }

    /// The same loader for burn-train: a position set on one holds for both.
    pub(crate) fn shared(&self) -> Arc<dyn DataLoader<Input>> {
        match self {
            Self::Labels(loader) => wrap(loader.clone()),
            Self::Masks(loader) => wrap(loader.clone()),
        }
    }
}

fn wrap<D: OnDevice>(loader: DeviceLoader<D>) -> Arc<dyn DataLoader<Input>>
where
    Input: From<D::Batch>,
{
    Arc::new(Wrapped(Arc::new(loader)))
}

/// A loader whose batches become [`Input`]s.
struct Wrapped<B>(Arc<dyn DataLoader<B>>);

impl<B: 'static> DataLoader<Input> for Wrapped<B>
where
    Input: From<B>,
{
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Input> + 'a> {
        Box::new(Inputs(self.0.iter()))
    }

    fn num_items(&self) -> usize {
        self.0.num_items()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<Input>> {
        Arc::new(Self(self.0.to_device(device)))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<Input>> {
        Arc::new(Self(self.0.slice(start, end)))
    }
}

struct Inputs<'a, B>(Box<dyn DataLoaderIterator<B> + 'a>);

impl<B> Iterator for Inputs<'_, B>
where
    Input: From<B>,
{
    type Item = Result<Input, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|batch| batch.map(Input::from))
    }
}

impl<B> DataLoaderIterator<Input> for Inputs<'_, B>
where
    Input: From<B>,
{
    fn progress(&self) -> Progress {
        self.0.progress()
    }
}
