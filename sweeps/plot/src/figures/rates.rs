//! How much the learning rate matters: final loss against the peak rate, one line for each size, data
//! size and seed that was trained at several, with the recipe's own rate marked.

use sweep_spec::units::si;

use super::runs::{RUNS_MOST, Sizes, ends, facts, figure, loss_axis, size_legend};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Style, Tone, Weight},
    input::{PlotInput, RunCurve},
    rates::{Place, caveat, places},
};

/// The rate of the runs that are fitted, in the legend.
const OWN: &str = "the recipe's own rate, that of the fit";

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let places = places(&input.runs);
    let lines: Vec<Vec<&RunCurve>> = places.iter().flat_map(lines).collect();
    let all: usize = lines.iter().map(Vec::len).sum();
    let sizes = Sizes::of(&input.runs);
    let mut panel =
        Panel::new(Axis::log("peak learning rate at the base width", ""), loss_axis("loss"));
    let mut drawn = 0;
    for line in &lines {
        if drawn + line.len() > RUNS_MOST {
            break;
        }
        drawn += line.len();
        draw_line(&mut panel, line, &sizes);
    }
    draw_own(&mut panel, &places);
    let mut facts = facts(input, drawn);
    facts.runs_hidden = all - drawn;
    facts.runs_failed = input.runs.iter().filter(|run| run.failed()).count();
    let sentences: Vec<String> = places.iter().filter_map(Place::sentence).collect();
    if !sentences.is_empty() {
        facts.notes.extend(sentences);
        facts.notes.push(caveat(&places));
    }
    let missing = lines.is_empty().then(|| {
        let why = if places.is_empty() {
            "No place was trained at several rates; `[sensitivity]` in a recipe asks for it."
        } else {
            "No run at another rate than its recipe's own is done yet, with that at its own."
        };
        why.to_owned()
    });
    let description = format!(
        "Final loss against the peak learning rate for {} pairs of N and D, both axes logarithmic.",
        places.len()
    );
    figure(name, "Learning-rate sensitivity", description, vec![panel], facts, missing)
}

/// The finished runs of each seed that has several rates, in the order of rates.
fn lines<'a>(place: &Place<'a>) -> Vec<Vec<&'a RunCurve>> {
    let runs = place.own.iter().chain(&place.others).copied();
    let mut runs: Vec<&RunCurve> = runs.filter(|run| run.final_loss().is_some()).collect();
    runs.sort_by(|a, b| a.seed.cmp(&b.seed).then(a.learning_rate.total_cmp(&b.learning_rate)));
    let seeds = runs.chunk_by(|a, b| a.seed == b.seed);
    seeds.filter(|line| line.len() > 1).map(<[&RunCurve]>::to_vec).collect()
}

fn draw_line(panel: &mut Panel, line: &[&RunCurve], sizes: &Sizes) {
    let points: Vec<[f64; 2]> =
        line.iter().filter_map(|run| Some([run.learning_rate, run.final_loss()?])).collect();
    let (n, d) = (line[0].n, line[0].d);
    let style = sizes.points(n);
    let faint = Style { shape: None, ..style }.weight(Weight::Faint);
    let label = format!("{}, D = {}", size_legend(n), si(d));
    panel.series.push(Series::new(label.clone(), faint, Mark::Line { points: points.clone() }));
    if let Some(best) = points.iter().copied().min_by(|a, b| a[1].total_cmp(&b[1])) {
        let text = format!("D = {}: best {:.3e}", si(d), best[0]);
        panel.note(best, text, style.tone);
    }
    let marks = Series::new(label, style, Mark::Points { points });
    panel.series.push(marks.legend(size_legend(n)));
}

/// An upright line at every rate that the recipe itself has for a place.
fn draw_own(panel: &mut Panel, places: &[Place<'_>]) {
    let losses = panel.series.iter().flat_map(|series| series.mark.extent()).map(|at| at[1]);
    let Some([low, high]) = ends(losses) else { return };
    let mut rates: Vec<f64> =
        places.iter().flat_map(|place| &place.own).map(|run| run.learning_rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    for rate in rates {
        let style = Style::line(Tone::Reference).dash(Dash::Dotted);
        let mark = Mark::Line { points: vec![[rate, low], [rate, high]] };
        panel.series.push(Series::new(OWN, style, mark).legend(OWN));
    }
}
