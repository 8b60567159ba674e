//! Content hashes of configurations.
//!
//! What is hashed is the canonical JSON of a value: keys sorted, no white space, keys at their
//! default left out by the types themselves. So a new key with a default leaves old ids alone.

use serde::Serialize;

/// Canonical JSON: the one text of a value, with sorted keys.
///
/// # Panics
/// Never for the configuration types of this crate: their maps have text keys and their numbers
/// are finite.
#[must_use]
pub fn canonical_json(value: &impl Serialize) -> String {
    // serde_json's `Value` keeps its keys in a BTreeMap, so a round trip through it sorts them.
    let value = serde_json::to_value(value).expect("configuration types serialise to JSON");
    value.to_string()
}

/// The content hash of a value under a domain, so that equal JSON of two kinds differs.
#[must_use]
pub fn content_hash(domain: &str, value: &impl Serialize) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain.as_bytes());
    hasher.update(b"\0");
    hasher.update(canonical_json(value).as_bytes());
    hasher.finalize()
}
