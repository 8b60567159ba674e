//! JPEG, by zune-jpeg: grey stays grey, all else becomes red, green, blue.

use std::{io::Cursor, path::Path};

use zune_jpeg::{JpegDecoder, zune_core::colorspace::ColorSpace};

use super::{Pixels, png::check_size};
use crate::error::DataError;

/// Decodes a file.
pub(super) fn decode(path: &Path, bytes: Vec<u8>) -> Result<Pixels, DataError> {
    let damaged = |reason: String| {
        let hint = "open it in an image viewer; if it is whole, save it anew";
        DataError::image(path, format!("JPEG: {reason}"), hint)
    };
    let mut decoder = JpegDecoder::new(Cursor::new(bytes));
    decoder.decode_headers().map_err(|error| damaged(format!("{error:?}")))?;
    let info = decoder.info().ok_or_else(|| damaged("no header".to_owned()))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    check_size(path, width, height)?;
    let channels = if decoder.input_colorspace() == Some(ColorSpace::Luma) { 1 } else { 3 };
    if channels == 1 {
        let options = decoder.options().jpeg_set_out_colorspace(ColorSpace::Luma);
        decoder.set_options(options);
    }
    let values = decoder.decode().map_err(|error| damaged(format!("{error:?}")))?;
    if values.len() as u64 != u64::from(width) * u64::from(height) * u64::from(channels) {
        return Err(damaged("another number of values than its size says".to_owned()));
    }
    Ok(Pixels { size: [height, width, channels], values, labels: None })
}
