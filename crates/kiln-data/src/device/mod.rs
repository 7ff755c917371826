//! Data sets in device memory: the pixels stay `u8` there until a batch is formed.

mod affine;
mod augment;
mod dataset;
mod loader;
mod masks;
mod pixels;
pub(crate) mod random;
mod warp;

pub use affine::{Affine, AffineError};
pub use augment::{Augment, Sample};
pub use dataset::{Batch, DeviceDataset, DeviceDatasetError, Mixed};
pub use loader::{DeviceLoader, OnDevice};
pub use masks::{DeviceMasks, MaskBatch};
pub use random::permutation;
