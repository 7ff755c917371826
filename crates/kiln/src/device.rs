//! Choosing where to compute: [`auto`], or [`select`] by name.

#[cfg(feature = "wgpu")]
mod adapters;

use std::fmt;

use burn::tensor::Device;
use kiln_train::TrainDevice;
use serde::Serialize;
use thiserror::Error;

/// What kind of processor a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A graphics card of its own.
    DiscreteGpu,
    /// A GPU that shares memory with the CPU.
    IntegratedGpu,
    /// A GPU lent to a virtual machine.
    VirtualGpu,
    /// A GPU that the driver does not describe.
    OtherGpu,
    /// A GPU driver that computes on the CPU: right, and slow.
    Software,
    /// The CPU.
    Cpu,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiscreteGpu => "discrete GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::VirtualGpu => "virtual GPU",
            Self::OtherGpu => "GPU",
            Self::Software => "software",
            Self::Cpu => "CPU",
        })
    }
}

/// One line of `kiln devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// What to give to `--device`.
    pub flag: String,
    /// The backend, which is also the cargo feature.
    pub backend: &'static str,
    /// The device's name.
    pub name: String,
    /// What kind of processor it is.
    pub kind: Kind,
    /// The driver, with its version, where there is one.
    pub driver: String,
    /// Whether this build has the backend.
    pub built: bool,
    /// Whether `auto` takes it.
    pub chosen: bool,
    /// What must be installed before it can be used; none where it can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A device and why it was chosen.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The device.
    pub device: Device,
    /// Its name: `NVIDIA GeForce RTX 4090`, `CPU, 8 threads`.
    pub name: String,
    /// Its backend: `wgpu`, `flex`.
    pub backend: &'static str,
    /// One line for a person: what was chosen, and why.
    pub reason: String,
}

impl From<Chosen> for TrainDevice {
    fn from(chosen: Chosen) -> Self {
        Self {
            device: chosen.device,
            name: chosen.name,
            backend: chosen.backend.into(),
        }
    }
}

/// Why a device cannot be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// No device has this name.
    #[error("no device is named '{given}'; allowed are auto, {}", FORMS.join(", "))]
    Unknown {
        /// The name given.
        given: String,
    },
    /// The backend is not part of this build.
    #[error(
        "this build has no {backend} backend; build with --features {backend} (it has: {})",
        built().join(", ")
    )]
    NotBuilt {
        /// The backend, which is also the feature.
        backend: &'static str,
    },
    /// There is no such adapter.
    #[error("there is no device {flag} on this machine; {}", found(available))]
    NotFound {
        /// What was asked for.
        flag: String,
        /// What there is.
        available: Vec<String>,
    },
    /// The driver refused.
    #[error("{flag} cannot be used: {message}; try another device, such as --device flex")]
    Unusable {
        /// What was asked for.
        flag: String,
        /// What the driver says.
        message: String,
    },
    /// A build without any backend that could be taken.
    #[error("this build has no backend to fall back to; build with --features wgpu,flex")]
    Nothing,
}

const FORMS: &[&str] = &[
    "wgpu",
    "wgpu:N",
    "wgpu:cpu",
    "vulkan[:N]",
    "metal[:N]",
    "webgpu",
    "cuda[:N]",
    "rocm[:N]",
    "cpu",
    "flex",
    "ndarray",
];

/// Every backend of the facade, in the order of `kiln devices`, and whether this build has it.
const BACKENDS: &[(&str, bool)] = &[
    ("wgpu", cfg!(feature = "wgpu")),
    ("vulkan", cfg!(feature = "vulkan")),
    ("metal", cfg!(feature = "metal")),
    ("webgpu", cfg!(feature = "webgpu")),
    ("cuda", cfg!(feature = "cuda")),
    ("rocm", cfg!(feature = "rocm")),
    ("cpu", cfg!(feature = "cpu")),
    ("flex", cfg!(feature = "flex")),
    ("ndarray", cfg!(feature = "ndarray")),
    ("remote", cfg!(feature = "remote")),
];

fn built() -> Vec<&'static str> {
    let built = BACKENDS.iter().filter(|(_, built)| *built);
    built.map(|(name, _)| *name).collect()
}

fn found(available: &[String]) -> String {
    match available.is_empty() {
        true => "it has none of this kind".into(),
        false => format!("it has {}", available.join(", ")),
    }
}

/// Takes the best real GPU that wgpu reports, otherwise the CPU.
///
/// A discrete GPU is taken before an integrated one and that before a virtual one. A software
/// adapter is never taken: the CPU backend is faster than a GPU driver that runs on the CPU. Neither is one that
/// is reached by OpenGL alone, which belongs to one thread at a time, while Burn computes on several. A GPU
/// whose driver refuses to open it is passed over, and the reason says so. Nothing panics on a
/// machine without a driver.
///
/// # Errors
///
/// [`DeviceError::Nothing`] if the build has no CPU backend to fall back to.
///
/// ```
/// let chosen = kiln::device::auto()?;
/// assert!(chosen.reason.starts_with(&chosen.name));
/// # Ok::<(), kiln::device::DeviceError>(())
/// ```
pub fn auto() -> Result<Chosen, DeviceError> {
    #[cfg(not(feature = "wgpu"))]
    let why = String::from("this build has no GPU backend");
    #[cfg(feature = "wgpu")]
    let why = {
        let found = adapters::list();
        let mut why = adapters::why_no_gpu(&found);
        for adapter in adapters::gpus_best_first(&found) {
            match adapters::open(adapter) {
                Ok(device) => {
                    return Ok(Chosen {
                        device,
                        name: adapter.name.clone(),
                        backend: "wgpu",
                        reason: format!(
                            "{} ({}, wgpu on {}): the best GPU that wgpu reports",
                            adapter.name, adapter.kind, adapter.api
                        ),
                    });
                }
                Err(message) => why = format!("{} cannot be used: {message}", adapter.name),
            }
        }
        why
    };
    cpu(&why)
}

/// The CPU backend that `auto` falls back to.
#[allow(unused_variables)]
fn cpu(why: &str) -> Result<Chosen, DeviceError> {
    #[cfg(feature = "flex")]
    return Ok(cpu_chosen(Device::flex(), "flex", why));
    #[cfg(all(feature = "ndarray", not(feature = "flex")))]
    #[allow(deprecated)]
    return Ok(cpu_chosen(Device::ndarray(), "ndarray", why));
    #[cfg(all(feature = "cpu", not(feature = "flex"), not(feature = "ndarray")))]
    return Ok(cpu_chosen(Device::cpu(), "cpu", why));
    #[cfg(not(any(feature = "flex", feature = "ndarray", feature = "cpu")))]
    Err(DeviceError::Nothing)
}

#[allow(dead_code)]
fn cpu_chosen(device: Device, backend: &'static str, why: &str) -> Chosen {
    let name = cpu_name();
    Chosen {
        device,
        backend,
        reason: format!("{name} ({backend}): {why}"),
        name,
    }
}

#[allow(dead_code)]
fn cpu_name() -> String {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!(
        "CPU, {threads} thread{}",
        if threads == 1 { "" } else { "s" }
    )
}

/// Takes the device of a name as `kiln devices` lists it.
///
/// `auto` is [`auto`]. `wgpu` is the best real GPU or an error; `wgpu:1` the adapter of that number;
/// `wgpu:cpu` the software adapter, which nothing else takes. `vulkan`, `metal` and `webgpu` pin the
/// graphics API. `cuda:0` and `rocm:0` are the vendors' own backends; `flex`, `ndarray` and
/// `cpu` (Burn's kernel compiler) run on the CPU.
///
/// # Errors
///
/// A name that is none, a backend that is not built in (the error names the feature), an adapter
/// that does not exist (the error lists those that do), one that its driver refuses to open, or one that is reached by
/// OpenGL alone (the error says what to install).
///
/// ```
/// let error = kiln::device::select("gpu").unwrap_err();
/// assert!(error.to_string().starts_with("no device is named 'gpu'"));
/// ```
pub fn select(name: &str) -> Result<Chosen, DeviceError> {
    if name == "auto" {
        return auto();
    }
    let unknown = || DeviceError::Unknown { given: name.into() };
    let (backend, which) = match name.split_once(':') {
        Some((backend, which)) => (backend, Some(which)),
        None => (name, None),
    };
    let &(backend, built) = BACKENDS
        .iter()
        .find(|(known, _)| *known == backend && *known != "remote")
        .ok_or_else(unknown)?;
    let which = match which {
        None => Which::Best,
        Some("cpu") if matches!(backend, "wgpu" | "vulkan") => Which::Software,
        Some(number) if !matches!(backend, "flex" | "ndarray" | "cpu" | "webgpu") => {
            Which::Number(number.parse().map_err(|_| unknown())?)
        }
        Some(_) => return Err(unknown()),
    };
    if !built {
        return Err(DeviceError::NotBuilt { backend });
    }
    open(name, backend, which)
}

/// Which device of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Best,
    Number(usize),
    Software,
}

#[allow(unused_variables, unreachable_patterns)]
fn open(flag: &str, backend: &'static str, which: Which) -> Result<Chosen, DeviceError> {
    let asked = |device: Device, name: String| Chosen {
        device,
        backend,
        reason: format!("{name} ({backend}): as asked for with {flag}"),
        name,
    };
    match backend {
        #[cfg(feature = "flex")]
        "flex" => Ok(asked(Device::flex(), cpu_name())),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)]
        "ndarray" => Ok(asked(Device::ndarray(), cpu_name())),
        #[cfg(feature = "cpu")]
        "cpu" => Ok(asked(Device::cpu(), cpu_name())),
        #[cfg(feature = "cuda")]
        "cuda" => indexed(flag, which, burn::tensor::DeviceType::Cuda)
            .map(|(device, number)| asked(device, format!("CUDA device {number}"))),
        #[cfg(feature = "rocm")]
        "rocm" => indexed(flag, which, burn::tensor::DeviceType::Rocm)
            .map(|(device, number)| asked(device, format!("ROCm device {number}"))),
        #[cfg(feature = "wgpu")]
        "wgpu" | "vulkan" | "metal" | "webgpu" => {
            let found = adapters::list_for(backend);
            let adapter = adapters::pick(&found, which).ok_or_else(|| DeviceError::NotFound {
                flag: flag.into(),
                available: found.iter().map(adapters::Adapter::described).collect(),
            })?;
            let device =
                adapters::open_on(adapter, backend).map_err(|message| DeviceError::Unusable {
                    flag: flag.into(),
                    message,
                })?;
            Ok(asked(device, adapter.name.clone()))
        }
        _ => Err(DeviceError::NotBuilt { backend }),
    }
}

/// A device of a backend that numbers them.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn indexed(
    flag: &str,
    which: Which,
    kind: burn::tensor::DeviceType,
) -> Result<(Device, usize), DeviceError> {
    let number = match which {
        Which::Number(number) => number,
        _ => 0,
    };
    // The vendor's library panics where it is not installed.
    let listed = std::panic::catch_unwind(|| Device::enumerate(kind));
    let devices: Vec<Device> = listed.map_or(Vec::new(), |found| found.iter().cloned().collect());
    match devices.get(number) {
        Some(device) => Ok((device.clone(), number)),
        None => Err(DeviceError::NotFound {
            flag: flag.into(),
            available: (0..devices.len()).map(|i| i.to_string()).collect(),
        }),
    }
}

/// Every adapter that wgpu reports and every CPU backend, with the flag that chooses it.
///
/// Backends that are not in this build are listed too, so that a reader learns of them.
///
/// ```
/// assert!(kiln::device::list().iter().any(|device| device.flag == "flex"));
/// ```
pub fn list() -> Vec<Listed> {
    let mut listed = Vec::new();
    #[cfg(feature = "wgpu")]
    for adapter in adapters::list() {
        listed.push(Listed {
            flag: adapter.flag(),
            backend: "wgpu",
            driver: adapter.driver.clone(),
            kind: adapter.kind,
            missing: adapter.missing(),
            name: adapter.name,
            built: true,
            chosen: false,
        });
    }
    for &(backend, built) in BACKENDS {
        let cpu = matches!(backend, "flex" | "ndarray" | "cpu");
        if built && !cpu || backend == "remote" {
            continue;
        }
        listed.push(Listed {
            flag: backend.into(),
            backend,
            name: match cpu {
                true => cpu_name(),
                false => "not in this build".into(),
            },
            kind: if cpu { Kind::Cpu } else { Kind::OtherGpu },
            driver: String::new(),
            built,
            chosen: false,
            missing: None,
        });
    }
    let best = best_flag();
    for device in &mut listed {
        device.chosen = best.as_deref() == Some(&device.flag);
    }
    listed
}

fn best_flag() -> Option<String> {
    #[cfg(feature = "wgpu")]
    {
        let found = adapters::list();
        if let Some(adapter) = adapters::gpus_best_first(&found).next() {
            return Some(adapter.flag());
        }
    }
    ["flex", "ndarray", "cpu"]
        .into_iter()
        .find(|backend| built().contains(backend))
        .map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused_with_those_that_are() {
        for name in [
            "", "gpu", "wgpu:", "wgpu:x", "flex:0", "cuda:-1", "remote", "webgpu:1", "WGPU",
        ] {
            let error = select(name).unwrap_err();
            assert!(
                matches!(error, DeviceError::Unknown { .. }),
                "{name}: {error}"
            );
            assert!(error.to_string().contains("flex"), "{error}");
        }
    }

    #[test]
    fn a_backend_that_is_not_built_names_its_feature() {
        for (backend, built) in BACKENDS {
            if !built && *backend != "remote" {
                let error = select(backend).unwrap_err().to_string();
                assert!(error.contains(&format!("--features {backend}")), "{error}");
            }
        }
    }

    #[test]
    fn an_adapter_that_does_not_exist_is_not_found() {
        if cfg!(feature = "wgpu") {
            let error = select("wgpu:999").unwrap_err();
            assert!(matches!(error, DeviceError::NotFound { .. }), "{error}");
        }
    }

    #[test]
    fn auto_and_the_list_agree_and_never_take_a_software_adapter() {
        let chosen = auto().unwrap();
        let listed = list();
        let marked: Vec<_> = listed.iter().filter(|device| device.chosen).collect();
        assert_eq!(marked.len(), 1);
        assert_ne!(marked[0].kind, Kind::Software);
        assert_eq!(marked[0].backend, chosen.backend);
    }
}
