//! How long fits take, and what memory a long table needs.
//!
//!     cargo bench -p sweep-fit
//!
//! Every line: the least and the median of several runs on the threads of the machine, the processor
//! time of one (what a loaded machine hides), and the bar it is held to. Exits with 1 where a bar is
//! missed by its least time.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{hint::black_box, process::ExitCode, time::Instant};

use sweep_fit::{Fit, Law, Observation, Options, fit};
use sweep_spec::random::{Purpose, Stream};

const TRUTH: [f64; 5] = [1.69, 406.4, 410.7, 0.34, 0.28];

/// A table of the published shape: sizes and tokens scattered over the range of the Chinchilla runs,
/// losses with 1 % of noise, a few far off.
fn table(rows: u64) -> Vec<Observation> {
    let mut draws = Stream::new(1, Purpose::Resampling, 1 << 60);
    (0..rows)
        .map(|i| {
            let n = 5e7 * 320.0_f64.powf(draws.uniform());
            let flops = 6e18 * 500.0_f64.powf(draws.uniform());
            let mut row = Observation::new(n, flops / 6.0 / n, 1.0);
            let scatter = if i % 50 == 0 { 0.05 } else { 0.01 };
            row.loss = Law::Separable.loss(&TRUTH, &row).expect("two sizes");
            row.loss *= (scatter * draws.normal()).exp();
            row
        })
        .collect()
}

fn time(name: &str, bar_s: f64, repeats: usize, mut work: impl FnMut() -> Fit) -> bool {
    let cpu = cpu_s();
    let mut seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let (least, median) = (seconds[0], seconds[seconds.len() / 2]);
    let mut figure = format!("least {least:.4} s, median {median:.4} s of {repeats}");
    if let (Some(before), Some(after)) = (cpu, cpu_s()) {
        let runs = f64::from(u32::try_from(repeats).expect("a few"));
        figure = format!("{figure}, cpu {:.3} s", (after - before) / runs);
    }
    report(name, &figure, &format!("{bar_s} s"), least <= bar_s)
}

/// Processor seconds of this process, in hundredths; absent where /proc is not there.
fn cpu_s() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses that may hold spaces; times are the 14th and 15th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

fn report(name: &str, figure: &str, bar: &str, held: bool) -> bool {
    println!("{name:<36} {figure:<62} bar {bar:<8} {}", if held { "ok" } else { "MISSED" });
    held
}

/// The largest resident size of this process so far, in MiB; absent where /proc is not there.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

fn main() -> ExitCode {
    let small = table(240);
    let fitted = |options: &Options| fit(&small, options).expect("240 sound observations");
    let mut held = true;
    // First, since the peak of the process is what is read.
    let long = table(100_000);
    let before = peak_mib();
    held &= time("fit of 100,000 observations", 60.0, 1, || {
        fit(&long, &Options::default()).expect("sound")
    });
    if let (Some(before), Some(after)) = (before, peak_mib()) {
        let figure = format!("{after:.1} MiB, {before:.1} of them the table");
        held &= report("memory of 100,000 observations", &figure, "100 MiB", after < 100.0);
    }
    drop(long);
    held &= time("certified fit of 240 observations", 0.020, 21, || fitted(&Options::default()));
    let options = Options { starts: 4500, ..Options::default() };
    held &= time("descents from 4,500 starts", 3.0, 3, || fitted(&options));
    let options = Options { bootstrap: 4000, ..Options::default() };
    held &= time("4,000 case bootstraps", 2.0, 3, || fitted(&options));
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
