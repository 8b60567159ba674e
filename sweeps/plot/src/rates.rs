//! Places of the grid that were trained at several learning rates, and what they say. A difference is
//! taken between runs of one seed, so that what seeds do does not enter it.

use std::fmt::Write as _;

use sweep_spec::{run::RunRole, units::si};

use crate::{
    input::{RunCurve, RunState},
    text::short,
};

/// A place of the grid with its runs at the recipe's own rate and at others.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Parameters.
    pub n: f64,
    /// Training tokens.
    pub d: f64,
    /// Runs at the rate of the recipe, one for each seed; they are in the fit.
    pub own: Vec<&'a RunCurve>,
    /// Runs at other rates, in the order of seed and rate; they are in no fit.
    pub others: Vec<&'a RunCurve>,
}

/// What another rate came to, against the recipe's own.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tried {
    rate: f64,
    factor: f64,
    /// Mean of loss / loss at the own rate - 1 over the seeds that have both.
    difference: f64,
    seeds: usize,
}

/// The places that have runs at other rates, in the order of N and D.
#[must_use]
pub fn places(runs: &[RunCurve]) -> Vec<Place<'_>> {
    let mut others: Vec<&RunCurve> =
        runs.iter().filter(|run| run.role == RunRole::Sensitivity).collect();
    others.sort_by(|a, b| {
        let place = a.n.total_cmp(&b.n).then(a.d.total_cmp(&b.d));
        place.then(a.seed.cmp(&b.seed)).then(a.learning_rate.total_cmp(&b.learning_rate))
    });
    others
        .chunk_by(|a, b| a.n == b.n && a.d == b.d)
        .map(|others| {
            let (n, d) = (others[0].n, others[0].d);
            let own = |run: &&RunCurve| run.role == RunRole::Fit && run.n == n && run.d == d;
            Place { n, d, own: runs.iter().filter(own).collect(), others: others.to_vec() }
        })
        .collect()
}

impl Place<'_> {
    /// Every rate that can be compared with the own one, rising.
    fn tried(&self) -> Vec<Tried> {
        let pairs = self.others.iter().filter_map(|run| {
            let own = self.own.iter().find(|own| own.seed == run.seed)?;
            let difference = run.final_loss()? / own.final_loss()? - 1.0;
            Some((run.learning_rate, run.learning_rate / own.learning_rate, difference))
        });
        let mut pairs: Vec<(f64, f64, f64)> = pairs.collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        pairs
            .chunk_by(|a, b| a.0 == b.0)
            .map(|seeds| {
                #[expect(clippy::cast_precision_loss, reason = "a number of seeds")]
                let count = seeds.len() as f64;
                let sum: f64 = seeds.iter().map(|(_, _, difference)| difference).sum();
                let (rate, factor, _) = seeds[0];
                Tried { rate, factor, difference: sum / count, seeds: seeds.len() }
            })
            .collect()
    }

    /// The rate that came out best, where it is not the recipe's own.
    fn better(&self) -> Option<Tried> {
        let tried = self.tried().into_iter().filter(|tried| tried.difference < 0.0);
        tried.min_by(|a, b| a.difference.total_cmp(&b.difference))
    }

    /// Which rate came out best, and which diverged, in a sentence or two; nothing before runs at the
    /// own rate and at another are done.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let tried = self.tried();
        let own = self.own.iter().find(|run| run.final_loss().is_some())?.learning_rate;
        let (first, last) = (tried.first()?, tried.last()?);
        let place = format!("N = {}, D = {}", si(self.n), si(self.d));
        let mut text = match self.better() {
            None => format!(
                "{place}: the recipe's own rate {} is the best of {} from {} to {}.",
                short(own),
                tried.len() + 1,
                short(first.rate.min(own)),
                short(last.rate.max(own)),
            ),
            Some(best) => {
                let end = best.rate == first.rate && best.factor < 1.0
                    || best.rate == last.rate && best.factor > 1.0;
                format!(
                    "{place}: the rate {} ({}) is {} lower in loss than the recipe's own {}{}.",
                    short(best.rate),
                    times(best.factor),
                    per_cent(best.difference),
                    short(own),
                    if end { ", and a better one may lie beyond" } else { "" },
                )
            }
        };
        for run in self.others.iter().filter(|run| run.failed()) {
            let word = if run.state == RunState::Diverged { "diverged" } else { "failed" };
            let _ = write!(
                text,
                " At {} ({}) it {word}.",
                short(run.learning_rate),
                times(run.learning_rate / own)
            );
        }
        Some(text)
    }
}

/// How much a small difference says.
#[must_use]
pub fn caveat(places: &[Place<'_>]) -> String {
    let seeds = places.iter().flat_map(Place::tried).map(|tried| tried.seeds).min().unwrap_or(1);
    let law = "The law is fitted to the runs at the recipe's own rate alone.";
    if seeds < 2 {
        return format!(
            "{law} One seed at a rate: two runs that differ in their seed alone differ too, so a \
             small difference says little."
        );
    }
    format!(
        "{law} Differences are means over {seeds} seeds or more, each between runs of one seed."
    )
}

/// All places in one sentence; nothing before one can be compared.
#[must_use]
pub fn summary(places: &[Place<'_>]) -> Option<String> {
    let compared: Vec<&Place<'_>> =
        places.iter().filter(|place| place.sentence().is_some()).collect();
    let better = compared.iter().filter_map(|place| Some((place, place.better()?)));
    let better: Vec<_> = better.collect();
    let largest = better.iter().min_by(|a, b| a.1.difference.total_cmp(&b.1.difference));
    let found = match (largest, compared.len()) {
        (_, 0) => return None,
        (None, 1) => "at the one place tried the recipe's own is the best".to_owned(),
        (None, all) => format!("at all {all} places tried the recipe's own is the best"),
        (Some((place, best)), all) => format!(
            "at {} of {all} places tried another is better than the recipe's own, by {} at most \
             (N = {}, D = {}, {})",
            better.len(),
            per_cent(best.difference),
            si(place.n),
            si(place.d),
            times(best.factor)
        ),
    };
    Some(format!("Learning rate: {found}. {}", caveat(places)))
}

/// A factor with three digits at most.
fn times(factor: f64) -> String {
    let rounded: f64 = format!("{factor:.2e}").parse().unwrap_or(factor);
    format!("\u{d7}{rounded}")
}

/// The size of a relative difference.
fn per_cent(difference: f64) -> String {
    format!("{:.2} %", 100.0 * difference.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of one place at these (rate, loss, seed); the first rate is the recipe's own.
    fn runs(of: &[(f64, Option<f64>, u64)]) -> Vec<RunCurve> {
        let own = of[0].0;
        let run = |&(learning_rate, loss, seed): &(f64, Option<f64>, u64)| RunCurve {
            label: format!("{learning_rate}-{seed}"),
            n: 42e3,
            d: 1.4e6,
            flops: 6.0 * 42e3 * 1.4e6,
            budget: None,
            seed,
            learning_rate,
            unique: None,
            speed: None,
            role: if learning_rate == own { RunRole::Fit } else { RunRole::Sensitivity },
            state: if loss.is_some() { RunState::Done } else { RunState::Diverged },
            reason: None,
            loss,
            train: Vec::new(),
            validation: Vec::new(),
            thinned: 0,
        };
        of.iter().map(run).collect()
    }

    #[test]
    fn the_own_rate_may_be_the_best() {
        let runs = runs(&[(0.01, Some(2.0), 0), (0.02, Some(2.1), 0), (0.04, None, 0)]);
        let places = places(&runs);
        let [place] = &places[..] else { panic!("one place") };
        assert_eq!((place.own.len(), place.others.len()), (1, 2));
        assert_eq!(
            place.sentence().expect("compared"),
            "N = 42k, D = 1.4M: the recipe's own rate 0.0100 is the best of 2 from 0.0100 to \
             0.0200. At 0.0400 (\u{d7}4) it diverged."
        );
        let told = summary(&places).expect("compared");
        assert!(told.starts_with("Learning rate: at the one place tried the recipe's own is"));
        assert!(told.contains("One seed at a rate"), "{told}");
    }

    #[test]
    fn a_better_rate_is_named_with_what_it_gains() {
        let runs = runs(&[(0.01, Some(2.0), 0), (0.02, Some(1.9), 0), (0.04, Some(1.95), 0)]);
        let places = places(&runs);
        assert_eq!(
            places[0].sentence().expect("compared"),
            "N = 42k, D = 1.4M: the rate 0.0200 (\u{d7}2) is 5.00 % lower in loss than the recipe's \
             own 0.0100."
        );
        let told = summary(&places).expect("compared");
        assert!(told.contains("at 1 of 1 places tried another is better"), "{told}");
        assert!(told.contains("by 5.00 % at most (N = 42k, D = 1.4M, \u{d7}2)"), "{told}");
    }

    #[test]
    fn the_end_of_the_rates_tried_is_said_to_be_one() {
        let runs = runs(&[(0.01, Some(2.0), 0), (0.005, Some(1.9), 0), (0.02, Some(2.2), 0)]);
        let told = places(&runs)[0].sentence().expect("compared");
        assert!(told.contains("(\u{d7}0.5)") && told.contains("may lie beyond"), "{told}");
    }

    #[test]
    fn differences_are_taken_within_a_seed() {
        // Seed 1 is 0.3 worse at every rate; at its own rate there is no run of seed 2.
        let runs = runs(&[
            (0.01, Some(2.0), 0),
            (0.01, Some(2.3), 1),
            (0.02, Some(2.1), 0),
            (0.02, Some(2.415), 1),
            (0.02, Some(1.0), 2),
        ]);
        let places = places(&runs);
        let tried = places[0].tried();
        assert_eq!((tried.len(), tried[0].seeds), (1, 2));
        assert!((tried[0].difference - 0.05).abs() < 1e-12, "{tried:?}");
        assert!(caveat(&places).contains("means over 2 seeds"));
    }

    #[test]
    fn nothing_is_said_before_two_rates_are_done() {
        let waiting = runs(&[(0.01, None, 0), (0.02, Some(2.1), 0)]);
        assert_eq!(places(&waiting)[0].sentence(), None);
        assert_eq!(summary(&places(&waiting)), None);
        let alone = runs(&[(0.01, Some(2.0), 0)]);
        assert!(places(&alone).is_empty(), "no other rate was asked for");
    }
}
