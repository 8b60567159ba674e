//! What `sweep fit` tells beside the fit itself: forecasts, allocations, the ranking of laws, other
//! choices and methods, the checklist. Each part is made only where it is asked for; the numbers
//! come from `sweep-fit`.

pub(crate) mod checklist;
pub(crate) mod register;
pub(crate) mod target;

use serde::Serialize;
use sweep_fit::{
    Comparison, CostLaw, Ensemble, Estimate, Fit, FitError, Law, Method, Observation, Options,
    Sensitivity, Split, Surface,
};

use self::{checklist::Item, target::At};
use crate::{
    exit::{Exit, Failure},
    results::SweepResults,
};

/// Which parts are wanted.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Wanted {
    /// Forecast the loss at these sizes, as `N=1e9,D=2e10`; repeats
    #[arg(long = "at", value_name = "N=..,D=..")]
    pub(crate) at: Vec<At>,
    /// With --budget: also split each budget at this many tokens per parameter; repeats
    #[arg(long = "tokens-per-parameter", value_name = "RATIO", value_parser = positive, requires = "budgets")]
    pub(crate) ratios: Vec<f64>,
    /// Print the optimum of this many measured GPU-seconds, by a cost law fitted to the runs'
    /// seconds (--map seconds=COLUMN for a table); repeats
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub(crate) gpu_seconds: Vec<f64>,
    /// Rank the laws by their error on the largest compute, held out (a fifth, or
    /// --hold-out-top), with a forecast averaged by it
    #[arg(long)]
    pub(crate) rank: bool,
    /// The constants without outliers and under the other objectives
    #[arg(long)]
    pub(crate) sensitivity: bool,
    /// The methods side by side, and where they disagree
    #[arg(long)]
    pub(crate) compare: bool,
    /// What a report of this fit must state, filled in from the data
    #[arg(long)]
    pub(crate) checklist: bool,
}

/// A number above 0, as people write it.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let number = sweep_spec::units::parse_number(text).map_err(|error| error.to_string())?;
    if number > 0.0 { Ok(number) } else { Err("give a number above 0; hint: 1e21".to_owned()) }
}

/// The observations and what is known beside them.
pub(crate) struct Basis<'a> {
    /// Observations.
    pub(crate) observations: &'a [Observation],
    /// GPU-seconds of each, in their order; empty where they were not measured.
    pub(crate) seconds: &'a [f64],
    /// Where they came from, in words.
    pub(crate) origin: &'a str,
    /// The sweep, where they came from one.
    pub(crate) sweep: Option<&'a SweepResults>,
    /// The fit without the observations of highest compute, where one was made already.
    pub(crate) rehearsal: Option<&'a Fit>,
}

/// The parts that were made.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Analysis {
    /// Splits of budgets with their intervals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) allocations: Vec<Allocated>,
    /// The law of measured seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost_law: Option<CostTold>,
    /// Forecasts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) forecasts: Vec<Forecasted>,
    /// The ranking of laws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ranking: Option<Ranking>,
    /// Other choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sensitivity: Option<SensitivityTold>,
    /// Other methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comparison: Option<ComparisonTold>,
    /// The checklist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checklist: Option<Vec<Item>>,
}

/// A split of a budget.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Allocated {
    /// `C` or `GPU-seconds`.
    pub(crate) surface: &'static str,
    /// `optimum`, or the tokens per parameter that were given.
    pub(crate) at: String,
    pub(crate) budget: f64,
    #[serde(rename = "N")]
    pub(crate) n: Estimate,
    #[serde(rename = "D")]
    pub(crate) d: Estimate,
    pub(crate) loss: Estimate,
    /// Sizes whose loss is within 1 % of the best.
    pub(crate) within_1_percent: Option<[f64; 2]>,
}

/// The law of seconds as it is told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CostTold {
    pub(crate) scale: f64,
    pub(crate) p: f64,
    pub(crate) q: f64,
    pub(crate) scatter: f64,
    pub(crate) runs: usize,
}

/// A forecast with its distance from the data.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Forecasted {
    #[serde(rename = "N")]
    pub(crate) n: f64,
    #[serde(rename = "D")]
    pub(crate) d: f64,
    pub(crate) loss: f64,
    pub(crate) ci95: Option<[f64; 2]>,
    pub(crate) run95: Option<[f64; 2]>,
    /// The law's loss with 95 % confidence at all sizes asked for together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) band95: Option<[f64; 2]>,
    /// 6 N D over the largest compute that was fitted.
    pub(crate) times_largest: f64,
    /// The average over laws, where they were ranked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) averaged: Option<AveragedTold>,
}

/// A forecast of the average.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AveragedTold {
    pub(crate) loss: f64,
    pub(crate) range: [f64; 2],
    pub(crate) ci95: [f64; 2],
}

/// The ranking as it is told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ranking {
    /// Share of the observations of highest compute that was held out.
    pub(crate) held_out_share: f64,
    /// Largest compute held out over the largest fitted.
    pub(crate) extrapolation: f64,
    pub(crate) laws: Vec<RankedLaw>,
}

/// A law in the ranking.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RankedLaw {
    pub(crate) law: Law,
    pub(crate) parameters: usize,
    pub(crate) held_out: Option<sweep_fit::HeldOut>,
    /// Its share in the averaged forecast.
    pub(crate) weight: Option<f64>,
    pub(crate) refused: Option<String>,
}

/// Other choices as they are told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SensitivityTold {
    /// Log residuals beyond this stand out.
    pub(crate) threshold: f64,
    pub(crate) outliers: Vec<String>,
    pub(crate) variants: Vec<VariantTold>,
}

/// One choice.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VariantTold {
    pub(crate) name: String,
    pub(crate) n_points: Option<usize>,
    pub(crate) params: Vec<(&'static str, f64)>,
    pub(crate) a: Option<f64>,
    pub(crate) optimum: Vec<sweep_fit::Allocation>,
    pub(crate) refused: Option<String>,
}

/// Methods as they are told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ComparisonTold {
    pub(crate) methods: Vec<MethodTold>,
    pub(crate) disagreements: Vec<DisagreementTold>,
}

/// One method.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MethodTold {
    pub(crate) method: &'static str,
    pub(crate) a: Option<f64>,
    pub(crate) b: Option<f64>,
    pub(crate) optimum: Vec<sweep_fit::Allocation>,
    pub(crate) warnings: Vec<sweep_fit::Warning>,
    pub(crate) refused: Option<String>,
}

/// Where two methods disagree.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DisagreementTold {
    #[serde(rename = "C")]
    pub(crate) flops: f64,
    pub(crate) methods: [&'static str; 2],
    #[serde(rename = "N")]
    pub(crate) n: [f64; 2],
}

/// A refused fit with its exit code.
pub(crate) fn refused(error: FitError) -> Failure {
    let exit = if error.is_usage() { Exit::Usage } else { Exit::FitRefused };
    Failure::new(exit, error)
}

impl Wanted {
    /// Makes the parts that are wanted.
    ///
    /// # Errors
    /// Exit code 2 for parts that the law or the method cannot give, 5 for the data.
    pub(crate) fn analyse(
        &self,
        basis: &Basis<'_>,
        fit: &Fit,
        options: &Options,
    ) -> Result<Analysis, Failure> {
        let ensemble = if self.rank {
            Some(sweep_fit::ensemble(basis.observations, options).map_err(refused)?)
        } else {
            None
        };
        let cost = self.cost(basis)?;
        Ok(Analysis {
            allocations: self.allocations(fit, options, cost)?,
            cost_law: cost.map(|cost| CostTold {
                scale: cost.scale,
                p: cost.p,
                q: cost.q,
                scatter: cost.scatter,
                runs: cost.runs,
            }),
            forecasts: self.forecasts(fit, ensemble.as_ref())?,
            ranking: ensemble.as_ref().map(ranking),
            sensitivity: if self.sensitivity {
                let found = sweep_fit::sensitivity(basis.observations, options).map_err(refused)?;
                Some(sensitivity(&found, options))
            } else {
                None
            },
            comparison: if self.compare {
                Some(comparison(&sweep_fit::compare(basis.observations, options).map_err(refused)?))
            } else {
                None
            },
            checklist: self.checklist.then(|| checklist::fill(basis, fit, options)),
        })
    }

    fn cost(&self, basis: &Basis<'_>) -> Result<Option<CostLaw>, Failure> {
        if self.gpu_seconds.is_empty() {
            return Ok(None);
        }
        cost_law(basis).map(Some)
    }

    fn allocations(
        &self,
        fit: &Fit,
        options: &Options,
        cost: Option<CostLaw>,
    ) -> Result<Vec<Allocated>, Failure> {
        let none = |what: &str| {
            let law = fit.law_name();
            let message =
                format!("{what}: `{law}` gives no loss in N and D there; hint: --law separable");
            Failure::message(Exit::Usage, message)
        };
        let mut found = Vec::new();
        let with_intervals = options.bootstrap > 0 || !self.ratios.is_empty();
        for &budget in
            options.budgets.iter().filter(|_| fit.method == Method::Direct && with_intervals)
        {
            let split = fit.best_split(&Surface::Flops, budget).ok_or_else(|| none("--budget"))?;
            found.push(Allocated::of("C", "optimum".to_owned(), split));
        }
        for &budget in &options.budgets {
            for &ratio in &self.ratios {
                let split = fit
                    .split_at_ratio(budget, ratio)
                    .ok_or_else(|| none("--tokens-per-parameter"))?;
                found.push(Allocated::of("C", format!("D/N = {ratio}"), split));
            }
        }
        if let Some(cost) = cost {
            for &seconds in &self.gpu_seconds {
                let split = fit
                    .best_split(&Surface::Seconds(cost), seconds)
                    .ok_or_else(|| none("--gpu-seconds"))?;
                found.push(Allocated::of("GPU-seconds", "optimum".to_owned(), split));
            }
        }
        Ok(found)
    }

    fn forecasts(
        &self,
        fit: &Fit,
        ensemble: Option<&Ensemble>,
    ) -> Result<Vec<Forecasted>, Failure> {
        let largest = largest(fit);
        let sizes: Vec<Observation> =
            self.at.iter().map(|at| Observation::new(at.n, at.d, 1.0)).collect();
        // One size has its own interval.
        let band = if sizes.len() > 1 { fit.band(&sizes) } else { None };
        self.at
            .iter()
            .enumerate()
            .map(|(place, at)| {
                let forecast = fit.forecast(at.n, at.d).ok_or_else(|| {
                    let law = fit.law_name();
                    let message =
                        format!("--at: `{law}` gives no loss in N and D; hint: --law separable");
                    Failure::message(Exit::Usage, message)
                })?;
                let averaged = ensemble.and_then(|ensemble| ensemble.forecast(&sizes[place]));
                Ok(Forecasted {
                    n: at.n,
                    d: at.d,
                    loss: forecast.loss,
                    ci95: forecast.ci95,
                    run95: forecast.run95,
                    band95: band
                        .as_ref()
                        .map(|band| [band.points[place].low, band.points[place].high]),
                    times_largest: 6.0 * at.n * at.d / largest,
                    averaged: averaged.map(|average| AveragedTold {
                        loss: average.loss,
                        range: average.range,
                        ci95: average.ci95,
                    }),
                })
            })
            .collect()
    }
}

/// The law of the runs' seconds.
///
/// # Errors
/// Exit code 2 where no seconds are there, 5 where they carry no law.
pub(crate) fn cost_law(basis: &Basis<'_>) -> Result<CostLaw, Failure> {
    if basis.seconds.len() != basis.observations.len() || basis.seconds.is_empty() {
        let message = "GPU-seconds need the measured seconds of every run; hint: --map \
                       seconds=COLUMN, or a sweep whose runs were timed";
        return Err(Failure::message(Exit::Usage, message));
    }
    let timed = basis.observations.iter().zip(basis.seconds.iter().copied());
    CostLaw::through(timed).map_err(refused)
}

/// The largest compute that was fitted, 6 N D where it was not measured.
pub(crate) fn largest(fit: &Fit) -> f64 {
    let fitted = fit.points.iter().filter(|point| !point.held_out);
    fitted.filter_map(|point| point.observation.compute()).fold(f64::MIN_POSITIVE, f64::max)
}

impl Allocated {
    fn of(surface: &'static str, at: String, split: Split) -> Self {
        let Split { budget, n, d, loss, within_1_percent } = split;
        Self { surface, at, budget, n, d, loss, within_1_percent }
    }
}

fn ranking(ensemble: &Ensemble) -> Ranking {
    let weight = |law: Law| {
        ensemble.members.iter().find(|member| member.fit.law == law).map(|member| member.weight)
    };
    Ranking {
        held_out_share: ensemble.held_out,
        extrapolation: ensemble.reach,
        laws: ensemble
            .ranking
            .iter()
            .map(|ranked| RankedLaw {
                law: ranked.law,
                parameters: ranked.law.parameters().len(),
                held_out: ranked.result.as_ref().ok().copied(),
                weight: weight(ranked.law),
                refused: ranked.result.as_ref().err().map(ToString::to_string),
            })
            .collect(),
    }
}

fn sensitivity(found: &Sensitivity, options: &Options) -> SensitivityTold {
    let variant = |variant: &sweep_fit::Variant| {
        let fit = variant.result.as_ref().ok();
        VariantTold {
            name: variant.name.clone(),
            n_points: fit.map(|fit| fit.n_points),
            params: fit.map_or_else(Vec::new, |fit| {
                fit.params.iter().map(|p| (p.name, p.estimate.value)).collect()
            }),
            a: fit.and_then(|fit| fit.exponents.as_ref()).map(|exponents| exponents.a.value),
            optimum: fit.map_or_else(Vec::new, |fit| {
                options.budgets.iter().filter_map(|c| fit.optimum(*c)).collect()
            }),
            refused: variant.result.as_ref().err().map(ToString::to_string),
        }
    };
    SensitivityTold {
        threshold: found.threshold,
        outliers: found.outliers.clone(),
        variants: found.variants.iter().map(variant).collect(),
    }
}

fn comparison(found: &Comparison) -> ComparisonTold {
    let methods = found.ways.iter().map(|way| {
        let fit = way.result.as_ref().ok();
        let exponents = fit.and_then(|fit| fit.exponents.as_ref());
        MethodTold {
            method: way.method.name(),
            a: exponents.map(|exponents| exponents.a.value),
            b: exponents.map(|exponents| exponents.b.value),
            optimum: fit.map_or_else(Vec::new, |fit| {
                found.budgets.iter().filter_map(|c| fit.optimum(*c)).collect()
            }),
            warnings: fit.map_or_else(Vec::new, |fit| fit.warnings.clone()),
            refused: way.result.as_ref().err().map(ToString::to_string),
        }
    });
    let disagreements = found.disagreements.iter().map(|apart| DisagreementTold {
        flops: apart.flops,
        methods: apart.methods.map(Method::name),
        n: apart.n,
    });
    ComparisonTold { methods: methods.collect(), disagreements: disagreements.collect() }
}
