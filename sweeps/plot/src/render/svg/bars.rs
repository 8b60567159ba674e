//! Bars that lie along x, such as the attempts of a worker over time.

use super::{
    panel::Area,
    writer::{Writer, stroke},
};
use crate::figure::{Style, Weight};

/// Thickness in pixels at most, and as a share of the room of a row.
const THICK_MOST: f64 = 14.0;
const THICK_SHARE: f64 = 0.7;
/// What is shorter would not be seen.
const LENGTH_LEAST: f64 = 1.2;
/// Free before the next bar, so that two in a row stay two.
const GAP: f64 = 1.0;
/// Radius of the mark at an end, as a share of the thickness.
const MARK_SHARE: f64 = 0.3;

/// Draws bars of one look as one path: a page may hold thousands.
pub(super) fn draw(out: &mut Writer, points: &[[f64; 3]], area: &Area, style: Style, colour: &str) {
    let thick = (THICK_SHARE * area.step()).min(THICK_MOST);
    let boxes: Vec<[f64; 4]> = points
        .iter()
        .filter_map(|&[y, from, to]| {
            let ([left, middle], [right, _]) = (area.place([from, y])?, area.place([to, y])?);
            Some([left, middle - thick / 2.0, (right - left - GAP).max(LENGTH_LEAST), thick])
        })
        .collect();
    draw_boxes(out, &boxes, style, colour);
}

/// A bar in a legend, with its middle line at `y`.
pub(super) fn swatch(out: &mut Writer, style: Style, colour: &str, [x, y]: [f64; 2], width: f64) {
    draw_boxes(out, &[[x, y - 5.5, width, 11.0]], style, colour);
}

fn draw_boxes(out: &mut Writer, boxes: &[[f64; 4]], style: Style, colour: &str) {
    let look = if style.weight == Weight::Faint {
        let line = stroke(colour, Weight::Normal, style.dash);
        format!("fill=\"{colour}\" fill-opacity=\"0.12\" {line}")
    } else {
        format!("fill=\"{colour}\"")
    };
    out.boxes(boxes, &look);
    if let Some(shape) = style.shape {
        let marks: Vec<[f64; 2]> = boxes
            .iter()
            .map(|&[left, top, width, height]| {
                // Inside the bar, at its end; on a short one in its middle.
                let from_end = (MARK_SHARE * height + 2.5).min(width / 2.0);
                [left + width - from_end, top + height / 2.0]
            })
            .collect();
        let radius = boxes.first().map_or(0.0, |size| MARK_SHARE * size[3]);
        out.shapes(&marks, shape, radius, colour);
    }
}
