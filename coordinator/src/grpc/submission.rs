//! A sweep as it comes in: a header and its runs, checked to be what their ids say.

use std::collections::HashMap;

use sweep_proto::{RECIPE_BYTES_MAX, SWEEP_RUNS_MAX, convert, fault::Fault, v1};
use sweep_spec::{
    grid::{Grid, GridRun},
    id::RunId,
    policy::Policy,
    run::RunRole,
};
use sweep_store::{NewRun, NewSweep};
use tonic::{Status, Streaming};

use super::{Shared, outlet::next};
use crate::clock::unix_ms;

/// Reads a sweep from its stream and checks that it is what its ids say.
pub(super) async fn receive_sweep(
    shared: &Shared,
    mut parts: Streaming<v1::SubmitSweepRequest>,
) -> Result<(NewSweep, bool, Policy), Status> {
    use v1::submit_sweep_request::Part;
    let first = next(shared, &mut parts).await?.and_then(|message| message.part);
    let Some(Part::Header(header)) = first else {
        return Err(convert::FieldError::new("header", "must come first").into());
    };
    let id = convert::sweep_id("header.sweep_id", &header.sweep_id)?;
    if header.recipe.len() > RECIPE_BYTES_MAX {
        return Err(Fault::Limit.status("header.recipe: more than 1 MiB"));
    }
    if header.name.is_empty() || header.name.len() > 200 {
        return Err(convert::FieldError::new("header.name", "must have 1 to 200 bytes").into());
    }
    let policy = convert::policy("header.policy", header.policy.as_ref())?;
    let expected = header.runs as usize;
    if expected == 0 || expected > SWEEP_RUNS_MAX {
        let message = format!("header.runs: {expected} is not 1 to {SWEEP_RUNS_MAX}");
        return Err(Fault::Limit.status(message));
    }
    let mut grid = Grid { runs: Vec::with_capacity(expected), merged: 0 };
    while let Some(message) = next(shared, &mut parts).await? {
        let index = grid.runs.len();
        let Some(Part::Run(run)) = message.part else {
            return Err(convert::FieldError::new(format!("run[{index}]"), "is no run").into());
        };
        if index == expected {
            return Err(convert::FieldError::new("header.runs", "more runs came").into());
        }
        grid.runs.push(grid_run(index, &run)?);
    }
    if grid.runs.len() != expected {
        let problem = format!("{expected} were announced, {} came", grid.runs.len());
        return Err(convert::FieldError::new("header.runs", problem).into());
    }
    check_edges(&grid)?;
    let found = grid.sweep_id(&header.name);
    if found != id {
        let problem = format!("the runs make sweep {found}");
        return Err(convert::FieldError::new("header.sweep_id", problem).into());
    }
    let runs = grid
        .runs
        .into_iter()
        .map(|entry| NewRun {
            run: entry.run,
            role: entry.role,
            budget_flops: entry.budget,
            tokens_requested: entry.tokens_requested,
        })
        .collect();
    let sweep = NewSweep {
        id,
        name: header.name,
        recipe: header.recipe,
        runs,
        unix_ms: unix_ms(),
        planned_seconds: header.planned_seconds.filter(|seconds| *seconds >= 0.0),
    };
    Ok((sweep, header.supersede, policy))
}

/// A branch comes with its trunk: the scheduler would wait for ever for one that nobody trains.
fn check_edges(grid: &Grid) -> Result<(), Status> {
    let trunks: HashMap<RunId, &GridRun> = grid
        .runs
        .iter()
        .filter(|entry| entry.run.config.is_trunk())
        .map(|entry| (entry.run.config.id(), entry))
        .collect();
    for (index, entry) in grid.runs.iter().enumerate() {
        let refused = |problem: String| {
            Status::from(convert::FieldError::new(format!("run[{index}].run_json"), problem))
        };
        if (entry.role == RunRole::Trunk) != entry.run.config.is_trunk() {
            return Err(refused(
                "its role and its schedule disagree on whether it is a trunk".into(),
            ));
        }
        let Some(edge) = &entry.run.config.parent else { continue };
        let trunk = trunks.get(&edge.run);
        let alike = entry.run.config.trunk().is_some_and(|own| own.id() == edge.run);
        match trunk {
            _ if !alike => return Err(refused(format!("cannot fork from run {}", edge.run))),
            None => return Err(refused(format!("its trunk {} is not of the sweep", edge.run))),
            Some(trunk) if !trunk.run.forks.contains(&edge.step) => {
                return Err(refused(format!(
                    "its trunk keeps no checkpoint of step {}",
                    edge.step
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn grid_run(index: usize, message: &v1::SubmittedRun) -> Result<GridRun, Status> {
    let at = |name: &str| format!("run[{index}].{name}");
    let id = convert::run_id(&at("run_id"), &message.run_id)?;
    let run = convert::run(&at("run_json"), &id, &message.run_json)?;
    if !run.config.is_current_revision() {
        let problem = format!("is made for revision {}", run.config.training_revision);
        return Err(convert::FieldError::new(at("run_json"), problem).into());
    }
    Ok(GridRun {
        run,
        role: convert::role(&at("role"), message.role)?,
        tokens_requested: message.tokens_requested,
        budget: message.budget_flops,
    })
}
