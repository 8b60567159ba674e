//! `sweep drain`: a worker stops what it trains with checkpoints, and leaves.

use std::time::Duration;

use sweep_proto::{client::Control, v1};

use crate::{
    client::{AccessArgs, block_on, refused},
    console::{Console, Format},
    exit::{Exit, Failure},
};

/// Between two looks at a worker that is leaving.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `sweep drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A worker that is online, by its id, the beginning of it, or the name of its machine
    worker: String,
    /// Wait until it has left
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    access: AccessArgs,
}

/// Asks a worker to leave.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    block_on(async {
        let mut control = args.access.connect().await?;
        let request = v1::DrainWorkerRequest { worker_id: args.worker.clone() };
        let reply = control.drain_worker(request).await.map_err(refused)?.into_inner();
        console.say(told(&reply))?;
        if args.wait {
            wait(&mut control, &reply.worker_id).await?;
            console.say(format_args!("worker {} has left", reply.worker_id))?;
        }
        match console.format {
            Format::Json => {
                let runs: Vec<&str> =
                    reply.stopping.iter().map(|key| key.run_id.as_str()).collect();
                console.json(&serde_json::json!({
                    "schema": "sweep.drained/1",
                    "worker": reply.worker_id,
                    "host": reply.host,
                    "was_draining": reply.was_draining,
                    "runs_stopping": runs,
                    "left": args.wait,
                }))?;
            }
            Format::Quiet => writeln!(console.out, "{}", reply.worker_id)?,
            Format::Table => {}
        }
        Ok(Exit::Done)
    })
}

fn told(reply: &v1::DrainWorkerReply) -> String {
    let verb = if reply.was_draining { "is leaving already" } else { "leaves" };
    let short = |key: &v1::AttemptKey| -> String {
        key.run_id.chars().take(sweep_spec::id::SHORT_DIGITS).collect()
    };
    let runs: Vec<String> = reply.stopping.iter().map(short).collect();
    let stops = match runs.as_slice() {
        [] => "it trains nothing".to_owned(),
        [one] => format!("run {one} stops with a checkpoint"),
        many => format!("{} runs stop with checkpoints: {}", many.len(), many.join(", ")),
    };
    format!("worker {} on {} {verb}; {stops}", reply.worker_id, reply.host)
}

/// Waits until a worker is away and holds nothing any more.
async fn wait(control: &mut Control, id: &str) -> Result<(), Failure> {
    loop {
        let reply = control.list_workers(v1::ListWorkersRequest {}).await.map_err(refused)?;
        let workers = reply.into_inner().workers;
        let there = workers.iter().any(|worker| {
            let holds = worker.slots.iter().any(|slot| slot.key.is_some());
            worker.worker_id == id && (holds || worker.state() != v1::WorkerState::Offline)
        });
        if !there {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_is_told() {
        let key = |digit: &str| v1::AttemptKey { run_id: digit.repeat(32), attempt: 1 };
        let reply = |stopping, was_draining| v1::DrainWorkerReply {
            worker_id: "w-1".into(),
            host: "box".into(),
            stopping,
            was_draining,
        };
        assert_eq!(told(&reply(vec![], false)), "worker w-1 on box leaves; it trains nothing");
        let one = told(&reply(vec![key("a")], true));
        assert!(one.starts_with("worker w-1 on box is leaving already; run aaaa"), "{one}");
        let two = told(&reply(vec![key("a"), key("b")], false));
        assert!(two.contains("2 runs stop with checkpoints: aaaa"), "{two}");
    }
}
