//! Which documents are used, and which of them are held out.
//!
//! Documents stand in the order of their content hashes, exact copies once, empty ones never.
//! `max_bytes` passes along that order and takes each document that still has room. The held-out
//! ones are those whose hash, read at another place than the order reads it, lies below the share:
//! so a document stays on its side when others come or go. Neither side is ever empty: the document
//! that lies lowest is always held out, the one that lies highest never.

use std::collections::BTreeMap;

use crate::{
    error::DataError,
    index::{ContentHash, DocumentFacts, FileFacts},
};

/// A chosen document and where it is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Its facts.
    pub(crate) facts: DocumentFacts,
    /// Which of the files.
    pub(crate) file: usize,
    /// Which document of that file.
    pub(crate) place: usize,
}

/// Documents of the two parts, each in the order of the hashes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Selection {
    /// Trained on.
    pub(crate) train: Vec<Chosen>,
    /// Held out.
    pub(crate) validation: Vec<Chosen>,
}

/// Chooses and splits.
pub(crate) fn select(
    files: &[FileFacts],
    max_bytes: Option<u64>,
    held_out: f64,
) -> Result<Selection, DataError> {
    if !(held_out > 0.0 && held_out < 1.0) {
        return Err(DataError::HeldOut(held_out));
    }
    let mut by_hash: BTreeMap<[u8; 32], Chosen> = BTreeMap::new();
    for (file, facts) in files.iter().enumerate() {
        for (place, &facts) in facts.documents.iter().enumerate() {
            if facts.bytes > 0 {
                let chosen = Chosen { facts, file, place };
                by_hash.entry(*facts.hash.as_bytes()).or_insert(chosen);
            }
        }
    }
    let mut room = max_bytes.unwrap_or(u64::MAX);
    let mut documents: Vec<Chosen> = by_hash.into_values().collect();
    documents.retain(|document| {
        let taken = document.facts.bytes <= room;
        room -= if taken { document.facts.bytes } else { 0 };
        taken
    });
    split(documents, held_out, files.len())
}

fn split(documents: Vec<Chosen>, held_out: f64, files: usize) -> Result<Selection, DataError> {
    let total = documents.len();
    if total < 2 {
        return Err(DataError::TooFewDocuments { documents: total, files });
    }
    let fractions = documents.iter().map(|document| fraction(&document.facts.hash));
    let (lowest, highest) = fractions.fold((1.0_f64, 0.0_f64), |(lowest, highest), fraction| {
        (lowest.min(fraction), highest.max(fraction))
    });
    let (validation, train): (Vec<_>, Vec<_>) = documents.into_iter().partition(|document| {
        let fraction = fraction(&document.facts.hash);
        (fraction < held_out || fraction <= lowest) && fraction < highest
    });
    Ok(Selection { train, validation })
}

/// The last eight bytes of a hash as a number in [0, 1); the order is read from the first ones.
#[expect(clippy::cast_precision_loss, reason = "53 bits decide the side of a document")]
fn fraction(hash: &ContentHash) -> f64 {
    let bytes: [u8; 8] = hash.as_bytes()[24..].try_into().expect("a hash has 32 bytes");
    (u64::from_le_bytes(bytes) >> 11) as f64 * (f64::EPSILON / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(texts: &[&str]) -> FileFacts {
        let documents = texts
            .iter()
            .map(|text| DocumentFacts {
                hash: blake3::hash(text.as_bytes()),
                bytes: text.len() as u64,
            })
            .collect();
        FileFacts { documents, largest_token: None }
    }

    fn hashes(chosen: &[Chosen]) -> Vec<ContentHash> {
        chosen.iter().map(|chosen| chosen.facts.hash).collect()
    }

    #[test]
    fn neither_files_nor_their_order_matter() {
        let texts: Vec<String> = (0..100).map(|i| format!("document {i}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let one = select(&[file(&texts)], None, 0.1).unwrap();
        let mut reversed = texts.clone();
        reversed.reverse();
        let parts: Vec<FileFacts> = reversed.chunks(7).map(file).collect();
        let many = select(&parts, None, 0.1).unwrap();
        assert_eq!(hashes(&one.train), hashes(&many.train));
        assert_eq!(hashes(&one.validation), hashes(&many.validation));
        assert_eq!(one.train.len() + one.validation.len(), 100);
        assert!((2..=25).contains(&one.validation.len()), "{}", one.validation.len());
    }

    #[test]
    fn copies_count_once_and_empty_documents_never() {
        let selection =
            select(&[file(&["a", "", "b"]), file(&["b", "a", "c"])], None, 0.5).unwrap();
        assert_eq!(selection.train.len() + selection.validation.len(), 3);
    }

    #[test]
    fn a_document_stays_on_its_side_when_others_come() {
        let texts: Vec<String> = (0..400).map(|i| format!("document {i}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let few = select(&[file(&texts[..200])], None, 0.2).unwrap();
        let many = hashes(&select(&[file(&texts)], None, 0.2).unwrap().validation);
        assert!(hashes(&few.validation).iter().all(|hash| many.contains(hash)));
    }

    #[test]
    fn at_most_max_bytes_in_whole_documents() {
        let texts: Vec<String> = (0..50).map(|i| "x".repeat(10 + i)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let selection = select(&[file(&texts)], Some(300), 0.1).unwrap();
        let bytes: u64 =
            selection.train.iter().chain(&selection.validation).map(|c| c.facts.bytes).sum();
        assert!(bytes <= 300 && bytes > 240, "{bytes}");
    }

    #[test]
    fn at_least_one_document_is_held_out_and_one_trained_on() {
        for texts in [["a", "b"], ["c", "d"], ["e", "f"]] {
            for share in [1e-9, 0.5, 1.0 - 1e-9] {
                let selection = select(&[file(&texts)], None, share).unwrap();
                assert_eq!((selection.train.len(), selection.validation.len()), (1, 1));
            }
        }
        assert!(matches!(
            select(&[file(&["a", "a", ""])], None, 0.5),
            Err(DataError::TooFewDocuments { documents: 1, files: 1 })
        ));
        assert!(matches!(
            select(&[file(&["aaaa", "bbbb"])], Some(5), 0.5),
            Err(DataError::TooFewDocuments { documents: 1, .. })
        ));
        for share in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(matches!(select(&[], None, share), Err(DataError::HeldOut(_))));
        }
    }
}
