//! From a byte of the recipe to its line and key, and from a key to its line.

use std::{fmt, ops::Range};

use toml::de::{DeTable, DeValue};

use super::{MAX_RECIPE_BYTES, RecipeError, raw::RawRecipe};

/// One step of a [`KeyPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A key of a table.
    Name(&'static str),
    /// A place in an array.
    Index(usize),
}

/// Where something stands in a recipe, such as `grid.sizes[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Key>);

impl KeyPath {
    /// A path of names.
    #[must_use]
    pub fn of(names: &[&'static str]) -> Self {
        Self(names.iter().map(|name| Key::Name(name)).collect())
    }

    /// The element `index` of the array at this path.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Key::Index(index));
        self
    }

    /// The key `name` of the table at this path.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.0.push(Key::Name(name));
        self
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, key) in self.0.iter().enumerate() {
            match key {
                Key::Name(name) if place == 0 => write!(f, "{name}")?,
                Key::Name(name) => write!(f, ".{name}")?,
                Key::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A recipe's text with its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SourceText {
    file: String,
    text: String,
}

impl SourceText {
    pub(super) fn new(file: &str, text: &str) -> Result<Self, RecipeError> {
        if text.len() > MAX_RECIPE_BYTES {
            return Err(RecipeError {
                file: file.to_owned(),
                place: None,
                key: String::new(),
                message: format!(
                    "{} bytes are more than the limit of {MAX_RECIPE_BYTES}; hint: describe the \
                     grid by `[grid]` or `[isoflop]` instead of writing out its runs",
                    text.len()
                ),
            });
        }
        Ok(Self { file: file.to_owned(), text: text.to_owned() })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Reads the raw recipe.
    pub(super) fn deserialize(&self) -> Result<RawRecipe, RecipeError> {
        toml::from_str(&self.text).map_err(|error| self.explain(&error))
    }

    /// An error at a key path; the nearest key that exists gives the place.
    pub(super) fn error_at(&self, path: &KeyPath, message: &str) -> RecipeError {
        let place = DeTable::parse(&self.text)
            .ok()
            .map(|root| locate(root.get_ref(), &path.0))
            .filter(|span| *span != (0..0))
            .map(|span| self.line_column(span.start));
        RecipeError {
            file: self.file.clone(),
            place,
            key: path.to_string(),
            message: message.to_owned(),
        }
    }

    /// Turns an error of the TOML reader into ours.
    fn explain(&self, error: &toml::de::Error) -> RecipeError {
        let span = error.span();
        let key = span
            .as_ref()
            .and_then(|span| {
                let root = DeTable::parse(&self.text).ok()?;
                path_at(root.get_ref(), span)
            })
            .unwrap_or_default();
        RecipeError {
            file: self.file.clone(),
            place: span.map(|span| self.line_column(span.start)),
            key,
            message: reword(error.message()),
        }
    }

    /// Line and column of a byte, in characters, from 1.
    fn line_column(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(byte)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// The span of the value at `path`, or of the longest part of the path that exists.
fn locate(table: &DeTable<'_>, path: &[Key]) -> Range<usize> {
    let Some((Key::Name(name), rest)) = path.split_first() else { return 0..0 };
    let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else {
        return 0..0;
    };
    let deeper = locate_value(value.get_ref(), rest);
    if deeper != (0..0) {
        deeper
    } else if rest.is_empty() && !value.get_ref().is_table() {
        value.span()
    } else {
        key.span()
    }
}

fn locate_value(value: &DeValue<'_>, path: &[Key]) -> Range<usize> {
    match (value, path.first()) {
        (DeValue::Table(table), Some(Key::Name(_))) => locate(table, path),
        (DeValue::Array(items), Some(&Key::Index(index))) => {
            items.get(index).map_or(0..0, |item| {
                let deeper = locate_value(item.get_ref(), &path[1..]);
                if deeper == (0..0) { item.span() } else { deeper }
            })
        }
        _ => 0..0,
    }
}

/// The path of the key or value that `span` lies in.
fn path_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let inside = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let mut found = None;
    for (key, value) in table.iter() {
        let name = key.get_ref();
        let deeper = match value.get_ref() {
            DeValue::Table(inner) => path_at(inner, span).map(|path| format!("{name}.{path}")),
            DeValue::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
                let below = match item.get_ref() {
                    DeValue::Table(inner) => path_at(inner, span).map(|path| format!(".{path}")),
                    _ => None,
                };
                let here = || inside(item.span()).then(String::new);
                below.or_else(here).map(|rest| format!("{name}[{index}]{rest}"))
            }),
            _ => None,
        };
        if let Some(path) = deeper {
            return Some(path);
        }
        if inside(value.span()) || inside(key.span()) {
            found = Some(name.to_string());
        }
    }
    found
}

/// The reader's messages in our words, with the nearest known key.
fn reword(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let unknown = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return format!("unknown key `{unknown}`; hint: {}", suggestion(unknown, &known, "keys"));
    }
    if message.starts_with("unknown variant") {
        let unknown = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return format!(
            "`{unknown}` is not a choice; hint: {}",
            suggestion(unknown, &known, "choices")
        );
    }
    if message.starts_with("missing field") {
        let missing = quoted.next().unwrap_or_default();
        return format!(
            "the key `{missing}` is missing; hint: `sweep init` writes a recipe with every key"
        );
    }
    let mismatch =
        message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = mismatch.and_then(|rest| rest.split_once(", expected ")) {
        return format!(
            "expected {}, found {found}; hint: `sweep schema` prints the type of every key",
            plain_type(expected)
        );
    }
    if message.contains("hint:") {
        return message.to_owned();
    }
    format!("{message}; hint: a recipe is written in TOML, `sweep init` writes an example")
}

/// The reader's names of types in words.
fn plain_type(name: &str) -> &str {
    match name {
        "u32" | "u64" => "a whole number, not negative",
        "f64" => "a number",
        "a sequence" => "a list",
        other => other,
    }
}

fn suggestion(unknown: &str, known: &[&str], what: &str) -> String {
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3);
    match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("the {what} here are {}", known.join(", ")),
    }
}
