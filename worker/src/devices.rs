//! `worker devices`: what the inventory finds, as a table or as JSON.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    args::DevicesArgs,
    daemon::WorkerError,
    inventory::{self, Refusal},
    launch::{Launch, Listed},
};

#[derive(Serialize)]
struct Listing<'a> {
    devices: &'a [Listed],
    refused: &'a [Refusal],
}

/// Takes the inventory and prints it on stdout.
pub(crate) async fn list(args: &DevicesArgs, launch: &Launch) -> Result<(), WorkerError> {
    let choice = &args.choice;
    let found = inventory::take(launch, &choice.device, choice.offer_software_gpus)
        .await
        .map_err(WorkerError::NoDevice)?;
    let mut out = io::stdout().lock();
    let written = if args.json {
        let listing = Listing { devices: &found.devices, refused: &found.refused };
        serde_json::to_writer_pretty(&mut out, &listing)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        table(&mut out, &found)
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(WorkerError::Output(error)),
        _ => Ok(()),
    }
}

fn table(out: &mut impl Write, found: &inventory::Inventory) -> io::Result<()> {
    for device in &found.devices {
        write!(out, "{}  {}", device.id, device.name)?;
        if let Some(bytes) = device.memory_bytes {
            write!(out, "  {} MiB", bytes >> 20)?;
        }
        writeln!(out)?;
    }
    for refusal in &found.refused {
        writeln!(out, "{}  refused: {}", refusal.device, refusal.reason)?;
    }
    Ok(())
}
