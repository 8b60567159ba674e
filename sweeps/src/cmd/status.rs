//! `sweep status`: the sweeps of a coordinator, or the runs of one.

use sweep_proto::{client::Control, v1};
use sweep_spec::units::si;

use crate::{
    client::{AccessArgs, block_on, refused, select_sweep},
    console::{Console, Format},
    exit::{Exit, Failure},
    output::table::{duration, lines, table},
    results::{self, Asked, RunResult, selector::Selector},
};

/// Arguments of `sweep status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A sweep, by name, id or the beginning of its id, or `last`; all sweeps when absent
    sweep: Option<String>,
    /// List the workers instead
    #[arg(long, conflicts_with = "sweep")]
    workers: bool,
    /// Only these runs of the sweep: all, last, places as 3 or 1-10, ids; joined by commas
    #[arg(long, value_name = "RUNS", requires = "sweep")]
    runs: Option<Selector>,
    #[command(flatten)]
    access: AccessArgs,
}

/// Prints the state.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        match &args.sweep {
            _ if args.workers => workers(&mut control, console).await,
            None => sweeps(&mut control, console).await,
            Some(name) => {
                let sweep = select_sweep(&mut control, name).await?;
                runs(&mut control, &sweep, args.runs.as_ref(), console).await
            }
        }
    })
}

async fn sweeps(control: &mut Control, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let reply = control.list_sweeps(v1::ListSweepsRequest {}).await.map_err(refused)?;
    let sweeps = reply.into_inner().sweeps;
    match console.format {
        Format::Quiet => {
            for sweep in &sweeps {
                writeln!(console.out, "{}", sweep.sweep_id)?;
            }
        }
        Format::Json => {
            let list: Vec<_> = sweeps.iter().map(summary_json).collect();
            console.json(&serde_json::json!({ "schema": "sweep.sweeps/1", "sweeps": list }))?;
        }
        Format::Table => {
            let header =
                ["sweep", "name", "finished", "running", "queued", "failed", "FLOPs done", "left"];
            let mut rows = table(&header, &[0, 1]);
            for sweep in &sweeps {
                rows.add_row(summary_cells(sweep));
            }
            writeln!(console.out, "{}", lines(&rows))?;
        }
    }
    Ok(Exit::Done)
}

fn summary_cells(sweep: &v1::SweepSummary) -> Vec<String> {
    let counts = sweep.counts.unwrap_or_default();
    let (planned, done) = (sweep.planned.unwrap_or_default(), sweep.done.unwrap_or_default());
    vec![
        sweep.sweep_id.chars().take(sweep_spec::id::SHORT_DIGITS).collect(),
        sweep.name.clone(),
        format!("{}/{}", counts.finished, planned.runs),
        counts.running.to_string(),
        counts.queued.to_string(),
        (counts.failed + counts.diverged + counts.cancelled).to_string(),
        format!("{:.2e}/{:.2e}", done.flops, planned.flops),
        sweep.remaining_seconds.map_or_else(|| "unknown".to_owned(), duration),
    ]
}

fn summary_json(sweep: &v1::SweepSummary) -> serde_json::Value {
    let counts = sweep.counts.unwrap_or_default();
    let (planned, done) = (sweep.planned.unwrap_or_default(), sweep.done.unwrap_or_default());
    serde_json::json!({
        "sweep": sweep.sweep_id,
        "name": sweep.name,
        "cancelled": sweep.cancelled,
        "queued": counts.queued,
        "running": counts.running,
        "finished": counts.finished,
        "diverged": counts.diverged,
        "failed": counts.failed,
        "runs_cancelled": counts.cancelled,
        "runs": planned.runs,
        "tokens": planned.tokens,
        "flops": planned.flops,
        "flops_6nd": planned.flops_6nd,
        "flops_done": done.flops,
        "measured_seconds": sweep.measured_seconds,
        "remaining_seconds": sweep.remaining_seconds,
        "planned_seconds": sweep.planned_seconds,
        "submitted_unix_ms": sweep.submitted_unix_ms,
        "ended_unix_ms": sweep.ended_unix_ms,
    })
}

async fn runs(
    control: &mut Control,
    sweep: &str,
    chosen: Option<&Selector>,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    let results = results::fetch(control, sweep, Asked::NONE).await?;
    let ids: Vec<&str> = results.runs.iter().map(|run| run.id.as_str()).collect();
    let shown = match chosen {
        Some(selector) => selector.places(&ids)?,
        None => (0..ids.len()).collect(),
    };
    let runs = || shown.iter().map(|&place| (place, &results.runs[place]));
    match console.format {
        Format::Quiet => {
            for (_, run) in runs() {
                writeln!(console.out, "{}", run.id)?;
            }
        }
        Format::Json => {
            let list: Vec<_> = runs().map(run_json).collect();
            console.json(&serde_json::json!({
                "schema": "sweep.runs/1", "sweep": results.id, "name": results.name, "runs": list,
            }))?;
        }
        Format::Table => {
            let header = ["", "run", "role", "N", "D", "state", "loss", "seconds", "device", ""];
            let mut rows = table(&header, &[1, 2, 5, 8, 9]);
            for (place, run) in runs() {
                rows.add_row(run_cells(place, run));
            }
            writeln!(console.out, "sweep {} {}", results.name, results.id)?;
            writeln!(console.out, "{}", lines(&rows))?;
        }
    }
    Ok(Exit::Done)
}

/// A run with its place in the list, by which commands select it.
fn run_json((place, run): (usize, &RunResult)) -> serde_json::Value {
    let mut value = crate::export::json::run(run);
    value["place"] = (place + 1).into();
    value["paused"] = run.is_held_back().into();
    value
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn run_cells(place: usize, run: &RunResult) -> Vec<String> {
    let state = run.state.name();
    vec![
        (place + 1).to_string(),
        run.label(),
        crate::export::role(run.role).to_owned(),
        si(run.parameters().total as f64),
        si(run.run.config.tokens() as f64),
        if run.is_held_back() { format!("{state}, paused") } else { state.to_owned() },
        run.loss.map_or_else(String::new, |loss| format!("{loss:.4}")),
        run.seconds.map_or_else(String::new, duration),
        run.device.clone().unwrap_or_default(),
        run.reason.clone().unwrap_or_default(),
    ]
}

async fn workers(control: &mut Control, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let reply = control.list_workers(v1::ListWorkersRequest {}).await.map_err(refused)?;
    let v1::ListWorkersReply { workers, left_off } = reply.into_inner();
    match console.format {
        Format::Quiet => {
            for worker in &workers {
                writeln!(console.out, "{}", worker.worker_id)?;
            }
        }
        Format::Json => {
            let list: Vec<_> = workers.iter().map(worker_json).collect();
            console.json(&serde_json::json!({
                "schema": "sweep.workers/1", "workers": list, "left_off": left_off,
            }))?;
        }
        Format::Table => {
            let mut rows =
                table(&["worker", "host", "state", "slots", "busy", "devices"], &[0, 1, 2, 5]);
            for worker in &workers {
                let busy = worker.slots.iter().filter(|slot| !slot.free).count();
                let devices: Vec<String> = worker.devices.iter().map(device_text).collect();
                rows.add_row(vec![
                    worker.worker_id.clone(),
                    worker.host.clone(),
                    state_name(worker.state()).to_owned(),
                    worker.slots.len().to_string(),
                    busy.to_string(),
                    devices.join(", "),
                ]);
            }
            writeln!(console.out, "{}", lines(&rows))?;
            if left_off > 0 {
                console.say(format_args!(
                    "{left_off} more workers are not shown; those online come first"
                ))?;
            }
        }
    }
    Ok(Exit::Done)
}

const fn state_name(state: v1::WorkerState) -> &'static str {
    match state {
        v1::WorkerState::Online => "online",
        v1::WorkerState::Draining => "draining",
        v1::WorkerState::Offline => "offline",
        v1::WorkerState::Unspecified => "unknown",
    }
}

fn device_text(device: &v1::Device) -> String {
    match &device.refused {
        Some(reason) => format!("{} refused: {reason}", device.id),
        None => format!("{} {}", device.id, device.name),
    }
}

fn worker_json(worker: &v1::Worker) -> serde_json::Value {
    let devices: Vec<_> = worker
        .devices
        .iter()
        .map(|device| {
            serde_json::json!({
                "id": device.id, "name": device.name, "backend": device.backend,
                "memory_bytes": device.memory_bytes, "software": device.software,
                "refused": device.refused,
            })
        })
        .collect();
    serde_json::json!({
        "worker": worker.worker_id,
        "host": worker.host,
        "state": state_name(worker.state()),
        "slots": worker.slots.len(),
        "busy": worker.slots.iter().filter(|slot| !slot.free).count(),
        "devices": devices,
    })
}
