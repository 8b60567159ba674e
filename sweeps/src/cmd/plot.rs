//! `sweep plot`: one figure, drawn in the terminal or into a file.

use std::{ffi::OsStr, io, path::PathBuf};

use sweep_plot::{
    figures::{CurveAxis, FigureKind},
    render::{Paint, json, raster, svg, terminal},
};
use sweep_spec::metric::Metric;

use crate::{
    cmd::export::to_file,
    console::{Console, Format},
    exit::{Exit, Failure},
    law,
    results::{Asked, StoredArgs, selector::Selector},
};

/// Arguments of `sweep plot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The figure, such as `loss-compute`; a wrong name lists them
    figure: FigureKind,
    /// A sweep, by name, id or the beginning of its id
    #[arg(default_value = "last")]
    sweep: String,
    /// Only these runs: all, last, places as `sweep status` numbers them (3, 1-10), ids; joined by
    /// commas; fits are those of these runs too
    #[arg(long, value_name = "RUNS")]
    runs: Option<Selector>,
    /// Where to write: `.svg`, `.png` or `.json`; the terminal when absent
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Pixels of a `.png` for each of the figure's own, which is 860 wide
    #[arg(long, default_value_t = 2.0, value_name = "FACTOR", value_parser = scale)]
    scale: f32,
    /// Width in characters
    #[arg(long, default_value_t = 100)]
    columns: usize,
    /// Lines of a panel
    #[arg(long, default_value_t = 30)]
    rows: usize,
    #[command(flatten)]
    stored: StoredArgs,
}

fn scale(text: &str) -> Result<f32, String> {
    let factor = text.parse().ok().filter(|factor: &f32| factor.is_finite() && *factor > 0.0);
    factor.ok_or_else(|| "hint: a number above 0, such as 2".to_owned())
}

/// What a figure is made of: scores of tasks are many, and most figures show final losses only.
const fn metrics(figure: FigureKind) -> &'static [Metric] {
    match figure {
        FigureKind::Emergence(_) | FigureKind::Calibration(_) | FigureKind::NoiseLevels => {
            Metric::ALL
        }
        FigureKind::LossCurves(CurveAxis::Seconds) => {
            &[Metric::TrainLoss, Metric::ValidationLoss, Metric::Seconds]
        }
        FigureKind::LossCurves(_) | FigureKind::LossCompute => {
            &[Metric::TrainLoss, Metric::ValidationLoss]
        }
        FigureKind::Throughput => &[Metric::TokensPerSecond],
        _ => &[],
    }
}

/// Draws the figure.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let asked = Asked::drawn(metrics(args.figure));
    let asked = if args.figure == FigureKind::Timeline { asked.and_attempts() } else { asked };
    let mut results = args.stored.results(&args.sweep, asked)?;
    if let Some(selector) = &args.runs {
        selector.narrow(&mut results)?;
    }
    let (input, fit) = law::plot_input(&results);
    if let Err(failure) = fit {
        console.say(format_args!("no fit: {failure}"))?;
    }
    let figure = args.figure.build(&input);
    let as_json = |out: &mut dyn io::Write| -> io::Result<()> {
        json::render(&figure, &mut serde_json::Serializer::pretty(&mut *out))?;
        writeln!(out)
    };
    let ending = args.output.as_ref().map(|path| (path, path.extension().and_then(OsStr::to_str)));
    match ending {
        Some((path, Some("json"))) => to_file(path, as_json)?,
        Some((path, Some("svg"))) => {
            let drawn = svg::render(&figure, Paint::Standalone);
            to_file(path, |out| out.write_all(drawn.as_bytes()))?;
        }
        Some((path, Some("png"))) => {
            let drawn = raster::render(&figure, args.scale).map_err(|error| {
                let exit = match error {
                    raster::RasterError::TooLarge { .. } => Exit::Usage,
                    raster::RasterError::Draw(_) => Exit::Failed,
                };
                Failure::new(exit, error)
            })?;
            to_file(path, |out| out.write_all(&drawn))?;
        }
        Some((path, _)) => {
            let message = format!(
                "`{}` names no format; hint: end it in .svg, .png or .json",
                path.display()
            );
            return Err(Failure::message(Exit::Usage, message));
        }
        None if console.format == Format::Json => as_json(console.out)?,
        None => {
            let colour = console.colour.on_stdout();
            let screen = terminal::Screen { columns: args.columns, rows: args.rows, colour };
            console.out.write_all(terminal::render(&figure, screen).as_bytes())?;
        }
    }
    Ok(Exit::Done)
}
