//! Quantities with their units, and numbers as people write them.
//!
//! A count is written `300k`, `1.5M`, `2e6` or `1_000_000`; suffixes are powers of 1000
//! (`k`, `M`, `G` or `B`, `T`, `P`, `E`). A count must come out whole; FLOPs need not.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The bare number, for arithmetic and display.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }
    };
}

quantity! {
    /// A number of trainable parameters.
    Params(u64)
}
quantity! {
    /// A number of training tokens seen (repeats counted).
    Tokens(u64)
}
quantity! {
    /// Floating-point operations; one multiply-add is two.
    Flops(f64)
}
quantity! {
    /// A loss in nats per token.
    Nats(f64)
}

/// Why a number written by a person was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Nothing that reads as a number with an optional suffix.
    #[error("`{0}` is not a number; hint: write it as 300k, 1.5M, 2e6 or 1_000_000")]
    NotANumber(String),
    /// A number that is zero, negative, infinite or beyond 1e30.
    #[error("`{0}` is out of range; hint: give a number above 0 and below 1e30")]
    OutOfRange(String),
    /// A count with a fraction.
    #[error("`{0}` is not a whole number; hint: counts of tokens and parameters are whole")]
    NotWhole(String),
}

const SUFFIXES: [(char, f64); 7] =
    [('k', 1e3), ('M', 1e6), ('G', 1e9), ('B', 1e9), ('T', 1e12), ('P', 1e15), ('E', 1e18)];

/// Reads a positive number as a person writes it.
///
/// # Errors
/// [`NumberError`] names the text and what was expected.
pub fn parse_number(text: &str) -> Result<f64, NumberError> {
    let bare = text.trim().replace('_', "");
    let (digits, scale) = SUFFIXES
        .iter()
        .find_map(|&(suffix, scale)| bare.strip_suffix(suffix).map(|digits| (digits, scale)))
        .unwrap_or((bare.as_str(), 1.0));
    let plain =
        digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let value: f64 = match digits.parse::<f64>() {
        Ok(value) if plain => value * scale,
        _ => return Err(NumberError::NotANumber(text.to_owned())),
    };
    if value > 0.0 && value < 1e30 {
        Ok(value)
    } else {
        Err(NumberError::OutOfRange(text.to_owned()))
    }
}

/// Reads a whole positive count as a person writes it.
///
/// # Errors
/// [`NumberError`], also where the number has a fraction.
pub fn parse_count(text: &str) -> Result<u64, NumberError> {
    let value = parse_number(text)?;
    // 2^53: beyond it an f64 no longer tells neighbours apart.
    if value > 9_007_199_254_740_992.0 {
        return Err(NumberError::OutOfRange(text.to_owned()));
    }
    let rounded = value.round();
    // Suffix arithmetic (1.1 * 1e6) may miss the whole number by a rounding.
    if (value - rounded).abs() > 1e-9 * value {
        return Err(NumberError::NotWhole(text.to_owned()));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(rounded as u64)
}

/// A number with an SI suffix and about three significant digits: `1.25M`, `300k`, `42`.
#[must_use]
pub fn si(value: f64) -> String {
    Si(value).to_string()
}

/// Bytes in powers of 1024: `512 MiB`, `3.5 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let value = bytes as f64;
    if value >= 1024.0 * 1024.0 * 1024.0 {
        format!("{:.1} GiB", value / (1024.0 * 1024.0 * 1024.0))
    } else {
        format!("{:.0} MiB", (value / (1024.0 * 1024.0)).ceil())
    }
}

struct Si(f64);

impl fmt::Display for Si {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: [(f64, &str); 6] =
            [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
        let (scaled, suffix) = STEPS
            .iter()
            .find(|(scale, _)| self.0.abs() >= 0.9995 * scale)
            .map_or((self.0, ""), |&(scale, suffix)| (self.0 / scale, suffix));
        let decimals = match scaled.abs() {
            x if x >= 99.95 => 0,
            x if x >= 9.995 => 1,
            _ => 2,
        };
        let text = format!("{scaled:.decimals$}");
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        write!(f, "{text}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_as_people_write_them() {
        for (text, value) in [
            ("300k", 300_000),
            ("1.1M", 1_100_000),
            ("2e6", 2_000_000),
            ("1_000", 1000),
            ("3B", 3_000_000_000),
        ] {
            assert_eq!(parse_count(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_count_is_refused_by_name() {
        for text in ["12q", "", "k", "nan", "inf", "1e", "--3"] {
            assert_eq!(parse_count(text), Err(NumberError::NotANumber(text.to_owned())), "{text}");
        }
        for text in ["0", "-5", "1e300"] {
            assert_eq!(parse_count(text), Err(NumberError::OutOfRange(text.to_owned())), "{text}");
        }
        assert_eq!(parse_count("1.5"), Err(NumberError::NotWhole("1.5".to_owned())));
    }

    #[test]
    fn bytes_print_in_powers_of_1024() {
        for (value, text) in [(1, "1 MiB"), (512 << 20, "512 MiB"), (7 << 29, "3.5 GiB")] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn numbers_print_short() {
        for (value, text) in [
            (300_000.0, "300k"),
            (1.254e6, "1.25M"),
            (42.0, "42"),
            (999_999.0, "1M"),
            (1e15, "1P"),
            (0.5, "0.5"),
        ] {
            assert_eq!(si(value), text);
        }
    }
}
