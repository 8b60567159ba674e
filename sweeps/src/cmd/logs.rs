//! `sweep logs`: what happened to the attempts at a run, in the order of time. `sweep explain` says
//! where the run stands now and why; this says how it came there.

use serde_json::{Value, json};
use sweep_proto::{convert, v1};
use sweep_spec::units::bytes;

use crate::{
    client::{AccessArgs, block_on, refused},
    console::{Console, Format},
    exit::{Exit, Failure, OrExit as _},
    machine::clock::utc_seconds,
    output::table::duration,
};

/// Arguments of `sweep logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A run, by its id or the beginning of it
    run: String,
    #[command(flatten)]
    access: AccessArgs,
}

/// Prints the events.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let reply = block_on(async {
        let mut control = args.access.connect().await?;
        let request = v1::GetHistoryRequest { run: args.run.clone() };
        Ok(control.get_history(request).await.map_err(refused)?.into_inner())
    })?;
    let state = convert::run_state("state", reply.state).or_exit(Exit::Failed)?.name();
    match console.format {
        Format::Json => console.json(&json!({
            "schema": "sweep.logs/1",
            "run": reply.run_id,
            "state": state,
            "events": reply.events.iter().map(object).collect::<Vec<_>>(),
        }))?,
        Format::Quiet => writeln!(console.out, "{}", reply.run_id)?,
        Format::Table => {
            for event in &reply.events {
                writeln!(console.out, "{}", line(event))?;
            }
            if reply.events.is_empty() {
                let run = &args.run;
                console.say(format_args!(
                    "run {run} is {state} and was granted to no worker yet; hint: `sweep explain \
                     {run}` says why"
                ))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn line(event: &v1::Event) -> String {
    let what = event.what.as_ref().map_or_else(|| "unknown".to_owned(), words);
    format!("{}  attempt {}  {what}", utc_seconds(event.unix_ms), event.attempt)
}

fn words(what: &v1::event::What) -> String {
    use v1::event::What;
    match what {
        What::Granted(granted) => {
            let from = match (granted.resume_step, granted.resume_attempt) {
                (Some(step), Some(attempt)) => format!(", from step {step} of attempt {attempt}"),
                (Some(step), None) if step > 0 => format!(", from step {step}"),
                _ => String::new(),
            };
            let canary = granted
                .canary
                .as_ref()
                .map_or_else(|| ", no canary".to_owned(), |canary| format!(", canary: {canary}"));
            format!(
                "granted to {} on {}, {} {}{canary}{from}",
                granted.worker_id, granted.host, granted.device_id, granted.device_name
            )
        }
        What::Checkpointed(checkpoint) => {
            let size =
                checkpoint.bytes.map_or_else(String::new, |size| format!(", {}", bytes(size)));
            let kept = if checkpoint.kept { ", kept by the coordinator" } else { "" };
            format!("checkpoint at step {}{size}{kept}", checkpoint.step)
        }
        What::Ended(ended) => {
            let step = ended.step.map_or_else(String::new, |step| format!(" at step {step}"));
            let seconds = ended
                .seconds
                .map_or_else(String::new, |seconds| format!(" after {}", duration(seconds)));
            let thinned = match ended.points_thinned {
                0 => String::new(),
                points => format!(", {points} points left out"),
            };
            let reason = ended.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            format!("{}{step}{seconds}{thinned}{reason}", ended.outcome)
        }
    }
}

fn object(event: &v1::Event) -> Value {
    use v1::event::What;
    let (name, facts) = match &event.what {
        None => ("unknown", Value::Null),
        Some(What::Granted(granted)) => (
            "granted",
            json!({
                "worker": granted.worker_id,
                "host": granted.host,
                "device": granted.device_id,
                "device_name": granted.device_name,
                "backend": granted.backend,
                "canary": granted.canary,
                "resume_step": granted.resume_step,
                "resume_attempt": granted.resume_attempt,
            }),
        ),
        Some(What::Checkpointed(checkpoint)) => (
            "checkpoint",
            json!({
                "step": checkpoint.step,
                "bytes": checkpoint.bytes,
                "kept": checkpoint.kept,
            }),
        ),
        Some(What::Ended(ended)) => (
            "ended",
            json!({
                "outcome": ended.outcome,
                "reason": ended.reason,
                "step": ended.step,
                "seconds": ended.seconds,
                "peak_memory_bytes": ended.peak_memory_bytes,
                "points_thinned": ended.points_thinned,
            }),
        ),
    };
    json!({ "unix_ms": event.unix_ms, "attempt": event.attempt, "event": name, "facts": facts })
}

#[cfg(test)]
mod tests {
    use v1::event::{Checkpointed, Ended, Granted, What};

    use super::*;

    #[test]
    fn events_are_told_in_a_line_each() {
        let granted = Granted {
            worker_id: "w-1".to_owned(),
            host: "box".to_owned(),
            device_id: "cpu".to_owned(),
            device_name: "AMD EPYC".to_owned(),
            backend: "cpu".to_owned(),
            canary: Some("0.1 % off".to_owned()),
            resume_step: Some(40),
            resume_attempt: Some(1),
        };
        let checkpoint = Checkpointed { step: 60, bytes: Some(3 << 20), kept: true };
        let ended = Ended {
            outcome: "lost".to_owned(),
            reason: Some("its lease ran out".to_owned()),
            step: None,
            seconds: Some(12.0),
            peak_memory_bytes: None,
            points_thinned: 5,
        };
        let events = [What::Granted(granted), What::Checkpointed(checkpoint), What::Ended(ended)]
            .map(|what| v1::Event { unix_ms: 1_764_000_007_000, attempt: 2, what: Some(what) });
        let told: Vec<String> = events.iter().map(line).collect();
        insta::assert_snapshot!(told.join("\n"), @"
        2025-11-24 16:00:07  attempt 2  granted to w-1 on box, cpu AMD EPYC, canary: 0.1 % off, from step 40 of attempt 1
        2025-11-24 16:00:07  attempt 2  checkpoint at step 60, 3 MiB, kept by the coordinator
        2025-11-24 16:00:07  attempt 2  lost after 12 s, 5 points left out: its lease ran out
        ");
        let object = object(&events[2]);
        assert_eq!((&object["event"], &object["facts"]["step"]), (&json!("ended"), &Value::Null));
    }
}
