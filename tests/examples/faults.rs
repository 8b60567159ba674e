//! What a lost worker costs, measured with the real binaries: how soon it is noticed, and how much
//! of its training is done again.
//!
//! ```text
//! faults [TIMES]      each fault so often; 3 unless said
//! ```
//!
//! A worker that trains one run is killed, stopped, and asked to leave, again and again. Printed are
//! the seconds until the coordinator gave the run up, and the steps that a worker trained again. Of
//! the steps of a lost attempt only those whose points arrived are seen: up to a quarter of a second
//! more may have been trained.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sweep_tests::{Process, Sandbox, wait_until};

#[path = "../tests/services.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod services;

use services::{SMALL, coordinator, runs, worker};

/// Training before each fault: longer than the least time between two checkpoints, and never the
/// same part of it.
const TRAINING: [Duration; 5] = [
    Duration::from_millis(7_300),
    Duration::from_millis(9_900),
    Duration::from_millis(6_100),
    Duration::from_millis(8_700),
    Duration::from_millis(11_200),
];

/// What befalls a worker.
#[derive(Clone, Copy)]
enum Blow {
    /// Killed outright; its connection is reset.
    Kill,
    /// Stopped, so that its connection stays open and silent; killed once it was given up.
    Stop,
    /// Asked to leave.
    Drain,
}

fn main() -> Result<()> {
    let times = match std::env::args().nth(1) {
        None => 3,
        Some(text) => text.parse().with_context(|| format!("`{text}` is no number"))?,
    };
    let sandbox = Sandbox::new()?;
    sandbox.write("recipe.toml", recipe())?;
    let coordinator = coordinator(&sandbox)?;
    let mut process = worker(&sandbox, "worker")?;
    sandbox.sweep(&["submit", "recipe.toml", "--yes"])?;
    for (name, blow) in [("kill", Blow::Kill), ("stop", Blow::Stop), ("drain", Blow::Drain)] {
        for time in 0..times {
            let rate = train(&sandbox, TRAINING[time % TRAINING.len()], &process)?;
            let (seconds, step) = strike(&sandbox, blow, &mut process)?;
            process = worker(&sandbox, "worker")?;
            let resumed = resumed(&sandbox, &process)?;
            let again = step.saturating_sub(resumed);
            #[expect(clippy::cast_precision_loss, reason = "printed with one digit")]
            let lost = again as f64 / rate;
            println!(
                "{name}: noticed after {seconds:.1} s; {again} steps trained again ({lost:.1} s)"
            );
        }
    }
    drop(coordinator);
    Ok(())
}

/// One run, longer than all that is done to it.
fn recipe() -> String {
    SMALL
        .replace("\"small\"", "\"faults\"")
        .replace("[\"7k\", \"14k\", \"28k\"]", "[\"12M\"]")
        .replace("{ width = 8, layers = 1 }, { width = 16, layers = 1 }, ", "")
        .replace("width = 24, layers = 2", "width = 48, layers = 4")
}

/// Lets it train for a while after its first point; gives its steps per second.
fn train(sandbox: &Sandbox, time: Duration, worker: &Process) -> Result<f64> {
    let before = last_step(sandbox)?;
    let moves = || Ok(last_step(sandbox)?.filter(|step| Some(*step) != before));
    let first = wait_until("points to arrive", || worker.log(), moves)?;
    let start = now();
    thread::sleep(time);
    let last = last_step(sandbox)?.context("points that had arrived are gone")?;
    ensure!(last > first, "nothing was trained in {time:?}\n{}", worker.log());
    #[expect(clippy::cast_precision_loss, reason = "a rate for a line of text")]
    let steps = (last - first) as f64;
    Ok(steps / (now() - start).as_secs_f64())
}

/// Strikes; gives the seconds until the run was given up, and the last step whose loss arrived.
fn strike(sandbox: &Sandbox, blow: Blow, worker: &mut Process) -> Result<(f64, u64)> {
    let start = now();
    worker.signal(match blow {
        Blow::Kill => "KILL",
        Blow::Stop => "STOP",
        Blow::Drain => "TERM",
    })?;
    let waits = || Ok(runs(sandbox)?.iter().all(|run| run["state"] == "queued").then_some(()));
    wait_until("the run to be given up", String::new, waits)?;
    let seconds = (now() - start).as_secs_f64();
    let step = last_step(sandbox)?.context("points that had arrived are gone")?;
    if let Blow::Stop = blow {
        worker.signal("KILL")?;
    }
    worker.wait()?;
    Ok((seconds, step))
}

/// The step after which the run went on.
fn resumed(sandbox: &Sandbox, worker: &Process) -> Result<u64> {
    let found = || {
        let run = runs(sandbox)?.first().and_then(|run| run["run"].as_str().map(str::to_owned));
        let told = sandbox.sweep_json(&["explain", &run.context("there is no run")?])?;
        let lines = told["lines"].as_array().context("nothing is told of the run")?;
        let last = lines.last().and_then(|line| line.as_str()).unwrap_or_default();
        let step = last.split_once(" from step ").and_then(|(_, rest)| {
            let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
            digits.parse().ok()
        });
        Ok(step.filter(|_| last.contains(": running")))
    };
    wait_until("the run to go on", || worker.log(), found)
}

/// The last step of the run's curve; none before its first point.
fn last_step(sandbox: &Sandbox) -> Result<Option<u64>> {
    let table = sandbox.sweep(&["export", "last", "--points"])?;
    let cells = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let losses = cells.filter(|cells| cells.get(1) == Some(&"train/loss"));
    Ok(losses.filter_map(|cells| cells.get(2)?.parse().ok()).max())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}
