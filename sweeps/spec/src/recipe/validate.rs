//! From the raw recipe to one that can be expanded: ranges, required keys.

use super::{
    FitPlan, KeyPath, ModelRule, Recipe, RecipeError, TrainingPlan,
    position::SourceText,
    raw::{Count, RawData, RawFit, RawModel, RawRecipe, RawTokenizer, RawTraining, SourceKind},
    requests,
};
use crate::{
    data::{DataSource, Synthetic, Tokenizer},
    run::Evaluation,
    shape::lm::MAX_SEQUENCE,
    training::{Decay, Optimizer, Schedule},
};

/// Longest name of a sweep; it becomes a folder name.
const MAX_NAME: usize = 64;

/// Largest batch in sequences; beyond it a step no longer suffices any memory.
const MAX_BATCH: u32 = 65_536;

/// Most evaluations of a run.
const MAX_EVALUATIONS: u32 = 1000;

/// Most bootstrap replicates: interval ends settle near 2,000.
const MAX_BOOTSTRAP: u32 = 20_000;

/// Share of documents that may be held out at most.
const MAX_HELD_OUT: f64 = 0.5;

/// A fault before it has a file and a line.
pub(super) type Fault = (KeyPath, String);

pub(super) fn recipe(raw: RawRecipe, source: SourceText) -> Result<Recipe, RecipeError> {
    let located = |(path, message): Fault| source.error_at(&path, &message);
    let checked = || -> Result<_, Fault> {
        Ok((
            name(&raw.name)?,
            data(&raw.data)?,
            model(&raw.model)?,
            training(&raw.training)?,
            evaluation(&raw)?,
            fit(&raw.fit)?,
            requests::requests(&raw)?,
        ))
    };
    let (name, data, model, training, evaluation, fit, requests) = checked().map_err(located)?;
    Ok(Recipe {
        name,
        description: raw.description,
        data,
        model,
        training,
        evaluation,
        requests,
        fit,
        source,
    })
}

/// `Ok` where the condition holds, else the fault.
pub(super) fn ensure(
    holds: bool,
    path: &[&'static str],
    message: impl FnOnce() -> String,
) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err((KeyPath::of(path), message())) }
}

fn name(name: &str) -> Result<String, Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let valid = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.chars().all(plain)
        && !name.starts_with(['.', '-']);
    ensure(valid, &["name"], || {
        format!(
            "`{name}` cannot name a folder; hint: use 1 to {MAX_NAME} letters, digits, `-`, `_` \
             and `.`, beginning with a letter or digit"
        )
    })?;
    Ok(name.to_owned())
}

fn data(raw: &RawData) -> Result<DataSource, Fault> {
    foreign_keys(raw)?;
    match raw.source {
        SourceKind::Text => text(raw),
        SourceKind::Bin => Ok(DataSource::Bin {
            train: globs(raw.train.as_deref(), "train", "bin")?,
            validation: globs(raw.validation.as_deref(), "validation", "bin")?,
            vocabulary: required(raw.vocabulary, "vocabulary", "bin")?,
        }),
        SourceKind::Synthetic => synthetic(raw),
    }
}

/// Refuses keys that the chosen source does not read: they would be ignored without a word.
fn foreign_keys(raw: &RawData) -> Result<(), Fault> {
    use SourceKind::{Bin, Synthetic, Text};
    let keys: [(&'static str, bool, &[SourceKind]); 11] = [
        ("globs", raw.globs.is_some(), &[Text]),
        ("tokenizer", raw.tokenizer.is_some(), &[Text]),
        ("max_bytes", raw.max_bytes.is_some(), &[Text]),
        ("held_out", raw.held_out.is_some(), &[Text]),
        ("train", raw.train.is_some(), &[Bin]),
        ("validation", raw.validation.is_some(), &[Bin]),
        ("vocabulary", raw.vocabulary.is_some(), &[Bin, Synthetic]),
        ("entropy", raw.entropy.is_some(), &[Synthetic]),
        ("contexts", raw.contexts.is_some(), &[Synthetic]),
        ("tokens", raw.tokens.is_some(), &[Synthetic]),
        ("seed", raw.seed.is_some(), &[Synthetic]),
    ];
    for (key, given, sources) in keys {
        ensure(!given || sources.contains(&raw.source), &["data", key], || {
            let source = source_name(raw.source);
            format!("a source of kind `{source}` has no such key; hint: remove it")
        })?;
    }
    Ok(())
}

const fn source_name(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Text => "text",
        SourceKind::Bin => "bin",
        SourceKind::Synthetic => "synthetic",
    }
}

fn required<T>(value: Option<T>, key: &'static str, source: &str) -> Result<T, Fault> {
    value.ok_or_else(|| {
        let message =
            format!("a source of kind `{source}` needs `{key}`; hint: add it to `[data]`");
        (KeyPath::of(&["data", key]), message)
    })
}

fn globs(list: Option<&[String]>, key: &'static str, source: &str) -> Result<Vec<String>, Fault> {
    let list = required(list, key, source)?;
    ensure(!list.is_empty(), &["data", key], || {
        "the list is empty; hint: give at least one glob such as \"~/texts/**/*.txt\"".to_owned()
    })?;
    Ok(list.to_vec())
}

fn text(raw: &RawData) -> Result<DataSource, Fault> {
    let held_out = raw.held_out.unwrap_or(0.05);
    ensure(held_out > 0.0 && held_out <= MAX_HELD_OUT, &["data", "held_out"], || {
        format!(
            "{held_out} is no share to hold out; hint: give a number above 0, at most {MAX_HELD_OUT}"
        )
    })?;
    let tokenizer = match &raw.tokenizer {
        None | Some(RawTokenizer::Bytes) => Tokenizer::Bytes,
        Some(RawTokenizer::Bpe(vocabulary)) => {
            ensure((257..=65_536).contains(vocabulary), &["data", "tokenizer"], || {
                format!("a vocabulary of {vocabulary} cannot be trained; hint: give 257 to 65536")
            })?;
            Tokenizer::Bpe(*vocabulary)
        }
        Some(RawTokenizer::File(path)) => Tokenizer::File(path.clone()),
    };
    Ok(DataSource::Text {
        globs: globs(raw.globs.as_deref(), "globs", "text")?,
        tokenizer,
        max_bytes: raw.max_bytes.map(|Count(bytes)| bytes),
        held_out,
    })
}

fn synthetic(raw: &RawData) -> Result<DataSource, Fault> {
    let vocabulary = required(raw.vocabulary, "vocabulary", "synthetic")?;
    ensure((2..=256).contains(&vocabulary), &["data", "vocabulary"], || {
        format!("{vocabulary} is no vocabulary of the synthetic source; hint: give 2 to 256")
    })?;
    let entropy = required(raw.entropy, "entropy", "synthetic")?;
    let most = libm::log(f64::from(vocabulary));
    ensure(entropy > 0.0 && entropy < most, &["data", "entropy"], || {
        format!(
            "{entropy} nats per token cannot be had from {vocabulary} tokens; hint: give a number \
             above 0 and below ln({vocabulary}) = {most:.4}"
        )
    })?;
    let contexts = required(raw.contexts, "contexts", "synthetic")?;
    ensure(contexts > 0, &["data", "contexts"], || {
        "there must be a context; hint: give at least 1".to_owned()
    })?;
    let Count(tokens) = required(raw.tokens, "tokens", "synthetic")?;
    let seed = raw.seed.unwrap_or(0);
    Ok(DataSource::Synthetic(Synthetic { vocabulary, entropy, contexts, tokens, seed }))
}

fn model(raw: &RawModel) -> Result<ModelRule, Fault> {
    ensure((1..=MAX_SEQUENCE).contains(&raw.sequence), &["model", "sequence"], || {
        format!("{} is no window; hint: give 1 to {MAX_SEQUENCE} tokens", raw.sequence)
    })?;
    let head = raw.head_width;
    ensure(head >= 2 && head.is_multiple_of(2) && head <= 1024, &["model", "head_width"], || {
        format!(
            "{head} is no head width; hint: give an even number, 2 to 1024 (rotary positions turn pairs)"
        )
    })?;
    ensure((1..=4096).contains(&raw.aspect), &["model", "aspect"], || {
        format!("{} is no aspect; hint: give width per layer, 1 to 4096", raw.aspect)
    })?;
    Ok(ModelRule {
        sequence: raw.sequence,
        mlp: raw.mlp,
        head_width: raw.head_width,
        aspect: raw.aspect,
    })
}

fn training(raw: &RawTraining) -> Result<TrainingPlan, Fault> {
    let within = |key, value: f64, holds: bool, range: &str| {
        ensure(holds, &["training", key], || format!("{value} is out of range; hint: give {range}"))
    };
    ensure((1..=MAX_BATCH).contains(&raw.batch), &["training", "batch"], || {
        format!("{} is no batch; hint: give 1 to {MAX_BATCH} sequences per step", raw.batch)
    })?;
    ensure(raw.base_width > 0, &["training", "base_width"], || {
        "0 is no width; hint: give the width at which the learning rate was tuned".to_owned()
    })?;
    let rate = raw.learning_rate;
    within("learning_rate", rate, rate > 0.0 && rate <= 10.0, "a number above 0, at most 10")?;
    let share = raw.warmup_fraction;
    within("warmup_fraction", share, (0.0..=1.0).contains(&share), "a share from 0 to 1")?;
    for (key, beta) in [("beta1", raw.beta1), ("beta2", raw.beta2)] {
        within(key, beta, (0.0..1.0).contains(&beta), "a number from 0, below 1")?;
    }
    let epsilon = raw.epsilon;
    within("epsilon", epsilon, epsilon > 0.0 && epsilon < 1.0, "a number above 0, below 1")?;
    let decay = raw.weight_decay;
    within("weight_decay", decay, (0.0..=10.0).contains(&decay), "a number from 0 to 10")?;
    let clip = raw.clip_norm;
    within("clip_norm", clip, clip > 0.0 && clip.is_finite(), "a number above 0")?;
    match raw.schedule {
        Decay::Wsd { fraction } => {
            let holds = fraction > 0.0 && fraction <= 1.0;
            within("schedule", fraction, holds, "a fraction above 0, at most 1")?;
        }
        Decay::Cosine { floor } => {
            within("schedule", floor, (0.0..1.0).contains(&floor), "a floor from 0, below 1")?;
        }
    }
    Ok(TrainingPlan {
        batch: raw.batch,
        optimizer: Optimizer {
            learning_rate: rate,
            base_width: raw.base_width,
            beta1: raw.beta1,
            beta2: raw.beta2,
            epsilon,
            weight_decay: decay,
            clip_norm: clip,
        },
        schedule: Schedule {
            warmup_steps: raw.warmup_steps,
            warmup_fraction: share,
            decay: raw.schedule,
        },
    })
}

fn evaluation(raw: &RawRecipe) -> Result<Evaluation, Fault> {
    let times = raw.evaluation.times;
    ensure((1..=MAX_EVALUATIONS).contains(&times), &["evaluation", "times"], || {
        format!("{times} is no number of evaluations; hint: give 1 to {MAX_EVALUATIONS}")
    })?;
    Ok(Evaluation { tokens: raw.evaluation.tokens.0, times })
}

fn fit(raw: &RawFit) -> Result<FitPlan, Fault> {
    ensure(raw.bootstrap <= MAX_BOOTSTRAP, &["fit", "bootstrap"], || {
        format!("{} replicates are too many; hint: give at most {MAX_BOOTSTRAP}", raw.bootstrap)
    })?;
    ensure(raw.delta > 0.0 && raw.delta.is_finite(), &["fit", "delta"], || {
        format!("{} is out of range; hint: give a number above 0", raw.delta)
    })?;
    Ok(FitPlan {
        law: raw.law,
        objective: raw.objective,
        delta: raw.delta,
        parameters: raw.parameters,
        bootstrap: raw.bootstrap,
        seed: raw.seed,
        budgets: raw.budgets.iter().map(|budget| budget.0).collect(),
    })
}
