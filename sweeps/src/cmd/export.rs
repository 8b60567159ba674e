//! `sweep export`: the runs of a sweep or their curves, for other tools; always complete.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use sweep_spec::metric::Metric;

use crate::{
    console::{Console, Format},
    exit::{Exit, Failure},
    export,
    results::{Asked, StoredArgs, SweepResults, selector::Selector},
};

/// Arguments of `sweep export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A sweep, by name, id or the beginning of its id
    #[arg(default_value = "last")]
    sweep: String,
    /// Only these runs: all, last, places as `sweep status` numbers them (3, 1-10), ids; joined by commas
    #[arg(long, value_name = "RUNS")]
    runs: Option<Selector>,
    /// Export every point of every curve instead of one row per run
    #[arg(long)]
    points: bool,
    /// Where to write, as .csv, .jsonl or .parquet; stdout when absent
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the curves as TensorBoard event files instead, a folder for each run
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["points", "output"])]
    tensorboard: Option<PathBuf>,
    #[command(flatten)]
    stored: StoredArgs,
    /// Copy the whole SQLite store into a new file instead, also while a coordinator writes it
    #[cfg(feature = "store")]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["points", "output", "tensorboard", "runs"])]
    #[cfg_attr(feature = "local", arg(conflicts_with = "db"))]
    backup: Option<PathBuf>,
    #[cfg(feature = "store")]
    #[command(flatten)]
    store: super::doctor::store::StoreArgs,
}

/// Writes the table, or copies the store.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    #[cfg(feature = "store")]
    if let Some(copy) = &args.backup {
        return backup(&args.store, copy, console);
    }
    let form = Form::of(args.output.as_deref(), console.format)?;
    let curves = args.points || args.tensorboard.is_some();
    let asked = if curves { Asked::complete(Metric::ALL) } else { Asked::NONE };
    let mut results = args.stored.results(&args.sweep, asked)?;
    if let Some(selector) = &args.runs {
        selector.narrow(&mut results)?;
    }
    if let Some(folder) = &args.tensorboard {
        return tensorboard(&results, folder, console);
    }
    let write = |out: &mut dyn Write| match (form, args.points) {
        (Form::JsonLines, false) => export::json::runs(&results, out),
        (Form::JsonLines, true) => export::json::points(&results, out),
        (Form::Parquet, false) => export::parquet::runs(&results, out),
        (Form::Parquet, true) => export::parquet::points(&results, out),
        (Form::Csv, false) => export::csv::runs(&results, out),
        (Form::Csv, true) => export::csv::points(&results, out),
    };
    match &args.output {
        None => write(console.out)?,
        Some(path) => to_file(path, write)?,
    }
    Ok(Exit::Done)
}

/// Forms of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Csv,
    JsonLines,
    Parquet,
}

impl Form {
    /// By the name of the file, and without one by `--json`.
    fn of(file: Option<&Path>, format: Format) -> Result<Self, Failure> {
        let json = format == Format::Json;
        let Some(file) = file else { return Ok(if json { Self::JsonLines } else { Self::Csv }) };
        let extension = file.extension().map(|text| text.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("jsonl" | "ndjson") => Ok(Self::JsonLines),
            Some("csv") if !json => Ok(Self::Csv),
            Some("parquet") if !json => Ok(Self::Parquet),
            None if json => Ok(Self::JsonLines),
            _ => {
                let (shown, asked) = (file.display(), if json { " beside --json" } else { "" });
                let message = format!(
                    "`{shown}`{asked} tells no form of a table; hint: end it in .csv, .jsonl or \
                     .parquet"
                );
                Err(Failure::message(Exit::Usage, message))
            }
        }
    }
}

fn tensorboard(
    results: &SweepResults,
    folder: &Path,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    let runs =
        export::tensorboard::write(results, folder).map_err(|error| unwritable(folder, &error))?;
    console.say(format_args!(
        "{runs} runs; see them with: tensorboard --logdir {}",
        folder.display()
    ))?;
    Ok(Exit::Done)
}

/// Copies a SQLite store as of one moment.
#[cfg(feature = "store")]
fn backup(
    store: &super::doctor::store::StoreArgs,
    copy: &Path,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    crate::client::block_on(async {
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
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()
    });
    written.map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    let hint = "hint: check the folder, its permissions and the free space";
    Failure::message(Exit::Failed, format!("cannot write `{shown}`: {error}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_tells_its_form() {
        let form = |name: &str, format| Form::of(Some(Path::new(name)), format).ok();
        for (name, table, json) in [
            ("a.csv", Some(Form::Csv), None),
            ("a.JSONL", Some(Form::JsonLines), Some(Form::JsonLines)),
            ("a.parquet", Some(Form::Parquet), None),
            ("a.xlsx", None, None),
            ("a", None, Some(Form::JsonLines)),
        ] {
            assert_eq!(form(name, Format::Table), table, "{name}");
            assert_eq!(form(name, Format::Json), json, "{name}");
        }
        assert_eq!(Form::of(None, Format::Table).ok(), Some(Form::Csv));
        assert_eq!(Form::of(None, Format::Json).ok(), Some(Form::JsonLines));
    }
}
