//! `sweep submit`: hands a recipe to a coordinator, after showing what it costs.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    path::PathBuf,
};

use sweep_proto::{client::Control, v1};
use sweep_spec::{
    cost::CostModel,
    plan::{DeviceKind, Plan, slot_memory_bytes},
};

use crate::{
    client::{AccessArgs, block_on, refused},
    console::{Console, Format},
    exit::{Exit, Failure, OrExit as _},
    limit::Limit,
    output::{self, plan::Rows},
    recipe_file::Prepared,
    submission,
};

/// Arguments of `sweep submit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The recipe
    recipe: PathBuf,
    /// Do not ask before handing it in
    #[arg(long, short)]
    yes: bool,
    /// Keep unfinished runs of earlier versions of this recipe
    #[arg(long)]
    keep: bool,
    /// Train every run with this seed instead of the recipe's; repeats
    #[arg(long = "seed", value_name = "SEED")]
    seeds: Vec<u64>,
    /// Before sweeps of a lower priority; sweeps of one priority share the slots
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    access: AccessArgs,
}

/// Hands the sweep in and prints its id.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let prepared = Prepared::load(&args.recipe, &args.seeds)?;
    block_on(async {
        let mut control = args.access.connect().await?;
        let plan = plan(&mut control, &prepared).await?;
        if console.format == Format::Table {
            output::plan::print(&plan, Rows::Folded, console.err)?;
        }
        args.limit.hold(&plan)?;
        if !args.yes && !confirmed(console)? {
            console.say("nothing was submitted")?;
            return Ok(Exit::Interrupted);
        }
        let policy = v1::SweepPolicy { priority: args.priority, ..args.limit.terms() };
        let reply = submission::submit(&mut control, &prepared, &plan, !args.keep, policy).await?;
        console.say(submission::summary(&reply))?;
        match console.format {
            Format::Json => console.json(&serde_json::json!({
                "schema": "sweep.submitted/1",
                "sweep": reply.sweep_id,
                "runs_new": reply.runs_new,
                "runs_finished": reply.runs_finished,
                "runs_known": reply.runs_known,
                "runs_failed": reply.runs_failed,
                "runs_superseded": reply.runs_superseded,
            }))?,
            Format::Table | Format::Quiet => writeln!(console.out, "{}", reply.sweep_id)?,
        }
        Ok(Exit::Done)
    })
}

/// The plan on the devices that are online, by the coordinator's measured speeds.
async fn plan(control: &mut Control, prepared: &Prepared) -> Result<Plan, Failure> {
    let reply = control.get_cost_model(v1::GetCostModelRequest {}).await.map_err(refused)?;
    let cost: CostModel =
        serde_json::from_str(&reply.into_inner().cost_model_json).or_exit(Exit::Failed)?;
    let reply = control.list_workers(v1::ListWorkersRequest {}).await.map_err(refused)?;
    prepared.plan(&cost, &kinds(&reply.into_inner().workers))
}

/// The kinds of device with slots on workers that are online.
fn kinds(workers: &[v1::Worker]) -> Vec<DeviceKind> {
    let mut kinds: Vec<DeviceKind> = Vec::new();
    for worker in workers.iter().filter(|worker| worker.state() == v1::WorkerState::Online) {
        for device in &worker.devices {
            let placed = worker.slots.iter().filter_map(|slot| slot.slot.as_ref());
            let slots = placed.filter(|slot| slot.device_id == device.id).count();
            let Ok(slots @ 1..) = u32::try_from(slots) else { continue };
            let memory_bytes = device.memory_bytes.map(|bytes| slot_memory_bytes(bytes, slots));
            match kinds.iter_mut().find(|kind| kind.name == device.name) {
                Some(kind) => {
                    kind.slots += slots;
                    // A run goes where most memory is; unknown memory is taken to suffice.
                    kind.memory_bytes =
                        kind.memory_bytes.zip(memory_bytes).map(|(one, other)| one.max(other));
                }
                None => kinds.push(DeviceKind { name: device.name.clone(), slots, memory_bytes }),
            }
        }
    }
    kinds
}

/// Asks on a terminal; a script must say `--yes`.
fn confirmed(console: &mut Console<'_>) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let message = "submit asks before it spends, and stdin is no terminal; hint: add --yes";
        return Err(Failure::message(Exit::Usage, message));
    }
    write!(console.err, "submit? [y/N] ")?;
    console.err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
