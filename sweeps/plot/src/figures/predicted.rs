//! The law's losses against the measured ones, and what it leaves over. Check runs were held out:
//! their error is the error of a forecast, and stands on the figure.

use sweep_fit::Fit;
use sweep_spec::run::RunRole;

use super::runs::{
    CHECK, Sizes, diagonal, ends, figure, finished, law_facts, missing, no_error,
    prediction_panels, scatter,
};
use crate::{
    figure::{Figure, Mark, Panel, Series, Style, Tone},
    input::{PlotInput, RunCurve},
    text::{error_percent, forecast_text, percent, rms_percent},
};

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let [mut against, mut over] = prediction_panels("what the law leaves over");
    let sizes = Sizes::of(&input.runs);
    let runs = finished(input);
    let missing = missing(input, true);
    let mut facts = law_facts(input, runs.len());
    let mut description = "Loss predicted by the law against measured loss.".to_owned();
    if let Some(fit) = input.fit.as_ref().filter(|_| missing.is_none()) {
        draw(&mut against, &mut over, fit, &runs, &sizes);
        for run in runs.iter().filter(|run| run.role == RunRole::Check) {
            if let Some(text) = forecast_text(fit, run) {
                description = format!("{description} {text}");
                facts.notes.push(text);
            }
        }
        if let Some(rms) = rms_percent(fit, &runs) {
            facts.notes.push(format!("Root mean square of the fitted runs' errors: {rms:.2} %."));
        }
    }
    figure(name, "Predicted and measured loss", description, vec![against, over], facts, missing)
}

fn draw(against: &mut Panel, over: &mut Panel, fit: &Fit, runs: &[&RunCurve], sizes: &Sizes) {
    let both = |run: &RunCurve| Some([run.final_loss()?, fit.predict(run.n, run.d)?]);
    against.series.extend(diagonal(runs.iter().filter_map(|run| both(run)).flatten()));
    let error = |run: &RunCurve| Some([run.compute(), error_percent(fit, run)?]);
    if let Some([low, high]) = ends(runs.iter().map(|run| run.compute())) {
        over.series.push(no_error(low * 0.7, high * 1.4));
    }
    against.series.extend(scatter(runs, sizes, both));
    over.series.extend(scatter(runs, sizes, error));
    for run in runs.iter().filter(|run| run.role == RunRole::Check) {
        let (Some(place), Some(at), Some(measured)) = (both(run), error(run), run.final_loss())
        else {
            continue;
        };
        let text = format!("forecast error {}", percent(at[1]));
        against.note(place, text, Tone::Ink);
        over.note(at, percent(at[1]), Tone::Ink);
        if let Some([low, high]) = fit.forecast(run.n, run.d).and_then(|f| f.run95) {
            let label = format!("95 % interval of the forecast of {}", run.label);
            let legend = "95 % interval of the forecast";
            let style = Style { shape: None, ..CHECK };
            let mark = Mark::Intervals { points: vec![[measured, low, high]] };
            against.series.push(Series::new(label.clone(), style, mark).legend(legend));
            let relative = |loss: f64| 100.0 * (loss / measured - 1.0);
            let mark = Mark::Intervals { points: vec![[at[0], relative(low), relative(high)]] };
            over.series.push(Series::new(label, style, mark).legend(legend));
        }
    }
}
