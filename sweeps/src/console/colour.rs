//! When output is coloured; `sweep_proto::colour` has the rule.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal as _},
};

use clap::ValueEnum as _;
pub(crate) use sweep_proto::colour::veto;

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
        let terminal = io::stdout().is_terminal();
        sweep_proto::colour::holds(self.asked_for(), terminal, veto(&variable).is_some())
    }

    /// For or against colour; nothing where the terminal and the environment decide.
    const fn asked_for(self) -> Option<bool> {
        match self {
            Self::Auto => None,
            Self::Always => Some(true),
            Self::Never => Some(false),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_asks_for_or_against_or_leaves_it_open() {
        let asked = [When::Auto, When::Always, When::Never].map(When::asked_for);
        assert_eq!(asked, [None, Some(true), Some(false)]);
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
