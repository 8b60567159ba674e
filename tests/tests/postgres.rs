//! A sweep on a Postgres server that crashes again and again, against the same sweep on a file.

use std::{thread, time::Duration};

use sweep_tests::{Sandbox, assert_refused};

use crate::services::{
    coordinator, coordinator_on, curves, curves_in_peace, in_state, postgres, runs, slow, worker,
};

#[test]
fn a_sweep_on_a_server_that_crashes_is_the_sweep_on_a_file() {
    let name = "a_sweep_on_a_server_that_crashes_is_the_sweep_on_a_file";
    let Some(server) = postgres(name).unwrap() else { return };
    let address = server.database().unwrap();
    let disturbed = Sandbox::new().unwrap();
    disturbed.write("recipe.toml", slow()).unwrap();
    let mut first = coordinator_on(&disturbed, &address).unwrap();
    let _worker = worker(&disturbed, "worker").unwrap();
    disturbed.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    for crash in 0..4_u64 {
        thread::sleep(Duration::from_millis(900 + 300 * crash));
        server.crash().unwrap();
        thread::sleep(Duration::from_millis(200 * crash));
        server.restart().unwrap();
    }
    // And the coordinator too: what it acknowledged is on the server.
    first.signal("KILL").unwrap();
    first.wait().unwrap();
    let second = coordinator_on(&disturbed, &address).unwrap();
    disturbed.sweep(&["watch"]).unwrap();
    let done = runs(&disturbed).unwrap();
    assert_eq!(in_state(&done, "finished"), done.len(), "{done:#?}\n{}", second.log());
    let checks = disturbed.sweep(&["doctor", "--store", &address]).unwrap();
    assert!(!checks.contains("broken"), "{checks}");

    let expected = curves_in_peace(&slow()).unwrap();
    assert!(curves(&disturbed).unwrap() == expected, "the curves differ");
}

#[test]
fn a_password_in_an_address_is_refused_and_not_shown() {
    let sandbox = Sandbox::new().unwrap();
    let address = "postgres://me:hunter2@127.0.0.1/sweeps";
    for (program, arguments) in [
        ("coordinator", vec!["--listen", "127.0.0.1:0", "--store", address]),
        ("sweep", vec!["doctor", "--store", address]),
    ] {
        let output = sandbox.run(program, &arguments).unwrap();
        let code = output.status.code().unwrap();
        assert_refused(&output, code, &["PGPASSWORD"]);
        assert!([1, 2].contains(&code));
        assert!(!sweep_tests::said(&output).contains("hunter2"));
    }
}

#[test]
fn a_file_is_checked_and_copied_under_a_coordinator() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", slow()).unwrap();
    let _coordinator = coordinator(&sandbox).unwrap();
    let _worker = worker(&sandbox, "worker").unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let store = format!("sqlite:{}", sandbox.path("state/sweep.db").display());
    let copy = sandbox.path("copy.db").display().to_string();
    sandbox.sweep(&["export", "--backup", &copy, "--store", &store]).unwrap();
    let copied = format!("sqlite:{copy}");
    for address in [&store, &copied] {
        let checks = sandbox.sweep_json(&["doctor", "--store", address]).unwrap();
        let checks = checks["checks"].as_array().unwrap();
        assert!(checks.len() > 10 && checks.iter().all(|check| check["sound"] == true));
    }
    let output = sandbox.run("sweep", &["export", "--backup", &copy, "--store", &store]).unwrap();
    assert_refused(&output, 1, &["copy.db"]);
    let nothing = sandbox.run("sweep", &["doctor", "--store", "sqlite:/nowhere/s.db"]).unwrap();
    assert_refused(&nothing, 4, &["/nowhere/s.db"]);
}
