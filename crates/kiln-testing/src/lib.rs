//! The devices that Kiln's numeric tests run on: every backend compiled into the test build.
//!
//! A new backend is one line in [`devices`].

use burn::tensor::Device;

/// One device for every backend that this build has and this machine can run.
///
/// `flex` is always there with the default features. With the feature `wgpu`, the first adapter
/// of the machine joins, a software one too (that is what CI has); a machine without any adapter
/// tests the other backends only, and says so.
pub fn devices() -> Vec<Device> {
    #[allow(unused_mut)]
    let mut devices = Vec::new();
    #[cfg(feature = "flex")]
    devices.push(Device::flex());
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)]
    devices.push(Device::ndarray());
    #[cfg(feature = "wgpu")]
    match wgpu_device() {
        Some(device) => devices.push(device),
        None => eprintln!("no wgpu adapter on this machine: its tests are skipped"),
    }
    devices
}

#[cfg(feature = "wgpu")]
fn wgpu_device() -> Option<Device> {
    use burn::tensor::DeviceType;
    // Enumeration asks the driver and returns an empty list where there is none.
    Device::enumerate(DeviceType::Wgpu).into_iter().next()
}
