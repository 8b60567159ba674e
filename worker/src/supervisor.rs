//! What the daemon knows and decides: which slot trains which attempt, what goes into the spool,
//! what a heartbeat says, and what orders from the coordinator mean for the slots.
//!
//! A plain value without tasks, clocks or network: [`crate::link`] brings the orders, the slots
//! bring their news, `lib.rs` brings the time.

mod news;
mod seat;
mod wire;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sweep_proto::{convert, v1};
use sweep_spec::{
    attempt::{AttemptKey, Device, Ending, FailureCause},
    id::RunId,
    run::Run,
};
use tracing::Span;

pub(crate) use self::seat::Seat;
use self::seat::SeatState;
use crate::{
    checkpoints::{has, keep_committed, keep_newest, note_forks},
    cores::{self, Use},
    log,
    outbox::Outbox,
    pipe::{CheckpointNote, TrainOrder},
    slot::SlotOrder,
    spool::{End, Spool},
    state::Identity,
    transfer::{Kept, Wanted},
};

/// A run is saved so often that a kill costs at most this share of it, ...
const CHECKPOINT_SHARE: f64 = 0.02;
/// ... at most this much time, ...
const CHECKPOINT_SECONDS_MAX: f64 = 300.0;
/// ... and no more often than this: writing one takes milliseconds and a sync of the disk.
const CHECKPOINT_SECONDS_MIN: f64 = 5.0;
/// Speed that the length of a run is guessed with: one core on a model of a million parameters.
/// Ten times off still keeps a checkpoint between 0.2 % and 20 % of the run.
const GUESSED_FLOPS_PER_SECOND: f64 = 2e10;

/// A device may begin to compute wrongly at any time: a trainer passes its canary once a day.
const CANARY_AGE_MAX: Duration = Duration::from_hours(24);

/// After the spool refused a grant no slot is offered for so long; the disk must recover first.
const GRANT_PAUSE: Duration = Duration::from_secs(10);

/// Device id of the CPU.
const CPU: &str = "cpu";

/// Everything the daemon knows.
pub(crate) struct Supervisor {
    pub(crate) identity: Identity,
    pub(crate) spool: Spool,
    /// Folder with one folder of checkpoints per run.
    checkpoints: PathBuf,
    devices: Vec<Device>,
    /// Set by a slot that became unusable, taken by the next heartbeat.
    devices_changed: bool,
    seats: Vec<Seat>,
    /// Cores that the slots of the CPU share.
    cores: usize,
    draining: Option<String>,
    /// An attempt was stopped before its end, so there is work left.
    stopped_early: bool,
    paused_until: Option<Instant>,
    /// When this machine is taken away, where that is known.
    end: Option<Instant>,
    /// Whether the coordinator keeps checkpoints.
    keeps_checkpoints: bool,
    /// Committed checkpoints that are to be handed in.
    pub(crate) outbox: Outbox,
}

/// An attempt on a slot.
#[derive(Debug)]
pub(crate) struct Work {
    key: AttemptKey,
    /// What is logged of it is logged in here.
    span: Span,
    step: u64,
    tokens_per_second: Option<f64>,
    /// Threads that the slot was told to use.
    threads: usize,
    /// When training began, after data and checkpoint were read.
    began: Option<Instant>,
    stopping: bool,
    /// What must come in before it can begin.
    waits: Option<Waits>,
}

/// An order that is held back until its checkpoints are here.
#[derive(Debug)]
struct Waits {
    order: Box<TrainOrder>,
    wanted: Vec<Wanted>,
}

/// What must be told at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// A heartbeat is due.
    pub(crate) beat: bool,
    /// The spool has something to send.
    pub(crate) spooled: bool,
}

impl Supervisor {
    /// Takes over a spool. What an earlier daemon was training is ended: its trainers died with it.
    pub(crate) fn new(
        identity: Identity,
        mut spool: Spool,
        checkpoints: PathBuf,
        outbox: Outbox,
        devices: Vec<Device>,
        seats: Vec<Seat>,
        cores: usize,
    ) -> Self {
        for mark in spool.marks().into_iter().filter(|mark| mark.ending.is_none()) {
            let reason = "the worker ended while the run was trained".to_owned();
            let ending = Ending::Failed { cause: FailureCause::Daemon, reason };
            spool.end(&mark.key, End::new(ending));
        }
        Self {
            identity,
            spool,
            checkpoints,
            devices,
            devices_changed: false,
            seats,
            cores,
            draining: None,
            stopped_early: false,
            paused_until: None,
            end: None,
            keeps_checkpoints: false,
            outbox,
        }
    }

    /// Says when this machine is taken away.
    pub(crate) fn set_end(&mut self, end: Option<Instant>) {
        self.end = end;
    }

    /// Takes a grant. One that cannot be taken is dropped: the next heartbeat says that it was
    /// received and does not run, and the coordinator grants the run anew.
    pub(crate) fn grant(&mut self, grant: &v1::Grant, now: Instant) -> Result<(), String> {
        let key = convert::attempt_key("grant.key", grant.key.as_ref())
            .map_err(|error| error.to_string())?;
        if let Some(reason) = &self.draining {
            return Err(format!("{key}: the worker is draining ({reason})"));
        }
        let slot = grant.slot as usize;
        if !matches!(self.seats.get(slot), Some(Seat { state: SeatState::Free, .. })) {
            return Err(format!("{key}: slot {slot} is not free"));
        }
        let span = log::on_slot(&key, slot, &self.seats[slot].device_id);
        let _entered = span.clone().entered();
        if let Err(error) = self.spool.begin(&key) {
            self.paused_until = Some(now + GRANT_PAUSE);
            return Err(error.to_string());
        }
        match self.prepare(&key, grant) {
            Ok(waits) => {
                let nothing_to_fetch = waits.wanted.is_empty();
                self.seats[slot].state = SeatState::Busy(Work {
                    key,
                    span,
                    step: 0,
                    tokens_per_second: None,
                    threads: 1,
                    began: None,
                    stopping: false,
                    waits: Some(waits),
                });
                if nothing_to_fetch {
                    self.begin(slot);
                }
            }
            Err((cause, reason)) => self.fail(&key, cause, reason),
        }
        Ok(())
    }

    /// Gives a slot the order that was held back for it.
    fn begin(&mut self, slot: usize) {
        let seat = &mut self.seats[slot];
        let SeatState::Busy(work) = &mut seat.state else { return };
        let Some(waits) = work.waits.take() else { return };
        // What an idle slot was told of its threads, nobody heard.
        work.threads = 1;
        let (key, span) = (work.key.clone(), work.span.clone());
        let _entered = span.clone().entered();
        if seat.train(waits.order, span) {
            tracing::info!(slot, "{key} begins");
        } else {
            seat.state = SeatState::Free;
            let reason = format!("slot {slot} takes no order");
            self.fail(&key, FailureCause::Infrastructure, reason);
        }
        self.share_cores();
    }

    /// The attempts that wait for checkpoints, with what they wait for.
    pub(crate) fn incoming(&self) -> Vec<(AttemptKey, Vec<Wanted>)> {
        let waiting = self.seats.iter().filter_map(|seat| match &seat.state {
            SeatState::Busy(Work { key, waits: Some(waits), .. }) => {
                Some((key.clone(), waits.wanted.clone()))
            }
            _ => None,
        });
        waiting.collect()
    }

    /// Nothing more comes in for an attempt: it begins after what is there.
    pub(crate) fn arrived(&mut self, key: &AttemptKey) {
        if let Some(slot) = self.slot_of(key) {
            self.begin(slot as usize);
        }
    }

    /// What an attempt waits for does not come: it ends, and the run is tried elsewhere or later.
    pub(crate) fn cannot_begin(&mut self, key: &AttemptKey, cause: FailureCause, reason: String) {
        let Some(slot) = self.slot_of(key) else { return };
        let seat = &mut self.seats[slot as usize];
        if let SeatState::Busy(Work { waits: Some(_), span, .. }) = &seat.state {
            let _entered = span.clone().entered();
            seat.state = SeatState::Free;
            self.fail(key, cause, reason);
            self.share_cores();
        }
    }

    /// Learns whether the coordinator keeps checkpoints.
    pub(crate) fn set_keeps_checkpoints(&mut self, keeps: bool) {
        self.keeps_checkpoints = keeps;
        if !keeps {
            self.outbox.clear();
        }
    }

    /// A checkpoint is committed: it is handed in where the coordinator keeps them.
    pub(crate) fn committed(&mut self, key: &AttemptKey, note: &CheckpointNote) {
        // Noted first: a daemon that dies in between commits it once more.
        let _entered = self.span(key).entered();
        if self.keeps_checkpoints {
            self.outbox.add(key, note.clone());
        }
        self.spool.acked_checkpoint(key);
    }

    /// Does what time alone brings about.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.spool.tick(now);
        self.renew(now);
    }

    /// Renews the trainers of free slots whose canary is too old. Only here, where grants are taken:
    /// no run is ordered from a slot that is being renewed.
    fn renew(&mut self, now: Instant) {
        for seat in &mut self.seats {
            let is_old = |passed| now.saturating_duration_since(passed) >= CANARY_AGE_MAX;
            if matches!(seat.state, SeatState::Free)
                && seat.canary_passed.is_some_and(is_old)
                && seat.renew()
            {
                seat.state = SeatState::Starting;
            }
        }
    }

    /// Tells every slot of the CPU how many threads it has now, where that changed.
    fn share_cores(&mut self) {
        let on_cpu: Vec<&mut Seat> =
            self.seats.iter_mut().filter(|seat| seat.device_id == CPU).collect();
        let uses: Vec<Use> = on_cpu.iter().map(|seat| seat.state.cores()).collect();
        for (seat, threads) in on_cpu.into_iter().zip(cores::threads(self.cores, &uses)) {
            if let SeatState::Busy(work) = &mut seat.state
                && work.threads != threads
                && seat.orders.try_send(SlotOrder::Threads(threads)).is_ok()
            {
                work.threads = threads;
            }
        }
    }

    fn fail(&mut self, key: &AttemptKey, cause: FailureCause, reason: String) {
        tracing::warn!("{key} failed: {reason}");
        self.spool.end(key, End::new(Ending::Failed { cause, reason }));
    }

    fn prepare(
        &self,
        key: &AttemptKey,
        grant: &v1::Grant,
    ) -> Result<Waits, (FailureCause, String)> {
        let run = convert::run("grant.run_json", &key.run, &grant.run_json)
            .map_err(|error| (FailureCause::Configuration, error.to_string()))?;
        let folder = self.checkpoints.join(key.run.as_str());
        let committed = grant.checkpoint.as_ref().map(|at| at.step);
        keep_committed(&folder, committed).and_then(|()| note_forks(&folder, &run.forks)).map_err(
            |error| {
                let hint = "hint: the folder given with --state must be writable";
                let reason = format!("cannot prepare {}: {error}; {hint}", folder.display());
                (FailureCause::Infrastructure, reason)
            },
        )?;
        let mut wanted = Vec::new();
        let mut want = |offered: [Option<&v1::CheckpointRef>; 2], run: &RunId, folder: &PathBuf| {
            let kept = offered.into_iter().flatten().filter(|at| at.kept);
            let kept: Vec<Kept> =
                kept.map(|at| Kept { step: at.step, hash: at.hash.clone() }).collect();
            if kept.first().is_some_and(|newest| !has(folder, newest.step, &newest.hash)) {
                wanted.push(Wanted { run: run.clone(), folder: folder.clone(), kept });
            }
        };
        // One that only lies here needs nothing else to come.
        let newest = grant.checkpoint.as_ref().filter(|at| at.kept);
        want([newest, newest.and(grant.earlier.as_ref())], &key.run, &folder);
        let edge = run.config.parent.as_ref();
        let trunk = edge.map(|edge| (&edge.run, self.checkpoints.join(edge.run.as_str())));
        // A checkpoint of its own lies beyond the fork.
        if let Some((trunk, folder)) = trunk.as_ref().filter(|_| committed.is_none()) {
            want([grant.fork.as_ref(), None], trunk, folder);
        }
        let trunk = trunk.map(|(_, folder)| folder);
        let trunk = trunk.filter(|folder| folder.is_dir() || !wanted.is_empty());
        let checkpoint_seconds = checkpoint_seconds(&run);
        let order = TrainOrder { run, checkpoints: folder, trunk, checkpoint_seconds };
        Ok(Waits { order: Box::new(order), wanted })
    }

    /// Stops an attempt at its next step; its end is reported.
    pub(crate) fn stop(&mut self, key: &AttemptKey) {
        if let Some(slot) = self.slot_of(key) {
            self.stop_slot(slot as usize);
        }
    }

    /// Stops what runs on a slot; a second stop adds nothing.
    fn stop_slot(&mut self, slot: usize) {
        let seat = &mut self.seats[slot];
        let SeatState::Busy(work) = &mut seat.state else { return };
        if work.waits.is_some() {
            // It has not begun: nothing of it is lost.
            let key = work.key.clone();
            seat.state = SeatState::Free;
            self.stopped_early = true;
            self.spool.end(&key, End::new(Ending::Stopped { step: 0 }));
        } else if !work.stopping {
            work.stopping = seat.orders.try_send(SlotOrder::Stop).is_ok();
        }
    }

    /// Forgets an attempt that belongs to someone else, or to nobody.
    pub(crate) fn discard(&mut self, key: &AttemptKey, reason: &str) {
        let _entered = self.span(key).entered();
        tracing::warn!("{key} is dropped: {reason}");
        for seat in &mut self.seats {
            match &seat.state {
                SeatState::Busy(work) if work.key == *key && work.waits.is_some() => {
                    seat.state = SeatState::Free;
                }
                SeatState::Busy(work) if work.key == *key => {
                    let _ = seat.orders.try_send(SlotOrder::Kill);
                }
                _ => {}
            }
        }
        self.spool.set_aside(key);
    }

    /// Stops every run with a checkpoint and takes no more.
    pub(crate) fn drain(&mut self, reason: &str) {
        if self.draining.is_none() {
            tracing::info!("draining: {reason}");
            self.draining = Some(reason.to_owned());
        }
        (0..self.seats.len()).for_each(|slot| self.stop_slot(slot));
    }

    /// The end of an attempt is known to the coordinator.
    pub(crate) fn finished(&mut self, key: &AttemptKey, ending: &Ending) {
        let _entered = self.span(key).entered();
        self.spool.remove(key);
        if matches!(ending, Ending::Finished { .. } | Ending::Diverged { .. }) {
            // The last checkpoint stays: a task added later is scored on it. So do those that
            // branches fork from.
            let folder = self.checkpoints.join(key.run.as_str());
            if let Err(error) = keep_newest(&folder) {
                tracing::warn!("cannot tidy {}: {error}", folder.display());
            }
        }
    }

    /// Whether no attempt is on a slot.
    pub(crate) fn is_idle(&self) -> bool {
        !self.seats.iter().any(|seat| matches!(seat.state, SeatState::Busy(_)))
    }

    /// Whether the worker takes no more runs.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Whether a run was stopped before its end.
    pub(crate) fn has_work_left(&self) -> bool {
        self.stopped_early
    }

    /// Why no slot works any more, if none does.
    pub(crate) fn unusable(&self) -> Option<String> {
        if self.seats.iter().any(|seat| !matches!(seat.state, SeatState::Unusable)) {
            return None;
        }
        let one = |device: &Device| Some(format!("{} ({})", device.id, device.refused.as_ref()?));
        let all: Vec<String> = self.devices.iter().filter_map(one).collect();
        Some(all.join("; "))
    }

    /// Lets the slots end.
    pub(crate) fn close(&mut self) {
        self.seats.clear();
    }

    /// The span of an attempt, on its slot or after it.
    pub(crate) fn span(&self, key: &AttemptKey) -> Span {
        let of = |seat: &Seat| match &seat.state {
            SeatState::Busy(work) if work.key == *key => Some(work.span.clone()),
            _ => None,
        };
        self.seats.iter().find_map(of).unwrap_or_else(|| log::off_slot(key))
    }

    fn slot_of(&self, key: &AttemptKey) -> Option<u32> {
        let is_at = |seat: &Seat| matches!(&seat.state, SeatState::Busy(work) if work.key == *key);
        (0..).zip(&self.seats).find_map(|(index, seat)| is_at(seat).then_some(index))
    }
}

/// Seconds between two checkpoints of a run.
fn checkpoint_seconds(run: &Run) -> f64 {
    let guessed_seconds = run.config.own_flops() / GUESSED_FLOPS_PER_SECOND;
    (CHECKPOINT_SHARE * guessed_seconds).clamp(CHECKPOINT_SECONDS_MIN, CHECKPOINT_SECONDS_MAX)
}

#[cfg(test)]
mod tests;
