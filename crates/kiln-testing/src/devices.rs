//! The devices to test on. A new backend is one line in `device`.

use burn::tensor::{Device, DeviceType};

/// Names the backends to test on, separated by commas: `flex`, `ndarray`, `wgpu`.
///
/// `wgpu` is the first adapter of the machine, a software one too (that is what CI has); it is not among the defaults
/// because a software adapter needs a second or more for every kernel that it compiles.
pub const VARIABLE: &str = "KILN_TEST_DEVICES";

/// One device for every backend that `KILN_TEST_DEVICES` names, by default `flex,ndarray`.
///
/// A machine without any adapter tests the other backends only, and says so.
///
/// # Panics
///
/// If the variable names something else, or nothing that this machine has.
pub fn devices() -> Vec<Device> {
    let names = std::env::var(VARIABLE).unwrap_or_else(|_| "flex,ndarray".into());
    let devices: Vec<Device> = names.split(',').filter_map(|n| device(n.trim())).collect();
    assert!(
        !devices.is_empty(),
        "no device to test on: {VARIABLE}={names}"
    );
    devices
}

#[allow(deprecated)] // Burn deprecates ndarray; it stays supported here.
fn device(name: &str) -> Option<Device> {
    match name {
        "flex" => Some(Device::flex()),
        "ndarray" => Some(Device::ndarray()),
        // Enumeration asks the driver and returns an empty list where there is none.
        "wgpu" => match Device::enumerate(DeviceType::Wgpu).into_iter().next() {
            None => {
                eprintln!("no wgpu adapter on this machine: its tests are skipped");
                None
            }
            device => device,
        },
        other => panic!("{VARIABLE} names '{other}'; allowed are flex, ndarray and wgpu"),
    }
}
