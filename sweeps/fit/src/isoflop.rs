//! isoFLOP parabolas (approach 2 of Hoffmann et al. 2022): for each budget the loss as a parabola
//! in ln N, its vertex the optimum; straight lines through ln N* and ln D* against ln C.
//!
//! Biased by design: a true surface is no parabola, and the vertex shifts with the width and the
//! centre of the sizes. So it serves as a cross-check, and each budget gets a verdict; a cubic,
//! whose minimum lies nearer to the truth, tells how far the parabola may be off.

use crate::{
    direct::{Method, Table},
    error::FitError,
    fit::{Estimate, Exponents, Fit, Parameter},
    law::Law,
    line::LogLine,
    objective::Objective,
    observation::{Observation, check_rows},
    statistics::{count, mean, student_975},
    warning::{Warning, WarningCode},
};

mod minimum;

use minimum::Polynomial;

/// Budgets whose neighbours lie within this share are one.
const MERGED: f64 = 0.01;
/// Fewer sizes than this in a budget are few.
const SIZES: usize = 5;
/// Cubic and parabola may put N* this far apart.
const CUBIC_SHARE: f64 = 0.10;
/// Distinct sizes from which on the interval is that of the cubic, which then has two degrees of
/// freedom for the noise.
const CUBIC_SIZES: usize = 6;
/// The optimum may lie this far from the middle of the sizes, as a share of their width.
const OFF_CENTRE: f64 = 0.25;
/// The centres may change by this factor over the budgets.
const DRIFT: f64 = 2.0;

/// What a budget is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An interior minimum, enough sizes, cubic and parabola agree.
    Sound,
    /// Fewer than 5 sizes.
    FewSizes,
    /// The least loss is at the smallest or the largest N.
    EdgeMinimum,
    /// Cubic and parabola put N* more than 10 % apart.
    CubicDisagrees,
    /// The optimum lies in the outer half of the sizes trained.
    OffCentre,
    /// No parabola that opens upwards with its vertex near the sizes: no optimum.
    NoOptimum,
}

impl Verdict {
    /// The verdict in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::FewSizes => "few sizes",
            Self::EdgeMinimum => "edge minimum",
            Self::CubicDisagrees => "cubic disagrees",
            Self::OffCentre => "off centre",
            Self::NoOptimum => "no optimum",
        }
    }
}

/// One budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Its FLOPs, the geometric mean where several C were merged.
    pub flops: f64,
    /// (N, loss), by N.
    pub points: Vec<(f64, f64)>,
    /// Mean of ln N, about which the parabola is written.
    pub centre: f64,
    /// L = p[0] + p[1] t + p[2] t^2 with t = ln N - centre; absent below three sizes.
    pub parabola: Option<[f64; 3]>,
    /// N*, D* and loss at the vertex; absent where the verdict says there is none. Of a minimum at
    /// the edge it is extrapolated: [`Budget::minimum`] is the one to use.
    pub optimum: Option<(f64, f64, f64)>,
    /// N* by the cubic; absent below 5 sizes or where it has no minimum.
    pub cubic_n: Option<f64>,
    /// 95 % interval of N*, from the cubic where there are six sizes and from the parabola below;
    /// absent where the losses leave an end open.
    pub n95: Option<[f64; 2]>,
    /// What it is worth.
    pub verdict: Verdict,
}

/// All budgets and the lines through their optima.
#[derive(Clone, Debug, PartialEq)]
pub struct Isoflop {
    /// By FLOPs.
    pub budgets: Vec<Budget>,
    /// N* = N_0 C^a.
    pub n_line: LogLine,
    /// D* = D_0 C^b.
    pub d_line: LogLine,
    /// 95 % interval of the exponent a, by Student's t over the scatter of the optima about their
    /// line; absent below three budgets.
    pub a95: Option<[f64; 2]>,
    /// Doubts.
    pub warnings: Vec<Warning>,
}

/// Finds the optimum of each budget and the lines through them.
///
/// # Errors
/// [`FitError`] for bad rows, or where fewer than two budgets have an optimum.
pub fn isoflop(observations: &[Observation]) -> Result<Isoflop, FitError> {
    check_rows(observations)?;
    let mut rows = observations
        .iter()
        .map(|row| Some((row.budget.or_else(|| row.compute())?, row.n?, row.tokens()?, row.loss)))
        .collect::<Option<Vec<Row>>>()
        .ok_or_else(|| FitError::MissingAxis {
            law: String::from("isoflop"),
            needed: "N, and D or C",
        })?;
    rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut warnings = Vec::new();
    let parts = budgets_of(&rows);
    // A part is sorted by N, so its ends say nothing of C.
    let differs = |part: &&Vec<Row>| {
        let ends = part.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), r| (l.min(r.0), h.max(r.0)));
        ends.1 > ends.0 * (1.0 + 1e-9)
    };
    let merged = parts.iter().filter(differs).count();
    if merged > 0 {
        warnings.push(Warning::new(
            WarningCode::IsoflopMergedBudgets,
            format!("{merged} budgets were merged from C that differ by less than 1 % from one to the next"),
        ));
    }
    let budgets: Vec<Budget> = parts.iter().map(|part| Budget::of(part)).collect();
    for budget in &budgets {
        warnings.extend(budget.doubts());
    }
    warnings.extend(drift(&budgets));
    let optima = || budgets.iter().filter_map(|b| b.minimum().map(|(n, d, _)| (b.flops, n, d)));
    let through = |pick: fn((f64, f64, f64)) -> f64| {
        LogLine::through(optima().map(|o| (o.0.ln(), pick(o).ln())).collect::<Vec<_>>().into_iter())
    };
    match (through(|o| o.1), through(|o| o.2)) {
        (Some(n_line), Some(d_line)) => {
            let a95 = slope_95(&n_line, optima().map(|o| o.0.ln()).collect());
            Ok(Isoflop { budgets, n_line, d_line, a95, warnings })
        }
        _ => Err(FitError::NoOptimum(format!(
            "{} of {} budgets have a minimum between their sizes, and a line needs two; hint: train sizes on both sides \
             of the optimum at two or more budgets",
            optima().count(),
            budgets.len()
        ))),
    }
}

/// The 95 % interval of a line's slope over these abscissas.
fn slope_95(line: &LogLine, x: Vec<f64>) -> Option<[f64; 2]> {
    let degrees = x.len().checked_sub(2).filter(|degrees| *degrees > 0)?;
    let centre = mean(&x);
    let spread: f64 = x.iter().map(|x| (x - centre).powi(2)).sum();
    let half = student_975(degrees) * (line.squares / count(degrees) / spread).sqrt();
    Some([line.slope - half, line.slope + half])
}

/// (C, N, D, loss).
type Row = (f64, f64, f64, f64);

/// Rows sorted by C, cut where C rises by more than 1 %.
fn budgets_of(rows: &[Row]) -> Vec<Vec<Row>> {
    let mut parts: Vec<Vec<Row>> = Vec::new();
    for &row in rows {
        match parts.last_mut() {
            Some(part) if row.0 <= part[part.len() - 1].0 * (1.0 + MERGED) => part.push(row),
            _ => parts.push(vec![row]),
        }
    }
    for part in &mut parts {
        part.sort_by(|a, b| a.1.total_cmp(&b.1));
    }
    parts
}

impl Budget {
    /// N*, D* and loss, where the runs lie on both sides of the least loss: a vertex that they lie on
    /// one side of is extrapolated.
    #[must_use]
    pub fn minimum(&self) -> Option<(f64, f64, f64)> {
        self.optimum.filter(|_| self.verdict != Verdict::EdgeMinimum)
    }

    /// 95 % interval of N*, where there is a minimum and the losses close it on both sides.
    #[must_use]
    pub fn interval(&self) -> Option<[f64; 2]> {
        self.minimum().and(self.n95)
    }

    fn of(rows: &[Row]) -> Self {
        let flops = mean(&rows.iter().map(|r| r.0.ln()).collect::<Vec<_>>()).exp();
        let logs: Vec<f64> = rows.iter().map(|r| r.1.ln()).collect();
        let losses: Vec<f64> = rows.iter().map(|r| r.3).collect();
        let centre = mean(&logs);
        let (low, high) = (logs[0] - centre, logs[logs.len() - 1] - centre);
        let t: Vec<f64> = logs.iter().map(|x| x - centre).collect();
        let sizes = distinct(&logs);
        let parabolic = if sizes >= 3 { Polynomial::<3>::through(&t, &losses) } else { None };
        let parabola = parabolic.as_ref().map(|p| p.coefficients);
        // A vertex beyond half the width outside the sizes is no optimum but an extrapolation.
        let margin = 0.5 * (high - low);
        let vertex = parabola
            .filter(|p| p[2] > 0.0)
            .map(|p| -p[1] / (2.0 * p[2]))
            .filter(|v| *v > low - margin && *v < high + margin);
        let line = LogLine::through(rows.iter().map(|r| (r.1.ln(), r.2.ln())));
        let optimum = vertex.zip(parabola).map(|(v, p)| {
            let n = (v + centre).exp();
            let d = line.map_or(flops / 6.0 / n, |line| line.at(n));
            (n, d, p[0] + v * (p[1] + v * p[2]))
        });
        let cubic = if sizes >= SIZES { Polynomial::<4>::through(&t, &losses) } else { None };
        let lowest = cubic.as_ref().and_then(|c| lowest(&c.coefficients, low, high));
        let reach = [low - margin, high + margin];
        let ends = match (&cubic, lowest) {
            (Some(cubic), Some(at)) if sizes >= CUBIC_SIZES => cubic.interval(at, reach),
            _ => vertex.zip(parabolic.as_ref()).and_then(|(v, p)| p.interval(v, reach)),
        };
        let mut budget = Self {
            flops,
            points: rows.iter().map(|r| (r.1, r.3)).collect(),
            centre,
            parabola,
            optimum,
            cubic_n: lowest.map(|v| (v + centre).exp()),
            n95: ends.map(|ends| ends.map(|t| (t + centre).exp())),
            verdict: Verdict::Sound,
        };
        let middle = f64::midpoint(low, high);
        let off = vertex.is_some_and(|v| (v - middle).abs() > OFF_CENTRE * (high - low));
        budget.verdict = budget.judge(sizes, off);
        budget
    }

    fn judge(&self, sizes: usize, off_centre: bool) -> Verdict {
        let Some((n, _, _)) = self.optimum else { return Verdict::NoOptimum };
        if self.edge() {
            return Verdict::EdgeMinimum;
        }
        if sizes < SIZES {
            return Verdict::FewSizes;
        }
        let apart = self.cubic_n.map_or(0.0, |cubic| (cubic / n).ln().abs());
        match apart > CUBIC_SHARE.ln_1p() {
            true => Verdict::CubicDisagrees,
            false if off_centre => Verdict::OffCentre,
            false => Verdict::Sound,
        }
    }

    /// Whether the least loss is at the smallest or the largest N.
    fn edge(&self) -> bool {
        let least = self.points.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let ends = (self.points.first(), self.points.last());
        match (least, ends) {
            (Some(least), (Some(first), Some(last))) => least.0 == first.0 || least.0 == last.0,
            _ => true,
        }
    }

    fn doubts(&self) -> Vec<Warning> {
        let mut found = Vec::new();
        let mut warn = |code, text: String| {
            found.push(Warning::new(code, format!("budget {:.3e}: {text}", self.flops)));
        };
        let logs: Vec<f64> = self.points.iter().map(|p| p.0.ln()).collect();
        let sizes = distinct(&logs);
        if self.optimum.is_none() {
            let text = "no optimum: the parabola opens down or its vertex lies beyond the sizes; it is \
                        left out of the lines";
            warn(WarningCode::IsoflopEdgeMinimum, String::from(text));
        } else if self.edge() {
            let text = "the least loss is at the smallest or largest N, so it is left out of the lines; hint: \
                 train sizes beyond it";
            warn(WarningCode::IsoflopEdgeMinimum, String::from(text));
        }
        if sizes < SIZES {
            warn(
                WarningCode::IsoflopFewSizes,
                format!("{sizes} sizes; hint: train at least {SIZES}"),
            );
        }
        if let (Some((n, _, _)), Some(cubic)) = (self.optimum, self.cubic_n)
            && (cubic / n).ln().abs() > CUBIC_SHARE.ln_1p()
        {
            let text = format!("N* is {n:.4e} by the parabola and {cubic:.4e} by the cubic");
            warn(WarningCode::IsoflopCubicDisagrees, text);
        }
        found
    }
}

fn drift(budgets: &[Budget]) -> Option<Warning> {
    let off = |budget: &Budget| Some((budget.centre - budget.optimum?.0.ln(), budget.flops));
    let first = budgets.iter().find_map(off)?;
    let last = budgets.iter().rev().find_map(off)?;
    let factor = (last.0 - first.0).exp();
    (factor.ln().abs() > DRIFT.ln()).then(|| {
        Warning::new(
            WarningCode::IsoflopDriftingCentres,
            format!(
                "the mean size over the fitted optimum changes by a factor of {factor:.2} from \
                 {:.3e} to {:.3e} FLOPs, which bends the exponent",
                first.1, last.1
            ),
        )
    })
}

/// Distinct values of sorted logarithms, up to rounding.
fn distinct(sorted: &[f64]) -> usize {
    let steps = sorted.windows(2).filter(|pair| pair[1] - pair[0] > 1e-9).count();
    steps + usize::from(!sorted.is_empty())
}

/// The local minimum of a cubic within an interval, or a tenth of its width outside.
fn lowest(c: &[f64; 4], low: f64, high: f64) -> Option<f64> {
    let margin = 0.1 * (high - low);
    let root = c[2] * c[2] - 3.0 * c[1] * c[3];
    if root < 0.0 {
        return None;
    }
    // Of the two stationary points the minimum is where the second derivative is positive; this
    // form of the root loses no digits where c[3] is small.
    let at = -c[1] / (c[2] + root.sqrt());
    (at.is_finite() && at > low - margin && at < high + margin).then_some(at)
}

/// The isoFLOP method as a fit.
pub(crate) fn fit(table: &Table<'_>) -> Result<Fit, FitError> {
    let found = isoflop(&table.fitted)?;
    let mut fit = from_lines(Method::Isoflop, &found.n_line, &found.d_line, table);
    fit.warnings.clone_from(&found.warnings);
    fit.isoflop = Some(found);
    Ok(fit)
}

/// A fit of two lines, N* = N_0 C^a and D* = D_0 C^b; the objective is that of the first.
pub(crate) fn from_lines(method: Method, n: &LogLine, d: &LogLine, table: &Table<'_>) -> Fit {
    Fit {
        method,
        law: Law::default(),
        objective: Objective::MseLog,
        objective_value: n.squares,
        params: vec![
            Parameter { name: "N_0", estimate: Estimate::exact(n.scale) },
            Parameter { name: "D_0", estimate: Estimate::exact(d.scale) },
        ],
        exponents: Some(Exponents { a: Estimate::exact(n.slope), b: Estimate::exact(d.slope) }),
        optimum: Vec::new(),
        held_out: None,
        certificate: None,
        warnings: Vec::new(),
        n_points: table.fitted.len(),
        n_dropped: table.dropped,
        points: Vec::new(),
        replicates: Vec::new(),
        resampling: None,
        isoflop: None,
    }
}

#[cfg(test)]
mod tests;
