//! Stopped in the middle: the same command goes on, and no finished run is repeated.

use std::collections::BTreeMap;

use serde_json::Value;
use sweep_tests::{Sandbox, wait_until};

use crate::services::{BEYOND_A_LEASE, SMALL_RUNS, coordinator, in_state, runs, slow, worker};

/// Attempts and seconds of the finished runs.
fn finished(runs: &[Value]) -> BTreeMap<String, (u64, f64)> {
    runs.iter()
        .filter(|run| run["state"] == "finished")
        .map(|run| {
            let facts = (run["attempts"].as_u64().unwrap(), run["seconds"].as_f64().unwrap());
            (run["run"].as_str().unwrap().to_owned(), facts)
        })
        .collect()
}

/// Waits until some runs have ended and others have not.
fn halfway(sandbox: &Sandbox, log: impl Fn() -> String) -> BTreeMap<String, (u64, f64)> {
    wait_until("a few runs to finish", log, || {
        // The coordinator may not answer yet.
        let Ok(runs) = runs(sandbox) else { return Ok(None) };
        let done = finished(&runs);
        let unfinished = SMALL_RUNS - done.len();
        Ok((done.len() >= 2 && unfinished >= 2).then_some(done))
    })
    .unwrap()
}

#[test]
fn an_interrupted_run_goes_on_and_repeats_nothing() {
    let mut sandbox = Sandbox::new().unwrap();
    sandbox.set_access("out/state/access.json");
    sandbox.write("recipe.toml", slow()).unwrap();
    let arguments = ["run", "recipe.toml", "--out", "out", "--device", "cpu"];
    let mut first = sandbox.start("sweep", &arguments).unwrap();
    let before = halfway(&sandbox, || first.log());
    first.signal("INT").unwrap();
    let status = first.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{}", first.log());
    assert!(first.log().contains("go on with: sweep run"), "{}", first.log());
    assert!(!sandbox.path("out/report.html").exists());

    let mut second = sandbox.start("sweep", &arguments).unwrap();
    // Read while it trains, since the coordinator ends with the command.
    let after = halfway_or_done(&sandbox, &before, || second.log());
    assert_eq!(second.wait().unwrap().code(), Some(0), "{}", second.log());
    for (run, facts) in &before {
        assert_eq!(after.get(run), Some(facts), "run {run} was trained again");
    }
    let csv = std::fs::read_to_string(sandbox.path("out/observations.csv")).unwrap();
    assert_eq!(csv.lines().filter(|row| row.contains(",finished,")).count(), SMALL_RUNS, "{csv}");
    for (run, (_, seconds)) in &before {
        let row = csv.lines().find(|row| row.contains(run.as_str())).unwrap();
        assert!(row.split(',').any(|cell| cell == seconds.to_string()), "{row}: {seconds}");
    }
}

/// The finished runs as soon as all of `before` are listed again.
fn halfway_or_done(
    sandbox: &Sandbox,
    before: &BTreeMap<String, (u64, f64)>,
    log: impl Fn() -> String,
) -> BTreeMap<String, (u64, f64)> {
    wait_until("the sweep to go on", log, || {
        let Ok(runs) = runs(sandbox) else { return Ok(None) };
        let done = finished(&runs);
        Ok(before.keys().all(|run| done.contains_key(run)).then_some(done))
    })
    .unwrap()
}

#[test]
fn a_killed_worker_and_a_killed_coordinator_cost_no_finished_run() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", slow()).unwrap();
    let mut first = coordinator(&sandbox).unwrap();
    let mut lost = worker(&sandbox, "worker").unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let before = halfway(&sandbox, || lost.log());
    for process in [&mut lost, &mut first] {
        process.signal("KILL").unwrap();
        process.wait().unwrap();
    }
    let second = coordinator(&sandbox).unwrap();
    // What was acknowledged survived the kill.
    let kept = finished(&runs(&sandbox).unwrap());
    for (run, facts) in &before {
        assert_eq!(kept.get(run), Some(facts), "run {run}");
    }
    let worker = worker(&sandbox, "worker").unwrap();
    sandbox.sweep(&["watch"]).unwrap();
    let done = runs(&sandbox).unwrap();
    assert_eq!(
        in_state(&done, "finished"),
        SMALL_RUNS,
        "{done:#?}\n{}\n{}",
        worker.log(),
        second.log()
    );
    let after = finished(&done);
    for (run, facts) in &before {
        assert_eq!(after.get(run), Some(facts), "run {run} was trained again");
    }
}

#[test]
fn a_coordinator_that_stood_still_takes_no_run_from_its_worker() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", slow()).unwrap();
    let coordinator = coordinator(&sandbox).unwrap();
    let worker = worker(&sandbox, "w").unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let log = || format!("{}\n{}", worker.log(), coordinator.log());
    let begun = || Ok((in_state(&runs(&sandbox)?, "running") > 0).then_some(()));
    wait_until("runs to begin", log, begun).unwrap();
    coordinator.signal("STOP").unwrap();
    std::thread::sleep(BEYOND_A_LEASE);
    coordinator.signal("CONT").unwrap();
    sandbox.sweep(&["watch"]).unwrap();
    let done = runs(&sandbox).unwrap();
    assert_eq!(finished(&done).len(), SMALL_RUNS, "{done:#?}\n{}", log());
    let again: Vec<&Value> = done.iter().filter(|run| run["attempts"] != 1).collect();
    assert!(again.is_empty(), "trained again: {again:#?}\n{}", log());
    assert!(coordinator.log().contains("stood still"), "{}", log());
}
