//! Text of trained runs: by the tokenizer of their data, from a worker's disk and from what the
//! coordinator keeps.

use std::{fs, path::PathBuf};

use serde_json::json;
use sweep_tests::{Sandbox, assert_refused, files_with, wait_until};

use crate::services::{SMALL, coordinator, runs, worker};

/// One run on pairs of bytes.
fn paired() -> String {
    SMALL
        .replace("\"small\"", "\"paired\"")
        .replace("held_out = 0.2", "held_out = 0.2\ntokenizer = { bpe = 300 }")
        .replace(
            "[{ width = 8, layers = 1 }, { width = 16, layers = 1 }, { width = 24, layers = 2 }]",
            "[{ width = 16, layers = 1 }]",
        )
        .replace("[\"7k\", \"14k\", \"28k\"]", "[\"14k\"]")
}

/// A run that nobody trains, of images.
const IMAGES: &str = r#"name = "images"

[data]
source = "glyphs"
side = 8
channels = 1
images = 400
deviation = 8.0

[model]
family = "diffusion"
patch = 4
head_width = 8

[training]
batch = 4
learning_rate = 0.01

[grid]
sizes = [{ width = 16, layers = 1 }]
tokens = ["400"]
"#;

fn only_run(sandbox: &Sandbox) -> String {
    runs(sandbox).unwrap()[0]["run"].as_str().unwrap().to_owned()
}

/// The tokenizer that the cache of a sandbox holds.
fn tokenizer(sandbox: &Sandbox) -> PathBuf {
    let kept = files_with(&sandbox.path("cache/data"), "json").unwrap();
    kept.into_iter().find(|path| path.ends_with("bpe.json")).unwrap()
}

#[test]
fn a_run_writes_the_same_text_wherever_its_checkpoint_lies() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", paired()).unwrap();
    let coordinator = coordinator(&sandbox).unwrap();
    let mut worker = worker(&sandbox, "worker").unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    sandbox.sweep(&["watch"]).unwrap();
    let run = only_run(&sandbox);
    let draw = ["--prompt", "the ", "--tokens", "20", "--seed", "3", "--count", "2"];
    let here = ["sample", &run, "--checkpoints", "worker/checkpoints"];
    let written = sandbox.sweep_json(&[&here[..], &draw].concat()).unwrap();
    assert_eq!(written["texts"].as_array().unwrap().len(), 2, "{written}");
    assert_eq!(written["step"], written["steps"], "{written}");
    assert!(written["tokens_per_second"].as_f64().unwrap() > 0.0, "{written}");

    // Its worker is gone, and with it the folder: the coordinator has the checkpoint.
    let kept = || {
        let newest = sandbox.sweep_json(&["sample", &run]).ok();
        Ok(newest.filter(|text| text["step"] == written["steps"]))
    };
    wait_until("the checkpoint to be kept", || coordinator.log(), kept).unwrap();
    let told = sandbox.sweep_json(&["logs", &run]).unwrap();
    let events = told["events"].as_array().unwrap();
    let (first, last) = (&events[0], events.last().unwrap());
    assert_eq!((&first["event"], &first["attempt"]), (&json!("granted"), &json!(1)), "{told}");
    assert!(first["facts"]["device"] == "cpu" && last["facts"]["outcome"] == "finished", "{told}");
    assert!(events.iter().any(|event| event["facts"]["kept"] == true), "{told}");
    let lines = sandbox.sweep(&["logs", &run]).unwrap();
    assert!(lines.contains("attempt 1  granted to") && lines.contains("kept by"), "{lines}");
    worker.signal("TERM").unwrap();
    worker.wait().unwrap();
    fs::remove_dir_all(sandbox.path("worker")).unwrap();
    fs::remove_dir_all(sandbox.path("cache/checkpoints")).unwrap();
    let anywhere = [&["sample", &run][..], &draw].concat();
    let fetched = sandbox.sweep_json(&anywhere).unwrap();
    assert_eq!(fetched["texts"], written["texts"]);

    // A machine without the data does not know the tokenizer, until it is named.
    let file = tokenizer(&sandbox).display().to_string();
    let elsewhere = |more: &[&str]| {
        let mut command = sandbox.command("sweep", &[&anywhere[..], more].concat());
        command.env("SWEEP_CACHE", sandbox.path("other"));
        sandbox.run_command("sweep", command).unwrap()
    };
    assert_refused(&elsewhere(&[]), 4, &["tokenizer", "--tokenizer FILE"]);
    let named = elsewhere(&["--tokenizer", &file, "--json"]);
    let named: serde_json::Value = serde_json::from_slice(&named.stdout).unwrap();
    assert_eq!(named["texts"], written["texts"]);

    // A report shows what it wrote. One run makes no law, which the exit code says.
    let report = sandbox.run("sweep", &["report", "last", "--out", "report"]).unwrap();
    assert_eq!(report.status.code(), Some(5));
    let page = fs::read_to_string(sandbox.path("report/report.html")).unwrap();
    assert!(page.contains("bytes from the beginning of a document"));

    // What was fetched is not fetched again; a damaged copy is.
    let weights = files_with(&sandbox.path("cache/checkpoints"), "safetensors").unwrap();
    fs::write(&weights[0], "damaged").unwrap();
    assert_eq!(sandbox.sweep_json(&anywhere).unwrap()["texts"], written["texts"]);
    fs::remove_dir_all(sandbox.path("state/artifacts")).unwrap();
    assert_eq!(sandbox.sweep_json(&anywhere).unwrap()["texts"], written["texts"]);
}

#[test]
fn a_run_that_cannot_write_says_why() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", SMALL).unwrap();
    sandbox.write("images.toml", IMAGES).unwrap();
    let _coordinator = coordinator(&sandbox).unwrap();
    let refused = |arguments: &[&str], code, parts: &[&str]| {
        let output = sandbox.run("sweep", &[&["sample"], arguments].concat()).unwrap();
        assert_refused(&output, code, parts);
    };
    refused(&["0123abcd"], 4, &["0123abcd"]);
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    refused(&[&only_run(&sandbox)], 4, &["keeps no checkpoint"]);
    sandbox.sweep(&["submit", "images.toml", "--yes"]).unwrap();
    refused(&[&only_run(&sandbox)], 2, &["no language model"]);
    sandbox.sweep(&["cancel", "last"]).unwrap();

    let _worker = worker(&sandbox, "worker").unwrap();
    sandbox.sweep(&["watch", "small"]).unwrap();
    let status = sandbox.sweep_json(&["status", "small"]).unwrap();
    let run = status["runs"][0]["run"].as_str().unwrap();
    let here = [run, "--checkpoints", "worker/checkpoints"];
    let long = "a prompt of more than sixteen bytes";
    refused(&[&here[..], &["--prompt", long]].concat(), 2, &["1 to 16", "shorten it"]);
    refused(&[&here[..], &["--top-p", "2"]].concat(), 2, &["--top-p"]);
}
