//! The text of an SVG document: escaping, numbers, elements.

use std::fmt::Write as _;

use crate::figure::{Dash, Shape, Weight};

/// A document being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    text: String,
}

/// Where a text stands on its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Debug)]
pub(super) struct Lettering<'a> {
    pub(super) size: f64,
    pub(super) fill: &'a str,
    pub(super) anchor: Anchor,
    pub(super) bold: bool,
    /// A halo of this colour keeps letters readable over lines.
    pub(super) halo: Option<&'a str>,
}

/// Width of a text in pixels, by the widest of the usual sans-serif fonts (DejaVu Sans): 0.62 of
/// the size for a letter, narrow letters less, capitals more. In other fonts it is up to 15 % too
/// large, so nothing runs into its neighbour.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let ems: f64 =
        text.chars()
            .map(|c| match c {
                'i' | 'l' | 'j' | 't' | 'f' | 'r' | '.' | ',' | ':' | ';' | '|' | '\'' | ' '
                | '·' => 0.36,
                'm' | 'w' | 'M' | 'W' | '%' | '@' | '→' => 0.95,
                c if c.is_ascii_uppercase() => 0.71,
                _ => 0.63,
            })
            .sum();
    ems * size
}

/// Breaks a text at blanks into lines of at most `width` pixels.
pub(super) fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line, size) + text_width(word, size) + size / 3.0 <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Escapes text for element content and quoted attributes; control characters, which XML forbids,
/// become a replacement character.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// A tenth of a pixel is finer than any screen.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

impl Writer {
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Writes markup as it is.
    pub(super) fn raw(&mut self, markup: &str) {
        self.text.push_str(markup);
    }

    pub(super) fn open_group(&mut self, attributes: &str, title: &str) {
        let _ = write!(self.text, "<g{attributes}>");
        if !title.is_empty() {
            let _ = write!(self.text, "<title>{}</title>", escape(title));
        }
    }

    pub(super) fn close_group(&mut self) {
        self.text.push_str("</g>\n");
    }

    pub(super) fn rect(&mut self, [x, y, width, height]: [f64; 4], attributes: &str) {
        let (x, y, width, height) = (number(x), number(y), number(width), number(height));
        let _ = writeln!(
            self.text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {attributes}/>"
        );
    }

    /// A PNG in base64, its pixels left as they are.
    pub(super) fn image(&mut self, [x, y, width, height]: [f64; 4], data: &str) {
        let (x, y, width, height) = (number(x), number(y), number(width), number(height));
        let _ = writeln!(
            self.text,
            "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
             style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>"
        );
    }

    pub(super) fn text(&mut self, [x, y]: [f64; 2], text: &str, lettering: &Lettering<'_>) {
        let (open, content) = (self.opening(lettering), escape(text));
        let _ =
            writeln!(self.text, "{open} x=\"{}\" y=\"{}\">{content}</text>", number(x), number(y));
    }

    /// Text that reads upwards, centred on a place.
    pub(super) fn upright_text(&mut self, [x, y]: [f64; 2], text: &str, lettering: &Lettering<'_>) {
        let (open, content) = (self.opening(lettering), escape(text));
        let (x, y) = (number(x), number(y));
        let _ = writeln!(
            self.text,
            "{open} transform=\"translate({x} {y}) rotate(-90)\">{content}</text>"
        );
    }

    fn opening(&self, lettering: &Lettering<'_>) -> String {
        let anchor = match lettering.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if lettering.bold { " font-weight=\"600\"" } else { "" };
        let halo = lettering.halo.map_or_else(String::new, |colour| {
            format!(" stroke=\"{colour}\" stroke-width=\"3\" stroke-linejoin=\"round\" paint-order=\"stroke\"")
        });
        let (size, fill) = (number(lettering.size), lettering.fill);
        format!("<text font-size=\"{size}\" fill=\"{fill}\"{anchor}{weight}{halo}")
    }

    /// A connected line.
    pub(super) fn line(&mut self, points: &[[f64; 2]], attributes: &str) {
        if points.len() > 1 {
            let d = path(points);
            let _ = writeln!(self.text, "<path d=\"{d}\" fill=\"none\" {attributes}/>");
        }
    }

    /// Separate strokes of one look.
    pub(super) fn lines(&mut self, strokes: &[[[f64; 2]; 2]], attributes: &str) {
        if !strokes.is_empty() {
            let d: String = strokes.iter().map(|stroke| path(stroke)).collect();
            let _ = writeln!(self.text, "<path d=\"{d}\" fill=\"none\" {attributes}/>");
        }
    }

    /// Boxes of one look: left, top, width, height.
    pub(super) fn boxes(&mut self, boxes: &[[f64; 4]], attributes: &str) {
        if !boxes.is_empty() {
            let of = |&[x, y, width, height]: &[f64; 4]| {
                let [x, y, width, height] = [x, y, width, height].map(number);
                format!("M{x} {y}h{width}v{height}h-{width}z")
            };
            let d: String = boxes.iter().map(of).collect();
            let _ = writeln!(self.text, "<path d=\"{d}\" {attributes}/>");
        }
    }

    /// A closed area.
    pub(super) fn area(&mut self, points: &[[f64; 2]], attributes: &str) {
        if points.len() > 2 {
            let d = path(points);
            let _ = writeln!(self.text, "<path d=\"{d}z\" stroke=\"none\" {attributes}/>");
        }
    }

    /// Points of one shape and colour.
    pub(super) fn shapes(&mut self, points: &[[f64; 2]], shape: Shape, radius: f64, colour: &str) {
        if points.is_empty() {
            return;
        }
        let outline: String = points.iter().map(|&at| shape_path(at, shape, radius)).collect();
        let paint = match shape {
            Shape::Ring | Shape::Frame | Shape::Plus | Shape::Cross => {
                format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"")
            }
            _ => format!("fill=\"{colour}\""),
        };
        let _ = writeln!(self.text, "<path d=\"{outline}\" {paint}/>");
    }
}

fn path(points: &[[f64; 2]]) -> String {
    let mut d = String::with_capacity(points.len() * 12);
    for (i, [x, y]) in points.iter().enumerate() {
        d.push(if i == 0 { 'M' } else { 'L' });
        let _ = write!(d, "{} {}", number(*x), number(*y));
    }
    d
}

fn shape_path([x, y]: [f64; 2], shape: Shape, r: f64) -> String {
    let polygon = |corners: &[[f64; 2]]| {
        let moved: Vec<[f64; 2]> =
            corners.iter().map(|[dx, dy]| [x + r * dx, y + r * dy]).collect();
        format!("{}z", path(&moved))
    };
    let strokes = |ends: [[f64; 4]; 2]| -> String {
        ends.iter()
            .map(|[a, b, c, d]| path(&[[x + r * a, y + r * b], [x + r * c, y + r * d]]))
            .collect()
    };
    match shape {
        Shape::Circle | Shape::Ring => {
            let (left, y, r2, radius) = (number(x - r), number(y), number(2.0 * r), number(r));
            format!("M{left} {y}a{radius} {radius} 0 1 0 {r2} 0a{radius} {radius} 0 1 0 -{r2} 0z")
        }
        Shape::Square | Shape::Frame => {
            polygon(&[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]])
        }
        Shape::Triangle => polygon(&[[0.0, -1.2], [1.1, 0.8], [-1.1, 0.8]]),
        Shape::Wedge => polygon(&[[0.0, 1.2], [1.1, -0.8], [-1.1, -0.8]]),
        Shape::Diamond => polygon(&[[0.0, -1.3], [1.1, 0.0], [0.0, 1.3], [-1.1, 0.0]]),
        Shape::Plus => strokes([[-1.2, 0.0, 1.2, 0.0], [0.0, -1.2, 0.0, 1.2]]),
        Shape::Cross => strokes([[-1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, 1.0, -1.0]]),
        Shape::Star => {
            let corners: Vec<[f64; 2]> = (0..10u8)
                .map(|i| {
                    let angle = f64::from(i) * std::f64::consts::PI / 5.0;
                    let reach = if i % 2 == 0 { 1.7 } else { 0.7 };
                    [reach * angle.sin(), -reach * angle.cos()]
                })
                .collect();
            polygon(&corners)
        }
    }
}

/// Attributes of a line.
pub(super) fn stroke(colour: &str, weight: Weight, dash: Dash) -> String {
    let (width, opacity) = match weight {
        Weight::Faint => ("1", " stroke-opacity=\"0.45\""),
        Weight::Normal => ("1.6", ""),
        Weight::Bold => ("2.6", ""),
    };
    let dash = match dash {
        Dash::Solid => "",
        Dash::Dashed => " stroke-dasharray=\"7 4\"",
        Dash::Dotted => " stroke-dasharray=\"1.5 3.5\" stroke-linecap=\"round\"",
    };
    format!("stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{opacity}{dash}")
}
