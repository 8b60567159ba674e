//! `sweep config`: every setting that this place and its environment give, and where each comes from.
//! A flag counts before the environment, that before a file, and that before the default.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};
use sweep_proto::access::{ACCESS_FILE, ACCESS_VARIABLE, Access, STATE_FOLDER, STATE_VARIABLE};

use crate::{
    client::AccessArgs,
    console::{
        Console, Format,
        colour::{self, When},
    },
    exit::{Exit, Failure},
    machine,
    output::table::{lines, table},
};

/// What stands in place of a secret.
const HIDDEN: &str = "(hidden)";

/// Arguments of `sweep config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also say where each setting comes from
    #[arg(long)]
    show_origin: bool,
    #[command(flatten)]
    access: AccessArgs,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Flag(&'static str),
    Environment(&'static str),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A setting; its value is absent where nothing sets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Setting {
    name: &'static str,
    value: Option<String>,
    origin: Origin,
}

/// Prints the settings.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let found = settings(args.access.given(), console.colour, &|name| env::var_os(name));
    match console.format {
        Format::Json => console.json(&serde_json::json!({
            "schema": "sweep.config/1", "settings": found,
        }))?,
        Format::Quiet => {
            for setting in &found {
                writeln!(console.out, "{}", setting.name)?;
            }
        }
        Format::Table => {
            let header: &[&str] = if args.show_origin {
                &["setting", "value", "from"]
            } else {
                &["setting", "value"]
            };
            let mut rows = table(header, &[0, 1, 2]);
            for Setting { name, value, origin } in found {
                let mut cells = vec![name.to_owned(), value.unwrap_or_else(|| "none".to_owned())];
                cells.extend(args.show_origin.then(|| origin.to_string()));
                rows.add_row(cells);
            }
            writeln!(console.out, "{}", lines(&rows))?;
        }
    }
    Ok(Exit::Done)
}

/// Every setting, from the access option, the environment and the access file.
fn settings(
    access: Option<&Path>,
    colour: When,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Vec<Setting> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let (state, state_origin) = match set(STATE_VARIABLE) {
        Some(folder) => (PathBuf::from(folder), Origin::Environment(STATE_VARIABLE)),
        None => (STATE_FOLDER.into(), Origin::Default),
    };
    let (file, file_origin) = match (access, set(ACCESS_VARIABLE)) {
        (Some(path), _) => (path.to_owned(), Origin::Flag("--access")),
        (None, Some(path)) => (path.into(), Origin::Environment(ACCESS_VARIABLE)),
        (None, None) => (state.join(ACCESS_FILE), state_origin.clone()),
    };
    let (cache, cache_variable) = machine::cache_folder_of(&set);
    let shown = |path: &Path| Some(path.display().to_string());
    let store = Some(format!("sqlite:{}", state.join("sweep.db").display()));
    let mut found = vec![
        Setting { name: "state", value: shown(&state), origin: state_origin.clone() },
        Setting { name: "store", value: store, origin: state_origin },
        Setting { name: "access", value: shown(&file), origin: file_origin },
    ];
    found.extend(of_access(&file));
    found.push(Setting {
        name: "cache",
        value: shown(&cache),
        origin: cache_variable.map_or(Origin::Default, Origin::Environment),
    });
    found.push(plain("log", "SWEEP_LOG", Some("info"), &set));
    found.push(colouring(colour, variable));
    found.push(secret("postgres password", "PGPASSWORD", &set));
    found.push(plain("postgres password file", "PGPASSFILE", None, &set));
    found
}

/// What the access file sets; nothing of it where there is none.
fn of_access(path: &Path) -> Vec<Setting> {
    let access = Access::read(path).ok();
    let setting = |name, value: Option<String>| {
        let origin = access.as_ref().map_or(Origin::Default, |_| Origin::File(path.to_owned()));
        Setting { name, value, origin }
    };
    let hidden = |there: bool| there.then(|| HIDDEN.to_owned());
    vec![
        setting("coordinator", access.as_ref().map(|access| access.address.clone())),
        setting("token", hidden(access.is_some())),
        setting(
            "client certificate",
            hidden(access.as_ref().is_some_and(|access| access.identity.is_some())),
        ),
    ]
}

type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn plain(
    name: &'static str,
    variable: &'static str,
    default: Option<&str>,
    set: Variables<'_>,
) -> Setting {
    match set(variable) {
        Some(value) => Setting {
            name,
            value: Some(value.to_string_lossy().into_owned()),
            origin: Origin::Environment(variable),
        },
        None => Setting { name, value: default.map(str::to_owned), origin: Origin::Default },
    }
}

fn secret(name: &'static str, variable: &'static str, set: Variables<'_>) -> Setting {
    let found = plain(name, variable, None, set);
    Setting { value: found.value.map(|_| HIDDEN.to_owned()), ..found }
}

fn colouring(when: When, variable: Variables<'_>) -> Setting {
    let (value, origin) = match (when, colour::veto(variable)) {
        (When::Always, _) => ("always", Origin::Flag("--color")),
        (When::Never, _) => ("never", Origin::Flag("--color")),
        (When::Auto, Some(name)) => ("never", Origin::Environment(name)),
        (When::Auto, None) => ("auto", Origin::Default),
    };
    Setting { name: "color", value: Some(value.to_owned()), origin }
}

#[cfg(test)]
mod tests {
    use sweep_proto::access::Identity;

    use super::*;

    fn found(
        access: Option<&Path>,
        when: When,
        variables: &[(&'static str, &str)],
    ) -> Vec<Setting> {
        settings(access, when, &|name| {
            let pair = variables.iter().find(|(known, _)| *known == name);
            pair.map(|(_, value)| OsString::from(value))
        })
    }

    fn of(settings: &[Setting], name: &str) -> (String, String) {
        let setting = settings.iter().find(|setting| setting.name == name).expect("is there");
        (setting.value.clone().unwrap_or_default(), setting.origin.to_string())
    }

    fn pair(value: &str, origin: &str) -> (String, String) {
        (value.to_owned(), origin.to_owned())
    }

    #[test]
    fn nothing_set_is_the_default() {
        let settings = found(None, When::Auto, &[("HOME", "/home/a"), ("SWEEP_STATE", "")]);
        assert_eq!(of(&settings, "state"), pair(".sweep", "default"));
        assert_eq!(of(&settings, "store"), pair("sqlite:.sweep/sweep.db", "default"));
        assert_eq!(of(&settings, "access"), pair(".sweep/access.json", "default"));
        assert_eq!(of(&settings, "coordinator"), pair("", "default"));
        assert_eq!(of(&settings, "cache"), pair("/home/a/.cache/sweep", "environment HOME"));
        assert_eq!(of(&settings, "log"), pair("info", "default"));
        assert_eq!(of(&settings, "color"), pair("auto", "default"));
    }

    #[test]
    fn a_flag_counts_before_the_environment_and_secrets_stay_hidden() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.json");
        let identity = Identity { certificate: "shown".into(), key: "secret".into() };
        let access =
            Access { identity: Some(identity), ..Access::plain("http://[::1]:1", "secret") };
        std::fs::write(&path, access.to_json()).expect("writes");
        let variables = [
            ("SWEEP_STATE", "/s"),
            ("SWEEP_ACCESS", "/a.json"),
            ("SWEEP_CACHE", "/c"),
            ("SWEEP_LOG", "debug"),
            ("NO_COLOR", "1"),
            ("PGPASSWORD", "secret"),
        ];
        let named = found(None, When::Auto, &variables);
        assert_eq!(of(&named, "access"), pair("/a.json", "environment SWEEP_ACCESS"));
        assert_eq!(of(&named, "state"), pair("/s", "environment SWEEP_STATE"));
        assert_eq!(of(&named, "color"), pair("never", "environment NO_COLOR"));
        let settings = found(Some(&path), When::Always, &variables);
        let shown = path.display().to_string();
        assert_eq!(of(&settings, "access"), pair(&shown, "flag --access"));
        assert_eq!(of(&settings, "coordinator"), pair("http://[::1]:1", &format!("file {shown}")));
        assert_eq!(of(&settings, "token"), pair(HIDDEN, &format!("file {shown}")));
        assert_eq!(of(&settings, "cache"), pair("/c", "environment SWEEP_CACHE"));
        assert_eq!(of(&settings, "log"), pair("debug", "environment SWEEP_LOG"));
        assert_eq!(of(&settings, "color"), pair("always", "flag --color"));
        assert_eq!(of(&settings, "postgres password"), pair(HIDDEN, "environment PGPASSWORD"));
        let text = serde_json::to_string(&settings).expect("plain data");
        assert!(!text.contains("secret"), "{text}");
    }
}
