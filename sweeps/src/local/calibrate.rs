//! Measures the speed of the shapes of a grid before it is planned: a few real training steps of
//! each on this machine's processor, in a process of its own (`worker bench`).
//!
//! Each shape is measured alone, with the cores that a slot has while every slot trains. Diffusion
//! models are not measured: the bench knows language models.

use std::{num::NonZero, process::Stdio, thread, time::Duration};

use serde::Deserialize;
use sweep_spec::{
    cost::{Basis, CostModel},
    plan::DeviceKind,
    run::RunConfig,
    shape::{LmShape, Shape},
};
use tokio::{process::Command, time::timeout};

use crate::{
    client::block_on,
    console::Console,
    exit::{Exit, Failure, OrExit as _},
};

/// Counted steps of a shape, after the warm-up: their median is taken.
const STEPS: u32 = 5;

/// A shape that takes longer, half a minute for each step and its warm-up, is none for this machine.
const SHAPE_MAX: Duration = Duration::from_mins(5);

#[derive(Deserialize)]
struct Report {
    tokens_per_second: f64,
}

/// Adds the speeds of the shapes that nothing was measured of yet.
///
/// # Errors
/// Exit code 1 where the bench fails.
pub(crate) fn calibrate<'a>(
    configs: impl Iterator<Item = &'a RunConfig>,
    kind: &DeviceKind,
    cost: &mut CostModel,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let (shapes, unmeasurable) = wanted(configs, &kind.name, cost);
    if unmeasurable > 0 {
        console.say(format_args!(
            "{unmeasurable} shapes are diffusion models, which are not measured; hint: runs that \
             were trained measure them"
        ))?;
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (cores / kind.slots.max(1) as usize).max(1);
    for (place, config) in shapes.iter().enumerate() {
        let Shape::Lm(shape) = &config.shape else { continue };
        let speed = block_on(measure(shape, config.batch, threads))?;
        #[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
        let seconds = f64::from(STEPS) * config.tokens_per_step() as f64 / speed;
        cost.observe_steps(&kind.name, config, STEPS.into(), seconds);
        console.say(format_args!(
            "measured {} of {}: {} x {}, {speed:.0} tokens/s",
            place + 1,
            shapes.len(),
            shape.width,
            shape.layers
        ))?;
    }
    Ok(())
}

/// A run of each shape and batch whose speed is unknown, and how many of them cannot be measured.
fn wanted<'a>(
    configs: impl Iterator<Item = &'a RunConfig>,
    kind: &str,
    cost: &CostModel,
) -> (Vec<&'a RunConfig>, usize) {
    let mut shapes: Vec<&RunConfig> = Vec::new();
    for config in configs {
        let measured =
            cost.predict(kind, config).is_some_and(|found| found.basis == Basis::Measured);
        let same = |other: &&RunConfig| other.shape == config.shape && other.batch == config.batch;
        if !measured && !shapes.iter().any(same) {
            shapes.push(config);
        }
    }
    let all = shapes.len();
    shapes.retain(|config| matches!(config.shape, Shape::Lm(_)));
    let unmeasurable = all - shapes.len();
    (shapes, unmeasurable)
}

/// Tokens per second of training steps of a shape.
async fn measure(shape: &LmShape, batch: u32, threads: usize) -> Result<f64, Failure> {
    let failed = |reason: &str| {
        let message = format!(
            "cannot measure {} x {}: {}; hint: plan without --calibrate, or drop that size",
            shape.width,
            shape.layers,
            reason.trim().trim_start_matches("error: ")
        );
        Failure::message(Exit::Failed, message)
    };
    let program = std::env::current_exe().or_exit(Exit::Failed)?;
    let child = Command::new(program)
        .args(["worker", "bench", "--json", "--shape", &words(shape, batch)])
        .args(["--steps", &STEPS.to_string(), "--threads", &threads.to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(SHAPE_MAX, child)
        .await
        .map_err(|_| failed(&format!("it took more than {} s", SHAPE_MAX.as_secs())))?
        .map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    let report: Report =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&error.to_string()))?;
    Ok(report.tokens_per_second)
}

/// A shape as the bench reads it.
fn words(shape: &LmShape, batch: u32) -> String {
    let LmShape { vocabulary, width, layers, heads, sequence, mlp, token_shift } = shape;
    let mlp = mlp.name();
    let shift = u8::from(*token_shift);
    format!(
        "d={width},layers={layers},heads={heads},seq={sequence},batch={batch},vocab={vocabulary},\
         shift={shift},mlp={mlp}"
    )
}

#[cfg(test)]
mod tests {
    use sweep_spec::{
        id::DataId,
        shape::Mlp,
        training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
    };

    use super::*;

    fn config(width: u32, batch: u32, seed: u64) -> RunConfig {
        RunConfig {
            training_revision: TRAINING_REVISION,
            shape: Shape::Lm(LmShape {
                vocabulary: 256,
                width,
                layers: 2,
                heads: 2,
                sequence: 64,
                mlp: Mlp::SwiGlu,
                token_shift: true,
            }),
            data: DataId::from_hash(&blake3::hash(b"data")),
            batch,
            steps: 100,
            optimizer: Optimizer {
                learning_rate: 1e-2,
                base_width: 64,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                clip_norm: 1.0,
            },
            schedule: Schedule {
                warmup_steps: 100,
                warmup_fraction: 0.1,
                decay: Decay::Wsd { fraction: 0.2 },
            },
            seed,
            parent: None,
            mixture: Vec::new(),
        }
    }

    #[test]
    fn each_shape_is_measured_once_and_only_where_it_was_not() {
        let configs = [config(32, 16, 0), config(32, 16, 1), config(64, 16, 0), config(32, 8, 0)];
        let mut cost = CostModel::default();
        let count = |cost: &CostModel| wanted(configs.iter(), "box", cost).0.len();
        assert_eq!(count(&cost), 3);
        cost.observe_steps("box", &configs[0], 5, 1.0);
        assert_eq!(count(&cost), 2);
        let Shape::Lm(shape) = &configs[0].shape else { unreachable!("is a language model") };
        assert_eq!(
            words(shape, 16),
            "d=32,layers=2,heads=2,seq=64,batch=16,vocab=256,shift=1,mlp=swiglu"
        );
    }
}
