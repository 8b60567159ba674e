//! A worker that is told when its machine is taken away: it leaves before, its runs stop with a
//! checkpoint, and another worker goes on with them.

use sweep_tests::{Sandbox, wait_until};

use crate::services::{coordinator, in_state, runs, slow, worker};

#[test]
fn a_worker_leaves_before_its_machine_does() {
    let sandbox = Sandbox::new().unwrap();
    // The run takes even a fast machine several times as long as the first worker stays.
    let long = slow()
        .replace("{ width = 8, layers = 1 }, { width = 16, layers = 1 }, ", "")
        .replace("[\"60k\", \"120k\", \"240k\"]", "[\"720k\"]");
    sandbox.write("recipe.toml", long).unwrap();
    let coordinator = coordinator(&sandbox).unwrap();
    let state = sandbox.path("short").display().to_string();
    let arguments = ["--state", &state, "--device", "cpu", "--slots", "1", "--lifetime", "8s"];
    let mut short = sandbox.start("worker", &arguments).unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let begun = || Ok((in_state(&runs(&sandbox)?, "running") > 0).then_some(()));
    wait_until("runs to begin", || short.log(), begun).unwrap();
    let status = short.wait().unwrap();
    let log = short.log();
    assert_eq!(status.code(), Some(75), "work was left: {log}");
    assert!(log.contains("draining: its time on this machine ends"), "{log}");
    let stopped = runs(&sandbox).unwrap();
    assert_eq!(in_state(&stopped, "running"), 0, "{stopped:#?}\n{log}");
    assert!(in_state(&stopped, "queued") > 0, "{stopped:#?}\n{log}");

    let other = worker(&sandbox, "other").unwrap();
    sandbox.sweep(&["watch"]).unwrap();
    let done = runs(&sandbox).unwrap();
    let log = format!("{done:#?}\n{}\n{}", other.log(), coordinator.log());
    assert_eq!(in_state(&done, "finished"), done.len(), "{log}");
    assert!(other.log().contains("is fetched"), "{log}");
    let failures = done.iter().filter(|run| !run["reason"].is_null()).count();
    assert_eq!(failures, 0, "leaving is no failure of a run: {log}");
}
