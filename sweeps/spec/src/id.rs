//! Identifiers. A run, a data set and a sweep are known by the hash of their content.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Hexadecimal digits of an identifier: 128 bits, so that a collision among all runs ever
/// trained stays out of the question.
pub const ID_DIGITS: usize = 32;

/// Hexadecimal digits shown to people.
pub const SHORT_DIGITS: usize = 10;

/// Text that is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an identifier of {ID_DIGITS} hexadecimal digits")]
pub struct IdError(String);

macro_rules! content_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The first 128 bits of a content hash as an identifier.
            #[must_use]
            pub fn from_hash(hash: &blake3::Hash) -> Self {
                Self(hash.to_hex()[..ID_DIGITS].to_owned())
            }

            /// All digits.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first digits, for people.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..SHORT_DIGITS]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid = text.len() == ID_DIGITS
                    && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if valid { Ok(Self(text.to_owned())) } else { Err(IdError(text.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

content_id! {
    /// The content hash of a run's configuration: everything that changes its weights.
    RunId
}
content_id! {
    /// The content hash of a training corpus as it is read: documents, split and vocabulary.
    DataId
}
content_id! {
    /// The content hash of a submitted recipe with its resolved data.
    SweepId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_survives_text() {
        let id = RunId::from_hash(&blake3::hash(b"a run"));
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_eq!(id.short().len(), SHORT_DIGITS);
        assert!("xyz".parse::<RunId>().is_err());
        assert!(id.as_str().to_uppercase().parse::<RunId>().is_err());
    }
}
