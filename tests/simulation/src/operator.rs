//! The person at the command line: gives failed runs a fresh budget now and then, and until the calm
//! also gives runs up, pauses, resumes and changes priorities.

use std::time::Duration;

use sweep_proto::{client::Control, v1};
use turmoil::Sim;

use crate::{
    draw::Draw,
    network::{access, dial},
    scenario::{SWEEP, Scenario},
};

/// Name of the operator's host.
pub(crate) const OPERATOR: &str = "operator";

/// Time between two acts at most.
const EVERY: Duration = Duration::from_secs(20);

/// Adds the operator.
pub(crate) fn host(sim: &mut Sim<'_>, scenario: &Scenario, draw: Draw) {
    let runs: Vec<String> = scenario.runs.iter().map(|run| run.config.id().to_string()).collect();
    let (calm, meddles, keep_alive) = (scenario.calm, scenario.meddles, scenario.keep_alive);
    sim.host(OPERATOR, move || {
        let (mut draw, runs) = (draw.clone(), runs.clone());
        async move {
            loop {
                tokio::time::sleep(draw.millis(1000, 20_000)).await;
                let meddles = meddles && turmoil::sim_elapsed().is_some_and(|now| now < calm);
                let act = if meddles { Act::draw(&mut draw, &runs) } else { Act::SetRight };
                // One that hangs is given up like one that fails.
                let _ = tokio::time::timeout(EVERY, act.play(keep_alive)).await;
            }
        }
    });
}

/// What the operator does.
enum Act {
    /// Everything that was given up or paused is wanted again.
    SetRight,
    /// Gives up one run, or all.
    Cancel(Vec<String>),
    Pause,
    Priority(i32),
}

impl Act {
    fn draw(draw: &mut Draw, runs: &[String]) -> Self {
        match draw.below(6) {
            0 => Self::Cancel(Vec::new()),
            1 | 2 => {
                let which = draw.below(runs.len() as u64);
                Self::Cancel(
                    runs.iter()
                        .skip(usize::try_from(which).unwrap_or(0))
                        .take(1)
                        .cloned()
                        .collect(),
                )
            }
            3 => Self::Pause,
            4 => Self::Priority(i32::try_from(draw.below(9)).unwrap_or(0) - 4),
            _ => Self::SetRight,
        }
    }

    /// Does it; `None` when the coordinator does not answer or refuses.
    async fn play(self, keep_alive: bool) -> Option<()> {
        let mut control = dial(access(), keep_alive).await.ok()?.control();
        match self {
            Self::SetRight => {
                let sweep = SWEEP.to_owned();
                let retry = v1::RetryRunsRequest { sweep, runs: Vec::new() };
                // Nothing to retry is no reason to leave it paused.
                let _ = control.retry_runs(retry).await;
                update(
                    &mut control,
                    v1::UpdateSweepRequest { paused: Some(false), ..Default::default() },
                )
                .await
            }
            Self::Cancel(runs) => {
                let request = v1::CancelSweepRequest { sweep: SWEEP.to_owned(), runs };
                control.cancel_sweep(request).await.ok().map(|_| ())
            }
            Self::Pause => {
                update(
                    &mut control,
                    v1::UpdateSweepRequest { paused: Some(true), ..Default::default() },
                )
                .await
            }
            Self::Priority(priority) => {
                update(
                    &mut control,
                    v1::UpdateSweepRequest { priority: Some(priority), ..Default::default() },
                )
                .await
            }
        }
    }
}

async fn update(control: &mut Control, change: v1::UpdateSweepRequest) -> Option<()> {
    let request = v1::UpdateSweepRequest { sweep: SWEEP.to_owned(), ..change };
    control.update_sweep(request).await.ok().map(|_| ())
}
