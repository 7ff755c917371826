//! Data as a training loop takes them: batches in an order that the seed and the epoch alone decide.

use std::marker::PhantomData;
use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::kind::Basic;
use burn::tensor::{DType, Device, Float, Int, Tensor, TensorData};
use kiln_data::{DeviceLoader, OnDevice, permutation};

/// An epoch's batches, one after the other.
pub type Epoch<'a, B> = Box<dyn Iterator<Item = Result<B, DatasetError>> + 'a>;

/// Batches of one part of the data (to train on, or to validate on), whose order is a function of the epoch.
///
/// [`DatasetBatches`] makes them of any burn `Dataset` and its batcher, [`TensorBatches`] of features and targets in
/// memory, [`IterBatches`] of an iterator; [`DeviceLoader`] is what the recipes use.
pub trait Batches<B>: Send + Sync {
    /// Items of an epoch: images, rows, sequences.
    fn num_items(&self) -> usize;

    /// Batches of an epoch, exactly as many as [`epoch`](Self::epoch) gives; never 0.
    fn num_batches(&self) -> usize;

    /// The batches of an epoch (from 1) on a device, without the first `from`. It must give the same ones whenever it is
    /// asked for the same epoch, or a resumed run would not go on where it was.
    fn epoch(&self, epoch: usize, from: usize, device: &Device) -> Epoch<'_, B>;
}

impl<D: OnDevice> Batches<D::Batch> for DeviceLoader<D> {
    fn num_items(&self) -> usize {
        DataLoader::num_items(self)
    }

    fn num_batches(&self) -> usize {
        DeviceLoader::num_batches(self)
    }

    fn epoch(&self, epoch: usize, from: usize, device: &Device) -> Epoch<'_, D::Batch> {
        Box::new(DeviceLoader::epoch(self, epoch, from, device))
    }
}

impl<B, T: Batches<B> + ?Sized> Batches<B> for Arc<T> {
    fn num_items(&self) -> usize {
        (**self).num_items()
    }

    fn num_batches(&self) -> usize {
        (**self).num_batches()
    }

    fn epoch(&self, epoch: usize, from: usize, device: &Device) -> Epoch<'_, B> {
        (**self).epoch(epoch, from, device)
    }
}

/// The items of an epoch in its order: shuffled by seed and epoch, or as they are.
fn order(items: usize, seed: Option<u64>, epoch: usize) -> Vec<i32> {
    match seed {
        Some(seed) => permutation(items, seed, epoch as u64),
        None => (0..items as i32).collect(),
    }
}

/// Batches of a burn [`Dataset`], formed by a burn [`Batcher`]. The last batch is kept, smaller or not.
///
/// ```
/// use burn::data::{dataloader::batcher::Batcher, dataset::InMemDataset};
/// use burn::tensor::{Device, Tensor};
/// use kiln_train::{Batches, DatasetBatches};
/// # let device = kiln_testing::devices().remove(0);
/// #[derive(Clone)]
/// struct Numbers;
/// impl Batcher<f32, Tensor<1>> for Numbers {
///     fn batch(&self, items: Vec<f32>, device: &Device) -> Tensor<1> {
///         Tensor::from_floats(items.as_slice(), device)
///     }
/// }
/// let batches = DatasetBatches::new(InMemDataset::new(vec![1.0, 2.0, 3.0]), Numbers, 2).shuffled(7);
/// let sizes: Vec<_> = batches.epoch(1, 0, &device).map(|batch| batch.unwrap().dims()[0]).collect();
/// assert_eq!(sizes, [2, 1]);
/// ```
pub struct DatasetBatches<D, I, C> {
    dataset: D,
    batcher: C,
    batch_size: usize,
    seed: Option<u64>,
    item: PhantomData<fn() -> I>,
}

impl<D: Dataset<I>, I, C> DatasetBatches<D, I, C> {
    /// Batches of `batch_size` items in the data set's order.
    ///
    /// # Panics
    ///
    /// If `batch_size` is zero, or the data set is empty.
    pub fn new(dataset: D, batcher: C, batch_size: usize) -> Self {
        assert!(batch_size > 0, "batch_size must be at least 1, but got 0");
        assert!(dataset.len() > 0, "a data set needs at least 1 item");
        Self {
            dataset,
            batcher,
            batch_size,
            seed: None,
            item: PhantomData,
        }
    }

    /// Shuffles every epoch anew, by `seed` and the epoch's number.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl<D, I, C, B> Batches<B> for DatasetBatches<D, I, C>
where
    D: Dataset<I>,
    C: Batcher<I, B>,
    I: Send + Sync,
{
    fn num_items(&self) -> usize {
        self.dataset.len()
    }

    fn num_batches(&self) -> usize {
        self.dataset.len().div_ceil(self.batch_size)
    }

    fn epoch(&self, epoch: usize, from: usize, device: &Device) -> Epoch<'_, B> {
        let device = device.clone();
        let order = order(self.dataset.len(), self.seed, epoch);
        Box::new((from..self.num_batches()).map(move |batch| {
            let start = batch * self.batch_size;
            let end = order.len().min(start + self.batch_size);
            let indices = order[start..end].iter().map(|&index| index as usize);
            let items = self.dataset.get_many(indices.collect())?;
            Ok(self.batcher.batch(items, &device))
        }))
    }
}

/// Features and targets of a batch.
#[derive(Clone, Debug)]
pub struct TensorBatch<const F: usize, const T: usize, K: Basic = Float> {
    /// What the model takes, `[batch, ...]`.
    pub features: Tensor<F>,
    /// What it should say of them, `[batch, ...]`.
    pub targets: Tensor<T, K>,
}

/// Batches of features and targets that are tensors of any shape, in memory: tables, signals, images. A batch is gathered on
/// the device that holds them. As `torch.utils.data.TensorDataset` in a `DataLoader`.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_train::{Batches, TensorBatches};
/// # let device = kiln_testing::devices().remove(0);
/// let (features, targets) = (Tensor::<2>::zeros([5, 3], &device), Tensor::<1>::ones([5], &device));
/// let batches = TensorBatches::new(features, targets, 2).shuffled(7);
/// let shapes: Vec<_> = batches.epoch(1, 1, &device).map(|batch| batch.unwrap().features.dims()).collect();
/// assert_eq!(shapes, [[2, 3], [1, 3]]);
/// ```
#[derive(Clone, Debug)]
pub struct TensorBatches<const F: usize, const T: usize, K: Basic = Float> {
    data: TensorBatch<F, T, K>,
    batch_size: usize,
    seed: Option<u64>,
}

impl<const F: usize, const T: usize, K: Basic> TensorBatches<F, T, K> {
    /// Batches of `batch_size` rows of `features` `[rows, ...]` and `targets` `[rows, ...]`, in their order.
    ///
    /// # Panics
    ///
    /// If `batch_size` is zero, or the two have not the same number of rows, at least one.
    pub fn new(features: Tensor<F>, targets: Tensor<T, K>, batch_size: usize) -> Self {
        assert!(batch_size > 0, "batch_size must be at least 1, but got 0");
        let rows = (features.shape()[0], targets.shape()[0]);
        assert!(
            rows.0 == rows.1 && rows.0 > 0,
            "features and targets need the same number of rows, at least 1, but got {} and {}",
            rows.0,
            rows.1
        );
        Self {
            data: TensorBatch { features, targets },
            batch_size,
            seed: None,
        }
    }

    /// Shuffles every epoch anew, by `seed` and the epoch's number.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl<const F: usize, const T: usize, K: Basic> Batches<TensorBatch<F, T, K>>
    for TensorBatches<F, T, K>
where
    Tensor<T, K>: Send + Sync,
{
    fn num_items(&self) -> usize {
        self.data.features.shape()[0]
    }

    fn num_batches(&self) -> usize {
        self.num_items().div_ceil(self.batch_size)
    }

    fn epoch(&self, epoch: usize, from: usize, device: &Device) -> Epoch<'_, TensorBatch<F, T, K>> {
        let len = self.num_items();
        let order = order(len, self.seed, epoch);
        let device = device.clone();
        let order = Tensor::<1, Int>::from_data(
            TensorData::new(order, [len]),
            (&self.data.features.device(), DType::I32),
        );
        Box::new((from..self.num_batches()).map(move |batch| {
            let start = batch * self.batch_size;
            let rows = order.clone().slice(start..len.min(start + self.batch_size));
            let TensorBatch { features, targets } = self.data.clone();
            Ok(TensorBatch {
                features: features.select(0, rows.clone()).to_device(&device),
                targets: targets.select(0, rows).to_device(&device),
            })
        }))
    }
}

/// Batches that an iterator gives, for each epoch anew: streams, generators.
///
/// ```
/// use kiln_train::{Batches, IterBatches};
/// # let device = kiln_testing::devices().remove(0);
/// let batches = IterBatches::new(20, 2, |epoch, _device| (0..2).map(move |batch| (epoch, batch)));
/// let rest: Vec<_> = batches.epoch(3, 1, &device).map(Result::unwrap).collect();
/// assert_eq!(rest, [(3, 1)]);
/// ```
pub struct IterBatches<F> {
    items: usize,
    batches: usize,
    make: F,
}

impl<F> IterBatches<F> {
    /// `make` gives the `batches` batches of an epoch, which hold `items` items together. It gets the number of the epoch,
    /// from 1, and must give the same batches for the same one; a resumed run passes over those that it has had.
    ///
    /// # Panics
    ///
    /// If `batches` is zero.
    pub fn new(items: usize, batches: usize, make: F) -> Self {
        assert!(batches > 0, "an epoch needs at least 1 batch, but got 0");
        Self {
            items,
            batches,
            make,
        }
    }
}

impl<B: 'static, F, I> Batches<B> for IterBatches<F>
where
    F: Fn(usize, Device) -> I + Send + Sync,
    I: Iterator<Item = B> + 'static,
{
    fn num_items(&self) -> usize {
        self.items
    }

    fn num_batches(&self) -> usize {
        self.batches
    }

    fn epoch(&self, epoch: usize, from: usize, device: &Device) -> Epoch<'_, B> {
        let batches = (self.make)(epoch, device.clone());
        Box::new(batches.take(self.batches).skip(from).map(Ok))
    }
}
