//! The exponents of the law under every resampled fit: how far they are known, and how they trade
//! against each other and against the floor E.

use sweep_fit::Fit;
use sweep_spec::run::RunRole;

use super::runs::{ends, figure, law_facts};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Shape, Style, Tone, Weight},
    input::PlotInput,
    text::typeset,
};

/// Resampled fits on a figure: more are a smear, and the first are as good as any.
const FITS_MOST: usize = 400;

/// The exponents of N and D by law.
const EXPONENTS: [[&str; 2]; 2] = [["alpha", "beta"], ["alpha_N", "alpha_D"]];

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let pair = input.fit.as_ref().and_then(exponents);
    let missing = match (&input.fit, pair) {
        (None, _) => Some("No law is fitted.".to_owned()),
        (Some(_), None) => {
            Some("The law has no exponent of its own for each of N and D.".to_owned())
        }
        (Some(fit), _) if fit.replicates.len() < 2 => Some(
            "The fit was not resampled; `bootstrap` under `[fit]` in the recipe asks for it."
                .to_owned(),
        ),
        _ => None,
    };
    let [first, second] = pair.unwrap_or(EXPONENTS[0]);
    let mut panels = vec![cloud(input.fit.as_ref(), first, second)];
    if input.fit.as_ref().is_some_and(|fit| fit.param("E").is_some()) {
        panels.push(cloud(input.fit.as_ref(), "E", first));
    }
    let fitted =
        |run: &&crate::input::RunCurve| run.role == RunRole::Fit && run.final_loss().is_some();
    let mut facts = law_facts(input, input.runs.iter().filter(fitted).count());
    let made = input.fit.as_ref().map_or(0, |fit| fit.replicates.len());
    facts.c_convention = None;
    facts.notes.push(format!(
        "Each point is a fit to resampled runs: {} of {made} are drawn. Constants that lie along a \
         line are known together, not each by itself.",
        made.min(FITS_MOST)
    ));
    let description = format!(
        "The exponents {} and {} under {made} resampled fits.",
        typeset(first),
        typeset(second)
    );
    figure(name, "The law under resampling", description, panels, facts, missing)
}

fn exponents(fit: &Fit) -> Option<[&'static str; 2]> {
    EXPONENTS.into_iter().find(|pair| pair.iter().all(|name| fit.param(name).is_some()))
}

/// Two constants against each other: every resampled fit, and the fit to all runs.
fn cloud(fit: Option<&Fit>, across: &str, up: &str) -> Panel {
    let mut panel = Panel::new(Axis::linear(&typeset(across), ""), Axis::linear(&typeset(up), ""))
        .titled(&format!("{} against {}", typeset(up), typeset(across)));
    let place = |name: &str| fit?.params.iter().position(|parameter| parameter.name == name);
    let (Some(fit), Some(x), Some(y)) = (fit, place(across), place(up)) else { return panel };
    let points: Vec<[f64; 2]> = fit
        .replicates
        .iter()
        .take(FITS_MOST)
        .filter_map(|values| Some([*values.get(x)?, *values.get(y)?]))
        .filter(|place| place.iter().all(|value| value.is_finite()))
        .collect();
    if let Some(equal) = diagonal(&points).filter(|_| across != "E") {
        panel.series.push(equal);
    }
    let style = Style::points(Tone::Law, Shape::Ring).weight(Weight::Faint);
    let text = "a resampled fit";
    panel.series.push(Series::new(text, style, Mark::Points { points }).legend(text));
    let best = [fit.params[x].estimate.value, fit.params[y].estimate.value];
    let style = Style::points(Tone::Ink, Shape::Diamond).weight(Weight::Bold);
    let text = "the fit to all runs";
    panel.series.push(Series::new(text, style, Mark::Points { points: vec![best] }).legend(text));
    panel
}

/// Where both exponents are equal and a budget is best split evenly, as far as the points reach.
fn diagonal(points: &[[f64; 2]]) -> Option<Series> {
    let [left, right] = ends(points.iter().map(|p| p[0]))?;
    let [bottom, top] = ends(points.iter().map(|p| p[1]))?;
    let (low, high) = (left.max(bottom), right.min(top));
    (low < high).then(|| {
        let style = Style::line(Tone::Muted).dash(Dash::Dashed);
        let text = "equal: N* and D* grow alike";
        let mark = Mark::Line { points: vec![[low, low], [high, high]] };
        Series::new(text, style, mark).legend(text)
    })
}
