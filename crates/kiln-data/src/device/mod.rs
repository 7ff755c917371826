//! Data sets in device memory: the pixels stay `u8` there until a batch is formed.

mod affine;
mod augment;
mod dataset;
mod loader;
mod masks;
mod pixels;
mod random;
mod warp;

pub use affine::{Affine, AffineError};
pub use augment::{Augment, Sample};
pub use dataset::{Batch, DeviceDataset, DeviceDatasetError, Mixed};
pub use loader::{DeviceLoader, OnDevice};
pub use masks::{DeviceMasks, MaskBatch};

use crate::{LabeledImages, MaskedImages};

/// Images in host memory of which some can be picked: [`LabeledImages`] and [`MaskedImages`].
pub trait Pick {
    /// Number of images.
    fn count(&self) -> usize;
    /// The images at `indices`, in that order.
    fn pick(&self, indices: &[usize]) -> Self;
}

impl Pick for LabeledImages {
    fn count(&self) -> usize {
        self.len()
    }

    fn pick(&self, indices: &[usize]) -> Self {
        self.select(indices)
    }
}

impl Pick for MaskedImages {
    fn count(&self) -> usize {
        self.len()
    }

    fn pick(&self, indices: &[usize]) -> Self {
        self.select(indices)
    }
}

/// Splits off a random share of a data set, the same one for the same seed: what remains, and what is
/// held out. Both keep the order of the data; `fraction` is rounded to whole images.
///
/// ```
/// use kiln_data::{Digits, Split, holdout};
/// let data = Digits::new(1).generate(Split::Train, 100);
/// let (train, valid) = holdout(&data, 0.2, 42);
/// assert_eq!((train.len(), valid.len()), (80, 20));
/// ```
pub fn holdout<T: Pick>(data: &T, fraction: f64, seed: u64) -> (T, T) {
    let held = (data.count() as f64 * fraction).round() as usize;
    let order = random::permutation(data.count(), seed, 0);
    let sorted = |part: &[i32]| {
        let mut indices: Vec<usize> = part.iter().map(|&i| i as usize).collect();
        indices.sort_unstable();
        data.pick(&indices)
    };
    let (held, rest) = order.split_at(held.min(data.count()));
    (sorted(rest), sorted(held))
}
