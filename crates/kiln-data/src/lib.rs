//! Data sets for training: MNIST's and CIFAR's files, folders of pictures, downloads, digits and shapes that Kiln draws
//! itself, and the way of any of them into device memory.
//!
//! - [`idx`] reads and writes MNIST's file format and distrusts every byte of it; [`emnist`] reads EMNIST's files,
//!   [`cifar`] CIFAR's.
//! - [`folder`] reads folders of pictures: one for each class, or images beside masks.
//! - [`digits`] draws handwritten-like digits and [`shapes`] figures with masks: the data sets that are always there.
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
pub mod cifar;
mod device;
pub mod digits;
pub mod emnist;
pub mod fetch;
pub mod folder;
mod gzip;
pub mod idx;
pub mod images;
pub mod info;
mod labeled;
mod masked;
pub mod scale;
pub mod shapes;
mod split;

pub use catalog::{DATA_SETS, DataError, DataSet, Load, Loaded, LoadedTest, Origin};
pub use device::{
    Affine, AffineError, Augment, Batch, DeviceDataset, DeviceDatasetError, DeviceLoader,
    DeviceMasks, MaskBatch, Mixed, OnDevice, Sample, permutation,
};
pub use digits::Digits;
pub use labeled::{LabeledImages, LabeledImagesError, MAX_CLASSES, Split};
pub use masked::{MaskedImages, MaskedImagesError};
pub use shapes::Shapes;
pub use split::{Pick, holdout, stratified_holdout, subset};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
