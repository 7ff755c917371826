//! [`DeviceLoader`]: batches for burn-train, formed on the device.

use std::sync::{Arc, Mutex};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::augment::{Augment, Sample};
use super::dataset::DeviceDataset;
use super::random::permutation;

/// Data in device memory of which a [`DeviceLoader`] forms batches: [`DeviceDataset`] or
/// [`DeviceMasks`](super::DeviceMasks).
pub trait OnDevice: Clone + Send + Sync + 'static {
    /// What a training step takes.
    type Batch: Send + 'static;

    /// Number of images, at least one.
    fn len(&self) -> usize;
    /// Never true.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Channels, height and width of an image.
    fn shape(&self) -> [usize; 3];
    /// The device that holds the data.
    fn device(&self) -> Device;
    /// The data on another device; a copy only if they are not there already.
    fn to_device(&self, device: &Device) -> Self;
    /// The images `start..end`.
    fn slice(&self, start: usize, end: usize) -> Self;
    /// Gathers a batch; `indices` is `[batch]`, `sample` what is drawn for each image.
    fn form(&self, indices: Tensor<1, Int>, sample: Option<Sample>) -> Self::Batch;
    /// The batch on the autodiff device.
    fn autodiff(batch: Self::Batch) -> Self::Batch;
}

/// Forms batches of a [`DeviceDataset`] (or [`DeviceMasks`](super::DeviceMasks)) on its device, and is a burn-train
/// `DataLoader`.
///
/// Each call of `iter` is one epoch. With [`shuffled`](Self::shuffled), epoch `e` has an order that
/// depends on the seed and `e` alone, so a run resumed at any batch sees what an uninterrupted one
/// would have seen. The last batch is kept, smaller or not. What travels to the device is one
/// tensor of indices (and one of transforms) an epoch, nothing for a step.
///
/// ```
/// use burn::data::dataloader::DataLoader;
/// use kiln_data::{DeviceDataset, DeviceLoader, Digits, Split};
/// # let device = kiln_testing::devices().remove(0);
/// let data = DeviceDataset::new(&Digits::new(1).generate(Split::Train, 10), &device)?;
/// let loader = DeviceLoader::new(data, 4).shuffled(42);
/// let sizes: Vec<usize> = loader.iter().map(|b| b.unwrap().labels.dims()[0]).collect();
/// assert_eq!(sizes, [4, 4, 2]);
/// # Ok::<(), kiln_data::DeviceDatasetError>(())
/// ```
#[derive(Clone)]
pub struct DeviceLoader<D: OnDevice = DeviceDataset> {
    data: D,
    batch_size: usize,
    /// Batches of an epoch at most.
    limit: usize,
    /// Whether a last batch of a single image joins the one before it.
    merged: bool,
    seed: Option<u64>,
    repeat: usize,
    augment: Augment,
    /// Whether batches join the autodiff graph: true on the device of a training run.
    autodiff: bool,
    next: Arc<Mutex<Position>>,
}

/// Where the next call of `iter` begins.
#[derive(Clone, Copy)]
struct Position {
    epoch: usize,
    batch: usize,
}

impl<D: OnDevice> DeviceLoader<D> {
    /// Batches of `batch_size` images in the data set's order; the first epoch is 1.
    ///
    /// # Panics
    ///
    /// If `batch_size` is zero.
    pub fn new(data: D, batch_size: usize) -> Self {
        assert!(batch_size > 0, "batch_size must be at least 1, but got 0");
        Self {
            data,
            batch_size,
            limit: usize::MAX,
            merged: false,
            seed: None,
            repeat: 1,
            augment: Augment::default(),
            autodiff: false,
            next: Arc::new(Mutex::new(Position { epoch: 1, batch: 0 })),
        }
    }

    /// Shuffles every epoch anew, by `seed` and the epoch's number.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Augments every image of every epoch anew; what is drawn depends on the seed of
    /// [`shuffled`](Self::shuffled) and the epoch's number.
    ///
    /// # Panics
    ///
    /// If the settings do not fit the images; [`Augment::validate`] says it as a value.
    pub fn augmented(mut self, augment: impl Into<Augment>) -> Self {
        self.augment = augment.into();
        if let Err(error) = self.augment.validate(self.data.shape()) {
            panic!("{error}");
        }
        self
    }

    /// Shows every image this many times an epoch, each time augmented anew: for few large images, of which an epoch
    /// sees several crops each.
    ///
    /// # Panics
    ///
    /// If `times` is zero.
    pub fn repeated(mut self, times: usize) -> Self {
        assert!(
            times > 0,
            "an epoch shows every image at least once, but got 0"
        );
        self.repeat = times;
        self
    }

    /// Ends every epoch after this many batches; with [`shuffled`](Self::shuffled), each epoch sees others.
    ///
    /// # Panics
    ///
    /// If `batches` is zero.
    pub fn limited(mut self, batches: usize) -> Self {
        assert!(
            batches > 0,
            "an epoch needs at least 1 batch, but got a limit of 0"
        );
        self.limit = batches;
        self
    }

    /// Lets a last batch that would hold a single image join the batch before it, which then has one image more than the
    /// others: for networks whose normalization cannot take a single image. The order of the images stays the same.
    ///
    /// ```
    /// use burn::data::dataloader::DataLoader;
    /// use kiln_data::{DeviceDataset, DeviceLoader, Digits, Split};
    /// # let device = kiln_testing::devices().remove(0);
    /// let data = DeviceDataset::new(&Digits::new(1).generate(Split::Train, 9), &device)?;
    /// let loader = DeviceLoader::new(data, 4).single_last_merged();
    /// let sizes: Vec<usize> = loader.iter().map(|b| b.unwrap().labels.dims()[0]).collect();
    /// assert_eq!(sizes, [4, 5]);
    /// # Ok::<(), kiln_data::DeviceDatasetError>(())
    /// ```
    pub fn single_last_merged(mut self) -> Self {
        self.merged = true;
        self
    }

    /// Number of batches in an epoch.
    pub fn num_batches(&self) -> usize {
        let batches = self.samples().div_ceil(self.batch_size);
        match self.merges() {
            true => batches - 1,
            false => batches.min(self.limit),
        }
    }

    /// Whether an epoch ends with a batch of a single image, not counting that it may be [merged](Self::single_last_merged).
    pub fn ends_with_a_single(&self) -> bool {
        let (samples, size) = (self.samples(), self.batch_size);
        self.limit >= samples.div_ceil(size) && (size == 1 || samples % size == 1)
    }

    /// Whether the last image of an epoch joins the batch before it.
    fn merges(&self) -> bool {
        self.merged && self.batch_size > 1 && self.samples() > 1 && self.ends_with_a_single()
    }

    /// Images to choose an epoch's from, repetitions counted.
    fn samples(&self) -> usize {
        self.data.len() * self.repeat
    }

    /// Number of images in an epoch.
    fn epoch_len(&self) -> usize {
        self.samples()
            .min(self.limit.saturating_mul(self.batch_size))
    }

    /// The data set.
    pub fn dataset(&self) -> &D {
        &self.data
    }

    /// The batches of an epoch (from 1) on a device, without the first `from`, as a resumed run needs them. On an autodiff
    /// device they join its graph.
    ///
    /// ```
    /// use kiln_data::{DeviceDataset, DeviceLoader, Digits, Split};
    /// # let device = kiln_testing::devices().remove(0);
    /// let data = DeviceDataset::new(&Digits::new(1).generate(Split::Train, 9), &device)?;
    /// let loader = DeviceLoader::new(data, 4).shuffled(42);
    /// let rest = loader.epoch(3, 1, &device);
    /// let sizes: Vec<usize> = rest.map(|batch| batch.unwrap().labels.dims()[0]).collect();
    /// assert_eq!(sizes, [4, 1]);
    /// # Ok::<(), kiln_data::DeviceDatasetError>(())
    /// ```
    pub fn epoch(
        &self,
        epoch: usize,
        from: usize,
        device: &Device,
    ) -> impl Iterator<Item = Result<D::Batch, DatasetError>> + use<D> {
        self.moved(device).take(Position { epoch, batch: from })
    }

    /// The same batches on another device.
    fn moved(&self, device: &Device) -> Self {
        Self {
            data: self.data.to_device(device),
            autodiff: device.is_autodiff(),
            ..self.clone()
        }
    }

    fn take(self, position: Position) -> Epoch<D> {
        let len = self.samples();
        let device = self.data.device();
        let epoch = position.epoch as u64;
        let mut order = match self.seed {
            Some(seed) => permutation(len, seed, epoch),
            None => (0..len as i32).collect(),
        };
        if self.repeat > 1 {
            let images = self.data.len() as i32;
            order.iter_mut().for_each(|index| *index %= images);
        }
        let order = Tensor::from_data(TensorData::new(order, [len]), (&device, DType::I32));
        let sample = (!self.augment.is_identity()).then(|| {
            let seed = self.seed.unwrap_or_default();
            self.augment
                .draw(len, self.data.shape(), seed, epoch, &device)
        });
        Epoch {
            order,
            sample,
            start: position.batch * self.batch_size,
            loader: self,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Position> {
        // A panic elsewhere cannot leave the two numbers half-written.
        self.next
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<D: OnDevice> DataLoader<D::Batch> for DeviceLoader<D> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<D::Batch> + 'a> {
        let position = {
            let mut next = self.lock();
            let now = *next;
            *next = Position {
                epoch: now.epoch + 1,
                batch: 0,
            };
            now
        };
        Box::new(self.clone().take(position))
    }

    fn num_items(&self) -> usize {
        self.epoch_len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<D::Batch>> {
        Arc::new(self.moved(device))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<D::Batch>> {
        Arc::new(Self {
            data: self.data.slice(start, end),
            next: Arc::new(Mutex::new(*self.lock())),
            ..self.clone()
        })
    }
}

struct Epoch<D: OnDevice> {
    loader: DeviceLoader<D>,
    order: Tensor<1, Int>,
    sample: Option<Sample>,
    start: usize,
}

impl<D: OnDevice> Iterator for Epoch<D> {
    type Item = Result<D::Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let len = self.loader.epoch_len();
        if self.start >= len {
            return None;
        }
        let mut end = len.min(self.start + self.loader.batch_size);
        if self.loader.merges() {
            // A run that was saved before its last image was merged has no batch left that it could join.
            if self.start + 1 == len {
                return None;
            }
            if end + 1 == len {
                end = len;
            }
        }
        let range = self.start..end;
        self.start = range.end;
        let indices = self.order.clone().slice(range.clone());
        let sample = self.sample.as_ref().map(|all| all.slice(range));
        let batch = self.loader.data.form(indices, sample);
        Some(Ok(match self.loader.autodiff {
            true => D::autodiff(batch),
            false => batch,
        }))
    }
}

impl<D: OnDevice> DataLoaderIterator<D::Batch> for Epoch<D> {
    fn progress(&self) -> Progress {
        let len = self.loader.epoch_len();
        Progress::new(self.start.min(len), len, Some("images".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, LabeledImages};

    fn loader(len: usize, batch_size: usize) -> DeviceLoader {
        let device = kiln_testing::devices().remove(0);
        // Image i is filled with the value i, so that images and labels can be matched.
        let labels: Vec<u16> = (0..len as u16).collect();
        let pixels: Vec<u8> = labels.iter().flat_map(|&l| [l as u8; 4]).collect();
        let classes = (0..len).map(|c| c.to_string()).collect();
        let data = LabeledImages::new("test", classes, [1, 2, 2], pixels, labels).unwrap();
        let data = DeviceDataset::new(&data, &device).unwrap();
        DeviceLoader::new(data, batch_size)
    }

    fn labels(loader: &dyn DataLoader<Batch>) -> Vec<Vec<i32>> {
        read(loader.iter())
    }

    /// Of an epoch, without its first batches.
    fn rest(loader: &DeviceLoader, epoch: usize, from: usize) -> Vec<Vec<i32>> {
        read(loader.epoch(epoch, from, &loader.dataset().device()))
    }

    fn read(batches: impl Iterator<Item = Result<Batch, DatasetError>>) -> Vec<Vec<i32>> {
        batches
            .map(|batch| {
                let batch = batch.unwrap();
                let labels = batch.labels.try_into_vec_as::<i32>().unwrap();
                let pixels = batch.images.try_into_vec_as::<f32>().unwrap();
                for (label, image) in std::iter::zip(&labels, pixels.chunks(4)) {
                    let expected = *label as f32 / 255.0;
                    assert!(image.iter().all(|p| (p - expected).abs() < 1e-6));
                }
                labels
            })
            .collect()
    }

    #[test]
    fn without_a_seed_the_order_is_that_of_the_data() {
        let loader = loader(5, 2);
        assert_eq!(labels(&loader), [vec![0, 1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn every_epoch_is_shuffled_anew_and_holds_every_image_once() {
        let loader = loader(50, 8).shuffled(3);
        let (first, second) = (labels(&loader).concat(), labels(&loader).concat());
        assert_ne!(first, second);
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..50).collect::<Vec<i32>>());
        }
    }

    #[test]
    fn an_epoch_taken_from_the_middle_continues_where_it_was() {
        let loader = loader(50, 8).shuffled(3);
        let all: Vec<_> = (0..3).map(|_| labels(&loader)).collect();
        assert_eq!(rest(&loader, 2, 4), all[1][4..]);
        assert_eq!(rest(&loader, 3, 0), all[2]);
    }

    #[test]
    fn repeated_images_come_that_often_in_an_epoch() {
        let loader = loader(5, 4).shuffled(3).repeated(3);
        assert_eq!(loader.num_batches(), 4);
        let mut epoch = labels(&loader).concat();
        epoch.sort_unstable();
        assert_eq!(epoch, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    }

    #[test]
    fn a_single_last_image_joins_the_batch_before_it_and_the_order_stays() {
        for (len, size, sizes) in [
            (9, 4, vec![4, 5]),
            (5, 4, vec![5]),
            (10, 4, vec![4, 4, 2]),
            (8, 4, vec![4, 4]),
            (1, 4, vec![1]),
            (3, 1, vec![1, 1, 1]),
        ] {
            let plain = loader(len, size).shuffled(3);
            let merged = plain.clone().single_last_merged();
            let batches = rest(&merged, 1, 0);
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
            assert_eq!(merged.num_batches(), sizes.len());
            assert_eq!(batches.concat(), rest(&plain, 1, 0).concat());
            let [last, apart] = [&merged, &plain].map(|loader| rest(loader, 2, sizes.len() - 1));
            assert_eq!(last.concat(), apart.concat());
        }
        // An epoch that ends before the single image stays as it is.
        let limited = loader(9, 4).limited(2).single_last_merged();
        assert_eq!(labels(&limited).concat().len(), 8);
        assert_eq!(limited.num_batches(), 2);
        // The position before a single image of its own: there is nothing left to join.
        let merged = loader(9, 4).single_last_merged();
        assert!(rest(&merged, 1, 2).is_empty());
    }

    #[test]
    fn batches_on_a_training_device_join_the_graph() {
        let loader = loader(4, 4);
        let device = loader.dataset().device().autodiff();
        let training = loader.to_device(&device);
        let batch = training.iter().next().unwrap().unwrap();
        assert!(batch.images.device().is_autodiff());
    }

    #[test]
    fn a_slice_holds_the_chosen_images() {
        let loader = loader(10, 4);
        assert_eq!(labels(&*loader.slice(3, 9)), [vec![3, 4, 5, 6], vec![7, 8]]);
    }
}
