//! Devices by their stable names, and what is known of each.
//!
//! `cpu` is the CPU backend. A GPU is named by its backend and its place on the bus, never by an
//! index, which changes from start to start. `Device::default()` is never called: it chooses by
//! what was compiled, not by what the machine has.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

#[cfg(any(feature = "vulkan", feature = "cuda"))]
mod memory;

/// A device by its stable name: `cpu`, or `vulkan:PCI_BUS_ID`, `cuda:PCI_BUS_ID`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(pub String);

impl DeviceId {
    /// The CPU.
    #[must_use]
    pub fn cpu() -> Self {
        Self("cpu".to_owned())
    }

    /// Whether it is the CPU.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        self.0 == "cpu"
    }
}

/// A device as the inventory child reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its name.
    pub id: DeviceId,
    /// `cpu`, `vulkan` or `cuda`.
    pub backend: String,
    /// Name of the card or processor: the device kind of the cost model.
    pub name: String,
    /// Device memory in bytes, where it is known.
    pub memory_bytes: Option<u64>,
    /// Driven by software on the CPU; never offered as a GPU unless the worker is told to.
    pub software: bool,
}

/// Lists the devices of one backend: `cpu`, `vulkan` or `cuda`. A machine without the driver has
/// none. Opens drivers, which may crash: call it only in a throw-away child.
///
/// # Errors
/// [`TrainError::Device`] for a backend that is unknown or was not compiled in.
pub fn inventory(backend: &str) -> Result<Vec<DeviceInfo>, TrainError> {
    match backend {
        "cpu" => Ok(vec![processor()]),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(gpu::list("vulkan")),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(gpu::list("cuda")),
        _ => Err(unknown(backend)),
    }
}

/// Opens a device for training.
///
/// # Errors
/// [`TrainError::Device`] when there is none of this name.
pub(crate) fn open(id: &DeviceId) -> Result<Device, TrainError> {
    if id.is_cpu() {
        return Ok(Device::flex());
    }
    #[cfg(any(feature = "vulkan", feature = "cuda"))]
    if let Some((backend @ ("vulkan" | "cuda"), _)) = id.0.split_once(':') {
        return gpu::open(backend, id);
    }
    Err(unknown(&id.0))
}

fn unknown(name: &str) -> TrainError {
    TrainError::Device {
        name: name.to_owned(),
        hint: "list them with `worker devices`; `cuda` needs a build with `--features cuda`"
            .to_owned(),
    }
}

fn processor() -> DeviceInfo {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, key: &str| -> Option<String> {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let name = field(&read("/proc/cpuinfo"), "model name")
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|value| value.strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib * 1024);
    DeviceInfo {
        id: DeviceId::cpu(),
        backend: "cpu".to_owned(),
        name,
        memory_bytes: memory,
        software: false,
    }
}

#[cfg(any(feature = "vulkan", feature = "cuda"))]
mod gpu {
    use burn::tensor::{Device, DeviceType};

    use super::{DeviceId, DeviceInfo, memory, unknown};
    use crate::error::TrainError;

    fn devices(backend: &str) -> Vec<Device> {
        match backend {
            #[cfg(feature = "vulkan")]
            "vulkan" => Device::enumerate(DeviceType::Vulkan).into_vec(),
            #[cfg(feature = "cuda")]
            "cuda" => Device::enumerate(DeviceType::Cuda).into_vec(),
            _ => Vec::new(),
        }
    }

    fn describe(backend: &str, index: usize, device: &Device) -> DeviceInfo {
        let identity = device.identity();
        let name =
            identity.as_ref().map_or_else(|| format!("{device:?}"), |found| found.name.clone());
        // A card without a bus address (a software driver, some integrated parts) is known by its
        // name and its place in the list.
        let place = identity
            .and_then(|found| found.physical?.pci_address)
            .map_or_else(|| format!("{name}#{index}"), |address| address.to_string());
        let lower = name.to_lowercase();
        DeviceInfo {
            id: DeviceId(format!("{backend}:{place}")),
            backend: backend.to_owned(),
            software: format!("{device:?}").contains("Cpu")
                || ["llvmpipe", "swiftshader", "lavapipe"]
                    .iter()
                    .any(|known| lower.contains(known)),
            name,
            memory_bytes: None,
        }
    }

    pub(super) fn list(backend: &str) -> Vec<DeviceInfo> {
        let devices = devices(backend);
        let mut listed: Vec<DeviceInfo> = devices
            .iter()
            .enumerate()
            .map(|(index, device)| describe(backend, index, device))
            .collect();
        memory::note(&mut listed);
        listed
    }

    pub(super) fn open(backend: &str, id: &DeviceId) -> Result<Device, TrainError> {
        let found = devices(backend)
            .into_iter()
            .enumerate()
            .find(|(index, device)| describe(backend, *index, device).id == *id);
        found.map(|(_, device)| device).ok_or_else(|| unknown(&id.0))
    }
}
