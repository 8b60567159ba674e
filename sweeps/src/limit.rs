//! A limit on what a sweep may cost, held before anything is trained.

use sweep_spec::{plan::Plan, units::parse_number};

use crate::exit::{Exit, Failure};

/// The limit.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Limit {
    /// Refuse a sweep of more training FLOPs than this, by the exact count
    #[arg(long, value_name = "FLOPS", value_parser = flops)]
    max_flops: Option<f64>,
}

fn flops(text: &str) -> Result<f64, String> {
    parse_number(text).map_err(|error| error.to_string())
}

impl Limit {
    /// Refuses a plan beyond the limit.
    ///
    /// # Errors
    /// Exit code 6.
    pub(crate) fn hold(&self, plan: &Plan) -> Result<(), Failure> {
        match self.max_flops {
            Some(limit) if plan.totals.flops > limit => Err(Failure::message(
                Exit::OverBudget,
                format!(
                    "the sweep takes {:.3e} FLOPs, more than --max-flops {limit:.3e}; hint: drop \
                     its largest runs, or raise the limit",
                    plan.totals.flops
                ),
            )),
            _ => Ok(()),
        }
    }
}
