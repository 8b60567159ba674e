//! `[sensitivity]`: places of the grid at other learning rates. One rate serves all sizes only as far
//! as it is near the best one for each, and these runs show how far that is. They are told apart from
//! the fit by their role, so that a law is never fitted to runs of several rates.

use std::collections::BTreeSet;

use super::{
    Amount, KeyPath, MAX_RUNS, RunRequest,
    raw::{Count, RawGrid, RawRecipe, RawSensitivity, Size},
    requests::size_request,
    validate::{Fault, ensure},
};
use crate::run::RunRole;

/// Largest multiple of a run's own rate: far beyond where any run diverges.
const MAX_FACTOR: f64 = 100.0;

/// The runs at other rates: every size with every token count, every seed and every factor.
pub(super) fn requests(raw: &RawSensitivity, recipe: &RawRecipe) -> Result<Vec<RunRequest>, Fault> {
    ensure(!recipe.training.trunk, &["sensitivity"], || {
        "branches have the learning rate of their trunk, so there is no other to try; hint: leave \
         out `[sensitivity]` or `training.trunk`"
            .to_owned()
    })?;
    let Some(grid) = &recipe.grid else {
        let message = "there is no grid whose places could be trained at other rates; hint: add \
                       `[grid]`, or leave `[sensitivity]` out";
        return Err((KeyPath::of(&["sensitivity"]), message.to_owned()));
    };
    factors(&raw.rate_factors)?;
    let seeds = seeds(raw, grid)?;
    places("sizes", &raw.sizes, &grid.sizes, size_text)?;
    places("tokens", &raw.tokens, &grid.tokens, |Count(tokens)| tokens.to_string())?;
    let product = [raw.rate_factors.len(), raw.sizes.len(), raw.tokens.len(), seeds.len()]
        .into_iter()
        .fold(1_usize, usize::saturating_mul);
    ensure(product <= MAX_RUNS, &["sensitivity"], || {
        format!("{product} runs are more than the limit of {MAX_RUNS}; hint: name fewer places")
    })?;
    let mut requests = Vec::with_capacity(product);
    for (row, &size) in raw.sizes.iter().enumerate() {
        for (column, &Count(tokens)) in raw.tokens.iter().enumerate() {
            for &seed in &seeds {
                for &rate_factor in &raw.rate_factors {
                    requests.push(RunRequest {
                        size: size_request(size),
                        amount: Amount::Tokens(tokens),
                        seed,
                        role: RunRole::Sensitivity,
                        rate_factor,
                        size_at: KeyPath::of(&["sensitivity", "sizes"]).index(row),
                        amount_at: KeyPath::of(&["sensitivity", "tokens"]).index(column),
                    });
                }
            }
        }
    }
    Ok(requests)
}

/// Refuses factors that are no rate, the grid's own, or there twice.
fn factors(factors: &[f64]) -> Result<(), Fault> {
    not_empty("rate_factors", factors)?;
    let mut seen = BTreeSet::new();
    for (place, &factor) in factors.iter().enumerate() {
        let refused = |message: &str| {
            let at = KeyPath::of(&["sensitivity", "rate_factors"]).index(place);
            Err((at, format!("{factor} {message}")))
        };
        if !(factor > 0.0 && factor <= MAX_FACTOR) {
            return refused("is out of range; hint: give numbers above 0, at most 100");
        }
        if factor == 1.0 {
            return refused("is the rate of the grid's own run; hint: leave it out");
        }
        // Positive numbers are equal where their bits are.
        if !seen.insert(factor.to_bits()) {
            return refused("stands twice in the list; hint: once is enough");
        }
    }
    Ok(())
}

/// The seeds asked for, each one of the grid's; the grid's first where none are.
fn seeds(raw: &RawSensitivity, grid: &RawGrid) -> Result<Vec<u64>, Fault> {
    match &raw.seeds {
        None => Ok(grid.seeds.iter().copied().take(1).collect()),
        Some(seeds) => {
            places("seeds", seeds, &grid.seeds, u64::to_string)?;
            Ok(seeds.clone())
        }
    }
}

/// Refuses an empty list, and what the grid does not have: there would be nothing to compare with.
fn places<T: PartialEq>(
    key: &'static str,
    list: &[T],
    of_grid: &[T],
    text: impl Fn(&T) -> String,
) -> Result<(), Fault> {
    not_empty(key, list)?;
    match list.iter().position(|entry| !of_grid.contains(entry)) {
        None => Ok(()),
        Some(place) => {
            let at = KeyPath::of(&["sensitivity", key]).index(place);
            let value = text(&list[place]);
            Err((at, format!("{value} is none of `grid.{key}`; hint: name one that stands there")))
        }
    }
}

fn size_text(size: &Size) -> String {
    match size {
        Size::Parameters(parameters) => parameters.to_string(),
        Size::Shape(shape) => format!("width {} x {} layers", shape.width, shape.layers),
    }
}

fn not_empty<T>(key: &'static str, list: &[T]) -> Result<(), Fault> {
    ensure(!list.is_empty(), &["sensitivity", key], || {
        "the list is empty, so there is no run; hint: give at least one value, or leave \
         `[sensitivity]` out"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use crate::{recipe::Recipe, run::RunRole};

    const RECIPE: &str = r#"name = "small"
[data]
source = "text"
globs = ["texts/*.txt"]
[model]
sequence = 64
[training]
batch = 16
learning_rate = 0.01
[grid]
sizes = ["13k", 41_000, { width = 64, layers = 2 }]
tokens = ["250k", 5e5]
seeds = [3, 4]
[sensitivity]
rate_factors = [0.25, 2]
sizes = ["41k", { width = 64, layers = 2 }]
tokens = ["500k"]
"#;

    fn fault(from: &str, to: &str) -> String {
        assert!(RECIPE.contains(from), "{from}");
        let text = RECIPE.replace(from, to);
        Recipe::parse("recipe.toml", &text).expect_err(to).to_string()
    }

    #[test]
    fn every_place_is_asked_for_at_every_other_rate() {
        let recipe = Recipe::parse("recipe.toml", RECIPE).expect("valid");
        let (fit, other): (Vec<_>, Vec<_>) =
            recipe.requests.iter().partition(|request| request.role == RunRole::Fit);
        assert_eq!((fit.len(), other.len()), (12, 4));
        assert!(fit.iter().all(|request| request.rate_factor == 1.0));
        assert!(other.iter().all(|request| request.role == RunRole::Sensitivity));
        assert!(other.iter().all(|request| request.seed == 3), "the first seed of the grid");
        let factors: Vec<f64> = other.iter().map(|request| request.rate_factor).collect();
        assert_eq!(factors, [0.25, 2.0, 0.25, 2.0]);
        assert_eq!(other[2].size_at.to_string(), "sensitivity.sizes[1]");
        let text = format!("{RECIPE}seeds = [4, 3]\n");
        let both = Recipe::parse("recipe.toml", &text).expect("valid");
        assert_eq!(both.requests.len(), 12 + 8);
    }

    #[test]
    fn factors_that_say_nothing_are_refused() {
        let with = |factors: &str| fault("[0.25, 2]", factors);
        insta::assert_snapshot!(with("[]"), @"recipe.toml:15:16: sensitivity.rate_factors: the list is empty, so there is no run; hint: give at least one value, or leave `[sensitivity]` out");
        insta::assert_snapshot!(with("[0.5, 0]"), @"recipe.toml:15:22: sensitivity.rate_factors[1]: 0 is out of range; hint: give numbers above 0, at most 100");
        insta::assert_snapshot!(with("[-2.0]"), @"recipe.toml:15:17: sensitivity.rate_factors[0]: -2 is out of range; hint: give numbers above 0, at most 100");
        insta::assert_snapshot!(with("[100.1]"), @"recipe.toml:15:17: sensitivity.rate_factors[0]: 100.1 is out of range; hint: give numbers above 0, at most 100");
        insta::assert_snapshot!(with("[nan]"), @"recipe.toml:15:17: sensitivity.rate_factors[0]: NaN is out of range; hint: give numbers above 0, at most 100");
        insta::assert_snapshot!(with("[0.5, 1]"), @"recipe.toml:15:22: sensitivity.rate_factors[1]: 1 is the rate of the grid's own run; hint: leave it out");
        insta::assert_snapshot!(with("[2, 0.5, 2.0]"), @"recipe.toml:15:25: sensitivity.rate_factors[2]: 2 stands twice in the list; hint: once is enough");
        assert!(Recipe::parse("a", &RECIPE.replace("[0.25, 2]", "[100]")).is_ok(), "the bound");
    }

    #[test]
    fn places_that_the_grid_does_not_have_are_refused() {
        insta::assert_snapshot!(fault("[\"41k\", {", "[\"42k\", {"), @"recipe.toml:16:10: sensitivity.sizes[0]: 42000 is none of `grid.sizes`; hint: name one that stands there");
        insta::assert_snapshot!(fault("2 }]\ntokens = [\"500k\"]", "3 }]\ntokens = [\"500k\"]"), @"recipe.toml:16:17: sensitivity.sizes[1]: width 64 x 3 layers is none of `grid.sizes`; hint: name one that stands there");
        insta::assert_snapshot!(fault("[\"500k\"]", "[\"500k\", \"1M\"]"), @"recipe.toml:17:19: sensitivity.tokens[1]: 1000000 is none of `grid.tokens`; hint: name one that stands there");
        insta::assert_snapshot!(fault("[\"500k\"]", "[\"500k\"]\nseeds = [5]"), @"recipe.toml:18:10: sensitivity.seeds[0]: 5 is none of `grid.seeds`; hint: name one that stands there");
        insta::assert_snapshot!(fault("[\"500k\"]", "[]"), @"recipe.toml:17:10: sensitivity.tokens: the list is empty, so there is no run; hint: give at least one value, or leave `[sensitivity]` out");
    }

    #[test]
    fn without_a_grid_or_with_trunks_there_is_no_other_rate() {
        insta::assert_snapshot!(fault("batch = 16", "batch = 16\ntrunk = true"), @"recipe.toml:15:2: sensitivity: branches have the learning rate of their trunk, so there is no other to try; hint: leave out `[sensitivity]` or `training.trunk`");
        let start = RECIPE.find("[grid]").expect("a grid");
        let end = RECIPE.find("[sensitivity]").expect("a table");
        let runs = "[[runs]]\nsize = \"13k\"\ntokens = \"250k\"\n";
        let text = format!("{}{runs}{}", &RECIPE[..start], &RECIPE[end..]);
        let error = Recipe::parse("recipe.toml", &text).expect_err("no grid").to_string();
        insta::assert_snapshot!(error, @"recipe.toml:13:2: sensitivity: there is no grid whose places could be trained at other rates; hint: add `[grid]`, or leave `[sensitivity]` out");
    }
}
