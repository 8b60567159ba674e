//! `sweep init`: a starter recipe with every key and what it means.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::PathBuf,
};

use crate::{
    console::Console,
    exit::{Exit, Failure},
};

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
    console.say(format_args!("wrote {path}; next: sweep plan {path}, then sweep run {path}"))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_is_a_valid_recipe() {
        sweep_spec::recipe::Recipe::parse("starter.toml", STARTER).expect("valid");
    }
}
