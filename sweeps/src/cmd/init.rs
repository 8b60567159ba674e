//! `sweep init`: a starter recipe with every key and what it means.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
};

use crate::{
    console::Console,
    exit::{Exit, Failure},
    outputs::json,
};

/// The JSON Schema beside the recipe, which its first line names for editors.
const SCHEMA: &str = "sweep.schema.json";

/// The starter recipe.
const STARTER: &str = include_str!("starter.toml");

/// Arguments of `sweep init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write it; an existing file is left alone
    #[arg(default_value = "recipe.toml")]
    recipe: PathBuf,
}

/// Writes the recipe.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let path = args.recipe.display();
    let opened = OpenOptions::new().write(true).create_new(true).open(&args.recipe);
    let written = opened.and_then(|mut file| file.write_all(STARTER.as_bytes()));
    if let Err(error) = written {
        let hint = if error.kind() == io::ErrorKind::AlreadyExists {
            "hint: give another name, an existing recipe is never overwritten"
        } else {
            "hint: choose a folder that you may write to"
        };
        return Err(Failure::message(
            Exit::Usage,
            format!("cannot write `{path}`: {error}; {hint}"),
        ));
    }
    let schema = args.recipe.with_file_name(SCHEMA);
    let written = fs::write(&schema, json(&sweep_spec::recipe::json_schema())?);
    written.map_err(|error| {
        let (shown, hint) = (schema.display(), "hint: choose a folder that you may write to");
        Failure::message(Exit::Usage, format!("cannot write `{shown}`: {error}; {hint}"))
    })?;
    console.say(format_args!("wrote {path}; next: sweep plan {path}, then sweep run {path}"))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_starter_is_a_valid_recipe() {
        sweep_spec::recipe::Recipe::parse("starter.toml", STARTER).expect("valid");
        assert!(STARTER.starts_with(&format!("#:schema {SCHEMA}\n")));
    }

    /// Names of the keys that a schema or a part of it has, without the choices of a value.
    fn keys(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
        match schema {
            serde_json::Value::Object(entries) => {
                if let Some(properties) = entries.get("properties").and_then(|p| p.as_object()) {
                    found.extend(properties.keys().cloned());
                }
                entries.values().for_each(|entry| keys(entry, found));
            }
            serde_json::Value::Array(entries) => entries.iter().for_each(|one| keys(one, found)),
            _ => {}
        }
    }

    #[test]
    fn the_starter_has_every_key() {
        let schema = serde_json::to_value(sweep_spec::recipe::json_schema()).expect("plain data");
        let mut all = BTreeSet::new();
        keys(&schema, &mut all);
        assert!(all.len() > 60, "{}", all.len());
        let words: BTreeSet<&str> =
            STARTER.split(|c: char| !c.is_alphanumeric() && !"_-".contains(c)).collect();
        let missing: Vec<&String> =
            all.iter().filter(|key| !words.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
