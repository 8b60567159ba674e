//! Event files of TensorBoard: a folder for each run, a scalar for each metric. The wall time of a
//! point is the seconds of training up to it, so that "relative" and "wall" show the same.
//!
//! A file is a list of records, each with its length and the masked CRC-32C of length and content
//! (the TFRecord format); a record is an `Event` of TensorFlow's `event.proto`.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::Path,
};

use prost::Message;
use sweep_spec::metric::Metric;

use crate::results::{Curve, RunResult, SweepResults};

/// What the first event of a file says.
const FILE_VERSION: &str = "brain.Event:2";

/// Beginning of the name that TensorBoard looks for.
const FILE_NAME: &str = "events.out.tfevents.0.sweep";

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    // Optional on the wire, so that 0 is written.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// Writes a folder for each run that has points; gives their number.
///
/// # Errors
/// When `folder` cannot be written.
pub(crate) fn write(results: &SweepResults, folder: &Path) -> io::Result<usize> {
    let mut written = 0;
    for run in &results.runs {
        let Some(curves) = results.curves.get(&run.id) else { continue };
        let place = folder.join(name(run));
        fs::create_dir_all(&place)?;
        let mut out = BufWriter::new(fs::File::create(place.join(FILE_NAME))?);
        events(curves.iter(), &mut out)?;
        out.flush()?;
        written += 1;
    }
    Ok(written)
}

/// What TensorBoard lists: sizes first, since runs sort by it.
fn name(run: &RunResult) -> String {
    let (n, d) = (run.parameters().total, run.run.config.tokens());
    format!("N{n:010}-D{d:012}-{}", run.label())
}

fn events<'a>(
    curves: impl Iterator<Item = (&'a Metric, &'a Curve)> + Clone,
    out: &mut dyn Write,
) -> io::Result<()> {
    let first = Event { file_version: Some(FILE_VERSION.to_owned()), ..Event::default() };
    record(&first.encode_to_vec(), out)?;
    let seconds = curves.clone().find(|(metric, _)| **metric == Metric::Seconds);
    let seconds = seconds.map_or(&[][..], |(_, curve)| &curve[..]);
    for (metric, curve) in curves.filter(|(metric, _)| **metric != Metric::Seconds) {
        for &(step, value) in curve.iter() {
            let at = seconds.partition_point(|&(other, _)| other <= step);
            #[expect(clippy::cast_possible_truncation, reason = "TensorBoard's scalars are f32")]
            let value = Value { tag: metric.name().to_owned(), simple_value: Some(value as f32) };
            let event = Event {
                wall_time: at.checked_sub(1).map_or(0.0, |place| seconds[place].1),
                step: i64::try_from(step).unwrap_or(i64::MAX),
                file_version: None,
                summary: Some(Summary { value: vec![value] }),
            };
            record(&event.encode_to_vec(), out)?;
        }
    }
    Ok(())
}

fn record(content: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let length = (content.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked_crc(&length).to_le_bytes())?;
    out.write_all(content)?;
    out.write_all(&masked_crc(content).to_le_bytes())
}

/// CRC-32C, rotated and shifted, so that the sum of a record with sums in it is none of theirs.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a file, each with its sums checked.
    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let count = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            let (sum, rest) = rest.split_at(4);
            assert_eq!(u32::from_le_bytes(sum.try_into().unwrap()), masked_crc(length));
            let (content, rest) = rest.split_at(count);
            let (sum, rest) = rest.split_at(4);
            assert_eq!(u32::from_le_bytes(sum.try_into().unwrap()), masked_crc(content));
            found.push(Event::decode(content).unwrap());
            bytes = rest;
        }
        found
    }

    #[test]
    fn points_become_events_at_their_seconds() {
        let curves = [
            (Metric::TrainLoss, Curve::from(vec![(10, 5.0), (20, f64::NAN), (30, 0.0)])),
            (Metric::Seconds, Curve::from(vec![(10, 1.5), (20, 3.0)])),
        ];
        let mut bytes = Vec::new();
        events(curves.iter().map(|(metric, curve)| (metric, curve)), &mut bytes).unwrap();
        let events = read(&bytes);
        assert_eq!(events[0].file_version.as_deref(), Some(FILE_VERSION));
        let shown: Vec<(i64, f64)> = events[1..].iter().map(|e| (e.step, e.wall_time)).collect();
        assert_eq!(shown, [(10, 1.5), (20, 3.0), (30, 3.0)]);
        let value = |place: usize| events[place].summary.as_ref().unwrap().value[0].clone();
        assert_eq!((value(1).tag.as_str(), value(1).simple_value), ("train/loss", Some(5.0)));
        assert!(value(2).simple_value.unwrap().is_nan());
        assert_eq!(value(3).simple_value, Some(0.0), "zero is a value");
    }

    #[test]
    fn the_sum_is_that_of_the_format() {
        // CRC-32C of "123456789" is 0xe3069283 (RFC 3720), masked by hand.
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }
}
