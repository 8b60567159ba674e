//! `sweep explain`, `cancel` and `retry`: what people do with single runs and sweeps.

use sweep_proto::{convert, v1};

use crate::{
    client::{AccessArgs, block_on, refused, select_sweep},
    console::{Console, Format},
    exit::{Exit, Failure, OrExit as _},
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
    /// A sweep, by name, id or the beginning of its id, or `last`
    sweep: String,
    #[command(flatten)]
    access: AccessArgs,
}

/// Gives up the unfinished runs of a sweep.
pub(crate) fn cancel(args: &CancelArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let sweep = select_sweep(&mut control, &args.sweep).await?;
        let reply = control
            .cancel_sweep(v1::CancelSweepRequest { sweep })
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
        Ok(Exit::Done)
    })
}

/// Arguments of `sweep retry`.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// A sweep, by name, id or the beginning of its id, or `last`
    sweep: String,
    /// Only this run; repeats
    #[arg(long = "run", value_name = "RUN")]
    runs: Vec<String>,
    #[command(flatten)]
    access: AccessArgs,
}

/// Queues failed and cancelled runs again.
pub(crate) fn retry(args: &RetryArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let sweep = select_sweep(&mut control, &args.sweep).await?;
        let request = v1::RetryRunsRequest { sweep, runs: args.runs.clone() };
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
