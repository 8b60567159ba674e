//! The curves of one model: what a law of curves can be fitted to at once.

use serde::Serialize;
use sweep_fit::{Curve, CurveFit, FitError};
use sweep_spec::{
    metric::Metric,
    run::{RunConfig, RunRole},
    training::{Decay, Optimizer, Schedule},
    units::si,
};

use super::Forecast;
use crate::results::{RunResult, SweepResults};

/// Curves of one model, data and batch.
#[derive(Debug, Default)]
pub(crate) struct Family {
    /// In words, for one of a sweep.
    pub(crate) model: Option<String>,
    /// What the losses of a sweep are.
    pub(crate) metric: Option<Metric>,
    members: Vec<Member>,
    /// Its longest run that is no trunk, the first of several; absent for a table.
    longest: Option<(String, RunConfig)>,
}

/// A curve and what it is for.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) curve: Curve,
    pub(crate) predicted: bool,
}

/// How well a curve is described.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    pub(crate) name: String,
    /// Whether it was forecast, not fitted.
    pub(crate) predicted: bool,
    /// Steps of its schedule.
    pub(crate) steps: usize,
    /// Losses after the warm-up.
    pub(crate) n: usize,
    /// Mean of |predicted / loss - 1|; absent without losses.
    pub(crate) mean_abs_rel_error: Option<f64>,
    /// The largest.
    pub(crate) max_abs_rel_error: Option<f64>,
    /// The last step that has a loss, or the last of all.
    pub(crate) last_step: usize,
    /// Measured there.
    pub(crate) last_loss: Option<f64>,
    /// By the law; absent where it gives none.
    pub(crate) last_predicted: Option<f64>,
}

/// Whether the curve of a run goes to its end.
pub(crate) fn is_whole(run: &RunResult) -> bool {
    run.is_sound()
}

/// The models of a sweep in the order of their first runs, each with the curves of its runs. A
/// branch has the points that it measured itself, so those of its trunk count once.
pub(crate) fn of_sweep(results: &SweepResults, metric: Metric) -> Vec<Family> {
    let mut families: Vec<(RunConfig, Family)> = Vec::new();
    // The laws describe one peak rate well, and those of `[sensitivity]` were chosen to be off.
    let runs = results.runs.iter().filter(|run| run.role != RunRole::Sensitivity);
    for run in runs.filter(|run| is_whole(run)) {
        let config = &run.run.config;
        let key = model(config);
        let place = families.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            let parameters = run.parameters().under(results.fit_plan().parameters);
            #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
            let size = si(parameters as f64);
            // Models may differ in what no word here says: the first run tells them apart.
            let words = format!("N {size}, batch {}, from run {}", config.batch, run.label());
            let family = Family { model: Some(words), metric: Some(metric), ..Family::default() };
            families.push((key, family));
            families.len() - 1
        });
        let family = &mut families[place].1;
        let points = results.curves.get(&run.id).and_then(|curves| curves.get(&metric));
        let losses = points.into_iter().flat_map(|curve| curve.iter());
        let losses = losses.filter(|(step, loss)| *step > 0 && *loss > 0.0);
        let curve = Curve {
            name: run.label(),
            rates: rates(config, config.steps),
            losses: losses
                .filter_map(|&(step, loss)| Some((usize::try_from(step).ok()?, loss)))
                .collect(),
        };
        family.members.push(Member { curve, predicted: false });
        // A trunk never cools down, so a forecast by its schedule is of no use.
        let longer = |known: &(String, RunConfig)| known.1.steps < config.steps;
        if !config.is_trunk() && family.longest.as_ref().is_none_or(longer) {
            family.longest = Some((run.label(), config.clone()));
        }
    }
    families.into_iter().map(|(_, family)| family).collect()
}

/// What runs of one model have in common: all but length, seed, peak rate and schedule.
fn model(config: &RunConfig) -> RunConfig {
    RunConfig {
        steps: 0,
        seed: 0,
        parent: None,
        optimizer: Optimizer { learning_rate: 0.0, ..config.optimizer.clone() },
        schedule: Schedule {
            warmup_steps: 0,
            warmup_fraction: 0.0,
            decay: Decay::Wsd { fraction: 0.0 },
        },
        ..config.clone()
    }
}

/// The rate of each step of a run of so many.
fn rates(config: &RunConfig, steps: u64) -> Vec<f64> {
    let peak = config.optimizer.learning_rate;
    (0..steps).map(|step| peak * config.schedule.factor(step, steps)).collect()
}

impl Family {
    /// Curves that are read from a table.
    pub(crate) fn of_table(curves: Vec<Curve>) -> Self {
        let member = |curve| Member { curve, predicted: false };
        Self { members: curves.into_iter().map(member).collect(), ..Self::default() }
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.curve.name.as_str())
    }

    /// Keeps every so many losses of each curve, the last one among them.
    pub(crate) fn thin(&mut self, every: usize) {
        for member in &mut self.members {
            let last = member.curve.losses.len();
            let mut place = last;
            member.curve.losses.retain(|_| {
                place -= 1;
                place.is_multiple_of(every)
            });
        }
    }

    /// Takes the curve of this name, or those of runs whose ids begin so, for one to predict; how
    /// many there are.
    pub(crate) fn predict(&mut self, name: &str) -> usize {
        let of_table = self.model.is_none();
        let mut found = 0;
        for member in &mut self.members {
            let known = &member.curve.name;
            // Labels are beginnings of ids themselves.
            if known == name
                || !of_table && (known.starts_with(name) || name.starts_with(known.as_str()))
            {
                member.predicted = true;
                found += 1;
            }
        }
        found
    }

    /// The curves to fit.
    pub(crate) fn fitted(&self) -> Vec<Curve> {
        let members = self.members.iter().filter(|member| !member.predicted);
        members
            .map(|member| member.curve.clone())
            .filter(|curve| !curve.losses.is_empty())
            .collect()
    }

    /// The loss at the end of a run of so many steps, with the schedule of the longest; nothing for a
    /// table, or trunks alone.
    ///
    /// # Errors
    /// [`FitError`] where the law gives none.
    pub(crate) fn forecast(
        &self,
        fit: &CurveFit,
        steps: u64,
    ) -> Result<Option<Forecast>, FitError> {
        let Some((like, config)) = &self.longest else { return Ok(None) };
        let rates = rates(config, steps);
        let losses = fit.predict(&rates, &[rates.len()])?;
        let peak_rate = config.optimizer.learning_rate;
        Ok(Some(Forecast { steps, loss: losses[0], like: like.clone(), peak_rate }))
    }

    /// Every curve beside what the law makes of it, and why it makes nothing of some.
    pub(crate) fn told(&self, fit: &CurveFit, problems: &mut Vec<String>) -> Vec<Told> {
        self.members.iter().map(|member| told(member, fit, problems)).collect()
    }
}

/// A curve beside what the law makes of it.
fn told(member: &Member, fit: &CurveFit, problems: &mut Vec<String>) -> Told {
    let Curve { name, rates, losses } = &member.curve;
    let warmup = member.curve.warmup();
    let known: Vec<(usize, f64)> = losses.iter().copied().filter(|(s, _)| *s > warmup).collect();
    let steps: Vec<usize> = match known.as_slice() {
        [] => vec![rates.len()],
        known => known.iter().map(|(step, _)| *step).collect(),
    };
    let predicted = fit.predict(rates, &steps).unwrap_or_else(|error| {
        problems.push(format!("curve {name}: {error}"));
        Vec::new()
    });
    let errors: Vec<f64> = known
        .iter()
        .zip(&predicted)
        .map(|((_, loss), by_law)| (by_law / loss - 1.0).abs())
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let mean = (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64);
    Told {
        name: name.clone(),
        predicted: member.predicted,
        steps: rates.len(),
        n: known.len(),
        mean_abs_rel_error: mean,
        max_abs_rel_error: errors.iter().copied().reduce(f64::max),
        last_step: steps[steps.len() - 1],
        last_loss: known.last().map(|(_, loss)| *loss),
        last_predicted: predicted.last().copied(),
    }
}
