//! Data that is seen more than once: final loss against passes over the data, beside what the law
//! says that takes every token for new; and what repeated tokens are worth by a law that tells them
//! apart (Muennighoff et al. 2023, arXiv 2305.16264), where it could be fitted.

use sweep_fit::Fit;

use super::runs::{
    PLACES, Sizes, ends, figure, finished, law_facts, log_places, loss_axis, scatter,
};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Style, Tone, Weight},
    input::{PlotInput, RunCurve},
    text::{estimate, single_law_text},
};

/// Share of the worth of repeated tokens that must be gone before the scale of the loss is named.
const WEAR_LEAST: f64 = 0.01;

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let runs: Vec<&RunCurve> =
        finished(input).into_iter().filter(|run| epochs(run).is_some()).collect();
    let repeated = runs.iter().filter(|run| epochs(run).is_some_and(|e| e > 1.0 + 1e-9)).count();
    let missing =
        (repeated == 0).then(|| "No finished run saw its data more than once.".to_owned());
    let sizes = Sizes::of(&input.runs);
    let mut loss =
        Panel::new(Axis::log("passes over the data, D/U", ""), loss_axis("loss")).titled("loss");
    draw_loss(&mut loss, input, &runs, &sizes);
    let mut panels = vec![loss];
    let mut facts = law_facts(input, runs.len());
    facts.c_convention = None;
    facts.notes.push(format!("{repeated} runs saw data more than once; U: unique tokens."));
    match &input.repeat_law {
        Some(law) => {
            facts.notes.push(format!("Law of repeats: {}.", single_law_text(law)));
            panels.push(worth(law, &runs));
        }
        None => facts.notes.push(
            "A law that tells repeats from new data could not be fitted to these runs.".to_owned(),
        ),
    }
    let description = format!(
        "Loss of {} runs against passes over their data, {repeated} of them with repeats.",
        runs.len()
    );
    figure(name, "Repeated data", description, panels, facts, missing)
}

fn epochs(run: &RunCurve) -> Option<f64> {
    run.unique.filter(|unique| *unique > 0.0).map(|unique| run.d / unique)
}

/// Final losses, a region of repeats, and the law at each size that takes every token for new.
fn draw_loss(panel: &mut Panel, input: &PlotInput, runs: &[&RunCurve], sizes: &Sizes) {
    let Some([low, high]) = ends(runs.iter().filter_map(|run| epochs(run))) else { return };
    let region = Mark::Region { from: 1.0, to: f64::INFINITY };
    let text = "data seen again";
    panel.series.push(Series::new(text, Style::line(Tone::Muted), region).legend(text));
    for n in sizes.iter() {
        // One amount of data for all runs of a size gives one curve.
        let unique = ends(runs.iter().filter(|run| run.n == n).filter_map(|run| run.unique));
        let (Some(fit), Some([least, most])) = (&input.fit, unique) else { continue };
        if least < most {
            continue;
        }
        let place = |e: f64| Some([e, fit.predict(n, e * most)?]);
        let points: Vec<[f64; 2]> =
            log_places(low, high, PLACES / 2).into_iter().filter_map(place).collect();
        let style = Style::line(sizes.tone(n)).dash(Dash::Dashed).weight(Weight::Faint);
        let text = "the law, every token new";
        panel.series.push(Series::new(text, style, Mark::Line { points }).legend(text));
    }
    panel.series.extend(scatter(runs, sizes, |run| Some([epochs(run)?, run.final_loss()?])));
}

/// D'/U against D/U by the law of repeats.
fn worth(law: &Fit, runs: &[&RunCurve]) -> Panel {
    let mut panel = Panel::new(
        Axis::log("passes over the data, D/U", ""),
        Axis::log("worth in new data, D'/U", ""),
    )
    .titled("effective data");
    let Some([_, high]) = ends(runs.iter().filter_map(|run| epochs(run))) else { return panel };
    let high = high.max(2.0);
    let style = Style::line(Tone::Muted).dash(Dash::Dashed);
    let mark = Mark::Line { points: vec![[1.0, 1.0], [high, high]] };
    let text = "every token as good as new";
    panel.series.push(Series::new(text, style, mark).legend(text));
    let place = |e: f64| Some([e, law.effective_tokens(e, 1.0)?]);
    let points: Vec<[f64; 2]> =
        log_places(1.0, high, PLACES / 2).into_iter().filter_map(place).collect();
    let end = points.last().copied();
    let style = Style::line(Tone::Law).weight(Weight::Bold);
    let text = "law of repeats";
    panel.series.push(Series::new(text, style, Mark::Line { points }).legend(text));
    let saturation = law.params.iter().find(|parameter| parameter.name == "R_D");
    if let (Some(at), Some(parameter)) = (end, saturation) {
        // A scale far beyond the passes that were seen is no measurement of it.
        let wears = at[1] < (1.0 - WEAR_LEAST) * at[0];
        let text = match wears {
            true => format!("R_D = {}", estimate(&parameter.estimate)),
            false => "no wear seen".to_owned(),
        };
        panel.note(at, text, Tone::Law);
    }
    panel
}
