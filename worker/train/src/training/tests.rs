//! Whole trainings of a few dozen steps on the CPU.

use std::{fs, ops::Range, path::Path};

use burn::tensor::Int;
use sweep_spec::{
    data::{DataSource, Tokenizer},
    metric::{TaskMetric, TaskScore},
    run::Evaluation,
    shape::{LmShape, Mlp, Shape},
    task::{Suite, Task},
    training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
};

use super::*;
use crate::{
    model::{
        Model as _,
        lm::{Batch, Lm},
    },
    parts,
    sample::{Draw, SampleRequest, Samples, sample},
};

const STEPS: u64 = 60;

/// The step that a training began at, and the checkpoints it passed over.
type Start = (u64, Vec<String>);

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
            token_shift: false,
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
            mixture: Vec::new(),
        };
        let evaluation = Evaluation { tokens: 2048, times: 3, sampling: None, tasks: Vec::new() };
        let run = Run { config, source, manifest, evaluation, forks: Vec::new() };
        Self { folder, dataset, run, threads: 1 }
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
        let (_, curve, outcome) = self.train_from(folder, None, stop_at);
        (curve, outcome)
    }

    /// As [`Self::train`], with the folder of its trunk's checkpoints, and what it says at its
    /// start.
    fn train_from(
        &self,
        folder: &Path,
        trunk: Option<&Path>,
        stop_at: Option<u64>,
    ) -> (Start, Vec<Point>, Result<Outcome, TrainError>) {
        let request = TrainRequest {
            run: &self.run,
            dataset: &self.dataset,
            device: &DeviceId::cpu(),
            checkpoints: folder,
            trunk,
            checkpoint_seconds: f64::INFINITY,
            threads: &AtomicUsize::new(self.threads),
        };
        let stop = AtomicBool::new(false);
        let (mut start, mut curve) = ((0, Vec::new()), Vec::new());
        let mut emit = |event| match event {
            TrainEvent::Points(points) => {
                let last = points.last().map_or(0, |point: &Point| point.step);
                stop.store(stop_at.is_some_and(|at| last >= at), Ordering::Relaxed);
                curve.extend(points);
            }
            TrainEvent::Started { step, passed_over } => start = (step, passed_over),
            _ => {}
        };
        let outcome = train(&request, &mut emit, &stop);
        curve.retain(|point| !matches!(point.metric, Metric::Seconds | Metric::TokensPerSecond));
        (start, curve, outcome)
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
fn a_checkpoint_that_cannot_be_written_costs_itself_and_no_more() {
    let bed = Bed::new();
    let (whole, _) = bed.train(&bed.checkpoints(), None);
    let folder = bed.folder.path().join("full");
    let request = TrainRequest {
        run: &bed.run,
        dataset: &bed.dataset,
        device: &DeviceId::cpu(),
        checkpoints: &folder,
        trunk: None,
        checkpoint_seconds: 0.0,
        threads: &AtomicUsize::new(1),
    };
    let (mut curve, mut lost, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let mut emit = |event| match event {
        TrainEvent::Points(points) => {
            curve.extend(points);
            // From step 10 to 20 a file stands where the folder should be.
            let aside = folder.with_extension("aside");
            match curve.last().map_or(0, |point: &Point| point.step) {
                10 if !aside.exists() => {
                    fs::rename(&folder, &aside).unwrap();
                    fs::write(&folder, b"").unwrap();
                }
                20 if aside.exists() => {
                    fs::remove_file(&folder).unwrap();
                    fs::rename(&aside, &folder).unwrap();
                }
                _ => {}
            }
        }
        TrainEvent::CheckpointLost { step, reason } => lost.push((step, reason)),
        TrainEvent::Checkpoint { step, .. } => kept.push(step),
        _ => {}
    };
    let outcome = train(&request, &mut emit, &AtomicBool::new(false));
    assert_eq!(outcome.expect("trained"), Outcome::Finished { step: STEPS });
    let steps: Vec<u64> = lost.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (10..20).collect::<Vec<u64>>());
    assert!(lost[0].1.contains("hint:"), "{}", lost[0].1);
    assert_eq!((kept[8], kept[9], kept.last().copied()), (9, 20, Some(STEPS)));
    curve.retain(|point| !matches!(point.metric, Metric::Seconds | Metric::TokensPerSecond));
    assert_eq!(curve, whole);
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
    let shape = LmShape {
        vocabulary: 256,
        width: 32,
        layers: 2,
        heads: 2,
        sequence: 32,
        mlp: Mlp::Relu2,
        token_shift: false,
    };
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
    let (found, passed_over) = checkpoint::newest(&folder, bed.run.config.id().as_str(), u64::MAX);
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
    assert!(checkpoint::newest(&bed.checkpoints(), "another", u64::MAX).0.is_none());
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
    let Shape::Lm(shape) = &mut bed.run.config.shape else { panic!("a language model") };
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
        let shape = LmShape {
            vocabulary: 256,
            width,
            layers,
            heads,
            sequence: 64,
            mlp,
            token_shift: false,
        };
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

impl Bed {
    /// The same with two tasks, one mixed in.
    fn with_tasks() -> Self {
        let mut bed = Self::new();
        let task = |name: &str, suite: Suite, fraction: f64| Task {
            name: name.to_owned(),
            suite,
            path: None,
            items: 20,
            fraction,
            times: 2,
        };
        bed.run.evaluation.tasks = vec![
            task("copying", Suite::Copying { length: 4, alphabet: 8 }, 0.5),
            task("brackets", Suite::Brackets { length: 8 }, 0.0),
        ];
        bed.run.config.mixture = sweep_spec::task::mixture(&bed.run.evaluation.tasks);
        bed
    }

    fn sample(&self, folder: &Path, prompt: &[i32], count: usize) -> Result<Samples, TrainError> {
        sample(&SampleRequest {
            config: &self.run.config,
            checkpoints: folder,
            device: &DeviceId::cpu(),
            prompt,
            tokens: 50,
            count,
            draw: Draw { temperature: 1.0, top_k: None, top_p: 1.0 },
            seed: 4,
        })
    }
}

fn score(task: u8, score: TaskScore) -> Metric {
    Metric::Task(TaskMetric::new(task, score))
}

#[test]
fn tasks_are_scored_at_their_steps_and_at_the_end() {
    let bed = Bed::with_tasks();
    let folder = bed.checkpoints();
    let (curve, outcome) = bed.train(&folder, None);
    assert_eq!(outcome.expect("trained"), Outcome::Finished { step: STEPS });
    for task in [1, 2] {
        let steps: Vec<u64> = curve
            .iter()
            .filter(|point| point.metric == score(task, TaskScore::AnswerNats))
            .map(|point| point.step)
            .collect();
        assert_eq!(steps, [8, STEPS], "task {task}");
        assert_eq!(values(&curve, score(task, TaskScore::Items)), [20.0, 20.0]);
        for share in [TaskScore::ExactMatch, TaskScore::TokenAccuracy, TaskScore::EditDistance] {
            let found = values(&curve, score(task, share));
            assert!(found.iter().all(|value| (0.0..=1.0).contains(value)), "{share:?} {found:?}");
        }
        let bins: f64 =
            (0..10).map(|bin| values(&curve, score(task, TaskScore::BinCount(bin)))[0]).sum();
        assert_eq!(bins, 20.0);
    }
    // A guess among two choices has ln 2; four letters of eight learned in sixty steps are below
    // half of four of 256.
    let nats = values(&curve, score(1, TaskScore::AnswerNats));
    assert!(nats[1] < 4.0 * 256_f64.ln() / 2.0 && nats[1] < nats[0], "{nats:?}");
    let verdict = values(&curve, score(2, TaskScore::AnswerNats));
    assert!(verdict[1] < 5.0, "{verdict:?}");
    // The mean loss on held-out text and the one of its calibration are of the same windows.
    let text = values(&curve, score(0, TaskScore::AnswerNats));
    let loss = values(&curve, Metric::ValidationLoss);
    assert!((text[0] - loss.last().expect("evaluated")).abs() < 1e-4, "{text:?} {loss:?}");
    let items = fs::read_to_string(folder.join(format!("scores-{STEPS:012}.jsonl")));
    let items = items.expect("scores of items");
    assert_eq!(items.lines().count(), 40);
    assert!(items.contains("\"task\":\"brackets\""), "{items}");
}

#[test]
fn a_mixture_changes_the_run_and_resumes_bit_for_bit() {
    let (plain, bed) = (Bed::new(), Bed::with_tasks());
    assert_ne!(plain.run.config.id(), bed.run.config.id());
    let (whole, _) = bed.train(&bed.checkpoints(), None);
    let folder = bed.folder.path().join("interrupted");
    let (mut pieces, _) = bed.train(&folder, Some(23));
    pieces.extend(bed.train(&folder, None).0);
    assert_eq!(pieces, whole);
    let (without, _) = plain.train(&plain.checkpoints(), None);
    assert_ne!(values(&whole, Metric::TrainLoss), values(&without, Metric::TrainLoss));
}

#[test]
fn text_is_written_from_the_checkpoint() {
    let bed = Bed::new();
    let folder = bed.checkpoints();
    let missing = bed.sample(&folder, &[108], 1).expect_err("not trained yet");
    assert!(missing.to_string().contains("no whole checkpoint"), "{missing}");
    bed.train(&folder, None).1.expect("trained");
    let config: RunConfig =
        serde_json::from_slice(&fs::read(folder.join(checkpoint::CONFIG_FILE)).expect("written"))
            .expect("a configuration");
    assert_eq!(config, bed.run.config);
    let three = bed.sample(&folder, &[108, 101], 3).expect("written");
    assert_eq!((three.step, three.texts.len()), (STEPS, 3));
    // Longer than a window of 32: the text goes on beyond it.
    assert!(three.texts.iter().all(|text| text.len() == 50));
    assert_ne!(three.texts[0], three.texts[1]);
    // A text does not depend on how many are written beside it.
    assert_eq!(bed.sample(&folder, &[108, 101], 1).expect("written").texts[0], three.texts[0]);
    let long = bed.sample(&folder, &[1; 33], 1).expect_err("too long");
    assert!(long.to_string().starts_with("the prompt has 33 tokens, the context"), "{long}");
    assert!(bed.sample(&folder, &[], 1).is_err());
    let foreign = bed.sample(&folder, &[300], 1).expect_err("no such token");
    assert!(matches!(foreign, TrainError::Vocabulary { token: 300, .. }));
}

#[test]
fn a_run_without_the_items_it_trains_on_is_refused() {
    let mut bed = Bed::with_tasks();
    bed.run.evaluation.tasks.clear();
    let refused = bed.train(&bed.checkpoints(), None).1.expect_err("refused");
    assert!(refused.to_string().contains("`copying`, which it is not told of"), "{refused}");
}

/// A bed with a trunk to train, and a branch of it. Both report at steps of their own, so that
/// equal curves are no accident of equal steps.
fn family(steps: u64) -> (Bed, Run) {
    let mut bed = Bed::new();
    bed.run.config.steps = steps;
    bed.run.config.schedule.warmup_fraction = 1.0;
    let alone = bed.run.clone();
    let config = alone.config.trunk().expect("it cools down");
    let step = config.steps;
    let mut branch = alone.clone();
    branch.config.parent = Some(sweep_spec::run::ParentEdge { run: config.id(), step });
    // Forks before and after that of the branch, as if others hung on the same trunk.
    let mut trunk = Run { config, forks: vec![step / 2, step], ..alone.clone() };
    trunk.config.steps = 2 * steps;
    bed.run = trunk;
    (bed, branch)
}

fn beyond(curve: &[Point], step: u64) -> Vec<Point> {
    curve.iter().filter(|point| point.step > step).cloned().collect()
}

/// Bits, because a NaN equals nothing and -0.0 equals 0.0.
fn bits(curve: &[Point]) -> Vec<(Metric, u64, u64)> {
    curve.iter().map(|point| (point.metric, point.step, point.value.to_bits())).collect()
}

#[test]
fn a_branch_is_the_run_trained_alone_bit_for_bit() {
    // 450 steps report every second one, the trunk of 900 every fourth.
    let (mut bed, branch) = family(450);
    let fork = branch.config.first_step();
    assert_eq!(fork, 315);
    let trunks = bed.folder.path().join("trunk");
    // Interrupted twice, once between its forks and once beyond them.
    let mut stem = Vec::new();
    for stop_at in [Some(200), Some(330)] {
        let (points, outcome) = bed.train(&trunks, stop_at);
        assert!(matches!(outcome, Ok(Outcome::Stopped { .. })), "{outcome:?}");
        stem.extend(points);
    }
    for step in [fork / 2, fork] {
        assert!(trunks.join(format!("step-{step:012}")).exists(), "fork {step} is kept");
    }

    // Threads change no bit either.
    (bed.run, bed.threads) = (branch, 2);
    let folder = bed.folder.path().join("branch");
    let (start, mut own, stopped) = bed.train_from(&folder, Some(&trunks), Some(400));
    assert_eq!(start, (fork, Vec::new()));
    assert!(matches!(stopped, Ok(Outcome::Stopped { .. })), "{stopped:?}");
    // Its own checkpoint counts from here on, also when its trunk's is gone.
    let (start, rest, ended) = bed.train_from(&folder, None, None);
    assert!(start.0 > 400 && start.1.is_empty(), "{start:?}");
    assert_eq!(ended.expect("finished"), Outcome::Finished { step: 450 });
    own.extend(rest);

    (bed.run.config.parent, bed.threads) = (None, 1);
    let (whole, _) = bed.train(&bed.folder.path().join("alone"), None);
    assert_eq!(bits(&own), bits(&beyond(&whole, fork)));
    let shared: Vec<Point> =
        stem.iter().filter(|point| point.step <= fork && point.step % 4 == 0).cloned().collect();
    assert!(shared.len() > 100);
    // Losses of single steps are averaged over what each reports; what is no average agrees.
    let at = |point: &Point| matches!(point.metric, Metric::GradientNorm | Metric::LearningRate);
    for point in shared.iter().filter(|point| at(point)) {
        let same = |other: &&Point| other.metric == point.metric && other.step == point.step;
        let alone = whole.iter().find(same).expect("reported alone too");
        assert_eq!(alone.value.to_bits(), point.value.to_bits(), "{point:?}");
    }
}

#[test]
fn a_branch_without_its_checkpoint_trains_the_steps_again_and_says_so() {
    let (mut bed, branch) = family(60);
    let fork = branch.config.first_step();
    let trunks = bed.folder.path().join("trunk");
    let (_, _) = bed.train(&trunks, Some(fork + 2));
    // Damage at the fork: the kept one before it serves, and the steps between are made again.
    let damaged = trunks.join(format!("step-{fork:012}/model.safetensors"));
    let mut bytes = fs::read(&damaged).expect("a checkpoint");
    bytes[200] ^= 1;
    fs::write(&damaged, bytes).expect("writable");
    bed.run = branch;
    let near = bed.folder.path().join("near");
    let (start, from_near, _) = bed.train_from(&near, Some(&trunks), None);
    assert_eq!(start.0, fork / 2);
    assert!(start.1[0].contains("does not match its hash"), "{start:?}");
    assert!(start.1[1].contains("are trained again"), "{start:?}");
    // Nothing of the trunk is here at all.
    let far = bed.folder.path().join("far");
    let (start, from_far, _) = bed.train_from(&far, None, None);
    assert_eq!((start.0, start.1.len()), (0, 1));
    assert_eq!(bits(&beyond(&from_near, fork)), bits(&beyond(&from_far, fork)));
    assert_eq!(bits(&from_near), bits(&beyond(&from_far, fork / 2)));
}
