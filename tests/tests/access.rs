//! Who may talk to a coordinator: the right token and the right version, in plain text on this
//! machine and encrypted from others.

use std::{fs, os::unix::fs::PermissionsExt, process::Output};

use serde_json::{Value, json};
use sweep_proto::{access::Access, client::Connection, v1};
use sweep_tests::{Process, Sandbox, assert_refused, free_port, said, wait_until};

use crate::services::{self, SMALL, answers, coordinator, coordinator_arguments};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A worker that gives up soon, so that its refusal can be read.
fn worker(sandbox: &Sandbox) -> Output {
    let state = sandbox.path("worker").display().to_string();
    let cache = sandbox.path("cache").display().to_string();
    let arguments = ["--state", &state, "--cache", &cache, "--device", "cpu", "--slots", "1"];
    sandbox.run("worker", &[&arguments[..], &["--connect-timeout", "3"]].concat()).unwrap()
}

#[test]
fn nobody_listening_is_exit_code_3() {
    let sandbox = Sandbox::new().unwrap();
    // No access file at all.
    let output = sandbox.run("sweep", &["status"]).unwrap();
    assert_refused(&output, 3, &["access.json"]);
    // One that a coordinator left which has ended.
    let address = format!("http://127.0.0.1:{}", free_port().unwrap());
    let access = json!({ "address": address, "token": "0" }).to_string();
    sandbox.write("state/access.json", access).unwrap();
    let output = sandbox.run("sweep", &["status"]).unwrap();
    assert_refused(&output, 3, &[&address]);
    let output = worker(&sandbox);
    assert_refused(&output, 3, &[&address]);
}

#[test]
fn programs_started_in_one_folder_find_each_other() {
    let sandbox = Sandbox::new().unwrap();
    let bare = |name: &str, arguments: &[&str]| {
        let mut command = sandbox.command(name, arguments);
        command.env_remove("SWEEP_ACCESS");
        command
    };
    let listen = ["--listen", "127.0.0.1:0"];
    let mut coordinator =
        sandbox.start_command("coordinator", bare("coordinator", &listen)).unwrap();
    coordinator.wait_for_log("listening on").unwrap();
    let mut worker = sandbox.start_command("worker", bare("worker", &["--device", "cpu"])).unwrap();
    wait_until(
        "the worker to join",
        || worker.log(),
        || {
            let output =
                sandbox.run_command("sweep", bare("sweep", &["status", "--workers", "--json"]))?;
            let status: Value = serde_json::from_slice(&output.stdout)?;
            Ok(status["workers"].as_array().is_some_and(|list| !list.is_empty()).then_some(()))
        },
    )
    .unwrap();
    worker.signal("TERM").unwrap();
    worker.wait().unwrap();
    let mut inside: Vec<_> = fs::read_dir(sandbox.path(".sweep"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.contains("-wal") && !name.contains("-shm"))
        .collect();
    inside.sort();
    let access = ["access.json", "artifacts", "reader-access.json"];
    let rest = ["sweep.db", "sweep.db.lock", "worker", "worker-access.json"];
    assert_eq!(inside, [&access[..], &rest].concat());
}

#[test]
fn the_access_file_is_for_its_owner_and_the_token_opens() {
    let sandbox = Sandbox::new().unwrap();
    let coordinator = coordinator(&sandbox).unwrap();
    let mode = fs::metadata(sandbox.access()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    let access: Value = serde_json::from_slice(&fs::read(sandbox.access()).unwrap()).unwrap();
    let token = access["token"].as_str().unwrap();
    assert!(!coordinator.log().contains(token), "the token stands in the log");

    let wrong = json!({ "address": access["address"], "token": "0".repeat(token.len()) });
    let path = sandbox.write("wrong.json", wrong.to_string()).unwrap().display().to_string();
    let output = sandbox.run("sweep", &["status", "--access", &path]).unwrap();
    assert_refused(&output, 3, &["token"]);
    let mut command = sandbox.command("worker", &["--access", &path, "--device", "cpu"]);
    command.args(["--state", "worker", "--cache", "cache", "--connect-timeout", "3"]);
    let output = sandbox.run_command("worker", command).unwrap();
    assert_refused(&output, 3, &["token"]);
    assert!(!said(&output).contains(token));
}

#[test]
fn a_worker_and_a_reader_have_access_files_of_their_own() {
    let sandbox = Sandbox::new().unwrap();
    let _coordinator = coordinator(&sandbox).unwrap();
    let of = |file: &str| sandbox.access().with_file_name(file).display().to_string();
    let (reader, trainer) = (of("reader-access.json"), of("worker-access.json"));
    sandbox.write("recipe.toml", SMALL).unwrap();
    let output =
        sandbox.run("sweep", &["submit", "recipe.toml", "--yes", "--access", &reader]).unwrap();
    assert_refused(&output, 3, &["reader", "access.json"]);
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let (state, cache) = (sandbox.path("worker"), sandbox.path("cache"));
    let (state, cache) = (state.display().to_string(), cache.display().to_string());
    let arguments = ["--access", &trainer, "--state", &state, "--cache", &cache, "--device", "cpu"];
    let _worker = sandbox.start("worker", &arguments).unwrap();
    sandbox.sweep(&["watch", "--access", &reader]).unwrap();
    let output = sandbox.run("sweep", &["status", "--access", &trainer]).unwrap();
    assert_refused(&output, 3, &["worker", "reader-access.json"]);
}

#[test]
fn another_version_is_refused_and_both_are_named() {
    let sandbox = Sandbox::new().unwrap();
    let _coordinator = coordinator(&sandbox).unwrap();
    let access = Access::read(&sandbox.access()).unwrap();
    runtime().block_on(async {
        let old = Connection::open_as(&access, "0.0.1+r0").await.unwrap();
        let request = v1::JoinRequest { worker_id: "old".into(), ..v1::JoinRequest::default() };
        let answers = [
            old.work().join(request).await.map(|_| ()),
            old.control().get_info(v1::GetInfoRequest {}).await.map(|_| ()),
        ];
        for answer in answers {
            let status = answer.unwrap_err();
            let text = format!("{status:?}");
            assert!(text.contains("FailedPrecondition"), "{text}");
            assert!(status.message().contains("0.0.1+r0"), "{text}");
            assert!(status.message().contains(&sweep_proto::version()), "{text}");
        }
        let current = Connection::open(&access).await.unwrap();
        current.control().get_info(v1::GetInfoRequest {}).await.unwrap();
    });
}

/// A coordinator that listens on every address of this machine, and is told as `localhost`.
fn on_the_network(sandbox: &Sandbox, more: &[&str]) -> Process {
    let arguments = coordinator_arguments(&sandbox.path("state"), "0.0.0.0:0");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let arguments = [&arguments[..], &["--advertise", "localhost"], more].concat();
    let mut process = sandbox.start("coordinator", &arguments).unwrap();
    answers(sandbox, &mut process).unwrap();
    process
}

#[test]
fn other_machines_are_let_in_encrypted_with_the_access_file_as_it_is() {
    let sandbox = Sandbox::new().unwrap();
    let coordinator = on_the_network(&sandbox, &[]);
    let worker = services::worker(&sandbox, "worker").unwrap();
    wait_until(
        "the worker to join",
        || worker.log() + &coordinator.log(),
        || {
            let status = sandbox.sweep_json(&["status", "--workers"])?;
            Ok(status["workers"].as_array().is_some_and(|list| !list.is_empty()).then_some(()))
        },
    )
    .unwrap();

    let access = Access::read(&sandbox.access()).unwrap();
    assert!(access.address.starts_with("https://localhost:"), "{}", access.address);
    let status_by = |access: &Access| {
        let path = sandbox.write("changed.json", access.to_json()).unwrap().display().to_string();
        sandbox.run("sweep", &["status", "--access", &path]).unwrap()
    };
    let nameless = Access { authority: None, ..access.clone() };
    assert_refused(&status_by(&nameless), 3, &["names no authority"]);
    let plain = Access { address: access.address.replace("https", "http"), ..access.clone() };
    assert_refused(&status_by(&plain), 3, &["access file"]);
    // The token never leaves the machine in plain text.
    let open = Access { address: "http://192.0.2.1:7171".to_owned(), ..access };
    assert_refused(&status_by(&open), 3, &["192.0.2.1", "plain text"]);
}

#[test]
fn clients_with_certificates_of_their_own() {
    let sandbox = Sandbox::new().unwrap();
    let state = sandbox.path("state").display().to_string();
    let early = sandbox
        .run("coordinator", &["ca", "client", "lab", "--out", "lab.json", "--state", &state]);
    assert_refused(&early.unwrap(), 1, &["access.json"]);
    let init = sandbox.run("coordinator", &["ca", "init", "--state", &state]).unwrap();
    assert!(init.status.success(), "{}", said(&init));
    let again = sandbox.run("coordinator", &["ca", "init", "--state", &state]).unwrap();
    assert_refused(&again, 1, &["authority.pem"]);

    let _coordinator = on_the_network(&sandbox, &["--client-certificates"]);
    let made = ["ca", "client", "lab", "--out", "lab.json", "--state", &state];
    let made = sandbox.run("coordinator", &made).unwrap();
    assert!(made.status.success(), "{}", said(&made));
    sandbox.sweep(&["status", "--access", "lab.json"]).unwrap();
    let mode = fs::metadata(sandbox.path("lab.json")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");

    let reader = ["ca", "client", "eve", "--role", "reader", "--out", "eve.json"];
    let made = sandbox.run("coordinator", &[&reader[..], &["--state", &state]].concat()).unwrap();
    assert!(made.status.success(), "{}", said(&made));
    sandbox.sweep(&["status", "--access", "eve.json"]).unwrap();
    sandbox.write("recipe.toml", SMALL).unwrap();
    let submit = ["submit", "recipe.toml", "--yes", "--access", "eve.json"];
    assert_refused(&sandbox.run("sweep", &submit).unwrap(), 3, &["reader"]);

    let bare = Access { identity: None, ..Access::read(&sandbox.access()).unwrap() };
    let path = sandbox.write("bare.json", bare.to_json()).unwrap().display().to_string();
    assert_refused(&sandbox.run("sweep", &["status", "--access", &path]).unwrap(), 3, &[]);
}
