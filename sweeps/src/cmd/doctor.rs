//! `sweep doctor`: whether everything is at hand that a sweep needs, each line with its cure: the
//! access file, the coordinator behind it, its workers, the devices and the disks of this machine,
//! and the rules of the store. Under `--store` it examines that store alone.

#[cfg(feature = "local")]
mod devices;
mod setup;
#[cfg(feature = "store")]
pub(crate) mod store;

use serde::Serialize;

use crate::{
    client::{AccessArgs, block_on},
    console::{Console, Format},
    exit::{Exit, Failure},
};

/// Arguments of `sweep doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    access: AccessArgs,
    #[cfg(feature = "store")]
    #[command(flatten)]
    store: store::StoreArgs,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Ok,
    /// Sweeps can be trained, but something is worth knowing.
    Warn,
    /// Something will not work.
    Fail,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    check: &'static str,
    status: Status,
    found: String,
    /// The cure, where one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Line {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, found: found.into(), hint: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, hint: &str) -> Self {
        let hint = Some(hint.to_owned());
        Self { check, status: Status::Warn, found: found.into(), hint }
    }

    fn fail(check: &'static str, found: impl Into<String>, hint: &str) -> Self {
        Self { status: Status::Fail, ..Self::warn(check, found, hint) }
    }

    /// A failure with the hint that stands in its text.
    fn failed(check: &'static str, failure: &Failure) -> Self {
        let text = failure.told();
        let (found, hint) = text.split_once("; hint: ").unwrap_or((text.as_str(), "see --help"));
        Self::fail(check, found, hint)
    }
}

/// A device that takes no runs: worth knowing where it was tried, and nothing where there is no
/// driver or only one in software.
fn device_refused(found: String, reason: &str) -> Line {
    if reason == "driver absent" || reason == "software driver" {
        return Line::ok("device", found);
    }
    let hint = "no run goes there; check the driver, then start the worker again";
    Line::warn("device", found, hint)
}

/// Makes every check and prints them; one that fails is exit code 1.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    #[cfg(feature = "store")]
    {
        let lines = if args.store.is_given() { Vec::new() } else { setup(args, console)? };
        let (store, absent) = examine(args)?;
        print(&[lines, absent].concat(), store.as_ref(), console)
    }
    #[cfg(not(feature = "store"))]
    print(&setup(args, console)?, console)
}

/// Everything but the store.
fn setup(args: &Args, console: &mut Console<'_>) -> Result<Vec<Line>, Failure> {
    let mut lines = setup::access(&args.access.path());
    block_on(async {
        lines.extend(setup::coordinator(&args.access).await);
        Ok(())
    })?;
    lines.extend(setup::disks());
    #[cfg(feature = "local")]
    {
        console.say("looking for devices, which may take a minute")?;
        lines.extend(block_on(devices::found())?);
    }
    #[cfg(not(feature = "local"))]
    let _ = console;
    Ok(lines)
}

/// The rules of the store, or a line where there is none and none was named.
#[cfg(feature = "store")]
fn examine(args: &Args) -> Result<(Option<store::Store>, Vec<Line>), Failure> {
    let opened = block_on(async {
        let database = args.store.open().await?;
        store::Store::examine(&database).await
    });
    match opened {
        Ok(store) => Ok((Some(store), Vec::new())),
        Err(failure) if !args.store.is_given() => {
            let absent = failure.exit() == Exit::NoMatch;
            let line = Line::failed("store", &failure);
            let status = if absent { Status::Warn } else { Status::Fail };
            Ok((None, vec![Line { status, ..line }]))
        }
        Err(failure) => Err(failure),
    }
}

fn print(
    lines: &[Line],
    #[cfg(feature = "store")] store: Option<&store::Store>,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    let failed = lines.iter().filter(|line| line.status == Status::Fail).map(|line| line.check);
    #[cfg(feature = "store")]
    let failed =
        failed.chain(store.into_iter().flat_map(store::Store::broken).map(|finding| finding.check));
    let failed: Vec<&str> = failed.collect();
    match console.format {
        Format::Json => {
            #[cfg(feature = "store")]
            let checks = store.map_or_else(|| serde_json::json!([]), store::Store::json);
            #[cfg(not(feature = "store"))]
            let checks = serde_json::json!([]);
            console.json(&serde_json::json!({
                "schema": "sweep.doctor/2", "lines": lines, "checks": checks,
            }))?;
        }
        Format::Quiet => {
            for check in &failed {
                writeln!(console.out, "{check}")?;
            }
        }
        Format::Table => {
            for line in lines {
                writeln!(
                    console.out,
                    "{:<5} {:<12} {}",
                    line.status.name(),
                    line.check,
                    line.found
                )?;
                if let Some(hint) = &line.hint {
                    writeln!(console.out, "{:18} hint: {hint}", "")?;
                }
            }
            #[cfg(feature = "store")]
            if let Some(store) = store {
                store.print(console)?;
            }
        }
    }
    Ok(if failed.is_empty() { Exit::Done } else { Exit::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::When;

    fn printed(format: Format, lines: &[Line]) -> (Exit, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console =
            Console { out: &mut out, err: &mut err, format, colour: When::Never, terminal: false };
        let exit = print(
            lines,
            #[cfg(feature = "store")]
            None,
            &mut console,
        );
        (exit.expect("prints"), String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_failed_check_is_exit_code_1_and_says_its_cure() {
        let sound = Line::ok("access", "there");
        let odd = Line::warn("clock", "95 s off", "set it");
        let failure = Failure::message(Exit::Unreachable, "nobody answers; hint: start one");
        let broken = Line::failed("coordinator", &failure);
        assert_eq!(printed(Format::Table, &[sound.clone(), odd.clone()]).0, Exit::Done);
        let lines = [sound, odd, broken];
        let (exit, text) = printed(Format::Table, &lines);
        assert_eq!(exit, Exit::Failed);
        assert_eq!(
            text,
            "ok    access       there\n\
             warn  clock        95 s off\n                   hint: set it\n\
             fail  coordinator  nobody answers\n                   hint: start one\n"
        );
        assert_eq!(printed(Format::Quiet, &lines).1, "coordinator\n");
        let found: serde_json::Value =
            serde_json::from_str(&printed(Format::Json, &lines).1).expect("JSON");
        assert_eq!(found["schema"], "sweep.doctor/2");
        assert_eq!(found["lines"][1]["status"], "warn");
        assert!(found["lines"][0].get("hint").is_none(), "absent is absent");
    }
}
