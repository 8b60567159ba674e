//! What the daemon knows and decides: which slot trains which attempt, what goes into the spool,
//! what a heartbeat says, and what orders from the coordinator mean for the slots.
//!
//! A plain value without tasks, clocks or network: [`crate::link`] brings the orders, the slots
//! bring their news, `lib.rs` brings the time.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sweep_proto::{convert, v1};
use sweep_spec::{
    attempt::{AttemptKey, Device, Ending, FailureCause},
    run::Run,
};
use tokio::sync::mpsc;

use crate::{
    cores::{self, Use},
    pipe::{Memory, TrainOrder},
    slot::{SlotEvent, SlotNews, SlotOrder},
    spool::{End, Spool},
    state::Identity,
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
}

/// A slot as the supervisor sees it.
pub(crate) struct Seat {
    pub(crate) device_id: String,
    pub(crate) orders: mpsc::Sender<SlotOrder>,
    pub(crate) state: SeatState,
}

/// What a slot is doing.
#[derive(Debug)]
pub(crate) enum SeatState {
    /// Its trainer is started, or starts again.
    Starting,
    Free,
    Busy(Work),
    Unusable,
}

/// An attempt on a slot.
#[derive(Debug)]
pub(crate) struct Work {
    key: AttemptKey,
    step: u64,
    tokens_per_second: Option<f64>,
    /// Threads that the slot was told to use.
    threads: usize,
    /// When training began, after data and checkpoint were read.
    began: Option<Instant>,
    stopping: bool,
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
        }
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
        if let Err(error) = self.spool.begin(&key) {
            self.paused_until = Some(now + GRANT_PAUSE);
            return Err(error.to_string());
        }
        match self.prepare(&key, grant) {
            Ok(order) => {
                let seat = &mut self.seats[slot];
                if seat.orders.try_send(SlotOrder::Train(Box::new(order))).is_err() {
                    let reason = format!("slot {slot} takes no order");
                    self.fail(&key, FailureCause::Infrastructure, reason);
                    return Ok(());
                }
                tracing::info!(slot, "{key} begins");
                seat.state = SeatState::Busy(Work {
                    key,
                    step: 0,
                    tokens_per_second: None,
                    threads: 1,
                    began: None,
                    stopping: false,
                });
                self.share_cores();
            }
            Err((cause, reason)) => self.fail(&key, cause, reason),
        }
        Ok(())
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
    ) -> Result<TrainOrder, (FailureCause, String)> {
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
        let trunk = run.config.parent.as_ref().map(|edge| self.checkpoints.join(edge.run.as_str()));
        let trunk = trunk.filter(|folder| folder.is_dir());
        let checkpoint_seconds = checkpoint_seconds(&run);
        Ok(TrainOrder { run, checkpoints: folder, trunk, checkpoint_seconds })
    }

    /// Stops an attempt at its next step; its end is reported.
    pub(crate) fn stop(&mut self, key: &AttemptKey) {
        for seat in &mut self.seats {
            if matches!(&seat.state, SeatState::Busy(work) if work.key == *key) {
                seat.stop();
            }
        }
    }

    /// Forgets an attempt that belongs to someone else, or to nobody.
    pub(crate) fn discard(&mut self, key: &AttemptKey, reason: &str) {
        tracing::warn!("{key} is dropped: {reason}");
        for seat in &self.seats {
            if matches!(&seat.state, SeatState::Busy(work) if work.key == *key) {
                let _ = seat.orders.try_send(SlotOrder::Kill);
            }
        }
        self.spool.remove(key);
    }

    /// Stops every run with a checkpoint and takes no more.
    pub(crate) fn drain(&mut self, reason: &str) {
        if self.draining.is_none() {
            tracing::info!("draining: {reason}");
            self.draining = Some(reason.to_owned());
        }
        self.seats.iter_mut().for_each(Seat::stop);
    }

    /// Takes in what a slot tells.
    pub(crate) fn slot_event(&mut self, event: SlotEvent, now: Instant) -> Changed {
        let changed = self.take_news(event, now);
        if changed.beat {
            // Slots begin and end with a heartbeat.
            self.share_cores();
        }
        changed
    }

    fn take_news(&mut self, event: SlotEvent, now: Instant) -> Changed {
        let slot = event.slot;
        let seat = &mut self.seats[slot];
        match (event.news, &mut seat.state) {
            (SlotNews::Ready { canary }, state) => {
                if matches!(state, SeatState::Starting) {
                    tracing::debug!(slot, "ready, canary: {canary}");
                }
                *state = SeatState::Free;
                Changed { beat: true, spooled: false }
            }
            (SlotNews::Unusable { reason }, state) => {
                let device_id = seat.device_id.clone();
                *state = SeatState::Unusable;
                tracing::error!(slot, "device {device_id} takes no more runs: {reason}");
                self.refuse_device(&device_id, &reason);
                Changed { beat: true, spooled: false }
            }
            (SlotNews::Started { step, passed_over }, SeatState::Busy(work)) => {
                for line in passed_over {
                    tracing::warn!(slot, "{}: checkpoint passed over: {line}", work.key);
                }
                work.step = step;
                work.began = Some(now);
                self.spool.started(&work.key, step);
                Changed::default()
            }
            (SlotNews::Points(points), SeatState::Busy(work)) => {
                self.spool.points(&work.key, points, now);
                Changed { beat: false, spooled: true }
            }
            (SlotNews::Progress { step, tokens_per_second }, SeatState::Busy(work)) => {
                work.step = step;
                work.tokens_per_second = Some(tokens_per_second);
                Changed::default()
            }
            (SlotNews::Checkpoint(note), SeatState::Busy(work)) => {
                self.spool.checkpoint(&work.key, note);
                Changed { beat: false, spooled: true }
            }
            (SlotNews::Ended { ending, memory }, SeatState::Busy(_)) => {
                let SeatState::Busy(work) = std::mem::replace(&mut seat.state, SeatState::Starting)
                else {
                    unreachable!("matched above");
                };
                self.ended(slot, work, ending, memory, now);
                Changed { beat: true, spooled: true }
            }
            (news, state) => {
                tracing::error!(slot, "a slot that is {state:?} told {news:?}");
                Changed::default()
            }
        }
    }

    fn ended(&mut self, slot: usize, work: Work, ending: Ending, memory: Memory, now: Instant) {
        let seconds = work.began.map(|began| now.duration_since(began).as_secs_f64());
        match &ending {
            Ending::Failed { reason, .. } => tracing::warn!(slot, "{} failed: {reason}", work.key),
            _ => tracing::info!(slot, seconds, "{}: {ending:?}", work.key),
        }
        self.stopped_early |= matches!(ending, Ending::Stopped { .. });
        let end = End { seconds, peak_memory_bytes: memory.peak_bytes, ..End::new(ending) };
        self.spool.end(&work.key, end);
    }

    /// A device is refused once none of its slots works.
    fn refuse_device(&mut self, device_id: &str, reason: &str) {
        let usable =
            |seat: &Seat| seat.device_id == device_id && !matches!(seat.state, SeatState::Unusable);
        if self.seats.iter().any(usable) {
            return;
        }
        for device in self.devices.iter_mut().filter(|device| device.id == device_id) {
            device.refused = Some(reason.to_owned());
            self.devices_changed = true;
        }
    }

    /// The end of an attempt is known to the coordinator.
    pub(crate) fn finished(&mut self, key: &AttemptKey, ending: &Ending) {
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

    /// What `Join` says.
    pub(crate) fn join_request(&self) -> v1::JoinRequest {
        let slots = (0..)
            .zip(&self.seats)
            .map(|(index, seat)| v1::Slot { index, device_id: seat.device_id.clone() });
        let held = self.spool.marks().into_iter().map(|mark| v1::HeldAttempt {
            slot: self.slot_of(&mark.key),
            key: Some((&mark.key).into()),
            last_seq: mark.last_seq,
        });
        v1::JoinRequest {
            worker_id: self.identity.worker_id.clone(),
            incarnation: self.identity.incarnation,
            host: self.identity.host.clone(),
            devices: self.devices.iter().map(Into::into).collect(),
            slots: slots.collect(),
            held: held.collect(),
            lifetime_ms: None,
        }
    }

    fn slot_of(&self, key: &AttemptKey) -> Option<u32> {
        let is_at = |seat: &Seat| matches!(&seat.state, SeatState::Busy(work) if work.key == *key);
        (0..).zip(&self.seats).find_map(|(index, seat)| is_at(seat).then_some(index))
    }

    /// What a verdict of `Join` means.
    pub(crate) fn verdict(&mut self, verdict: &v1::Verdict) -> Result<(), String> {
        let key = convert::attempt_key("verdict.key", verdict.key.as_ref())
            .map_err(|error| error.to_string())?;
        match verdict.kind() {
            v1::verdict::Kind::Keep => self.spool.acked_points(&key, verdict.acked_seq),
            v1::verdict::Kind::Kill => self.discard(&key, &verdict.reason),
            // Without an end of ours it is news that the coordinator knows one.
            v1::verdict::Kind::Done if self.slot_of(&key).is_some() => {
                self.discard(&key, "its end is known already");
            }
            v1::verdict::Kind::Done => self.spool.remove(&key),
            v1::verdict::Kind::Unspecified => {
                return Err(format!("{key}: a verdict of a later version"));
            }
        }
        Ok(())
    }

    /// The next heartbeat but for its numbers.
    pub(crate) fn heartbeat(&mut self, now: Instant) -> v1::Heartbeat {
        let mut running = Vec::new();
        let mut free_slots = Vec::new();
        let paused = self.paused_until.is_some_and(|until| now < until);
        for (slot, seat) in (0..).zip(&self.seats) {
            match &seat.state {
                SeatState::Busy(work) => running.push(v1::RunningAttempt {
                    key: Some((&work.key).into()),
                    slot,
                    step: work.step,
                    tokens_per_second: work.tokens_per_second,
                }),
                SeatState::Free if !paused && self.draining.is_none() => free_slots.push(slot),
                _ => {}
            }
        }
        let mut ended = self.spool.keys();
        ended.retain(|key| self.slot_of(key).is_none());
        let devices = if std::mem::take(&mut self.devices_changed) {
            self.devices.iter().map(Into::into).collect()
        } else {
            Vec::new()
        };
        v1::Heartbeat {
            worker_id: self.identity.worker_id.clone(),
            incarnation: self.identity.incarnation,
            running,
            ended: ended.iter().map(Into::into).collect(),
            free_slots,
            draining: self.draining.is_some(),
            devices,
            ..v1::Heartbeat::default()
        }
    }
}

impl SeatState {
    fn cores(&self) -> Use {
        match self {
            Self::Busy(_) => Use::Trains,
            Self::Starting => Use::Starts,
            Self::Free | Self::Unusable => Use::Lends,
        }
    }
}

impl Seat {
    /// Stops what runs here; a second stop adds nothing.
    fn stop(&mut self) {
        if let SeatState::Busy(work) = &mut self.state
            && !work.stopping
        {
            work.stopping = self.orders.try_send(SlotOrder::Stop).is_ok();
        }
    }
}

/// Seconds between two checkpoints of a run.
fn checkpoint_seconds(run: &Run) -> f64 {
    let guessed_seconds = run.config.own_flops() / GUESSED_FLOPS_PER_SECOND;
    (CHECKPOINT_SHARE * guessed_seconds).clamp(CHECKPOINT_SECONDS_MIN, CHECKPOINT_SECONDS_MAX)
}

/// File beside the checkpoints of a trunk with the steps that branches fork from.
const FORKS: &str = "forks.json";

/// Makes the folder of a run's checkpoints and removes those beyond the newest one of this worker
/// that was committed: the points before them may be lost, and a run resumed from there would leave
/// a hole in its curve.
fn keep_committed(folder: &Path, committed: Option<u64>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (step, path) in checkpoints_in(folder)? {
        if committed.is_none_or(|newest| step > newest) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Writes down which checkpoints outlive their run; nothing where there are none.
fn note_forks(folder: &Path, forks: &[u64]) -> io::Result<()> {
    if forks.is_empty() {
        return Ok(());
    }
    fs::write(folder.join(FORKS), serde_json::to_vec(forks)?)
}

/// Removes all but the newest checkpoint of a run and those that branches fork from.
fn keep_newest(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let forks: Vec<u64> = match fs::read(folder.join(FORKS)) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut found = checkpoints_in(folder)?;
    found.sort_unstable();
    found.pop();
    let mut old = found.iter().filter(|(step, _)| !forks.contains(step));
    old.try_for_each(|(_, path)| remove(path))
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Steps and paths of the checkpoints in a folder, as the trainer names them.
fn checkpoints_in(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(step) = name.and_then(|name| name.strip_prefix("step-")?.parse().ok()) {
            found.push((step, path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
