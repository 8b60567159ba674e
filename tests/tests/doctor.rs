//! The doctor: what is sound, what is odd, what is broken, and what to do.

use serde_json::Value;
use sweep_tests::{Sandbox, said, wait_until};

use crate::services::{coordinator, worker};

/// The lines of one check.
fn lines<'a>(found: &'a Value, check: &str) -> Vec<&'a Value> {
    let lines = found["lines"].as_array().unwrap();
    lines.iter().filter(|line| line["check"] == check).collect()
}

#[test]
fn a_sound_place_passes_and_a_broken_one_is_exit_code_1() {
    let sandbox = Sandbox::new().unwrap();
    let bare = sandbox.sweep_json(&["doctor"]).unwrap();
    assert_eq!(lines(&bare, "access")[0]["status"], "warn", "{bare}");
    assert!(lines(&bare, "coordinator").is_empty(), "{bare}");
    assert_eq!(lines(&bare, "store")[0]["status"], "warn", "{bare}");
    assert!(!lines(&bare, "device").is_empty(), "{bare}");

    let mut coordinator = coordinator(&sandbox).unwrap();
    let mut worker = worker(&sandbox, "worker").unwrap();
    let joined = || {
        let status = sandbox.sweep_json(&["status", "--workers"])?;
        Ok((status["workers"][0]["state"] == "online").then_some(()))
    };
    wait_until("the worker to join", || worker.log(), joined).unwrap();
    let found = sandbox.sweep_json(&["doctor"]).unwrap();
    for check in ["access", "coordinator", "clock", "worker"] {
        assert_eq!(lines(&found, check)[0]["status"], "ok", "{check}: {found:#}");
    }
    let told = lines(&found, "coordinator")[0]["found"].as_str().unwrap();
    assert!(told.contains("schema") && told.contains("sqlite:"), "{told}");

    // Its own store, and that one alone.
    let store = format!("sqlite:{}", sandbox.path("state/sweep.db").display());
    let rules = sandbox.sweep_json(&["doctor", "--store", &store]).unwrap();
    assert!(rules["lines"].as_array().unwrap().is_empty(), "{rules}");
    assert!(rules["checks"].as_array().unwrap().iter().all(|rule| rule["sound"] == true));

    worker.signal("TERM").unwrap();
    worker.wait().unwrap();
    coordinator.signal("KILL").unwrap();
    coordinator.wait().unwrap();
    let output = sandbox.run("sweep", &["doctor"]).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("fail  coordinator") && table.contains("hint:"), "{table}");
    assert!(!table.contains("token\":"), "{table}");
}
