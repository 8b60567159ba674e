//! `sweep sample`: text from a trained run, or more exactly from its newest checkpoint on this
//! machine or with a coordinator.

mod place;
mod tokens;

use std::path::PathBuf;

use sweep_data::Codec;
use sweep_spec::run::RunConfig;
use worker::sample::{DeviceId, Draw, SampleRequest, Samples, TrainError, sample};

use crate::{
    client::AccessArgs,
    console::{Console, Format},
    exit::{Exit, Failure, OrExit as _},
    machine,
};

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
    /// .sweep/worker/checkpoints and sweep-out/*/state/worker/checkpoints, then what the coordinator
    /// keeps]
    #[arg(long, value_name = "DIR", conflicts_with = "access")]
    checkpoints: Option<PathBuf>,
    /// The tokenizer.json of the run, where this machine does not have its data
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
}

/// Writes the texts.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    check(args)?;
    let found = place::find(&args.run, args.checkpoints.as_deref(), &args.access, console)?;
    let cache = machine::cache_folder();
    let codec = tokens::codec(&found, args.tokenizer.as_deref(), &cache)?;
    let prompt = codec.encode(&args.prompt).or_exit(Exit::Usage)?;
    let read: Vec<i32> = prompt.iter().map(|token| token.cast_signed()).collect();
    let request = SampleRequest {
        config: &found.config,
        checkpoints: &found.folder,
        device: &DeviceId(args.device.clone()),
        prompt: &read,
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
    let texts = texts(&codec, &prompt, &samples)?;
    print(args, &found.config, &samples, &texts, console)?;
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

/// What was written, as text.
fn texts(codec: &Codec, prompt: &[u32], samples: &Samples) -> Result<Vec<String>, Failure> {
    let text = |tokens: &Vec<u32>| codec.decode(prompt, tokens).or_exit(Exit::Failed);
    samples.texts.iter().map(text).collect()
}

fn print(
    args: &Args,
    config: &RunConfig,
    samples: &Samples,
    texts: &[String],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
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
    for (number, text) in (1..).zip(texts) {
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
    use crate::cmd::called::parsed;
    use crate::console::When;

    fn args(words: &[&str]) -> Args {
        parsed(&[&["sample", "abc1"], words].concat()).expect("parses")
    }

    #[test]
    fn draws_out_of_range_are_refused() {
        let at = |temperature, top_p| check(&Args { temperature, top_p, ..args(&[]) });
        assert!(at(0.0, 1.0).is_ok());
        for (temperature, top_p) in [(-1.0, 1.0), (f64::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
            let failure = at(temperature, top_p).expect_err("refused");
            assert!(failure.to_string().contains("hint:"), "{failure}");
        }
    }

    #[test]
    fn a_run_is_looked_for_in_one_place() {
        let both = ["sample", "abc1", "--checkpoints", "a", "--access", "b"];
        assert!(parsed::<Args>(&both).is_err());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            out: &mut out,
            err: &mut err,
            format: Format::Table,
            colour: When::Never,
            terminal: false,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().display().to_string();
        let failure = run(&args(&["--checkpoints", &place]), &mut console).expect_err("none");
        assert_eq!(failure.exit(), Exit::NoMatch);
        assert!(failure.to_string().contains("hint:"), "{failure}");
        let missing = folder.path().join("access.json").display().to_string();
        let failure = run(&args(&["--access", &missing]), &mut console).expect_err("none");
        assert_eq!(failure.exit(), Exit::Unreachable);
    }
}
