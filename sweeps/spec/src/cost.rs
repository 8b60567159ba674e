//! How long a run takes: FLOPs over speed, by shape and kind of device.
//!
//! The best answer is a measured one: seconds per step of the same shape and batch on the same
//! kind of device. Next comes a power law through the other shapes measured there, and last a
//! table of device names. A kind that is neither measured nor in the table has no prediction.
//! The model is plain data: it reads no clock, and the same observations give the same answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    run::RunConfig,
    shape::{DiffusionShape, LmShape, Shape},
};

/// Where a prediction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// This shape and batch was trained on this kind of device.
    Measured,
    /// Other shapes were trained on this kind of device.
    Interpolated,
    /// The device is in the table of names; right within a factor of about three.
    Table,
}

/// Predicted seconds of a run, with their origin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// Seconds from the first step to the last.
    pub seconds: f64,
    /// Where they come from.
    pub basis: Basis,
}

/// What was measured, by kind of device (its name as the inventory gives it) and shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    measured: BTreeMap<String, BTreeMap<String, Speed>>,
}

/// Measured attempts of one shape and batch on one kind of device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Speed {
    steps: f64,
    seconds: f64,
    flops_per_step: f64,
}

/// Steps after which older measurements count half: a node that became slower shows within a few
/// runs, and one odd run does not move the model.
const MEMORY_STEPS: f64 = 20_000.0;

/// How seconds per step grow with FLOPs per step where a single shape was measured: a little
/// slower than in proportion, since wider matrices run closer to the peak.
const PRIOR_EXPONENT: f64 = 0.9;

/// Weight of that prior, in squared units of log FLOPs: two shapes that are a factor of three
/// apart weigh about as much.
const PRIOR_WEIGHT: f64 = 0.6;

impl CostModel {
    /// Takes in a measured attempt: `seconds` for all steps of `config`. Values that no clock can
    /// give are ignored.
    pub fn observe(&mut self, device_kind: &str, config: &RunConfig, seconds: f64) {
        self.observe_steps(device_kind, config, config.steps, seconds);
    }

    /// Takes in `steps` measured steps of a run.
    pub fn observe_steps(&mut self, kind: &str, config: &RunConfig, steps: u64, seconds: f64) {
        if steps == 0 || !seconds.is_finite() || seconds <= 0.0 {
            return;
        }
        let speed = self
            .measured
            .entry(kind.to_owned())
            .or_default()
            .entry(shape_key(config))
            .or_insert_with(|| Speed {
                steps: 0.0,
                seconds: 0.0,
                flops_per_step: flops_per_step(config),
            });
        if speed.steps > MEMORY_STEPS {
            speed.steps /= 2.0;
            speed.seconds /= 2.0;
        }
        speed.steps += count(steps);
        speed.seconds += seconds;
    }

    /// Seconds that `config` should take on a device of this kind, from its first step to its
    /// last; `None` where nothing is known of the kind.
    #[must_use]
    pub fn predict(&self, device_kind: &str, config: &RunConfig) -> Option<Predicted> {
        let (per_step, basis) = self.seconds_per_step(device_kind, config)?;
        Some(Predicted { seconds: per_step * count(config.steps), basis })
    }

    /// Seconds of the steps that `config` trains itself: of a branch those after its fork.
    #[must_use]
    pub fn predict_own(&self, device_kind: &str, config: &RunConfig) -> Option<Predicted> {
        let whole = self.predict(device_kind, config)?;
        Some(Predicted { seconds: whole.seconds * config.own_share(), ..whole })
    }

    /// Takes over what `other` measured; of a shape that both know, `other`'s speed counts.
    pub fn merge(&mut self, other: &Self) {
        for (kind, speeds) in &other.measured {
            let own = self.measured.entry(kind.clone()).or_default();
            own.extend(speeds.iter().map(|(shape, speed)| (shape.clone(), speed.clone())));
        }
    }

    /// Kinds of device of which something was measured.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.measured.keys().map(String::as_str)
    }

    fn seconds_per_step(&self, kind: &str, config: &RunConfig) -> Option<(f64, Basis)> {
        if let Some(speeds) = self.measured.get(kind) {
            if let Some(speed) = speeds.get(&shape_key(config)) {
                return Some((speed.seconds / speed.steps, Basis::Measured));
            }
            if let Some(seconds) = interpolate(speeds.values(), flops_per_step(config)) {
                return Some((seconds, Basis::Interpolated));
            }
        }
        table(kind, config).map(|seconds| (seconds, Basis::Table))
    }
}

/// Power law through the measured shapes, its exponent drawn towards [`PRIOR_EXPONENT`].
fn interpolate<'a>(speeds: impl Iterator<Item = &'a Speed>, flops: f64) -> Option<f64> {
    let points: Vec<(f64, f64)> = speeds
        .map(|speed| (libm::log(speed.flops_per_step), libm::log(speed.seconds / speed.steps)))
        .collect();
    if points.is_empty() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of shapes")]
    let n = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / n;
    let sum_xx: f64 = points.iter().map(|(x, _)| (x - mean_x) * (x - mean_x)).sum();
    let sum_xy: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let exponent = (sum_xy + PRIOR_WEIGHT * PRIOR_EXPONENT) / (sum_xx + PRIOR_WEIGHT);
    Some(libm::exp(mean_y + exponent * (libm::log(flops) - mean_x)))
}

/// Peak f32 FLOP/s of devices by a part of their name, longest match first. Vendor data sheets.
const GPU_PEAKS: &[(&str, f64)] = &[
    ("rtx 5090", 104.8e12),
    ("rtx 4090", 82.6e12),
    ("rtx 3090", 35.6e12),
    ("mi300x", 163.4e12),
    ("l40s", 91.6e12),
    ("h200", 66.9e12),
    ("h100", 66.9e12),
    ("a100", 19.5e12),
    ("v100", 15.7e12),
    ("a10", 31.2e12),
    ("l4", 30.3e12),
    ("t4", 8.1e12),
];

/// Peak f32 FLOP/s of a device by its name; `None` for processors, and where no data sheet is at hand.
#[must_use]
pub fn peak_flops(device: &str) -> Option<f64> {
    let name = device.to_lowercase();
    GPU_PEAKS.iter().find(|(part, _)| name.contains(part)).map(|(_, peak)| *peak)
}

/// Share of the f32 peak that large matrix products reach without tensor cores.
const GPU_SHARE_OF_PEAK: f64 = 0.3;

/// Seconds to start one GPU kernel; small models are bound by it.
const GPU_LAUNCH_SECONDS: f64 = 8e-6;

/// Kernels of one training step: per layer, and beside the layers.
const GPU_KERNELS: (f64, f64) = (70.0, 60.0);

/// FLOP/s of one processor core with AVX2 or better at great width. One trainer has one core.
const CPU_CORE_FLOPS: f64 = 70e9;

/// Width at which a core reaches half of that: narrow layers live off norms and soft-max.
const CPU_HALF_WIDTH: f64 = 64.0;

/// Parts of processor names.
const CPU_NAMES: &[&str] = &[
    "cpu", "epyc", "ryzen", "xeon", "core(tm)", "apple m", "neoverse", "graviton", "intel", "amd",
];

/// Parts of names of graphics chips by the same makers.
const GPU_NAMES: &[&str] = &["radeon", "instinct", "arc", "graphics", "geforce", "nvidia", "tesla"];

/// Seconds per step by the name of the device.
fn table(kind: &str, config: &RunConfig) -> Option<f64> {
    let name = kind.to_lowercase();
    let flops = flops_per_step(config);
    let shape = &config.shape;
    if let Some(peak) = peak_flops(kind) {
        let (per_layer, beside) = GPU_KERNELS;
        let launches = per_layer * f64::from(shape.layers()) + beside;
        return Some(flops / (peak * GPU_SHARE_OF_PEAK) + launches * GPU_LAUNCH_SECONDS);
    }
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    (has(CPU_NAMES) && !has(GPU_NAMES)).then(|| {
        let width = f64::from(shape.width());
        flops / (CPU_CORE_FLOPS * width / (width + CPU_HALF_WIDTH))
    })
}

fn flops_per_step(config: &RunConfig) -> f64 {
    config.shape.flops_per_token() * count(config.tokens_per_step())
}

/// Everything that decides the speed of a step.
fn shape_key(config: &RunConfig) -> String {
    match &config.shape {
        Shape::Lm(shape) => lm_key(shape, config.batch),
        Shape::Diffusion(shape) => diffusion_key(shape, config.batch),
    }
}

fn diffusion_key(shape: &DiffusionShape, batch: u32) -> String {
    let DiffusionShape { side, channels, patch, width, layers, heads, .. } = shape;
    format!("diffusion d={width} l={layers} h={heads} s={side}x{channels} p={patch} b={batch}")
}

fn lm_key(shape: &LmShape, batch: u32) -> String {
    let LmShape { vocabulary, width, layers, heads, sequence, mlp, token_shift } = shape;
    let mlp = mlp.name();
    let shift = if *token_shift { " shift" } else { "" };
    format!("lm d={width} l={layers} h={heads} t={sequence} v={vocabulary} {mlp}{shift} b={batch}")
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
const fn count(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::DataId,
        shape::Mlp,
        training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
    };

    fn config(width: u32, layers: u32, steps: u64) -> RunConfig {
        RunConfig {
            training_revision: TRAINING_REVISION,
            shape: Shape::Lm(LmShape {
                vocabulary: 256,
                width,
                layers,
                heads: width / 16,
                sequence: 64,
                mlp: Mlp::Relu2,
                token_shift: false,
            }),
            data: DataId::from_hash(&blake3::hash(b"data")),
            batch: 16,
            steps,
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
            seed: 1,
            parent: None,
            mixture: Vec::new(),
        }
    }

    #[test]
    fn a_measured_shape_is_predicted_from_its_own_speed() {
        let mut model = CostModel::default();
        model.observe("AMD EPYC", &config(32, 2, 1000), 4.0);
        let predicted = model.predict("AMD EPYC", &config(32, 2, 500)).expect("measured");
        assert_eq!(predicted, Predicted { seconds: 2.0, basis: Basis::Measured });
    }

    #[test]
    fn other_shapes_follow_the_power_law_of_the_measured_ones() {
        let mut model = CostModel::default();
        // Seconds in proportion to FLOPs: the law must come close to proportion in between.
        for (width, layers) in [(16, 2), (64, 2), (256, 8)] {
            let config = config(width, layers, 100);
            model.observe("box", &config, config.flops() / 1e10);
        }
        let between = config(128, 4, 100);
        let predicted = model.predict("box", &between).expect("interpolated");
        assert_eq!(predicted.basis, Basis::Interpolated);
        let truth = between.flops() / 1e10;
        assert!((predicted.seconds / truth - 1.0).abs() < 0.1, "{predicted:?} against {truth}");
    }

    #[test]
    fn names_are_looked_up_and_unknown_ones_have_no_prediction() {
        let model = CostModel::default();
        let run = config(128, 4, 100);
        let basis = |kind: &str| model.predict(kind, &run).map(|predicted| predicted.basis);
        assert_eq!(basis("AMD EPYC 7763"), Some(Basis::Table));
        assert_eq!(basis("NVIDIA GeForce RTX 4090"), Some(Basis::Table));
        assert_eq!(basis("AMD Radeon 780M"), None);
        assert_eq!(basis("Voodoo 2"), None);
    }

    #[test]
    fn times_that_no_clock_gives_are_ignored() {
        let mut model = CostModel::default();
        for seconds in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            model.observe("box", &config(32, 2, 10), seconds);
        }
        assert_eq!(model, CostModel::default());
    }

    #[test]
    fn a_node_that_became_slower_shows() {
        let mut model = CostModel::default();
        let run = config(32, 2, 30_000);
        model.observe("box", &run, 30.0);
        for _ in 0..6 {
            model.observe("box", &run, 60.0);
        }
        let predicted = model.predict("box", &run).expect("measured");
        assert!(predicted.seconds > 55.0, "{predicted:?}");
    }

    #[test]
    fn the_model_survives_json() {
        let mut model = CostModel::default();
        model.observe("box", &config(32, 2, 10), 0.125);
        let text = serde_json::to_string(&model).expect("serialises");
        assert_eq!(serde_json::from_str::<CostModel>(&text).expect("reads back"), model);
    }

    #[test]
    fn a_peak_is_told_only_where_a_data_sheet_was_read() {
        assert_eq!(peak_flops("NVIDIA A100-SXM4-40GB"), Some(19.5e12));
        assert_eq!(peak_flops("NVIDIA A10"), Some(31.2e12));
        assert_eq!((peak_flops("AMD EPYC 9654"), peak_flops("Radeon 780M")), (None, None));
    }
}
