//! The training loop, for any model that says what a step is and any data that come in batches.

pub(crate) mod data;
pub(crate) mod fit;
pub(crate) mod gradients;
pub(crate) mod optim;
pub(crate) mod panics;
pub(crate) mod reader;
pub(crate) mod recorder;
pub(crate) mod renderer;
pub(crate) mod schedule;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod sums;
