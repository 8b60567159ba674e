//! What a sweep of ours knows of itself that a table does not.

use sweep_fit::Observation;
use sweep_spec::{
    data::DataSource,
    hash::canonical_json,
    run::{RunConfig, RunRole},
    training::Decay,
};

use super::{Item, known};
use crate::results::SweepResults;

/// Each observation is the end of a run.
pub(super) fn checkpoints(rows: &[Observation]) -> Item {
    known("checkpoints", format!("none: {} runs at their end, one observation each", rows.len()))
}

/// How rate and batch were set.
pub(super) fn schedule(sweep: &SweepResults) -> Option<Item> {
    let configs: Vec<&RunConfig> = sweep.at_own_rate().map(|run| &run.run.config).collect();
    let first = configs.first()?;
    let decay = match first.schedule.decay {
        Decay::Wsd { fraction } => format!("warm-up, constant, cool-down over {fraction} of D"),
        Decay::Cosine { floor } => format!("warm-up and cosine to {floor} of the peak over D"),
    };
    let alike =
        |same: bool| if same { "the same for all runs" } else { "not the same for all runs" };
    let schedules = alike(configs.iter().all(|config| config.schedule == first.schedule));
    let rates = alike(configs.iter().all(|config| {
        config.optimizer.learning_rate == first.optimizer.learning_rate
            && config.optimizer.base_width == first.optimizer.base_width
    }));
    let batches = configs.iter().map(|config| config.batch);
    let batch = match (batches.clone().min()?, batches.max()?) {
        (least, most) if least == most => format!("batch {least} for all runs"),
        (least, most) => format!("batch {least} to {most}"),
    };
    let tried = match sweep.of_role(RunRole::Sensitivity).count() {
        0 => String::new(),
        tried => format!("; {tried} runs outside the fit try other rates"),
    };
    let text = format!(
        "{decay}, {schedules}; peak rate {:e} at width {}, scaled to other widths, {rates}; \
         {batch}{tried}",
        first.optimizer.learning_rate, first.optimizer.base_width
    );
    Some(known("learning-rate schedule for each D, tuning of rate and batch", text))
}

/// What D counts.
pub(super) fn unit(sweep: &SweepResults) -> &'static str {
    sweep.observed().next().map_or("tokens", |run| run.run.manifest.unit())
}

/// What the loss is of.
pub(super) fn loss(sweep: &SweepResults) -> Option<Item> {
    let run = &sweep.observed().next()?.run;
    let (manifest, unit) = (&run.manifest, run.manifest.unit());
    let tokenizer = match &run.source {
        DataSource::Text { tokenizer, .. } => format!("; tokenizer {}", canonical_json(tokenizer)),
        _ => String::new(),
    };
    let text = format!(
        "{} held-out {unit} in {} documents of data {}, {} of them at each evaluation{tokenizer}; the \
         last value, not smoothed",
        manifest.validation_tokens,
        manifest.validation_documents,
        manifest.id,
        run.evaluation.tokens
    );
    Some(known("loss and split", text))
}
