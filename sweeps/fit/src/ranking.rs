//! The choice of a law: by the error on the largest fifth of compute that the law did not see,
//! never by how well it fits what it saw.

use crate::{
    direct::{Options, fit},
    error::FitError,
    fit::HeldOut,
    interval::Intervals,
    law::Law,
    observation::Observation,
};

/// The share of compute held out to judge a law.
pub(crate) const HELD_OUT_SHARE: f64 = 0.2;

/// A law with its error on what it did not see.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// The law.
    pub law: Law,
    /// Its errors, or why it could not be fitted.
    pub result: Result<HeldOut, FitError>,
}

/// Ranks the laws that the observations can carry, the smallest mean error first; laws that were
/// refused come last.
///
/// The laws tried take the same sizes: those of N and D, or those of the one variable.
#[must_use]
pub fn rank(observations: &[Observation], options: &Options) -> Vec<Ranked> {
    let single = observations.iter().all(|row| row.single().is_some());
    let unique = observations.iter().all(|row| row.unique.is_some());
    let candidates = Law::ALL
        .into_iter()
        .filter(|law| law.one_variable() == single)
        .filter(|law| !law.needs_unique() || unique);
    let mut ranked: Vec<Ranked> = candidates
        .map(|law| {
            let options = Options {
                law,
                hold_out_top: options.hold_out_top.or(Some(HELD_OUT_SHARE)),
                bootstrap: 0,
                intervals: Intervals::default(),
                budgets: Vec::new(),
                ..options.clone()
            };
            let result = fit(observations, &options).and_then(|fit| {
                fit.held_out
                    .ok_or_else(|| FitError::NothingLeft(String::from("nothing was held out")))
            });
            Ranked { law, result }
        })
        .collect();
    let error = |ranked: &Ranked| {
        ranked.result.as_ref().map_or(f64::INFINITY, |held| held.mean_abs_rel_error)
    };
    ranked.sort_by(|a, b| error(a).total_cmp(&error(b)));
    ranked
}
