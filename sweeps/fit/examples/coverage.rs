//! How often the nominal 95 % intervals hold the truth: sweeps of 9, 16, 25 and 60 runs of a known
//! law are simulated with seed noise, fitted, and counted.
//!
//!     cargo run --release -p sweep-fit --example coverage -- [TRIALS] [REPLICATES] [NOISE] [OBJECTIVE]
//!
//! Defaults: 400 sweeps of each size, 400 replicates, noise of 0.002 of the loss, huber-log. The
//! share of 400 trials scatters by 1.1 % about 95 %. Sizes: N over two decades and D over two,
//! crossed; with checkpoints, each run has four losses that share two thirds of its noise variance.
//! A share is over all trials: an interval without an end counts as covering on that side, since
//! that is what it says, and is counted apart.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use rayon::prelude::*;
use sweep_fit::{Fit, Intervals, Law, Objective, Observation, Options, Surface, fit};
use sweep_spec::random::{Purpose, Stream};

const TRUTH: [f64; 5] = [1.69, 406.4, 410.7, 0.34, 0.28];
/// The forecast's compute over that of the dearest run.
const BEYOND: f64 = 10.0;
const NAMES: [&str; 9] = ["E", "A", "B", "alpha", "beta", "a", "N* x10", "loss x10", "new run"];

#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    intervals: Intervals,
    resampled: bool,
    grouped: bool,
    checkpoints: u32,
}

const WAYS: [Way; 5] = [
    Way {
        name: "case bootstrap",
        intervals: Intervals::Bootstrap,
        resampled: true,
        grouped: false,
        checkpoints: 1,
    },
    Way {
        name: "residual bootstrap",
        intervals: Intervals::Residual,
        resampled: true,
        grouped: false,
        checkpoints: 1,
    },
    Way {
        name: "profile",
        intervals: Intervals::Profile,
        resampled: false,
        grouped: false,
        checkpoints: 1,
    },
    Way {
        name: "wild cluster, 1 loss a run",
        intervals: Intervals::Residual,
        resampled: true,
        grouped: true,
        checkpoints: 1,
    },
    Way {
        name: "wild cluster, 4 losses a run",
        intervals: Intervals::Residual,
        resampled: true,
        grouped: true,
        checkpoints: 4,
    },
];

struct Settings {
    trials: u64,
    replicates: usize,
    noise: f64,
    objective: Objective,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |fallback: f64| {
        arguments.next().map_or(fallback, |text| {
            text.parse().expect("TRIALS, REPLICATES and NOISE are numbers")
        })
    };
    let (trials, replicates, noise) = (number(400.0), number(400.0), number(0.002));
    let name = arguments.next().unwrap_or_else(|| String::from("huber-log"));
    let settings = Settings {
        trials: trials as u64,
        replicates: replicates as usize,
        noise,
        objective: Objective::from_name(&name, 1e-3).expect("an objective by name"),
    };
    println!(
        "{} sweeps of each size, {} replicates, noise {} of the loss, {}: share covered in %, (open) where an end is missing",
        settings.trials, settings.replicates, settings.noise, settings.objective
    );
    for way in WAYS {
        println!("\n{}\nruns {}", way.name, NAMES.map(|name| format!("{name:>13}")).concat());
        for (rows, columns) in [(3, 3), (4, 4), (5, 5), (10, 6)] {
            let covered = count(&settings, way, rows, columns);
            println!(
                "{:>4} {}",
                rows * columns,
                covered.map(|cell| format!("{cell:>13}")).concat()
            );
        }
    }
}

/// Runs the trials; a cell for each name.
fn count(settings: &Settings, way: Way, rows: u32, columns: u32) -> [String; 9] {
    let trials: Vec<[Outcome; 9]> = (0..settings.trials)
        .into_par_iter()
        .map(|trial| simulate(settings, way, rows, columns, trial))
        .collect();
    std::array::from_fn(|i| {
        let of = |wanted: Outcome| trials.iter().filter(|t| t[i] == wanted).count();
        let (covered, open, missed) =
            (of(Outcome::Covered), of(Outcome::Open), of(Outcome::Missed));
        match covered + open + missed {
            0 => String::from("-"),
            all => {
                let share = |n: usize| {
                    100.0 * f64::from(u32::try_from(n).expect("small"))
                        / f64::from(u32::try_from(all).expect("small"))
                };
                let open = if open > 0 { format!(" ({:.0})", share(open)) } else { String::new() };
                format!("{:.1}{open}", 100.0 - share(missed))
            }
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Covered,
    Missed,
    /// No interval: nothing was claimed.
    Open,
    /// The way gives none by design.
    Absent,
}

fn simulate(settings: &Settings, way: Way, rows: u32, columns: u32, trial: u64) -> [Outcome; 9] {
    let mut draws =
        Stream::new(20_260_101, Purpose::Resampling, (1 << 50) + (u64::from(rows) << 32) + trial);
    let table = table(settings.noise, way, rows, columns, &mut draws);
    let options = Options {
        objective: settings.objective,
        intervals: way.intervals,
        bootstrap: if way.resampled { settings.replicates } else { 0 },
        seed: trial,
        ..Options::default()
    };
    let Ok(found) = fit(&table, &options) else { return [Outcome::Open; 9] };
    let flops = BEYOND * table.iter().filter_map(Observation::compute).fold(0.0, f64::max);
    outcomes(&found, flops, settings.noise, &mut draws)
}

fn table(noise: f64, way: Way, rows: u32, columns: u32, draws: &mut Stream) -> Vec<Observation> {
    let place = |low: f64, i: u32, of: u32| low * 100.0_f64.powf(f64::from(i) / f64::from(of - 1));
    let mut table = Vec::new();
    for run in 0..rows * columns {
        let (n, d) = (place(1e7, run / columns, rows), place(4e8, run % columns, columns));
        let shared = draws.normal();
        for checkpoint in 0..way.checkpoints {
            // Checkpoints in the last eighth of the run, equally spaced.
            let d = d * (1.0 - 0.03 * f64::from(way.checkpoints - 1 - checkpoint));
            let mut row = Observation::new(n, d, 1.0);
            let own = draws.normal();
            let z = if way.checkpoints == 1 {
                own
            } else {
                (2.0_f64 / 3.0).sqrt() * shared + (1.0_f64 / 3.0).sqrt() * own
            };
            row.loss = Law::Separable.loss(&TRUTH, &row).expect("two sizes") * (noise * z).exp();
            row.group = way.grouped.then(|| format!("{run}"));
            table.push(row);
        }
    }
    table
}

fn outcomes(found: &Fit, flops: f64, noise: f64, draws: &mut Stream) -> [Outcome; 9] {
    let judge = |interval: Option<[f64; 2]>, truth: f64| match interval {
        None => Outcome::Open,
        Some([low, high]) if low <= truth && truth <= high => Outcome::Covered,
        Some(_) => Outcome::Missed,
    };
    let mut outcomes = [Outcome::Absent; 9];
    for (i, truth) in TRUTH.into_iter().enumerate() {
        outcomes[i] = judge(found.params[i].estimate.ci95, truth);
    }
    let a = Law::Separable.exponent(&TRUTH).expect("two variables");
    outcomes[5] = judge(found.exponents.as_ref().and_then(|e| e.a.ci95), a);
    if found.replicates.is_empty() {
        return outcomes;
    }
    let (n, d) = Law::Separable.split(&TRUTH, flops).expect("two variables");
    let loss = Law::Separable.loss(&TRUTH, &Observation::new(n, d, 1.0)).expect("two sizes");
    let split = found.best_split(&Surface::Flops, flops);
    outcomes[6] = judge(split.and_then(|split| split.n.ci95), n);
    let forecast = found.forecast(n, d);
    outcomes[7] = judge(forecast.and_then(|f| f.ci95), loss);
    outcomes[8] = judge(forecast.and_then(|f| f.run95), loss * (noise * draws.normal()).exp());
    outcomes
}
