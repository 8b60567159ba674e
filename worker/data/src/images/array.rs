//! Formats that hold many images as one array of bytes: IDX (LeCun's MNIST files), CIFAR-10 binary
//! and `.npy` (NumPy format 1.0 and 2.0).

use std::path::Path;

use super::{Pixels, Size};
use crate::error::DataError;

/// A label and 3 planes of 32 x 32.
const CIFAR_RECORD: usize = 1 + 3 * CIFAR_PLANE;
const CIFAR_PLANE: usize = 32 * 32;

/// Big-endian sizes after the four bytes of the mark, and what follows them.
fn idx<'a, const N: usize>(
    path: &Path,
    bytes: &'a [u8],
) -> Result<([u32; N], &'a [u8]), DataError> {
    let header = 4 + 4 * N;
    let cut = |reason: String| {
        DataError::image(path, reason, "check that the file was copied or downloaded whole")
    };
    if bytes.len() < header {
        return Err(cut(format!("IDX file cut inside its header of {header} bytes")));
    }
    let mut sizes = [0; N];
    for (size, word) in sizes.iter_mut().zip(bytes[4..].as_chunks::<4>().0) {
        *size = u32::from_be_bytes(*word);
    }
    let announced: u128 = sizes.iter().map(|&size| u128::from(size)).product();
    let found = bytes.len() - header;
    if announced != found as u128 {
        let shape = sizes.map(|size| size.to_string()).join(" x ");
        let reason = format!("IDX file announces {shape} = {announced} bytes and holds {found}");
        return Err(cut(reason));
    }
    if announced == 0 {
        return Err(cut("IDX file without content".to_owned()));
    }
    Ok((sizes, &bytes[header..]))
}

/// Labels of one byte each.
pub(super) fn idx_labels(path: &Path, bytes: &[u8]) -> Result<Vec<u8>, DataError> {
    Ok(idx::<1>(path, bytes)?.1.to_vec())
}

/// Grey images of bytes: count, rows, columns.
pub(super) fn idx_images(path: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    let ([_, rows, columns], values) = idx::<3>(path, bytes)?;
    Ok(Pixels { size: [rows, columns, 1], values: values.to_vec(), labels: None })
}

/// Records of a label and three planes, brought to rows of red, green, blue.
pub(super) fn cifar(path: &Path, bytes: Vec<u8>) -> Result<Pixels, DataError> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(CIFAR_RECORD) {
        let reason = format!(
            "{} bytes are no whole number of CIFAR-10 records of {CIFAR_RECORD}",
            bytes.len()
        );
        let hint = "check that it is the binary version and was copied whole";
        return Err(DataError::image(path, reason, hint));
    }
    let records = bytes.chunks_exact(CIFAR_RECORD);
    let labels: Vec<u8> = records.clone().map(|record| record[0]).collect();
    if let Some(label) = labels.iter().find(|&&label| label > 9) {
        let reason = format!("label {label} is none of CIFAR-10's 0 to 9");
        let hint = "a `.bin` file of images is read as CIFAR-10; give others as `.npy`";
        return Err(DataError::image(path, reason, hint));
    }
    let values = records.flat_map(|record| {
        let planes = &record[1..];
        (0..CIFAR_PLANE).flat_map(move |at| {
            [planes[at], planes[CIFAR_PLANE + at], planes[2 * CIFAR_PLANE + at]]
        })
    });
    Ok(Pixels { size: [32, 32, 3], values: values.collect(), labels: Some(labels) })
}

/// Arrays of bytes in row-major order: [images, height, width] or [images, height, width, channels].
pub(super) fn npy(path: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    let refused = |reason: String| {
        let hint = "save a C-ordered uint8 array of shape (images, height, width) or \
                    (images, height, width, channels) with numpy.save";
        DataError::image(path, reason, hint)
    };
    let (header, values) =
        npy_parts(bytes).ok_or_else(|| refused("`.npy` file cut inside its header".to_owned()))?;
    let kind = npy_value(header, "descr").unwrap_or_default();
    if !matches!(kind.trim_matches(['\'', '"']), "|u1" | "u1" | "<u1") {
        return Err(refused(format!("`.npy` array of type {kind}, not bytes")));
    }
    if npy_value(header, "fortran_order") != Some("False") {
        return Err(refused("`.npy` array in column-major order".to_owned()));
    }
    let shape =
        npy_shape(header).ok_or_else(|| refused("`.npy` header without a shape".to_owned()))?;
    let (count, size): (u64, Size) = match shape[..] {
        [count, height, width] => (u64::from(count), [height, width, 1]),
        [count, height, width, channels @ (1 | 3)] => (u64::from(count), [height, width, channels]),
        _ => return Err(refused(format!("`.npy` array of shape {shape:?}"))),
    };
    let announced: u128 = u128::from(count) * size.iter().map(|&n| u128::from(n)).product::<u128>();
    if announced != values.len() as u128 || announced == 0 {
        let found = values.len();
        return Err(refused(format!("`.npy` file announces {announced} bytes and holds {found}")));
    }
    Ok(Pixels { size, values: values.to_vec(), labels: None })
}

/// The header's text and what follows it.
fn npy_parts(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (start, length): (usize, usize) = match bytes.get(6)? {
        1 => (10, usize::from(u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?))),
        _ => (12, usize::try_from(u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?)).ok()?),
    };
    let end = start.checked_add(length)?;
    Some((std::str::from_utf8(bytes.get(start..end)?).ok()?, &bytes[end..]))
}

/// The text of a simple value in the header, which is a Python dictionary.
fn npy_value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let after = header.split_once(&format!("'{key}':"))?.1;
    Some(after.split([',', '}']).next()?.trim())
}

fn npy_shape(header: &str) -> Option<Vec<u32>> {
    let inside = header.split_once("'shape':")?.1.split_once('(')?.1.split_once(')')?.0;
    let numbers = inside.split(',').map(str::trim).filter(|part| !part.is_empty());
    numbers.map(|part| part.parse().ok()).collect()
}
