//! PNG of a whole figure: its SVG on white, drawn with a font that comes along, so that every machine
//! gives the same pixels.

use std::sync::{Arc, LazyLock};

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};

use super::{palette::Paint, svg};
use crate::figure::Figure;

/// Largest side of a drawing in pixels: 1 GiB of them.
const SIDE_MAX: f32 = 16_384.0;

/// A figure that cannot be drawn as PNG.
#[derive(Debug, thiserror::Error)]
pub enum RasterError {
    /// Too many pixels.
    #[error(
        "{width:.0} x {height:.0} pixels are more than a PNG here has; hint: a smaller --scale"
    )]
    TooLarge {
        /// Pixels across.
        width: f32,
        /// Pixels down.
        height: f32,
    },
    /// The drawing did not read or write.
    #[error("cannot draw the figure: {0}; hint: write it as .svg")]
    Draw(String),
}

/// The sans-serif font in the two weights that figures have.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    for font in [dejavu::sans::regular(), dejavu::sans::bold()] {
        fonts.load_font_data(font.to_vec());
    }
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// Draws a figure with `scale` pixels for each of its own.
///
/// # Errors
/// [`RasterError`] for more pixels than fit.
pub fn render(figure: &Figure, scale: f32) -> Result<Vec<u8>, RasterError> {
    let drawn = svg::render(figure, Paint::Standalone);
    let options = Options { fontdb: FONTS.clone(), ..Options::default() };
    let broken = |error: &dyn std::fmt::Display| RasterError::Draw(error.to_string());
    let tree = Tree::from_str(&drawn, &options).map_err(|error| broken(&error))?;
    let size = tree.size();
    let (width, height) = ((size.width() * scale).ceil(), (size.height() * scale).ceil());
    if !(width >= 1.0 && height >= 1.0 && width <= SIDE_MAX && height <= SIDE_MAX) {
        return Err(RasterError::TooLarge { width, height });
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole numbers from 1 to SIDE_MAX"
    )]
    let mut pixels =
        Pixmap::new(width as u32, height as u32).ok_or(RasterError::TooLarge { width, height })?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| broken(&error))
}
