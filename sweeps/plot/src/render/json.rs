//! The data of a figure, for replotting elsewhere: `sweep.figure/1`.

use serde::Serialize;

use crate::figure::Figure;

/// Writes the figure; places without a value (NaN, infinity) become null.
///
/// # Errors
/// The serialiser's, which a figure gives no cause for.
pub fn render<S: serde::Serializer>(figure: &Figure, serializer: S) -> Result<S::Ok, S::Error> {
    figure.serialize(serializer)
}
