//! Terms of sweeps by the real binaries: pause and resume, limits, priorities.

use serde_json::Value;
use sweep_tests::{Process, Sandbox, assert_refused, wait_until};

use crate::services::{SMALL_RUNS, coordinator, in_state, runs, slow, worker};

/// Waits until the runs of the latest sweep are as `wanted`.
fn wait_for(
    sandbox: &Sandbox,
    worker: &Process,
    what: &str,
    wanted: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let look = || {
        let runs = runs(sandbox)?;
        Ok(wanted(&runs).then_some(runs))
    };
    wait_until(what, || worker.log(), look).unwrap()
}

fn all_finished(sandbox: &Sandbox, worker: &Process) {
    sandbox.sweep(&["watch"]).unwrap();
    let done = runs(sandbox).unwrap();
    assert_eq!(in_state(&done, "finished"), SMALL_RUNS, "{done:#?}\n{}", worker.log());
}

#[test]
fn a_paused_sweep_rests_with_checkpoints_and_goes_on_when_it_is_resumed() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", slow()).unwrap();
    let _coordinator = coordinator(&sandbox).unwrap();
    let worker = worker(&sandbox, "worker").unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    wait_for(&sandbox, &worker, "a finished run", |runs| in_state(runs, "finished") > 0);
    sandbox.sweep(&["pause", "last"]).unwrap();
    let resting =
        wait_for(&sandbox, &worker, "the runs to stop", |runs| in_state(runs, "running") == 0);
    let unfinished = resting.iter().find(|run| run["state"] == "queued").expect("a pause in time");
    let id = unfinished["run"].as_str().unwrap();
    let told = sandbox.sweep(&["explain", id]).unwrap();
    assert!(told.contains("paused") && told.contains("sweep resume"), "{told}");
    // Whoever waits for it is told, rather than left waiting.
    let watched = sandbox.run("sweep", &["watch"]).unwrap();
    assert_refused(&watched, 6, &["nothing more is trained", "paused"]);

    sandbox.sweep(&["resume", "last"]).unwrap();
    all_finished(&sandbox, &worker);
    // A stop is no failure, and what had finished is left alone.
    let done = runs(&sandbox).unwrap();
    for run in resting.iter().filter(|run| run["state"] == "finished" || run["attempts"] == 1) {
        let now = done.iter().find(|other| other["run"] == run["run"]).unwrap();
        let more = u64::from(run["state"] != "finished");
        assert_eq!(now["attempts"], 1 + more, "{now:#}");
    }
}

#[test]
fn a_sweep_stops_at_its_limit_of_device_time_and_goes_on_with_another() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", slow()).unwrap();
    let _coordinator = coordinator(&sandbox).unwrap();
    let worker = worker(&sandbox, "worker").unwrap();
    // Under two seconds: less than the nine runs take on any machine.
    sandbox.sweep(&["submit", "recipe.toml", "--yes", "--max-gpu-hours", "0.0005"]).unwrap();
    let watched = sandbox.run("sweep", &["watch"]).unwrap();
    assert_refused(&watched, 6, &["nothing more is trained"]);
    let resting =
        wait_for(&sandbox, &worker, "the runs to stop", |runs| in_state(runs, "running") == 0);
    assert!(in_state(&resting, "queued") > 0, "{resting:#?}");

    sandbox.sweep(&["submit", "recipe.toml", "--yes", "--max-gpu-hours", "1"]).unwrap();
    all_finished(&sandbox, &worker);
}

#[test]
fn a_sweep_beyond_its_limit_of_computation_is_not_submitted() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", slow()).unwrap();
    let _coordinator = coordinator(&sandbox).unwrap();
    let refused =
        sandbox.run("sweep", &["submit", "recipe.toml", "--yes", "--max-flops", "1e6"]).unwrap();
    assert_refused(&refused, 6, &["--max-flops"]);
    let none = sandbox.run("sweep", &["status", "last"]).unwrap();
    assert_eq!(none.status.code(), Some(4), "{}", sweep_tests::said(&none));
}

#[test]
fn a_sweep_of_higher_priority_is_served_first() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("early.toml", slow().replace("\"slow\"", "\"early\"")).unwrap();
    // Other runs: equal ones would belong to both.
    let urgent = slow().replace("\"slow\"", "\"urgent\"").replace("0.01", "0.011");
    sandbox.write("urgent.toml", urgent).unwrap();
    let _coordinator = coordinator(&sandbox).unwrap();
    sandbox.sweep(&["submit", "early.toml", "--yes"]).unwrap();
    sandbox.sweep(&["submit", "urgent.toml", "--yes", "--priority", "3"]).unwrap();
    let worker = worker(&sandbox, "worker").unwrap();
    // Nobody of the early one may begin while one of the urgent ones waits.
    wait_for(&sandbox, &worker, "the urgent sweep to be served", |urgent| {
        let waits = in_state(urgent, "queued") > 0;
        let early = sandbox.sweep_json(&["status", "early"]).unwrap();
        let early = early["runs"].as_array().unwrap();
        // Asked in this order: what was waiting then is a bound for what has begun since.
        assert!(!waits || in_state(early, "queued") >= SMALL_RUNS - 2, "{early:#?}");
        !waits
    });
}
