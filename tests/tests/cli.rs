//! The command line as scripts and newcomers meet it.

use std::{collections::BTreeSet, fs, process::Stdio};

use sweep_tests::{Sandbox, assert_refused, binary, files_with, repository, said};

use crate::services::SMALL;

/// Commands in the README's shell blocks, as words; comments are left out.
fn documented() -> Vec<Vec<String>> {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let mut commands = Vec::new();
    for block in readme.split("```sh\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            let bare = line.split(" #").next().unwrap().trim().trim_end_matches('&');
            commands.push(bare.split_whitespace().map(str::to_owned).collect());
        }
    }
    commands
}

/// What a command says of itself.
fn help_of(sandbox: &Sandbox, program: &str, path: &[String]) -> String {
    let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = sandbox.run(program, &arguments).unwrap();
    assert!(help.status.success(), "{program} {path:?}: {}", said(&help));
    String::from_utf8(help.stdout).unwrap()
}

/// Whether a command has this one below it.
fn has_command(help: &str, word: &str) -> bool {
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default().split("\n\n").next();
    listed.unwrap_or_default().lines().any(|line| line.split_whitespace().next() == Some(word))
}

#[test]
fn commands_of_the_readme_exist_with_their_options() {
    let sandbox = Sandbox::new().unwrap();
    let mut seen = BTreeSet::new();
    for words in documented() {
        let (program, mut rest) = match words[0].as_str() {
            // An example of another package is not the command.
            "cargo" if words.iter().any(|word| word == "-p") => continue,
            "cargo" => {
                let at = words.iter().position(|word| word == "--").unwrap();
                ("sweep", words[at + 1..].to_vec())
            }
            program @ ("sweep" | "coordinator" | "worker") => (program, words[1..].to_vec()),
            "tests/run" => {
                assert!(repository().join("tests/run").is_file());
                continue;
            }
            _ => continue,
        };
        let mut path: Vec<String> = Vec::new();
        let mut help = help_of(&sandbox, program, &path);
        while rest.first().is_some_and(|word| has_command(&help, word)) {
            path.push(rest.remove(0));
            help = help_of(&sandbox, program, &path);
        }
        seen.insert([vec![program.to_owned()], path].concat().join(" "));
        for word in rest {
            let known = !word.starts_with("--") || help.contains(&word);
            assert!(known, "{words:?}: no {word} in\n{help}");
            let exists = !word.ends_with(".toml") || repository().join(&word).is_file();
            assert!(exists, "{words:?}: {word} is missing");
        }
    }
    for needed in [
        "sweep run",
        "sweep submit",
        "sweep status",
        "sweep watch",
        "sweep fit",
        "sweep report",
        "coordinator",
        "worker",
        "worker bench",
    ] {
        assert!(seen.contains(needed), "the README shows no `{needed}`: {seen:?}");
    }
}

#[test]
fn one_binary_holds_both_services() {
    let sandbox = Sandbox::new().unwrap();
    for service in ["coordinator", "worker"] {
        let inside = sandbox.run("sweep", &[service, "--help"]).unwrap();
        let alone = sandbox.run(service, &["--help"]).unwrap();
        assert!(inside.status.success() && alone.status.success(), "{}", said(&inside));
        let options = |text: &[u8]| -> BTreeSet<String> {
            let text = String::from_utf8_lossy(text).into_owned();
            let words = text.split_whitespace().filter(|word| word.starts_with("--"));
            words
                .map(|word| {
                    word.trim_matches(|c: char| c != '-' && !c.is_alphanumeric()).to_owned()
                })
                .collect()
        };
        let (inside, alone) = (options(&inside.stdout), options(&alone.stdout));
        assert!(alone.is_subset(&inside), "sweep {service}: {inside:?}, {service}: {alone:?}");
    }
}

#[test]
fn the_exit_codes_of_the_readme_are_those_of_the_code() {
    let table = |path: &str, prefix: &str| -> Vec<String> {
        let text = fs::read_to_string(repository().join(path)).unwrap();
        text.lines()
            .filter_map(|line| line.strip_prefix(prefix))
            .filter(|row| row.split(" | ").next().is_some_and(|cell| cell.parse::<u8>().is_ok()))
            .map(|row| row.trim_end_matches('|').trim().to_owned())
            .collect()
    };
    let readme = table("README.md", "| ");
    assert_eq!(readme.len(), 9);
    assert_eq!(readme, table("sweeps/src/exit.rs", "//! | "));
}

#[test]
fn the_schema_in_the_repository_is_the_printed_one() {
    let sandbox = Sandbox::new().unwrap();
    let printed = sandbox.sweep(&["schema"]).unwrap();
    let kept = fs::read_to_string(repository().join("sweeps/schema/recipe.schema.json")).unwrap();
    let at = printed.lines().zip(kept.lines()).find(|(printed, kept)| printed != kept);
    let same = printed.trim_end() == kept.trim_end();
    assert!(same, "they differ at {at:?}; hint: sweep schema > sweeps/schema/recipe.schema.json");
}

#[test]
fn a_plan_is_json_for_scripts_and_changes_nothing() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", SMALL).unwrap();
    let before: Vec<_> =
        fs::read_dir(sandbox.path(".")).unwrap().map(|e| e.unwrap().path()).collect();
    let plan = sandbox.sweep_json(&["plan", "recipe.toml"]).unwrap();
    assert_eq!(plan["runs"].as_array().unwrap().len(), 9);
    assert_eq!(plan["schema"], "sweep.plan/2");
    assert!(plan["storage"]["checkpoint_bytes"].as_u64().unwrap() > 0, "{plan}");
    let table = sandbox.sweep(&["plan", "recipe.toml"]).unwrap();
    assert!(table.contains("total"), "{table}");
    let ids = sandbox.sweep(&["plan", "recipe.toml", "--quiet"]).unwrap();
    assert_eq!(ids.lines().collect::<BTreeSet<_>>().len(), 9, "{ids}");
    let mut after: Vec<_> =
        fs::read_dir(sandbox.path(".")).unwrap().map(|e| e.unwrap().path()).collect();
    // What was read is kept in the cache, which may be removed at any time.
    after.retain(|path| !path.ends_with("cache"));
    assert_eq!(after.len(), before.len(), "{after:?}");
}

#[test]
fn recipes_of_the_repository_are_valid() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.sweep(&["init", "starter.toml"]).unwrap();
    let again = sandbox.run("sweep", &["init", "starter.toml"]).unwrap();
    assert_refused(&again, 2, &["starter.toml"]);
    let mut recipes = 0;
    for path in files_with(&repository().join("sweeps/recipes"), "toml").unwrap() {
        // The sources that Cargo unpacked lie under the real home folder.
        let mut command = sandbox.command("sweep", &["plan", &path.display().to_string()]);
        if let Some(home) = std::env::var_os("HOME") {
            command.env("HOME", home);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), said(&output));
        recipes += 1;
    }
    assert!(recipes > 0, "no recipe in sweeps/recipes");
}

#[test]
fn a_calibrated_plan_is_made_of_steps_that_were_trained() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", SMALL).unwrap();
    let basis = |arguments: &[&str]| {
        let plan = sandbox.sweep_json(&[&["plan", "recipe.toml"], arguments].concat()).unwrap();
        plan["devices"][0]["basis"].clone()
    };
    assert_ne!(basis(&[]), "measured");
    assert_eq!(basis(&["--calibrate"]), "measured");
    assert_eq!(basis(&[]), "measured", "it is kept for the next plan");
    let output = sandbox.run("sweep", &["plan", "recipe.toml", "--device", "Voodoo 2"]).unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("speed unknown") && table.contains("hint:"), "{table}");
    let both = ["plan", "recipe.toml", "--calibrate", "--device", "Voodoo 2"];
    assert_eq!(sandbox.run("sweep", &both).unwrap().status.code(), Some(2));
}

/// So everyone who builds this program has the same corpus.
#[test]
fn recipes_on_rust_sources_name_the_versions_of_the_lock_file() {
    let lock: toml::Table =
        fs::read_to_string(repository().join("Cargo.lock")).unwrap().parse().unwrap();
    let locked: BTreeSet<String> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let text = |key: &str| package[key].as_str().unwrap().to_owned();
            format!("{}-{}", text("name"), text("version"))
        })
        .collect();
    for path in files_with(&repository().join("sweeps/recipes"), "toml").unwrap() {
        let text = fs::read_to_string(&path).unwrap();
        for part in text.split("/registry/src/*/").skip(1) {
            let package = part.split('/').next().unwrap();
            let known = package.contains('*') || locked.contains(package);
            assert!(known, "{}: {package} is not in Cargo.lock", path.display());
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let sandbox = Sandbox::new().unwrap();
    let mut child = sandbox
        .command("sweep", &["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn usage_that_is_wrong_is_exit_code_2() {
    let sandbox = Sandbox::new().unwrap();
    for arguments in
        [&["fly"][..], &["plan"], &["plan", "a.toml", "--fast"], &["status", "--token", "x"]]
    {
        let output = sandbox.run("sweep", arguments).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{}", said(&output));
    }
}

#[test]
fn whatever_is_refused_ends_in_a_hint() {
    let sandbox = Sandbox::new().unwrap();
    let no_coordinator: &[&[&str]] = &[
        &["status"],
        &["status", "last"],
        &["watch"],
        &["explain", "0123abcd"],
        &["cancel", "last"],
        &["retry", "last"],
        &["pause", "last"],
        &["resume", "last"],
        &["fit", "last"],
        &["curves", "last"],
        &["emergence", "last"],
        &["plot", "calibration", "last"],
        &["report", "last"],
        &["export", "last"],
    ];
    for arguments in no_coordinator {
        assert_refused(&sandbox.run("sweep", arguments).unwrap(), 3, &["error: ", "access.json"]);
    }
    let other: &[(&[&str], i32)] = &[
        (&["plan", "no.toml"], 2),
        (&["run", "no.toml"], 2),
        (&["submit", "no.toml"], 2),
        (&["fit", "--input", "no.csv"], 2),
        (&["fit", "last", "--db", "no.db"], 2),
        (&["sample", "0123abcd"], 4),
        (&["query", "select 1"], 4),
        (&["query", "select 1", "--store", "no.db"], 2),
        (&["doctor", "--store", "sqlite:no.db"], 4),
        (&["export", "--backup", "copy.db"], 4),
        (&["render", "slurm", "--access", "a.json"], 2),
        (&["render", "kubernetes", "--image", ""], 2),
    ];
    for (arguments, code) in other {
        assert_refused(&sandbox.run("sweep", arguments).unwrap(), *code, &["error: "]);
    }
}

#[test]
fn every_binary_tells_its_version() {
    let sandbox = Sandbox::new().unwrap();
    for name in ["sweep", "coordinator", "worker"] {
        let output = sandbox.run(name, &["--version"]).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains(env!("CARGO_PKG_VERSION")), "{}", binary(name).display());
    }
}
