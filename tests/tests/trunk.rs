//! Trunks and branches by the real binaries: forks, kills, and equality with runs trained alone.

use std::{collections::BTreeMap, fs};

use serde_json::Value;
use sweep_tests::{Sandbox, wait_until};

use crate::services::{SMALL, coordinator, in_state, runs, slow, worker};

/// A recipe whose sizes have a trunk each.
fn with_trunk(recipe: &str) -> String {
    recipe.replace("batch = 4\n", "batch = 4\nwarmup_steps = 10\ntrunk = true\n")
}

/// The same runs, each trained alone.
fn alone(recipe: &str) -> String {
    with_trunk(recipe).replace("trunk = true\n", "")
}

/// Final losses by parameters and tokens; runs of other roles are left out.
fn losses(rows: &[Value]) -> BTreeMap<(u64, u64), u64> {
    rows.iter()
        .filter(|run| run["role"] == "fit")
        .map(|run| {
            let at = (run["N_total"].as_u64().unwrap(), run["D"].as_u64().unwrap());
            (at, run["loss"].as_f64().expect("a loss").to_bits())
        })
        .collect()
}

fn of_role<'a>(rows: &'a [Value], role: &str) -> Vec<&'a Value> {
    rows.iter().filter(|run| run["role"] == role).collect()
}

/// One token count of [`slow`] is short for a warm-up of ten steps at its share of a tenth.
fn recipe() -> String {
    slow().replace("\"slow\"", "\"trunk\"")
}

#[test]
fn a_plan_states_what_its_trunks_save() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", with_trunk(SMALL)).unwrap();
    let plan = sandbox.sweep_json(&["plan", "recipe.toml"]).unwrap();
    let totals = &plan["totals"];
    assert_eq!((&totals["runs"], &totals["trunks"]), (&12.into(), &3.into()), "{totals}");
    let (paid, alone) =
        (totals["flops"].as_f64().unwrap(), totals["flops_alone"].as_f64().unwrap());
    // Token counts of 1 : 2 : 4 with a cool-down of a fifth: 3.2 + 0.2 + 0.4 + 0.8 of 7.
    assert!((paid / alone - 4.6 / 7.0).abs() < 0.01, "{paid} of {alone}");
    let text = sandbox.sweep(&["plan", "recipe.toml"]).unwrap();
    assert!(text.contains("trunks 3 carry 9 branches") && text.contains("% saved"), "{text}");

    // A warm-up that the shortest run cuts is refused with its place.
    sandbox.write("long.toml", with_trunk(SMALL).replace("= 10", "= 40")).unwrap();
    let output = sandbox.run("sweep", &["plan", "long.toml"]).unwrap();
    sweep_tests::assert_refused(&output, 2, &["long.toml:", "grid.tokens[0]", "cuts the warm-up"]);
}

#[test]
fn branches_killed_and_resumed_are_the_runs_trained_alone() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("trunk.toml", with_trunk(&recipe())).unwrap();
    let mut first = coordinator(&sandbox).unwrap();
    let mut lost = worker(&sandbox, "worker").unwrap();
    sandbox.sweep(&["submit", "trunk.toml", "--yes"]).unwrap();
    // Killed once a branch has finished while a trunk goes on.
    wait_until(
        "a branch before the end of the trunks",
        || lost.log(),
        || {
            let Ok(rows) = runs(&sandbox) else { return Ok(None) };
            let done = of_role(&rows, "fit").iter().any(|run| run["state"] == "finished");
            let open = of_role(&rows, "trunk").iter().any(|run| run["state"] != "finished");
            Ok((done && open).then_some(()))
        },
    )
    .unwrap();
    for process in [&mut lost, &mut first] {
        process.signal("KILL").unwrap();
        process.wait().unwrap();
    }
    let second = coordinator(&sandbox).unwrap();
    let trainer = worker(&sandbox, "worker").unwrap();
    sandbox.sweep(&["watch"]).unwrap();
    let done = runs(&sandbox).unwrap();
    let log = || format!("{done:#?}\n{}\n{}", trainer.log(), second.log());
    assert_eq!(in_state(&done, "finished"), 12, "{}", log());
    assert_eq!(of_role(&done, "trunk").len(), 3);
    assert!(of_role(&done, "trunk").iter().all(|run| run["loss"].is_null()), "{}", log());
    assert!(!trainer.log().contains("are trained again"), "{}", log());

    sandbox.write("alone.toml", alone(&recipe()).replace("\"trunk\"", "\"alone\"")).unwrap();
    sandbox.sweep(&["submit", "alone.toml", "--yes"]).unwrap();
    sandbox.sweep(&["watch", "alone"]).unwrap();
    let listed = sandbox.sweep_json(&["status", "alone"]).unwrap();
    let whole = losses(listed["runs"].as_array().unwrap());
    assert_eq!(losses(&done), whole, "{}", log());

    // What is paid is less than what is observed, and both are told.
    let sum = |rows: &[Value], key: &str| -> f64 {
        rows.iter().map(|run| run[key].as_f64().unwrap()).sum()
    };
    let observed: Vec<Value> = of_role(&done, "fit").into_iter().cloned().collect();
    assert!(sum(&done, "own_C") < 0.7 * sum(&observed, "C"), "{}", log());

    // A larger D extends the trunks and trains nothing else again.
    let attempts = |rows: &[Value]| -> BTreeMap<String, u64> {
        let fit = rows.iter().filter(|run| run["role"] == "fit");
        fit.map(|run| (run["run"].to_string(), run["attempts"].as_u64().unwrap())).collect()
    };
    let longer = with_trunk(&recipe()).replace("\"240k\"", "\"240k\", \"300k\"");
    sandbox.write("longer.toml", longer).unwrap();
    let edited = sandbox.sweep_json(&["submit", "longer.toml", "--yes"]).unwrap();
    assert_eq!((&edited["runs_new"], &edited["runs_finished"]), (&3.into(), &9.into()), "{edited}");
    sandbox.sweep(&["watch"]).unwrap();
    let extended = runs(&sandbox).unwrap();
    assert_eq!(in_state(&extended, "finished"), 15, "{extended:#?}\n{}", trainer.log());
    let (before, after) = (attempts(&done), attempts(&extended));
    assert!(before.iter().all(|(run, count)| after.get(run) == Some(count)), "{extended:#?}");
}

#[test]
fn a_sweep_of_branches_is_reported_along_their_paths() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", with_trunk(SMALL)).unwrap();
    sandbox.sweep(&["run", "recipe.toml", "--out", "out", "--device", "cpu"]).unwrap();
    let csv = fs::read_to_string(sandbox.path("out/observations.csv")).unwrap();
    assert_eq!(csv.lines().count(), 13, "{csv}");
    let trunks = csv.lines().filter(|row| row.contains(",trunk,")).collect::<Vec<_>>();
    assert_eq!(trunks.len(), 3);
    assert!(trunks.iter().all(|row| row.split(',').nth(3) == Some("")), "{csv}");
    let fit = fs::read_to_string(sandbox.path("out/fit.json")).unwrap();
    let fit: Value = serde_json::from_str(&fit).unwrap();
    assert_eq!(fit["n_points"], 9, "{fit}");
    let report = fs::read_to_string(sandbox.path("out/report.html")).unwrap();
    assert!(report.contains("if every run were trained alone"), "the report tells of no trunk");
}

#[test]
fn whole_curves_are_fitted_by_model_from_the_store_of_a_sweep() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", with_trunk(SMALL)).unwrap();
    sandbox.sweep(&["run", "recipe.toml", "--out", "out", "--device", "cpu"]).unwrap();
    let db = ["--db", "out/state/sweep.db"];
    let csv = sandbox.sweep(&[&["export", "last"][..], &db].concat()).unwrap();
    let branch: Vec<&str> =
        csv.lines().find(|row| row.contains(",fit,")).unwrap().split(',').collect();
    let run = branch[5];
    let asked = ["curves", "last", "--predict", run, "--steps", "200"];
    let document = sandbox.sweep_json(&[&asked[..], &db].concat()).unwrap();
    let fits = document["fits"].as_array().unwrap();
    assert_eq!(fits.len(), 3, "one for each size: {document}");
    let curves: Vec<&Value> =
        fits.iter().flat_map(|fit| fit["curves"].as_array().unwrap()).collect();
    assert_eq!(curves.len(), 12, "trunks count once: {document}");
    let predicted: Vec<&&Value> =
        curves.iter().filter(|curve| curve["predicted"] == true).collect();
    assert_eq!(predicted.len(), 1);
    assert!(run.starts_with(predicted[0]["name"].as_str().unwrap()), "{document}");
    for fit in fits {
        let forecast = fit["forecasts"][0]["loss"].as_f64().unwrap();
        let last = fit["curves"][0]["last_predicted"].as_f64().unwrap();
        assert!(forecast > 0.0 && (forecast / last - 1.0).abs() < 0.5, "{fit}");
    }
    // The same store gives figures and tables without a coordinator.
    let figure = sandbox.sweep_json(&[&["plot", "loss-curves-steps"][..], &db].concat()).unwrap();
    assert!(figure["panels"].as_array().is_some_and(|panels| !panels.is_empty()), "{figure}");
}
