//! A plan folded by budget: a line for each, since the runs of one budget cost the same.

use std::collections::BTreeMap;

use sweep_spec::{
    plan::{Plan, PlannedRun},
    run::RunRole,
};

use super::count;
use crate::output::table::{duration, lines, ratio, table};

/// The table; `None` where the plan is no grid of budgets.
pub(super) fn folded(plan: &Plan) -> Option<String> {
    let groups = groups(plan)?;
    let mut header = vec!["budget", "runs", "N range", "D range", "D/N", "steps", "FLOPs", "6ND"];
    let names: Vec<String> =
        plan.devices.iter().map(|device| format!("on {}", device.kind.name)).collect();
    header.extend(names.iter().map(String::as_str));
    let mut rows = table(&header, &[0]);
    for (name, runs) in groups {
        rows.add_row(cells(plan, name, &runs));
    }
    Some(lines(&rows))
}

/// The runs of each budget, smallest first, then trunks, checks and other rates.
fn groups(plan: &Plan) -> Option<Vec<(String, Vec<&PlannedRun>)>> {
    let mut budgets: BTreeMap<u64, Vec<&PlannedRun>> = BTreeMap::new();
    for run in plan.runs.iter().filter(|run| run.role == RunRole::Fit) {
        // Positive numbers sort as their bits do.
        budgets.entry(run.budget?.to_bits()).or_default().push(run);
    }
    if budgets.is_empty() {
        return None;
    }
    let named = |(bits, runs)| (format!("{:e}", f64::from_bits(bits)), runs);
    let mut groups: Vec<_> = budgets.into_iter().map(named).collect();
    for (name, role) in [
        ("trunks", RunRole::Trunk),
        ("checks", RunRole::Check),
        ("other rates", RunRole::Sensitivity),
    ] {
        let runs: Vec<_> = plan.runs.iter().filter(|run| run.role == role).collect();
        if !runs.is_empty() {
            groups.push((name.to_owned(), runs));
        }
    }
    Some(groups)
}

fn cells(plan: &Plan, name: String, runs: &[&PlannedRun]) -> Vec<String> {
    let whole = |value: fn(&PlannedRun) -> u64, show: fn(u64) -> String| {
        let values = || runs.iter().map(|run| value(run));
        range(values().min().map(show), values().max().map(show))
    };
    let per = || runs.iter().map(|run| run.tokens_per_parameter);
    let mut cells = vec![
        name,
        runs.len().to_string(),
        whole(|run| run.parameters.total, count),
        whole(|run| run.tokens, count),
        range(per().reduce(f64::min).map(ratio), per().reduce(f64::max).map(ratio)),
        whole(|run| run.steps, |steps| steps.to_string()),
        format!("{:.2e}", runs.iter().map(|run| run.own_flops).sum::<f64>()),
        format!("{:.2e}", runs.iter().map(|run| run.flops_6nd).sum::<f64>()),
    ];
    cells.extend((0..plan.devices.len()).map(|place| {
        let seconds = runs.iter().map(|run| run.seconds[place].map(|found| found.seconds));
        seconds.sum::<Option<f64>>().map_or_else(|| "unknown".to_owned(), duration)
    }));
    cells
}

fn range(from: Option<String>, to: Option<String>) -> String {
    match (from, to) {
        (Some(from), Some(to)) if from == to => from,
        (from, to) => format!("{} - {}", from.unwrap_or_default(), to.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use sweep_spec::{
        cost::CostModel, data::DataManifest, grid, id::DataId, plan::DeviceKind, recipe::Recipe,
    };

    use super::super::{Rows, print};
    use super::*;

    const HEAD: &str = "name = \"a\"\n[data]\nsource = \"text\"\nglobs = [\"*\"]\n[model]\n\
                        sequence = 64\n[training]\nbatch = 4\nlearning_rate = 0.01\n";

    fn plan(tail: &str, kinds: &[DeviceKind]) -> Plan {
        let recipe = Recipe::parse("recipe.toml", &format!("{HEAD}{tail}")).expect("valid");
        let manifest = DataManifest {
            id: DataId::from_hash(&blake3::hash(b"texts")),
            vocabulary: 256,
            train_tokens: 100_000_000,
            validation_tokens: 200_000,
            bytes_per_token: Some(1.0),
            train_documents: 90,
            validation_documents: 10,
            entropy: None,
            image: None,
        };
        let grid = grid::expand(&recipe, &manifest).expect("expands");
        Plan::new(&recipe, &grid, &manifest, &CostModel::default(), kinds).expect("plans")
    }

    const BUDGETS: &str = "[isoflop]\nbudgets = [\"1e12\", \"3e11\"]\n\
                           sizes = [\"13k\", \"41k\", \"131k\"]\n\
                           [[check]]\nsize = \"380k\"\ntokens = \"2M\"\n";

    fn kinds() -> [DeviceKind; 2] {
        let kind =
            |name: &str, memory_bytes| DeviceKind { name: name.to_owned(), slots: 2, memory_bytes };
        [kind("AMD EPYC", Some(4 << 30)), kind("Voodoo 2", None)]
    }

    #[test]
    fn budgets_are_lines_and_an_unknown_device_has_flops_only() {
        let mut out = Vec::new();
        print(&plan(BUDGETS, &kinds()), Rows::Folded, &mut out).expect("prints");
        let text = String::from_utf8(out).expect("text");
        let line = |start: &str| {
            let found = text.lines().find(|line| line.starts_with(start));
            found.unwrap_or_else(|| panic!("no `{start}` in {text}")).to_owned()
        };
        let places = ["budget", "3e11", "1e12", "checks"].map(|start| text.find(&line(start)));
        assert!(places.is_sorted(), "the smaller budget comes first: {text}");
        for (start, runs) in [("3e11", "3"), ("1e12", "3"), ("checks", "1")] {
            let line = line(start);
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[1], runs, "{line}");
            assert_eq!(words.last(), Some(&"unknown"), "of the device that nobody knows: {line}");
        }
        assert!(line("on AMD EPYC").contains("memory suffices for 7 of 7 runs"), "{text}");
        let unknown = line("on Voodoo 2");
        assert!(unknown.contains("speed unknown") && unknown.contains("hint:"), "{unknown}");
        assert!(!unknown.contains("memory"), "{unknown}");
        assert!(line("disk").contains("checkpoints at most"), "{text}");
    }

    #[test]
    fn a_grid_without_budgets_has_a_line_for_every_run() {
        let grid = "[grid]\nsizes = [\"13k\", \"41k\", \"131k\"]\ntokens = [\"250k\", \"1M\"]\n";
        let plan = plan(grid, &[]);
        assert_eq!(folded(&plan), None);
        let mut out = Vec::new();
        print(&plan, Rows::Folded, &mut out).expect("prints");
        let text = String::from_utf8(out).expect("text");
        assert!(plan.runs.iter().all(|run| text.contains(run.id.short())), "{text}");
    }

    #[test]
    fn runs_at_other_rates_are_counted_apart_with_what_they_cost() {
        let grid = "[grid]\nsizes = [\"13k\", \"41k\"]\ntokens = [\"250k\", \"1M\"]\n";
        let rates = "[sensitivity]\nrate_factors = [0.5, 2]\nsizes = [\"41k\"]\n\
                     tokens = [\"1M\"]\n";
        let mut out = Vec::new();
        print(&plan(&format!("{grid}{rates}"), &kinds()), Rows::Folded, &mut out).expect("prints");
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.contains("6 runs (4 to fit, 0 to check, 2 at other learning rates)"),
            "{text}"
        );
        let line = text.lines().find(|line| line.starts_with("rates ")).expect("a line");
        assert!(line.contains("FLOPs of the total") && line.contains("on AMD EPYC"), "{line}");
        assert!(!line.contains("Voodoo"), "its speed is not known: {line}");
        assert_eq!(text.matches(" sensitivity ").count(), 2, "{text}");
        assert!(text.contains("2.00e-2") && text.contains("5.00e-3"), "their rates: {text}");
    }

    #[test]
    fn every_run_of_a_budget_is_listed_where_asked_for() {
        let plan = plan(BUDGETS, &[]);
        let mut out = Vec::new();
        print(&plan, Rows::Every, &mut out).expect("prints");
        let text = String::from_utf8(out).expect("text");
        assert!(plan.runs.iter().all(|run| text.contains(run.id.short())), "{text}");
    }
}
