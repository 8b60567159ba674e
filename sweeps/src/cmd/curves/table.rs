//! Curves from a table: a row for each step that is known, with its rate and, where it was measured,
//! its loss.

use std::{collections::HashMap, path::Path};

use sweep_fit::Curve;

use super::family::Family;
use crate::{
    exit::{Exit, Failure},
    source::{self, Filter, MAX_NAMED, Mapping},
};

/// What a column can mean.
const ROLES: [&str; 4] = ["step", "rate", "loss", "curve"];

/// One row.
struct Row {
    step: usize,
    rate: f64,
    loss: Option<f64>,
}

/// What a table gave.
pub(super) struct Table {
    pub(super) family: Family,
    /// Steps of all curves.
    pub(super) steps: usize,
    /// Those without a row.
    pub(super) filled: usize,
}

/// Reads the curves of a table; the rate of a step between two rows lies on the line between them,
/// and before the first it is the first one's.
///
/// # Errors
/// Exit code 2 for usage, 5 for the data.
pub(super) fn read(path: &Path, maps: &[String], filters: &[Filter]) -> Result<Table, Failure> {
    let [step, rate, loss, curve] = columns(maps)?;
    let read = Mapping::beside(&[format!("group={curve}")], vec![step, rate, loss])
        .and_then(|mapping| source::read(path, &mapping, filters))
        .map_err(|error| Failure::new(error.exit(), error))?;
    let (mut curves, mut bad) = (Vec::<(String, Vec<Row>)>::new(), Vec::new());
    let mut places: HashMap<String, usize> = HashMap::new();
    for (row, cells) in read.observations.iter().zip(&read.extras) {
        let name = row.group.clone().unwrap_or_default();
        match parse(cells) {
            Err(problem) => {
                bad.push(format!("{} {}: {problem}", read.unit, row.line.unwrap_or_default()));
            }
            Ok(row) => {
                let place = *places.entry(name.clone()).or_insert(curves.len());
                if place == curves.len() {
                    curves.push((name, Vec::new()));
                }
                curves[place].1.push(row);
            }
        }
    }
    let last = |rows: &[Row]| rows.iter().map(|row| row.step).max().unwrap_or(0);
    let steps = curves.iter().fold(0_usize, |sum, (_, rows)| sum.saturating_add(last(rows)));
    if steps as u64 > super::MAX_STEPS {
        let message = format!(
            "{}: {} curves of {steps} steps together are more than {}; hint: choose some with --where, or \
             is the column of the curve another?",
            path.display(),
            curves.len(),
            super::MAX_STEPS
        );
        return Err(Failure::message(Exit::FitRefused, message));
    }
    let rows: usize = curves.iter().map(|(_, rows)| rows.len()).sum();
    let made: Vec<Curve> = curves
        .into_iter()
        .filter_map(|(name, rows)| joined(name, rows).map_err(|problem| bad.push(problem)).ok())
        .collect();
    if bad.is_empty() {
        let filled = steps.saturating_sub(rows);
        return Ok(Table { family: Family::of_table(made), steps, filled });
    }
    let more = bad.len().saturating_sub(MAX_NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    bad.truncate(MAX_NAMED);
    let message = format!(
        "{}: {}{more}; hint: a step is a whole number from 1 to {}, a rate is not below 0, a loss is above 0 \
         or empty",
        path.display(),
        bad.join("; "),
        super::MAX_STEPS,
    );
    Err(Failure::message(Exit::FitRefused, message))
}

/// The column of each role.
fn columns(maps: &[String]) -> Result<[String; 4], Failure> {
    let mut columns = ROLES.map(str::to_owned);
    let mut given = [false; ROLES.len()];
    for map in maps {
        let role = map.split_once('=').and_then(|(name, column)| {
            Some((ROLES.iter().position(|role| *role == name)?, column))
        });
        let Some((role, column)) = role else {
            let message = format!(
                "`--map {map}` is not of the form ROLE=COLUMN; hint: roles are {}",
                ROLES.join(", ")
            );
            return Err(Failure::message(Exit::Usage, message));
        };
        if std::mem::replace(&mut given[role], true) {
            let message =
                format!("`--map {map}`: {} is mapped twice; hint: once is enough", ROLES[role]);
            return Err(Failure::message(Exit::Usage, message));
        }
        column.clone_into(&mut columns[role]);
    }
    Ok(columns)
}

fn parse(cells: &[Option<f64>]) -> Result<Row, String> {
    let &[step, rate, loss] = cells else { return Err("cells are missing".to_owned()) };
    let step = step.ok_or("step is ''")?;
    #[expect(clippy::cast_precision_loss, reason = "ten million")]
    let most = super::MAX_STEPS as f64;
    if step.fract() != 0.0 || !(1.0..=most).contains(&step) {
        return Err(format!("step is '{step}'"));
    }
    let rate = rate.ok_or("rate is ''")?;
    if rate < 0.0 {
        return Err(format!("rate is '{rate}'"));
    }
    if let Some(loss) = loss.filter(|loss| *loss <= 0.0) {
        return Err(format!("loss is '{loss}'"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 1 to ten million"
    )]
    let step = step as usize;
    Ok(Row { step, rate, loss })
}

/// The rows of a curve as one, with a rate for every step.
fn joined(name: String, mut rows: Vec<Row>) -> Result<Curve, String> {
    rows.sort_by_key(|row| row.step);
    let mut curve = Curve { name, rates: Vec::new(), losses: Vec::new() };
    for row in rows {
        let done = curve.rates.len();
        if row.step == done {
            return Err(format!("curve `{}` has step {} twice", curve.name, row.step));
        }
        let from = curve.rates.last().copied().unwrap_or(row.rate);
        #[expect(clippy::cast_precision_loss, reason = "below ten million")]
        let share = |step: usize| (step - done) as f64 / (row.step - done) as f64;
        curve.rates.extend((done + 1..=row.step).map(|s| from + share(s) * (row.rate - from)));
        curve.losses.extend(row.loss.map(|loss| (row.step, loss)));
    }
    Ok(curve)
}
