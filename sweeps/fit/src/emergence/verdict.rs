//! Emergent, smooth, or cannot tell: from the curves, the knee and the noise, each rule named.
//!
//! Smooth asks for a line or a power law that is better than every curve that bends, or for a bend that
//! takes its time. Emergent asks for four things at once: a curve that bends beats line and power clearly, the
//! scores stand still before the bend, the rise takes less than half of the observed range, and the
//! place of the bend is known. Where the evidence is between the two answers, the answer is that
//! the data cannot tell.

use serde::Serialize;

use super::{
    Emergence, Track,
    form::{FittedForm, FormKind},
    knee::Knee,
    score::Noise,
};
use crate::statistics::{count, deviation};

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Near a constant, then a sharp rise at a place that is known.
    Emergent,
    /// A line or a power law says more, or the bend takes most of the range.
    Smooth,
    /// Too few scores, too much noise, or evidence for both.
    CannotTell,
}

impl Verdict {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Emergent => "emergent",
            Self::Smooth => "smooth",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// The ground of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Why {
    /// Fewer than eight scores.
    FewScores {
        /// How many.
        n: usize,
    },
    /// The scores differ by less than their own noise.
    Noise {
        /// Largest less smallest score.
        range: f64,
        /// Median half-width of a score's 95 % interval.
        half_width: f64,
    },
    /// Line or power is better than every curve that bends by 2 in AICc or more.
    NoBend {
        /// AICc of the best smooth curve less that of the best curve that bends.
        gain: f64,
    },
    /// Neither is better by enough: a bend by less than 6 in AICc, or the line by less than 2.
    WeakBend {
        /// The gain.
        gain: f64,
    },
    /// The rise takes more than half of the observed range.
    SlowRise {
        /// Share of the range in which the best curve goes from 10 to 90 % of its rise.
        share: f64,
    },
    /// Fewer than two scores stand still before the rise.
    NothingBefore {
        /// How many do.
        flat: usize,
    },
    /// The interval of the knee takes more than half of the range, or has no end.
    KneeOpen {
        /// Its width as a share of the range.
        width: f64,
    },
    /// The best curve turns back: it leaves what lies between its two ends.
    TurnsBack,
    /// All four conditions hold.
    Jump {
        /// The gain in AICc.
        gain: f64,
        /// Share of the range that the rise takes.
        share: f64,
        /// Scores that stand still before it.
        flat: usize,
        /// Whether the scores rise; they may as well fall.
        rises: bool,
    },
}

/// Fewer scores carry no knee.
const SCORES: usize = 8;
/// Below this gain in AICc two curves are as good (Burnham and Anderson 2002).
pub(super) const AS_GOOD: f64 = 2.0;
/// From this gain on the worse curve has hardly any support.
const CLEAR: f64 = 6.0;
/// A rise within this share of the range is sharp; a knee's interval within it is located.
const SHARP: f64 = 0.5;
/// Scores that stand still before a rise.
const FLAT: usize = 2;

pub(super) fn judge(
    track: &Track,
    forms: &[FittedForm],
    knee: Option<&Knee>,
    noise: &Noise,
) -> (Verdict, Why) {
    let n = track.y.len();
    if n < SCORES {
        return (Verdict::CannotTell, Why::FewScores { n });
    }
    let (low, high) =
        track.y.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(*y), h.max(*y)));
    if let Some(half_width) = noise.half_width.filter(|half| within(&track.y, *half)) {
        return (Verdict::CannotTell, Why::Noise { range: high - low, half_width });
    }
    let best = |bends: bool| {
        forms
            .iter()
            .filter(|form| form.kind.bends() == bends)
            .filter_map(|form| Some((form, form.aicc?)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let (Some((_, smooth)), Some((sharp, bent))) = (best(false), best(true)) else {
        return (Verdict::CannotTell, Why::FewScores { n });
    };
    let gain = smooth - bent;
    if gain <= -AS_GOOD {
        return (Verdict::Smooth, Why::NoBend { gain });
    }
    let Rise { from, to, upward, turns_back } = rise(sharp);
    if turns_back {
        return (Verdict::CannotTell, Why::TurnsBack);
    }
    let share = 0.5 * (to - from);
    if share > SHARP {
        return (Verdict::Smooth, Why::SlowRise { share });
    }
    if gain < CLEAR {
        return (Verdict::CannotTell, Why::WeakBend { gain });
    }
    let flat = track.u.iter().filter(|u| **u < from).count();
    if flat < FLAT {
        return (Verdict::CannotTell, Why::NothingBefore { flat });
    }
    // A sigmoid's middle is its place; only a broken curve has a knee of its own to locate.
    let open = knee.filter(|_| sharp.kind == FormKind::Broken).filter(|knee| knee.width > SHARP);
    if let Some(knee) = open {
        return (Verdict::CannotTell, Why::KneeOpen { width: knee.width });
    }
    (Verdict::Emergent, Why::Jump { gain, share, flat, rises: upward })
}

/// Whether scores scatter no more than their own noise makes them: their variance against that of
/// the noise, two standard errors allowed.
fn within(y: &[f64], half_width: f64) -> bool {
    let sigma = half_width / 1.96;
    let allowed = 1.0 + 2.0 * (2.0 / count(y.len().saturating_sub(1).max(1))).sqrt();
    deviation(y).powi(2) <= allowed * sigma * sigma
}

/// How a curve goes from its first value over the observed range to its last.
struct Rise {
    /// Where 10 % of it are done.
    from: f64,
    /// Where 90 % are.
    to: f64,
    /// Whether the last value is above the first.
    upward: bool,
    /// Whether it goes beyond either by more than a tenth on the way.
    turns_back: bool,
}

fn rise(form: &FittedForm) -> Rise {
    const STEPS: u32 = 400;
    let places = (0..=STEPS).map(|i| -1.0 + 2.0 * f64::from(i) / f64::from(STEPS));
    let values: Vec<(f64, f64)> = places.map(|u| (u, form.value(u))).collect();
    let (start, end) = (values[0].1, values[values.len() - 1].1);
    let done = |value: f64| if end == start { 1.0 } else { (value - start) / (end - start) };
    let first = |share: f64| {
        let at = values.iter().find(|(_, value)| done(*value) >= share);
        at.map_or(1.0, |(u, _)| *u)
    };
    let beyond = |(_, value): &(f64, f64)| !(-0.1..=1.1).contains(&done(*value));
    Rise {
        from: first(0.1),
        to: first(0.9),
        upward: end >= start,
        turns_back: values.iter().any(beyond),
    }
}

impl Emergence {
    /// The verdict in a sentence that names the metric.
    #[must_use]
    pub fn sentence(&self, metric: &str) -> String {
        let (axis, words) = (self.axis.name(), self.verdict.words());
        format!("{words} under {metric} against {axis}: {}", self.reason())
    }

    /// Why the verdict is what it is, and what the metric cannot see.
    #[must_use]
    pub fn reason(&self) -> String {
        let reason = match self.why {
            Why::FewScores { n } => format!("{n} scores are too few, 8 are needed"),
            Why::Noise { range, half_width } => format!(
                "the scores differ by {range:.3}, within their own noise of +-{half_width:.3}; more \
                 items would tell"
            ),
            Why::NoBend { gain } => {
                format!("a line or a power law is better than any bend, by {:.1} in AICc", -gain)
            }
            Why::WeakBend { gain } if gain < AS_GOOD => format!(
                "a smooth curve and a sharp bend are about as good (gain in AICc {gain:.1}); more scales \
                 would tell"
            ),
            Why::WeakBend { gain } => {
                format!("a bend is better by {gain:.1} in AICc only; more scales would tell")
            }
            Why::SlowRise { share } => {
                format!("it bends, but over {:.0} % of the range", 100.0 * share)
            }
            Why::NothingBefore { flat } => format!(
                "a bend is preferred, but {flat} scores lie before it; smaller scales would tell"
            ),
            Why::KneeOpen { width } => format!(
                "a bend is preferred, but its place is open over {:.0} % of the range",
                100.0 * width
            ),
            Why::TurnsBack => "the scores go one way and then back".to_owned(),
            Why::Jump { gain, share, flat, rises } => format!(
                "{flat} scores stand still, then it {} within {:.0} % of the range (gain in AICc \
                 {gain:.1})",
                if rises { "rises" } else { "falls" },
                100.0 * share
            ),
        };
        let unseen = match (self.resolution, self.verdict) {
            (Some(step), Verdict::Emergent) if self.chance.unwrap_or(0.0) < step => {
                format!("; what lies below 1/items = {step:.2e} it cannot see")
            }
            _ => String::new(),
        };
        format!("{reason}{unseen}")
    }
}

/// What two metrics of one task say together: the harsh one and the soft one.
#[must_use]
pub fn contrast(hard: (&str, Verdict), soft: (&str, Verdict)) -> String {
    let ((hard, a), (soft, b)) = (hard, soft);
    match (a, b) {
        (Verdict::Emergent, Verdict::Smooth) => {
            format!("the jump is in the metric: emergent under {hard}, smooth under {soft}")
        }
        (Verdict::Emergent, Verdict::Emergent) => {
            format!("the jump is not made by the metric: emergent under {hard} and under {soft}")
        }
        (Verdict::Smooth, Verdict::Smooth) => format!("smooth under {hard} and under {soft}"),
        _ => format!("{} under {hard}, {} under {soft}", a.words(), b.words()),
    }
}
