//! Data sets in device memory: the pixels stay `u8` there until a batch is formed.

mod augment;
mod dataset;
mod loader;
mod random;

pub use augment::{Affine, AffineError};
pub use dataset::{Batch, DeviceDataset, DeviceDatasetError};
pub use loader::DeviceLoader;
