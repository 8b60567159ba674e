//! Memory: a run goes only to a slot whose memory suffices for it. Where none there has enough, it
//! waits.
//!
//! What a run needs is estimated from its shape and batch; of a processor it is the least peak that
//! one of its kind was trained to the end with, since the process is all that is counted there. What
//! ran out of memory goes where there is more, if that is anywhere; else it is tried where it was,
//! until its budget is used up. Unknown memory is taken to suffice.

use std::time::Duration;

use sweep_spec::{
    attempt::{Device, Ending, FailureCause, RunState},
    id::SweepId,
    plan::{largest_estimate, slot_memory_bytes, suffices},
    units::bytes,
};

use super::{
    Ended, Scheduler,
    fork::Fork,
    state::{RunEntry, WorkerEntry},
};

/// After a worker came, more may come: only then is a sweep said to lack memory.
const COMING: Duration = Duration::from_mins(1);

/// The backend whose memory is that of the trainer's process.
const PROCESSOR: &str = "cpu";

/// Memory that a run needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// On a processor.
    processor: u64,
    /// On any other device.
    card: u64,
    /// It ran out of so much; 0 where it never did.
    ran_out_of: u64,
}

/// Memory of a slot in bytes; all there can be where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    bytes: u64,
    is_processor: bool,
}

impl Room {
    fn suffices(self, need: Need) -> bool {
        suffices(if self.is_processor { need.processor } else { need.card }, self.bytes)
    }
}

/// The most memory of a slot; absent where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rooms {
    processor: Option<Room>,
    card: Option<Room>,
}

impl Rooms {
    fn of<'a>(workers: impl Iterator<Item = &'a WorkerEntry>) -> Self {
        let mut rooms = Self::default();
        for room in workers.flat_map(WorkerEntry::rooms) {
            let most = if room.is_processor { &mut rooms.processor } else { &mut rooms.card };
            if most.is_none_or(|most| most.bytes < room.bytes) {
                *most = Some(room);
            }
        }
        rooms
    }

    fn all(self) -> impl Iterator<Item = Room> {
        self.processor.into_iter().chain(self.card)
    }

    /// Whether one of them suffices.
    fn suffice(self, need: Need) -> bool {
        self.all().any(|room| room.suffices(need))
    }

    /// Whether a run may go to a slot while these are the largest. One that ran out of memory waits
    /// for more of it, where there is more; else only the largest slots are worth another try.
    pub(super) fn admit(self, room: Room, need: Need) -> bool {
        let larger = |one: Room| one.bytes > room.bytes && one.suffices(need);
        room.suffices(need) && (room.bytes > need.ran_out_of || !self.all().any(larger))
    }
}

impl WorkerEntry {
    /// The memory of a slot on a device.
    fn room_on(&self, device: &Device) -> Room {
        let shared = self.slots.iter().filter(|entry| entry.slot.device_id == device.id).count();
        let slots = u32::try_from(shared).unwrap_or(u32::MAX);
        Room {
            bytes: device.memory_bytes.map_or(u64::MAX, |all| slot_memory_bytes(all, slots)),
            is_processor: device.backend == PROCESSOR,
        }
    }

    /// The memory of a slot by its number; none for one that is not known.
    pub(super) fn room(&self, slot: u32) -> Option<Room> {
        Some(self.room_on(self.device_of(&self.slot(slot)?.slot)?))
    }

    /// The memory of a slot on a device by its id.
    fn room_of(&self, device: &str) -> Option<Room> {
        self.devices.iter().find(|one| one.id == device).map(|device| self.room_on(device))
    }

    /// That of a slot on each device which has one.
    fn rooms(&self) -> impl Iterator<Item = Room> {
        let has_slot =
            |device: &&Device| self.slots.iter().any(|entry| entry.slot.device_id == device.id);
        self.devices.iter().filter(has_slot).map(|device| self.room_on(device))
    }
}

impl Scheduler {
    /// What a run needs.
    pub(super) fn need(&self, run: &RunEntry) -> Need {
        let measured = self.peaks.get(&run.kin).copied();
        Need {
            processor: measured.unwrap_or(run.memory_bytes),
            card: run.memory_bytes,
            ran_out_of: run.ran_out_of,
        }
    }

    /// Looks anew for the largest slots: workers, their devices or whether they leave changed.
    pub(super) fn measure_rooms(&mut self) {
        let there = |worker: &&WorkerEntry| worker.expires.is_some() && !worker.draining;
        self.rooms = Rooms::of(self.workers.values().filter(there));
    }

    /// Whether a run may go to some slot of a worker.
    pub(super) fn has_room(&self, worker: &WorkerEntry, run: &RunEntry) -> bool {
        let need = self.need(run);
        worker.rooms().any(|room| self.rooms.admit(room, need))
    }

    /// Whether a run waits because no worker has the memory for it.
    pub(super) fn waits_for_memory(&self, run: &RunEntry) -> bool {
        self.rooms.all().next().is_some() && !self.rooms.suffice(self.need(run))
    }

    /// Learns from the end of an attempt what its kind needs, or that it needs more than was there.
    pub(super) fn learn_memory(&mut self, index: usize, ended: &Ended) {
        let run = &self.runs[index];
        let kin = run.kin;
        let place = run
            .live
            .as_ref()
            .and_then(|live| self.workers.get(&live.worker)?.room_of(live.device_id.as_deref()?));
        let Some(room) = place else { return };
        match (&ended.ending, ended.peak_memory_bytes) {
            (Ending::Finished { .. }, Some(peak))
                if room.is_processor && ended.steps().is_some_and(|steps| steps > 0) =>
            {
                // Where it was trained to the end, memory sufficed: mapped data count in a peak too,
                // and the system takes them back when it must.
                let peak = peak.min(largest_estimate(room.bytes));
                let least = self.peaks.entry(kin).or_insert(peak);
                *least = peak.min(*least);
                self.learnt = true;
            }
            (Ending::Failed { cause: FailureCause::Memory, .. }, _) if room.bytes < u64::MAX => {
                let run = &mut self.runs[index];
                run.ran_out_of = run.ran_out_of.max(room.bytes);
            }
            _ => {}
        }
    }

    /// Which workers online have no memory for a run, in sentences.
    pub(super) fn explain_memory(&self, run: &RunEntry) -> Vec<String> {
        let need = self.need(run);
        let online = self.workers.iter().filter(|(_, worker)| worker.takes_runs());
        let lacking = online.filter(|(_, worker)| !self.has_room(worker, run));
        let line = |(id, worker): (&String, &WorkerEntry)| {
            let room = worker.rooms().max_by_key(|room| (room.suffices(need), room.bytes))?;
            let have = bytes(room.bytes);
            if room.suffices(need) {
                return Some(format!(
                    "Worker {id} has {have} of memory for it, and it ran out of {} before: it \
                     waits for one with more.",
                    bytes(need.ran_out_of)
                ));
            }
            let (need, how) = match self.peaks.get(&run.kin) {
                Some(_) if room.is_processor => (need.processor, "as was measured"),
                _ if room.is_processor => (need.processor, "as is estimated"),
                _ => (need.card, "as is estimated"),
            };
            let several = worker.slots.len() > worker.devices.len();
            let hint = if several { "; hint: with fewer slots there, each has more" } else { "" };
            Some(format!(
                "The memory of worker {id} does not suffice: it needs {}, {how}, and a slot there \
                 has {have}, a tenth of which is kept free{hint}.",
                bytes(need)
            ))
        };
        lacking.filter_map(line).collect()
    }

    /// Why nothing more of a sweep is trained, where what waits needs more memory than any worker has
    /// that was seen so far, and nothing is trained.
    pub(crate) fn lacks_memory(&self, now: Duration, sweep: &SweepId) -> Option<String> {
        let number = self.sweep_number(sweep)?;
        if now < self.joined + COMING {
            return None;
        }
        let members = self.sweeps[number].members.iter().map(|&(index, _)| index);
        let mut waiting = Vec::new();
        for index in members {
            let run = &self.runs[index];
            if run.live.is_some() {
                return None;
            }
            let is_next = run.state == RunState::Queued
                && !matches!(self.fork(run), Fork::Waits(_))
                && self.is_afforded(index);
            if is_next && !self.waits_for_memory(run) {
                return None;
            }
            waiting.extend(is_next.then(|| self.need(run)));
        }
        let known = Rooms::of(self.workers.values());
        let least = waiting.iter().map(|need| need.processor.min(need.card)).min()?;
        if waiting.iter().any(|&need| known.suffice(need)) {
            return None;
        }
        let most = known.all().map(|room| room.bytes).max().unwrap_or_default();
        Some(format!(
            "its {} runs that wait need {} of memory or more, and a slot has {} at most, a tenth of \
             which is kept free",
            waiting.len(),
            bytes(least),
            bytes(most)
        ))
    }
}
