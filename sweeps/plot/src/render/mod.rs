//! Drawing: SVG, PNG, terminal text, JSON. No type of a drawing library leaves this folder.
//!
//! SVG is written by ourselves: kuva 0.6 rounds every logarithmic axis to whole decades, so that
//! losses from 2.1 to 2.9 would fill a sixth of it, and its figures do not follow a light or dark
//! page. Its terminal canvas (braille dots and box lines) is what the terminal uses.

pub mod json;
mod palette;
mod png;
pub mod raster;
pub mod svg;
pub mod terminal;
mod ticks;

pub use palette::{Paint, page_css};
