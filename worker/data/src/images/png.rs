//! PNG (ISO/IEC 15948): the parts of it that small pictures use. Every colour type and bit depth,
//! palettes, and transparency, which is put on black; not interlacing, which is refused. Checksums
//! of chunks are checked. Sixteen bits become eight.
//!
//! Written here because the inflater is at hand and a decoder is little more than that.

use std::{io::Read, path::Path};

use super::Pixels;
use crate::error::DataError;

const SIGNATURE_BYTES: usize = 8;

/// Largest side that is decoded at all, so that a wrong folder is refused in words.
pub(super) const SIDE_MAX: u32 = 2048;

fn refused(path: &Path, reason: &str) -> DataError {
    let hint = "open it in an image viewer; if it is whole, save it anew as plain PNG";
    DataError::image(path, format!("PNG: {reason}"), hint)
}

/// A picture that is too large to be meant.
pub(super) fn check_size(path: &Path, width: u32, height: u32) -> Result<(), DataError> {
    if (1..=SIDE_MAX).contains(&width) && (1..=SIDE_MAX).contains(&height) {
        return Ok(());
    }
    let reason = format!("a picture of {width} x {height}");
    Err(DataError::image(path, reason, "resize the pictures to squares of 8 to 64 pixels"))
}

/// What the header says.
#[derive(Clone, Copy)]
struct Header {
    width: u32,
    height: u32,
    depth: u8,
    color: u8,
}

impl Header {
    /// Samples of a pixel as they are stored.
    const fn samples(self) -> usize {
        match self.color {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        }
    }

    /// Bytes of a row, without its filter.
    const fn row_bytes(self) -> usize {
        (self.width as usize * self.samples() * self.depth as usize).div_ceil(8)
    }

    /// Distance of the byte to the left that a filter looks at.
    const fn step(self) -> usize {
        let bits = self.samples() * self.depth as usize;
        if bits < 8 { 1 } else { bits / 8 }
    }
}

/// The chunks that matter.
#[derive(Default)]
struct Chunks {
    header: Option<Header>,
    palette: Vec<[u8; 3]>,
    transparency: Vec<u8>,
    data: Vec<u8>,
    ended: bool,
}

/// Decodes a file.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    let chunks = chunks(bytes).map_err(|reason| refused(path, reason))?;
    let header = chunks.header.ok_or_else(|| refused(path, "no header"))?;
    check_size(path, header.width, header.height)?;
    let samples = unfilter(header, &chunks.data).map_err(|reason| refused(path, reason))?;
    let (channels, values) =
        colours(header, &chunks, &samples).map_err(|reason| refused(path, reason))?;
    Ok(Pixels { size: [header.height, header.width, channels], values, labels: None })
}

fn chunks(bytes: &[u8]) -> Result<Chunks, &'static str> {
    let mut found = Chunks::default();
    let mut rest = &bytes[SIGNATURE_BYTES.min(bytes.len())..];
    while !found.ended {
        let (length, after) = rest.split_first_chunk::<4>().ok_or("cut short")?;
        let length = u32::from_be_bytes(*length) as usize;
        let named = after.get(..length.checked_add(4).ok_or("cut short")?).ok_or("cut short")?;
        let (sum, after) = after[named.len()..].split_first_chunk::<4>().ok_or("cut short")?;
        let mut crc = flate2::Crc::new();
        crc.update(named);
        if crc.sum() != u32::from_be_bytes(*sum) {
            return Err("a checksum does not match");
        }
        let (name, content) = named.split_at(4);
        match name {
            b"IHDR" => found.header = Some(header(content)?),
            b"PLTE" => found.palette = content.as_chunks::<3>().0.to_vec(),
            b"tRNS" => found.transparency = content.to_vec(),
            b"IDAT" => found.data.extend_from_slice(content),
            b"IEND" => found.ended = true,
            // A chunk that must be understood has a capital first letter.
            _ if name[0].is_ascii_uppercase() => return Err("a chunk that is not read"),
            _ => {}
        }
        rest = after;
    }
    Ok(found)
}

fn header(content: &[u8]) -> Result<Header, &'static str> {
    let [w0, w1, w2, w3, h0, h1, h2, h3, depth, color, compression, filter, interlace] = *content
    else {
        return Err("a header of another length");
    };
    let depths: &[u8] = match color {
        0 => &[1, 2, 4, 8, 16],
        3 => &[1, 2, 4, 8],
        2 | 4 | 6 => &[8, 16],
        _ => return Err("a colour type that does not exist"),
    };
    if !depths.contains(&depth) || compression != 0 || filter != 0 {
        return Err("a header that does not exist");
    }
    if interlace != 0 {
        return Err("it is interlaced, which is not read");
    }
    let width = u32::from_be_bytes([w0, w1, w2, w3]);
    let height = u32::from_be_bytes([h0, h1, h2, h3]);
    Ok(Header { width, height, depth, color })
}

/// Inflates the rows, takes their filters back, and gives each sample as 8 bits; those of a palette
/// as they are.
fn unfilter(header: Header, data: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (row_bytes, step) = (header.row_bytes(), header.step());
    let wanted = (row_bytes + 1) * header.height as usize;
    let mut raw = Vec::with_capacity(wanted);
    let inflated = flate2::read::ZlibDecoder::new(data).take(wanted as u64).read_to_end(&mut raw);
    if inflated.is_err() || raw.len() != wanted {
        return Err("its pixels do not inflate");
    }
    let mut above = vec![0_u8; row_bytes];
    let mut samples = Vec::new();
    for row in raw.chunks_exact(row_bytes + 1) {
        let mut line = row[1..].to_vec();
        for at in 0..row_bytes {
            let left = if at >= step { line[at - step] } else { 0 };
            let corner = if at >= step { above[at - step] } else { 0 };
            let predicted = match row[0] {
                0 => 0,
                1 => left,
                2 => above[at],
                3 => left.midpoint(above[at]),
                4 => paeth(left, above[at], corner),
                _ => return Err("a filter that does not exist"),
            };
            line[at] = line[at].wrapping_add(predicted);
        }
        unpack(header, &line, &mut samples);
        above = line;
    }
    Ok(samples)
}

/// The neighbour nearest to left + above - corner.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let estimate = i16::from(left) + i16::from(above) - i16::from(corner);
    let far = |value: u8| (estimate - i16::from(value)).abs();
    if far(left) <= far(above) && far(left) <= far(corner) {
        left
    } else if far(above) <= far(corner) {
        above
    } else {
        corner
    }
}

fn unpack(header: Header, line: &[u8], samples: &mut Vec<u8>) {
    let count = header.width as usize * header.samples();
    match header.depth {
        8 => samples.extend_from_slice(line),
        16 => samples.extend(line.iter().step_by(2)),
        depth => {
            let per_byte = 8 / usize::from(depth);
            let most = (1_u16 << depth) - 1;
            for at in 0..count {
                let shift = 8 - usize::from(depth) * (at % per_byte + 1);
                let value = u16::from(line[at / per_byte] >> shift) & most;
                // An index of a palette stays; a grey is spread over 0 to 255.
                let value = if header.color == 3 { value } else { value * 255 / most };
                samples.push(u8::try_from(value).expect("at most 255"));
            }
        }
    }
}

/// Channels and values without palette and transparency.
fn colours(
    header: Header,
    chunks: &Chunks,
    samples: &[u8],
) -> Result<(u32, Vec<u8>), &'static str> {
    let over_black = |value: u8, alpha: u8| {
        let product = u16::from(value) * u16::from(alpha);
        u8::try_from((product + 127) / 255).expect("at most 255")
    };
    Ok(match header.color {
        0 => (1, samples.to_vec()),
        2 => (3, samples.to_vec()),
        4 => (1, samples.as_chunks::<2>().0.iter().map(|&[v, a]| over_black(v, a)).collect()),
        6 => {
            let pixels = samples.as_chunks::<4>().0.iter();
            (3, pixels.flat_map(|&[r, g, b, a]| [r, g, b].map(|v| over_black(v, a))).collect())
        }
        _ => {
            let mut values = Vec::with_capacity(3 * samples.len());
            for &index in samples {
                let color = chunks.palette.get(usize::from(index));
                let color = color.ok_or("a colour that its palette does not have")?;
                let alpha = chunks.transparency.get(usize::from(index)).copied().unwrap_or(255);
                values.extend(color.map(|value| over_black(value, alpha)));
            }
            (3, values)
        }
    })
}
