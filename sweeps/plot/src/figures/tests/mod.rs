//! Pictures of a small sweep, and of sweeps that have too little to draw.

pub(super) mod example;

use sweep_spec::run::RunRole;

use super::*;
use crate::{
    figure::{Mark, Panel, Scale},
    input::{DiffusionInput, DiffusionRun, PlotInput, RunState, SampleSheet},
    render::{
        Paint, json,
        raster::{self, RasterError},
        svg, terminal,
        terminal::Screen,
    },
};
use resvg::tiny_skia::Pixmap;

fn svg_of(kind: FigureKind) -> String {
    svg::render(&kind.build(&example::sweep()), Paint::Standalone)
}

fn json_of(figure: &Figure) -> serde_json::Value {
    json::render(figure, serde_json::value::Serializer).expect("a figure is plain data")
}

const SCREEN: Screen = Screen { columns: 80, rows: 20, colour: false };

#[test]
fn pictures_stay_as_they_were_looked_at() {
    for kind in FigureKind::ALL {
        insta::assert_snapshot!(format!("{kind}.svg"), svg_of(kind));
    }
}

#[test]
fn budgets_have_their_parabolas_with_a_verdict() {
    for kind in [FigureKind::Isoflop, FigureKind::Optimum] {
        let figure = kind.build(&example::budgets());
        assert_eq!(figure.facts.runs_drawn, 15);
        let name = format!("{kind}-budgets.svg");
        insta::assert_snapshot!(name, svg::render(&figure, Paint::Standalone));
    }
    let text = svg::render(&FigureKind::Isoflop.build(&example::budgets()), Paint::Standalone);
    assert!(text.contains("edge minimum") || text.contains("no optimum"));
}

#[test]
fn terminal_pictures_stay_as_they_were_looked_at() {
    for kind in FigureKind::ALL {
        let text = terminal::render(&kind.build(&example::sweep()), SCREEN);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{kind}:\n{text}");
        insta::assert_snapshot!(format!("{kind}.txt"), text);
    }
}

#[test]
fn the_json_of_a_figure_is_its_data() {
    for (name, figure) in examples() {
        let value = json_of(&figure);
        assert_eq!(value["schema"], "sweep.figure/1");
        assert_eq!(value["name"], figure.name);
        insta::assert_snapshot!(format!("{name}.json"), lines_of(&figure));
    }
}

/// A figure of every kind.
fn examples() -> Vec<(String, Figure)> {
    let of = |input: &PlotInput, kinds: &[FigureKind], more: &str| -> Vec<(String, Figure)> {
        kinds.iter().map(|kind| (format!("{kind}{more}"), kind.build(input))).collect()
    };
    let scored = example::scored();
    let of_tasks = &FigureKind::of(&scored)[FigureKind::ALL.len() + FigureKind::FURTHER.len()..];
    [
        of(&example::sweep(), &FigureKind::ALL, ""),
        of(&example::budgets(), &[FigureKind::Isoflop, FigureKind::Optimum], "-budgets"),
        of(&example::further(), &FigureKind::FURTHER, ""),
        of(&images(), &FigureKind::DIFFUSION, ""),
        of(&scored, of_tasks, ""),
    ]
    .concat()
}

/// Seven digits: the last ones of a fit depend on the library of the machine.
struct Rounded;

impl serde_json::ser::Formatter for Rounded {
    fn write_f64<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        v: f64,
    ) -> std::io::Result<()> {
        write!(out, "{}", format!("{v:.6e}").parse::<f64>().expect("a number"))
    }
}

/// The JSON of a figure, a line for each axis, series and picture: a change shows where it is.
fn lines_of(figure: &Figure) -> String {
    let mut bytes = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, Rounded);
    json::render(figure, &mut writer).expect("plain data");
    let text = String::from_utf8(bytes).expect("JSON is UTF-8");
    ["\"x\":{", "\"y\":{", "{\"label\":", "{\"caption\":", "{\"side\":", "\"notes\":", "\"facts\":"]
        .iter()
        .fold(text, |text, part| text.replace(part, &format!("\n{part}")))
}

#[test]
fn every_figure_states_its_facts() {
    for kind in FigureKind::ALL {
        let text = svg_of(kind);
        for fact in ["runs drawn: ", "hidden: ", "failed or diverged: 2", "N: all parameters"] {
            assert!(text.contains(fact), "{kind} lacks `{fact}`");
        }
        let figure = kind.build(&example::sweep());
        assert!(figure.missing.is_none(), "{kind}: {:?}", figure.missing);
        for panel in &figure.panels {
            assert!(!panel.x.label.is_empty() && !panel.y.label.is_empty());
            assert_eq!(panel.x.scale, Scale::Log, "{kind}");
        }
    }
}

#[test]
fn the_forecast_error_stands_on_the_figure() {
    let input = example::sweep();
    let check = input.runs.last().expect("the check run");
    let fit = input.fit.as_ref().expect("a fit");
    let forecast = fit.predict(check.n, check.d).expect("a law of N and D");
    let error = 100.0 * (forecast / check.loss.expect("done") - 1.0);
    let expected = format!("forecast error {error:+.2} %").replace('-', "\u{2212}");
    assert!(svg_of(FigureKind::Predicted).contains(&expected), "{expected}");
}

#[test]
fn failed_and_diverged_runs_are_marked_with_their_reason() {
    let text = svg_of(FigureKind::LossCurves(CurveAxis::Tokens));
    assert!(text.contains("n0-d2: failed, the device ran out of memory"));
    assert!(text.contains("n3-d0: diverged, loss became infinite at step 97"));
    assert!(!text.contains("NaN"), "a coordinate is not a number");
}

/// Sweeps with too little: nothing, one run, one run without a fit, only failures, no curves.
fn poor_inputs() -> Vec<(&'static str, PlotInput)> {
    let whole = example::sweep();
    let with = |runs: Vec<_>, fit: bool| PlotInput {
        runs,
        fit: whole.fit.clone().filter(|_| fit),
        ..whole.clone()
    };
    let mut failed = whole.runs.clone();
    for run in &mut failed {
        example::spoil(run, RunState::Diverged, "<b>&", 1);
        run.validation.clear();
        run.train.clear();
    }
    let mut bare = whole.runs.clone();
    for run in &mut bare {
        run.validation.clear();
        run.train.clear();
    }
    let mut waiting = bare.clone();
    for run in &mut waiting {
        run.state = RunState::Waiting;
        run.loss = None;
    }
    vec![
        ("no runs", with(Vec::new(), false)),
        ("a fit without runs", with(Vec::new(), true)),
        ("one run", with(whole.runs[..1].to_vec(), false)),
        ("one run and a fit", with(whole.runs[..1].to_vec(), true)),
        ("failed runs", with(failed, false)),
        ("waiting runs", with(waiting, false)),
        ("no curves", with(bare, true)),
        ("no fit", with(whole.runs.clone(), false)),
    ]
}

#[test]
fn poor_sweeps_are_drawn_without_panic_and_say_what_is_missing() {
    for (case, input) in poor_inputs() {
        for kind in FigureKind::ALL {
            let figure = kind.build(&input);
            for paint in [Paint::Standalone, Paint::Inline] {
                let text = svg::render(&figure, paint);
                assert!(text.ends_with("</svg>\n"), "{case}, {kind}");
                assert!(!text.contains("NaN") && !text.contains("inf "), "{case}, {kind}:\n{text}");
            }
            assert!(terminal::render(&figure, SCREEN).starts_with(&figure.title), "{case}, {kind}");
            json_of(&figure);
            let drawn = figure.panels.iter().flat_map(|panel| &panel.series).any(|series| {
                !matches!(series.mark, Mark::Region { .. }) && !series.mark.extent().is_empty()
            });
            assert!(drawn || figure.missing.is_some(), "{case}, {kind}: empty without a word");
        }
    }
    let (_, input) = poor_inputs().swap_remove(4);
    let text = svg::render(&FigureKind::LossCompute.build(&input), Paint::Standalone);
    assert!(text.contains("All 13 runs failed or diverged"), "{text}");
}

#[test]
fn text_of_others_cannot_leave_its_place() {
    let mut input = example::sweep();
    input.runs[2].reason = Some("</title><script>alert(1)</script>\u{1b}[31m".to_owned());
    input.n_convention = "N <all> & \"more\"".to_owned();
    for kind in FigureKind::ALL {
        let figure = kind.build(&input);
        let text = svg::render(&figure, Paint::Inline);
        assert!(!text.contains("<script") && !text.contains('\u{1b}'), "{kind}");
        assert!(!terminal::render(&figure, SCREEN).contains('\u{1b}'), "{kind}");
    }
}

#[test]
fn more_runs_than_a_drawing_holds_are_counted() {
    let mut input = example::sweep();
    let run = input.runs[0].clone();
    input.runs = (0..250)
        .map(|i| {
            let label = format!("run {i}");
            crate::input::RunCurve { label, d: run.d * (1.0 + f64::from(i)), ..run.clone() }
        })
        .collect();
    let rehearsal = input.rehearsal.as_mut().expect("the sweep has one");
    rehearsal.points = rehearsal.points.iter().cycle().take(250).cloned().collect();
    for kind in FigureKind::ALL {
        let facts = kind.build(&input).facts;
        assert_eq!((facts.runs_drawn, facts.runs_hidden), (100, 150), "{kind}");
    }
}

/// The sweep as one of diffusion models: every run has bins, and all but one left samples.
fn images() -> PlotInput {
    let sweep = example::sweep();
    let run = |place: usize| DiffusionRun {
        noise_bins: (1..=5).map(|bin| Some(0.5 / f64::from(bin) + 0.01 * place as f64)).collect(),
        samples: (place != 4).then(|| SampleSheet {
            side: 8,
            channels: 1,
            sampler: "ddim, 50 steps".to_owned(),
            images: vec![vec![u8::try_from(10 * place).unwrap(); 64]; 8],
            path: (0..5).map(|state| (1000 - 250 * state, vec![100; 64])).collect(),
        }),
    };
    let runs = (0..sweep.runs.len()).map(run).collect();
    PlotInput { diffusion: Some(DiffusionInput { runs }), ..sweep }
}

#[test]
fn diffusion_models_have_pictures_in_either_form() {
    for kind in FigureKind::DIFFUSION {
        let figure = kind.build(&images());
        assert!(figure.missing.is_none(), "{kind}: {:?}", figure.missing);
        let drawn = svg::render(&figure, Paint::Standalone);
        let pictures = match kind {
            FigureKind::Samples => 10 * 8,
            FigureKind::DenoisingPath => 5,
            _ => 0,
        };
        assert_eq!(drawn.matches("href=\"data:image/png;base64,iVBOR").count(), pictures, "{kind}");
        let text = terminal::render(&figure, SCREEN);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{kind}:\n{text}");
        assert_eq!(text.contains("--output"), pictures > 0, "{kind}:\n{text}");
        let empty = kind.build(&example::sweep());
        assert!(svg::render(&empty, Paint::Inline).contains("no diffusion models"), "{kind}");
    }
    let grid = FigureKind::Samples.build(&images()).pictures.expect("pictures");
    // Two runs failed, one left no samples, and the check run has a row and a column of its own.
    assert_eq!((grid.rows.len(), grid.columns.len()), (5, 4));
    assert_eq!(grid.cells.iter().flatten().count(), 10);
}

#[test]
fn figures_are_drawn_in_pixels_with_their_text_and_pictures() {
    for kind in FigureKind::ALL.into_iter().chain(FigureKind::DIFFUSION) {
        let file = raster::render(&kind.build(&images()), 0.5).unwrap();
        let drawn = Pixmap::decode_png(&file).unwrap();
        assert_eq!(drawn.width(), 430, "{kind}");
        // The title is the first thing down from the edge, dark on white.
        let title = &drawn.pixels()[..430 * 14];
        let dark = title.iter().filter(|pixel| pixel.red() < 100).count();
        assert!(dark > 40 && dark < title.len() / 4, "{kind}: {dark} dark pixels");
    }
    let path = raster::render(&FigureKind::DenoisingPath.build(&images()), 1.0).unwrap();
    let drawn = Pixmap::decode_png(&path).unwrap();
    let grey = |pixel: [u8; 3]| pixel == [100; 3];
    let of_picture = drawn.pixels().iter().filter(|p| grey([p.red(), p.green(), p.blue()]));
    assert!(of_picture.count() > 5 * 60 * 60, "five pictures, 72 pixels wide at most");
    let huge = raster::render(&FigureKind::Predicted.build(&images()), 100.0);
    assert!(matches!(huge, Err(RasterError::TooLarge { .. })));
    assert!(raster::render(&FigureKind::Predicted.build(&images()), f32::NAN).is_err());
}

#[test]
fn figures_are_found_by_name() {
    for kind in FigureKind::ALL.into_iter().chain(FigureKind::DIFFUSION) {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert_eq!("loss-curves".parse(), Ok(FigureKind::LossCurves(CurveAxis::Tokens)));
    let error = "los".parse::<FigureKind>().expect_err("no figure");
    assert!(error.to_string().contains("loss-compute"), "{error}");
}

#[test]
fn a_scored_sweep_has_figures_of_its_tasks_and_its_calibration() {
    let input = example::scored();
    let kinds = FigureKind::of(&input);
    let general = [&FigureKind::ALL[..], &FigureKind::FURTHER].concat();
    let of_tasks = &kinds[general.len()..];
    assert_eq!(of_tasks, [FigureKind::Emergence(1), FigureKind::Calibration(0)]);
    assert_eq!(FigureKind::of(&example::sweep()), general);
    for kind in of_tasks {
        assert_eq!(kind.name().parse(), Ok(*kind));
        let figure = kind.build(&input);
        assert_eq!(figure.missing, None, "{kind}");
        insta::assert_snapshot!(format!("{kind}.svg"), svg::render(&figure, Paint::Standalone));
        let text = terminal::render(&figure, SCREEN);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{kind}:\n{text}");
        insta::assert_snapshot!(format!("{kind}.txt"), text);
    }
    let text = svg::render(&FigureKind::Emergence(1).build(&input), Paint::Standalone);
    assert!(text.contains("exact match cannot see a rate below 1/200"), "the resolution is said");
    assert!(text.contains("the jump is in the metric"), "the verdict is said");
}

#[test]
fn a_bend_stands_on_its_axis_and_only_where_one_was_found() {
    let mut input = example::scored();
    let figure = FigureKind::Emergence(1).build(&input);
    let places = |figure: &Figure| -> Vec<usize> {
        let bent = |panel: &Panel| panel.notes.iter().any(|note| note.text.starts_with("bend at "));
        (0..figure.panels.len()).filter(|place| bent(&figure.panels[*place])).collect()
    };
    assert_eq!(places(&figure), [0, 2, 5], "exact match over C and loss, -ln p over loss");
    assert!(figure.facts.interval.as_deref().is_some_and(|text| text.contains("bend")));
    let band = figure.panels[0].series.iter().find_map(|series| match &series.mark {
        Mark::Band { points } if series.label.contains("bend") => Some(points.clone()),
        _ => None,
    });
    assert_eq!(band.expect("a band").iter().map(|p| p[0]).collect::<Vec<_>>(), [6e11, 2.1e12]);
    input.tasks[0].bends.clear();
    let figure = FigureKind::Emergence(1).build(&input);
    assert!(places(&figure).is_empty());
    assert!(!svg::render(&figure, Paint::Standalone).contains("bend at"));
}

#[test]
fn figures_of_some_sweeps_are_drawn_there_and_say_elsewhere_what_is_missing() {
    for kind in FigureKind::FURTHER {
        let figure = kind.build(&example::further());
        assert_eq!(figure.missing, None, "{kind}");
        insta::assert_snapshot!(format!("{kind}.svg"), svg::render(&figure, Paint::Standalone));
        let text = terminal::render(&figure, SCREEN);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{kind}:\n{text}");
        insta::assert_snapshot!(format!("{kind}.txt"), text);
        assert_eq!(kind.name().parse(), Ok(kind));
        for (case, input) in poor_inputs() {
            let figure = kind.build(&input);
            assert!(figure.missing.is_some(), "{case}, {kind}");
            assert!(svg::render(&figure, Paint::Inline).ends_with("</svg>\n"), "{case}, {kind}");
        }
    }
    let worth = FigureKind::Repeats.build(&example::further()).panels.remove(1);
    let law = worth.series.iter().find(|series| series.label == "law of repeats");
    let Some(Mark::Line { points }) = law.map(|series| series.mark.clone()) else {
        panic!("a line of the law")
    };
    assert!(points.iter().all(|[passes, worth]| (1.0..=*passes).contains(worth)), "{points:?}");
    let notes = FigureKind::Throughput.build(&example::further()).facts.notes.concat();
    assert!(notes.contains("no MFU: AMD EPYC"), "{notes}");
    let drawn = FigureKind::LearningRate.build(&example::further()).facts.runs_drawn;
    assert_eq!(drawn, 3, "one pair of N and D has three rates");
}

/// Runs at other learning rates stand on no figure of the grid, whatever their losses.
#[test]
fn other_learning_rates_change_no_other_figure() {
    let plain = images();
    let mut more = plain.clone();
    for (place, loss) in [(4, 0.1), (7, 9.0)] {
        let run = plain.runs[place].clone();
        more.runs.push(crate::input::RunCurve {
            label: format!("tuned-{place}"),
            learning_rate: 0.05,
            role: RunRole::Sensitivity,
            loss: Some(loss),
            ..run
        });
        let diffusion = more.diffusion.as_mut().expect("they are diffusion models");
        diffusion.runs.push(diffusion.runs[place].clone());
    }
    let waiting = more.runs.last().expect("just pushed").clone();
    let ended = RunState::Diverged;
    more.runs.push(crate::input::RunCurve { state: RunState::Waiting, ..waiting.clone() });
    more.runs.push(crate::input::RunCurve { state: ended, reason: Some("inf".into()), ..waiting });
    for kind in FigureKind::of(&plain) {
        let [before, after] = [&plain, &more].map(|input| kind.build(input));
        if kind == FigureKind::LearningRate {
            assert!(before.missing.is_some() && after.missing.is_none());
            let notes = after.facts.notes.concat();
            assert!(notes.contains("lower in loss than the recipe's own"), "{notes}");
            assert!(notes.contains("the best of 2"), "{notes}");
        } else {
            assert_eq!(json_of(&before), json_of(&after), "{kind}");
        }
    }
}

#[test]
fn figures_of_tasks_say_what_is_missing() {
    let mut input = example::scored();
    assert!(FigureKind::Emergence(2).build(&input).missing.is_some());
    assert!(FigureKind::Calibration(3).build(&input).missing.is_some());
    input.tasks[0].scores.clear();
    let figure = FigureKind::Emergence(1).build(&input);
    assert!(figure.missing.expect("no scores").contains("copying 8"));
    assert!("emergence-13".parse::<FigureKind>().is_err());
    assert_eq!("emergence".parse(), Ok(FigureKind::Emergence(1)));
}
