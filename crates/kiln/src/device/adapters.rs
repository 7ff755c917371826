//! The adapters that wgpu reports, and opening one.
//!
//! Burn numbers adapters by kind ("the second discrete GPU") on the first graphics API that has a
//! real GPU; the list here is made in the same way, so that a number means the same adapter.

use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind};

use super::{Kind, Which};

#[derive(Clone, Debug)]
pub(super) struct Adapter {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) driver: String,
    pub(super) api: wgpu::Backend,
    /// Place in the list: the N of `wgpu:N`.
    number: usize,
    /// Place among the adapters of its kind.
    of_kind: usize,
}

impl Adapter {
    /// What chooses it.
    pub(super) fn flag(&self) -> String {
        match self.kind {
            Kind::Software => "wgpu:cpu".into(),
            _ => format!("wgpu:{}", self.number),
        }
    }

    pub(super) fn described(&self) -> String {
        format!("{} ({}, {})", self.flag(), self.name, self.kind)
    }
}

/// The adapters of the graphics API that Burn settles on.
pub(super) fn list() -> Vec<Adapter> {
    list_for("wgpu")
}

/// The adapters that a backend reaches.
pub(super) fn list_for(backend: &str) -> Vec<Adapter> {
    let mut software_only = Vec::new();
    for &api in candidates(backend) {
        let found = probe(api);
        if found.iter().any(|adapter| adapter.kind != Kind::Software) {
            return found;
        }
        if software_only.is_empty() {
            software_only = found;
        }
    }
    software_only
}

fn candidates(backend: &str) -> &'static [wgpu::Backend] {
    use wgpu::Backend::{Dx12, Gl, Metal, Vulkan};
    match backend {
        "vulkan" => &[Vulkan],
        "metal" => &[Metal],
        _ if cfg!(target_os = "macos") => &[Metal],
        _ => &[Vulkan, Dx12, Gl],
    }
}

fn probe(api: wgpu::Backend) -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: api.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = block_on(instance.enumerate_adapters(api.into()));
    let mut seen = std::collections::HashMap::new();
    let describe = |(number, adapter): (usize, &wgpu::Adapter)| {
        let info = adapter.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::DiscreteGpu,
            wgpu::DeviceType::IntegratedGpu => Kind::IntegratedGpu,
            wgpu::DeviceType::VirtualGpu => Kind::VirtualGpu,
            wgpu::DeviceType::Cpu => Kind::Software,
            wgpu::DeviceType::Other => Kind::OtherGpu,
        };
        let count: &mut usize = seen.entry(kind as u8).or_default();
        let of_kind = std::mem::replace(count, *count + 1);
        let driver = format!("{} {}", info.driver, info.driver_info);
        Adapter {
            name: info.name,
            kind,
            driver: driver.trim().into(),
            api,
            number,
            of_kind,
        }
    };
    found.iter().enumerate().map(describe).collect()
}

/// wgpu's enumeration is a future only for the browser's sake: elsewhere it is ready at once.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::yield_now();
    }
}

/// Real GPUs, the best first.
pub(super) fn gpus_best_first(found: &[Adapter]) -> impl Iterator<Item = &Adapter> {
    let rank = |adapter: &Adapter| match adapter.kind {
        Kind::DiscreteGpu => 0,
        Kind::IntegratedGpu => 1,
        Kind::VirtualGpu => 2,
        Kind::OtherGpu => 3,
        Kind::Software | Kind::Cpu => 4,
    };
    let mut gpus: Vec<&Adapter> = found.iter().filter(|a| rank(a) < 4).collect();
    gpus.sort_by_key(|adapter| rank(adapter));
    gpus.into_iter()
}

/// Why no GPU is taken, for a person.
pub(super) fn why_no_gpu(found: &[Adapter]) -> String {
    match found.first() {
        None => "wgpu found no GPU (no graphics driver)".into(),
        Some(software) => format!(
            "wgpu found only the software adapter {}, which is slower than the CPU backend",
            software.name
        ),
    }
}

pub(super) fn pick(found: &[Adapter], which: Which) -> Option<&Adapter> {
    match which {
        Which::Best => gpus_best_first(found).next(),
        Which::Number(number) => found.iter().find(|adapter| adapter.number == number),
        Which::Software => found.iter().find(|adapter| adapter.kind == Kind::Software),
    }
}

pub(super) fn open(adapter: &Adapter) -> Result<Device, String> {
    open_on(adapter, "wgpu")
}

/// Opens an adapter; an error of the driver is a value, and one that it panics with too.
pub(super) fn open_on(adapter: &Adapter, backend: &str) -> Result<Device, String> {
    let kind = match adapter.kind {
        Kind::DiscreteGpu => DeviceKind::DiscreteGpu(adapter.of_kind),
        Kind::IntegratedGpu => DeviceKind::IntegratedGpu(adapter.of_kind),
        Kind::VirtualGpu => DeviceKind::VirtualGpu(adapter.of_kind),
        Kind::Software | Kind::Cpu => DeviceKind::Cpu,
        Kind::OtherGpu => DeviceKind::DefaultDevice,
    };
    let api = match backend {
        "vulkan" => WgpuBackend::Vulkan,
        "metal" => WgpuBackend::Metal,
        "webgpu" => WgpuBackend::WebGpu,
        _ => WgpuBackend::Auto,
    };
    // A device can be initialized once in a process; later calls find it open.
    static OPENED: std::sync::Mutex<Vec<(DeviceKind, WgpuBackend, Device)>> =
        std::sync::Mutex::new(Vec::new());
    let mut opened = OPENED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((_, _, device)) = opened.iter().find(|(k, a, _)| *k == kind && *a == api) {
        return Ok(device.clone());
    }
    let options = Device::wgpu_options();
    let options = options.device_kind(kind.clone()).graphics_api(api);
    let device = options.init().map_err(|error| error.to_string())?;
    opened.push((kind, api, device.clone()));
    Ok(device)
}
