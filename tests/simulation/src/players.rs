//! Plays many seeds on all cores, each in a process of its own.

use std::{
    ops::{ControlFlow, Range},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;

use crate::{Mutation, Outcome};

/// Plays seeds in processes of `program`, which is `simulate`, and tells `each` how they went, in the
/// order in which they end. Once it breaks off at a seed none above it is begun.
///
/// # Errors
/// What a simulation could not do, or `each`.
///
/// # Panics
/// When `each` does.
pub fn play_seeds(
    program: &Path,
    seeds: Range<u64>,
    mutation: Option<Mutation>,
    threads: usize,
    each: impl FnMut(u64, Outcome) -> anyhow::Result<ControlFlow<()>> + Send,
) -> anyhow::Result<()> {
    let (next, end) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let each = Mutex::new(each);
    let play_on = || -> anyhow::Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return Ok(());
            }
            let outcome = play_apart(program, seed, mutation)?;
            let told = each.lock().expect("a player panicked")(seed, outcome)?;
            if told.is_break() {
                end.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(play_on)).collect();
        players.into_iter().try_for_each(|player| player.join().expect("a player panicked"))
    })
}

/// Plays a seed in a process of its own.
fn play_apart(program: &Path, seed: u64, mutation: Option<Mutation>) -> anyhow::Result<Outcome> {
    let mut command = Command::new(program);
    command.args(["--seed", &seed.to_string(), "--json"]).stderr(Stdio::inherit());
    if let Some(value) = mutation.as_ref().and_then(Mutation::to_possible_value) {
        command.args(["--mutation", value.get_name()]);
    }
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(output.status.success(), "seed {seed}: {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("seed {seed}"))
}
