//! `sweep schema`: the JSON Schema of a recipe, for editors.

use crate::{
    console::Console,
    exit::{Exit, Failure},
};

/// Prints the schema.
pub(crate) fn run(console: &mut Console<'_>) -> Result<Exit, Failure> {
    console.json(&sweep_spec::recipe::json_schema())?;
    Ok(Exit::Done)
}
