//! `sweep sample`: text from a trained run, or more exactly from its newest checkpoint on this
//! machine.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sweep_proto::access::state_folder;
use sweep_spec::{run::RunConfig, shape::Shape};
use worker::sample::{CONFIG_FILE, DeviceId, Draw, SampleRequest, Samples, TrainError, sample};

use crate::{
    console::{Console, Format},
    exit::{Exit, Failure, OrExit as _},
    local::worker::LocalWorker,
};

/// The vocabulary of bytes: what a prompt is written in.
const BYTES: u32 = 256;

/// Most texts at once: their keys and values are kept side by side.
const COUNT_MAX: i64 = 1024;

/// Arguments of `sweep sample`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A run, by its id or the beginning of it
    run: String,
    /// What the texts begin with; nothing is the beginning of a document
    #[arg(long, default_value = "")]
    prompt: String,
    /// Tokens to write after the prompt
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tokens: u32,
    /// Texts to write
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    count: u32,
    /// Divides the logits: 0 takes the most probable token, 1 draws as the model says
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Draw among this many of the most probable tokens only
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Draw among the fewest tokens whose probabilities sum to this
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The device, by its id
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Folder with one folder of checkpoints per run [default: those of the workers of this folder,
    /// .sweep/worker/checkpoints and sweep-out/*/state/worker/checkpoints]
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,
}

/// Writes the texts.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    check(args)?;
    let folder = find(args)?;
    let config = config(&folder)?;
    let prompt = prompt(args, &config)?;
    let request = SampleRequest {
        config: &config,
        checkpoints: &folder,
        device: &DeviceId(args.device.clone()),
        prompt: &prompt,
        tokens: args.tokens as usize,
        count: args.count as usize,
        draw: Draw {
            temperature: args.temperature,
            top_k: args.top_k.map(|count| count as usize),
            top_p: args.top_p,
        },
        seed: args.seed,
    };
    let samples = sample(&request).map_err(|error| {
        let exit = match &error {
            TrainError::Prompt { .. }
            | TrainError::Vocabulary { .. }
            | TrainError::Device { .. } => Exit::Usage,
            TrainError::NoCheckpoint { .. } => Exit::NoMatch,
            _ => Exit::Failed,
        };
        Failure::new(exit, error)
    })?;
    for line in &samples.passed_over {
        console.say(format_args!("passed over {line}"))?;
    }
    print(args, &config, &samples, console)?;
    Ok(Exit::Done)
}

fn check(args: &Args) -> Result<(), Failure> {
    let usage = |message: String| Err(Failure::message(Exit::Usage, message));
    if !(args.temperature >= 0.0 && args.temperature.is_finite()) {
        return usage(format!(
            "--temperature {} is out of range; hint: give 0 or a number above it, 1 draws as the \
             model says",
            args.temperature
        ));
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return usage(format!(
            "--top-p {} is out of range; hint: give a number above 0, at most 1",
            args.top_p
        ));
    }
    Ok(())
}

/// The folder of the run's checkpoints.
fn find(args: &Args) -> Result<PathBuf, Failure> {
    let folders = args.checkpoints.clone().map_or_else(worker_folders, |folder| vec![folder]);
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in &folders {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let message = format!("cannot read `{}`: {error}", folder.display());
                return Err(Failure::message(Exit::Usage, message));
            }
        };
        let named = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            !args.run.is_empty() && name.starts_with(&args.run)
        };
        found.extend(entries.flatten().map(|entry| entry.path()).filter(named));
    }
    found.sort();
    // One run may have been trained in two output folders: either copy is the run.
    found.dedup_by(|a, b| a.file_name() == b.file_name());
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let places: Vec<String> =
                folders.iter().map(|folder| folder.display().to_string()).collect();
            Err(Failure::message(
                Exit::NoMatch,
                format!(
                    "no run `{}` has checkpoints in {}; hint: `sweep status` lists the runs, \
                     --checkpoints DIR says where a worker keeps theirs",
                    args.run,
                    if places.is_empty() { "this folder".to_owned() } else { places.join(", ") }
                ),
            ))
        }
        several => Err(Failure::message(
            Exit::Usage,
            format!(
                "`{}` begins the ids of {} runs; hint: give more of the id",
                args.run,
                several.len()
            ),
        )),
    }
}

/// Where workers that were started in this folder keep checkpoints.
fn worker_folders() -> Vec<PathBuf> {
    let mut folders = vec![LocalWorker::checkpoints(&state_folder())];
    let outputs = fs::read_dir("sweep-out").into_iter().flatten().flatten();
    folders.extend(outputs.map(|entry| LocalWorker::checkpoints(&entry.path().join("state"))));
    folders.retain(|folder| folder.is_dir());
    folders
}

fn config(folder: &Path) -> Result<RunConfig, Failure> {
    let path = folder.join(CONFIG_FILE);
    let text = fs::read(&path)
        .map_err(|error| {
            let hint = "hint: the run has not begun to train here";
            anyhow::anyhow!("cannot read `{}`: {error}; {hint}", path.display())
        })
        .or_exit(Exit::NoMatch)?;
    serde_json::from_slice(&text)
        .map_err(|error| {
            let hint = "hint: was it written by another version?";
            anyhow::anyhow!("`{}` is no configuration of a run: {error}; {hint}", path.display())
        })
        .or_exit(Exit::Failed)
}

/// The prompt as tokens.
fn prompt(args: &Args, config: &RunConfig) -> Result<Vec<i32>, Failure> {
    let Shape::Lm(shape) = &config.shape else {
        return Err(Failure::new(Exit::Usage, TrainError::Wordless));
    };
    if shape.vocabulary != BYTES {
        let message = format!(
            "the run has a vocabulary of {}, and text is read and written as bytes only; hint: \
             train with the tokenizer \"bytes\"",
            shape.vocabulary
        );
        return Err(Failure::message(Exit::Usage, message));
    }
    // The byte between documents: what a document begins after.
    if args.prompt.is_empty() {
        return Ok(vec![0]);
    }
    Ok(args.prompt.bytes().map(i32::from).collect())
}

/// Bytes as text; those that are no UTF-8 are shown as such, and the end of a document ends it.
fn text(tokens: &[u32]) -> String {
    let bytes: Vec<u8> =
        tokens.iter().map_while(|&token| u8::try_from(token).ok().filter(|&b| b != 0)).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn print(
    args: &Args,
    config: &RunConfig,
    samples: &Samples,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let texts: Vec<String> = samples.texts.iter().map(|tokens| text(tokens)).collect();
    if console.format == Format::Json {
        return Ok(console.json(&serde_json::json!({
            "schema": "sweep.sample/1",
            "run": config.id(),
            "step": samples.step,
            "steps": config.steps,
            "parameters": config.parameters().total,
            "tokens": config.tokens(),
            "prompt": args.prompt,
            "seed": args.seed,
            "temperature": args.temperature,
            "top_k": args.top_k,
            "top_p": args.top_p,
            "tokens_per_second": samples.tokens_per_second,
            "texts": texts,
        }))?);
    }
    for (number, text) in (1..).zip(&texts) {
        if texts.len() > 1 && console.format == Format::Table {
            writeln!(console.out, "--- {number} of {}", texts.len())?;
        }
        writeln!(console.out, "{}{text}", args.prompt)?;
    }
    let written = u64::from(args.count) * u64::from(args.tokens);
    console.say(format_args!(
        "step {} of {}, {written} tokens at {:.0} tokens/s",
        samples.step, config.steps, samples.tokens_per_second
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(run: &str, checkpoints: &Path) -> Args {
        Args {
            run: run.to_owned(),
            prompt: String::new(),
            tokens: 1,
            count: 1,
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            seed: 0,
            device: "cpu".to_owned(),
            checkpoints: Some(checkpoints.to_owned()),
        }
    }

    #[test]
    fn a_run_is_found_by_the_beginning_of_its_id() {
        let folder = tempfile::tempdir().expect("a folder");
        for id in ["abc1", "abd2"] {
            fs::create_dir(folder.path().join(id)).expect("writes");
        }
        let find = |run: &str| find(&args(run, folder.path()));
        assert_eq!(find("abc").expect("one"), folder.path().join("abc1"));
        assert_eq!(find("ab").expect_err("two").exit(), Exit::Usage);
        assert_eq!(find("x").expect_err("none").exit(), Exit::NoMatch);
        assert_eq!(find("").expect_err("none").exit(), Exit::NoMatch);
        let failure = config(&folder.path().join("abc1")).expect_err("no configuration");
        assert_eq!(failure.exit(), Exit::NoMatch);
    }

    #[test]
    fn draws_out_of_range_are_refused() {
        let at =
            |temperature, top_p| check(&Args { temperature, top_p, ..args("a", Path::new("")) });
        assert!(at(0.0, 1.0).is_ok());
        for (temperature, top_p) in [(-1.0, 1.0), (f64::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
            let failure = at(temperature, top_p).expect_err("refused");
            assert!(failure.to_string().contains("hint:"), "{failure}");
        }
    }

    #[test]
    fn a_text_ends_with_its_document() {
        assert_eq!(text(&[104, 105, 0, 120]), "hi");
        assert_eq!(text(&[0xff, 97]), "\u{fffd}a");
    }
}
