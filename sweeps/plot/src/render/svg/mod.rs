//! SVG: a file of its own on white, or a part of a page whose colours it follows.
//!
//! Nothing is placed over anything else: the legend flows above the panels, the caption below,
//! notes move out of each other's way, and ticks are as many as their text has room for.

mod bars;
mod notes;
mod panel;
mod pictures;
mod writer;

use self::{
    panel::{Frame, draw_panel},
    writer::{Anchor, Lettering, Writer, escape, number, stroke, text_width, wrap},
};
use super::palette::{Paint, Part};
use crate::figure::{Figure, Mark, Panel, Series, Tone};

/// Width of every figure in pixels; it scales with its page.
const WIDTH: f64 = 860.0;
/// Free on all sides.
const EDGE: f64 = 14.0;
/// Height of the plotting area by the number of columns.
const HEIGHTS: [f64; 3] = [400.0, 330.0, 240.0];
/// Height of a row of a panel with named rows, and of the least such panel: its label needs that.
const ROW: f64 = 17.0;
const NAMED_LEAST: f64 = 130.0;
/// Letters of captions, ticks and legends.
const SMALL: f64 = 12.0;
/// Lines of the legend that are drawn; the rest is counted on it.
const LEGEND_MOST: usize = 24;

/// Draws a figure.
#[must_use]
pub fn render(figure: &Figure, paint: Paint) -> String {
    let mut body = Writer::default();
    let mut y = title(&mut body, figure, paint);
    y = legend(&mut body, figure, paint, y);
    y = match &figure.pictures {
        Some(grid) => pictures::draw(&mut body, grid, paint, y),
        None if figure.panels.is_empty() => absent(&mut body, figure, paint, y),
        None => panels(&mut body, figure, paint, y),
    };
    y = caption(&mut body, figure, paint, y);
    let mut document = Writer::default();
    document.raw(&opening(figure, y + EDGE));
    if paint == Paint::Standalone {
        let fill = format!("fill=\"{}\"", paint.part(Part::Paper));
        document.rect([0.0, 0.0, WIDTH, y + EDGE], &fill);
    }
    document.raw(&body.finish());
    document.raw("</svg>\n");
    document.finish()
}

fn opening(figure: &Figure, height: f64) -> String {
    let (name, title) = (escape(&figure.name), escape(&figure.title));
    let (width, height) = (number(WIDTH), number(height));
    let description = escape(&figure.description);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"{name}-title {name}-description\" \
         font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif\">\n\
         <title id=\"{name}-title\">{title}</title>\n\
         <desc id=\"{name}-description\">{description}</desc>\n"
    )
}

fn title(body: &mut Writer, figure: &Figure, paint: Paint) -> f64 {
    let ink = paint.tone(Tone::Ink);
    let lettering =
        Lettering { size: 17.0, fill: &ink, anchor: Anchor::Start, bold: true, halo: None };
    body.text([EDGE, EDGE + 14.0], &figure.title, &lettering);
    EDGE + 26.0
}

/// The series that give the legend its lines: of each text the first with a mark, since a run that
/// failed has none at its end; without any the first.
fn legend_entries(figure: &Figure) -> Vec<(&str, &Series)> {
    let mut entries: Vec<(&str, &Series)> = Vec::new();
    for series in figure.panels.iter().flat_map(|panel| &panel.series) {
        let Some(text) = series.legend.as_deref() else { continue };
        match entries.iter_mut().find(|(known, _)| *known == text) {
            Some((_, first)) if first.style.shape.is_none() && series.style.shape.is_some() => {
                *first = series;
            }
            Some(_) => {}
            None => entries.push((text, series)),
        }
    }
    entries
}

fn legend(body: &mut Writer, figure: &Figure, paint: Paint, top: f64) -> f64 {
    const SWATCH: f64 = 26.0;
    let entries = legend_entries(figure);
    if entries.is_empty() {
        return top;
    }
    let muted = paint.tone(Tone::Muted);
    let lettering =
        Lettering { size: SMALL, fill: &muted, anchor: Anchor::Start, bold: false, halo: None };
    let (mut x, mut y) = (EDGE, top + 12.0);
    for (text, series) in entries.iter().take(LEGEND_MOST) {
        let width = SWATCH + 6.0 + text_width(text, SMALL);
        if x > EDGE && x + width > WIDTH - EDGE {
            x = EDGE;
            y += 19.0;
        }
        swatch(body, series, paint, [x, y - 4.0], SWATCH);
        body.text([x + SWATCH + 6.0, y], text, &lettering);
        x += width + 16.0;
    }
    if entries.len() > LEGEND_MOST {
        let more = format!("and {} more", entries.len() - LEGEND_MOST);
        body.text([x, y], &more, &lettering);
    }
    y + 10.0
}

fn swatch(body: &mut Writer, series: &Series, paint: Paint, [x, y]: [f64; 2], width: f64) {
    let style = series.style;
    let colour = paint.tone(style.tone);
    let middle = [x + width / 2.0, y];
    match &series.mark {
        Mark::Line { .. } | Mark::Contour { .. } => {
            body.line(&[[x, y], [x + width, y]], &stroke(&colour, style.weight, style.dash));
            if let Some(shape) = style.shape {
                body.shapes(&[middle], shape, 3.6, &colour);
            }
        }
        Mark::Points { .. } => {
            body.shapes(
                &[middle],
                style.shape.unwrap_or(crate::figure::Shape::Circle),
                4.0,
                &colour,
            );
        }
        Mark::Intervals { .. } => {
            let [mx, my] = middle;
            let line = stroke(&colour, style.weight, style.dash);
            body.line(&[[mx, my - 6.0], [mx, my + 6.0]], &line);
            body.line(&[[mx - 3.0, my - 6.0], [mx + 3.0, my - 6.0]], &line);
            body.line(&[[mx - 3.0, my + 6.0], [mx + 3.0, my + 6.0]], &line);
        }
        Mark::Bars { .. } => bars::swatch(body, style, &colour, [x, y], width),
        Mark::Band { .. } => {
            let fill = format!("fill=\"{colour}\" fill-opacity=\"0.16\"");
            body.rect([x, y - 5.0, width, 10.0], &fill);
        }
        Mark::Region { .. } => {
            let (fill, frame) = (paint.part(Part::Shade), paint.part(Part::Frame));
            let look = format!("fill=\"{fill}\" stroke=\"{frame}\" stroke-width=\"0.5\"");
            body.rect([x, y - 5.0, width, 10.0], &look);
        }
    }
}

/// Says what is missing, where there is no panel to say it in.
fn absent(body: &mut Writer, figure: &Figure, paint: Paint, top: f64) -> f64 {
    let ink = paint.tone(Tone::Ink);
    let lettering =
        Lettering { size: SMALL, fill: &ink, anchor: Anchor::Start, bold: false, halo: None };
    let text = figure.missing.as_deref().unwrap_or("There is nothing to show.");
    let mut y = top + 16.0;
    for part in wrap(text, SMALL, WIDTH - 2.0 * EDGE) {
        body.text([EDGE, y], &part, &lettering);
        y += 16.0;
    }
    y + 8.0
}

fn panels(body: &mut Writer, figure: &Figure, paint: Paint, top: f64) -> f64 {
    let columns = figure.columns.clamp(1, HEIGHTS.len());
    let height = HEIGHTS[columns - 1];
    let gap = 16.0;
    let mut y = top + 6.0;
    for (row, group) in figure.panels.chunks(columns).enumerate() {
        let cells = u32::try_from(columns).map_or(1.0, f64::from);
        let width = (WIDTH - 2.0 * EDGE - gap * (cells - 1.0)) / cells;
        let mut bottom = y;
        let mut x = EDGE;
        for (column, panel) in group.iter().enumerate() {
            let height = panel_height(panel, height);
            let id = format!("{}-clip-{row}-{column}", escape(&figure.name));
            let frame = Frame { x, y, width, height, id: &id, paint };
            bottom = bottom.max(draw_panel(body, panel, &frame, figure.missing.as_deref()));
            x += width + gap;
        }
        y = bottom + 10.0;
    }
    y
}

/// The height of a panel, or what its named rows need.
fn panel_height(panel: &Panel, usual: f64) -> f64 {
    match u32::try_from(panel.y.names.len()) {
        Ok(0) | Err(_) => usual,
        Ok(rows) => (f64::from(rows) * ROW).max(NAMED_LEAST),
    }
}

fn caption(body: &mut Writer, figure: &Figure, paint: Paint, top: f64) -> f64 {
    let muted = paint.tone(Tone::Muted);
    let lettering =
        Lettering { size: SMALL, fill: &muted, anchor: Anchor::Start, bold: false, halo: None };
    let mut y = top + 6.0;
    for line in figure.facts.lines() {
        for part in wrap(&line, SMALL, WIDTH - 2.0 * EDGE) {
            body.text([EDGE, y], &part, &lettering);
            y += 16.0;
        }
    }
    y - 16.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Axis, Facts, SCHEMA, Shape, Style};

    #[test]
    fn a_legend_shows_the_mark_of_a_size_though_its_first_run_failed() {
        let mut panel = Panel::new(Axis::log("x", ""), Axis::log("y", ""));
        let line = |style: Style, text: &str| {
            let mark = Mark::Line { points: vec![[1.0, 1.0], [2.0, 2.0]] };
            Series::new("a run", style, mark).legend(text)
        };
        let plain = Style::line(Tone::Ink);
        panel.series = vec![
            line(plain, "small"),
            line(plain, "large"),
            line(plain.ending(Shape::Square), "small"),
            line(plain.ending(Shape::Circle), "small"),
        ];
        let figure = Figure {
            schema: SCHEMA,
            name: "a".to_owned(),
            title: "a".to_owned(),
            description: String::new(),
            columns: 1,
            panels: vec![panel],
            pictures: None,
            facts: Facts::default(),
            missing: None,
        };
        let entries = legend_entries(&figure);
        let found: Vec<_> = entries.iter().map(|(text, s)| (*text, s.style.shape)).collect();
        assert_eq!(found, [("small", Some(Shape::Square)), ("large", None)]);
    }
}
