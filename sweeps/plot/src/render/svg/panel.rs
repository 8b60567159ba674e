//! One panel: frame, grid, ticks, series.

use super::{
    super::{
        palette::{Paint, Part},
        ticks::{Span, Ticks},
    },
    SMALL, bars,
    notes::draw_notes,
    writer::{Anchor, Lettering, Writer, number, stroke, text_width, wrap},
};
use crate::figure::{Axis, Dash, Mark, Panel, Series, Shape, Tone, Weight};

/// The place of a panel with its axes' text, and how it is painted.
pub(super) struct Frame<'a> {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    /// Of the plotting area alone.
    pub(super) height: f64,
    /// Of the clip path; unique in a page.
    pub(super) id: &'a str,
    pub(super) paint: Paint,
}

/// The plotting area and the spans of its axes.
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    x: Span,
    y: Span,
}

impl Area {
    /// A place on the axes in pixels; `None` where it has no place on a log axis.
    pub(super) fn place(&self, [x, y]: [f64; 2]) -> Option<[f64; 2]> {
        // Far outside the frame a renderer's own arithmetic may overflow.
        let x = self.x.place(x)?.clamp(-20.0, 20.0);
        let y = self.y.place(y)?.clamp(-20.0, 20.0);
        Some([self.left + x * self.width, self.top + (1.0 - y) * self.height])
    }

    /// Pixels of one step along y, on a linear axis.
    pub(super) fn step(&self) -> f64 {
        self.height / (self.y.high - self.y.low)
    }

    fn inside(&self, [x, y]: [f64; 2]) -> bool {
        (self.left - 1.0..=self.left + self.width + 1.0).contains(&x)
            && (self.top - 1.0..=self.top + self.height + 1.0).contains(&y)
    }
}

/// Draws a panel and gives the y below it.
pub(super) fn draw_panel(
    out: &mut Writer,
    panel: &Panel,
    frame: &Frame<'_>,
    missing: Option<&str>,
) -> f64 {
    let (x, y) = Span::of_panel(panel);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few ticks")]
    let y_ticks = y.ticks_of(&panel.y, (frame.height / 36.0) as usize);
    let widest = y_ticks.major.iter().map(|(_, text)| text_width(text, SMALL)).fold(0.0, f64::max);
    let top = frame.y + if panel.title.is_some() { 22.0 } else { 4.0 };
    let left = frame.x + 22.0 + widest + 8.0;
    let width = frame.x + frame.width - left - 8.0;
    let area = Area { left, top, width, height: frame.height, x, y };
    let x_ticks = ticks_with_room(&area);
    draw_title(out, panel, &area, frame.paint);
    draw_regions(out, panel, &area, frame.paint);
    draw_grid(out, &area, (&x_ticks, &y_ticks), frame.paint);
    if missing.is_none() {
        draw_series(out, panel, &area, frame);
    }
    draw_axes(out, &area, (&x_ticks, &y_ticks), frame.paint);
    draw_labels(out, panel, &area, frame);
    match missing {
        Some(text) => draw_missing(out, text, &area, frame.paint),
        None => draw_notes(out, panel, &area, frame.paint),
    }
    top + frame.height + 44.0
}

/// As many ticks as their text has room for.
fn ticks_with_room(area: &Area) -> Ticks {
    let mut most = 10;
    loop {
        let ticks = area.x.ticks(most);
        let places: Vec<(f64, f64)> = ticks
            .major
            .iter()
            .filter_map(|(v, text)| Some((area.x.place(*v)? * area.width, text_width(text, SMALL))))
            .collect();
        let crowded = places
            .windows(2)
            .any(|pair| pair[1].0 - pair[0].0 < (pair[0].1 + pair[1].1) / 2.0 + 8.0);
        if !crowded || most <= 2 {
            return ticks;
        }
        most -= 1;
    }
}

fn lettering(fill: &str, anchor: Anchor) -> Lettering<'_> {
    Lettering { size: SMALL, fill, anchor, bold: false, halo: None }
}

fn draw_title(out: &mut Writer, panel: &Panel, area: &Area, paint: Paint) {
    if let Some(title) = &panel.title {
        let ink = paint.tone(Tone::Ink);
        let style = Lettering { size: 13.0, bold: true, ..lettering(&ink, Anchor::Start) };
        out.text([area.left, area.top - 8.0], title, &style);
    }
}

fn draw_regions(out: &mut Writer, panel: &Panel, area: &Area, paint: Paint) {
    let fill = format!("fill=\"{}\"", paint.part(Part::Shade));
    for series in &panel.series {
        if let Mark::Region { from, to } = series.mark {
            let place = |v: f64, end: f64| {
                if v.is_finite() { area.x.place(v).unwrap_or(0.0).clamp(0.0, 1.0) } else { end }
            };
            let (from, to) = (place(from, 0.0), place(to, 1.0));
            if to > from {
                let left = area.left + from * area.width;
                out.rect([left, area.top, (to - from) * area.width, area.height], &fill);
            }
        }
    }
}

fn draw_grid(out: &mut Writer, area: &Area, (x, y): (&Ticks, &Ticks), paint: Paint) {
    let line = format!("stroke=\"{}\" stroke-width=\"1\"", paint.part(Part::Grid));
    for (value, _) in &x.major {
        if let Some(t) = area.x.place(*value) {
            let at = area.left + t * area.width;
            out.line(&[[at, area.top], [at, area.top + area.height]], &line);
        }
    }
    for (value, _) in &y.major {
        if let Some(t) = area.y.place(*value) {
            let at = area.top + (1.0 - t) * area.height;
            out.line(&[[area.left, at], [area.left + area.width, at]], &line);
        }
    }
}

fn draw_axes(out: &mut Writer, area: &Area, (x, y): (&Ticks, &Ticks), paint: Paint) {
    let (frame, muted) = (paint.part(Part::Frame), paint.tone(Tone::Muted));
    let look = format!("fill=\"none\" stroke=\"{frame}\" stroke-width=\"1\"");
    out.rect([area.left, area.top, area.width, area.height], &look);
    let line = format!("stroke=\"{frame}\" stroke-width=\"1\"");
    let bottom = area.top + area.height;
    let across = |v: f64| area.x.place(v).map(|t| area.left + t * area.width);
    let up = |v: f64| area.y.place(v).map(|t| area.top + (1.0 - t) * area.height);
    let minor_x = x.minor.iter().copied().filter_map(across);
    let minor_y = y.minor.iter().copied().filter_map(up);
    let short: Vec<[[f64; 2]; 2]> = minor_x
        .map(|at| [[at, bottom], [at, bottom - 4.0]])
        .chain(minor_y.map(|at| [[area.left, at], [area.left + 4.0, at]]))
        .collect();
    out.lines(&short, &line);
    for (value, text) in &x.major {
        if let Some(at) = across(*value) {
            out.line(&[[at, bottom], [at, bottom + 5.0]], &line);
            out.text([at, bottom + 18.0], text, &lettering(&muted, Anchor::Middle));
        }
    }
    for (value, text) in &y.major {
        if let Some(at) = up(*value) {
            out.line(&[[area.left - 5.0, at], [area.left, at]], &line);
            out.text([area.left - 8.0, at + 4.0], text, &lettering(&muted, Anchor::End));
        }
    }
}

fn draw_labels(out: &mut Writer, panel: &Panel, area: &Area, frame: &Frame<'_>) {
    let ink = frame.paint.tone(Tone::Ink);
    let style = lettering(&ink, Anchor::Middle);
    let x = [area.left + area.width / 2.0, area.top + area.height + 36.0];
    out.text(x, &shortened(&panel.x, area.width), &style);
    let y = [frame.x + 12.0, area.top + area.height / 2.0];
    out.upright_text(y, &shortened(&panel.y, area.height), &style);
}

/// The caption of an axis; without the word on its scale where there is no room.
fn shortened(axis: &Axis, room: f64) -> String {
    let full = axis.caption();
    if text_width(&full, SMALL) <= room { full } else { full.replace(", log scale", "") }
}

fn draw_missing(out: &mut Writer, text: &str, area: &Area, paint: Paint) {
    let muted = paint.tone(Tone::Muted);
    let style = Lettering { size: 14.0, ..lettering(&muted, Anchor::Middle) };
    let lines = wrap(text, 14.0, area.width - 40.0);
    let mut y = area.top + area.height / 2.0;
    for line in lines {
        out.text([area.left + area.width / 2.0, y], &line, &style);
        y += 20.0;
    }
}

fn draw_series(out: &mut Writer, panel: &Panel, area: &Area, frame: &Frame<'_>) {
    let id = frame.id;
    let [x, y, w, h] = [area.left, area.top, area.width, area.height].map(number);
    out.raw(&format!(
        "<clipPath id=\"{id}\"><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/></clipPath>\n"
    ));
    // Areas lie under lines, and lines under points.
    let layers: [fn(&Mark) -> bool; 3] = [
        |mark| matches!(mark, Mark::Band { .. } | Mark::Bars { .. }),
        |mark| matches!(mark, Mark::Line { .. } | Mark::Contour { .. } | Mark::Intervals { .. }),
        |mark| matches!(mark, Mark::Points { .. }),
    ];
    let clip = format!(" clip-path=\"url(#{id})\"");
    for layer in layers {
        for series in panel.series.iter().filter(|series| layer(&series.mark)) {
            // Points on the frame are drawn whole.
            let points = matches!(series.mark, Mark::Points { .. });
            out.open_group(if points { "" } else { &clip }, &series.label);
            draw_mark(out, series, area, frame.paint);
            out.close_group();
        }
    }
}

fn draw_mark(out: &mut Writer, series: &Series, area: &Area, paint: Paint) {
    let style = series.style;
    let colour = paint.tone(style.tone);
    let line = stroke(&colour, style.weight, style.dash);
    let radius = if style.weight == Weight::Bold { 5.2 } else { 4.0 };
    match &series.mark {
        Mark::Line { points } => {
            for part in connected(points, area) {
                out.line(&part, &line);
            }
            if let Some(shape) = style.shape
                && let Some(end) = points.iter().rev().find_map(|&p| area.place(p))
            {
                out.shapes(&[end], shape, 3.6, &colour);
            }
        }
        Mark::Points { points } => {
            let places: Vec<[f64; 2]> =
                points.iter().filter_map(|&p| area.place(p)).filter(|&p| area.inside(p)).collect();
            out.shapes(&places, style.shape.unwrap_or(Shape::Circle), radius, &colour);
        }
        Mark::Band { points } => draw_band(out, points, area, &colour),
        Mark::Intervals { points } => {
            for &[x, low, high] in points {
                if let (Some([x, low]), Some([_, high])) =
                    (area.place([x, low]), area.place([x, high]))
                {
                    let solid = stroke(&colour, style.weight, Dash::Solid);
                    out.line(&[[x, low], [x, high]], &solid);
                    out.line(&[[x - 4.0, low], [x + 4.0, low]], &solid);
                    out.line(&[[x - 4.0, high], [x + 4.0, high]], &solid);
                }
            }
        }
        Mark::Bars { points } => bars::draw(out, points, area, style, &colour),
        Mark::Contour { paths, .. } => {
            for part in paths.iter().flat_map(|path| connected(path, area)) {
                out.line(&part, &line);
            }
        }
        Mark::Region { .. } => {}
    }
}

fn draw_band(out: &mut Writer, points: &[[f64; 3]], area: &Area, colour: &str) {
    let side = |k: usize| points.iter().filter_map(move |p| area.place([p[0], p[k]]));
    let mut outline: Vec<[f64; 2]> = side(2).collect();
    let low: Vec<[f64; 2]> = side(1).collect();
    outline.extend(low.into_iter().rev());
    out.area(&outline, &format!("fill=\"{colour}\" fill-opacity=\"0.16\""));
}

/// The parts of a line between places that do not exist.
fn connected(points: &[[f64; 2]], area: &Area) -> Vec<Vec<[f64; 2]>> {
    let mut parts: Vec<Vec<[f64; 2]>> = vec![Vec::new()];
    for &point in points {
        match (area.place(point), parts.last_mut()) {
            (Some(place), Some(part)) => part.push(place),
            _ => parts.push(Vec::new()),
        }
    }
    parts
}
