//! Pictures of pixels in a grid, as embedded PNG.

use super::{
    super::{
        palette::Paint,
        png::{base64, encode},
    },
    EDGE, SMALL, WIDTH,
    writer::{Anchor, Lettering, Writer, wrap},
};
use crate::figure::{PictureCell, PictureGrid, Tone};

/// Room for the headings of the rows.
const ROW_HEADING: f64 = 92.0;
/// Between cells, and between the pictures of a cell.
const GAP: f64 = 10.0;
const INNER_GAP: f64 = 2.0;
/// A picture is not drawn larger than this: its pixels would hide its shape.
const SIDE_MOST: f64 = 72.0;

/// Draws the grid from `top` down and gives where it ends.
pub(super) fn draw(out: &mut Writer, grid: &PictureGrid, paint: Paint, top: f64) -> f64 {
    let ink = paint.tone(Tone::Ink);
    let muted = paint.tone(Tone::Muted);
    let heading =
        Lettering { size: SMALL, fill: &ink, anchor: Anchor::Start, bold: true, halo: None };
    let caption =
        Lettering { size: 11.0, fill: &muted, anchor: Anchor::Start, bold: false, halo: None };
    let named = grid.rows.iter().any(|row| !row.is_empty());
    let left = EDGE + if named { ROW_HEADING } else { 0.0 };
    let count = u32::try_from(grid.columns.len().max(1)).map_or(1.0, f64::from);
    let width = (WIDTH - EDGE - left - GAP * (count - 1.0)) / count;
    let mut y = top + 18.0;
    let place = |column: usize| left + u32::try_from(column).map_or(0.0, f64::from) * (width + GAP);
    for (column, text) in grid.columns.iter().enumerate() {
        out.text([place(column), y], text, &heading);
    }
    y += 8.0;
    for (row, cells) in grid.cells.chunks(grid.columns.len().max(1)).enumerate() {
        if let Some(text) = grid.rows.get(row).filter(|text| !text.is_empty()) {
            for (line, part) in (0_u8..).zip(wrap(text, SMALL, ROW_HEADING - 8.0)) {
                out.text([EDGE, y + 14.0 + 15.0 * f64::from(line)], &part, &heading);
            }
        }
        let mut bottom = y + 20.0;
        for (column, cell) in cells.iter().enumerate() {
            let Some(cell) = cell else {
                out.text([place(column), y + 14.0], "no run", &caption);
                continue;
            };
            let mut end = draw_cell(out, cell, [place(column), y], width);
            if !cell.caption.is_empty() {
                for part in wrap(&cell.caption, 11.0, width) {
                    out.text([place(column), end + 13.0], &part, &caption);
                    end += 14.0;
                }
            }
            bottom = bottom.max(end);
        }
        y = bottom + GAP + 2.0;
    }
    y + 4.0
}

/// Draws the pictures of a cell and gives where they end.
fn draw_cell(out: &mut Writer, cell: &PictureCell, [x, y]: [f64; 2], width: f64) -> f64 {
    let across = u32::try_from(cell.across.max(1)).map_or(1.0, f64::from);
    let side = ((width - INNER_GAP * (across - 1.0)) / across).min(SIDE_MOST);
    let mut bottom = y;
    for (place, picture) in cell.pictures.iter().enumerate() {
        let (row, column) = (place / cell.across.max(1), place % cell.across.max(1));
        let step = side + INNER_GAP;
        let at = |index: usize| u32::try_from(index).map_or(0.0, f64::from) * step;
        let data = base64(&encode(picture));
        out.image([x + at(column), y + at(row), side, side], &data);
        bottom = bottom.max(y + at(row) + side);
    }
    bottom
}
