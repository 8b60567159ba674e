//! Loss against N at equal compute: one curve for each budget.
//!
//! Where the runs stand on budgets, each budget has its measured losses, its parabola and its
//! minimum with a verdict. On a plain grid no two runs have equal compute; then the law's curves
//! are drawn at a few budgets, with the runs whose compute is near, and the caption says so.

use sweep_fit::{Budget, Fit, Isoflop, Verdict};
use sweep_spec::{run::RunRole, units::si};

use super::runs::{
    CHECK, CHECK_LEGEND, PLACES, ends, figure, finished, fitted_compute, law_facts, log_places,
    look, loss_axis, missing,
};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Shape, Style, Tone, Weight},
    input::{PlotInput, RunCurve},
};

/// How the interval of a measured minimum is made.
pub(super) const INTERVAL: &str = "95 % of N* from the scatter about a cubic in ln N, with five sizes or fewer about the parabola";

/// Budgets drawn from a law.
const BUDGETS: usize = 5;
/// Measured budgets on one figure: more cannot be told apart.
const BUDGETS_MOST: usize = 12;
/// Room above and below the measured losses; a law's curves leave the figure there.
const ROOM: f64 = 1.08;

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let mut panel = Panel::new(Axis::log("parameters N", ""), loss_axis("loss"));
    let runs = finished(input);
    let mut facts = law_facts(input, runs.len());
    let parabolas = input.isoflop.as_ref().and_then(|fit| fit.isoflop.as_ref());
    let gap = missing(input, parabolas.is_none());
    if gap.is_none() {
        let drawn = if let Some(parabolas) = parabolas {
            facts.law = Some("a parabola in ln N for each budget".to_owned());
            facts.interval = Some(INTERVAL.to_owned());
            facts.c_convention = Some("C: the budget that a run was planned for".to_owned());
            draw_budgets(&mut panel, parabolas)
        } else if let (Some(fit), Some(range)) = (&input.fit, fitted_compute(input)) {
            facts.notes.push(
                "The runs stand on a grid, not on budgets: the curves are the law's, and a run is \
                 drawn beside the budget nearest to its own compute, from which it may differ."
                    .to_owned(),
            );
            draw_law(&mut panel, fit, range, &runs)
        } else {
            0
        };
        facts.runs_hidden += facts.runs_drawn.saturating_sub(drawn);
        facts.runs_drawn = drawn;
    }
    let description = "Loss against the number of parameters at equal training compute, one \
                       curve, colour and mark for each budget, with its minimum."
        .to_owned();
    figure(name, "isoFLOP curves", description, vec![panel], facts, gap)
}

fn budget_legend(flops: f64) -> String {
    format!("C = {} FLOPs", si(flops))
}

/// The law at a few budgets between the ends of the fitted runs' compute.
fn draw_law(panel: &mut Panel, fit: &Fit, [low, high]: [f64; 2], runs: &[&RunCurve]) -> usize {
    let budgets = log_places(low, high, BUDGETS);
    let nearest = |run: &RunCurve| {
        let distance = |budget: f64| (run.compute() / budget).ln().abs();
        let order = |a: &usize, b: &usize| distance(budgets[*a]).total_cmp(&distance(budgets[*b]));
        (0..budgets.len()).min_by(order)
    };
    let Some([least, most]) = ends(runs.iter().map(|run| run.n)) else { return 0 };
    let fitted = || runs.iter().filter(|run| run.role == RunRole::Fit);
    for (index, &budget) in budgets.iter().enumerate() {
        let (tone, shape) = look(index, budgets.len());
        let text = budget_legend(budget);
        let line = log_places(least / 1.5, most * 1.5, PLACES)
            .into_iter()
            .filter_map(|n| Some([n, fit.predict(n, budget / (6.0 * n))?]))
            .collect();
        let series =
            Series::new(format!("law at {text}"), Style::line(tone), Mark::Line { points: line });
        panel.series.push(series);
        let points: Vec<[f64; 2]> = fitted()
            .filter(|run| nearest(run) == Some(index))
            .filter_map(|run| Some([run.n, run.final_loss()?]))
            .collect();
        let mark = Mark::Points { points };
        panel.series.push(
            Series::new(format!("runs near {text}"), Style::points(tone, shape), mark).legend(text),
        );
    }
    let losses = ends(runs.iter().filter_map(|run| run.final_loss()));
    panel.y.range = losses.map(|[low, high]| [low / ROOM, high * ROOM]);
    let minima: Vec<[f64; 2]> = budgets
        .iter()
        .filter_map(|&c| fit.optimum(c).and_then(|best| Some([best.n, best.loss?])))
        .filter(|[n, _]| (least / 1.5..=most * 1.5).contains(n))
        .collect();
    draw_minima(panel, minima);
    let mut drawn = fitted().count();
    for run in runs.iter().filter(|run| run.role == RunRole::Check) {
        if let Some(loss) = run.final_loss() {
            let mark = Mark::Points { points: vec![[run.n, loss]] };
            panel.series.push(Series::new(run.label.clone(), CHECK, mark).legend(CHECK_LEGEND));
            drawn += 1;
        }
    }
    drawn
}

fn draw_minima(panel: &mut Panel, minima: Vec<[f64; 2]>) {
    if minima.is_empty() {
        return;
    }
    let style = Style::line(Tone::Law).dash(Dash::Dashed).weight(Weight::Bold);
    let line = Mark::Line { points: minima.clone() };
    panel.series.push(Series::new("minima", style, line).legend("minima of the law's curves"));
    let style = Style::points(Tone::Law, Shape::Diamond).weight(Weight::Bold);
    panel.series.push(Series::new("minima", style, Mark::Points { points: minima }));
}
/// Measured budgets: losses, parabola, minimum with its verdict. Gives the number of runs drawn.
fn draw_budgets(panel: &mut Panel, isoflop: &Isoflop) -> usize {
    let count = isoflop.budgets.len().min(BUDGETS_MOST);
    for (index, budget) in isoflop.budgets.iter().take(count).enumerate() {
        let (tone, shape) = look(index, count);
        let text = budget_legend(budget.flops);
        let points = budget.points.iter().map(|&(n, loss)| [n, loss]).collect();
        let style = Style::points(tone, shape);
        panel.series.push(Series::new(text.clone(), style, Mark::Points { points }).legend(text));
        let line = parabola(budget);
        if !line.is_empty() {
            let mark = Mark::Line { points: line };
            panel.series.push(Series::new("parabola", Style::line(tone), mark));
        }
        draw_verdict(panel, budget);
    }
    isoflop.budgets.iter().take(count).map(|budget| budget.points.len()).sum()
}

/// The parabola over the sizes of its budget.
fn parabola(budget: &Budget) -> Vec<[f64; 2]> {
    let (Some([a, b, c]), Some([low, high])) =
        (budget.parabola, ends(budget.points.iter().map(|point| point.0)))
    else {
        return Vec::new();
    };
    let loss = |n: f64| {
        let t = n.ln() - budget.centre;
        a + t * (b + t * c)
    };
    log_places(low, high, PLACES).into_iter().map(|n| [n, loss(n)]).collect()
}

/// A minimum that is sound has a filled mark and its N; a doubtful one an open mark and its doubt. One
/// at the edge, and none at all, has only words: it has no N* that the runs show.
fn draw_verdict(panel: &mut Panel, budget: &Budget) {
    let words = budget.verdict.words();
    let Some((n, _, loss)) = budget.minimum() else {
        let least = budget.points.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        if let Some(&(n, loss)) = least {
            panel.note([n, loss], words, Tone::Ink);
        }
        return;
    };
    let size = format!("N* = {}", si(n));
    let (shape, legend, text) = match budget.verdict {
        Verdict::Sound => (Shape::Diamond, "minimum of the parabola", size),
        _ => (Shape::Ring, "doubtful minimum", format!("{size}, {words}")),
    };
    if let Some(ends) = budget.interval() {
        let legend = "95 % interval of N*";
        let style = Style::line(Tone::Law).weight(Weight::Bold);
        let mark = Mark::Line { points: ends.map(|n| [n, loss]).to_vec() };
        panel.series.push(Series::new(legend, style, mark).legend(legend));
    }
    let style = Style::points(Tone::Law, shape).weight(Weight::Bold);
    let mark = Mark::Points { points: vec![[n, loss]] };
    panel.series.push(Series::new(text.clone(), style, mark).legend(legend));
    panel.note([n, loss], text, Tone::Ink);
}
