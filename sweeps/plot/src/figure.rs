//! The data of a picture, before any drawing: panels with axes, series, notes, and the facts that
//! a reader needs to trust it.
//!
//! Values are in the unit of their axis, never in pixels. How a tone or a shape looks is decided
//! by a renderer, so the same figure serves a light page, a dark page and a terminal.

use serde::Serialize;

/// Version of the JSON form.
pub const SCHEMA: &str = "sweep.figure/1";

/// A figure: one or more panels with a title and a caption.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Unique within a report; letters, digits and hyphens.
    pub name: String,
    /// What is shown, in a few words.
    pub title: String,
    /// What a reader who cannot see it should know.
    pub description: String,
    /// Panels beside each other in one row.
    pub columns: usize,
    /// The panels, row by row.
    pub panels: Vec<Panel>,
    /// Pictures in place of panels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<PictureGrid>,
    /// What the caption states.
    pub facts: Facts,
    /// What is not there yet, and what would bring it; drawn in place of the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Pictures in rows and columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PictureGrid {
    /// Headings of the rows.
    pub rows: Vec<String>,
    /// Headings of the columns.
    pub columns: Vec<String>,
    /// The cells, row by row; absent where there is nothing to show.
    pub cells: Vec<Option<PictureCell>>,
}

/// Pictures that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PictureCell {
    /// What stands below them.
    pub caption: String,
    /// Pictures side by side; the rest stands below.
    pub across: usize,
    /// The pictures.
    pub pictures: Vec<Picture>,
}

/// A square picture of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Picture {
    /// Its side in pixels.
    pub side: u32,
    /// 1 for grey, 3 for colour.
    pub channels: u32,
    /// Row by row, channels together.
    pub pixels: Vec<u8>,
}

/// What every figure states about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Runs that are on the figure.
    pub runs_drawn: usize,
    /// Runs left out because the figure would hold too many or their place is elsewhere.
    pub runs_hidden: usize,
    /// Runs that failed or diverged.
    pub runs_failed: usize,
    /// Runs whose device failed a later check.
    pub runs_suspect: usize,
    /// What N counts.
    pub n_convention: String,
    /// How C is counted, where the figure has C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c_convention: Option<String>,
    /// The law with its constants, where the figure has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub law: Option<String>,
    /// How the intervals were made; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Whatever else the reader must know, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One coordinate system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Panel {
    /// Its own title, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Drawn in this order.
    pub series: Vec<Series>,
    /// Words at a place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// An axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axis {
    /// What it measures.
    pub label: String,
    /// Its unit; absent for a pure number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// Its ends; absent where the data decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Names of the places 0, 1, 2 and so on, where it names instead of measuring.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// The scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Equal distances are equal differences.
    Linear,
    /// Equal distances are equal ratios; values at or below 0 have no place.
    Log,
}

/// Marks of one kind that belong together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// What it is, for a tooltip and for readers of the JSON.
    pub label: String,
    /// Its line in the legend; series with the same text share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legend: Option<String>,
    /// How it looks.
    pub style: Style,
    /// Its values.
    pub mark: Mark,
}

/// The values of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Mark {
    /// A connected line of (x, y).
    Line {
        /// In the order of x.
        points: Vec<[f64; 2]>,
    },
    /// Single points (x, y).
    Points {
        /// In any order.
        points: Vec<[f64; 2]>,
    },
    /// The area between two curves: (x, low, high).
    Band {
        /// In the order of x.
        points: Vec<[f64; 3]>,
    },
    /// Upright bars: (x, low, high).
    Intervals {
        /// In any order.
        points: Vec<[f64; 3]>,
    },
    /// Bars that lie along x: (y, from, to).
    Bars {
        /// In any order.
        points: Vec<[f64; 3]>,
    },
    /// Lines of one level of a surface.
    Contour {
        /// The level.
        level: f64,
        /// Its connected parts.
        paths: Vec<Vec<[f64; 2]>>,
    },
    /// A range of x over the whole height.
    Region {
        /// Its left end.
        from: f64,
        /// Its right end; infinity for the end of the axis.
        to: f64,
    },
}

/// How a series looks; meaning is never carried by the tone alone. A bar of weight
/// [`Weight::Faint`] is hollow, and its dashes are those of its outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Style {
    /// Colour.
    pub tone: Tone,
    /// Width of lines, opacity.
    pub weight: Weight,
    /// Dashes of lines.
    pub dash: Dash,
    /// Shape of points; on a line, of a mark at its last point; on a bar, at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
}

/// A colour by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// Text and whatever matters most.
    Ink,
    /// What stands back.
    Muted,
    /// A fitted law.
    Law,
    /// A second law or reference.
    Reference,
    /// A place on the ordered ramp, from 0 to [`RAMP_STEPS`] - 1.
    Ramp(u8),
}

/// Tones of the ordered ramp: more cannot be told apart.
pub const RAMP_STEPS: u8 = 8;

/// How strong a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Behind the others.
    Faint,
    /// As usual.
    Normal,
    /// What the figure is about.
    Bold,
}

/// Dashes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dash {
    /// None.
    Solid,
    /// Long.
    Dashed,
    /// Short.
    Dotted,
}

/// Shape of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Filled circle.
    Circle,
    /// Filled square.
    Square,
    /// Filled triangle, point up.
    Triangle,
    /// Filled square on its corner.
    Diamond,
    /// Filled triangle, point down.
    Wedge,
    /// Open circle.
    Ring,
    /// Open square.
    Frame,
    /// Upright cross.
    Plus,
    /// Slanted cross: reserved for what failed or diverged.
    Cross,
    /// Star: reserved for check runs.
    Star,
}

impl Shape {
    /// Shapes that carry no meaning of their own, for groups of runs.
    pub const PLAIN: [Self; 8] = [
        Self::Circle,
        Self::Square,
        Self::Triangle,
        Self::Diamond,
        Self::Wedge,
        Self::Ring,
        Self::Frame,
        Self::Plus,
    ];
}

/// Words at a place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Note {
    /// (x, y) on the axes.
    pub at: [f64; 2],
    /// The words; a renderer moves them so that none covers another.
    pub text: String,
    /// Colour.
    pub tone: Tone,
    /// Whether the words stand on their place, as the number on a contour does, or beside it.
    pub over: bool,
}

impl Axis {
    /// A logarithmic axis.
    #[must_use]
    pub fn log(label: &str, unit: &str) -> Self {
        Self::new(label, unit, Scale::Log)
    }

    /// A linear axis.
    #[must_use]
    pub fn linear(label: &str, unit: &str) -> Self {
        Self::new(label, unit, Scale::Linear)
    }

    /// An axis of names, from the lowest place upwards, each with the same room.
    #[must_use]
    pub fn named(label: &str, names: Vec<String>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a few dozen names")]
        let end = names.len().max(1) as f64 - 0.5;
        Self { range: Some([-0.5, end]), names, ..Self::linear(label, "") }
    }

    fn new(label: &str, unit: &str, scale: Scale) -> Self {
        let unit = (!unit.is_empty()).then(|| unit.to_owned());
        Self { label: label.to_owned(), unit, scale, range: None, names: Vec::new() }
    }

    /// Label and unit as they stand beside the axis.
    #[must_use]
    pub fn caption(&self) -> String {
        let log = if self.scale == Scale::Log { ", log scale" } else { "" };
        match &self.unit {
            Some(unit) => format!("{} ({unit}{log})", self.label),
            None if log.is_empty() => self.label.clone(),
            None => format!("{} (log scale)", self.label),
        }
    }
}

impl Style {
    /// A line as usual.
    #[must_use]
    pub const fn line(tone: Tone) -> Self {
        Self { tone, weight: Weight::Normal, dash: Dash::Solid, shape: None }
    }

    /// Points of a shape.
    #[must_use]
    pub const fn points(tone: Tone, shape: Shape) -> Self {
        Self { tone, weight: Weight::Normal, dash: Dash::Solid, shape: Some(shape) }
    }

    /// The same with another weight.
    #[must_use]
    pub const fn weight(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }

    /// The same with other dashes.
    #[must_use]
    pub const fn dash(self, dash: Dash) -> Self {
        Self { dash, ..self }
    }

    /// The same with a mark at the last point.
    #[must_use]
    pub const fn ending(self, shape: Shape) -> Self {
        Self { shape: Some(shape), ..self }
    }
}

impl Series {
    /// A series without a line in the legend.
    #[must_use]
    pub fn new(label: impl Into<String>, style: Style, mark: Mark) -> Self {
        Self { label: label.into(), legend: None, style, mark }
    }

    /// The same with a line in the legend.
    #[must_use]
    pub fn legend(self, text: impl Into<String>) -> Self {
        Self { legend: Some(text.into()), ..self }
    }
}

impl Mark {
    /// Every (x, y) it touches, for the ranges of the axes.
    pub(crate) fn extent(&self) -> Vec<[f64; 2]> {
        match self {
            Self::Line { points } | Self::Points { points } => points.clone(),
            Self::Band { points } | Self::Intervals { points } => {
                points.iter().flat_map(|&[x, low, high]| [[x, low], [x, high]]).collect()
            }
            Self::Bars { points } => {
                points.iter().flat_map(|&[y, from, to]| [[from, y], [to, y]]).collect()
            }
            Self::Contour { paths, .. } => paths.concat(),
            Self::Region { .. } => Vec::new(),
        }
    }
}

impl Panel {
    /// An empty panel.
    #[must_use]
    pub const fn new(x: Axis, y: Axis) -> Self {
        Self { title: None, x, y, series: Vec::new(), notes: Vec::new() }
    }

    /// The same with a title of its own.
    #[must_use]
    pub fn titled(self, title: &str) -> Self {
        Self { title: Some(title.to_owned()), ..self }
    }

    /// Adds words at a place.
    pub fn note(&mut self, at: [f64; 2], text: impl Into<String>, tone: Tone) {
        self.notes.push(Note { at, text: text.into(), tone, over: false });
    }

    /// Adds words on a place.
    pub fn note_over(&mut self, at: [f64; 2], text: impl Into<String>, tone: Tone) {
        self.notes.push(Note { at, text: text.into(), tone, over: true });
    }
}

impl Facts {
    /// The caption, a statement each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut counts = vec![format!("runs drawn: {}", self.runs_drawn)];
        counts.push(format!("hidden: {}", self.runs_hidden));
        counts.push(format!("failed or diverged: {}", self.runs_failed));
        if self.runs_suspect > 0 {
            counts.push(format!("suspect: {}", self.runs_suspect));
        }
        let mut first = counts.join(", ");
        first.push_str(" · ");
        first.push_str(&self.n_convention);
        if let Some(convention) = &self.c_convention {
            first.push_str(" · ");
            first.push_str(convention);
        }
        let mut lines = vec![first];
        match (&self.law, &self.interval) {
            (Some(law), Some(interval)) => {
                lines.push(format!("law: {law} · intervals: {interval}"));
            }
            (Some(law), None) => lines.push(format!("law: {law} · no intervals")),
            (None, Some(interval)) => lines.push(format!("no law · intervals: {interval}")),
            (None, None) => lines.push("no law, no intervals".to_owned()),
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }
}
