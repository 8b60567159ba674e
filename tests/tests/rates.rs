//! Other learning rates through the command: they are trained, stored and drawn, and no fit sees them.

use std::collections::BTreeMap;

use sweep_tests::{Sandbox, assert_refused};

use crate::services::{SMALL, SMALL_RUNS};

const RATES: &str = "\n[sensitivity]\nrate_factors = [0.25, 2]\nsizes = [{ width = 8, layers = 1 }]\n\
                     tokens = [\"7k\", \"28k\"]\n";

#[test]
fn runs_at_other_rates_are_drawn_and_enter_no_fit() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", format!("{SMALL}{RATES}")).unwrap();
    let plan = sandbox.sweep_json(&["plan", "recipe.toml"]).unwrap();
    let totals = &plan["totals"];
    assert_eq!((&totals["runs"], &totals["sensitivity"]), (&13.into(), &4.into()), "{totals}");

    sandbox.sweep(&["run", "recipe.toml", "--out", "out", "--slots", "1"]).unwrap();
    let db = ["--db", "out/state/sweep.db"];
    let rows = sandbox.sweep(&[&["export", "last", "--json"][..], &db].concat()).unwrap();
    let mut rates: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert_eq!(row["state"], "finished", "{row}");
        let role = row["role"].as_str().unwrap().to_owned();
        rates.entry(role).or_default().push(row["learning_rate"].as_f64().unwrap());
    }
    assert_eq!(rates["fit"], [0.01; SMALL_RUNS]);
    assert_eq!(rates["sensitivity"], [0.0025, 0.02, 0.0025, 0.02]);

    let law = |arguments: &[&str]| {
        let fit = sandbox.sweep_json(&[&["fit"], arguments].concat()).unwrap();
        assert_eq!(fit["n_points"], SMALL_RUNS, "{fit}");
        fit["params"]["alpha"]["value"].as_f64().unwrap().to_bits()
    };
    assert_eq!(law(&[&["last"][..], &db].concat()), law(&["--input", "out/observations.csv"]));

    let draw = |more: &[&str]| {
        let fixed = ["plot", "learning-rate", "last"];
        sandbox.sweep_json(&[&fixed[..], &db, more].concat()).unwrap()
    };
    let figure = draw(&[]);
    assert_eq!(figure["facts"]["runs_drawn"], 6, "two places at three rates: {figure}");
    assert!(figure["facts"]["notes"].to_string().contains("own"), "{figure}");
    // The first place of the grid, and its two other rates.
    assert_eq!(draw(&["--runs", "1,10-11"])["facts"]["runs_drawn"], 3);
    let wrong = ["plot", "learning-rate", "last", "--db", "out/state/sweep.db", "--runs", "99"];
    assert_refused(&sandbox.run("sweep", &wrong).unwrap(), 4, &["99"]);
}

#[test]
fn trunks_have_no_other_rate() {
    let sandbox = Sandbox::new().unwrap();
    let trunk = SMALL.replace("batch = 4", "batch = 4\ntrunk = true");
    sandbox.write("recipe.toml", format!("{trunk}{RATES}")).unwrap();
    let output = sandbox.run("sweep", &["plan", "recipe.toml"]).unwrap();
    assert_refused(&output, 2, &["recipe.toml", "sensitivity", "trunk"]);
}
