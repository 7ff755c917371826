//! Data sets in device memory: the pixels stay `u8` there until a batch is formed.

mod augment;
mod dataset;
mod loader;
mod random;

pub use augment::{Affine, AffineError};
pub use dataset::{Batch, DeviceDataset, DeviceDatasetError};
pub use loader::DeviceLoader;

use crate::LabeledImages;

/// Splits off a random share of a data set, the same one for the same seed: what remains, and what is
/// held out. Both keep the order of the data; `fraction` is rounded to whole images.
///
/// ```
/// use kiln_data::{Digits, Split, holdout};
/// let data = Digits::new(1).generate(Split::Train, 100);
/// let (train, valid) = holdout(&data, 0.2, 42);
/// assert_eq!((train.len(), valid.len()), (80, 20));
/// ```
pub fn holdout(data: &LabeledImages, fraction: f64, seed: u64) -> (LabeledImages, LabeledImages) {
    let held = (data.len() as f64 * fraction).round() as usize;
    let order = random::permutation(data.len(), seed, 0);
    let sorted = |part: &[i32]| {
        let mut indices: Vec<usize> = part.iter().map(|&i| i as usize).collect();
        indices.sort_unstable();
        data.select(&indices)
    };
    let (held, rest) = order.split_at(held.min(data.len()));
    (sorted(rest), sorted(held))
}
