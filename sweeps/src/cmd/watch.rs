//! `sweep watch`: progress of a sweep until every run has ended; under `--json` a line for each message
//! of the coordinator.

use sweep_proto::{client::Control, v1};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    client::{AccessArgs, block_on, refused, select_sweep},
    console::{Console, Format},
    exit::{Exit, Failure},
    output::progress::json_line,
    progress::{Bars, LINE_INTERVAL, Progress, Weights},
};

/// Arguments of `sweep watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A sweep, by name, id or the beginning of its id
    #[arg(default_value = "last")]
    sweep: String,
    #[command(flatten)]
    access: AccessArgs,
}

/// Follows the sweep; the exit code says whether runs failed.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let sweep = select_sweep(&mut control, &args.sweep).await?;
        let mut progress = Progress::default();
        if console.format == Format::Json {
            stream(&mut control, &sweep, &mut progress, console).await?;
        } else {
            progress = Progress::new(weights(&mut control, &sweep).await?);
            follow(&mut control, &sweep, &mut progress, console, &mut |_| false).await?;
        }
        if let Some(reason) = progress.held_back() {
            let message = format!(
                "nothing more is trained: {reason}; hint: `sweep resume` lets a paused sweep go on, \
                 `sweep submit` sets other limits"
            );
            return Err(Failure::message(Exit::OverBudget, message));
        }
        Ok(if progress.failed() > 0 { Exit::Failed } else { Exit::Done })
    })
}

/// Predicted seconds and names of the runs of a sweep.
///
/// # Errors
/// What the coordinator refuses.
pub(crate) async fn weights(control: &mut Control, sweep: &str) -> Result<Weights, Failure> {
    let request = v1::ListRunsRequest { sweep: sweep.to_owned(), ..v1::ListRunsRequest::default() };
    let mut rows = control.list_runs(request).await.map_err(refused)?.into_inner();
    let mut weights = Weights::default();
    while let Some(row) = rows.message().await.map_err(refused)? {
        let facts = row.facts.unwrap_or_default();
        weights.images |= facts.family == "diffusion";
        // FLOPs where no prediction is known: for all runs or for none, as they are summed.
        let weight = row.predicted_seconds.unwrap_or(facts.own_flops / 1e10);
        #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
        let (n, d) = (facts.n_total as f64, facts.tokens as f64);
        let label = format!(
            "{} N {} D {}",
            &row.run_id[..8.min(row.run_id.len())],
            sweep_spec::units::si(n),
            sweep_spec::units::si(d)
        );
        weights.seconds.insert(row.run_id.clone(), weight);
        if let Some(step) = facts.parent_step {
            weights.first_steps.insert(row.run_id.clone(), step);
        }
        weights.labels.insert(row.run_id, label);
    }
    Ok(weights)
}

/// Writes each message as a line of JSON until the sweep is done or held back.
async fn stream(
    control: &mut Control,
    sweep: &str,
    progress: &mut Progress,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let request = v1::WatchSweepRequest { sweep: sweep.to_owned() };
    let mut messages = control.watch_sweep(request).await.map_err(refused)?.into_inner();
    while let Some(message) = messages.message().await.map_err(refused)? {
        json_line(sweep, &message, console.out)?;
        progress.update(message);
        if progress.is_done() || progress.held_back().is_some() {
            break;
        }
    }
    Ok(())
}

/// Shows progress until the sweep is done, or `until` says so of a message.
///
/// # Errors
/// What the coordinator refuses, and stderr that cannot be written.
pub(crate) async fn follow(
    control: &mut Control,
    sweep: &str,
    progress: &mut Progress,
    console: &mut Console<'_>,
    until: &mut dyn FnMut(&Progress) -> bool,
) -> Result<(), Failure> {
    let request = v1::WatchSweepRequest { sweep: sweep.to_owned() };
    let mut stream = control.watch_sweep(request).await.map_err(refused)?.into_inner();
    let quiet = console.format == Format::Quiet;
    let mut bars = if quiet { None } else { Bars::on_terminal(console.terminal) };
    let mut lines = interval(LINE_INTERVAL);
    lines.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, before anything is known.
    lines.tick().await;
    loop {
        tokio::select! {
            message = stream.message() => {
                let Some(message) = message.map_err(refused)? else { break };
                progress.update(message);
                if let Some(bars) = &mut bars {
                    bars.draw(progress);
                }
                if progress.is_done() || progress.held_back().is_some() || until(progress) {
                    break;
                }
            }
            _ = lines.tick(), if bars.is_none() && !quiet => console.say(progress.line())?,
        }
    }
    drop(bars);
    if !quiet {
        console.say(progress.line())?;
    }
    Ok(())
}
