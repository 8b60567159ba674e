//! Emergence: does a task metric jump, or does it only look so?
//!
//! Wei et al. 2022 (2206.07682) call an ability emergent when it is near chance below a scale and
//! well above beyond it; Schaeffer et al. 2023 (2304.15004) show that a harsh metric makes a jump of
//! a smooth change. So a metric is held against five curves by AICc and by the error on the largest
//! scales, its noise against its item count, and its shape against the softer metric and against
//! what per-token accuracy implies. The verdict is about a metric, never about a model alone.
//!
//! [`assess`] takes one metric on one axis; [`by_length`], [`size_matters`] and [`chain()`] take the
//! further questions.

mod chain;
mod form;
mod knee;
mod score;
mod slope;
#[cfg(test)]
mod tests;
mod verdict;

use serde::Serialize;

use crate::{
    error::FitError,
    statistics::{count, mean},
};

pub use self::{
    chain::{ChainForecast, Step, TaskChain, TaskRow, chain},
    form::{FittedForm, FormKind},
    knee::{Bend, Knee},
    score::{ByLength, Steepness, by_length, size_matters, wilson},
    verdict::{Verdict, Why, contrast},
};

/// What a metric is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Training FLOPs.
    Compute,
    /// Parameters.
    Parameters,
    /// Tokens.
    Tokens,
    /// Loss; it falls as the others rise.
    Loss,
}

impl Axis {
    /// Its letter in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "C",
            Self::Parameters => "N",
            Self::Tokens => "D",
            Self::Loss => "loss",
        }
    }

    /// The coordinate in which curves are written: ln x, or the loss with its sign turned, so that
    /// progress always runs to the right.
    pub(crate) fn coordinate(self, x: f64) -> f64 {
        if self == Self::Loss { -x } else { x.ln() }
    }

    /// The inverse of [`Axis::coordinate`].
    pub(crate) fn value(self, t: f64) -> f64 {
        if self == Self::Loss { -t } else { t.exp() }
    }
}

/// One model's score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Its place on the axis, above 0.
    pub x: f64,
    /// The score; any finite number.
    pub score: f64,
    /// Items behind a score that is a share of right answers.
    pub items: Option<u64>,
}

/// What is known of the metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scale {
    /// The score of guessing; 0 where guessing scores nothing, absent for metrics that have none.
    pub chance: Option<f64>,
}

/// A metric on an axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Emergence {
    /// The axis.
    pub axis: Axis,
    /// Scores taken in.
    pub n: usize,
    /// The five curves that could be fitted, the least AICc first.
    pub forms: Vec<FittedForm>,
    /// Where the broken curve bends; absent where that curve cannot be fitted.
    pub knee: Option<Knee>,
    /// Linearity and breakthroughness.
    pub steepness: Option<Steepness>,
    /// The smallest step that the metric can show, 1/items.
    pub resolution: Option<f64>,
    /// The score of guessing.
    pub chance: Option<f64>,
    /// The first place on the axis from which on every score's 95 % interval lies above chance.
    pub above_chance_from: Option<f64>,
    /// Scores whose 95 % interval holds chance.
    pub at_chance: usize,
    /// Emergent, smooth, or cannot tell.
    pub verdict: Verdict,
    /// On what grounds.
    pub why: Why,
}

/// The share of the scores farthest along the axis that is held out to judge a curve.
const HELD_OUT: f64 = 0.2;

/// Scores in the coordinate of an axis, scaled to -1 .. 1, in the order of progress.
pub(crate) struct Track {
    pub(crate) u: Vec<f64>,
    pub(crate) y: Vec<f64>,
    centre: f64,
    half: f64,
}

impl Track {
    fn of(axis: Axis, points: &[Scored]) -> Self {
        let mut pairs: Vec<(f64, f64)> =
            points.iter().map(|point| (axis.coordinate(point.x), point.score)).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (low, high) = (pairs[0].0, pairs[pairs.len() - 1].0);
        let (centre, half) = (0.5 * (low + high), (0.5 * (high - low)).max(1e-12));
        let u = pairs.iter().map(|pair| (pair.0 - centre) / half).collect();
        Self { u, y: pairs.iter().map(|pair| pair.1).collect(), centre, half }
    }

    /// The value of the axis at a scaled coordinate.
    pub(crate) fn x(&self, axis: Axis, u: f64) -> f64 {
        axis.value(self.centre + u * self.half)
    }

    /// The first scores of it.
    fn first(&self, n: usize) -> (&[f64], &[f64]) {
        (&self.u[..n], &self.y[..n])
    }
}

/// Assesses a metric on an axis.
///
/// # Errors
/// [`FitError`] below four scores, for scores that are no numbers, and where the axis has one value
/// only.
pub fn assess(axis: Axis, points: &[Scored], scale: Scale) -> Result<Emergence, FitError> {
    check(axis, points)?;
    let track = Track::of(axis, points);
    let chance = scale.chance;
    let n = points.len();
    let ends = form::Ends::of(&track.y, chance);
    let mut forms = form::fit_all(&track.u, &track.y, ends);
    let kept = n - held(n);
    let (u, y) = track.first(kept);
    let ahead = form::fit_all(u, y, ends);
    for fitted in &mut forms {
        let error = |early: &FittedForm| {
            let off = (kept..n).map(|i| (early.value(track.u[i]) - track.y[i]).abs());
            mean(&off.collect::<Vec<f64>>())
        };
        fitted.held_out_error = ahead.iter().find(|early| early.kind == fitted.kind).map(error);
    }
    forms.sort_by(|a, b| {
        let aicc = |form: &FittedForm| form.aicc.unwrap_or(f64::INFINITY);
        aicc(a).total_cmp(&aicc(b))
    });
    let knee = forms
        .iter()
        .find(|form| form.kind == FormKind::Broken)
        .map(|form| knee::knee(axis, &track, form));
    let noise = score::Noise::of(axis, points, chance);
    let (verdict, why) = verdict::judge(&track, &forms, knee.as_ref(), &noise);
    Ok(Emergence {
        axis,
        n,
        forms,
        knee,
        steepness: score::steepness(&track.y),
        resolution: noise.resolution,
        chance,
        above_chance_from: noise.above_from,
        at_chance: noise.at_chance,
        verdict,
        why,
    })
}

impl Emergence {
    /// What the best curve leaves over of scores on the same axis, in their order; `None` where no
    /// curve was fitted, or the scores are not those that were.
    #[must_use]
    pub fn residuals(&self, points: &[Scored]) -> Option<Vec<f64>> {
        let best = self.forms.first()?;
        if points.len() != self.n || check(self.axis, points).is_err() {
            return None;
        }
        let track = Track::of(self.axis, points);
        let place = |point: &Scored| (self.axis.coordinate(point.x) - track.centre) / track.half;
        Some(points.iter().map(|point| point.score - best.value(place(point))).collect())
    }
}

fn held(n: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below n")]
    let held = (HELD_OUT * count(n)).round() as usize;
    held.max(1)
}

fn check(axis: Axis, points: &[Scored]) -> Result<(), FitError> {
    if points.len() < 4 {
        return Err(FitError::TooFew {
            law: format!("a metric against {}", axis.name()),
            parameters: 4,
            points: points.len(),
        });
    }
    let bad = |point: &&Scored| !(point.x.is_finite() && point.x > 0.0 && point.score.is_finite());
    if let Some(point) = points.iter().find(bad) {
        return Err(FitError::BadRows(vec![format!(
            "{} is {} and the score {}",
            axis.name(),
            point.x,
            point.score
        )]));
    }
    if points.iter().all(|point| (point.x / points[0].x - 1.0).abs() < 1e-12) {
        return Err(FitError::NoSpread { axis: axis.name(), value: points[0].x });
    }
    Ok(())
}
