//! The tasks of a run: opened with its data, mixed into its windows, scored at their steps.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use burn::tensor::Device;
use serde::Serialize;
use sweep_data::task::{Item, TaskItems};
use sweep_spec::{
    metric::{Metric, TaskMetric, TaskScore},
    run::Run,
    shape::LmShape,
    task::TASK_VOCABULARY,
};

use super::{
    answer::{Asked, ask},
    calibration::Bins,
    mixture::Mixture,
};
use crate::{error::TrainError, model::lm::Lm, training::evaluation_steps};

/// The tasks of a run.
#[derive(Debug)]
pub(crate) struct Tasks {
    scored: Vec<Scored>,
    mixture: Mixture,
    sequence: usize,
}

#[derive(Debug)]
struct Scored {
    /// Its place in the recipe, from 1.
    number: u8,
    name: String,
    items: TaskItems,
    /// After which steps it is scored.
    steps: Vec<u64>,
}

/// One line of the file of item scores.
#[derive(Serialize)]
struct ItemLine<'a> {
    task: &'a str,
    step: u64,
    prompt: std::borrow::Cow<'a, str>,
    answer: std::borrow::Cow<'a, str>,
    log_probability: f64,
    token_accuracy: f64,
    edit_distance: f64,
    exact_match: bool,
    confidence: f64,
}

impl Tasks {
    /// Draws or reads the items of every task of a run.
    pub(crate) fn open(run: &Run, shape: &LmShape) -> Result<Self, TrainError> {
        let (config, tasks) = (&run.config, &run.evaluation.tasks);
        let sequence = shape.sequence as usize;
        if !(tasks.is_empty() && config.mixture.is_empty()) && shape.vocabulary != TASK_VOCABULARY {
            return Err(TrainError::Tasks("tasks need a vocabulary of 256 bytes".to_owned()));
        }
        let mut scored = Vec::with_capacity(tasks.len());
        for (number, task) in (1..).zip(tasks) {
            scored.push(Scored {
                number,
                name: task.name.clone(),
                items: TaskItems::open(task, sequence)?,
                steps: evaluation_steps(config.steps, task.times),
            });
        }
        let mut parts = Vec::with_capacity(config.mixture.len());
        for mixed in &config.mixture {
            let place = tasks.iter().position(|task| task.suite == mixed.suite);
            let place = place.ok_or_else(|| {
                let suite = mixed.suite.name();
                TrainError::Tasks(format!("the run trains on `{suite}`, which it is not told of"))
            })?;
            parts.push((mixed.fraction, scored[place].items.clone()));
        }
        let mixture = Mixture::new(config.seed, config.batch as usize, sequence, parts);
        Ok(Self { scored, mixture, sequence })
    }

    /// Replaces the windows of a step that are made of tasks.
    pub(crate) fn mix(&self, step: u64, inputs: &mut [i32], targets: &mut [i32]) {
        self.mixture.apply(step, inputs, targets);
    }

    /// Steps after which some task is scored.
    pub(crate) fn steps(&self) -> impl Iterator<Item = u64> {
        self.scored.iter().flat_map(|task| task.steps.iter().copied())
    }

    /// Scores every task whose step it is, and leaves the scores of each item in `folder`. With
    /// `last`, the bins of confidence are among the scores.
    pub(crate) fn scores(
        &self,
        model: &Lm,
        step: u64,
        last: bool,
        device: &Device,
        folder: &Path,
    ) -> Result<Vec<(Metric, f64)>, TrainError> {
        let mut found = Vec::new();
        let mut asked = Vec::new();
        for task in self.scored.iter().filter(|task| task.steps.contains(&step)) {
            let items = task.items.held_out();
            let answers = ask(model, items, self.sequence, device)?;
            found.extend(metrics(task.number, items, &answers, last));
            asked.push((task, answers));
        }
        if !asked.is_empty() {
            write_items(folder, step, &asked)?;
        }
        Ok(found)
    }
}

/// Means over the items of a task.
#[expect(clippy::cast_precision_loss, reason = "a task has at most 10,000 items")]
fn metrics(number: u8, items: &[Item], asked: &[Asked], last: bool) -> Vec<(Metric, f64)> {
    if asked.is_empty() {
        return Vec::new();
    }
    let count = asked.len() as f64;
    let mean = |value: &dyn Fn(&Asked) -> f64| asked.iter().map(value).sum::<f64>() / count;
    let mut bins = Bins::default();
    for asked in asked {
        bins.add(asked.confidence, asked.right);
    }
    let tokens = items.iter().map(|item| item.answer.len()).sum::<usize>() as f64 / count;
    let scores = [
        (TaskScore::ExactMatch, mean(&|asked| f64::from(u8::from(asked.right)))),
        (TaskScore::AnswerNats, -mean(&|asked| asked.log_probability)),
        (TaskScore::TokenAccuracy, mean(&|asked| asked.token_accuracy)),
        (TaskScore::EditDistance, mean(&|asked| asked.edit_distance)),
        (TaskScore::AnswerTokens, tokens),
    ];
    let metric = |score| Metric::Task(TaskMetric::new(number, score));
    let scores = scores.into_iter().map(|(score, value)| (metric(score), value));
    scores.chain(bins.metrics(number, last)).collect()
}

/// `scores-STEP.jsonl` beside the checkpoints: a line for every item.
fn write_items(
    folder: &Path,
    step: u64,
    asked: &[(&Scored, Vec<Asked>)],
) -> Result<(), TrainError> {
    let failed = |source| TrainError::Write { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let path = folder.join(format!("scores-{step:012}.jsonl"));
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    for (task, answers) in asked {
        for (item, asked) in task.items.held_out().iter().zip(answers) {
            let line = ItemLine {
                task: &task.name,
                step,
                prompt: String::from_utf8_lossy(&item.prompt),
                answer: String::from_utf8_lossy(&item.answer),
                log_probability: asked.log_probability,
                token_accuracy: asked.token_accuracy,
                edit_distance: asked.edit_distance,
                exact_match: asked.right,
                confidence: asked.confidence,
            };
            let text = serde_json::to_string(&line).expect("scores serialise");
            writeln!(file, "{text}").map_err(failed)?;
        }
    }
    file.flush().map_err(failed)
}
