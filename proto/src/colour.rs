//! Whether a program colours what it writes, the same for commands and services: as it is asked to,
//! and where that leaves it open only on a terminal that takes colour, without `NO_COLOR`
//! (no-color.org) and `TERM=dumb`. Nothing relies on colour.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, IsTerminal as _},
};

/// The variable that keeps colour off a terminal.
pub fn veto(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<&'static str> {
    if variable("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return Some("NO_COLOR");
    }
    (variable("TERM").as_deref() == Some(OsStr::new("dumb"))).then_some("TERM")
}

/// Whether there is colour: `asked` for or against it, or else on a terminal without a veto.
#[must_use]
pub fn holds(asked: Option<bool>, terminal: bool, vetoed: bool) -> bool {
    asked.unwrap_or(terminal && !vetoed)
}

/// Whether log lines on stderr of this process are coloured.
#[must_use]
pub fn on_stderr(asked: Option<bool>) -> bool {
    let variable = |name: &str| env::var_os(name);
    holds(asked, io::stderr().is_terminal(), veto(&variable).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_counts_first_then_the_environment_then_the_terminal() {
        assert!(holds(None, true, false));
        assert!(!holds(None, false, false));
        assert!(!holds(None, true, true));
        assert!(holds(Some(true), false, true));
        assert!(!holds(Some(false), true, false));
        let with = |name: &'static str, value: &'static str| {
            veto(&move |asked| (asked == name).then(|| value.into()))
        };
        assert_eq!(with("NO_COLOR", "1"), Some("NO_COLOR"));
        assert_eq!(with("NO_COLOR", ""), None);
        assert_eq!(with("TERM", "dumb"), Some("TERM"));
        assert_eq!(with("TERM", "xterm"), None);
    }
}
