//! Recipes with faults: exit code 2, the place, the value, the cure, and nothing started.

use sweep_tests::{Sandbox, assert_refused, said};

use crate::services::SMALL;

/// Plans [`SMALL`] with `from` replaced by `to`; the result must be refused with `parts`.
fn refused(from: &str, to: &str, parts: &[&str]) {
    let sandbox = Sandbox::new().unwrap();
    assert!(SMALL.contains(from), "{from}");
    sandbox.write("recipe.toml", SMALL.replacen(from, to, 1)).unwrap();
    // `run` must refuse as `plan` does, before it makes a folder.
    for command in ["plan", "run"] {
        let output = sandbox.run("sweep", &[command, "recipe.toml"]).unwrap();
        assert_refused(&output, 2, &[&["recipe.toml"], parts].concat());
        assert!(!sandbox.path("sweep-out").exists(), "{}", said(&output));
    }
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    refused("learning_rate =", "lerning_rate =", &["lerning_rate", "learning_rate"]);
}

#[test]
fn a_wrong_type_is_named() {
    refused("batch = 4", "batch = \"four\"", &["training.batch"]);
}

#[test]
fn a_number_with_an_unknown_suffix_is_named() {
    refused("\"7k\"", "\"12q\"", &["`12q`", "grid.tokens[0]"]);
}

#[test]
fn an_empty_grid_is_refused() {
    refused("[\"7k\", \"14k\", \"28k\"]", "[]", &["grid.tokens"]);
}

#[test]
fn a_size_below_the_shape_rule_is_refused() {
    refused("{ width = 8, layers = 1 }", "\"100\"", &["100"]);
}

#[test]
fn a_missing_recipe_is_named() {
    let sandbox = Sandbox::new().unwrap();
    let output = sandbox.run("sweep", &["plan", "nowhere.toml"]).unwrap();
    assert_refused(&output, 2, &["nowhere.toml"]);
}

#[test]
fn a_recipe_that_is_no_text_is_refused() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", b"\xff\xfe").unwrap();
    let output = sandbox.run("sweep", &["plan", "recipe.toml"]).unwrap();
    assert_refused(&output, 2, &["recipe.toml"]);
}

#[test]
fn an_output_folder_that_cannot_be_made_is_named() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", SMALL).unwrap();
    // Root passes every permission, but nobody makes a folder under a file.
    let output = sandbox.run("sweep", &["run", "recipe.toml", "--out", "recipe.toml/out"]).unwrap();
    assert_refused(&output, 2, &["recipe.toml/out"]);
}
