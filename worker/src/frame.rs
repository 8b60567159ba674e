//! Length-prefixed, checksummed records: what crosses the pipe to a trainer and what stands in a
//! spool file.
//!
//! A record is the length of its payload (u32, little-endian), eight bytes of the BLAKE3 hash of
//! length and payload, and the payload. It knows nothing of what the payload means.

use std::io::{self, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest payload. The longest real one is a run with many data globs, or a batch of 1,000
/// points, both well below 1 MiB; a longer one is a writer gone wild.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Bytes before the payload.
const HEADER_BYTES: usize = 12;

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a record of {0} bytes is above the limit of {PAYLOAD_BYTES_MAX}")]
    TooLong(usize),
    #[error("the checksum of a record of {0} bytes is wrong")]
    Checksum(usize),
    #[error("the input ends inside a record")]
    Truncated,
    #[error("a record holds no message of this version: {0}")]
    Meaning(#[from] serde_json::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn checksum(length: [u8; 4], payload: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length).update(payload);
    let mut short = [0; 8];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    short
}

/// The bytes of a record.
pub(crate) fn encode(payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|_| payload.len() <= PAYLOAD_BYTES_MAX)
        .ok_or(FrameError::TooLong(payload.len()))?
        .to_le_bytes();
    let mut record = Vec::with_capacity(HEADER_BYTES + payload.len());
    record.extend_from_slice(&length);
    record.extend_from_slice(&checksum(length, payload));
    record.extend_from_slice(payload);
    Ok(record)
}

struct Header {
    length: [u8; 4],
    checksum: [u8; 8],
}

impl Header {
    fn read(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let (mut length, mut checksum) = ([0; 4], [0; 8]);
        length.copy_from_slice(&bytes[..4]);
        checksum.copy_from_slice(&bytes[4..]);
        let header = Self { length, checksum };
        // Checked before anything is allocated.
        if header.payload_bytes() > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLong(header.payload_bytes()));
        }
        Ok(header)
    }

    fn payload_bytes(&self) -> usize {
        u32::from_le_bytes(self.length) as usize
    }

    fn verify(&self, payload: &[u8]) -> Result<(), FrameError> {
        if checksum(self.length, payload) == self.checksum {
            Ok(())
        } else {
            Err(FrameError::Checksum(payload.len()))
        }
    }
}

/// The next payload, or `None` at a clean end of the input.
pub(crate) fn read(input: &mut impl Read) -> Result<Option<Vec<u8>>, FrameError> {
    let mut bytes = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match input.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let header = Header::read(bytes)?;
    let mut payload = vec![0; header.payload_bytes()];
    input.read_exact(&mut payload).map_err(end_is_truncation)?;
    header.verify(&payload)?;
    Ok(Some(payload))
}

/// As [`read`], from an asynchronous input. Not safe to drop half-way: the caller owns the input in
/// a task of its own.
pub(crate) async fn read_async(
    input: &mut (impl AsyncRead + Unpin),
) -> Result<Option<Vec<u8>>, FrameError> {
    let mut bytes = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match input.read(&mut bytes[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(FrameError::Truncated),
            count => filled += count,
        }
    }
    let header = Header::read(bytes)?;
    let mut payload = vec![0; header.payload_bytes()];
    input.read_exact(&mut payload).await.map_err(end_is_truncation)?;
    header.verify(&payload)?;
    Ok(Some(payload))
}

/// Writes one record and flushes it.
pub(crate) fn write(output: &mut impl Write, payload: &[u8]) -> Result<(), FrameError> {
    output.write_all(&encode(payload)?)?;
    output.flush()?;
    Ok(())
}

fn end_is_truncation(error: io::Error) -> FrameError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        FrameError::Truncated
    } else {
        FrameError::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_read_back(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6)) {
            let mut stream = Vec::new();
            for payload in &payloads {
                write(&mut stream, payload).unwrap();
            }
            let mut input = stream.as_slice();
            for payload in &payloads {
                let found = read(&mut input).unwrap();
                prop_assert_eq!(found.as_ref(), Some(payload));
            }
            prop_assert!(read(&mut input).unwrap().is_none());
        }

        #[test]
        fn a_flipped_bit_is_found(payload in prop::collection::vec(any::<u8>(), 1..100), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut record = encode(&payload).unwrap();
            let place = at.index(record.len());
            record[place] ^= 1 << bit;
            prop_assert!(read(&mut record.as_slice()).is_err());
        }

        #[test]
        fn a_cut_record_is_truncated(payload in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>()) {
            let record = encode(&payload).unwrap();
            let cut = at.index(record.len());
            let found = read(&mut &record[..cut]);
            if cut == 0 {
                prop_assert!(matches!(found, Ok(None)));
            } else {
                prop_assert!(matches!(found, Err(FrameError::Truncated)));
            }
        }
    }

    #[test]
    fn an_oversized_record_is_refused_on_both_sides() {
        assert!(matches!(encode(&vec![0; PAYLOAD_BYTES_MAX + 1]), Err(FrameError::TooLong(_))));
        // A length that would allocate 4 GiB is refused before the allocation.
        let wild = [0xff_u8; HEADER_BYTES];
        assert!(matches!(read(&mut wild.as_slice()), Err(FrameError::TooLong(_))));
    }

    #[tokio::test]
    async fn the_asynchronous_reader_agrees() {
        let mut stream = encode(b"one").unwrap();
        stream.extend(encode(b"").unwrap());
        stream.extend(&encode(b"three").unwrap()[..9]);
        let mut input = stream.as_slice();
        assert_eq!(read_async(&mut input).await.unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(read_async(&mut input).await.unwrap().as_deref(), Some(&b""[..]));
        assert!(matches!(read_async(&mut input).await, Err(FrameError::Truncated)));
    }
}
