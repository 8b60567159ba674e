//! The services of a test and the recipes they are given.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::Value;
use sweep_tests::{PostgresServer, Process, Sandbox, wait_until};

/// Nine runs of a fraction of a second each: three sizes and three token counts.
pub(crate) const SMALL: &str = r#"name = "small"

[data]
source = "text"
globs = ["texts/*.txt"]
held_out = 0.2

[model]
family = "lm"
sequence = 16
head_width = 8

[training]
batch = 4
learning_rate = 0.01

[evaluation]
tokens = 2048
times = 3

[grid]
sizes = [{ width = 8, layers = 1 }, { width = 16, layers = 1 }, { width = 24, layers = 2 }]
tokens = ["7k", "14k", "28k"]

[fit]
bootstrap = 20
"#;

/// Longer than a lease: the coordinator gives the worker up, and it comes back.
pub(crate) const BEYOND_A_LEASE: Duration = Duration::from_secs(24);

/// Runs of [`SMALL`].
pub(crate) const SMALL_RUNS: usize = 9;

/// [`SMALL`] with runs of a few seconds each, to be stopped in between.
pub(crate) fn slow() -> String {
    SMALL
        .replace("\"small\"", "\"slow\"")
        .replace("[\"7k\", \"14k\", \"28k\"]", "[\"60k\", \"120k\", \"240k\"]")
        .replace("width = 24, layers = 2", "width = 48, layers = 4")
}

/// Arguments of a coordinator whose state and store lie in `folder`.
pub(crate) fn coordinator_arguments(folder: &Path, listen: &str) -> Vec<String> {
    let (state, store) = (folder.display(), folder.join("sweep.db"));
    ["--listen", listen, "--store", &format!("sqlite:{}", store.display()), "--state"]
        .into_iter()
        .map(str::to_owned)
        .chain([state.to_string()])
        .collect()
}

/// Starts a coordinator on a free port and waits until it answers.
pub(crate) fn coordinator(sandbox: &Sandbox) -> Result<Process> {
    let arguments = coordinator_arguments(&sandbox.path("state"), "127.0.0.1:0");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut process = sandbox.start("coordinator", &arguments)?;
    answers(sandbox, &mut process)?;
    Ok(process)
}

/// Starts a coordinator on this store and waits until it answers.
pub(crate) fn coordinator_on(sandbox: &Sandbox, store: &str) -> Result<Process> {
    let state = sandbox.path("state").display().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--store", store, "--state", &state];
    let mut process = sandbox.start("coordinator", &arguments)?;
    answers(sandbox, &mut process)?;
    Ok(process)
}

/// A server of Postgres; says so where there is none.
pub(crate) fn postgres(test: &str) -> Result<Option<PostgresServer>> {
    Ok(match PostgresServer::start()? {
        Ok(server) => Some(server),
        Err(reason) => {
            skipped(test, &reason);
            None
        }
    })
}

/// Waits until the coordinator of this sandbox answers.
pub(crate) fn answers(sandbox: &Sandbox, process: &mut Process) -> Result<()> {
    wait_until(
        "the coordinator to answer",
        || process.log(),
        || {
            let ready = sandbox.access().is_file() && sandbox.sweep(&["status"]).is_ok();
            Ok(ready.then_some(()))
        },
    )
}

/// Starts a worker with two slots on the processor; `name` tells its folder.
pub(crate) fn worker(sandbox: &Sandbox, name: &str) -> Result<Process> {
    let state = sandbox.path(name).display().to_string();
    let cache = sandbox.path("cache").display().to_string();
    sandbox
        .start("worker", &["--state", &state, "--cache", &cache, "--device", "cpu", "--slots", "2"])
}

/// The runs of the latest sweep.
pub(crate) fn runs(sandbox: &Sandbox) -> Result<Vec<Value>> {
    let status = sandbox.sweep_json(&["status", "last"])?;
    Ok(status["runs"].as_array().cloned().unwrap_or_default())
}

/// Every point of every curve that training decides, in order: times and speeds differ always.
pub(crate) fn curves(sandbox: &Sandbox) -> Result<Vec<String>> {
    let table = sandbox.sweep(&["export", "last", "--points"])?;
    let timed = |line: &&str| line.contains("second");
    let mut lines: Vec<String> =
        table.lines().filter(|line| !timed(line)).map(str::to_owned).collect();
    lines.sort();
    ensure!(lines.len() > 100, "{table}");
    Ok(lines)
}

/// The curves of a recipe's sweep that nobody disturbs.
pub(crate) fn curves_in_peace(recipe: &str) -> Result<Vec<String>> {
    let sandbox = Sandbox::new()?;
    sandbox.write("recipe.toml", recipe)?;
    let _coordinator = coordinator(&sandbox)?;
    let _worker = worker(&sandbox, "worker")?;
    sandbox.sweep(&["submit", "recipe.toml", "--yes"])?;
    sandbox.sweep(&["watch"])?;
    curves(&sandbox)
}

/// Runs of a list in a state.
pub(crate) fn in_state(runs: &[Value], state: &str) -> usize {
    runs.iter().filter(|run| run["state"] == state).count()
}

/// Says that a test was not made, past the capture of the test harness.
pub(crate) fn skipped(test: &str, why: &str) {
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {why}");
}
