//! Classification and segmentation: from a batch to a loss and named metrics.

pub(crate) mod loader;
pub(crate) mod network;
pub(crate) mod segment;
pub(crate) mod single;
pub(crate) mod step;
