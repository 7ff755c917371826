//! Data sets for training: MNIST-format files, downloads, digits that Kiln draws itself, and the
//! way of any of them into device memory.
//!
//! - [`idx`] reads and writes MNIST's file format and distrusts every byte of it.
//! - [`digits`] draws handwritten-like digits: the data set that is always there.
//! - [`catalog`] finds a data set by name: in a folder, in the cache, by download, or drawn.
//! - [`DeviceDataset`] and [`DeviceLoader`] keep a data set in device memory and form shuffled,
//!   augmented batches there.
//! - [`images`] reads a picture from a file as a model wants it.
//! - [`scale`] scales features as scikit-learn does.
//! - [`info`] says what is in a data set, in numbers and as a picture.
//! - [`fetch`] brings files from the network, verified or not at all.
//!
//! ```
//! use kiln_data::{Digits, Split};
//!
//! let train = Digits::new(42).generate(Split::Train, 100);
//! assert_eq!(train.len(), 100);
//! assert_eq!(train.image(0).len(), 28 * 28);
//! ```

pub mod catalog;
mod device;
pub mod digits;
pub mod fetch;
pub mod idx;
pub mod images;
pub mod info;
mod labeled;
pub mod scale;

pub use catalog::{DATA_SETS, DataError, DataSet, Load, Loaded, Origin};
pub use device::{
    Affine, AffineError, Batch, DeviceDataset, DeviceDatasetError, DeviceLoader, holdout,
};
pub use digits::Digits;
pub use labeled::{LabeledImages, LabeledImagesError, Split};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
