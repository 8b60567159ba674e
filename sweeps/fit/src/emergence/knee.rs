//! Where a metric bends: the break of the broken curve, with its profile interval.

use rayon::prelude::*;
use serde::Serialize;

use super::{
    Axis, Emergence, Track,
    form::{BrokenAt, FittedForm, FormKind, fit},
    verdict::AS_GOOD,
};
use crate::statistics::count;

/// A bend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Knee {
    /// Its place on the axis.
    pub x: f64,
    /// 95 % profile interval; an end is absent where the interval runs out of the observed range.
    pub ci95: [Option<f64>; 2],
    /// Width of the interval as a share of the observed range of the coordinate.
    pub width: f64,
}

/// A bend that the scores show, at a place that they locate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bend {
    /// Its place on the axis.
    pub x: f64,
    /// 95 % profile interval, within the observed range.
    pub ci95: [f64; 2],
}

impl Emergence {
    /// The knee, where the broken curve is better by 2 in AICc than a line and a power law, and
    /// its interval has both ends: a curve that the scores do not ask for bends somewhere too.
    #[must_use]
    pub fn bend(&self) -> Option<Bend> {
        let least = |broken: bool| {
            let chosen = self.forms.iter().filter(|form| match form.kind {
                FormKind::Broken => broken,
                kind => !broken && !kind.bends(),
            });
            chosen.filter_map(|form| form.aicc).reduce(f64::min)
        };
        let gain = least(false)? - least(true)?;
        let Knee { x, ci95: [Some(low), Some(high)], .. } = self.knee? else { return None };
        (gain >= AS_GOOD).then_some(Bend { x, ci95: [low, high] })
    }
}

/// 95 % quantile of chi-squared with one degree of freedom.
const CHI_SQUARED: f64 = 3.841_458_820_694_124;
/// Places at which the profile is taken.
const PLACES: u32 = 40;

/// The break and its interval: places at which n ln(S/S_min) stays below the threshold, which is
/// widened by n/(n - 6) for the parameters that were fitted.
pub(super) fn knee(axis: Axis, track: &Track, form: &FittedForm) -> Knee {
    let n = track.y.len();
    let warm = [0, 1, 2, 3, 5].map(|place| form.params[place]);
    let threshold = CHI_SQUARED * count(n) / count(n.saturating_sub(6).max(1));
    let places =
        (0..=PLACES).into_par_iter().map(|i| -1.0 + 2.0 * f64::from(i) / f64::from(PLACES));
    let profile: Vec<(f64, f64)> = places
        .filter_map(|at| Some((at, fit(&BrokenAt { at, warm }, &track.u, &track.y)?.1)))
        .collect();
    let least = profile.iter().map(|place| place.1).fold(form.squares, f64::min);
    // Perfect fits differ by rounding alone.
    let floor = least.max(1e-14);
    let inside = |squares: f64| count(n) * (squares.max(floor) / floor).ln() <= threshold;
    let best = form.params[4];
    let accepted = profile.iter().filter(|place| inside(place.1)).map(|place| place.0);
    let (low, high) = accepted.fold((best, best), |(l, h), at| (l.min(at), h.max(at)));
    // Half a step more each way: the ends lie between two places.
    let half = 1.0 / f64::from(PLACES);
    let (low, high) = (low - half, high + half);
    let end = |u: f64| (u.abs() < 1.0).then(|| track.x(axis, u));
    let mut ci95 = [end(low), end(high)];
    if axis == Axis::Loss {
        ci95.reverse();
    }
    Knee { x: track.x(axis, best), ci95, width: 0.5 * (high - low) }
}
