//! The command `simulate`: plays seeds, on all cores, and tells the first ones that break a promise.

use std::{
    io::{self, Write as _},
    ops::ControlFlow,
};

use clap::Parser;

use crate::{Mutation, Outcome, play_seeds, world::play};

/// Plays the protocol through simulated disasters.
#[derive(Debug, Parser)]
#[command(name = "simulate", max_term_width = 100)]
pub struct Args {
    /// Play only this seed, and log what happens
    #[arg(long, conflicts_with_all = ["from", "seeds"])]
    seed: Option<u64>,
    /// Tell how the seed went as JSON, and log nothing
    #[arg(long, requires = "seed")]
    json: bool,
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

/// Plays what is asked for; the number of seeds that broke a promise, where it is told to people.
///
/// # Errors
/// What the simulation itself could not do, or output that could not be written.
pub fn run(args: &Args) -> anyhow::Result<u64> {
    match args.seed {
        Some(seed) if args.json => {
            serde_json::to_writer(io::stdout(), &play(seed, args.mutation)?)?;
            Ok(0)
        }
        Some(seed) => run_one(seed, args.mutation),
        None => run_many(args),
    }
}

fn run_one(seed: u64, mutation: Option<Mutation>) -> anyhow::Result<u64> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("SWEEP_LOG")
                .unwrap_or_else(|_| "info,turmoil=off".into()),
        )
        .with_writer(io::stderr)
        .init();
    let outcome = play(seed, mutation)?;
    tell(seed, &outcome)?;
    Ok(u64::from(outcome.violation.is_some()))
}

fn run_many(args: &Args) -> anyhow::Result<u64> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Totals::default();
    play_seeds(
        &std::env::current_exe()?,
        args.from..args.from + args.seeds,
        args.mutation,
        args.threads.unwrap_or(cores),
        |seed, outcome| {
            all.add(&outcome);
            if outcome.violation.is_some() {
                tell(seed, &outcome)?;
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    all.tell()?;
    Ok(all.broken)
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    attempts: usize,
    points: usize,
    disasters: u64,
    seconds: u64,
    broken: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.attempts += outcome.attempts;
        self.points += outcome.acked_points;
        self.disasters += outcome.disasters;
        self.seconds += outcome.lasted.as_secs();
        self.broken += u64::from(outcome.violation.is_some());
    }

    fn tell(&self) -> io::Result<()> {
        let Self { seeds, attempts, points, disasters, seconds, broken } = self;
        let hours = seconds / 3600;
        writeln!(
            io::stdout(),
            "{seeds} seeds: {disasters} disasters, {attempts} attempts, {points} acknowledged \
             points, {hours} simulated hours, {broken} broken",
        )
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
