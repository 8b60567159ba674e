//! Plain tables and quantities as people read them.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table without borders, numbers to the right.
pub(crate) fn table(header: &[&str], left: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(ToString::to_string).collect::<Vec<_>>());
    for column in 0..header.len() {
        if let Some(column_style) = table.column_mut(column) {
            let right = !left.contains(&column);
            let alignment = if right { CellAlignment::Right } else { CellAlignment::Left };
            column_style.set_cell_alignment(alignment);
            column_style.set_padding((0, 2));
        }
    }
    table
}

/// The lines of a table without trailing blanks.
pub(crate) fn lines(table: &Table) -> String {
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Seconds as `12 s`, `3 min 20 s`, `5 h 07 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "finite, not negative"
    )]
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..172_800 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// A ratio with three digits.
pub(crate) fn ratio(value: f64) -> String {
    match value {
        x if x >= 99.95 => format!("{x:.0}"),
        x if x >= 9.995 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_at_a_glance() {
        for (seconds, text) in [
            (0.25, "0.2 s"),
            (42.0, "42 s"),
            (200.0, "3 min 20 s"),
            (18_420.0, "5 h 07 min"),
            (400_000.0, "4 d 15 h"),
            (f64::NAN, "unknown"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
