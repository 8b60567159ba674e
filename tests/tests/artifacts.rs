//! Checkpoints that the coordinator keeps: a worker whose disk is gone costs no finished step, and
//! the curves are those of a sweep that nobody disturbed.

use std::fs;

use sweep_tests::{Process, Sandbox, assert_refused, wait_until};

use crate::services::{
    coordinator, coordinator_arguments, curves, curves_in_peace, in_state, runs, slow, worker,
};

/// Runs of several seconds each.
fn recipe() -> String {
    slow().replace("\"slow\"", "\"moved\"").replace("\"240k\"", "\"480k\"")
}

/// Waits for the sweep on another worker, whose log must tell that checkpoints came to it; gives
/// its curves.
fn finished_elsewhere(sandbox: &Sandbox, coordinator: &Process) -> Vec<String> {
    fs::remove_dir_all(sandbox.path("one")).unwrap();
    let other = worker(sandbox, "two").unwrap();
    sandbox.sweep(&["watch"]).unwrap();
    let done = runs(sandbox).unwrap();
    let log = || format!("{done:#?}\n{}\n{}", other.log(), coordinator.log());
    assert_eq!(in_state(&done, "finished"), done.len(), "{}", log());
    assert!(other.log().contains("is fetched"), "{}", log());
    assert!(!other.log().contains("passed over"), "{}", log());
    let checks = sandbox.sweep_json(&["doctor", "--store", &store(sandbox)]).unwrap();
    let checks = checks["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["sound"] == true), "{checks:#?}\n{}", log());
    curves(sandbox).unwrap()
}

fn store(sandbox: &Sandbox) -> String {
    format!("sqlite:{}", sandbox.path("state/sweep.db").display())
}

fn assert_same(expected: &[String], found: &[String]) {
    let first = expected.iter().zip(found).find(|(expected, found)| expected != found);
    assert_eq!((first, expected.len()), (None, found.len()));
}

#[test]
fn a_drained_worker_leaves_its_runs_to_others() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", recipe()).unwrap();
    let mut coordinator = coordinator(&sandbox).unwrap();
    let mut first = worker(&sandbox, "one").unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let under_way = || {
        let points = sandbox.sweep(&["export", "last", "--points"])?;
        Ok((points.lines().count() > 20).then_some(()))
    };
    wait_until("runs under way", || first.log(), under_way).unwrap();
    first.signal("TERM").unwrap();
    first.wait().unwrap();
    let found = finished_elsewhere(&sandbox, &coordinator);
    assert_same(&curves_in_peace(&recipe()).unwrap(), &found);

    // The store counts on what is kept: no start promises it from another place.
    coordinator.signal("TERM").unwrap();
    coordinator.wait().unwrap();
    let state = sandbox.path("state");
    let mut arguments = coordinator_arguments(&state, "127.0.0.1:0");
    arguments.extend(["--artifacts", "none"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let kept = state.join("artifacts").display().to_string();
    let refused = sandbox.run("coordinator", &arguments).unwrap();
    assert_refused(&refused, 1, &["the store counts on checkpoints in", &kept, "none"]);
    let forgetting = [&arguments[..], &["--forget-artifacts"]].concat();
    let _again = sandbox.start("coordinator", &forgetting).unwrap();
    let answered = || Ok(sandbox.sweep(&["status"]).is_ok().then_some(()));
    wait_until("it to answer without them", String::new, answered).unwrap();
}

#[test]
fn branches_fork_from_a_trunk_whose_worker_is_gone() {
    let recipe = recipe().replace("batch = 4\n", "batch = 4\nwarmup_steps = 10\ntrunk = true\n");
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", recipe.clone()).unwrap();
    let coordinator = coordinator(&sandbox).unwrap();
    let mut first = worker(&sandbox, "one").unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let trunk_done = || {
        let runs = runs(&sandbox)?;
        let done = |run: &serde_json::Value| run["role"] == "trunk" && run["state"] == "finished";
        Ok(runs.iter().any(done).then_some(()))
    };
    wait_until("the end of a trunk", || first.log(), trunk_done).unwrap();
    first.signal("KILL").unwrap();
    first.wait().unwrap();
    let found = finished_elsewhere(&sandbox, &coordinator);
    assert_same(&curves_in_peace(&recipe).unwrap(), &found);
}
