//! Values of rendered files: what each may be, checked where it is given, and how each format
//! writes it, so that no value can become a line or a command of its own.

use std::{fmt, time::Duration};

/// Workers of one file at most: a coordinator holds four connections for each of so many.
const WORKERS_MAX: u32 = 1000;

/// A worker must have time to train beside the three minutes in which it leaves.
const TIME_MIN: Duration = Duration::from_mins(10);

/// Longer than any site lets a job run, and far from any overflow.
const TIME_MAX: Duration = Duration::from_hours(24 * 365);

/// Marks that no format, and no reader of a line, takes for more than a letter.
const PLAIN: &str = "._-+:/@=,";

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || PLAIN.contains(letter)
}

/// One line of text that is not empty: a path or a name.
pub(super) fn line(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("it is empty; hint: give a path or a name, or leave the option out".into());
    }
    match text.chars().find(|letter| letter.is_control()) {
        Some(found) => Err(format!("it holds {found:?}; hint: give one line of plain text")),
        None => Ok(text.to_owned()),
    }
}

/// A path that means the same wherever the file is used.
pub(super) fn absolute(text: &str) -> Result<String, String> {
    let text = line(text)?;
    if text.starts_with('/') {
        Ok(text)
    } else {
        Err(format!("`{text}` depends on the folder; hint: give the whole path, from / on"))
    }
}

/// An absolute path of plain letters, for a format that cannot quote one in its place.
pub(super) fn plain_path(text: &str) -> Result<String, String> {
    word(&absolute(text)?)
}

/// A word of plain letters: a partition, a kind of device, an image, an amount, an address.
pub(super) fn word(text: &str) -> Result<String, String> {
    let text = line(text)?;
    match text.chars().find(|&letter| !is_plain(letter)) {
        Some(found) => {
            Err(format!("it holds {found:?}; hint: give letters, digits and {PLAIN} only"))
        }
        None => Ok(text),
    }
}

/// How many workers.
pub(super) fn workers(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| (1..=WORKERS_MAX).contains(count));
    count.ok_or_else(|| {
        format!("{text} is no number of workers; hint: give one from 1 to {WORKERS_MAX}")
    })
}

/// How long a job may take.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let bounds = || {
        let (min, max) =
            (humantime::format_duration(TIME_MIN), humantime::format_duration(TIME_MAX));
        format!("hint: give a time as 4h or 1h30m, from {min} to {max}")
    };
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; {}", bounds()))?;
    if (TIME_MIN..=TIME_MAX).contains(&time) {
        Ok(time)
    } else {
        Err(format!("`{text}` is of no use; {}", bounds()))
    }
}

/// A text as one word of a shell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shell<'a>(pub(super) &'a str);

impl fmt::Display for Shell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Between single quotes a shell reads every letter as it is, but for the quote.
        if self.0.chars().all(is_plain) {
            f.write_str(self.0)
        } else {
            write!(f, "'{}'", self.0.replace('\'', r"'\''"))
        }
    }
}

/// A text as one scalar of YAML.
#[derive(Clone, Copy, Debug)]
pub(super) struct Yaml<'a>(pub(super) &'a str);

impl fmt::Display for Yaml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A string of JSON is one of YAML, whatever it looks like without its quotes.
        let quoted = serde_json::to_string(self.0).map_err(|_| fmt::Error)?;
        f.write_str(&quoted)
    }
}

/// A text as an argument of a container, in which Kubernetes would replace `$(NAME)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Argument<'a>(pub(super) &'a str);

impl fmt::Display for Argument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Yaml(&self.0.replace('$', "$$")).fmt(f)
    }
}

/// An assignment in `Environment=` of a unit file, in which systemd replaces `%` and a letter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assignment<'a>(pub(super) &'static str, pub(super) &'a str);

impl fmt::Display for Assignment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.1.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%");
        write!(f, "\"{}={value}\"", self.0)
    }
}

/// A time as Slurm writes it: `HOURS:MINUTES:SECONDS`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(pub(super) Duration);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_file_is_refused() {
        let refused: [Result<String, String>; 12] = [
            line(""),
            line("  "),
            line("a\nb"),
            line("a\u{1b}[0m"),
            absolute("a/b"),
            absolute("/a\r"),
            plain_path("/a b"),
            plain_path("/a$b"),
            word("gpu debug"),
            word("gpu;rm"),
            word("\"image\""),
            word(""),
        ];
        for (place, result) in refused.into_iter().enumerate() {
            let error = result.expect_err(&place.to_string());
            assert!(error.contains("hint: "), "{place}: {error}");
        }
        for text in ["0", "-1", "1001", "two", "1.5", ""] {
            assert!(workers(text).unwrap_err().contains("hint: "), "{text}");
        }
        for text in ["", "4", "soon", "9m", "0s", "9999999y", "366days"] {
            assert!(time(text).unwrap_err().contains("hint: "), "{text}");
        }
        assert_eq!(workers("1000"), Ok(1000));
        assert_eq!(time("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(
            word("registry.example/sweep@sha256:0a"),
            Ok("registry.example/sweep@sha256:0a".into())
        );
        assert_eq!(absolute("/the shared/access.json"), Ok("/the shared/access.json".into()));
    }

    #[test]
    fn each_format_quotes_in_its_own_way() {
        assert_eq!(Shell("/a/b.json").to_string(), "/a/b.json");
        assert_eq!(Shell("/it's $HOME").to_string(), r"'/it'\''s $HOME'");
        assert_eq!(Shell("").to_string(), "", "never given: an empty value is refused");
        assert_eq!(Yaml("no").to_string(), "\"no\"");
        assert_eq!(Yaml("a\"b: #c\\").to_string(), r#""a\"b: #c\\""#);
        assert_eq!(Argument("/$(HOME)").to_string(), "\"/$$(HOME)\"");
        assert_eq!(Assignment("A", r#"/50% "\x"#).to_string(), r#""A=/50%% \"\\x""#);
        assert_eq!(Clock(Duration::from_secs(100 * 3600 + 61)).to_string(), "100:01:01");
    }
}
