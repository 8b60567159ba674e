//! A small picture as PNG, and bytes as base64 for a page that holds everything.
//!
//! The pixels are stored without compression: a sample has a few hundred bytes, and a page that
//! depends on no packer is the same everywhere.

use crate::figure::Picture;

/// Bytes of a stored block at most (RFC 1951, section 3.2.4).
const BLOCK: usize = 65_535;

/// The file of a picture.
///
/// # Panics
/// When the pixels are not as many as the side and the channels say.
pub(super) fn encode(picture: &Picture) -> Vec<u8> {
    let (side, channels) = (picture.side as usize, picture.channels as usize);
    assert_eq!(picture.pixels.len(), side * side * channels, "a picture is a whole square");
    // Every row begins with its filter, here none.
    let rows = picture.pixels.chunks_exact(side * channels);
    let raw: Vec<u8> = rows.flat_map(|row| [&[0], row].concat()).collect();
    let mut header = [picture.side, picture.side].map(u32::to_be_bytes).concat();
    // 8 bits, colour or grey, the only compression, the only filters, no interlacing.
    header.extend([8, if channels == 3 { 2 } else { 0 }, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in [(b"IHDR", header), (b"IDAT", stored(&raw)), (b"IEND", Vec::new())] {
        let length = u32::try_from(content.len()).expect("a small picture");
        let named = [name.as_slice(), &content].concat();
        file.extend(length.to_be_bytes());
        file.extend(&named);
        file.extend(crc(&named).to_be_bytes());
    }
    file
}

/// A zlib stream of stored blocks.
fn stored(raw: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let blocks = raw.chunks(BLOCK);
    let last = blocks.len().saturating_sub(1);
    for (index, block) in blocks.enumerate() {
        let length = u16::try_from(block.len()).expect("at most BLOCK");
        stream.push(u8::from(index == last));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend(adler(raw).to_be_bytes());
    stream
}

/// Adler-32 (RFC 1950, section 8.2).
fn adler(bytes: &[u8]) -> u32 {
    let step = |(a, b): (u32, u32), &byte: &u8| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    };
    let (a, b) = bytes.iter().fold((1, 0), step);
    b << 16 | a
}

/// CRC-32 of PNG (ISO/IEC 15948, annex D), bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// Base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            if place > group.len() {
                text.push('=');
            } else {
                text.push(char::from(DIGITS[(word >> (18 - 6 * place)) as usize & 63]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_the_standard_one() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    /// The check values of both sums for the nine digits, as their registers list them.
    #[test]
    fn checksums_are_the_standard_ones() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler(b"123456789"), 0x091e_01de);
    }

    #[test]
    fn a_large_picture_has_several_blocks() {
        let picture = Picture { side: 200, channels: 3, pixels: vec![7; 120_000] };
        let file = encode(&picture);
        // Signature, three chunks of 12 bytes and the header's 13; two bytes, two blocks of 5, sum.
        assert_eq!(file.len(), 8 + 36 + 13 + 2 + 10 + 4 + 120_200);
    }
}
