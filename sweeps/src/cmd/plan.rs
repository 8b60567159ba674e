//! `sweep plan`: the runs of a recipe with their size, cost and warnings. It reads the data, since
//! vocabulary and unique tokens decide shapes and repeats, and starts no run.

use std::path::PathBuf;

#[cfg(feature = "local")]
use sweep_spec::cost::CostModel;
use sweep_spec::plan::DeviceKind;

#[cfg(feature = "local")]
use crate::local::calibrate::calibrate;
use crate::{
    console::{Console, Format},
    exit::{Exit, Failure},
    machine,
    output::{self, plan::Rows},
    recipe_file::Prepared,
    speed,
};

/// Arguments of `sweep plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The recipe
    recipe: PathBuf,
    /// Plan for this kind of device, as `NAME` or `NAME:SLOTS`; repeats. This machine's processor
    /// when absent
    #[arg(long = "device", value_name = "NAME[:SLOTS]", value_parser = device_kind)]
    devices: Vec<DeviceKind>,
    /// Runs that train at a time on this machine; one per core when absent
    #[arg(long)]
    slots: Option<u32>,
    /// Train every run with this seed instead of the recipe's; repeats
    #[arg(long = "seed", value_name = "SEED")]
    seeds: Vec<u64>,
    /// List every run, also where the grid is one of budgets
    #[arg(long)]
    runs: bool,
    /// First train a few steps of each shape on this machine's processor, and keep their speed
    #[cfg(feature = "local")]
    #[arg(long, conflicts_with = "devices")]
    calibrate: bool,
}

fn device_kind(text: &str) -> Result<DeviceKind, String> {
    let (name, slots) = match text.rsplit_once(':') {
        Some((name, slots)) if slots.chars().all(|c| c.is_ascii_digit()) && !slots.is_empty() => {
            (name, slots.parse::<u32>().map_err(|error| error.to_string())?)
        }
        _ => (text, 1),
    };
    if name.is_empty() || slots == 0 {
        return Err("give a name and at least one slot; hint: --device \"RTX 4090:2\"".to_owned());
    }
    Ok(DeviceKind { name: name.to_owned(), slots, memory_bytes: None })
}

/// Prints the plan.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let prepared = Prepared::load(&args.recipe, &args.seeds)?;
    let kinds = if args.devices.is_empty() {
        vec![machine::processor(args.slots)]
    } else {
        args.devices.clone()
    };
    #[cfg(feature = "local")]
    let cost =
        if args.calibrate { calibrated(&prepared, &kinds[0], console)? } else { speed::load() };
    #[cfg(not(feature = "local"))]
    let cost = speed::load();
    let plan = prepared.plan(&cost, &kinds)?;
    let rows = if args.runs { Rows::Every } else { Rows::Folded };
    match console.format {
        Format::Table => output::plan::print(&plan, rows, console.out)?,
        Format::Json => console.json(&plan)?,
        Format::Quiet => {
            for run in &plan.runs {
                writeln!(console.out, "{}", run.id)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// What was measured before and what is measured now.
#[cfg(feature = "local")]
fn calibrated(
    prepared: &Prepared,
    kind: &DeviceKind,
    console: &mut Console<'_>,
) -> Result<CostModel, Failure> {
    let mut cost = speed::load();
    let configs = prepared.grid.runs.iter().map(|entry| &entry.run.config);
    calibrate(configs, kind, &mut cost, console)?;
    speed::save(&cost).map_err(|error| {
        let hint = "hint: SWEEP_CACHE names another cache folder";
        Failure::message(Exit::Failed, format!("cannot keep the speeds: {error}; {hint}"))
    })?;
    Ok(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_with_and_without_slots() {
        let kind =
            |name: &str, slots| DeviceKind { name: name.to_owned(), slots, memory_bytes: None };
        assert_eq!(device_kind("RTX 4090:2"), Ok(kind("RTX 4090", 2)));
        assert_eq!(device_kind("AMD EPYC"), Ok(kind("AMD EPYC", 1)));
        assert!(device_kind(":2").is_err());
        assert!(device_kind("x:0").is_err());
    }
}
