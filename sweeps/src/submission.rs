//! A grid as it is handed to a coordinator, and its terms as they are changed.

use sweep_proto::{client::Control, convert, v1};
use sweep_spec::{grid::GridRun, plan::Plan};

use crate::{client::refused, exit::Failure, recipe_file::Prepared};

/// Hands in a sweep. Handing in the same one again changes nothing that is finished.
///
/// # Errors
/// What the coordinator refuses, with its exit code.
pub(crate) async fn submit(
    control: &mut Control,
    prepared: &Prepared,
    plan: &Plan,
    supersede: bool,
    policy: v1::SweepPolicy,
) -> Result<v1::SubmitSweepReply, Failure> {
    let name = &prepared.recipe.name;
    let header = v1::SweepHeader {
        sweep_id: prepared.grid.sweep_id(name).to_string(),
        name: name.clone(),
        recipe: prepared.recipe.text().to_owned(),
        // A grid has at most 10,000 runs.
        runs: u32::try_from(prepared.grid.runs.len()).unwrap_or(u32::MAX),
        supersede,
        policy: Some(policy),
        // Of several kinds of device nobody knows which will train.
        planned_seconds: match plan.devices.as_slice() {
            [only] => only.device_seconds,
            _ => None,
        },
    };
    let mut parts = Vec::with_capacity(prepared.grid.runs.len() + 1);
    parts.push(part(v1::submit_sweep_request::Part::Header(header)));
    parts.extend(
        prepared
            .grid
            .runs
            .iter()
            .map(|entry| part(v1::submit_sweep_request::Part::Run(submitted(entry)))),
    );
    let reply = control.submit_sweep(tokio_stream::iter(parts)).await.map_err(refused)?;
    Ok(reply.into_inner())
}

/// Changes the terms of a sweep.
///
/// # Errors
/// What the coordinator refuses, with its exit code.
pub(crate) async fn update(
    control: &mut Control,
    sweep: &str,
    change: v1::UpdateSweepRequest,
) -> Result<v1::UpdateSweepReply, Failure> {
    let request = v1::UpdateSweepRequest { sweep: sweep.to_owned(), ..change };
    Ok(control.update_sweep(request).await.map_err(refused)?.into_inner())
}

fn part(part: v1::submit_sweep_request::Part) -> v1::SubmitSweepRequest {
    v1::SubmitSweepRequest { part: Some(part) }
}

fn submitted(entry: &GridRun) -> v1::SubmittedRun {
    v1::SubmittedRun {
        run_id: entry.run.config.id().to_string(),
        run_json: convert::run_json(&entry.run),
        role: v1::RunRole::from(entry.role).into(),
        budget_flops: entry.budget,
        tokens_requested: entry.tokens_requested,
    }
}

/// What the coordinator made of it, for people.
pub(crate) fn summary(reply: &v1::SubmitSweepReply) -> String {
    let mut parts = vec![format!("{} new runs", reply.runs_new)];
    for (count, what) in [
        (reply.runs_finished, "trained already"),
        (reply.runs_known, "known and unfinished"),
        (reply.runs_failed, "of them failed (sweep retry queues them)"),
        (reply.runs_superseded, "of earlier versions given up"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.join(", ")
}
