//! Whether a store is sound. It reads the store itself, beside a coordinator or without one.

use serde::Serialize;
use sweep_proto::access::state_folder;
use sweep_store::{Database, Finding, StoreError};

use crate::{
    console::Console,
    exit::{Exit, Failure, OrExit as _},
    output::table::{lines, table},
};

/// Where a store is; shared with `sweep query` and `sweep export --backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The store, sqlite:PATH or postgres://USER@HOST/DATABASE [default: sqlite:.sweep/sweep.db]
    #[arg(long, value_name = "ADDRESS")]
    store: Option<String>,
}

impl StoreArgs {
    /// Opens it for reading.
    ///
    /// # Errors
    /// Exit code 4 where there is none, 1 where it cannot be read.
    pub(crate) async fn open(&self) -> Result<Database, Failure> {
        open(&self.address()).await
    }

    /// Whether an address was given.
    pub(super) fn is_given(&self) -> bool {
        self.store.is_some()
    }

    /// Its address: that of the option, else the file in the state folder.
    pub(crate) fn address(&self) -> String {
        let file = || format!("sqlite:{}", state_folder().join("sweep.db").display());
        self.store.clone().unwrap_or_else(file)
    }
}

/// Opens the store of an address for reading.
///
/// # Errors
/// Exit code 4 where there is none, 2 for no address, 1 where it cannot be read.
pub(crate) async fn open(address: &str) -> Result<Database, Failure> {
    Database::open_to_read(address).await.map_err(|error| {
        let exit = match error {
            StoreError::Missing { .. } => Exit::NoMatch,
            StoreError::Address(_) | StoreError::PostgresAddress { .. } | StoreError::Password => {
                Exit::Usage
            }
            _ => Exit::Failed,
        };
        Failure::new(exit, error)
    })
}

/// One check, for programs.
#[derive(Serialize)]
struct Row<'a> {
    check: &'a str,
    rule: &'a str,
    sound: bool,
    broken: &'a [String],
    more: bool,
}

/// What a store breaks of its rules.
pub(super) struct Store(Vec<Finding>);

impl Store {
    /// Makes every check.
    ///
    /// # Errors
    /// Exit code 1 where the store cannot be read.
    pub(super) async fn examine(database: &Database) -> Result<Self, Failure> {
        Ok(Self(database.doctor().await.or_exit(Exit::Failed)?))
    }

    /// The rules that are broken.
    pub(super) fn broken(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(|finding| !finding.broken.is_empty())
    }

    /// For programs.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!(self.0.iter().map(row).collect::<Vec<_>>())
    }

    /// As a table; what to do about broken rules goes to stderr.
    pub(super) fn print(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        print(&self.0, console)?;
        let broken = self.broken().count();
        if broken > 0 {
            console.say(format_args!(
                "{broken} of {} rules are broken; hint: stop the coordinator, keep a copy of the \
                 store, and go back to the last backup",
                self.0.len()
            ))?;
        }
        Ok(())
    }
}

fn row(finding: &Finding) -> Row<'_> {
    let Finding { check, rule, broken, more } = finding;
    Row { check, rule, sound: broken.is_empty(), broken, more: *more }
}

fn print(findings: &[Finding], console: &mut Console<'_>) -> Result<(), Failure> {
    let mut shown = table(&["check", "result", "what must hold"], &[0, 1, 2]);
    for finding in findings {
        let result = match (finding.broken.as_slice(), finding.more) {
            ([], _) => "ok".to_owned(),
            (broken, false) => format!("broken: {}", broken.join(", ")),
            (broken, true) => format!("broken: {} and more", broken.join(", ")),
        };
        shown.add_row([finding.check, &result, finding.rule]);
    }
    writeln!(console.out, "{}", lines(&shown))?;
    Ok(())
}
