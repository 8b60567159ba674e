//! Terminal text: lines in braille dots, points as letters, axes in box lines, on the canvas of
//! kuva's terminal backend. Works without colour.

use kuva::{
    TerminalBackend,
    render::{
        color::Color,
        render::{Primitive, Scene, TextAnchor},
    },
};

use super::{palette::on_black, ticks::Span};
use crate::figure::{Figure, Mark, Panel, PictureGrid, Series, Shape, Style, Tone, Weight};

/// The room for a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Characters in a line.
    pub columns: usize,
    /// Lines of one panel.
    pub rows: usize,
    /// Whether colours may be used.
    pub colour: bool,
}

/// Less holds no axis.
const COLUMNS_LEAST: usize = 40;
/// Less holds no curve.
const ROWS_LEAST: usize = 10;
/// More is no terminal, and a canvas costs memory.
const MOST: usize = 1000;
/// Scene units per character: kuva takes what is level within half a unit for an axis, and a
/// curve must not be.
const CELL: f64 = 100.0;
/// Lines of the legend.
const LEGEND_MOST: usize = 12;

/// Draws a figure.
#[must_use]
pub fn render(figure: &Figure, screen: Screen) -> String {
    let columns = screen.columns.clamp(COLUMNS_LEAST, MOST);
    let rows = screen.rows.clamp(ROWS_LEAST, MOST);
    let mut lines = vec![clean(&figure.title)];
    match &figure.missing {
        Some(missing) => lines.push(format!("  {}", clean(missing))),
        None => {
            for panel in &figure.panels {
                lines.extend(panel.title.as_deref().map(clean));
                lines.extend(draw(panel, columns, rows, screen.colour));
            }
            lines.extend(figure.pictures.iter().flat_map(|grid| captions(grid, columns)));
            lines.extend(legend(figure));
        }
    }
    for line in figure.facts.lines() {
        lines.extend(wrapped(&clean(&line), columns));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// What a grid of pictures says in words: a terminal has no pixels for them.
fn captions(grid: &PictureGrid, columns: usize) -> Vec<String> {
    let mut lines = wrapped("The pictures are in the file that --output writes.", columns);
    let across = grid.columns.len().max(1);
    for (row, cells) in grid.cells.chunks(across).enumerate() {
        let name = grid.rows.get(row).map_or("", String::as_str);
        for (cell, column) in cells.iter().zip(&grid.columns) {
            let caption = cell.as_ref().map_or("no run", |cell| cell.caption.as_str());
            let parts = [name, column, caption];
            let parts = parts.into_iter().filter(|part| !part.is_empty());
            lines.extend(wrapped(&clean(&parts.collect::<Vec<_>>().join(": ")), columns));
        }
    }
    lines
}

/// Control characters in a label could otherwise steer the reader's terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The plotting area in characters, and the spans of its axes.
struct Area {
    left: usize,
    right: usize,
    bottom: usize,
    x: Span,
    y: Span,
}

#[expect(clippy::cast_precision_loss, reason = "counts of characters")]
const fn units(cells: usize) -> f64 {
    cells as f64 * CELL
}

impl Area {
    fn place(&self, [x, y]: [f64; 2]) -> Option<(f64, f64)> {
        let (x, y) = (self.x.place(x)?, self.y.place(y)?);
        let inside = |t: f64| (-1e-9..=1.0 + 1e-9).contains(&t);
        (inside(x) && inside(y)).then(|| {
            let across = units(self.left + 1) + x * (units(self.right - self.left - 1) - 1.0);
            // A dot inside the first and the last line, never on the axis.
            (across, (1.0 - y) * (units(self.bottom) - 1.0))
        })
    }
}

fn draw(panel: &Panel, columns: usize, rows: usize, colour: bool) -> Vec<String> {
    let (x, y) = Span::of_panel(panel);
    // Names have a line each, and the axis three.
    let rows = if panel.y.names.is_empty() { rows } else { panel.y.names.len() + 3 };
    let y_ticks = y.ticks_of(&panel.y, rows / 3);
    let widest = y_ticks.major.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
    let area = Area { left: widest + 1, right: columns - 1, bottom: rows - 3, x, y };
    let mut scene = Scene::new(units(columns), units(rows));
    scene.text_color = Some(on_black(Tone::Ink).to_owned());
    for series in &panel.series {
        draw_series(&mut scene, series, &area);
    }
    draw_axes(&mut scene, &area);
    for (value, text) in &y_ticks.major {
        if let Some(t) = area.y.place(*value) {
            let y = (1.0 - t) * (units(area.bottom) - 1.0);
            write(&mut scene, (units(area.left) - 0.5 * CELL, y), &clean(text), TextAnchor::End);
        }
    }
    let caption = format!("x: {} · y: {}", panel.x.caption(), panel.y.caption());
    let canvas = TerminalBackend::new(columns, rows - 1)
        .render_scene(&Scene { height: units(rows - 1), ..scene });
    let mut lines: Vec<String> = (if colour { canvas } else { without_colour(&canvas) })
        .lines()
        .map(|line| line.trim_end().to_owned())
        .filter(|line| line != "\u{1b}[0m")
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.extend(wrapped(&clean(&caption), columns));
    lines
}

fn draw_axes(scene: &mut Scene, area: &Area) {
    let ink = Color::from(on_black(Tone::Muted));
    let (left, bottom) = (units(area.left) + 0.5 * CELL, units(area.bottom) + 0.5 * CELL);
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64| {
        let stroke = ink.clone();
        scene.elements.push(Primitive::Line {
            x1,
            y1,
            x2,
            y2,
            stroke,
            stroke_width: 1.0,
            stroke_dasharray: None,
        });
    };
    line(left, 0.0, left, bottom);
    line(left, bottom, units(area.right), bottom);
    let mut free = 0.0;
    for (value, text) in area.x.ticks((area.right - area.left) / 9).major {
        let Some(t) = area.x.place(value) else { continue };
        let x = units(area.left + 1) + t * (units(area.right - area.left - 1) - 1.0);
        let half = units(text.chars().count()) / 2.0;
        if x - half >= free && x + half <= units(area.right + 1) {
            write(scene, (x - half, bottom + CELL), &text, TextAnchor::Start);
            free = x + half + CELL;
        }
    }
}

fn write(scene: &mut Scene, (x, y): (f64, f64), text: &str, anchor: TextAnchor) {
    scene.elements.push(Primitive::Text {
        x,
        y,
        content: text.to_owned(),
        // Letters have the size of a character cell; kuva would shift a larger size upwards.
        size: 0,
        anchor,
        rotate: None,
        bold: false,
        color: None,
    });
}

fn draw_series(scene: &mut Scene, series: &Series, area: &Area) {
    let tone = series.style.tone;
    let mut line = |points: &[[f64; 2]]| {
        let places: Vec<Option<(f64, f64)>> = points.iter().map(|&p| area.place(p)).collect();
        for part in places.split(Option::is_none) {
            scene.elements.push(Primitive::PolyLine {
                points: part.iter().copied().flatten().collect(),
                stroke: Color::from(on_black(tone)),
                stroke_width: if series.style.weight == Weight::Bold { 2.0 } else { 1.0 },
                stroke_dasharray: None,
            });
        }
    };
    match &series.mark {
        Mark::Line { points } => line(points),
        Mark::Contour { paths, .. } => paths.iter().for_each(|path| line(path)),
        Mark::Intervals { points } => {
            points.iter().for_each(|&[x, low, high]| line(&[[x, low], [x, high]]));
        }
        Mark::Points { points } => {
            let letter = letter(series.style.shape);
            for place in points.iter().filter_map(|&p| area.place(p)) {
                write(scene, place, letter, TextAnchor::Start);
            }
        }
        Mark::Bars { points } => {
            let letter = bar_letter(series.style);
            for &[y, from, to] in points {
                let (Some(from), Some(to)) = (area.place([from, y]), area.place([to, y])) else {
                    continue;
                };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "cells"
                )]
                let cells = ((to.0 - from.0) / CELL).round().max(1.0) as usize;
                write(scene, from, &letter.repeat(cells), TextAnchor::Start);
            }
        }
        // An area of dots would hide what lies in it.
        Mark::Band { .. } | Mark::Region { .. } => {}
    }
}

const fn letter(shape: Option<Shape>) -> &'static str {
    match shape {
        Some(Shape::Square) => "■",
        Some(Shape::Triangle) => "▲",
        Some(Shape::Diamond) => "◆",
        Some(Shape::Wedge) => "▼",
        Some(Shape::Ring) => "○",
        Some(Shape::Frame) => "□",
        Some(Shape::Plus) => "+",
        Some(Shape::Cross) => "x",
        Some(Shape::Star) => "*",
        Some(Shape::Circle) | None => "●",
    }
}

/// What a bar is made of: its shape, else how its outline is dashed.
const fn bar_letter(style: Style) -> &'static str {
    match (style.shape, style.weight) {
        (Some(_), _) => letter(style.shape),
        (None, Weight::Faint) => "░",
        (None, _) => "█",
    }
}

fn legend(figure: &Figure) -> Vec<String> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for series in figure.panels.iter().flat_map(|panel| &panel.series) {
        let sign = match &series.mark {
            Mark::Line { .. } | Mark::Contour { .. } | Mark::Intervals { .. } => "—",
            Mark::Points { .. } => letter(series.style.shape),
            Mark::Bars { .. } => bar_letter(series.style),
            Mark::Band { .. } | Mark::Region { .. } => continue,
        };
        if let Some(text) = &series.legend
            && entries.iter().all(|(_, known)| known != text)
        {
            entries.push((sign.to_owned(), text.clone()));
        }
    }
    let hidden = entries.len().saturating_sub(LEGEND_MOST);
    let mut lines: Vec<String> = entries
        .into_iter()
        .take(LEGEND_MOST)
        .map(|(sign, text)| format!("  {sign} {}", clean(&text)))
        .collect();
    if hidden > 0 {
        lines.push(format!("  and {hidden} more"));
    }
    lines
}

/// Leaves out the colour sequences that kuva writes.
fn without_colour(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('\u{1b}') {
        out.push_str(&rest[..start]);
        rest = rest[start..].find('m').map_or("", |end| &rest[start + end + 1..]);
    }
    out.push_str(rest);
    out
}
