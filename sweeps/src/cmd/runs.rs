//! `sweep explain`, `cancel`, `retry`, `pause` and `resume`: what people do with single runs and
//! sweeps.

mod selection;

use sweep_proto::{convert, v1};

use self::selection::Selection;
use crate::{
    client::{AccessArgs, block_on, refused},
    console::{Console, Format},
    exit::{Exit, Failure, OrExit as _},
    submission,
};

/// Arguments of `sweep explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// A run, by its id or the beginning of it
    run: String,
    #[command(flatten)]
    access: AccessArgs,
}

/// Says why a run stands where it stands.
pub(crate) fn explain(args: &ExplainArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let request = v1::ExplainRunRequest { run: args.run.clone() };
        let reply = control.explain_run(request).await.map_err(refused)?.into_inner();
        let state = convert::run_state("state", reply.state).or_exit(Exit::Failed)?.name();
        match console.format {
            Format::Json => console.json(&serde_json::json!({
                "schema": "sweep.explain/1", "state": state, "lines": reply.lines,
            }))?,
            Format::Table => {
                writeln!(console.out, "{state}")?;
                for line in &reply.lines {
                    writeln!(console.out, "{line}")?;
                }
            }
            Format::Quiet => writeln!(console.out, "{state}")?,
        }
        Ok(Exit::Done)
    })
}

/// Arguments of `sweep cancel`.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    access: AccessArgs,
}

/// Gives up the unfinished runs of a sweep, or those that are selected, even if other sweeps want them.
pub(crate) fn cancel(args: &CancelArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let (sweep, runs) = args.selection.select(&mut control).await?;
        let (whole, runs) = (runs.is_none(), runs.unwrap_or_default());
        let reply = control
            .cancel_sweep(v1::CancelSweepRequest { sweep, runs })
            .await
            .map_err(refused)?
            .into_inner();
        match console.format {
            Format::Json => console.json(&serde_json::json!({
                "schema": "sweep.cancelled/1",
                "runs_cancelled": reply.runs_cancelled,
                "runs_stopping": reply.runs_stopping,
            }))?,
            _ => console.say(format_args!(
                "{} runs cancelled, {} of them stop now; finished runs are kept",
                reply.runs_cancelled, reply.runs_stopping
            ))?,
        }
        // Of a sweep as a whole it is noted that nobody wants it, whatever is left of it.
        Ok(if reply.runs_cancelled == 0 && !whole { Exit::NoMatch } else { Exit::Done })
    })
}

/// Arguments of `sweep retry`.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    access: AccessArgs,
}

/// Queues failed and cancelled runs again.
pub(crate) fn retry(args: &RetryArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let (sweep, runs) = args.selection.select(&mut control).await?;
        let request = v1::RetryRunsRequest { sweep, runs: runs.unwrap_or_default() };
        let queued = control.retry_runs(request).await.map_err(refused)?.into_inner().runs_queued;
        match console.format {
            Format::Json => console.json(&serde_json::json!({
                "schema": "sweep.retried/1", "runs_queued": queued,
            }))?,
            _ => console.say(format_args!("{queued} runs queued again"))?,
        }
        Ok(if queued == 0 { Exit::NoMatch } else { Exit::Done })
    })
}

/// Arguments of `sweep pause`.
#[derive(Debug, clap::Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    access: AccessArgs,
}

/// Stops a sweep, or runs of it, until it is resumed; what was trained is kept.
pub(crate) fn pause(args: &PauseArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let change = v1::UpdateSweepRequest { paused: Some(true), ..v1::UpdateSweepRequest::default() };
    change_or_pause(&args.selection, &args.access, change, true, console)
}

/// Arguments of `sweep resume`.
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    selection: Selection,
    /// Also train check runs whose forecast nobody has written down
    #[arg(long, conflicts_with_all = ["chosen", "runs", "states"])]
    checks: bool,
    /// Give the sweep another priority
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        conflicts_with_all = ["chosen", "runs", "states"]
    )]
    priority: Option<i32>,
    #[command(flatten)]
    access: AccessArgs,
}

/// Lets a sweep go on, or runs of it that were paused by themselves.
pub(crate) fn resume(args: &ResumeArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let change = v1::UpdateSweepRequest {
        paused: Some(false),
        checks_held: args.checks.then_some(false),
        priority: args.priority,
        ..v1::UpdateSweepRequest::default()
    };
    change_or_pause(&args.selection, &args.access, change, false, console)
}

/// Changes the terms of a sweep, or holds the selected runs of it back or lets them go on.
fn change_or_pause(
    selection: &Selection,
    access: &AccessArgs,
    change: v1::UpdateSweepRequest,
    paused: bool,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = access.connect().await?;
        match selection.select(&mut control).await? {
            (sweep, None) => {
                let reply = submission::update(&mut control, &sweep, change).await?;
                say_terms(&reply, console)
            }
            (sweep, Some(runs)) => {
                let request = v1::PauseRunsRequest { sweep, runs, paused };
                let reply = control.pause_runs(request).await.map_err(refused)?.into_inner();
                say_paused(reply, paused, console)
            }
        }
    })
}

fn say_terms(reply: &v1::UpdateSweepReply, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let policy = reply.policy.unwrap_or_default();
    match console.format {
        Format::Json => console.json(&serde_json::json!({
            "schema": "sweep.terms/1",
            "paused": policy.paused,
            "checks_held": policy.checks_held,
            "priority": policy.priority,
            "runs_stopping": reply.runs_stopping,
            "runs_paused": reply.runs_paused,
        }))?,
        _ if policy.paused => console.say(format_args!(
            "paused; {} runs stop with checkpoints; `sweep resume` lets it go on",
            reply.runs_stopping
        ))?,
        _ => {
            console.say(format_args!("it goes on, at priority {}", policy.priority))?;
            if reply.runs_paused > 0 {
                console.say(format_args!(
                    "{} runs stay paused by themselves; `sweep resume SWEEP all` lets them go on",
                    reply.runs_paused
                ))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn say_paused(
    reply: v1::PauseRunsReply,
    paused: bool,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    let changed = reply.runs_changed;
    match console.format {
        Format::Json => console.json(&serde_json::json!({
            "schema": "sweep.paused/1",
            "paused": paused,
            "runs_changed": changed,
            "runs_stopping": reply.runs_stopping,
        }))?,
        _ if paused => console.say(format_args!(
            "{changed} runs paused, {} of them stop now with checkpoints; `sweep resume` with the same \
             runs lets them go on",
            reply.runs_stopping
        ))?,
        _ => console.say(format_args!("{changed} runs go on"))?,
    }
    Ok(if changed == 0 { Exit::NoMatch } else { Exit::Done })
}
