//! Requests that wait together share their commits.

use sweep_proto::convert::FieldError;
use sweep_spec::{
    attempt::{AttemptKey, Ending},
    run::RunConfig,
};
use sweep_store::AttemptStatus;
use tonic::Status;

use super::{Actor, Reply, Request, fenced, points_missing, store_status};
use crate::scheduler::{Action, Beat, Ended, Event};

/// Requests of one group at most. A commit costs an fsync of 4 ms: one for each end and one for the
/// grant that follows it would be 125 runs a second.
pub(super) const GROUP_MAX: usize = 256;

/// Ends and heartbeats that wait for one commit.
#[derive(Default)]
struct Group {
    ends: Vec<(Ended, u64, Reply<()>)>,
    beats: Vec<(u64, u64, Beat, Reply<()>)>,
}

impl Group {
    /// Answers all of them alike.
    fn refuse(self, status: &Status) {
        let ends = self.ends.into_iter().map(|(_, _, reply)| reply);
        for reply in ends.chain(self.beats.into_iter().map(|(_, _, _, reply)| reply)) {
            // A caller that went away does not hear its answer.
            let _ = reply.send(Err(status.clone()));
        }
    }
}

/// What the scheduler made of a group, before it is stored.
#[derive(Default)]
struct Played {
    actions: Vec<Action>,
    answers: Vec<(Reply<()>, Result<(), Status>)>,
    /// Ends that something else of the group came before: the store knows once that is stored.
    late: Vec<(Ended, u64, Reply<()>)>,
}

impl Actor {
    /// What becomes of the end of an attempt.
    pub(super) fn end_verdict(
        &self,
        status: Option<AttemptStatus>,
        ended: &Ended,
        last_seq: u64,
    ) -> Result<EndVerdict, Status> {
        let verdict = end_verdict(status, &ended.key, last_seq)?;
        if let (EndVerdict::New, Some(run)) = (&verdict, self.scheduler.run(&ended.key.run)) {
            possible(&run.config, ended)?;
        }
        Ok(verdict)
    }

    /// Handles what waited together, in order.
    pub(super) async fn handle_all(&mut self, requests: &mut Vec<Request>) {
        let mut group = Group::default();
        for request in requests.drain(..) {
            match request {
                Request::Finish(ended, last_seq, reply) => {
                    group.ends.push((ended, last_seq, reply));
                }
                Request::Beat(session, sequence, beat, reply) => {
                    group.beats.push((session, sequence, beat, reply));
                }
                other => {
                    self.handle_group(std::mem::take(&mut group)).await;
                    self.handle(other).await;
                }
            }
        }
        self.handle_group(group).await;
    }

    /// The ends come first: what they free and teach is there when the heartbeats ask for runs.
    async fn handle_group(&mut self, group: Group) {
        if group.ends.is_empty() && group.beats.is_empty() {
            return;
        }
        let keys: Vec<AttemptKey> = group.ends.iter().map(|(end, ..)| end.key.clone()).collect();
        let statuses = match self.store.attempt_statuses(&keys).await {
            Ok(statuses) => statuses,
            Err(error) => return group.refuse(&store_status(error)),
        };
        let mut played = Played::default();
        for ((ended, last_seq, reply), status) in group.ends.into_iter().zip(statuses) {
            match self.end_verdict(status, &ended, last_seq) {
                Err(refusal) => played.answers.push((reply, Err(refusal))),
                Ok(EndVerdict::Known) => played.answers.push((reply, Ok(()))),
                Ok(EndVerdict::New) => self.play_end(ended, last_seq, reply, &mut played),
            }
        }
        for (session, sequence, beat, reply) in group.beats {
            let heard = self.hear(session, sequence, &beat).await;
            if heard.is_ok() {
                let new = self.scheduler.on_event(self.clock.now(), Event::Beat(beat));
                played.actions.extend(new);
            }
            played.answers.push((reply, heard));
        }
        self.store_played(played).await;
    }

    fn play_end(&mut self, ended: Ended, last_seq: u64, reply: Reply<()>, played: &mut Played) {
        tracing::info!(attempt = %ended.key, ending = ?ended.ending, "an attempt ended");
        self.metrics.reported(&ended.ending);
        let new = self.scheduler.on_event(self.clock.now(), Event::Ended(ended.clone()));
        let stores = |action: &Action| matches!(action, Action::End(row) if row.key == ended.key);
        if new.iter().any(stores) {
            played.answers.push((reply, Ok(())));
        } else {
            played.late.push((ended, last_seq, reply));
        }
        played.actions.extend(new);
    }

    async fn store_played(&mut self, played: Played) {
        let failed = match self.perform(played.actions).await {
            Ok(()) => None,
            Err(error) => Some(self.give_way(error).await),
        };
        for (reply, answer) in played.answers {
            // Nothing of a group whose commit failed is sure.
            let _ = reply.send(answer.and_then(|()| failed.clone().map_or(Ok(()), Err)));
        }
        for (ended, last_seq, reply) in played.late {
            let _ = reply.send(self.finish(ended, last_seq).await);
        }
    }
}

/// What an end is that may be stored.
pub(super) enum EndVerdict {
    /// The same end again: its acknowledgement was lost.
    Known,
    /// The first word of it.
    New,
}

/// What the store's knowledge of an attempt makes of its end.
fn end_verdict(
    status: Option<AttemptStatus>,
    key: &AttemptKey,
    last_seq: u64,
) -> Result<EndVerdict, Status> {
    match status {
        Some(status) if status.ended && status.reported => Ok(EndVerdict::Known),
        Some(status) if !status.ended && status.current => {
            if status.last_seq < last_seq {
                return Err(points_missing(status.last_seq, last_seq));
            }
            Ok(EndVerdict::New)
        }
        _ => Err(fenced(key)),
    }
}

/// Refuses the end of an attempt at steps that its run does not have: sums over all attempts rest on
/// what workers say.
fn possible(config: &RunConfig, ended: &Ended) -> Result<(), FieldError> {
    let steps = config.steps;
    let first = ended.resume_step.unwrap_or(0);
    if first > steps {
        return Err(FieldError::new(
            "resume_step",
            format!("{first} is above the {steps} of its run"),
        ));
    }
    let (step, finished) = match ended.ending {
        Ending::Finished { step } => (step, true),
        Ending::Diverged { step } | Ending::Stopped { step } => (step, false),
        Ending::Failed { .. } => return Ok(()),
    };
    // A trunk has no last step: it is as long as its longest branch asks for, now or later.
    if step > steps || step < first || (finished && step < steps && !config.is_trunk()) {
        let problem = format!("{step} of {steps}, after {first}, is no such end");
        return Err(FieldError::new("ending.step", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sweep_spec::attempt::FailureCause;

    use super::*;

    fn end(ending: Ending, resume_step: Option<u64>) -> Ended {
        let run = "0123456789abcdef".repeat(2).parse().unwrap();
        let key = AttemptKey { run, number: 1 };
        Ended {
            key,
            ending,
            resume_step,
            seconds: None,
            peak_memory_bytes: None,
            points_thinned: 0,
        }
    }

    #[test]
    fn an_end_beyond_the_steps_of_its_run_is_refused() {
        let config = crate::rehearsal::events::config(32, 100);
        let steps = config.steps;
        let try_end = |ending, resume_step| possible(&config, &end(ending, resume_step)).is_ok();
        assert!(try_end(Ending::Finished { step: steps }, Some(0)));
        assert!(try_end(Ending::Stopped { step: 1 }, Some(1)), "stopped before its first step");
        assert!(try_end(Ending::Stopped { step: 0 }, None), "stopped before it began");
        assert!(!try_end(Ending::Stopped { step: u64::MAX }, Some(0)));
        assert!(!try_end(Ending::Diverged { step: steps + 1 }, Some(0)));
        assert!(!try_end(Ending::Stopped { step: 1 }, Some(2)), "before it began");
        assert!(!try_end(Ending::Finished { step: steps - 1 }, Some(0)));
        let failed = Ending::Failed { cause: FailureCause::Program, reason: String::new() };
        assert!(try_end(failed.clone(), None) && !try_end(failed, Some(u64::MAX)));
    }
}
