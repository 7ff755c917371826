//! The devices that Kiln's numeric tests run on, every backend compiled into the test build, and the weights of reference values.

#[cfg(feature = "devices")]
mod devices;
pub mod formula;

#[cfg(feature = "devices")]
pub use devices::{VARIABLE, devices};
