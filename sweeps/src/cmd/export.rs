//! `sweep export`: the runs of a sweep as CSV, or their curves; always complete.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use sweep_spec::metric::Metric;

use crate::{
    client::{AccessArgs, block_on, select_sweep},
    console::{Console, Format},
    exit::{Exit, Failure},
    export, results,
};

/// Arguments of `sweep export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A sweep, by name, id or the beginning of its id
    #[arg(default_value = "last")]
    sweep: String,
    /// Export every point of every curve instead of one row per run
    #[arg(long)]
    points: bool,
    /// Where to write; stdout when absent
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    /// Copy the whole SQLite store into a new file instead, also while a coordinator writes it
    #[cfg(feature = "store")]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["points", "output"])]
    backup: Option<PathBuf>,
    #[cfg(feature = "store")]
    #[command(flatten)]
    store: super::doctor::StoreArgs,
}

/// Writes the table, or copies the store.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    #[cfg(feature = "store")]
    if let Some(copy) = &args.backup {
        return backup(&args.store, copy, console);
    }
    let metrics = if args.points { Metric::ALL } else { &[] };
    let results = block_on(async {
        let mut control = args.access.connect().await?;
        let sweep = select_sweep(&mut control, &args.sweep).await?;
        results::fetch(&mut control, &sweep, metrics).await
    })?;
    let json = console.format == Format::Json;
    let write = |out: &mut dyn Write| match (json, args.points) {
        (true, false) => export::json::runs(&results, out),
        (true, true) => export::json::points(&results, out),
        (false, false) => export::csv::runs(&results, out),
        (false, true) => export::csv::points(&results, out),
    };
    match &args.output {
        None => write(console.out)?,
        Some(path) => to_file(path, write)?,
    }
    Ok(Exit::Done)
}

/// Copies a SQLite store as of one moment.
#[cfg(feature = "store")]
fn backup(
    store: &super::doctor::StoreArgs,
    copy: &Path,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    block_on(async {
        match store.open().await? {
            sweep_store::Database::Sqlite(sqlite) => {
                sqlite.backup(copy).await.map_err(|error| Failure::new(Exit::Failed, error))
            }
            sweep_store::Database::Postgres(_) => Err(Failure::message(
                Exit::Usage,
                "a Postgres server copies its databases itself; hint: pg_dump --format=custom",
            )),
        }
    })?;
    console.say(format_args!("copied the store to {}", copy.display()))?;
    Ok(Exit::Done)
}

/// Writes a file; a failure names it.
///
/// # Errors
/// Exit code 1.
pub(crate) fn to_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()
    });
    written.map_err(|error| {
        let shown = path.display();
        let hint = "hint: check the folder, its permissions and the free space";
        Failure::message(Exit::Failed, format!("cannot write `{shown}`: {error}; {hint}"))
    })
}
