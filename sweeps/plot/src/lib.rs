//! Figures of a sweep: from curves, observations and fits to the data of a picture, and from that
//! to SVG, terminal text or JSON.
//!
//! [`Figure`](figure::Figure) is plain data; [`FigureKind`](figures::FigureKind) lists every
//! figure and builds it; [`render`] draws it. The crate computes no statistics (a number on a
//! figure was made by `sweep-fit`), reads no file, and no type of the drawing library leaves
//! `render/`.

pub mod figure;
pub mod figures;
pub mod input;
pub mod rates;
pub mod render;
pub mod text;
