//! `sweep audit`: which changes were asked for, by whom, and what came of them.

use sweep_proto::v1;

use crate::{
    client::{AccessArgs, block_on, refused},
    console::{Console, Format},
    exit::{Exit, Failure},
    output::table::{lines, table},
};

/// Arguments of `sweep audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: u32,
    #[command(flatten)]
    access: AccessArgs,
}

/// Prints what is kept, newest first.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let request = v1::ListAuditRequest { rows_max: args.last.max(1) };
        let reply = control.list_audit(request).await.map_err(refused)?.into_inner();
        match console.format {
            Format::Json => {
                let list: Vec<_> = reply.entries.iter().map(entry_json).collect();
                console.json(&serde_json::json!({ "schema": "sweep.audit/1", "entries": list }))?;
            }
            Format::Table => {
                let header = ["when (UTC)", "who", "from", "call", "outcome", "of"];
                let mut rows = table(&header, &[0, 1, 2, 3, 4, 5]);
                for entry in &reply.entries {
                    rows.add_row(vec![
                        utc(entry.unix_ms),
                        who(entry),
                        entry.address.clone().unwrap_or_default(),
                        entry.call.clone(),
                        entry.outcome.clone(),
                        entry.subject.clone(),
                    ]);
                }
                writeln!(console.out, "{}", lines(&rows))?;
            }
            // Entries have no identifiers; their times tell them apart.
            Format::Quiet => {
                for entry in &reply.entries {
                    writeln!(console.out, "{}", entry.unix_ms)?;
                }
            }
        }
        Ok(if reply.entries.is_empty() { Exit::NoMatch } else { Exit::Done })
    })
}

fn who(entry: &v1::AuditEntry) -> String {
    match &entry.client {
        Some(client) => format!("{client} ({})", entry.role),
        None => entry.role.clone(),
    }
}

fn entry_json(entry: &v1::AuditEntry) -> serde_json::Value {
    serde_json::json!({
        "unix_ms": entry.unix_ms,
        "role": entry.role,
        "client": entry.client,
        "address": entry.address,
        "call": entry.call,
        "subject": entry.subject,
        "outcome": entry.outcome,
    })
}

/// A wall time as people read it; years count from March, so that a leap day comes last (the usual
/// arithmetic of the Gregorian calendar, in eras of 400 years).
fn utc(unix_ms: i64) -> String {
    let seconds = unix_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + later;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_are_those_of_the_calendar() {
        for (unix, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_164_800, "2024-02-29 00:00:00"),
            (1_796_083_199, "2026-11-30 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
        ] {
            assert_eq!(utc(unix * 1000), text, "{unix}");
        }
    }
}
