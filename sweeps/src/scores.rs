//! What runs score on tasks at their end: from stored metrics to figures, with the statistics that
//! `sweep-fit` makes of them.

use std::fmt::Write as _;

use sweep_fit::{
    Bin, calibration,
    emergence::{Axis, Emergence, Scale, Scored, Verdict, assess, contrast, wilson},
};
use sweep_plot::{
    input::{BendInput, BendOf, CalibrationInput, TaskInput, TaskScore as Score},
    text::short,
};
use sweep_spec::{
    metric::{BINS, Metric, TaskMetric, TaskScore},
    run::RunRole,
    task::Task,
};

use crate::results::{RunResult, SweepResults, convention_name};

/// Bootstrap replicates of a calibration error: its interval is drawn, not read to three digits.
const REPLICATES: usize = 400;

/// Seed of these replicates.
const SEED: u64 = 0;

/// The last value of a score of a finished run.
struct Last<'a> {
    results: &'a SweepResults,
    run: &'a RunResult,
    task: u8,
}

impl Last<'_> {
    fn get(&self, score: TaskScore) -> Option<f64> {
        let curves = self.results.curves.get(&self.run.id)?;
        let curve = curves.get(&Metric::Task(TaskMetric::new(self.task, score)))?;
        let (step, value) = curve.last().copied()?;
        // An earlier one is of a model that was trained further since.
        (step == self.run.run.config.steps && value.is_finite()).then_some(value)
    }

    fn count(&self, score: TaskScore) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        self.get(score).filter(|value| (0.0..1e9).contains(value)).map(|value| value.round() as u64)
    }
}

/// Runs at other learning rates would blur what size and data do.
fn finished(results: &SweepResults) -> impl Iterator<Item = &RunResult> {
    let runs = results.runs.iter().filter(|run| run.role != RunRole::Sensitivity);
    runs.filter(|run| run.is_sound())
}

/// Each task of a sweep with the scores of its finished runs.
pub(crate) fn scored(
    results: &SweepResults,
) -> impl Iterator<Item = (&Task, Vec<(&RunResult, Score)>)> {
    (1_u8..).zip(&results.recipe.evaluation.tasks).map(|(place, task)| {
        let scores = finished(results)
            .filter_map(|run| Some((run, score(&Last { results, run, task: place })?)));
        (task, scores.collect())
    })
}

/// The tasks of a sweep with the scores of its runs and what they say.
pub(crate) fn tasks(results: &SweepResults) -> Vec<TaskInput> {
    scored(results)
        .map(|(task, scored)| {
            let chance = task.suite.chance();
            let found = assessed(results, &scored, chance);
            TaskInput {
                name: task.name.clone(),
                chance,
                verdicts: verdicts(results, &found, scored.len()),
                headline: headline(&found),
                bends: found.iter().flat_map(bends).collect(),
                scores: scored.into_iter().map(|(run, score)| (run.label(), score)).collect(),
            }
        })
        .collect()
}

fn score(last: &Last<'_>) -> Option<Score> {
    let items = last.count(TaskScore::Items).filter(|items| *items > 0)?;
    let exact_match = last.get(TaskScore::ExactMatch)?;
    Some(Score {
        exact_match,
        exact_ci95: wilson(exact_match, items),
        answer_nats: last.get(TaskScore::AnswerNats)?,
        token_accuracy: last.get(TaskScore::TokenAccuracy)?,
        edit_distance: last.get(TaskScore::EditDistance)?,
        items,
        answer_tokens: last.get(TaskScore::AnswerTokens)?,
    })
}

/// The sharp metric of a task and the smooth one over the same axis.
struct Assessed {
    axis: Axis,
    sharp: Emergence,
    smooth: Emergence,
}

/// Both metrics over compute, size and loss, where there are scores enough.
#[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn assessed(
    results: &SweepResults,
    scored: &[(&RunResult, Score)],
    chance: Option<f64>,
) -> Vec<Assessed> {
    let convention = results.fit_plan().parameters;
    let place = |axis: Axis, run: &RunResult| -> Option<f64> {
        let n = run.parameters().under(convention) as f64;
        match axis {
            Axis::Compute => Some(6.0 * n * run.run.config.tokens() as f64),
            Axis::Parameters => Some(n),
            Axis::Tokens => Some(run.run.config.tokens() as f64),
            Axis::Loss => run.usable_loss(),
        }
    };
    let on = |axis: Axis, value: &dyn Fn(&Score) -> (f64, Option<u64>), scale: Scale| {
        let points: Vec<Scored> = scored
            .iter()
            .filter_map(|(run, score)| {
                let (value, items) = value(score);
                Some(Scored { x: place(axis, run)?, score: value, items })
            })
            .collect();
        assess(axis, &points, scale)
    };
    let exact = |score: &Score| (score.exact_match, Some(score.items));
    let soft = |score: &Score| (-score.answer_nats, None);
    [Axis::Compute, Axis::Parameters, Axis::Loss]
        .into_iter()
        .filter_map(|axis| {
            let sharp = on(axis, &exact, Scale { chance }).ok()?;
            let smooth = on(axis, &soft, Scale::default()).ok()?;
            Some(Assessed { axis, sharp, smooth })
        })
        .collect()
}

/// Whether the sharp metric jumps, whether the smooth one does, and what both say together.
fn verdicts(results: &SweepResults, found: &[Assessed], scores: usize) -> Vec<String> {
    if found.is_empty() && scores > 0 {
        let convention = convention_name(results.fit_plan().parameters);
        return vec![format!("No verdict: {scores} scores, and N is {convention}.")];
    }
    found.iter().map(sentence).collect()
}

/// The verdict that tells most: a jump is seen on one axis and hidden by scatter on another. Of two
/// that tell as much the first counts.
fn headline(found: &[Assessed]) -> Option<String> {
    let told = |assessed: &Assessed| match (assessed.sharp.verdict, assessed.smooth.verdict) {
        (Verdict::Emergent, Verdict::Smooth) => 0,
        (Verdict::Emergent, Verdict::Emergent) => 1,
        (Verdict::Emergent, Verdict::CannotTell) => 2,
        (Verdict::Smooth, _) => 3,
        (Verdict::CannotTell, _) => 4,
    };
    let best = found.iter().min_by_key(|assessed| told(assessed))?;
    Some(sentence(best) + meaning(best))
}

/// What a jump means, where both metrics say enough.
fn meaning(found: &Assessed) -> &'static str {
    match (found.sharp.verdict, found.smooth.verdict) {
        (Verdict::Emergent, Verdict::Smooth) => {
            " So the models get better step by step, and the jump is made by counting an answer only \
             when all of it is right."
        }
        (Verdict::Emergent, Verdict::Emergent) => {
            " So the ability itself comes suddenly, whatever it is measured by."
        }
        _ => "",
    }
}

/// The bends of both metrics that the scores locate.
fn bends(found: &Assessed) -> impl Iterator<Item = BendInput> {
    let axis = found.axis;
    [(BendOf::ExactMatch, found.sharp.bend()), (BendOf::AnswerNats, found.smooth.bend())]
        .into_iter()
        .filter_map(move |(of, bend)| Some(BendInput { of, axis, bend: bend? }))
}

fn sentence(found: &Assessed) -> String {
    let soft = "log-probability of the answer";
    let together = contrast(("exact match", found.sharp.verdict), (soft, found.smooth.verdict));
    let (axis, reason) = (found.axis.name(), found.sharp.reason());
    let mut text = format!("Over {axis}: {together}. Of exact match: {reason}.");
    for BendInput { of, bend, .. } in bends(found) {
        let metric = if of == BendOf::ExactMatch { "exact match" } else { soft };
        let [x, low, high] = [bend.x, bend.ci95[0], bend.ci95[1]].map(short);
        let _ = write!(text, " The bend of {metric} is at {x} (95 %: {low} to {high}).");
    }
    text
}

/// Calibrations of every finished run, on held-out text and on tasks.
pub(crate) fn calibrations(results: &SweepResults) -> Vec<CalibrationInput> {
    let tasks = u8::try_from(results.recipe.evaluation.tasks.len()).unwrap_or(u8::MAX);
    let mut found = Vec::new();
    for run in finished(results) {
        for task in 0..=tasks {
            let last = Last { results, run, task };
            let Some(bins) = bins(&last) else { continue };
            if let Ok(calibration) = calibration(&bins, REPLICATES, SEED) {
                let brier = last.get(TaskScore::Brier);
                found.push(CalibrationInput { task, run: run.label(), calibration, brier });
            }
        }
    }
    found
}

fn bins(last: &Last<'_>) -> Option<Vec<Bin>> {
    (0_u8..)
        .take(BINS)
        .map(|bin| {
            Some(Bin {
                count: last.count(TaskScore::BinCount(bin))?,
                right: last.count(TaskScore::BinRight(bin))?,
                confidence: last.get(TaskScore::BinConfidence(bin)),
            })
        })
        .collect()
}
