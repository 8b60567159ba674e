//! The command `simulate`: plays seeds, on all cores, and tells the first ones that break a promise.

use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering},
};

use clap::Parser;

use crate::{Mutation, Outcome, play};

/// Plays the protocol through simulated disasters.
#[derive(Debug, Parser)]
#[command(name = "simulate", max_term_width = 100)]
pub struct Args {
    /// Play only this seed, and log what happens
    #[arg(long, conflicts_with_all = ["from", "seeds"])]
    seed: Option<u64>,
    /// First seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Number of seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Threads [default: one per core]
    #[arg(long)]
    threads: Option<usize>,
    /// Put a deliberate fault into the code, which must be found
    #[arg(long, value_enum)]
    mutation: Option<Mutation>,
}

/// Plays what is asked for; the number of seeds that broke a promise.
///
/// # Errors
/// What the simulation itself could not do, or output that could not be written.
///
/// # Panics
/// When a player does.
pub fn run(args: &Args) -> anyhow::Result<u64> {
    if let Some(seed) = args.seed {
        tracing_subscriber::fmt()
            .with_env_filter(
                tracing_subscriber::EnvFilter::try_from_env("SWEEP_LOG")
                    .unwrap_or_else(|_| "info,turmoil=off".into()),
            )
            .with_writer(io::stderr)
            .init();
        let outcome = play(seed, args.mutation)?;
        tell(seed, &outcome)?;
        return Ok(u64::from(outcome.violation.is_some()));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, broken) = (AtomicU64::new(args.from), AtomicU64::new(0));
    let played = std::thread::scope(|scope| {
        let one = || play_all(args, &next, &broken);
        let threads: Vec<_> =
            (0..args.threads.unwrap_or(cores)).map(|_| scope.spawn(one)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("a player panicked"));
        ended.collect::<anyhow::Result<Vec<Totals>>>()
    })?;
    let mut all = Totals::default();
    for one in played {
        all.seeds += one.seeds;
        all.attempts += one.attempts;
        all.points += one.points;
        all.disasters += one.disasters;
        all.seconds += one.seconds;
    }
    let broken = broken.into_inner();
    let hours = all.seconds / 3600;
    writeln!(
        io::stdout(),
        "{} seeds: {} disasters, {} attempts, {} acknowledged points, {hours} simulated hours, \
         {broken} broken",
        all.seeds,
        all.disasters,
        all.attempts,
        all.points,
    )?;
    Ok(broken)
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    attempts: usize,
    points: usize,
    disasters: u64,
    seconds: u64,
}

fn play_all(args: &Args, next: &AtomicU64, broken: &AtomicU64) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= args.from + args.seeds {
            return Ok(totals);
        }
        let outcome = play(seed, args.mutation)?;
        totals.seeds += 1;
        totals.attempts += outcome.attempts;
        totals.points += outcome.acked_points;
        totals.disasters += outcome.disasters;
        totals.seconds += outcome.lasted.as_secs();
        if outcome.violation.is_some() {
            broken.fetch_add(1, Ordering::Relaxed);
            tell(seed, &outcome)?;
        }
    }
}

fn tell(seed: u64, outcome: &Outcome) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match &outcome.violation {
        None => writeln!(
            out,
            "seed {seed}: {} runs finished in {} attempts through {} disasters in {:.0?}, {} \
             points acknowledged, trace {}",
            outcome.runs,
            outcome.attempts,
            outcome.disasters,
            outcome.lasted,
            outcome.acked_points,
            &outcome.trace[..16]
        ),
        Some((at, violation)) => writeln!(
            out,
            "seed {seed} broke a promise after {at:.1?}: {violation}; hint: play it again with \
             --seed {seed}"
        ),
    }
}
