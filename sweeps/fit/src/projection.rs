//! Variable projection (Golub and Pereyra 1973): at fixed exponents the separable laws are linear
//! in (E, A, B), so only the exponents are searched, on a grid.
//!
//! The linear part is non-negative least squares, robust by iterative reweighting. For log losses
//! the weight is psi(r) / (m (m - L)): it makes the weighted normal equations equal to the
//! stationarity of the log objective. On the grid r is taken as 2 (m - L)/(m + L), which is off by
//! r^3/12; the descents from its local minima use the exact logarithm.

use rayon::prelude::*;

use crate::{
    formula::{Point, log_or_none},
    linear::solve_positive,
    objective::Rho,
};

/// Nodes along each exponent.
pub(crate) const SIDE: usize = 32;
/// Least exponent of the grid.
pub(crate) const LOW: f64 = 0.02;
/// Largest exponent of the grid.
pub(crate) const HIGH: f64 = 1.2;
/// Nodes along the one exponent of a Gadre or power-floor law.
const LINE: u32 = 200;
/// Exponents searched for the Gadre form.
pub(crate) const GADRE: [f64; 2] = [0.01, 2.0];
/// Exponents searched for the power law with a floor: a column of optima may be flat.
pub(crate) const POWER_FLOOR: [f64; 2] = [0.002, 3.0];
/// Local minima that are descended from; four tables of published fits have one each.
const MINIMA: usize = 12;
/// Points up to which the columns of one exponent are all kept: 5 MiB of them.
const KEPT_COLUMNS: usize = 20_000;
/// Rounds of reweighting at a node, warm from its neighbour: enough to tell valleys apart.
const ROUNDS: usize = 5;

/// The step of the grid.
pub(crate) fn resolution() -> f64 {
    exponent(1) - exponent(0)
}

/// The step of a line at an exponent, over a range spaced evenly in the logarithm.
pub(crate) fn line_step(exponent: f64, range: [f64; 2]) -> f64 {
    exponent * ((range[1] / range[0]).ln() / f64::from(LINE - 1)).exp_m1()
}

/// The exponent of a node.
#[expect(clippy::cast_precision_loss, reason = "below 32")]
pub(crate) fn exponent(node: usize) -> f64 {
    LOW + (HIGH - LOW) * node as f64 / (SIDE - 1) as f64
}

/// The best non-negative (E, A, B) at one pair of exponents, and its cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) cost: f64,
    pub(crate) coefficients: [f64; 3],
}

/// Residual measure of a grid.
#[derive(Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) rho: Rho,
    pub(crate) log: bool,
}

/// What a projection fits.
pub(crate) struct Targets {
    pub(crate) loss: Vec<f64>,
    pub(crate) weight: Vec<f64>,
}

impl Targets {
    /// The losses of some points.
    pub(crate) fn of(points: &[Point]) -> Self {
        Self::new(points, |p| p.loss)
    }

    /// Another function of the points, under their weights.
    pub(crate) fn new(points: &[Point], loss: impl Fn(&Point) -> f64) -> Self {
        Self {
            loss: points.iter().map(loss).collect(),
            weight: points.iter().map(|p| p.weight).collect(),
        }
    }

    fn each(&self) -> impl Iterator<Item = (f64, f64)> {
        self.loss.iter().copied().zip(self.weight.iter().copied())
    }
}

/// Fits `targets` = E + A `left` + B `right` with non-negative coefficients.
pub(crate) fn project(
    left: &[f64],
    right: &[f64],
    targets: &Targets,
    measure: Measure,
    warm: Option<[f64; 3]>,
    rounds: usize,
) -> Node {
    let mut coefficients = warm.unwrap_or([f64::NAN; 3]);
    let start = usize::from(warm.is_some());
    for round in 0..rounds {
        let mut sums = Sums::default();
        for ((&a, &b), (l, own)) in left.iter().zip(right).zip(targets.each()) {
            let weight = if round + start == 0 {
                if measure.log { (l * l).recip() } else { 1.0 }
            } else {
                let m = coefficients[0] + coefficients[1] * a + coefficients[2] * b;
                if measure.log {
                    let r = 2.0 * (m - l) / (m + l);
                    // psi(r)/(m (m - L)) with psi(r) = w r: the difference m - L cancels.
                    measure.rho.weight(r) * 2.0 / (m * (m + l))
                } else {
                    measure.rho.weight(m - l)
                }
            };
            sums.add(own * weight, a, b, l);
        }
        coefficients = sums.solve();
    }
    let mut cost = 0.0;
    for ((&a, &b), (l, own)) in left.iter().zip(right).zip(targets.each()) {
        let m = coefficients[0] + coefficients[1] * a + coefficients[2] * b;
        cost += own * measure.rho.cost(if measure.log { 2.0 * (m - l) / (m + l) } else { m - l });
    }
    Node { cost, coefficients }
}

/// Weighted normal equations of three columns, the first constant.
#[derive(Default)]
struct Sums {
    w: f64,
    a: f64,
    b: f64,
    aa: f64,
    ab: f64,
    bb: f64,
    l: f64,
    al: f64,
    bl: f64,
}

impl Sums {
    fn add(&mut self, w: f64, a: f64, b: f64, l: f64) {
        let (wa, wb) = (w * a, w * b);
        self.w += w;
        self.a += wa;
        self.b += wb;
        self.aa += wa * a;
        self.ab += wa * b;
        self.bb += wb * b;
        self.l += w * l;
        self.al += wa * l;
        self.bl += wb * l;
    }

    /// The non-negative solution: the free one, or the best over the faces of the octant.
    fn solve(&self) -> [f64; 3] {
        let matrix =
            [[self.w, self.a, self.b], [self.a, self.aa, self.ab], [self.b, self.ab, self.bb]];
        let right = [self.l, self.al, self.bl];
        let mut best = ([0.0; 3], f64::INFINITY);
        // From all three columns down to one, as bit masks.
        for mask in [7_u8, 6, 5, 3, 4, 2, 1] {
            let Some(x) = masked(&matrix, &right, mask) else { continue };
            if x.iter().any(|&v| v < 0.0) {
                continue;
            }
            // Half the gain of the quadratic at its constrained minimum, negated.
            let value = -(0..3).map(|i| x[i] * right[i]).sum::<f64>();
            if value < best.1 {
                best = (x, value);
            }
            if mask == 7 {
                break;
            }
        }
        best.0
    }
}

fn masked(matrix: &[[f64; 3]; 3], right: &[f64; 3], mask: u8) -> Option<[f64; 3]> {
    let on = |i: usize| mask >> i & 1 == 1;
    let mut m = [[0.0; 3]; 3];
    let mut r = [0.0; 3];
    for i in 0..3 {
        for j in 0..3 {
            m[i][j] = match (on(i) && on(j), i == j) {
                (true, _) => matrix[i][j],
                (false, true) => 1.0,
                (false, false) => 0.0,
            };
        }
        r[i] = if on(i) { right[i] } else { 0.0 };
    }
    solve_positive(&m, &r)
}

/// A valley of the grid: exponents and coefficients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Valley {
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    pub(crate) cost: f64,
    pub(crate) coefficients: [f64; 3],
}

impl Valley {
    /// (ln E, ln A, ln B), with a coefficient on its bound put a little inside.
    pub(crate) fn logs(&self, least: f64) -> [f64; 3] {
        self.coefficients.map(|c| log_or_none(c.max(1e-4 * least)))
    }
}

/// The local minima over a grid of both exponents, the lowest first.
pub(crate) fn valleys(points: &[Point], measure: Measure) -> Vec<Valley> {
    let targets = Targets::of(points);
    let power = |node: usize, pick: fn(&Point) -> f64| -> Vec<f64> {
        points.iter().map(|p| (-exponent(node) * pick(p)).exp()).collect()
    };
    // One side is kept where it is small, the other made row by row.
    let right: Vec<Vec<f64>> = if points.len() <= KEPT_COLUMNS {
        (0..SIDE).map(|node| power(node, |p| p.y)).collect()
    } else {
        Vec::new()
    };
    let rows: Vec<Vec<Node>> = (0..SIDE)
        .into_par_iter()
        .map(|node| {
            let a = &power(node, |p| p.x);
            let mut warm = None;
            (0..SIDE)
                .map(|other| {
                    let made;
                    let b = match right.get(other) {
                        Some(kept) => kept,
                        None => {
                            made = power(other, |p| p.y);
                            &made
                        }
                    };
                    let rounds = if warm.is_some() { ROUNDS } else { 2 * ROUNDS };
                    let node = project(a, b, &targets, measure, warm, rounds);
                    warm = Some(node.coefficients);
                    node
                })
                .collect()
        })
        .collect();
    let mut found = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        for (j, node) in row.iter().enumerate() {
            let neighbours = (i.saturating_sub(1)..=(i + 1).min(SIDE - 1))
                .flat_map(|k| (j.saturating_sub(1)..=(j + 1).min(SIDE - 1)).map(move |l| (k, l)));
            if neighbours.clone().all(|(k, l)| rows[k][l].cost >= node.cost) {
                found.push(Valley {
                    alpha: exponent(i),
                    beta: exponent(j),
                    cost: node.cost,
                    coefficients: node.coefficients,
                });
            }
        }
    }
    found.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    found.truncate(MINIMA);
    found
}

/// The local minima along one exponent that both columns share (or, without the second column,
/// that the one column has), over `nodes` exponents spaced evenly in the logarithm.
pub(crate) fn line_valleys(
    points: &[Point],
    measure: Measure,
    two_columns: bool,
    range: [f64; 2],
) -> Vec<Valley> {
    let targets = Targets::of(points);
    let nodes: Vec<Valley> = (0..LINE)
        .into_par_iter()
        .map(|node| {
            let share = f64::from(node) / f64::from(LINE - 1);
            let alpha = range[0] * (range[1] / range[0]).powf(share);
            let column = |pick: fn(&Point) -> f64| -> Vec<f64> {
                points.iter().map(|p| (-alpha * pick(p)).exp()).collect()
            };
            let right = if two_columns { column(|p| p.y) } else { vec![0.0; points.len()] };
            let node = project(&column(|p| p.x), &right, &targets, measure, None, 4 * ROUNDS);
            Valley { alpha, beta: alpha, cost: node.cost, coefficients: node.coefficients }
        })
        .collect();
    let mut found: Vec<Valley> = (0..nodes.len())
        .filter(|&i| {
            let low = i.saturating_sub(1);
            nodes[low..(i + 2).min(nodes.len())].iter().all(|n| n.cost >= nodes[i].cost)
        })
        .map(|i| nodes[i])
        .collect();
    found.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    found.truncate(MINIMA);
    found
}

/// The measure that a grid uses for an objective.
pub(crate) fn measure(objective: crate::objective::Objective) -> Measure {
    let problem = crate::solver::Problem::new(&[], objective);
    Measure { rho: problem.rho, log: problem.log }
}
