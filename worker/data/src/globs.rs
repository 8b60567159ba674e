//! From globs as people write them to files: `~`, `$NAME`, `${NAME}` and `${NAME:-DEFAULT}` are
//! expanded, then the pattern is matched. A default may hold all of these again.
//!
//! A variable's value may itself be a pattern; the home folder is taken literally.

use std::path::PathBuf;

use crate::error::DataError;

/// The files that the globs match, each once, sorted by path.
pub(crate) fn files(globs: &[String]) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for glob in globs {
        let expanded = expand(glob, &|name| std::env::var(name).ok())?;
        let bad = |reason: String| DataError::BadGlob { glob: glob.clone(), reason };
        let before = files.len();
        for entry in glob::glob(&expanded).map_err(|error| bad(error.to_string()))? {
            let path = entry.map_err(|error| {
                let path = error.path().to_owned();
                DataError::Io { action: "list", path, source: error.into() }
            })?;
            if path.is_file() {
                files.push(path);
            }
        }
        if files.len() == before {
            return Err(DataError::NoMatch { glob: glob.clone(), expanded });
        }
    }
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

/// Replaces the home folder and variables; `lookup` is the environment.
pub(crate) fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, DataError> {
    expand_part(text, text, lookup)
}

/// Expands `part` of the glob `whole`; errors name the whole.
fn expand_part(
    part: &str,
    whole: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, DataError> {
    let unknown =
        |name: &str| DataError::UnknownVariable { glob: whole.to_owned(), name: name.to_owned() };
    let mut out = String::new();
    let mut rest = part;
    if let Some(tail) = part.strip_prefix('~')
        && (tail.is_empty() || tail.starts_with('/'))
    {
        out.push_str(&glob::Pattern::escape(&lookup("HOME").ok_or_else(|| unknown("HOME"))?));
        rest = tail;
    }
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let reference = Reference::read(&rest[at + 1..]).ok_or_else(|| DataError::BadGlob {
            glob: whole.to_owned(),
            reason: format!("`{}` is no variable", &rest[at..]),
        })?;
        // As in a shell, `:-` also replaces an empty value.
        match (lookup(reference.name), reference.default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(&expand_part(default, whole, lookup)?),
            (None, None) => return Err(unknown(reference.name)),
        }
        rest = &rest[at + 1 + reference.length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// What follows a `$`.
struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
    /// Bytes after the `$`.
    length: usize,
}

impl<'a> Reference<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let Some(inner) = text.strip_prefix('{') else {
            let name = variable_name(text);
            return (!name.is_empty()).then_some(Self { name, default: None, length: name.len() });
        };
        let end = closing_brace(inner)?;
        let name = variable_name(&inner[..end]);
        let default = match &inner[name.len()..end] {
            "" => None,
            tail => Some(tail.strip_prefix(":-")?),
        };
        (!name.is_empty()).then_some(Self { name, default, length: end + 2 })
    }
}

fn variable_name(text: &str) -> &str {
    let end = text
        .bytes()
        .enumerate()
        .find(|&(i, b)| !(b == b'_' || b.is_ascii_alphabetic() || i > 0 && b.is_ascii_digit()))
        .map_or(text.len(), |(i, _)| i);
    &text[..end]
}

/// Where the brace that was opened before `text` closes; nested ones are passed over.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1;
    text.bytes().position(|b| {
        open += i32::from(b == b'{') - i32::from(b == b'}');
        open == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/a[b]".to_owned()),
            "CORPUS" => Some("/data/*".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn the_home_folder_and_variables_are_expanded() {
        for (text, expected) in [
            ("~/x/*.txt", "/home/a[[]b[]]/x/*.txt"),
            ("a~/x", "a~/x"),
            ("~other/x", "~other/x"),
            ("$CORPUS/a", "/data/*/a"),
            ("${CORPUS}a", "/data/*a"),
            ("${NONE:-/d}/a", "/d/a"),
            ("${EMPTY:-/d}/a", "/d/a"),
            ("${EMPTY}/a", "/a"),
            ("${NONE:-~/.cargo}/a", "/home/a[[]b[]]/.cargo/a"),
            ("${NONE:-${ALSO:-${CORPUS}/x}}/y$EMPTY", "/data/*/x/y"),
        ] {
            assert_eq!(expand(text, &lookup).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_named() {
        let error = |text| expand(text, &lookup).unwrap_err().to_string();
        assert!(error("$NONE/a").contains("`NONE` is not set"), "{}", error("$NONE/a"));
        for text in ["${NONE/a", "${}/a", "$/a", "${A-b}", "a$"] {
            assert!(matches!(expand(text, &lookup), Err(DataError::BadGlob { .. })), "{text}");
        }
    }

    #[test]
    fn a_glob_that_matches_nothing_names_itself_and_its_expansion() {
        let folder = tempfile::tempdir().unwrap();
        let glob = format!("{}/*.none", folder.path().display());
        let error = files(std::slice::from_ref(&glob)).unwrap_err().to_string();
        assert!(error.contains(&format!("glob `{glob}` matches no file")), "{error}");
        assert!(error.contains("hint:"), "{error}");
    }

    #[test]
    fn files_come_once_and_folders_never() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("deep/b.txt")).unwrap();
        std::fs::write(root.join("deep/a.txt"), "a").unwrap();
        std::fs::write(root.join("c.txt"), "c").unwrap();
        let glob = format!("{}/**/*.txt", root.display());
        assert_eq!(
            files(&[glob.clone(), glob]).unwrap(),
            [root.join("c.txt"), root.join("deep/a.txt")]
        );
    }
}
