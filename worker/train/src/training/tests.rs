//! Whole trainings of a few dozen steps on the CPU.

use std::{fs, path::Path};

use sweep_spec::{
    data::{DataSource, Tokenizer},
    run::Evaluation,
    shape::Mlp,
    training::{Decay, Optimizer, Schedule},
};

use super::*;

const STEPS: u64 = 60;

/// A corpus in a temporary folder, with a run on it.
struct Bed {
    folder: tempfile::TempDir,
    dataset: Dataset,
    run: Run,
    threads: usize,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for document in 0..40 {
            let line = |n: usize| format!("let value_{n} = compute({document}, {n});\n");
            let text: String = (0..60).map(|n| line((n * 7 + document) % 23)).collect();
            fs::write(folder.path().join(format!("{document}.rs")), text).expect("writable");
        }
        let source = DataSource::Text {
            globs: vec![format!("{}/*.rs", folder.path().display())],
            tokenizer: Tokenizer::Bytes,
            max_bytes: None,
            held_out: 0.1,
        };
        let cache = folder.path().join("cache");
        let manifest = sweep_data::resolve(&source, &cache).expect("a corpus");
        let dataset = sweep_data::open(&source, &cache, &manifest.id).expect("the same corpus");
        let shape = LmShape {
            vocabulary: 256,
            width: 32,
            layers: 2,
            heads: 2,
            sequence: 32,
            mlp: Mlp::Relu2,
        };
        let config = RunConfig {
            training_revision: TRAINING_REVISION,
            shape: Shape::Lm(shape),
            data: manifest.id.clone(),
            batch: 4,
            steps: STEPS,
            optimizer: Optimizer {
                learning_rate: 0.01,
                base_width: 32,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                clip_norm: 1.0,
            },
            schedule: Schedule {
                warmup_steps: 10,
                warmup_fraction: 0.1,
                decay: Decay::Wsd { fraction: 0.3 },
            },
            seed: 1,
            parent: None,
        };
        let evaluation = Evaluation { tokens: 2048, times: 3 };
        Self { folder, dataset, run: Run { config, source, manifest, evaluation }, threads: 1 }
    }

    fn checkpoints(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    /// Trains to the end, or asks it to stop when the report of `stop_at` arrives: it ends one step
    /// later. Points without those that a clock makes.
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
}

fn values(curve: &[Point], metric: Metric) -> Vec<f64> {
    curve.iter().filter(|point| point.metric == metric).map(|point| point.value).collect()
}

#[test]
fn a_run_learns_and_reports_every_metric() {
    let bed = Bed::new();
    let (curve, outcome) = bed.train(&bed.checkpoints(), None);
    assert_eq!(outcome.expect("trained"), Outcome::Finished { step: STEPS });
    let loss = values(&curve, Metric::TrainLoss);
    assert_eq!(loss.len() as u64, STEPS);
    // The head starts at zero: the first loss is that of a uniform guess.
    assert!((loss[0] - 256.0_f64.ln()).abs() < 1e-5, "{}", loss[0]);
    let validation = values(&curve, Metric::ValidationLoss);
    assert_eq!(validation.len(), 3);
    assert!(validation[2] < 3.0, "{validation:?}");
    let bits = values(&curve, Metric::ValidationBitsPerByte);
    assert_eq!(bits[2], validation[2] / std::f64::consts::LN_2);
    let tokens = values(&curve, Metric::Tokens);
    let flops = values(&curve, Metric::Flops);
    assert_eq!(tokens.last(), Some(&7680.0));
    assert_eq!(flops.last(), Some(&bed.run.config.flops()));
    assert!(values(&curve, Metric::GradientNorm).iter().all(|norm| *norm > 0.0));
}

#[test]
fn an_interrupted_run_is_the_uninterrupted_run_bit_for_bit() {
    let bed = Bed::new();
    let (whole, _) = bed.train(&bed.checkpoints(), None);
    let folder = bed.folder.path().join("interrupted");
    let (mut pieces, first) = bed.train(&folder, Some(23));
    assert_eq!(first.expect("stopped"), Outcome::Stopped { step: 24 });
    let (second, last) = bed.train(&folder, None);
    assert_eq!(last.expect("finished"), Outcome::Finished { step: STEPS });
    pieces.extend(second);
    assert_eq!(pieces, whole);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let mut bed = Bed::new();
    // Five parts of sixteen windows.
    bed.run.config.batch = 80;
    bed.run.config.steps = 12;
    let (alone, _) = bed.train(&bed.folder.path().join("alone"), None);
    for threads in [2, 3, 16] {
        bed.threads = threads;
        let folder = bed.folder.path().join(format!("{threads} threads"));
        assert_eq!(bed.train(&folder, None).0, alone, "{threads} threads");
    }
}

#[test]
fn the_parts_of_a_batch_add_up_to_its_gradient() {
    let shape =
        LmShape { vocabulary: 256, width: 32, layers: 2, heads: 2, sequence: 32, mlp: Mlp::Relu2 };
    let device = Device::flex();
    let mut model = Lm::new(&shape, 3, &device);
    let text: Vec<i32> = (0..7 * 32 + 1).map(|token| token * token % 251).collect();
    // The head starts at zero, which would leave most gradients at zero.
    let parameters = model.parameters_mut();
    for (index, parameter) in (0..).zip(parameters) {
        let [rows, columns] = parameter.value.dims();
        let draws = crate::model::normal(5, index, rows * columns, 0.2);
        let name = parameter.name.clone();
        *parameter =
            crate::model::Parameter::new(name, parameter.role, draws, [rows, columns], &device);
    }
    let loss = |model: &Lm, windows: Range<usize>| {
        let (start, end) = (windows.start * 32, windows.end * 32);
        let inputs = Tensor::<1, Int>::from_data(&text[start..end], &device);
        model.loss(&Batch { inputs, targets: text[start + 1..=end].to_vec() })
    };
    let whole = parts::gradients(&model, std::slice::from_ref(&(0..7)), 1, loss);
    let cut = parts::gradients(&model, &[0..2, 2..3, 3..7], 2, loss);
    let number = |tensor: Tensor<1>| tensor.into_scalar::<f32>();
    assert!((number(whole.loss) / number(cut.loss) - 1.0).abs() < 1e-5);
    for (whole, cut) in whole.parameters.into_iter().zip(cut.parameters) {
        let size = number(whole.clone().abs().max());
        let error = number((whole - cut).abs().max());
        assert!(size > 0.0 && error <= 1e-4 * size, "{error} of {size}");
    }
}

#[test]
fn a_damaged_checkpoint_falls_back_by_one() {
    let bed = Bed::new();
    let folder = bed.checkpoints();
    let (_, _) = bed.train(&folder, Some(20));
    let (_, _) = bed.train(&folder, Some(40));
    let damaged = folder.join("step-000000000041/model.safetensors");
    let mut bytes = fs::read(&damaged).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).expect("writable");
    let (found, passed_over) = checkpoint::newest(&folder, bed.run.config.id().as_str());
    assert_eq!(found.expect("the one before").manifest.step, 21);
    assert!(passed_over[0].contains("does not match its hash"), "{passed_over:?}");
    let (curve, _) = bed.train(&folder, None);
    let (whole, _) = bed.train(&bed.folder.path().join("whole"), None);
    assert_eq!(curve.last(), whole.last());
}

#[test]
fn another_runs_checkpoint_is_not_taken() {
    let bed = Bed::new();
    let (_, _) = bed.train(&bed.checkpoints(), Some(20));
    assert!(checkpoint::newest(&bed.checkpoints(), "another").0.is_none());
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_as_diverged() {
    let mut bed = Bed::new();
    bed.run.config.optimizer.learning_rate = 1e30;
    let (curve, outcome) = bed.train(&bed.checkpoints(), None);
    assert!(matches!(outcome, Ok(Outcome::Diverged { .. })), "{outcome:?}");
    assert!(!values(&curve, Metric::TrainLoss).last().expect("a point").is_finite());
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let mut bed = Bed::new();
    bed.run.config.training_revision += 1;
    let (_, refused) = bed.train(&bed.checkpoints(), None);
    assert!(matches!(refused, Err(TrainError::Revision { .. })), "{refused:?}");

    let mut bed = Bed::new();
    let Shape::Lm(shape) = &mut bed.run.config.shape;
    shape.vocabulary = 64;
    let (_, refused) = bed.train(&bed.checkpoints(), None);
    assert!(matches!(refused, Err(TrainError::Vocabulary { vocabulary: 64, .. })), "{refused:?}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_an_error_that_names_the_folder() {
    let bed = Bed::new();
    let file = bed.folder.path().join("0.rs");
    let (_, refused) = bed.train(&file.join("below"), None);
    let text = refused.expect_err("not writable").to_string();
    assert!(text.contains("0.rs") && text.contains("hint:"), "{text}");
}

#[test]
fn built_models_have_the_parameters_that_the_plan_counts() {
    for (width, layers, heads, mlp) in
        [(32, 2, 2, Mlp::Relu2), (48, 3, 3, Mlp::SwiGlu), (128, 4, 4, Mlp::Relu2)]
    {
        let shape = LmShape { vocabulary: 256, width, layers, heads, sequence: 64, mlp };
        let mut model = Lm::new(&shape, 0, &Device::flex());
        let parameters = model.parameters_mut();
        let built: usize = parameters
            .iter()
            .map(|parameter| parameter.value.dims().iter().product::<usize>())
            .sum();
        assert_eq!(built as u64, shape.parameters().total);
    }
}

#[test]
fn evaluations_end_with_the_last_step() {
    assert_eq!(evaluation_steps(1000, 1), [1000]);
    assert_eq!(evaluation_steps(1000, 3), [10, 100, 1000]);
    assert_eq!(evaluation_steps(2, 5), [1, 2]);
    assert_eq!(evaluation_steps(7, 0), [7]);
}
