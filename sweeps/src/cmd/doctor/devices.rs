//! The devices of this machine, as the inventory of a worker started here would find them: each GPU
//! with its canary. A process of its own asks, since a driver may crash or hang.

use std::{process::Stdio, time::Duration};

use serde::Deserialize;
use sweep_spec::units::bytes;
use tokio::{process::Command, time::timeout};

use super::{Line, device_refused};
use crate::exit::{Exit, Failure, OrExit as _};

/// Listing two backends and the canaries of a node of eight devices, the first of which compiles.
const INVENTORY_MAX: Duration = Duration::from_mins(15);

#[derive(Deserialize)]
struct Listing {
    devices: Vec<Device>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Device {
    id: String,
    name: String,
    memory_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Refused {
    device: String,
    name: Option<String>,
    reason: String,
}

/// A line for each device, and for each that is not used.
pub(super) async fn found() -> Result<Vec<Line>, Failure> {
    let program = std::env::current_exe().or_exit(Exit::Failed)?;
    let listing = Command::new(program)
        .args(["worker", "devices", "--json"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let hint = "`sweep worker devices` with SWEEP_LOG=debug says more";
    Ok(match timeout(INVENTORY_MAX, listing).await {
        Ok(Ok(output)) if output.status.success() => {
            serde_json::from_slice(&output.stdout).map(|listing| lines(&listing)).unwrap_or_else(
                |error| vec![Line::fail("device", format!("the inventory: {error}"), hint)],
            )
        }
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or("it ended without a word");
            vec![Line::fail("device", format!("the inventory: {last}"), hint)]
        }
        Ok(Err(error)) => vec![Line::fail("device", format!("the inventory: {error}"), hint)],
        Err(_) => vec![Line::fail("device", "the inventory hangs", hint)],
    })
}

fn lines(listing: &Listing) -> Vec<Line> {
    let used = listing.devices.iter().map(|device| {
        let memory =
            device.memory_bytes.map_or_else(String::new, |left| format!(", {}", bytes(left)));
        Line::ok("device", format!("{} {}{memory}", device.id, device.name))
    });
    let refused = listing.refused.iter().map(|refused| {
        let name = refused.name.as_ref().map_or_else(String::new, |name| format!(" {name}"));
        let found = format!("{}{name}: {}", refused.device, refused.reason);
        device_refused(found, &refused.reason)
    });
    used.chain(refused).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_device_that_computes_wrongly_is_a_warning_and_an_absent_driver_is_none() {
        let text = r#"{"devices":[{"id":"cpu","backend":"cpu","name":"AMD EPYC","memory_bytes":null,
            "software":false}],"refused":[{"device":"cuda","name":null,"reason":"driver absent"},
            {"device":"vulkan:1","name":"RTX 4090","reason":"canary: driver hung for 300 s"}]}"#;
        let found = lines(&serde_json::from_str(text).expect("reads"));
        let told: Vec<(Status, &str)> =
            found.iter().map(|line| (line.status, line.found.as_str())).collect();
        assert_eq!(
            told,
            [
                (Status::Ok, "cpu AMD EPYC"),
                (Status::Ok, "cuda: driver absent"),
                (Status::Warn, "vulkan:1 RTX 4090: canary: driver hung for 300 s"),
            ]
        );
    }
}
