//! `sweep report`: observations, fit, figures and the one page that tells a sweep, in a folder; or
//! the page alone.

use std::path::PathBuf;

use sweep_plot::figures::FigureKind;
use sweep_spec::metric::Metric;

use crate::{
    console::{Console, Format},
    exit::{Exit, Failure},
    forecast, law,
    outputs::{OutFolder, write_whole},
    page::{self, Telling},
    results::{Asked, StoredArgs},
    texts,
};

/// Arguments of `sweep report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A sweep, by name, id or the beginning of its id
    #[arg(default_value = "last")]
    sweep: String,
    /// The folder [default: sweep-out/NAME]; a name that ends in .html is the page alone
    #[arg(long, short, value_name = "PLACE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    stored: StoredArgs,
}

/// Writes the folder.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let results = args.stored.results(&args.sweep, Asked::drawn(Metric::ALL).and_attempts())?;
    let default = PathBuf::from("sweep-out").join(&results.name);
    let out = args.out.as_deref().unwrap_or(&default);
    let is_page = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html"));
    let folder = if is_page { None } else { Some(OutFolder::create(out)?) };
    let (input, fit) = law::plot_input(&results);
    let fit_refused = fit.as_ref().err().map(ToString::to_string);
    let (texts, failed) = texts::collect(&results, &args.stored.sampling());
    for reason in failed {
        console.say(reason)?;
    }
    let telling = Telling { fit_refused, texts };
    let paths = match folder {
        Some(folder) => {
            let mut paths = folder.write_results(&results, &input, fit.as_ref().ok(), &telling)?;
            let mut points = folder.points()?;
            let mut sink = |run: &str, metric, part: &[(u64, f64)]| points.part(run, metric, part);
            args.stored.stream(&results, &mut sink)?;
            paths.push(points.end()?);
            paths
        }
        None => {
            let figures = FigureKind::build_all(&input);
            let page = page::render(&results, &input, &figures, &telling)?;
            write_whole(out, page.as_bytes())?;
            vec![out.to_owned()]
        }
    };
    if let Ok(fit) = &fit {
        let file = forecast::forecast(&results, fit);
        for check in forecast::measured(&results, &file) {
            console.say(check.line())?;
        }
    }
    match console.format {
        Format::Json => console.json(&serde_json::json!({
            "schema": "sweep.report/1", "sweep": results.id, "files": paths,
        }))?,
        Format::Table | Format::Quiet => {
            for path in &paths {
                writeln!(console.out, "{}", path.display())?;
            }
        }
    }
    // What could be written is written; a missing fit is still said by the exit code.
    fit.map(|_| Exit::Done)
}
