//! `worker bench`: the speed of a training step, in a process of its own.
//!
//! Burn reads its default device and its number of threads from the environment once per process,
//! so the command starts itself again with both set, and that child prints the result.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::{Command, ExitCode},
    str::FromStr,
};

use clap::Args;
use sweep_spec::shape::{LmShape, Mlp};
use sweep_train::{BenchReport, DeviceId};

use crate::{cores, launch, trainer::chain};

/// Arguments of the bench.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Shape: d, layers, heads, seq, batch, and if wanted vocab (256), shift (0 or 1) and mlp (relu2
    /// or swiglu)
    #[arg(long, default_value = "d=128,layers=4,heads=4,seq=128,batch=16")]
    shape: BenchShape,
    /// Device by its id, as `worker devices` lists it
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Counted steps, after the warm-up
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    /// Threads that share a step on the CPU [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A shape with its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BenchShape {
    shape: LmShape,
    batch: u32,
}

impl FromStr for BenchShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "hint: write it as d=128,layers=4,heads=4,seq=128,batch=16";
        let mut values: [Option<u32>; 7] = [None; 7];
        const KEYS: [&str; 7] = ["d", "layers", "heads", "seq", "batch", "vocab", "shift"];
        let mut mlp = Mlp::default();
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is no KEY=VALUE; {HINT}"))?;
            if key == "mlp" {
                mlp = match value {
                    "relu2" => Mlp::Relu2,
                    "swiglu" => Mlp::SwiGlu,
                    _ => return Err(format!("mlp `{value}` is neither relu2 nor swiglu; {HINT}")),
                };
                continue;
            }
            let place = KEYS
                .iter()
                .position(|known| *known == key)
                .ok_or_else(|| format!("`{key}` is no key of a shape; {HINT}"))?;
            let number =
                value.parse().map_err(|_| format!("{key} `{value}` is no whole number; {HINT}"))?;
            if values[place].replace(number).is_some() {
                return Err(format!("{key} is given twice"));
            }
        }
        let need = |place: usize| {
            values[place].ok_or_else(|| format!("{} is missing; {HINT}", KEYS[place]))
        };
        let shape = LmShape {
            vocabulary: values[5].unwrap_or(256),
            width: need(0)?,
            layers: need(1)?,
            heads: need(2)?,
            sequence: need(3)?,
            mlp,
            token_shift: match values[6].unwrap_or(0) {
                0 => false,
                1 => true,
                other => return Err(format!("shift `{other}` is neither 0 nor 1; {HINT}")),
            },
        };
        shape.check().map_err(|error| error.to_string())?;
        let batch = need(4)?;
        if batch == 0 {
            return Err("batch is 0; hint: a step needs at least one sequence".to_owned());
        }
        Ok(Self { shape, batch })
    }
}

impl BenchArgs {
    /// Starts the measuring child and passes its result on.
    pub(crate) fn run(&self) -> ExitCode {
        match self.start() {
            Ok(code) => code,
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: cannot start the bench: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn start(&self) -> io::Result<ExitCode> {
        let shape = &self.shape.shape;
        let mlp = shape.mlp.name();
        let text = format!(
            "d={},layers={},heads={},seq={},batch={},vocab={},shift={},mlp={mlp}",
            shape.width,
            shape.layers,
            shape.heads,
            shape.sequence,
            self.shape.batch,
            shape.vocabulary,
            u8::from(shape.token_shift)
        );
        let program: PathBuf = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.arg(launch::BENCH).arg("--shape").arg(text).arg("--device").arg(&self.device);
        command.arg("--steps").arg(self.steps.to_string());
        command.arg("--threads").arg(self.threads().to_string());
        if self.json {
            command.arg("--json");
        }
        launch::set_environment(&mut command);
        let status = command.status()?;
        if let Some(code) = status.code() {
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        let _ = writeln!(io::stderr(), "error: the bench {}", launch::describe(status));
        Ok(ExitCode::FAILURE)
    }

    fn threads(&self) -> usize {
        self.threads.map_or_else(cores::available, usize::from)
    }

    /// The measuring child.
    pub(crate) fn measure(&self) -> ExitCode {
        let device = DeviceId(self.device.clone());
        let BenchShape { shape, batch } = &self.shape;
        let report = match sweep_train::bench(shape, *batch, self.steps, &device, self.threads()) {
            Ok(report) => report,
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: {}", chain(&error));
                return ExitCode::FAILURE;
            }
        };
        match self.print(&report, &mut io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: cannot write the result: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn print(&self, report: &BenchReport, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *out, report)?;
            return writeln!(out);
        }
        write!(
            out,
            "{} {} {} threads={} params={} tokens/s={:.0} 6N-GFLOP/s={:.1}",
            report.engine,
            report.device,
            report.dtype,
            report.threads,
            report.params,
            report.tokens_per_second,
            report.flops_6n / 1e9
        )?;
        match report.peak_memory_bytes {
            Some(bytes) => writeln!(out, " peak={} MiB", bytes >> 20),
            None => writeln!(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_and_checked() {
        let found: BenchShape = "d=128,layers=4,heads=4,seq=128,batch=16".parse().unwrap();
        assert_eq!(found.batch, 16);
        assert_eq!(found.shape.parameters().total, 853_120);
        let found: BenchShape =
            "d=96,layers=3,heads=6,seq=64,batch=1,mlp=swiglu,vocab=512,shift=1".parse().unwrap();
        assert_eq!((found.shape.mlp, found.shape.vocabulary), (Mlp::SwiGlu, 512));
        assert!(found.shape.token_shift);
    }

    #[test]
    fn a_wrong_shape_says_what_is_wrong() {
        for (text, part) in [
            ("d=128", "layers is missing"),
            ("d=12q,layers=4,heads=4,seq=128,batch=16", "`12q`"),
            ("width=128", "`width`"),
            ("d", "KEY=VALUE"),
            ("d=1,d=2", "twice"),
            ("d=30,layers=4,heads=4,seq=128,batch=16", "heads"),
            ("d=128,layers=4,heads=4,seq=128,batch=0", "batch is 0"),
            ("d=128,layers=4,heads=4,seq=128,batch=1,shift=2", "shift `2`"),
        ] {
            let error = text.parse::<BenchShape>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
