//! `sweep explain`, `cancel`, `retry`, `pause` and `resume`: what people do with single runs and
//! sweeps.

use sweep_proto::{client::Control, convert, v1};
use sweep_spec::attempt::RunState;

use crate::{
    client::{AccessArgs, block_on, refused, select_sweep},
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

/// Which runs of a sweep.
#[derive(Debug, clap::Args)]
struct Selector {
    /// A sweep, by name, id or the beginning of its id, or `last`
    sweep: String,
    /// Only this run; repeats
    #[arg(long = "run", value_name = "RUN")]
    runs: Vec<String>,
    /// Only runs in this state: queued, running, finished, diverged, failed, cancelled; repeats
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    states: Vec<RunState>,
}

fn state(text: &str) -> Result<RunState, String> {
    RunState::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = RunState::ALL.iter().map(|state| state.name()).collect();
        format!("no state is called `{text}`; hint: {}", names.join(", "))
    })
}

impl Selector {
    /// The sweep, and the runs selected in it; `None` for all.
    async fn select(
        &self,
        control: &mut Control,
    ) -> Result<(String, Option<Vec<String>>), Failure> {
        let sweep = select_sweep(control, &self.sweep).await?;
        if self.states.is_empty() {
            let runs = (!self.runs.is_empty()).then(|| self.runs.clone());
            return Ok((sweep, runs));
        }
        let request = v1::ListRunsRequest {
            sweep: sweep.clone(),
            runs: self.runs.clone(),
            states: self.states.iter().map(|&state| v1::RunState::from(state).into()).collect(),
            ..v1::ListRunsRequest::default()
        };
        let mut rows = control.list_runs(request).await.map_err(refused)?.into_inner();
        let mut runs = Vec::new();
        while let Some(row) = rows.message().await.map_err(refused)? {
            runs.push(row.run_id);
        }
        if runs.is_empty() {
            let message = "no run of the sweep is in such a state; hint: see `sweep status SWEEP`";
            return Err(Failure::message(Exit::NoMatch, message));
        }
        Ok((sweep, Some(runs)))
    }
}

/// Arguments of `sweep cancel`.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    selector: Selector,
    #[command(flatten)]
    access: AccessArgs,
}

/// Gives up the unfinished runs of a sweep.
pub(crate) fn cancel(args: &CancelArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let (sweep, runs) = args.selector.select(&mut control).await?;
        let runs = runs.unwrap_or_default();
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
        Ok(Exit::Done)
    })
}

/// Arguments of `sweep retry`.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    selector: Selector,
    #[command(flatten)]
    access: AccessArgs,
}

/// Queues failed and cancelled runs again.
pub(crate) fn retry(args: &RetryArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let (sweep, runs) = args.selector.select(&mut control).await?;
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
    /// A sweep, by name, id or the beginning of its id, or `last`
    sweep: String,
    #[command(flatten)]
    access: AccessArgs,
}

/// Stops a sweep until it is resumed; its runs keep what they have.
pub(crate) fn pause(args: &PauseArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let change = v1::UpdateSweepRequest { paused: Some(true), ..v1::UpdateSweepRequest::default() };
    update(&args.sweep, &args.access, change, console)
}

/// Arguments of `sweep resume`.
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    /// A sweep, by name, id or the beginning of its id, or `last`
    sweep: String,
    /// Also train check runs whose forecast nobody has written down
    #[arg(long)]
    checks: bool,
    /// Give it another priority
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    #[command(flatten)]
    access: AccessArgs,
}

/// Lets a sweep go on.
pub(crate) fn resume(args: &ResumeArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let change = v1::UpdateSweepRequest {
        paused: Some(false),
        checks_held: args.checks.then_some(false),
        priority: args.priority,
        ..v1::UpdateSweepRequest::default()
    };
    update(&args.sweep, &args.access, change, console)
}

fn update(
    sweep: &str,
    access: &AccessArgs,
    change: v1::UpdateSweepRequest,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = access.connect().await?;
        let sweep = select_sweep(&mut control, sweep).await?;
        let reply = submission::update(&mut control, &sweep, change).await?;
        let policy = reply.policy.unwrap_or_default();
        match console.format {
            Format::Json => console.json(&serde_json::json!({
                "schema": "sweep.terms/1",
                "paused": policy.paused,
                "checks_held": policy.checks_held,
                "priority": policy.priority,
                "runs_stopping": reply.runs_stopping,
            }))?,
            _ if policy.paused => console.say(format_args!(
                "paused; {} runs stop with checkpoints; `sweep resume` lets it go on",
                reply.runs_stopping
            ))?,
            _ => console.say(format_args!("it goes on, at priority {}", policy.priority))?,
        }
        Ok(Exit::Done)
    })
}
