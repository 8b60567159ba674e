//! What makes a grid a poor basis for a law, said before it is trained.

use std::fmt;

use serde::Serialize;

use super::{DeviceKind, PlannedRun, memory::suffices, tally};
use crate::{data::DataManifest, recipe::Recipe, run::RunRole, units::si};

/// Fewest optimiser steps of a run whose loss says something about its size: below, warm-up and
/// cool-down are most of it.
const FEW_STEPS: u64 = 100;

/// Spread of ln D given ln N below which a law cannot tell the two apart.
const COLLINEAR_SPREAD: f64 = 0.1;

/// Repeats are close to fresh data up to about this many epochs (Muennighoff et al. 2023,
/// 2305.16264); they are named from the first.
const MANY_EPOCHS: f64 = 4.0;

/// Constants of the separable law.
const LAW_CONSTANTS: usize = 5;

/// A warning: a stable code for programs, a sentence with its cure for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Stable code.
    pub code: &'static str,
    /// What and where, then `hint:`.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

pub(super) fn warnings(
    recipe: &Recipe,
    manifest: &DataManifest,
    runs: &[PlannedRun],
    merged: usize,
    kinds: &[DeviceKind],
) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |code, message: Option<String>| {
        found.extend(message.map(|message| Warning { code, message }));
    };
    // A trunk is no observation: what would be said of it is said of its branches.
    let runs: Vec<PlannedRun> =
        runs.iter().filter(|run| run.role != RunRole::Trunk).cloned().collect();
    let runs = runs.as_slice();
    let fit: Vec<&PlannedRun> = runs.iter().filter(|run| run.role == RunRole::Fit).collect();
    warn("few-steps", few_steps(runs));
    warn("few-observations", few_observations(&fit));
    warn("collinear-design", collinear(&fit));
    warn("repeated-data", repeated(runs, manifest));
    warn("evaluation-set", evaluation(recipe, manifest));
    warn("merged-runs", merged_runs(merged));
    for kind in kinds {
        warn("memory", memory(runs, kind));
    }
    found
}

fn few_steps(runs: &[PlannedRun]) -> Option<String> {
    let short: Vec<&PlannedRun> = runs.iter().filter(|run| run.steps < FEW_STEPS).collect();
    let fewest = short.iter().map(|run| run.steps).min()?;
    // Positive numbers sort as their bits do.
    let budgets = tally(short.iter().filter_map(|run| run.budget).map(f64::to_bits));
    let at: Vec<String> = budgets
        .iter()
        .map(|(bits, count)| format!("{count} at {:e}", f64::from_bits(*bits)))
        .collect();
    let (at, cure) = if at.is_empty() {
        (String::new(), "raise the smallest token count")
    } else {
        (format!(" ({})", at.join(", ")), "raise the smallest budget, or drop its largest sizes")
    };
    Some(format!(
        "{} of {} runs{at} see fewer than {FEW_STEPS} optimiser steps, the shortest {fewest}; \
         hint: lower `training.batch`, or {cure}",
        short.len(),
        runs.len()
    ))
}

fn few_observations(fit: &[&PlannedRun]) -> Option<String> {
    let sizes = tally(fit.iter().map(|run| run.parameters.total)).len();
    let tokens = tally(fit.iter().map(|run| run.tokens)).len();
    let enough = fit.len() > LAW_CONSTANTS && sizes >= 3 && tokens >= 3;
    (!enough).then(|| {
        format!(
            "{} runs of {sizes} sizes and {tokens} token counts cannot hold a law of \
             {LAW_CONSTANTS} constants; hint: train at least 3 sizes x 3 token counts",
            fit.len()
        )
    })
}

/// The spread of ln D around its regression on ln N.
fn collinear(fit: &[&PlannedRun]) -> Option<String> {
    if fit.len() < 3 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let points: Vec<(f64, f64)> = fit
        .iter()
        .map(|run| (libm::log(run.parameters.total as f64), libm::log(run.tokens as f64)))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "at most 10,000 runs")]
    let n = points.len() as f64;
    let (mean_x, mean_y) =
        points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let sum_xx: f64 = points.iter().map(|(x, _)| (x - mean_x) * (x - mean_x)).sum();
    let sum_xy: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let slope = if sum_xx > 0.0 { sum_xy / sum_xx } else { 0.0 };
    let residual = |(x, y): &(f64, f64)| y - mean_y - slope * (x - mean_x);
    let spread = libm::sqrt(points.iter().map(|point| residual(point).powi(2)).sum::<f64>() / n);
    (spread < COLLINEAR_SPREAD).then(|| {
        format!(
            "tokens follow from parameters (spread of ln D given ln N is {spread:.3}), so a law \
             cannot tell the two apart; hint: give every size several token counts"
        )
    })
}

#[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
fn repeated(runs: &[PlannedRun], manifest: &DataManifest) -> Option<String> {
    let repeating: Vec<f64> =
        runs.iter().map(|run| run.epochs).filter(|&epochs| epochs > 1.0).collect();
    let most = repeating.iter().copied().reduce(f64::max)?;
    let cure = if most > MANY_EPOCHS {
        "add data, or lower the token counts: beyond about 4 epochs repeats are worth less than \
         fresh data"
    } else {
        "add data where fresh tokens matter; up to about 4 epochs are close to fresh data"
    };
    Some(format!(
        "{} of {} runs see data again, up to {most:.2} epochs of {} unique {}; hint: {cure}",
        repeating.len(),
        runs.len(),
        si(manifest.train_tokens as f64),
        manifest.unit()
    ))
}

#[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
fn evaluation(recipe: &Recipe, manifest: &DataManifest) -> Option<String> {
    let (asked, held_out) = (recipe.evaluation.tokens, manifest.validation_tokens);
    // Images are taken again, at other timesteps and with other noise.
    (manifest.image.is_none() && held_out < asked).then(|| {
        format!(
            "{} tokens are held out, fewer than the {} of `evaluation.tokens`; hint: raise \
             `data.held_out`, or the losses carry more noise than asked for",
            si(held_out as f64),
            si(asked as f64)
        )
    })
}

fn merged_runs(merged: usize) -> Option<String> {
    (merged > 0).then(|| {
        format!(
            "{merged} requests came out as a run that was asked for already; hint: sizes closer \
             than one head width share a shape, lower `model.head_width` or give `width` and \
             `layers`"
        )
    })
}

fn memory(runs: &[PlannedRun], kind: &DeviceKind) -> Option<String> {
    let available = kind.memory_bytes?;
    let too_large = runs.iter().filter(|run| !suffices(run.memory_bytes, available)).count();
    let largest = runs.iter().map(|run| run.memory_bytes).max()?;
    (too_large > 0).then(|| {
        format!(
            "{too_large} of {} runs need up to {} MiB, more than the {} MiB of a slot on {}; hint: \
             lower `training.batch`, use fewer slots, or drop the largest size",
            runs.len(),
            largest >> 20,
            available >> 20,
            kind.name
        )
    })
}
