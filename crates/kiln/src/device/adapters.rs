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

    /// What must be installed before it can be trained on, if anything: OpenGL, which wgpu falls back to where there is no
    /// driver for a newer API, belongs to one thread at a time, and Burn computes on several.
    pub(super) fn missing(&self) -> Option<String> {
        if self.api != wgpu::Backend::Gl {
            return None;
        }
        let driver = match self.kind {
            Kind::Software => {
                "the software driver lavapipe (Debian and Ubuntu: apt install mesa-vulkan-drivers)"
            }
            _ => {
                "the Vulkan driver of the card (Debian and Ubuntu: apt install mesa-vulkan-drivers, or NVIDIA's driver)"
            }
        };
        Some(format!(
            "{} is reached by OpenGL alone, which cannot be trained on; install {driver}",
            self.name
        ))
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

/// Real GPUs that can be trained on, the best first.
pub(super) fn gpus_best_first(found: &[Adapter]) -> impl Iterator<Item = &Adapter> {
    let rank = |adapter: &Adapter| match adapter.kind {
        Kind::DiscreteGpu => 0,
        Kind::IntegratedGpu => 1,
        Kind::VirtualGpu => 2,
        Kind::OtherGpu => 3,
        Kind::Software | Kind::Cpu => 4,
    };
    let mut gpus: Vec<&Adapter> = found
        .iter()
        .filter(|adapter| rank(adapter) < 4 && adapter.missing().is_none())
        .collect();
    gpus.sort_by_key(|adapter| rank(adapter));
    gpus.into_iter()
}

/// Why no GPU is taken, for a person.
pub(super) fn why_no_gpu(found: &[Adapter]) -> String {
    let missing = found.iter().find(|adapter| adapter.kind != Kind::Software);
    if let Some(missing) = missing.and_then(Adapter::missing) {
        return missing;
    }
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
        // One that is missing its driver is better named than not found.
        Which::Best => gpus_best_first(found)
            .next()
            .or_else(|| found.iter().find(|adapter| adapter.kind != Kind::Software)),
        Which::Number(number) => found.iter().find(|adapter| adapter.number == number),
        Which::Software => found.iter().find(|adapter| adapter.kind == Kind::Software),
    }
}

pub(super) fn open(adapter: &Adapter) -> Result<Device, String> {
    open_on(adapter, "wgpu")
}

/// Opens an adapter; an error of the driver is a value, and one that it panics with too.
pub(super) fn open_on(adapter: &Adapter, backend: &str) -> Result<Device, String> {
    if let Some(missing) = adapter.missing() {
        return Err(missing);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: Kind, api: wgpu::Backend) -> Adapter {
        Adapter {
            name: name.into(),
            kind,
            driver: String::new(),
            api,
            number: 0,
            of_kind: 0,
        }
    }

    #[test]
    fn an_adapter_that_only_opengl_reaches_is_never_taken_and_says_what_to_install() {
        let card = adapter("Card", Kind::DiscreteGpu, wgpu::Backend::Gl);
        let software = adapter("llvmpipe", Kind::Software, wgpu::Backend::Gl);
        let found = [card.clone(), software.clone()];
        assert_eq!(gpus_best_first(&found).count(), 0);
        assert!(why_no_gpu(&found).contains("the Vulkan driver of the card"));
        assert!(why_no_gpu(&found[1..]).contains("only the software adapter llvmpipe"));
        // Named, they are found, and refused with what is missing.
        for which in [Which::Best, Which::Number(0), Which::Software] {
            let picked = pick(&found, which).unwrap();
            let refused = open(picked).unwrap_err();
            assert!(
                refused.contains("OpenGL") && refused.contains("mesa-vulkan-drivers"),
                "{refused}"
            );
        }
        let vulkan = adapter("Card", Kind::IntegratedGpu, wgpu::Backend::Vulkan);
        assert_eq!(vulkan.missing(), None);
        let found = [card, vulkan];
        let best: Vec<_> = gpus_best_first(&found)
            .map(|adapter| adapter.kind)
            .collect();
        assert_eq!(best, [Kind::IntegratedGpu]);
    }
}
