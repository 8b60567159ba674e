//! The list of runs that a recipe asks for, each with its place in the file.

use super::{
    Amount, KeyPath, MAX_RUNS, RunRequest, SizeRequest,
    raw::{Count, RawGrid, RawIsoflop, RawRecipe, RawRun, Size},
    sensitivity,
    validate::{Fault, ensure},
};
use crate::run::RunRole;

/// Sizes per budget where the recipe does not say.
const SIZES_PER_BUDGET: u32 = 6;

/// Range of tokens per parameter where the recipe does not say: it holds the optimum of language
/// models (about 20) well inside, so that a parabola has both arms.
const TOKENS_PER_PARAMETER: (f64, f64) = (2.0, 200.0);

/// Every run asked for, in the order grid, isoflop, runs, check, sensitivity.
pub(super) fn requests(raw: &RawRecipe) -> Result<Vec<RunRequest>, Fault> {
    let mut requests = Vec::new();
    if let Some(raw) = &raw.grid {
        grid(raw, &mut requests)?;
    }
    if let Some(raw) = &raw.isoflop {
        isoflop(raw, &mut requests)?;
    }
    for (list, key, role) in
        [(&raw.runs, "runs", RunRole::Fit), (&raw.check, "check", RunRole::Check)]
    {
        for (index, run) in list.iter().enumerate() {
            requests.push(explicit(run, &KeyPath::of(&[key]).index(index), role)?);
        }
    }
    ensure(requests.iter().any(|request| request.role == RunRole::Fit), &["grid"], || {
        "the recipe asks for no run; hint: add `[grid]` with `sizes` and `tokens`, `[isoflop]` \
         with `budgets`, or `[[runs]]`"
            .to_owned()
    })?;
    if let Some(raw_sensitivity) = &raw.sensitivity {
        requests.extend(sensitivity::requests(raw_sensitivity, raw)?);
    }
    ensure(requests.len() <= MAX_RUNS, &["grid"], || {
        format!(
            "{} runs are more than the limit of {MAX_RUNS}; hint: split the recipe",
            requests.len()
        )
    })?;
    Ok(requests)
}

fn not_empty<T>(list: &[T], path: &[&'static str]) -> Result<(), Fault> {
    ensure(!list.is_empty(), path, || {
        "the list is empty, so the grid has no run; hint: give at least one value".to_owned()
    })
}

fn grid(raw: &RawGrid, requests: &mut Vec<RunRequest>) -> Result<(), Fault> {
    not_empty(&raw.sizes, &["grid", "sizes"])?;
    not_empty(&raw.tokens, &["grid", "tokens"])?;
    not_empty(&raw.seeds, &["grid", "seeds"])?;
    let product = raw.sizes.len().saturating_mul(raw.tokens.len()).saturating_mul(raw.seeds.len());
    // Checked before the product is written out: three lists of a MiB recipe multiply to 10^15.
    ensure(product <= MAX_RUNS, &["grid"], || {
        format!("{product} runs are more than the limit of {MAX_RUNS}; hint: split the recipe")
    })?;
    for (row, &size) in raw.sizes.iter().enumerate() {
        for (column, &Count(tokens)) in raw.tokens.iter().enumerate() {
            for &seed in &raw.seeds {
                requests.push(RunRequest {
                    size: size_request(size),
                    amount: Amount::Tokens(tokens),
                    seed,
                    role: RunRole::Fit,
                    rate_factor: 1.0,
                    size_at: KeyPath::of(&["grid", "sizes"]).index(row),
                    amount_at: KeyPath::of(&["grid", "tokens"]).index(column),
                });
            }
        }
    }
    Ok(())
}

fn isoflop(raw: &RawIsoflop, requests: &mut Vec<RunRequest>) -> Result<(), Fault> {
    not_empty(&raw.budgets, &["isoflop", "budgets"])?;
    not_empty(&raw.seeds, &["isoflop", "seeds"])?;
    ensure(
        raw.sizes.is_none() || (raw.per_budget.is_none() && raw.tokens_per_parameter.is_none()),
        &["isoflop", "sizes"],
        || {
            "`sizes` excludes `per_budget` and `tokens_per_parameter`; hint: keep one of the two \
             ways"
                .to_owned()
        },
    )?;
    let rows = raw.sizes.as_ref().map_or(100, Vec::len);
    let product = raw.budgets.len().saturating_mul(rows).saturating_mul(raw.seeds.len());
    ensure(product <= 100 * MAX_RUNS, &["isoflop"], || {
        format!("more runs than the limit of {MAX_RUNS}; hint: split the recipe")
    })?;
    for (index, budget) in raw.budgets.iter().enumerate() {
        let amount_at = KeyPath::of(&["isoflop", "budgets"]).index(index);
        for (size, size_at) in isoflop_sizes(raw, budget.0, &amount_at)? {
            for &seed in &raw.seeds {
                requests.push(RunRequest {
                    size,
                    amount: Amount::Budget(budget.0),
                    seed,
                    role: RunRole::Fit,
                    rate_factor: 1.0,
                    size_at: size_at.clone(),
                    amount_at: amount_at.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The sizes of one budget. A size of r tokens per parameter has N = sqrt(C / (6 r)) by C = 6 N D;
/// the exact FLOPs then give the tokens, so the ratio that comes out is near r, not r.
fn isoflop_sizes(
    raw: &RawIsoflop,
    budget: f64,
    budget_at: &KeyPath,
) -> Result<Vec<(SizeRequest, KeyPath)>, Fault> {
    if let Some(sizes) = &raw.sizes {
        not_empty(sizes, &["isoflop", "sizes"])?;
        let at = |row| KeyPath::of(&["isoflop", "sizes"]).index(row);
        return Ok(sizes
            .iter()
            .enumerate()
            .map(|(row, &size)| (size_request(size), at(row)))
            .collect());
    }
    let count = raw.per_budget.unwrap_or(SIZES_PER_BUDGET);
    ensure((2..=100).contains(&count), &["isoflop", "per_budget"], || {
        format!("{count} sizes per budget make no curve; hint: give 2 to 100, at best 5 or more")
    })?;
    let (from, to) =
        raw.tokens_per_parameter.map_or(TOKENS_PER_PARAMETER, |range| (range.from.0, range.to.0));
    ensure(from < to, &["isoflop", "tokens_per_parameter"], || {
        format!("the range from {from} to {to} is empty; hint: `from` is the smaller end")
    })?;
    let size = |place: u32| {
        let share = f64::from(place) / f64::from(count - 1);
        let ratio = libm::exp(libm::log(to) + share * (libm::log(from) - libm::log(to)));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a root of a positive number below 1e30"
        )]
        let parameters = libm::sqrt(budget / (6.0 * ratio)).round() as u64;
        (SizeRequest::Parameters(parameters), budget_at.clone())
    };
    Ok((0..count).map(size).collect())
}

fn explicit(run: &RawRun, at: &KeyPath, role: RunRole) -> Result<RunRequest, Fault> {
    let (amount, key) = match (run.tokens, run.budget) {
        (Some(Count(tokens)), None) => (Amount::Tokens(tokens), "tokens"),
        (None, Some(budget)) => (Amount::Budget(budget.0), "budget"),
        _ => {
            let message = "give one of `tokens` and `budget`; hint: tokens = \"1M\"".to_owned();
            return Err((at.clone(), message));
        }
    };
    Ok(RunRequest {
        size: size_request(run.size),
        amount,
        seed: run.seed,
        role,
        rate_factor: 1.0,
        size_at: at.clone().name("size"),
        amount_at: at.clone().name(key),
    })
}

pub(super) const fn size_request(size: Size) -> SizeRequest {
    match size {
        Size::Parameters(parameters) => SizeRequest::Parameters(parameters),
        Size::Shape(shape) => {
            SizeRequest::Shape { width: shape.width, layers: shape.layers, heads: shape.heads }
        }
    }
}
