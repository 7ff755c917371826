//! The devices that Kiln's numeric tests run on: every backend compiled into the test build.
//!
//! A new backend is one line in [`devices`].

use burn::tensor::Device;

/// One device for every backend that this build has and this machine can run.
///
/// `flex` is always there with the default features. With the feature `wgpu`, the first adapter
/// of the machine joins, a software one too (that is what CI has); a machine without any adapter
/// tests the other backends only, and says so.
#[allow(deprecated)] // Burn deprecates ndarray; it stays supported here.
pub fn devices() -> Vec<Device> {
    let devices = [
        #[cfg(feature = "flex")]
        Some(Device::flex()),
        #[cfg(feature = "ndarray")]
        Some(Device::ndarray()),
        #[cfg(feature = "wgpu")]
        wgpu_device(),
    ];
    devices.into_iter().flatten().collect()
}

#[cfg(feature = "wgpu")]
fn wgpu_device() -> Option<Device> {
    use burn::tensor::DeviceType;
    // Enumeration asks the driver and returns an empty list where there is none.
    let device = Device::enumerate(DeviceType::Wgpu).into_iter().next();
    if device.is_none() {
        eprintln!("no wgpu adapter on this machine: its tests are skipped");
    }
    device
}
