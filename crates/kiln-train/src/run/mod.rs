//! A run's folder: its lock, its files, which are whole or not there, and its checkpoints.

pub(crate) mod checkpoint;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod summary;
pub(crate) mod weights;
