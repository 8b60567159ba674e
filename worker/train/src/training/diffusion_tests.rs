//! Whole trainings of small diffusion models on the CPU.

use std::{fs, path::Path};

use sweep_spec::{
    data::{DataSource, Glyphs},
    diffusion::{NoiseSchedule, Prediction, Process, Weighting},
    run::{Evaluation, Sampler, Sampling},
    shape::{DiffusionShape, Shape},
    training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
};

use super::*;
use crate::model::{Model as _, diffusion::Dit};

const STEPS: u64 = 60;

/// Glyphs in a temporary folder, with a run on them.
struct Bed {
    folder: tempfile::TempDir,
    dataset: Dataset,
    run: Run,
    threads: usize,
}

fn shape(prediction: Prediction, weighting: Weighting) -> DiffusionShape {
    DiffusionShape {
        side: 8,
        channels: 1,
        patch: 2,
        classes: 0,
        width: 32,
        layers: 2,
        heads: 2,
        process: Process {
            noise: NoiseSchedule::Cosine,
            timesteps: 100,
            prediction,
            weighting,
            ema_decay: 0.9,
        },
    }
}

impl Bed {
    fn new(shape: DiffusionShape) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (side, channels) = (shape.side, shape.channels);
        let source =
            DataSource::Glyphs(Glyphs { side, channels, images: 400, deviation: 10.0, seed: 1 });
        let cache = folder.path().join("cache");
        let manifest = sweep_data::resolve(&source, &cache).expect("images");
        let dataset = sweep_data::open(&source, &cache, &manifest.id).expect("the same images");
        let config = RunConfig {
            training_revision: TRAINING_REVISION,
            shape: Shape::Diffusion(shape),
            data: manifest.id.clone(),
            batch: 16,
            steps: STEPS,
            optimizer: Optimizer {
                learning_rate: 0.01,
                base_width: 32,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.0,
                clip_norm: 1.0,
            },
            schedule: Schedule {
                warmup_steps: 10,
                warmup_fraction: 0.1,
                decay: Decay::Wsd { fraction: 0.3 },
            },
            seed: 1,
            parent: None,
            mixture: Vec::new(),
        };
        let sampling = Sampling { sampler: Sampler::Ddim, steps: 5, count: 64 };
        let evaluation =
            Evaluation { tokens: 100, times: 2, sampling: Some(sampling), tasks: Vec::new() };
        let run = Run { config, source, manifest, evaluation, forks: Vec::new() };
        Self { folder, dataset, run, threads: 1 }
    }

    fn plain() -> Self {
        Self::new(shape(Prediction::Noise, Weighting::Uniform))
    }

    /// As for language models: to the end, or to a stop one step after the report of `stop_at`.
    fn train(
        &self,
        folder: &Path,
        stop_at: Option<u64>,
    ) -> (Vec<Point>, Result<Outcome, TrainError>) {
        let request = TrainRequest {
            run: &self.run,
            dataset: &self.dataset,
            device: &DeviceId::cpu(),
            checkpoints: folder,
            trunk: None,
            checkpoint_seconds: f64::INFINITY,
            threads: &AtomicUsize::new(self.threads),
        };
        let stop = AtomicBool::new(false);
        let mut curve = Vec::new();
        let mut emit = |event| {
            if let TrainEvent::Points(points) = event {
                let last = points.last().map_or(0, |point: &Point| point.step);
                stop.store(stop_at.is_some_and(|at| last >= at), Ordering::Relaxed);
                curve.extend(points);
            }
        };
        let outcome = train(&request, &mut emit, &stop);
        curve.retain(|point| !matches!(point.metric, Metric::Seconds | Metric::TokensPerSecond));
        (curve, outcome)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn last(curve: &[Point], metric: Metric) -> f64 {
    let mut found = curve.iter().filter(|point| point.metric == metric);
    found.next_back().unwrap_or_else(|| panic!("{metric:?} was measured")).value
}

fn first(curve: &[Point], metric: Metric) -> f64 {
    curve.iter().find(|point| point.metric == metric).expect("measured").value
}

#[test]
fn a_diffusion_run_learns_and_is_measured() {
    let bed = Bed::plain();
    let folder = bed.folder("whole");
    let (curve, outcome) = bed.train(&folder, None);
    assert_eq!(outcome.expect("trained"), Outcome::Finished { step: STEPS });
    // The head starts at zero: the first loss is the variance of the noise.
    let start = first(&curve, Metric::TrainLoss);
    assert!((start - 1.0).abs() < 0.1, "{start}");
    let loss = last(&curve, Metric::ValidationLoss);
    assert!(loss < 0.6, "{loss}");
    let floor = last(&curve, Metric::NoiseLossFloor);
    assert!(floor > 0.0 && floor < loss, "{floor} {loss}");
    // More noise in the state makes it easier to see.
    assert!(last(&curve, Metric::NoiseLossBin5) < last(&curve, Metric::NoiseLossBin1));
    let (bound, truth) = (last(&curve, Metric::BoundBits), last(&curve, Metric::TrueBits));
    assert!(bound + 3.0 * last(&curve, Metric::BoundBitsError) > truth, "{bound} {truth}");
    assert!((0.0..=1.0).contains(&last(&curve, Metric::Coverage)));
    assert!(last(&curve, Metric::FrechetDistance) > 0.0);
    assert_eq!(last(&curve, Metric::Tokens), 960.0);
    assert_eq!(last(&curve, Metric::Flops), bed.run.config.flops());
    let samples = fs::read_to_string(folder.join("samples.json")).expect("samples");
    assert!(samples.starts_with("{\"format\":1,\"side\":8"), "{samples}");
}

#[test]
fn an_interrupted_diffusion_run_is_the_uninterrupted_run_bit_for_bit() {
    let bed = Bed::plain();
    let (whole, _) = bed.train(&bed.folder("whole"), None);
    let folder = bed.folder("interrupted");
    let (mut pieces, stopped) = bed.train(&folder, Some(23));
    assert_eq!(stopped.expect("stopped"), Outcome::Stopped { step: 24 });
    let (second, end) = bed.train(&folder, None);
    assert_eq!(end.expect("finished"), Outcome::Finished { step: STEPS });
    pieces.extend(second);
    assert_eq!(pieces, whole);
    let read = |name: &str| fs::read(bed.folder(name).join("samples.json")).expect("samples");
    assert_eq!(read("whole"), read("interrupted"));
}

#[test]
fn the_number_of_threads_changes_no_bit_of_a_diffusion_run() {
    let mut bed = Bed::plain();
    // 80 images of 16 patches: two parts.
    bed.run.config.batch = 80;
    bed.run.config.steps = 8;
    let (alone, _) = bed.train(&bed.folder("alone"), None);
    bed.threads = 2;
    assert_eq!(bed.train(&bed.folder("two"), None).0, alone);
}

#[test]
fn every_option_of_the_process_trains() {
    for (noise, prediction, weighting, classes, sampler) in [
        (NoiseSchedule::Linear, Prediction::Noise, Weighting::MinSnr(5.0), 10, Sampler::Ddpm),
        (NoiseSchedule::Cosine, Prediction::Velocity, Weighting::Uniform, 0, Sampler::Ddim),
        (NoiseSchedule::Cosine, Prediction::Velocity, Weighting::MinSnr(5.0), 10, Sampler::Ddpm),
    ] {
        let mut shape = shape(prediction, weighting);
        shape.process.noise = noise;
        shape.classes = classes;
        let mut bed = Bed::new(shape);
        bed.run.evaluation.sampling = Some(Sampling { sampler, steps: 5, count: 64 });
        let (curve, outcome) = bed.train(&bed.folder("run"), None);
        assert!(matches!(outcome, Ok(Outcome::Finished { .. })), "{outcome:?}");
        let loss = last(&curve, Metric::ValidationLoss);
        assert!(loss < 0.8, "{noise:?} {prediction:?} {weighting:?}: {loss}");
    }
}

#[test]
fn images_of_another_form_are_refused() {
    let mut bed = Bed::plain();
    let Shape::Diffusion(shape) = &mut bed.run.config.shape else { panic!("diffusion") };
    shape.side = 16;
    let (_, refused) = bed.train(&bed.folder("run"), None);
    let text = refused.expect_err("refused").to_string();
    assert!(text.contains("16 x 16") && text.contains("hint:"), "{text}");
}

#[test]
fn built_diffusion_models_have_the_parameters_that_the_plan_counts() {
    for (side, channels, patch, classes, width, layers) in
        [(8, 1, 2, 0, 16, 2), (16, 1, 4, 10, 32, 3), (32, 3, 4, 0, 64, 2)]
    {
        let shape = DiffusionShape {
            side,
            channels,
            patch,
            classes,
            width,
            layers,
            heads: width / 16,
            ..shape(Prediction::Noise, Weighting::Uniform)
        };
        let mut model = Dit::new(&shape, 0, &Device::flex());
        let parameters = model.parameters_mut();
        let built: usize =
            parameters.iter().map(|p| p.value.dims().iter().product::<usize>()).sum();
        assert_eq!(built as u64, shape.parameters().total);
    }
}
