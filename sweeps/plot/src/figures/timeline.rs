//! When each slot of each worker trained, and how that ended: a row for every slot, a bar for every
//! attempt from its grant to its end. What is free between bars was idle, or trained another sweep.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::runs::{facts, figure, rounded};
use crate::{
    figure::{Axis, Dash, Facts, Figure, Mark, Panel, Series, Shape, Style, Tone, Weight},
    input::{AttemptInput, Ending, PlotInput, TimelineInput},
};

/// Rows of slots: more have no room for their names.
const ROWS_MOST: usize = 40;
/// Bars: about 0.1 MB of SVG and JSON, and more would be narrower than a pixel.
const BARS_MOST: usize = 2000;
/// Bars that each have a tooltip of their own; more share one by how they ended.
const TOLD_MOST: usize = 200;
/// Letters of a machine's name.
const HOST_LETTERS: usize = 18;
/// Digits of a worker's id, where its machine has several.
const WORKER_DIGITS: usize = 4;

/// The endings in the order of the legend; the later ones lie above.
const ENDINGS: [Ending; 7] = [
    Ending::Finished,
    Ending::Running,
    Ending::Stopped,
    Ending::Cancelled,
    Ending::Diverged,
    Ending::Failed,
    Ending::Lost,
];

/// An attempt with both ends of its bar, in seconds since the submission.
#[derive(Clone, Copy)]
struct Bar<'a> {
    attempt: &'a AttemptInput,
    from: f64,
    to: f64,
}

impl<'a> Bar<'a> {
    fn seconds(&self) -> f64 {
        self.to - self.from
    }

    /// Worker and slot.
    fn place(&self) -> Place<'a> {
        (&self.attempt.host, &self.attempt.worker, self.attempt.slot)
    }
}

/// Machine, worker, slot.
type Place<'a> = (&'a str, &'a str, u32);

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let all = bars(&input.timeline);
    let rows = rows(&all);
    let (shown, hidden_rows) = shown_rows(&all, &rows);
    let drawn = shown_bars(&all, &shown);
    let (unit, seconds_each) = unit(&drawn);
    let names = names(&shown, &rows);
    let mut panel = Panel::new(
        Axis::linear("wall time since the submission", unit),
        Axis::named("machine and slot", names),
    );
    // The first row stands on top.
    let height = |bar: &Bar<'_>| -> f64 {
        let place = shown.iter().position(|row| *row == bar.place()).unwrap_or(0);
        count(shown.len() - 1 - place)
    };
    let points = |bar: &Bar<'_>| {
        [height(bar), rounded(bar.from / seconds_each), rounded(bar.to / seconds_each)]
    };
    for ending in ENDINGS {
        let of: Vec<&Bar<'_>> = drawn.iter().filter(|bar| bar.attempt.ending == ending).collect();
        let together = drawn.len() > TOLD_MOST;
        let shared = if together { of.len().max(1) } else { 1 };
        for part in of.chunks(shared) {
            let label = if together { word(ending).to_owned() } else { told(part[0]) };
            let mark = Mark::Bars { points: part.iter().map(|bar| points(bar)).collect() };
            panel.series.push(Series::new(label, look(ending), mark).legend(word(ending)));
        }
    }
    let again = drawn.iter().filter(|bar| bar.attempt.number > 1);
    let again: Vec<[f64; 2]> = again.map(|bar| [points(bar)[1], height(bar)]).collect();
    if !again.is_empty() {
        let text = "a further attempt at a run begins";
        let style = Style::points(Tone::Ink, Shape::Diamond);
        panel.series.push(Series::new(text, style, Mark::Points { points: again }).legend(text));
    }
    let facts = caption(input, &all, &drawn, &rows, hidden_rows);
    let description = format!(
        "Bars of {} attempts on {} slots over time, by how they ended.",
        drawn.len(),
        shown.len()
    );
    figure(name, "Workers over time", description, vec![panel], facts, missing(input, &all))
}

fn missing(input: &PlotInput, bars: &[Bar<'_>]) -> Option<String> {
    let attempts = input.timeline.attempts.len();
    match (attempts, bars.len()) {
        (0, _) => Some("No attempt at a run is known.".to_owned()),
        (_, 0) => Some(format!("None of {attempts} attempts has times that can be drawn.")),
        _ => None,
    }
}

/// The attempts of this sweep that have a place in time: begun, and not ended before that or before
/// the sweep was handed in.
fn bars(timeline: &TimelineInput) -> Vec<Bar<'_>> {
    let end = open_end(timeline);
    let mut bars: Vec<Bar<'_>> =
        timeline.attempts.iter().filter_map(|attempt| bar(attempt, end)).collect();
    bars.sort_by(|a, b| a.from.total_cmp(&b.from));
    bars
}

fn bar(attempt: &AttemptInput, open_end: f64) -> Option<Bar<'_>> {
    let from = attempt.granted.filter(|at| at.is_finite())?;
    let to = match attempt.ending {
        Ending::Running => open_end.max(from),
        _ => attempt.ended.filter(|at| at.is_finite())?,
    };
    (to >= from && to >= 0.0).then_some(Bar { attempt, from, to })
}

/// Where the bars of attempts end that still run.
fn open_end(timeline: &TimelineInput) -> f64 {
    let stamps = timeline.attempts.iter().flat_map(|attempt| [attempt.granted, attempt.ended]);
    let last = stamps.flatten().filter(|at| at.is_finite()).fold(0.0, f64::max);
    timeline.read.map_or(last, |read| read.max(last))
}

/// Every slot with the seconds that it was held.
fn rows<'a>(bars: &[Bar<'a>]) -> BTreeMap<Place<'a>, f64> {
    let mut of: BTreeMap<Place<'a>, Vec<&Bar<'_>>> = BTreeMap::new();
    for bar in bars {
        of.entry(bar.place()).or_default().push(bar);
    }
    of.into_iter().map(|(place, bars)| (place, held(&bars))).collect()
}

/// Seconds under bars in the order of their beginning. They overlap where a worker came back before
/// its lost attempt was given up.
fn held(bars: &[&Bar<'_>]) -> f64 {
    let (mut sum, mut until) = (0.0, f64::NEG_INFINITY);
    for bar in bars {
        sum += (bar.to - bar.from.max(until)).max(0.0);
        until = until.max(bar.to);
    }
    sum
}

/// The rows that are drawn, those that were held longest, in order; and how many are not.
fn shown_rows<'a>(bars: &'a [Bar<'a>], rows: &BTreeMap<Place<'a>, f64>) -> (Vec<Place<'a>>, usize) {
    let mut shown: Vec<Place<'a>> = bars.iter().map(Bar::place).collect();
    shown.sort_unstable();
    shown.dedup();
    let seconds = |row: &Place<'a>| rows.get(row).copied().unwrap_or(0.0);
    shown.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)));
    let hidden = shown.len().saturating_sub(ROWS_MOST);
    shown.truncate(ROWS_MOST);
    shown.sort_unstable();
    (shown, hidden)
}

/// The bars that are drawn: whatever went wrong, then the longest.
fn shown_bars<'a>(bars: &[Bar<'a>], rows: &[Place<'_>]) -> Vec<Bar<'a>> {
    let mut shown: Vec<Bar<'a>> =
        bars.iter().copied().filter(|bar| rows.binary_search(&bar.place()).is_ok()).collect();
    if shown.len() > BARS_MOST {
        shown.sort_by(|a, b| {
            let wrong = |bar: &Bar<'_>| Reverse(went_wrong(bar.attempt.ending));
            wrong(a).cmp(&wrong(b)).then(b.seconds().total_cmp(&a.seconds()))
        });
        shown.truncate(BARS_MOST);
        shown.sort_by(|a, b| a.from.total_cmp(&b.from));
    }
    shown
}

const fn went_wrong(ending: Ending) -> bool {
    matches!(ending, Ending::Failed | Ending::Lost | Ending::Diverged)
}

/// Names of rows from the lowest upwards. A machine with several workers is told apart by their ids.
fn names(shown: &[Place<'_>], rows: &BTreeMap<Place<'_>, f64>) -> Vec<String> {
    let mut workers: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (host, worker, _) in rows.keys() {
        workers.entry(cut(host)).or_default().insert(worker);
    }
    let name = |(host, worker, slot): &Place<'_>| {
        let host = cut(host);
        let several = workers.get(&host).is_some_and(|workers| workers.len() > 1);
        let id: String = worker.chars().take(if several { WORKER_DIGITS } else { 0 }).collect();
        let parts = [host, id, slot.to_string()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    };
    shown.iter().rev().map(name).collect()
}

/// The name of a machine as far as it has room.
fn cut(host: &str) -> String {
    if host.chars().count() <= HOST_LETTERS {
        return host.to_owned();
    }
    let kept: String = host.chars().take(HOST_LETTERS - 1).collect();
    format!("{kept}…")
}

/// The unit of the axis with its seconds.
fn unit(bars: &[Bar<'_>]) -> (&'static str, f64) {
    match bars.iter().map(|bar| bar.to).fold(0.0, f64::max) {
        last if last < 300.0 => ("s", 1.0),
        last if last < 3.0 * 3600.0 => ("min", 60.0),
        last if last < 4.0 * 86_400.0 => ("h", 3600.0),
        _ => ("days", 86_400.0),
    }
}

/// How an ending looks: its colour, its filling and its mark each tell it apart.
fn look(ending: Ending) -> Style {
    let hollow = |tone| Style::line(tone).weight(Weight::Faint);
    match ending {
        Ending::Finished => Style::line(Tone::Law),
        Ending::Running => hollow(Tone::Law).dash(Dash::Dotted),
        Ending::Stopped => hollow(Tone::Reference).ending(Shape::Square),
        Ending::Cancelled => hollow(Tone::Muted).ending(Shape::Plus),
        Ending::Diverged => hollow(Tone::Ramp(7)).ending(Shape::Wedge),
        Ending::Failed => hollow(Tone::Ramp(5)).ending(Shape::Cross),
        Ending::Lost => hollow(Tone::Ink).dash(Dash::Dashed).ending(Shape::Ring),
    }
}

const fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Running => "running",
        Ending::Finished => "finished",
        Ending::Stopped => "stopped with a checkpoint",
        Ending::Failed => "failed",
        Ending::Lost => "lost",
        Ending::Diverged => "diverged",
        Ending::Cancelled => "cancelled",
    }
}

/// A bar in words.
fn told(bar: &Bar<'_>) -> String {
    let AttemptInput { run, number, ending, .. } = bar.attempt;
    format!("{run}, attempt {number}: {}, {}", word(*ending), duration(bar.seconds()))
}

/// `12.3 s`, `4 m 05 s`, `1 h 02 m` or `3 d 04 h`.
fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for display")]
    let whole = seconds.round().clamp(0.0, 1e12) as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} m {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} m", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of attempts and slots")]
const fn count(number: usize) -> f64 {
    number as f64
}

fn caption(
    input: &PlotInput,
    all: &[Bar<'_>],
    drawn: &[Bar<'_>],
    rows: &BTreeMap<Place<'_>, f64>,
    hidden_rows: usize,
) -> Facts {
    let runs = |bars: &[Bar<'_>]| -> usize {
        bars.iter().map(|bar| bar.attempt.run.as_str()).collect::<BTreeSet<_>>().len()
    };
    let workers: BTreeSet<&str> = rows.keys().map(|(_, worker, _)| *worker).collect();
    let mut facts = facts(input, runs(drawn));
    facts.runs_hidden = runs(all) - runs(drawn);
    facts.notes.push(format!(
        "{} attempts on {} workers with {} slots{}.",
        all.len(),
        workers.len(),
        rows.len(),
        span(all).map_or_else(String::new, |span| format!(
            ", {} from the first grant to the last end",
            duration(span)
        ))
    ));
    facts.notes.extend(utilisation(all, rows));
    facts.notes.push(losses(all));
    facts.notes.extend(open_bars(&input.timeline, all));
    let hidden = all.len() - drawn.len();
    if hidden > 0 {
        facts.notes.push(format!("Hidden: {hidden} attempts, {hidden_rows} slots."));
    }
    facts.notes.extend(left_out(&input.timeline, all));
    facts
}

/// Seconds from the first beginning to the last end.
fn span(bars: &[Bar<'_>]) -> Option<f64> {
    let first = bars.first()?.from;
    Some(bars.iter().map(|bar| bar.to).fold(first, f64::max) - first)
}

/// The shares of all slots' time that attempts held, and that trained.
fn utilisation(bars: &[Bar<'_>], rows: &BTreeMap<Place<'_>, f64>) -> Option<String> {
    let whole = span(bars).filter(|span| *span > 0.0)? * count(rows.len());
    let share = |seconds: f64| format!("{:.1} %", 100.0 * seconds / whole);
    let trained = |bar: &Bar<'_>| bar.attempt.trained.filter(|seconds| seconds.is_finite());
    let seconds: f64 = bars.iter().filter_map(trained).sum();
    let unmeasured = bars.iter().filter(|bar| trained(bar).is_none()).count();
    let lacking = match unmeasured {
        0 => String::new(),
        some => format!(" (not measured: {some} attempts)"),
    };
    Some(format!(
        "Of the slots' time, {} was held by attempts and {} trained{lacking}; the rest was idle or \
         another sweep's.",
        share(rows.values().sum()),
        share(seconds)
    ))
}

/// What came to nothing.
fn losses(bars: &[Bar<'_>]) -> String {
    let of = |ending: Ending| {
        let seconds = bars.iter().filter(|bar| bar.attempt.ending == ending).map(Bar::seconds);
        let seconds: Vec<f64> = seconds.collect();
        (!seconds.is_empty()).then(|| {
            let sum = duration(seconds.iter().sum());
            format!("{} {} ({sum})", seconds.len(), word(ending))
        })
    };
    let parts = [Ending::Lost, Ending::Failed, Ending::Diverged].into_iter().filter_map(of);
    let parts: Vec<String> = parts.collect();
    match parts.as_slice() {
        [] => "No attempt was lost, failed or diverged.".to_owned(),
        parts => {
            format!("Attempts that went wrong, with the slot time they held: {}.", parts.join(", "))
        }
    }
}

/// Where the bars end that have no end yet.
fn open_bars(timeline: &TimelineInput, bars: &[Bar<'_>]) -> Option<String> {
    let running = bars.iter().filter(|bar| bar.attempt.ending == Ending::Running).count();
    let until = match timeline.read {
        Some(_) => "when this was read",
        None => "the last grant or end in the store",
    };
    (running > 0).then(|| format!("{running} running, drawn up to {until}."))
}

/// Attempts that have no bar, and why.
fn left_out(timeline: &TimelineInput, bars: &[Bar<'_>]) -> Option<String> {
    let earlier = timeline.attempts.iter().filter(|attempt| is_earlier(attempt)).count();
    let unclear = timeline.attempts.len() - bars.len() - earlier;
    let mut parts = Vec::new();
    if earlier > 0 {
        parts.push(format!("{earlier} ended before the sweep was handed in"));
    }
    if unclear > 0 {
        parts.push(format!("{unclear} with times that are absent or out of order"));
    }
    (!parts.is_empty()).then(|| format!("Attempts not drawn: {}.", parts.join(", ")))
}

/// Whether an attempt of an earlier sweep trained a run of this one.
fn is_earlier(attempt: &AttemptInput) -> bool {
    let AttemptInput { granted, ended, ending, .. } = attempt;
    *ending != Ending::Running
        && granted.zip(*ended).is_some_and(|(from, to)| from <= to && to < 0.0 && from.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{FigureKind, tests::example};

    fn attempt(number: u32, [granted, ended]: [f64; 2], ending: Ending) -> AttemptInput {
        AttemptInput {
            run: "run".to_owned(),
            number,
            worker: "0123456789".to_owned(),
            host: "host".to_owned(),
            slot: 0,
            granted: Some(granted),
            ended: Some(ended).filter(|_| ending != Ending::Running),
            ending,
            trained: Some(ended - granted),
        }
    }

    fn of(attempts: Vec<AttemptInput>, read: Option<f64>) -> Figure {
        let timeline = TimelineInput { attempts, read };
        FigureKind::Timeline.build(&PlotInput { timeline, ..example::sweep() })
    }

    fn bars_of(figure: &Figure) -> Vec<[f64; 3]> {
        let bars = figure.panels[0].series.iter().filter_map(|series| match &series.mark {
            Mark::Bars { points } => Some(points.clone()),
            _ => None,
        });
        bars.flatten().collect()
    }

    #[test]
    fn what_has_no_place_in_time_is_counted_and_not_drawn() {
        let whole = attempt(1, [10.0, 20.0], Ending::Finished);
        let attempts = vec![
            whole.clone(),
            AttemptInput { granted: None, ..whole.clone() },
            AttemptInput { ended: None, ..whole },
            attempt(2, [30.0, 29.0], Ending::Failed),
            attempt(1, [f64::NAN, 29.0], Ending::Failed),
            attempt(1, [-90.0, -80.0], Ending::Finished),
        ];
        let figure = of(attempts, None);
        assert_eq!(bars_of(&figure), [[0.0, 10.0, 20.0]]);
        let notes = figure.facts.notes.concat();
        assert!(notes.contains("1 ended before the sweep was handed in, 4 with times"), "{notes}");
        assert!(notes.contains("1 attempts on 1 workers with 1 slots, 10.0 s from"), "{notes}");
        let none = of(vec![attempt(1, [9.0, 8.0], Ending::Failed)], None);
        assert!(none.missing.is_some_and(|text| text.contains("None of 1 attempts")));
    }

    #[test]
    fn what_runs_is_drawn_up_to_the_reading_or_to_what_the_store_knows() {
        let attempts = || {
            vec![
                attempt(1, [0.0, 50.0], Ending::Finished),
                AttemptInput { slot: 1, ..attempt(1, [20.0, 20.0], Ending::Running) },
            ]
        };
        let live = of(attempts(), Some(80.0));
        assert!(bars_of(&live).contains(&[0.0, 20.0, 80.0]), "{:?}", bars_of(&live));
        assert!(live.facts.notes.concat().contains("1 running, drawn up to when this was read."));
        let file = of(attempts(), None);
        assert!(bars_of(&file).contains(&[0.0, 20.0, 50.0]), "{:?}", bars_of(&file));
        let behind = of(attempts(), Some(-3.0));
        assert!(bars_of(&behind).contains(&[0.0, 20.0, 50.0]), "a clock that is behind");
    }

    #[test]
    fn time_under_two_bars_counts_once() {
        let attempts = vec![
            AttemptInput { trained: None, ..attempt(1, [0.0, 60.0], Ending::Lost) },
            attempt(2, [40.0, 100.0], Ending::Finished),
        ];
        let notes = of(attempts, None).facts.notes.concat();
        assert!(
            notes.contains(
                "100.0 % was held by attempts and 60.0 % trained (not measured: 1 attempts)"
            ),
            "{notes}"
        );
        assert!(notes.contains("1 lost (1 m 00 s)"), "{notes}");
    }

    #[test]
    fn rows_and_bars_are_capped_and_what_went_wrong_stays() {
        let attempts: Vec<AttemptInput> = (0..60_u32)
            .flat_map(|slot| {
                (0..100_u32).map(move |place| {
                    let from = f64::from(100 * place);
                    let lost = slot == 59 && place == 7;
                    let ending = if lost { Ending::Lost } else { Ending::Finished };
                    let to = from + if lost { 1.0 } else { f64::from(20 + slot) };
                    AttemptInput { slot, ..attempt(1, [from, to], ending) }
                })
            })
            .collect();
        let figure = of(attempts, None);
        assert_eq!(figure.panels[0].y.names.len(), ROWS_MOST);
        assert_eq!(bars_of(&figure).len(), BARS_MOST);
        assert!(figure.panels[0].series.iter().any(|series| series.label == "lost"));
        let notes = figure.facts.notes.concat();
        assert!(notes.contains("Hidden: 4000 attempts, 20 slots."), "{notes}");
        let json = serde_json::to_string(&figure).expect("plain data");
        assert!(json.len() < 100_000, "{} bytes", json.len());
    }

    #[test]
    fn workers_of_one_machine_are_told_apart() {
        let other = AttemptInput {
            worker: "fedcba9876".to_owned(),
            ..attempt(1, [0.0, 5.0], Ending::Finished)
        };
        let far = AttemptInput {
            host: "a-machine-with-a-long-name".to_owned(),
            worker: "aaaa".to_owned(),
            ..other.clone()
        };
        let figure = of(vec![attempt(1, [0.0, 5.0], Ending::Finished), other, far], None);
        let names = &figure.panels[0].y.names;
        assert_eq!(*names, ["host fedc 0", "host 0123 0", "a-machine-with-a-… 0"]);
    }
}
