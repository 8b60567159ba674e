//! The result of a fit and its document, `sweep.fit/1`.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    bootstrap::Resampling,
    direct::Method,
    isoflop::Isoflop,
    law::Law,
    line::LogLine,
    objective::Objective,
    observation::Observation,
    statistics::{count, normal_quantile, student},
    warning::{Warning, WarningCode},
};

/// A number with its uncertainty, where that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The value at the minimum.
    pub value: f64,
    /// Standard error, from resampling.
    pub se: Option<f64>,
    /// 95 % interval, from resampling.
    pub ci95: Option<[f64; 2]>,
}

impl Estimate {
    pub(crate) const fn exact(value: f64) -> Self {
        Self { value, se: None, ci95: None }
    }
}

/// A parameter of a law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// Its name in the formula.
    pub name: &'static str,
    /// Its value.
    pub estimate: Estimate,
}

/// N* ~ C^a, D* ~ C^b.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Exponents {
    /// Of the parameters.
    pub a: Estimate,
    /// Of the tokens.
    pub b: Estimate,
}

/// The best split of a budget, C = 6 N D.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Allocation {
    /// The budget in FLOPs.
    #[serde(rename = "C")]
    pub flops: f64,
    /// Parameters.
    #[serde(rename = "N")]
    pub n: f64,
    /// Tokens.
    #[serde(rename = "D")]
    pub d: f64,
    /// Predicted loss; absent for methods that know no loss.
    pub loss: Option<f64>,
}

/// How well the held-out top was predicted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Observations held out.
    pub n: usize,
    /// Mean of |predicted/measured - 1|.
    pub mean_abs_rel_error: f64,
    /// Its largest.
    pub max_abs_rel_error: f64,
}

/// What the profile over the nonlinear parameters proved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Certificate {
    /// No lower minimum was found, and the best lies inside the grid.
    pub global: bool,
    /// Step of the grid.
    pub resolution: f64,
    /// Of the Gauss-Newton matrix with unit diagonal; absent where a parameter sits on its bound.
    pub condition_number: Option<f64>,
    /// The flattest directions, the flattest first; none where the minimum is round or on a bound.
    pub directions: Vec<Direction>,
}

/// A direction in which the objective hardly rises.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Direction {
    /// Of the Gauss-Newton matrix with unit diagonal; 1 where nothing trades against anything.
    pub eigenvalue: f64,
    /// What moves together: each parameter (`ln A` where its logarithm moves) with its share, the
    /// largest 1.
    #[serde(serialize_with = "pairs")]
    pub along: Vec<(String, f64)>,
    /// The run, no dearer than the dearest so far, after which the standard error along this
    /// direction is least.
    pub run: Option<NextRun>,
}

/// A run that would help.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NextRun {
    /// Parameters; absent for a law of D or C alone.
    #[serde(rename = "N")]
    pub n: Option<f64>,
    /// Tokens; absent for a law of N or C alone.
    #[serde(rename = "D")]
    pub d: Option<f64>,
    /// FLOPs; absent for a law of N or D alone.
    #[serde(rename = "C")]
    pub flops: Option<f64>,
    /// Standard error along the direction after it, over that before.
    pub shrinks_to: f64,
}

fn pairs<S: Serializer>(along: &[(String, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(along.iter().map(|(name, share)| (name, share)))
}

/// An observation beside its prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedPoint {
    /// What was measured.
    pub observation: Observation,
    /// What the law gives.
    pub predicted: f64,
    /// ln predicted - ln measured.
    pub log_residual: f64,
    /// Held out of the fit and predicted.
    pub held_out: bool,
}

/// A predicted loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Parameters.
    #[serde(rename = "N")]
    pub n: f64,
    /// Tokens.
    #[serde(rename = "D")]
    pub d: f64,
    /// The law's loss.
    pub loss: f64,
    /// 95 % interval of the law's loss, from the replicates.
    pub ci95: Option<[f64; 2]>,
    /// 95 % interval of the loss of a new run: the law's, with the scatter of the residuals.
    pub run95: Option<[f64; 2]>,
}

/// A fitted law, or the lines of a method.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// How it was fitted.
    pub method: Method,
    /// The law, under the direct method.
    pub law: Law,
    /// What was minimised.
    pub objective: Objective,
    /// The sum at the minimum.
    pub objective_value: f64,
    /// The parameters, in the order of the law.
    pub params: Vec<Parameter>,
    /// Exponents of the compute optimum; absent for one-variable laws.
    pub exponents: Option<Exponents>,
    /// One entry per budget asked for.
    pub optimum: Vec<Allocation>,
    /// Errors on what was held out.
    pub held_out: Option<HeldOut>,
    /// What is proved about the minimum.
    pub certificate: Option<Certificate>,
    /// Doubts.
    pub warnings: Vec<Warning>,
    /// Observations that the fit used.
    pub n_points: usize,
    /// Observations dropped as the highest.
    pub n_dropped: usize,
    /// Every observation used or held out, beside its prediction; empty for methods that
    /// predict no loss.
    pub points: Vec<FittedPoint>,
    /// Parameters of the resampled fits, in the order of `params`; empty without resampling.
    pub replicates: Vec<Vec<f64>>,
    /// What was resampled; absent without resampling.
    pub resampling: Option<Resampling>,
    /// Budgets and their parabolas, under the isoFLOP method.
    pub isoflop: Option<Isoflop>,
}

impl Fit {
    /// The law's name, or the method's where there is no law.
    #[must_use]
    pub const fn law_name(&self) -> &'static str {
        match self.method {
            Method::Direct => self.law.name(),
            Method::Isoflop => "isoflop",
            Method::Envelope => "envelope",
        }
    }

    /// The value of a parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<f64> {
        self.params.iter().find(|p| p.name == name).map(|p| p.estimate.value)
    }

    /// The parameters' values, in the order of the law.
    #[must_use]
    pub fn values(&self) -> Vec<f64> {
        self.params.iter().map(|p| p.estimate.value).collect()
    }

    /// The law's loss at (N, D), all tokens unique; `None` for one-variable laws and for methods
    /// that know no loss.
    #[must_use]
    pub fn predict(&self, n: f64, d: f64) -> Option<f64> {
        let two_variables = self.method == Method::Direct && !self.law.one_variable();
        two_variables.then(|| self.law.loss(&self.values(), &Observation::new(n, d, 1.0))).flatten()
    }

    /// The law's loss at the sizes of an observation, whatever the law takes of them.
    #[must_use]
    pub fn predict_at(&self, sizes: &Observation) -> Option<f64> {
        if self.method == Method::Direct { self.law.loss(&self.values(), sizes) } else { None }
    }

    /// The law's loss at the one variable of a one-variable law.
    #[must_use]
    pub fn predict_single(&self, x: f64) -> Option<f64> {
        let sizes = Observation { flops: Some(x), ..Observation::default() };
        if self.law.one_variable() { self.predict_at(&sizes) } else { None }
    }

    /// The best split of a budget; `None` for one-variable laws.
    #[must_use]
    pub fn optimum(&self, flops: f64) -> Option<Allocation> {
        match self.method {
            Method::Direct => {
                let values = self.values();
                let (n, d) = self.law.split(&values, flops)?;
                let loss = self.law.loss(&values, &Observation::new(n, d, 1.0))?;
                Some(Allocation { flops, n, d, loss: Some(loss) })
            }
            Method::Isoflop | Method::Envelope => {
                let exponents = self.exponents.as_ref()?;
                let line = |scale: &str, slope: f64| {
                    Some(LogLine { scale: self.param(scale)?, slope, squares: 0.0 }.at(flops))
                };
                let n = line("N_0", exponents.a.value)?;
                let d = line("D_0", exponents.b.value)?;
                Some(Allocation { flops, n, d, loss: None })
            }
        }
    }

    /// The loss forecast for a run of these sizes, with intervals where the fit was resampled.
    #[must_use]
    pub fn forecast(&self, n: f64, d: f64) -> Option<Forecast> {
        let loss = self.predict(n, d)?;
        let drawn = self.drawn(&Observation::new(n, d, 1.0));
        let Some(resampling) = self.resampling.filter(|_| drawn.len() > 1) else {
            return Some(Forecast { n, d, loss, ci95: None, run95: None });
        };
        let run95 = self.scattered(&drawn).map(|scattered| resampling.interval(scattered, loss));
        Some(Forecast { n, d, loss, ci95: Some(resampling.interval(drawn, loss)), run95 })
    }

    /// The law's loss at some sizes under each replicate.
    pub(crate) fn drawn(&self, sizes: &Observation) -> Vec<f64> {
        let losses = self.replicates.iter().filter_map(|values| self.law.loss(values, sizes));
        losses.filter(|loss| loss.is_finite() && *loss > 0.0).collect()
    }

    /// Losses of new runs: each replicate's, times the scatter of the observations.
    fn scattered(&self, drawn: &[f64]) -> Option<Vec<f64>> {
        let residuals: Vec<f64> =
            self.points.iter().filter(|p| !p.held_out).map(|p| p.log_residual).collect();
        if residuals.is_empty() {
            return None;
        }
        // Residuals are narrower than the noise by the degrees of freedom that the fit took.
        let degrees = self.n_points.saturating_sub(self.params.len()).max(1);
        let noise: Vec<f64> = if degrees < SHAPE {
            let sigma = (residuals.iter().map(|r| r * r).sum::<f64>() / count(degrees)).sqrt();
            // Too few to tell a shape: quantiles of Student's t.
            let share = |i: usize| (count(i) + 0.5) / count(QUANTILES);
            (0..QUANTILES).map(|i| sigma * student(normal_quantile(share(i)), degrees)).collect()
        } else {
            let widen = (count(self.n_points) / count(degrees)).sqrt();
            residuals.iter().map(|r| widen * r).collect()
        };
        // Replicate i meets residual i, i + 1, ...: every pair of a fixed stride, no draw needed.
        let pairs = |(i, loss): (usize, &f64)| {
            let (noise, loss) = (&noise, *loss);
            (0..PAIRS)
                .map(move |k| loss * (-noise[(i + k * STRIDE) % noise.len()]).exp())
                .collect::<Vec<f64>>()
        };
        Some(drawn.iter().enumerate().flat_map(pairs).collect())
    }

    /// Whether a warning of this kind was raised.
    #[must_use]
    pub fn warned(&self, code: WarningCode) -> bool {
        self.warnings.iter().any(|warning| warning.code == code)
    }
}

/// Residuals that each replicate meets in a forecast: enough that the interval's ends no longer
/// depend on which.
const PAIRS: usize = 8;
/// Degrees of freedom below which residuals do not tell the shape of the noise.
const SHAPE: usize = 24;
/// Quantiles that stand for its shape then; no multiple of the stride.
const QUANTILES: usize = 101;
/// A prime, so that the residuals met do not follow the order of the table.
const STRIDE: usize = 37;

/// The document of the contract.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    n_points: usize,
    n_dropped: usize,
    law: &'static str,
    objective: Goal,
    #[serde(serialize_with = "by_name")]
    params: &'a [Parameter],
    exponents: Option<Exponents>,
    optimum: &'a [Allocation],
    held_out: Option<HeldOut>,
    certificate: Option<&'a Certificate>,
    warnings: &'a [Warning],
}

#[derive(Serialize)]
struct Goal {
    name: &'static str,
    delta: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    over: Option<f64>,
    value: f64,
}

fn by_name<S: Serializer>(params: &&[Parameter], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(params.len()))?;
    for parameter in *params {
        map.serialize_entry(parameter.name, &parameter.estimate)?;
    }
    map.end()
}

impl Serialize for Fit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Document {
            schema: "sweep.fit/1",
            n_points: self.n_points,
            n_dropped: self.n_dropped,
            law: self.law_name(),
            objective: Goal {
                name: self.objective.name(),
                delta: self.objective.delta(),
                over: self.objective.over(),
                value: self.objective_value,
            },
            params: &self.params,
            exponents: self.exponents,
            optimum: &self.optimum,
            held_out: self.held_out,
            certificate: self.certificate.as_ref(),
            warnings: &self.warnings,
        }
        .serialize(serializer)
    }
}
