//! What a report of a fit must state, after Li et al. 2025 ("(Mis)Fitting"): each item filled in from
//! the data, or open with what to add. Nothing is guessed.

mod sweep;

use serde::Serialize;
use sweep_fit::{Fit, Intervals, Method, Observation, Options};
use sweep_plot::text::held_out_text;

use super::Basis;
use crate::law;

/// One item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Item {
    /// What is to be stated.
    pub(crate) item: &'static str,
    /// What the data and the options say; absent where they cannot know.
    pub(crate) stated: Option<String>,
    /// What to add where it is open.
    pub(crate) open: Option<&'static str>,
}

fn known(item: &'static str, stated: impl Into<String>) -> Item {
    Item { item, stated: Some(stated.into()), open: None }
}

fn open(item: &'static str, add: &'static str) -> Item {
    Item { item, stated: None, open: Some(add) }
}

/// Fills the checklist in.
pub(crate) fn fill(basis: &Basis<'_>, fit: &Fit, options: &Options) -> Vec<Item> {
    let rows = basis.observations;
    let mut items = vec![
        known("observations", format!("{} from {}", rows.len(), basis.origin)),
        known("law", law(fit)),
        parameters(rows),
        data(rows, basis.sweep.map_or("tokens", sweep::unit)),
        compute(rows),
    ];
    items.extend(ranges(rows));
    items.extend([
        basis.sweep.map_or_else(|| checkpoints(rows), |_| sweep::checkpoints(rows)),
        basis.sweep.and_then(sweep::schedule).unwrap_or_else(|| {
            open(
                "learning-rate schedule for each D, tuning of rate and batch",
                "say whether every run decayed over its own D, and how rate and batch were set",
            )
        }),
        basis.sweep.and_then(sweep::loss).unwrap_or_else(|| {
            open(
                "loss and split",
                "name the validation set, the tokenizer and whether the loss was smoothed",
            )
        }),
        known("objective", format!("sum of {} = {:.10e}", fit.objective, fit.objective_value)),
        known("optimiser and starts", optimiser(fit)),
        known("dropped observations", dropped(fit, options)),
        known("intervals", intervals(rows, options)),
        held_out(basis, fit, options),
        known("doubts", doubts(fit)),
    ]);
    items
}

fn law(fit: &Fit) -> String {
    match fit.method {
        Method::Direct => fit.law.formula().to_owned(),
        Method::Isoflop | Method::Envelope => {
            format!("N* = N_0 C^a, D* = D_0 C^b by the method {}", fit.law_name())
        }
    }
}

fn parameters(rows: &[Observation]) -> Item {
    let first = rows.first().and_then(|row| row.convention.as_deref());
    match first.filter(|first| rows.iter().all(|row| row.convention.as_deref() == Some(*first))) {
        Some(convention) => known("what N counts", format!("{convention} parameters")),
        None => open("what N counts", "say whether embedding and head are in N; it moves a by .3"),
    }
}

fn data(rows: &[Observation], unit: &str) -> Item {
    let unique = rows.iter().filter(|row| row.unique.is_some()).count();
    let repeated = rows
        .iter()
        .filter(|row| row.tokens().zip(row.unique).is_some_and(|(d, u)| d > u * (1.0 + 1e-9)))
        .count();
    if rows.iter().any(|row| row.d.is_none() && row.flops.is_some() && row.n.is_some()) {
        return known("what D counts", "C/(6 N): no token count was given");
    }
    if unique == rows.len() {
        let text = format!("{unit} seen; {repeated} of {} runs repeat their data", rows.len());
        return known("what D counts", text);
    }
    open("what D counts", "say whether tokens repeat; --map unique=COLUMN tells the fit")
}

fn compute(rows: &[Observation]) -> Item {
    let measured = rows.iter().filter(|row| row.flops.is_some()).count();
    let text = if measured == 0 {
        "6 N D".to_owned()
    } else {
        let ratios: Vec<f64> =
            rows.iter().filter_map(|row| Some(row.flops? / (6.0 * row.n? * row.d?))).collect();
        let (low, high) =
            ratios.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), r| (l.min(*r), h.max(*r)));
        if ratios.is_empty() {
            format!("as given for {measured} of {}", rows.len())
        } else {
            format!("as given for {measured} of {}, {low:.2} to {high:.2} of 6 N D", rows.len())
        }
    };
    known("what C counts", text)
}

fn ranges(rows: &[Observation]) -> Vec<Item> {
    let range = |item: &'static str, pick: &dyn Fn(&Observation) -> Option<f64>| {
        let values = rows.iter().filter_map(pick);
        let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
        (high > 0.0).then(|| {
            known(item, format!("{low:.3e} to {high:.3e}, {:.2} decades", (high / low).log10()))
        })
    };
    let ratio = |row: &Observation| Some(row.tokens()? / row.n?);
    [
        range("range of N", &|row| row.n),
        range("range of D", &Observation::tokens),
        range("range of C", &Observation::compute),
        range("range of D/N", &ratio),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn checkpoints(rows: &[Observation]) -> Item {
    let groups: Option<std::collections::BTreeSet<&str>> =
        rows.iter().map(|row| row.group.as_deref()).collect();
    match groups {
        Some(groups) => {
            known("checkpoints", format!("{} checkpoints of {} runs", rows.len(), groups.len()))
        }
        None => open(
            "checkpoints",
            "say whether each row is a run of its own or a checkpoint; --map group=COLUMN tells",
        ),
    }
}

fn optimiser(fit: &Fit) -> String {
    let Some(certificate) = &fit.certificate else {
        return "descent from a fixed list of starts; no certificate".to_owned();
    };
    let proof = if certificate.global { "certified global" } else { "not certified" };
    let condition = certificate
        .condition_number
        .map_or_else(|| "on a bound".to_owned(), |c| format!("condition number {c:.2e}"));
    format!(
        "variable projection over a grid of starts, step {:.4}; {proof}; {condition}",
        certificate.resolution
    )
}

fn dropped(fit: &Fit, options: &Options) -> String {
    let highest = match options.drop_highest {
        0 => "none".to_owned(),
        k => format!("the {k} highest losses"),
    };
    format!("{highest}; {} fitted", fit.n_points)
}

fn intervals(rows: &[Observation], options: &Options) -> String {
    if options.intervals == Intervals::Profile {
        return "95 %, profile of the objective".to_owned();
    }
    let way = if options.intervals == Intervals::Residual { "residual" } else { "case" };
    match options.bootstrap {
        0 => "none".to_owned(),
        replicates if rows.iter().all(|row| row.group.is_some()) => {
            format!("95 %, {replicates} wild cluster bootstraps by run, seed {}", options.seed)
        }
        replicates => format!("95 %, {replicates} {way} bootstraps, seed {}", options.seed),
    }
}

/// The error ahead: of this fit where it held something out, else of a rehearsal.
fn held_out(basis: &Basis<'_>, fit: &Fit, options: &Options) -> Item {
    const ITEM: &str = "held-out error";
    let judged = match (fit.held_out, basis.rehearsal) {
        (Some(_), _) => held_out_text(fit),
        (None, Some(rehearsal)) => held_out_text(rehearsal),
        (None, None) => {
            law::rehearsal(basis.observations, options).as_ref().and_then(held_out_text)
        }
    };
    judged.map_or_else(
        || open(ITEM, "too few observations, or a method without losses; --method direct has one"),
        |stated| known(ITEM, stated.trim_end_matches('.').to_owned()),
    )
}

fn doubts(fit: &Fit) -> String {
    if fit.warnings.is_empty() {
        return "none raised".to_owned();
    }
    let mut codes: Vec<&str> = fit.warnings.iter().map(|warning| warning.code.as_str()).collect();
    // One code may name several forecasts.
    codes.sort_unstable();
    codes.dedup();
    codes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(group: bool) -> Vec<Observation> {
        let mut rows = Vec::new();
        for i in 0..4_i32 {
            for j in 0..5_i32 {
                let (n, d) = (1e6 * 3_f64.powi(i), 2e7 * 4_f64.powi(j));
                let loss = 1.8 + 400.0 * n.powf(-0.34) + 410.0 * d.powf(-0.28);
                let group = group.then(|| format!("run{i}"));
                rows.push(Observation { group, ..Observation::new(n, d, loss) });
            }
        }
        rows
    }

    fn item(rows: &[Observation], options: &Options, name: &str) -> Item {
        let fit = sweep_fit::fit(rows, options).unwrap();
        let items = fill(&basis(rows, None), &fit, options);
        items.into_iter().find(|item| item.item == name).unwrap()
    }

    fn basis<'a>(rows: &'a [Observation], rehearsal: Option<&'a Fit>) -> Basis<'a> {
        Basis { observations: rows, seconds: &[], origin: "a.csv", sweep: None, rehearsal }
    }

    #[test]
    fn a_rehearsal_that_was_made_is_told_as_it_is() {
        let (table, options) = (rows(false), Options::default());
        let fit = sweep_fit::fit(&table, &options).unwrap();
        let made = law::rehearsal(&table, &options).unwrap();
        let told = |rehearsal: Option<&Fit>| fill(&basis(&table, rehearsal), &fit, &options);
        assert_eq!(told(Some(&made)), told(None));
        let other = sweep_fit::fit(&table, &Options { hold_out_top: Some(0.4), ..options.clone() });
        assert_ne!(told(Some(&other.unwrap())), told(None), "it is not made again");
    }

    #[test]
    fn what_the_data_knows_is_stated_and_the_rest_is_open() {
        let options = Options { bootstrap: 50, seed: 3, ..Options::default() };
        let table = rows(false);
        let stated = |name: &str| item(&table, &options, name).stated;
        assert_eq!(stated("observations").unwrap(), "20 from a.csv");
        assert_eq!(stated("what C counts").unwrap(), "6 N D");
        assert!(stated("range of N").unwrap().starts_with("1.000e6 to 2.700e7"));
        assert_eq!(stated("intervals").unwrap(), "95 %, 50 case bootstraps, seed 3");
        assert!(stated("held-out error").unwrap().contains("times beyond the rest"));
        for name in ["what N counts", "checkpoints", "loss and split"] {
            let item = item(&table, &options, name);
            assert!(item.stated.is_none() && item.open.is_some(), "{item:?}");
        }
        let grouped = item(&rows(true), &options, "checkpoints").stated.unwrap();
        assert_eq!(grouped, "20 checkpoints of 4 runs");
    }
}
