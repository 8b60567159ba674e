//! Which devices this worker may train on, found without opening one in the daemon.
//!
//! Each backend is listed by a throw-away child of its own, so a driver that crashes or hangs costs
//! its backend and nothing else; then each GPU runs the canary in a child of its own. What is left
//! out is told with its reason. Nothing is retried: starting the worker again is the retry.

use std::time::Duration;

use serde::de::DeserializeOwned;
use sweep_spec::attempt::CANARY_REFUSED;
use tokio::{io::AsyncReadExt, time::timeout};

use crate::{
    frame,
    launch::{self, CanaryAnswer, InventoryAnswer, Launch, Listed, Purpose},
    memory,
};

/// A broken driver hangs; a whole one lists its devices in a second or two.
const INVENTORY_MAX: Duration = Duration::from_mins(1);

/// The first canary on a device compiles and tunes its kernels.
const CANARY_MAX: Duration = Duration::from_mins(5);

/// A child that has answered, or whose stdin is closed, ends at once or is killed.
const EXIT_MAX: Duration = Duration::from_secs(2);

/// Stderr of a child kept for the log.
const STDERR_BYTES_MAX: u64 = 64 << 10;

/// Backends compiled into this program besides the CPU.
const GPU_BACKENDS: &[&str] =
    if cfg!(feature = "cuda") { &["vulkan", "cuda"] } else { &["vulkan"] };

/// Which devices are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// Every GPU that passes; the CPU when none does.
    Auto,
    /// The CPU.
    Cpu,
    /// Every device of a GPU backend that passes; the CPU when none does.
    Backend(String),
    /// One device by its id.
    Device(String),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = |backend: &str| GPU_BACKENDS.contains(&backend);
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if known(text) => Ok(Self::Backend(text.to_owned())),
            Some((backend, place)) if known(backend) && !place.is_empty() => {
                Ok(Self::Device(text.to_owned()))
            }
            _ => Err(format!(
                "no device is called `{text}`; hint: auto, cpu, {}, or a device id as \
                 `worker devices` lists it{}",
                GPU_BACKENDS.join(", "),
                if cfg!(feature = "cuda") {
                    ""
                } else {
                    "; cuda needs a build with --features cuda"
                },
            )),
        }
    }
}

impl DeviceChoice {
    fn backends(&self) -> Vec<&'static str> {
        let wanted = |backend: &&&str| match self {
            Self::Auto => true,
            Self::Cpu => false,
            Self::Backend(name) => name == **backend,
            Self::Device(id) => id.split(':').next() == Some(**backend),
        };
        GPU_BACKENDS.iter().filter(wanted).copied().collect()
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Inventory {
    /// Devices to train on; their canary passed. The CPU is among them only when it is chosen.
    pub(crate) devices: Vec<Listed>,
    /// Devices left out.
    pub(crate) refused: Vec<Refusal>,
}

/// A device or a backend that is not used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Refusal {
    /// The device's id, or the backend's name.
    pub(crate) device: String,
    /// The name of the card; absent for a backend.
    pub(crate) name: Option<String>,
    pub(crate) reason: String,
}

impl Refusal {
    fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.device.clone(), |name| label(&self.device, name))
    }
}

fn label(id: &str, name: &str) -> String {
    format!("{id} {name}")
}

impl Inventory {
    /// Everything refused, on one line; `None` when nothing was.
    pub(crate) fn refusals(&self) -> Option<String> {
        let one = |refusal: &Refusal| format!("{} ({})", refusal.label(), refusal.reason);
        let all: Vec<String> = self.refused.iter().map(one).collect();
        (!all.is_empty()).then(|| format!("devices refused: {}", all.join("; ")))
    }
}

/// Takes the inventory for a choice of devices.
pub(crate) async fn take(
    launch: &Launch,
    choice: &DeviceChoice,
    offer_software: bool,
) -> Result<Inventory, String> {
    let mut inventory = Inventory { devices: Vec::new(), refused: Vec::new() };
    for backend in choice.backends() {
        match list(launch, backend).await {
            Ok(devices) if devices.is_empty() => inventory.refuse(backend, "driver absent"),
            Ok(devices) => inventory.try_devices(launch, choice, devices, offer_software).await,
            Err(reason) => inventory.refuse(backend, reason),
        }
    }
    if let DeviceChoice::Device(id) = choice
        && inventory.devices.is_empty()
    {
        let why = inventory.refusals().unwrap_or_else(|| "it is not listed".to_owned());
        return Err(format!("device {id} cannot be used: {why}; hint: see `worker devices`"));
    }
    if inventory.devices.is_empty() {
        let cpu =
            list(launch, "cpu").await.map_err(|reason| format!("the CPU backend: {reason}"))?;
        let limit = memory::limit_bytes();
        inventory.devices.extend(cpu.into_iter().take(1).map(|device| within(limit, device)));
    }
    if inventory.devices.is_empty() {
        return Err("the CPU backend lists no device".to_owned());
    }
    Ok(inventory)
}

impl Inventory {
    fn refuse(&mut self, backend: &str, reason: impl Into<String>) {
        let reason = reason.into();
        self.refused.push(Refusal { device: backend.to_owned(), name: None, reason });
    }

    fn refuse_device(&mut self, device: Listed, reason: impl Into<String>) {
        let (name, reason) = (Some(device.name), reason.into());
        self.refused.push(Refusal { device: device.id, name, reason });
    }

    async fn try_devices(
        &mut self,
        launch: &Launch,
        choice: &DeviceChoice,
        devices: Vec<Listed>,
        offer_software: bool,
    ) {
        for device in devices {
            if matches!(choice, DeviceChoice::Device(id) if *id != device.id) {
                continue;
            }
            if device.software && !offer_software {
                self.refuse_device(device, "software driver");
                continue;
            }
            let purpose = Purpose::Canary { device: device.id.clone() };
            match ask::<CanaryAnswer>(launch, &purpose, CANARY_MAX).await {
                Ok(CanaryAnswer::Passed(reason)) => {
                    tracing::info!("{}: canary passed, {reason}", label(&device.id, &device.name));
                    self.devices.push(device);
                }
                Ok(CanaryAnswer::Refused(reason)) => {
                    self.refuse_device(device, format!("{CANARY_REFUSED}: {reason}"));
                }
                Err(reason) => self.refuse_device(device, format!("canary: {reason}")),
            }
        }
    }
}

/// The processor with no more memory than the system lets us use of it.
fn within(limit: Option<u64>, processor: Listed) -> Listed {
    Listed { memory_bytes: processor.memory_bytes.into_iter().chain(limit).min(), ..processor }
}

async fn list(launch: &Launch, backend: &str) -> Result<Vec<Listed>, String> {
    let purpose = Purpose::Inventory { backend: backend.to_owned() };
    match ask::<InventoryAnswer>(launch, &purpose, INVENTORY_MAX).await? {
        InventoryAnswer::Devices(devices) => Ok(devices),
        InventoryAnswer::Failed(reason) => Err(reason),
    }
}

/// Starts a child for one answer; why there is none, in words.
async fn ask<A: DeserializeOwned>(
    launch: &Launch,
    purpose: &Purpose,
    limit: Duration,
) -> Result<A, String> {
    ask_command(launch.command(purpose), limit).await
}

async fn ask_command<A: DeserializeOwned>(
    mut command: tokio::process::Command,
    limit: Duration,
) -> Result<A, String> {
    let mut child = command.spawn().map_err(|error| format!("cannot start a child: {error}"))?;
    let mut stdout = child.stdout.take().expect("the command pipes stdout");
    let mut stderr = child.stderr.take().expect("the command pipes stderr").take(STDERR_BYTES_MAX);
    let noise = tokio::spawn(async move {
        let mut noise = Vec::new();
        let _ = stderr.read_to_end(&mut noise).await;
        noise
    });
    // Its stdin stays open until the answer is here: a child whose stdin closes exits.
    let stdin = child.stdin.take();
    let answer = timeout(limit, frame::read_async(&mut stdout)).await;
    drop(stdin);
    // A child without an answer has ended, and how is the reason; any other may hang at its end.
    let status = timeout(EXIT_MAX, child.wait()).await;
    let _ = child.start_kill();
    if let Ok(Ok(noise)) = timeout(EXIT_MAX, noise).await
        && !noise.is_empty()
    {
        tracing::debug!("a child said: {}", String::from_utf8_lossy(&noise));
    }
    match answer {
        Ok(Ok(Some(payload))) => serde_json::from_slice(&payload)
            .map_err(|error| format!("the answer is of another version: {error}")),
        Ok(Ok(None)) => Err(match status {
            Ok(Ok(status)) => format!("driver {}", launch::describe(status)),
            _ => "driver closed its pipe and hung".to_owned(),
        }),
        Ok(Err(error)) => Err(format!("the answer is broken: {error}")),
        Err(_) => Err(format!("driver hung for {} s", limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    async fn answer(script: &str, limit: Duration) -> Result<InventoryAnswer, String> {
        let mut command = tokio::process::Command::new("sh");
        command.arg("-c").arg(script).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ask_command(command, limit).await
    }

    #[tokio::test]
    async fn a_driver_that_crashes_hangs_or_babbles_is_a_reason() {
        let limit = Duration::from_secs(10);
        let crashed = answer("kill -SEGV $$", limit).await.unwrap_err();
        assert_eq!(crashed, "driver crashed with signal SIGSEGV");
        let hung = answer("exec cat", Duration::from_millis(100)).await.unwrap_err();
        assert!(hung.starts_with("driver hung"), "{hung}");
        let babble = answer("echo a banner of the driver", limit).await.unwrap_err();
        assert!(babble.starts_with("the answer is broken"), "{babble}");
    }

    #[test]
    fn refusals_are_one_line() {
        let mut inventory = Inventory { devices: Vec::new(), refused: Vec::new() };
        assert_eq!(inventory.refusals(), None);
        inventory.refuse("cuda", "driver absent");
        let device = Listed {
            id: "vulkan:0000:00:00.0".to_owned(),
            backend: "vulkan".to_owned(),
            name: "llvmpipe".to_owned(),
            memory_bytes: None,
            software: true,
        };
        inventory.refuse_device(device, "software driver");
        assert_eq!(
            inventory.refusals().as_deref(),
            Some(
                "devices refused: cuda (driver absent); \
                 vulkan:0000:00:00.0 llvmpipe (software driver)"
            )
        );
    }

    #[test]
    fn a_processor_has_no_more_memory_than_its_group() {
        let memory = |limit, memory_bytes| {
            let processor = Listed {
                id: "cpu".to_owned(),
                backend: "cpu".to_owned(),
                name: "AMD EPYC".to_owned(),
                memory_bytes,
                software: false,
            };
            within(limit, processor).memory_bytes
        };
        assert_eq!(memory(Some(4), Some(9)), Some(4));
        assert_eq!(memory(Some(u64::MAX), Some(9)), Some(9));
        assert_eq!((memory(None, Some(9)), memory(Some(4), None)), (Some(9), Some(4)));
        assert_eq!(memory(None, None), None);
    }

    #[test]
    fn devices_are_chosen_by_name() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!("vulkan".parse(), Ok(DeviceChoice::Backend("vulkan".to_owned())));
        let one: DeviceChoice = "vulkan:0000:01:00.0".parse().unwrap();
        assert_eq!(one.backends(), ["vulkan"]);
        for text in ["gpu", "cpu:0", "vulkan:", ""] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.contains("hint: "), "{error}");
        }
        assert!(DeviceChoice::Cpu.backends().is_empty());
    }
}
