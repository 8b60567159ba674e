//! The lower envelope of loss curves (approach 1 of Hoffmann et al. 2022): at each of many values
//! of C the curve of least loss gives N*; lines through ln N* and ln D* against ln C.
//!
//! Where the least loss belongs to the smallest or the largest N the envelope ends for want of
//! sizes, not because of an optimum: these values of C are left out.

use std::collections::BTreeMap;

use crate::{
    direct::{Method, Table},
    error::FitError,
    fit::Fit,
    isoflop::from_lines,
    line::LogLine,
    observation::{Observation, check_rows},
    statistics::count,
};

/// Values of C, spaced evenly in the logarithm.
const STEPS: usize = 1500;

/// One run: its size and (ln C, loss) by compute.
struct Curve {
    n: f64,
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// The loss at ln C, linear between checkpoints; `None` outside them.
    fn at(&self, log_c: f64) -> Option<f64> {
        let after = self.points.partition_point(|p| p.0 < log_c);
        let (right, left) = (self.points.get(after)?, after.checked_sub(1));
        match left.map(|i| self.points[i]) {
            None => (right.0 == log_c).then_some(right.1),
            Some(left) => {
                let share = (log_c - left.0) / (right.0 - left.0);
                Some(left.1 + share * (right.1 - left.1))
            }
        }
    }
}

/// A stretch of compute over which one size has the least loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnvelopeStep {
    /// The size.
    pub n: f64,
    /// Least and largest compute of the stretch, in FLOPs.
    pub flops: [f64; 2],
    /// The sizes trained next below and above it. The optimum lies between them, since along a
    /// budget the loss falls to it and rises from it: the sizes tell no more.
    pub between: [f64; 2],
}

/// The lower envelope of some curves.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Stretches by compute, without those of the smallest and the largest size.
    pub steps: Vec<EnvelopeStep>,
    /// N* = N_0 C^a.
    pub n_line: LogLine,
    /// D* = D_0 C^b.
    pub d_line: LogLine,
    /// The lines through the next smaller and the next larger sizes: least and largest N* that the
    /// curves allow.
    pub band: [LogLine; 2],
}

/// Finds the lower envelope of the curves that `group` tells apart.
///
/// # Errors
/// [`FitError`] for bad rows, for rows without a size or a curve, for a curve of two sizes, and
/// where no size between the smallest and the largest is ever the best.
pub fn envelope(observations: &[Observation]) -> Result<Envelope, FitError> {
    check_rows(observations)?;
    let curves = curves(observations)?;
    let ends = |pick: fn(f64, f64) -> f64, start: f64| {
        curves.iter().flat_map(|c| &c.points).map(|p| p.0).fold(start, pick)
    };
    let (low, high) = (ends(f64::min, f64::INFINITY), ends(f64::max, f64::NEG_INFINITY));
    let mut sizes: Vec<f64> = curves.iter().map(|c| c.n).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let mut steps: Vec<EnvelopeStep> = Vec::new();
    let mut optima = Vec::new();
    for step in 0..STEPS {
        let log_c = low + (high - low) * count(step) / count(STEPS - 1);
        let best = curves
            .iter()
            .filter_map(|curve| Some((curve.n, curve.at(log_c)?)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((n, _)) = best else { continue };
        let place = sizes.partition_point(|size| *size < n);
        let neighbours = place.checked_sub(1).map(|i| sizes[i]).zip(sizes.get(place + 1).copied());
        let Some((below, above)) = neighbours else { continue };
        optima.push((log_c, n, [below, above]));
        match steps.last_mut() {
            Some(last) if last.n == n => last.flops[1] = log_c.exp(),
            _ => steps.push(EnvelopeStep { n, flops: [log_c.exp(); 2], between: [below, above] }),
        }
    }
    let line = |of: fn(&(f64, f64, [f64; 2])) -> f64| {
        LogLine::through(optima.iter().map(|o| (o.0, of(o))))
    };
    let tokens = |o: &(f64, f64, [f64; 2])| o.0 - 6.0_f64.ln() - o.1.ln();
    match (line(|o| o.1.ln()), line(tokens), line(|o| o.2[0].ln()), line(|o| o.2[1].ln())) {
        (Some(n_line), Some(d_line), Some(below), Some(above)) => {
            Ok(Envelope { steps, n_line, d_line, band: [below, above] })
        }
        _ => Err(FitError::NoOptimum(format!(
            "the envelope of {} curves has no stretch with N between the smallest and the largest; \
             hint: it needs curves of three or more sizes that cross",
            curves.len()
        ))),
    }
}

/// The envelope method as a fit.
pub(crate) fn fit(table: &Table<'_>) -> Result<Fit, FitError> {
    let found = envelope(&table.fitted)?;
    Ok(from_lines(Method::Envelope, &found.n_line, &found.d_line, table))
}

fn curves(rows: &[Observation]) -> Result<Vec<Curve>, FitError> {
    let mut curves: BTreeMap<&str, Curve> = BTreeMap::new();
    for row in rows {
        let (Some(group), Some(n), Some(c)) = (row.group.as_deref(), row.n, row.compute()) else {
            return Err(FitError::MissingAxis {
                law: String::from("envelope"),
                needed: "N, D or C, and the curve of each observation (group=COLUMN)",
            });
        };
        let curve = curves.entry(group).or_insert_with(|| Curve { n, points: Vec::new() });
        if (curve.n / n - 1.0).abs() > 1e-9 {
            return Err(FitError::NoOptimum(format!(
                "the curve `{group}` has N of {} and of {n}; hint: a group is one run of one size",
                curve.n
            )));
        }
        curve.points.push((c.ln(), row.loss));
    }
    let mut curves: Vec<Curve> = curves.into_values().collect();
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        curve.points.dedup_by(|a, b| a.0 == b.0);
    }
    Ok(curves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Law, Options, fit};

    /// Noise-free curves of 30 sizes; the grid of sizes leaves steps of 8 % in the exponent's line.
    #[test]
    fn the_envelope_has_the_exponents_of_the_surface() {
        let law = [1.69, 406.4, 410.7, 0.34, 0.28];
        let mut rows = Vec::new();
        for size in 0..30 {
            for step in 0..60 {
                let n = 1e7 * 10.0_f64.powf(f64::from(size) / 10.0);
                let mut row = Observation::new(n, 1e8 * 10.0_f64.powf(f64::from(step) / 15.0), 1.0);
                row.loss = Law::Separable.loss(&law, &row).unwrap();
                row.group = Some(format!("run {size}"));
                rows.push(row);
            }
        }
        let options = Options { method: Method::Envelope, ..Options::default() };
        let a = fit(&rows, &options).unwrap().exponents.unwrap().a.value;
        assert!((a - 0.28 / 0.62).abs() < 0.01, "{a}");
        let found = envelope(&rows).unwrap();
        assert!(found.steps.windows(2).all(|pair| pair[0].flops[1] < pair[1].flops[0]));
        for step in &found.steps {
            let (best, _) = Law::Separable.split(&law, step.flops[0]).unwrap();
            assert!(step.between[0] < best && best < step.between[1], "{step:?}");
        }
        let at = found.steps[found.steps.len() / 2].flops[0];
        assert!(
            found.band[0].at(at) < found.n_line.at(at)
                && found.n_line.at(at) < found.band[1].at(at)
        );
        rows[0].group = None;
        assert!(fit(&rows, &options).unwrap_err().to_string().contains("group=COLUMN"));
    }
}
