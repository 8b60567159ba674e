//! Words at places, moved so that none covers another or leaves the frame.

use super::{
    super::palette::{Paint, Part},
    SMALL,
    panel::Area,
    writer::{Anchor, Lettering, Writer, text_width},
};
use crate::figure::{Mark, Panel};

/// Left, top, right, bottom.
type Box4 = [f64; 4];

/// Height of a line of text.
const LINE: f64 = 15.0;
/// Points and lines that a note avoids; more would cost more than they help.
const OBSTACLES_MOST: usize = 4000;

/// Writes the notes of a panel.
pub(super) fn draw_notes(out: &mut Writer, panel: &Panel, area: &Area, paint: Paint) {
    let obstacles = obstacles(panel, area);
    let paper = paint.part(Part::Paper);
    let mut taken: Vec<Box4> = Vec::new();
    for note in &panel.notes {
        let Some(at) = area.place(note.at) else { continue };
        let width = text_width(&note.text, SMALL);
        let places = if note.over { over(at, width) } else { candidates(at, width) };
        let place = places
            .into_iter()
            .map(|candidate| into_frame(candidate, area))
            .enumerate()
            .min_by(|(i, a), (j, b)| {
                let cost = |rank: usize, place: &Box4| {
                    let rank = u32::try_from(rank).map_or(0.0, f64::from);
                    cost(place, &taken, &obstacles) + 0.2 * rank
                };
                cost(*i, a).total_cmp(&cost(*j, b))
            })
            .map(|(_, place)| place);
        let Some(place) = place else { continue };
        taken.push(place);
        if note.over {
            // A halo is thinner than a decimal point: the line below would swallow it.
            let ground = [place[0] - 1.0, place[1] + 2.0, width + 2.0, LINE - 4.0];
            out.rect(ground, &format!("fill=\"{paper}\""));
        }
        let fill = paint.tone(note.tone);
        let lettering = Lettering {
            size: SMALL,
            fill: &fill,
            anchor: Anchor::Start,
            bold: false,
            halo: Some(&paper),
        };
        out.text([place[0], place[3] - 4.0], &note.text, &lettering);
    }
}

/// Places around a point, the preferred first.
fn candidates([x, y]: [f64; 2], width: f64) -> Vec<Box4> {
    let mut places = Vec::new();
    for distance in [0.0, 14.0, 30.0, 50.0, 75.0] {
        let middle = y - LINE / 2.0;
        let corners = [
            [x + 11.0, middle - distance],
            [x - width - 11.0, middle - distance],
            [x - width / 2.0, y - LINE - 7.0 - distance],
            [x - width / 2.0, y + 7.0 + distance],
            [x + 11.0, middle + distance],
            [x - width - 11.0, middle + distance],
        ];
        places.extend(corners.map(|[left, top]| [left, top, left + width, top + LINE]));
    }
    places
}

/// The one place of words that stand on a line.
fn over([x, y]: [f64; 2], width: f64) -> Vec<Box4> {
    vec![[x - width / 2.0, y - LINE / 2.0, x + width / 2.0, y + LINE / 2.0]]
}

fn into_frame([left, top, right, bottom]: Box4, area: &Area) -> Box4 {
    let dx = (area.left + 4.0 - left).max(0.0) - (right - (area.left + area.width - 4.0)).max(0.0);
    let dy = (area.top + 3.0 - top).max(0.0) - (bottom - (area.top + area.height - 3.0)).max(0.0);
    [left + dx, top + dy, right + dx, bottom + dy]
}

/// Another note weighs more than a mark: covered words are lost, a covered line is not.
fn cost(place: &Box4, taken: &[Box4], obstacles: &[[f64; 2]]) -> f64 {
    let [left, top, right, bottom] = *place;
    let over = taken
        .iter()
        .filter(|b| left < b[2] + 4.0 && right > b[0] - 4.0 && top < b[3] && bottom > b[1])
        .count();
    let under = obstacles
        .iter()
        .filter(|[x, y]| (left - 2.0..=right + 2.0).contains(x) && (top..=bottom).contains(y))
        .count();
    let number = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    1000.0 * number(over) + number(under.min(200))
}

/// Where marks are: points, and lines sampled every few pixels.
fn obstacles(panel: &Panel, area: &Area) -> Vec<[f64; 2]> {
    let mut places: Vec<[f64; 2]> = Vec::new();
    for series in &panel.series {
        match &series.mark {
            Mark::Points { points } => {
                let around = |[x, y]: [f64; 2]| {
                    [[x, y], [x - 4.0, y], [x + 4.0, y], [x, y - 4.0], [x, y + 4.0]]
                };
                places.extend(points.iter().filter_map(|&p| area.place(p)).flat_map(around));
            }
            Mark::Line { points } => places.extend(along(points, area)),
            Mark::Contour { paths, .. } => {
                places.extend(paths.iter().flat_map(|path| along(path, area)));
            }
            Mark::Intervals { points } => {
                places
                    .extend(points.iter().flat_map(|p| along(&[[p[0], p[1]], [p[0], p[2]]], area)));
            }
            Mark::Band { .. } | Mark::Bars { .. } | Mark::Region { .. } => {}
        }
        if places.len() > OBSTACLES_MOST {
            places.truncate(OBSTACLES_MOST);
            break;
        }
    }
    places
}

fn along(points: &[[f64; 2]], area: &Area) -> Vec<[f64; 2]> {
    const STRIDE: f64 = 6.0;
    let places: Vec<[f64; 2]> = points.iter().filter_map(|&p| area.place(p)).collect();
    let mut out = places.clone();
    for pair in places.windows(2) {
        let [[x0, y0], [x1, y1]] = [pair[0], pair[1]];
        let length = (x1 - x0).hypot(y1 - y0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "pixels")]
        let parts = (length / STRIDE).min(300.0) as u32;
        for i in 1..parts {
            let t = f64::from(i) / f64::from(parts);
            out.push([x0 + t * (x1 - x0), y0 + t * (y1 - y0)]);
        }
    }
    out
}
