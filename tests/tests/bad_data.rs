//! Data with faults, through the command: exit code 2, and the glob, file and line.

use sweep_tests::{Sandbox, assert_refused};

use crate::services::SMALL;

fn refused(sandbox: &Sandbox, glob: &str, parts: &[&str]) {
    sandbox.write("recipe.toml", SMALL.replace("texts/*.txt", glob)).unwrap();
    let output = sandbox.run("sweep", &["plan", "recipe.toml"]).unwrap();
    assert_refused(&output, 2, &[&["recipe.toml"], parts].concat());
}

#[test]
fn a_glob_that_matches_nothing_is_named_as_written_and_expanded() {
    let sandbox = Sandbox::new().unwrap();
    let home = sandbox.path("home").display().to_string();
    refused(&sandbox, "~/none/*.txt", &["`~/none/*.txt` matches no file", &home]);
    refused(&sandbox, "none/*.txt", &["none/*.txt` matches no file"]);
    refused(&sandbox, "$NOT_SET_ANYWHERE/*.txt", &["`NOT_SET_ANYWHERE` is not set"]);
}

#[test]
fn json_lines_are_utf8_with_a_text_field() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("lines/a.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}\n").unwrap();
    refused(&sandbox, "lines/*.jsonl", &["a.jsonl", "not UTF-8 in line 2"]);
    sandbox.write("lines/a.jsonl", "{\"text\":\"a\"}\n\n{\"body\":\"b\"}\n").unwrap();
    refused(&sandbox, "lines/*.jsonl", &["a.jsonl:3", "no field `text`"]);
    sandbox.write("lines/a.jsonl", "{\"text\":").unwrap();
    refused(&sandbox, "lines/*.jsonl", &["a.jsonl:1"]);
}

#[test]
fn bytes_need_not_be_utf8() {
    let sandbox = Sandbox::new().unwrap();
    for i in 0..20_u8 {
        let bytes: Vec<u8> =
            (0..4000_u32).map(|j| (j * 31 + u32::from(i) * 7) as u8 | 0x80).collect();
        sandbox.write(&format!("blobs/{i}.bin"), bytes).unwrap();
    }
    sandbox.write("recipe.toml", SMALL.replace("texts/*.txt", "blobs/*.bin")).unwrap();
    sandbox.sweep(&["plan", "recipe.toml"]).unwrap();
}

#[test]
fn a_corpus_below_one_batch_is_refused() {
    let sandbox = Sandbox::new().unwrap();
    for i in 0..8 {
        sandbox.write(&format!("tiny/{i}.txt"), format!("{i}")).unwrap();
    }
    refused(&sandbox, "tiny/*.txt", &["14 training tokens", "batch"]);
}

#[test]
fn one_document_cannot_be_split() {
    let sandbox = Sandbox::new().unwrap();
    refused(&sandbox, "texts/1.txt", &["1 document(s) cannot be split"]);
}

#[test]
fn more_tokens_than_the_corpus_has_are_allowed_with_a_warning() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", SMALL.replace("\"28k\"", "\"2M\"")).unwrap();
    let output = sandbox.run("sweep", &["plan", "recipe.toml"]).unwrap();
    assert!(output.status.success());
    let all = sweep_tests::said(&output);
    assert!(all.contains("repeated-data") && all.contains("epochs"), "{all}");
    let plan = sandbox.sweep_json(&["plan", "recipe.toml"]).unwrap();
    let warnings = plan["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning["code"] == "repeated-data"), "{warnings:?}");
}
