//! A fault in a recipe, with its place.

use std::fmt;

/// A fault in a recipe: file, line, column, key, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    pub(super) file: String,
    pub(super) place: Option<(usize, usize)>,
    pub(super) key: String,
    pub(super) message: String,
}

impl RecipeError {
    /// The key path, such as `grid.sizes[2]`; empty where the file as a whole is at fault.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Line and column, from 1.
    #[must_use]
    pub const fn place(&self) -> Option<(usize, usize)> {
        self.place
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        if self.key.is_empty() {
            write!(f, ": {}", self.message)
        } else {
            write!(f, ": {}: {}", self.key, self.message)
        }
    }
}

impl std::error::Error for RecipeError {}
