//! Whether output is coloured: as `--color` says, and where that leaves it open only on a terminal
//! that takes it, without `NO_COLOR` (no-color.org) and `TERM=dumb`. Nothing relies on colour.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, IsTerminal as _},
};

use clap::ValueEnum as _;

/// When output is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    /// Also into files and pipes
    Always,
    /// Not at all
    Never,
}

impl When {
    /// Whether stdout of this process is coloured.
    pub(crate) fn on_stdout(self) -> bool {
        let variable = |name: &str| env::var_os(name);
        self.holds(io::stdout().is_terminal(), veto(&variable).is_some())
    }

    const fn holds(self, terminal: bool, vetoed: bool) -> bool {
        match self {
            Self::Auto => terminal && !vetoed,
            Self::Always => true,
            Self::Never => false,
        }
    }

    /// What the arguments of a program ask for, before they are parsed: help and usage errors come
    /// from the parser itself. Nothing where they ask for nothing, or for what the parser refuses.
    pub(crate) fn asked(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter().map_while(|argument| argument.into_string().ok());
        while let Some(argument) = arguments.next() {
            let given = match argument.strip_prefix("--color") {
                Some("") => arguments.next()?,
                Some(rest) => rest.strip_prefix('=').map(str::to_owned).unwrap_or_default(),
                None => continue,
            };
            return Self::from_str(&given, false).ok();
        }
        None
    }
}

impl From<When> for clap::ColorChoice {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

/// The variable that keeps colour off a terminal.
pub(crate) fn veto(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<&'static str> {
    if variable("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return Some("NO_COLOR");
    }
    (variable("TERM").as_deref() == Some(OsStr::new("dumb"))).then_some("TERM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_counts_first_then_the_environment_then_the_terminal() {
        assert!(When::Auto.holds(true, false));
        assert!(!When::Auto.holds(false, false));
        assert!(!When::Auto.holds(true, true));
        assert!(When::Always.holds(false, true));
        assert!(!When::Never.holds(true, false));
        let with = |name: &'static str, value: &'static str| {
            veto(&move |asked| (asked == name).then(|| value.into()))
        };
        assert_eq!(with("NO_COLOR", "1"), Some("NO_COLOR"));
        assert_eq!(with("NO_COLOR", ""), None);
        assert_eq!(with("TERM", "dumb"), Some("TERM"));
        assert_eq!(with("TERM", "xterm"), None);
    }

    #[test]
    fn the_option_is_found_wherever_it_stands() {
        let asked = |words: &[&str]| When::asked(words.iter().map(OsString::from));
        assert_eq!(asked(&["sweep", "plan", "--color=never"]), Some(When::Never));
        assert_eq!(asked(&["sweep", "--color", "always", "plan"]), Some(When::Always));
        for words in [&["sweep", "plan"][..], &["sweep", "--color"], &["sweep", "--color", "red"]] {
            assert_eq!(asked(words), None, "{words:?}");
        }
    }
}
