//! What an operator does with single runs and with workers: cancel, retry, pause, resume, drain.

use serde_json::Value;
use sweep_tests::{Sandbox, assert_refused, said, wait_until};

use crate::services::{SMALL_RUNS, coordinator, in_state, runs, slow, worker};

/// Waits until the runs of the latest sweep are as asked for; gives them.
fn wait_for(sandbox: &Sandbox, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let last = || format!("{:#?}", runs(sandbox).ok());
    wait_until(what, last, || Ok(Some(runs(sandbox)?).filter(|runs| holds(runs)))).unwrap()
}

/// Places of the runs that are paused by themselves.
fn paused(runs: &[Value]) -> Vec<u64> {
    let paused = runs.iter().filter(|run| run["paused"] == true);
    paused.map(|run| run["place"].as_u64().unwrap()).collect()
}

fn cost(run: &Value) -> f64 {
    run["C"].as_f64().unwrap()
}

/// The code that a command ends with.
fn code(sandbox: &Sandbox, arguments: &[&str]) -> Option<i32> {
    sandbox.run("sweep", arguments).unwrap().status.code()
}

#[test]
fn runs_are_cancelled_retried_paused_and_resumed_one_by_one() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", slow()).unwrap();
    let mut serving = coordinator(&sandbox).unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();

    // Nothing is trained yet: what is given up is so at once.
    let cancelled = sandbox.sweep_json(&["cancel", "last", "1-2,3"]).unwrap();
    assert_eq!(cancelled["runs_cancelled"], 3, "{cancelled}");
    assert_eq!(code(&sandbox, &["cancel", "last", "1-3"]), Some(4), "they are given up already");
    let outside = sandbox.run("sweep", &["cancel", "last", "8-12"]).unwrap();
    assert_refused(&outside, 4, &["no run 12", "9 runs"]);
    let backwards = sandbox.run("sweep", &["pause", "last", "3-1"]).unwrap();
    assert_refused(&backwards, 2, &["`3-1` is no range of places"]);
    let unknown = sandbox.run("sweep", &["retry", "last", "--run", "00000000"]).unwrap();
    assert_refused(&unknown, 4, &["00000000"]);
    let id = runs(&sandbox).unwrap()[0]["run"].as_str().unwrap().to_owned();
    sandbox.sweep(&["retry", "last", "--run", &id[..12]]).unwrap();
    let retried = sandbox.sweep_json(&["retry", "last", "--state", "cancelled"]).unwrap();
    assert_eq!(retried["runs_queued"], 2, "{retried}");
    assert_eq!(code(&sandbox, &["retry", "last", "all"]), Some(4), "nothing is left to retry");

    // A pause outlives the coordinator.
    let held = sandbox.sweep_json(&["pause", "last", "1,3-9"]).unwrap();
    assert_eq!((&held["runs_changed"], &held["runs_stopping"]), (&8.into(), &0.into()), "{held}");
    assert_eq!(code(&sandbox, &["pause", "last", "3"]), Some(4), "it is paused already");
    serving.signal("KILL").unwrap();
    serving.wait().unwrap();
    let _serving = coordinator(&sandbox).unwrap();
    assert_eq!(paused(&runs(&sandbox).unwrap()), [1, 3, 4, 5, 6, 7, 8, 9]);
    let why = sandbox.sweep(&["explain", &id]).unwrap();
    assert!(why.contains("paused by itself") && why.contains("sweep resume"), "{why}");
    let list = sandbox.sweep(&["status", "last"]).unwrap();
    assert_eq!(list.matches("queued, paused").count(), 8, "{list}");

    let _worker = worker(&sandbox, "worker").unwrap();
    let done = wait_for(&sandbox, "the one that goes on", |all| in_state(all, "finished") == 1);
    assert_eq!(done[1]["state"], "finished", "{done:#?}");
    assert_eq!(in_state(&done, "queued"), SMALL_RUNS - 1, "{done:#?}");
    let watched = sandbox.run("sweep", &["watch", "last"]).unwrap();
    assert_eq!(watched.status.code(), Some(6), "{}", said(&watched));
    let whole = sandbox.run("sweep", &["resume", "last"]).unwrap();
    assert!(said(&whole).contains("8 runs stay paused by themselves"), "{}", said(&whole));

    // One that is trained stops with a checkpoint, and goes on from it.
    let largest = done.iter().max_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap();
    let place = largest["place"].to_string();
    let at = usize::try_from(largest["place"].as_u64().unwrap()).unwrap() - 1;
    sandbox.sweep(&["resume", "last", &place]).unwrap();
    wait_for(&sandbox, "it to train", |all| all[at]["state"] == "running");
    sandbox.sweep(&["pause", "last", "--state", "running"]).unwrap();
    let stopped = wait_for(&sandbox, "it to stop", |all| all[at]["state"] == "queued");
    assert_eq!((&stopped[at]["attempts"], &stopped[at]["paused"]), (&1.into(), &true.into()));
    sandbox.sweep(&["resume", "last", "--run", largest["run"].as_str().unwrap()]).unwrap();
    let ended = wait_for(&sandbox, "it to finish", |all| all[at]["state"] == "finished");
    assert_eq!(ended[at]["attempts"], 2, "{ended:#?}");
    assert_eq!(in_state(&ended, "queued"), SMALL_RUNS - 2, "{ended:#?}");
}

#[test]
fn a_worker_that_is_drained_leaves_its_runs_to_others() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", slow()).unwrap();
    let _serving = coordinator(&sandbox).unwrap();
    let nobody = sandbox.run("sweep", &["drain", "nobody"]).unwrap();
    assert_refused(&nobody, 4, &["no worker `nobody` is online"]);
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let mut first = worker(&sandbox, "first").unwrap();
    wait_for(&sandbox, "two runs to train", |all| in_state(all, "running") == 2);
    let id = sandbox.sweep(&["status", "--workers", "--quiet"]).unwrap();
    let drained = sandbox.sweep_json(&["drain", &id.trim()[..6], "--wait"]).unwrap();
    assert_eq!(drained["worker"], id.trim(), "{drained}");
    assert_eq!(drained["runs_stopping"].as_array().unwrap().len(), 2, "{drained}");
    assert_eq!((&drained["left"], &drained["was_draining"]), (&true.into(), &false.into()));
    let left = runs(&sandbox).unwrap();
    assert_eq!(in_state(&left, "running"), 0, "{left:#?}");
    assert_eq!(first.wait().unwrap().code(), Some(75), "{}", first.log());
    let gone = sandbox.run("sweep", &["drain", id.trim()]).unwrap();
    assert_refused(&gone, 4, &["is online", "--workers"]);

    let audit = sandbox.sweep_json(&["audit", "--last", "2"]).unwrap();
    let entries = audit["entries"].as_array().unwrap();
    assert_eq!((&entries[0]["call"], &entries[1]["call"]), (&"drain".into(), &"drain".into()));
    assert!(entries[0]["outcome"].as_str().unwrap().contains("is online"), "{audit}");

    let _second = worker(&sandbox, "second").unwrap();
    let again = |all: &[Value]| all.iter().any(|run| run["attempts"] == 2);
    wait_for(&sandbox, "what was stopped to go on", again);
    sandbox.sweep(&["cancel", "last"]).unwrap();
}
