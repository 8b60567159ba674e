//! Limits on what a sweep may cost: held before anything is trained, and by the coordinator while
//! it is.

use sweep_proto::v1;
use sweep_spec::plan::Plan;

use crate::{
    analysis::positive,
    exit::{Exit, Failure},
};

/// The limits.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Limit {
    /// Refuse a sweep of more training FLOPs than this, by the exact count, and stop one whose
    /// repeated attempts would take more
    #[arg(long, value_name = "FLOPS", value_parser = positive)]
    max_flops: Option<f64>,
    /// Stop, with checkpoints, when its attempts have held devices for so many hours in all
    #[arg(long, value_name = "HOURS", value_parser = positive)]
    max_gpu_hours: Option<f64>,
    /// Train nothing more when more runs than this have failed
    #[arg(long, value_name = "N")]
    max_failed_runs: Option<u32>,
}

impl Limit {
    /// The limits as terms that a coordinator holds.
    pub(crate) fn terms(&self) -> v1::SweepPolicy {
        v1::SweepPolicy {
            flops_max: self.max_flops,
            device_seconds_max: self.max_gpu_hours.map(|hours| hours * 3600.0),
            failed_runs_max: self.max_failed_runs,
            ..v1::SweepPolicy::default()
        }
    }

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
