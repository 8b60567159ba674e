//! From the raw recipe to one that can be expanded: ranges, required keys.

use super::{
    DiffusionRule, FitPlan, KeyPath, ModelRule, Recipe, RecipeError, TrainingPlan,
    position::SourceText,
    raw::{
        Count, Family, RawData, RawFit, RawModel, RawRecipe, RawTokenizer, RawTraining, SourceKind,
    },
    requests, tasks,
};
use crate::{
    data::{DataSource, Glyphs, Synthetic, Tokenizer},
    diffusion::{Process, Weighting},
    run::{Evaluation, Sampling},
    shape::{diffusion::SIDES, lm::MAX_SEQUENCE},
    training::{Decay, Optimizer, Schedule},
};

/// Longest name of a sweep; it becomes a folder name.
const MAX_NAME: usize = 64;

/// Largest batch in sequences; beyond it a step no longer suffices any memory.
pub(crate) const MAX_BATCH: u32 = 65_536;

/// Most evaluations of a run.
const MAX_EVALUATIONS: u32 = 1000;

/// Most bootstrap replicates: interval ends settle near 2,000.
const MAX_BOOTSTRAP: u32 = 20_000;

/// Held-out tokens that a language model is evaluated on where the recipe does not say.
const EVALUATION_TOKENS: u64 = 65_536;

/// Fixed triples that a diffusion model is evaluated on where the recipe does not say.
const EVALUATION_TRIPLES: u64 = 2048;

/// Samples of a diffusion model where the recipe does not say: enough for the measures of them.
const SAMPLES: u32 = 256;

/// Most samples of a run: the measures compare every pair.
const MAX_SAMPLES: u32 = 4096;

/// Evaluations of the model per sample where the recipe does not say.
const SAMPLER_STEPS: u32 = 50;

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
            model(&raw.model, raw.data.source)?,
            training(&raw.training)?,
            evaluation(&raw)?,
            fit(&raw.fit)?,
            requests::requests(&raw)?,
        ))
    };
    let (name, data, model, training, mut evaluation, fit, requests) =
        checked().map_err(located)?;
    evaluation.tasks = tasks::tasks(&raw, &data).map_err(located)?;
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
        SourceKind::Images => Ok(DataSource::Images {
            globs: globs(raw.globs.as_deref(), "globs", "images")?,
            held_out: held_out(raw)?,
        }),
        SourceKind::Glyphs => glyphs(raw),
    }
}

/// Refuses keys that the chosen source does not read: they would be ignored without a word.
fn foreign_keys(raw: &RawData) -> Result<(), Fault> {
    use SourceKind::{Bin, Glyphs, Images, Synthetic, Text};
    let keys: [(&'static str, bool, &[SourceKind]); 15] = [
        ("globs", raw.globs.is_some(), &[Text, Images]),
        ("tokenizer", raw.tokenizer.is_some(), &[Text]),
        ("max_bytes", raw.max_bytes.is_some(), &[Text]),
        ("held_out", raw.held_out.is_some(), &[Text, Images]),
        ("train", raw.train.is_some(), &[Bin]),
        ("validation", raw.validation.is_some(), &[Bin]),
        ("vocabulary", raw.vocabulary.is_some(), &[Bin, Synthetic]),
        ("entropy", raw.entropy.is_some(), &[Synthetic]),
        ("contexts", raw.contexts.is_some(), &[Synthetic]),
        ("tokens", raw.tokens.is_some(), &[Synthetic]),
        ("seed", raw.seed.is_some(), &[Synthetic, Glyphs]),
        ("side", raw.side.is_some(), &[Glyphs]),
        ("channels", raw.channels.is_some(), &[Glyphs]),
        ("images", raw.images.is_some(), &[Glyphs]),
        ("deviation", raw.deviation.is_some(), &[Glyphs]),
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
        SourceKind::Images => "images",
        SourceKind::Glyphs => "glyphs",
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

fn held_out(raw: &RawData) -> Result<f64, Fault> {
    let held_out = raw.held_out.unwrap_or(0.05);
    ensure(held_out > 0.0 && held_out <= MAX_HELD_OUT, &["data", "held_out"], || {
        format!(
            "{held_out} is no share to hold out; hint: give a number above 0, at most {MAX_HELD_OUT}"
        )
    })?;
    Ok(held_out)
}

fn text(raw: &RawData) -> Result<DataSource, Fault> {
    let held_out = held_out(raw)?;
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

fn glyphs(raw: &RawData) -> Result<DataSource, Fault> {
    let side = required(raw.side, "side", "glyphs")?;
    ensure(SIDES.contains(&side), &["data", "side"], || {
        format!("{side} is no side of an image; hint: give {} to {}", SIDES.start(), SIDES.end())
    })?;
    let channels = raw.channels.unwrap_or(1);
    ensure(matches!(channels, 1 | 3), &["data", "channels"], || {
        format!("{channels} channels are no image; hint: give 1 for grey or 3 for colour")
    })?;
    let Count(images) = required(raw.images, "images", "glyphs")?;
    let deviation = raw.deviation.unwrap_or(10.0);
    ensure((1.0..=40.0).contains(&deviation), &["data", "deviation"], || {
        format!("{deviation} levels are out of range; hint: give 1 to 40 of the 256 levels")
    })?;
    let seed = raw.seed.unwrap_or(0);
    Ok(DataSource::Glyphs(Glyphs { side, channels, images, deviation, seed }))
}

/// Refuses keys that the chosen family does not read, and data of another kind.
fn foreign_model_keys(raw: &RawModel, source: SourceKind) -> Result<(), Fault> {
    let (family, of_family) = match raw.family {
        Family::Lm => ("lm", "text, bin or synthetic"),
        Family::Diffusion => ("diffusion", "images or glyphs"),
    };
    let keys = [
        ("sequence", raw.sequence.is_some(), Family::Lm),
        ("mlp", raw.mlp.is_some(), Family::Lm),
        ("token_shift", raw.token_shift.is_some(), Family::Lm),
        ("patch", raw.patch.is_some(), Family::Diffusion),
        ("class_conditional", raw.class_conditional.is_some(), Family::Diffusion),
        ("noise", raw.noise.is_some(), Family::Diffusion),
        ("timesteps", raw.timesteps.is_some(), Family::Diffusion),
        ("prediction", raw.prediction.is_some(), Family::Diffusion),
        ("weighting", raw.weighting.is_some(), Family::Diffusion),
        ("ema_decay", raw.ema_decay.is_some(), Family::Diffusion),
    ];
    for (key, given, family_of_key) in keys {
        ensure(!given || raw.family == family_of_key, &["model", key], || {
            format!("the family `{family}` has no such key; hint: remove it, or change `family`")
        })?;
    }
    let pictures = matches!(source, SourceKind::Images | SourceKind::Glyphs);
    ensure(pictures == (raw.family == Family::Diffusion), &["data", "source"], || {
        let source = source_name(source);
        format!(
            "the family `{family}` does not train on a source of kind `{source}`; hint: give \
             {of_family}, or change `model.family`"
        )
    })
}

fn needed(value: Option<u32>, key: &'static str, family: &str) -> Result<u32, Fault> {
    value.ok_or_else(|| {
        let message = format!("the family `{family}` needs `{key}`; hint: add it to `[model]`");
        (KeyPath::of(&["model", key]), message)
    })
}

fn diffusion(raw: &RawModel) -> Result<DiffusionRule, Fault> {
    let patch = needed(raw.patch, "patch", "diffusion")?;
    ensure((1..=*SIDES.end()).contains(&patch), &["model", "patch"], || {
        format!("{patch} is no patch; hint: give a side of 1 to {} pixels", SIDES.end())
    })?;
    let timesteps = raw.timesteps.unwrap_or(1000);
    ensure((10..=10_000).contains(&timesteps), &["model", "timesteps"], || {
        format!("{timesteps} timesteps are out of range; hint: give 10 to 10000")
    })?;
    let weighting = raw.weighting.unwrap_or_default();
    if let Weighting::MinSnr(gamma) = weighting {
        ensure(gamma > 0.0 && gamma.is_finite(), &["model", "weighting"], || {
            format!("{gamma} bounds no ratio; hint: give a number above 0, usually 5")
        })?;
    }
    let ema_decay = raw.ema_decay.unwrap_or(0.999);
    ensure((0.0..1.0).contains(&ema_decay), &["model", "ema_decay"], || {
        format!("{ema_decay} is no decay; hint: give a number from 0, below 1")
    })?;
    Ok(DiffusionRule {
        patch,
        class_conditional: raw.class_conditional.unwrap_or(false),
        process: Process {
            noise: raw.noise.unwrap_or_default(),
            timesteps,
            prediction: raw.prediction.unwrap_or_default(),
            weighting,
            ema_decay,
        },
    })
}

fn model(raw: &RawModel, source: SourceKind) -> Result<ModelRule, Fault> {
    foreign_model_keys(raw, source)?;
    let (sequence, diffusion) = match raw.family {
        Family::Lm => (needed(raw.sequence, "sequence", "lm")?, None),
        Family::Diffusion => (1, Some(diffusion(raw)?)),
    };
    ensure((1..=MAX_SEQUENCE).contains(&sequence), &["model", "sequence"], || {
        format!("{sequence} is no window; hint: give 1 to {MAX_SEQUENCE} tokens")
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
        sequence,
        mlp: raw.mlp.unwrap_or_default(),
        token_shift: raw.token_shift.unwrap_or_default(),
        head_width: raw.head_width,
        aspect: raw.aspect,
        diffusion,
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
    let forks = !raw.trunk || matches!(raw.schedule, Decay::Wsd { .. });
    ensure(forks, &["training", "trunk"], || {
        "a trunk has a constant rate, which a cosine never has; hint: give `schedule = { wsd = { \
         fraction = 0.2 } }`, or leave `trunk` out"
            .to_owned()
    })?;
    horizon(raw)?;
    Ok(TrainingPlan {
        batch: raw.batch,
        horizon: raw.horizon,
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
        trunk: raw.trunk,
    })
}

fn horizon(raw: &RawTraining) -> Result<(), Fault> {
    let Some(horizon) = raw.horizon else { return Ok(()) };
    let powers =
        [("batch_exponent", horizon.batch_exponent), ("rate_exponent", horizon.rate_exponent)];
    for (key, power) in powers {
        ensure((-2.0..=2.0).contains(&power), &["training", "horizon", key], || {
            format!("{power} is out of range; hint: give a power from -2 to 2")
        })?;
    }
    let follows = powers.iter().any(|(_, power)| *power != 0.0);
    ensure(follows, &["training", "horizon"], || {
        "neither batch nor learning rate follows the tokens; hint: give `batch_exponent = 0.5`, \
         `rate_exponent = -0.32`, or leave `horizon` out"
            .to_owned()
    })?;
    ensure(!raw.trunk, &["training", "horizon"], || {
        "runs that fork from one trunk have its batch and learning rate, whatever their length; \
         hint: leave out `horizon` or `trunk`"
            .to_owned()
    })
}

fn evaluation(raw: &RawRecipe) -> Result<Evaluation, Fault> {
    let times = raw.evaluation.times;
    ensure((1..=MAX_EVALUATIONS).contains(&times), &["evaluation", "times"], || {
        format!("{times} is no number of evaluations; hint: give 1 to {MAX_EVALUATIONS}")
    })?;
    let default = match raw.model.family {
        Family::Lm => EVALUATION_TOKENS,
        Family::Diffusion => EVALUATION_TRIPLES,
    };
    let tokens = raw.evaluation.tokens.map_or(default, |Count(tokens)| tokens);
    Ok(Evaluation { tokens, times, sampling: sampling(raw)?, tasks: Vec::new() })
}

fn sampling(raw: &RawRecipe) -> Result<Option<Sampling>, Fault> {
    let asked = &raw.evaluation;
    let keys = [
        ("sampler", asked.sampler.is_some()),
        ("sampler_steps", asked.sampler_steps.is_some()),
        ("samples", asked.samples.is_some()),
    ];
    for (key, given) in keys {
        let known = !given || raw.model.family == Family::Diffusion;
        ensure(known, &["evaluation", key], || {
            "only diffusion models are sampled here; hint: remove it".to_owned()
        })?;
    }
    let count = asked.samples.unwrap_or(SAMPLES);
    ensure(count <= MAX_SAMPLES, &["evaluation", "samples"], || {
        format!("{count} samples are too many; hint: give at most {MAX_SAMPLES}")
    })?;
    let steps = asked.sampler_steps.unwrap_or(SAMPLER_STEPS);
    ensure((1..=10_000).contains(&steps), &["evaluation", "sampler_steps"], || {
        format!("{steps} steps are out of range; hint: give 1 to the number of timesteps")
    })?;
    let sampler = asked.sampler.unwrap_or_default();
    let wanted = raw.model.family == Family::Diffusion && count > 0;
    Ok(wanted.then_some(Sampling { sampler, steps, count }))
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
