//! The search for runs that suit slots, in one placing.
//!
//! Whether a run waits, and who alone may take it, is asked once for all slots: what waits is sorted
//! into runs for any worker and runs for a few, so that a slot is shown none that it cannot have,
//! and so that the placing is over when nothing is left.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use sweep_spec::attempt::RunState;

use super::{Scheduler, fork::Fork, memory::Room, policy::Waiting, state::RunEntry};

/// Runs that are looked at for a better one, at the beginning of the queue and again behind it.
/// With 256 grants it is some 30,000 looks of less than a microsecond.
const LOOKS_MAX: usize = 64;

/// What of the queue was looked at in a placing. All numbers are places in the queue.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// What comes before was looked at.
    next: usize,
    /// Runs that wait for any worker, in order.
    open: VecDeque<usize>,
    /// Runs that wait for some workers only, in order, by worker.
    bound: HashMap<String, VecDeque<usize>>,
    /// Memory of slots that suffices for none of the runs that wait for any worker. Slots of a fleet
    /// are alike, and the queue may be long.
    barren: Vec<Room>,
}

/// A list of a [`Search`].
#[derive(Clone, Copy)]
enum List {
    Open,
    Bound,
}

impl Search {
    /// The run at or after these places of the two lists that comes first in the queue.
    fn first(&self, worker: &str, open: usize, bound: usize) -> Option<(List, usize)> {
        let open = self.open.get(open).copied();
        let bound = self.bound.get(worker).and_then(|places| places.get(bound)).copied();
        match (open, bound) {
            (Some(open), Some(bound)) if bound < open => Some((List::Bound, bound)),
            (Some(open), _) => Some((List::Open, open)),
            (None, bound) => Some((List::Bound, bound?)),
        }
    }

    fn remove(&mut self, list: List, worker: &str, at: usize) {
        match list {
            List::Open => {
                self.open.remove(at);
            }
            List::Bound => {
                if let Some(places) = self.bound.get_mut(worker) {
                    places.remove(at);
                    if places.is_empty() {
                        self.bound.remove(worker);
                    }
                }
            }
        }
    }
}

impl Scheduler {
    /// A search from the first run that waits.
    pub(super) fn search(&mut self) -> Search {
        while let Some(&Waiting { index, .. }) = self.queue.get(self.queue_head)
            && (self.runs[index].state != RunState::Queued || self.runs[index].live.is_some())
        {
            self.queue_head += 1;
        }
        Search { next: self.queue_head, ..Search::default() }
    }

    /// Whether a run may be left for some worker.
    pub(super) fn has_more(&self, now: Duration, search: &mut Search) -> bool {
        while search.open.is_empty() && search.bound.is_empty() {
            if !self.look_further(now, search) {
                return false;
            }
        }
        true
    }

    /// Sorts the next run of the queue in, if it waits; says whether there was a next one.
    fn look_further(&self, now: Duration, search: &mut Search) -> bool {
        let Some(&waiting) = self.queue.get(search.next) else { return false };
        let place = search.next;
        search.next += 1;
        if !self.waits(now, waiting) {
            return true;
        }
        match self.only_on(now, &self.runs[waiting.index]) {
            None => search.open.push_back(place),
            Some(workers) => {
                for worker in workers {
                    search.bound.entry(worker.to_owned()).or_default().push_back(place);
                }
            }
        }
        true
    }

    /// The longest waiting run, if it can one that suits the slot well. Once there is one that may
    /// go there, a better one is looked for in a part of the queue only: at its beginning, and then
    /// at places that are spread evenly over the rest, down to the shortest runs at its end.
    pub(super) fn next_run(
        &self,
        now: Duration,
        search: &mut Search,
        worker: &str,
        slot: u32,
    ) -> Option<Waiting> {
        let room = self.workers.get(worker)?.room(slot)?;
        let barren = search.barren.contains(&room);
        let (mut open, mut bound) = (if barren { usize::MAX } else { 0 }, 0);
        let (mut second, mut looks, mut has_room) = (None, 0, barren);
        loop {
            let Some((list, place)) = search.first(worker, open, bound) else {
                if self.look_further(now, search) {
                    continue;
                }
                if !has_room {
                    search.barren.push(room);
                }
                return second;
            };
            let at = match list {
                List::Open => &mut open,
                List::Bound => &mut bound,
            };
            let waiting = self.queue[place];
            // What was granted since, or cannot be afforded since, does not wait again.
            if !self.waits(now, waiting) {
                search.remove(list, worker, *at);
                continue;
            }
            *at += 1;
            // First of all: it is told from the queue alone.
            if !self.rooms.admit(room, waiting.need) {
                continue;
            }
            has_room |= matches!(list, List::Open);
            if self.suits_well(now, waiting, worker, slot) {
                return Some(waiting);
            }
            second = second.or(Some(waiting));
            looks += 1;
            if looks == LOOKS_MAX {
                return self.sample(now, place + 1, worker, slot, room).or(second);
            }
        }
    }

    /// A run that suits the slot well, among some that are spread evenly over the queue from a place
    /// on.
    fn sample(
        &self,
        now: Duration,
        from: usize,
        worker: &str,
        slot: u32,
        room: Room,
    ) -> Option<Waiting> {
        let rest = self.queue.get(from..)?;
        let stride = rest.len().div_ceil(LOOKS_MAX).max(1);
        let well = |waiting: &&Waiting| {
            let only_on = || self.only_on(now, &self.runs[waiting.index]);
            self.waits(now, **waiting)
                && self.rooms.admit(room, waiting.need)
                && only_on().is_none_or(|workers| workers.contains(&worker))
                && self.suits_well(now, **waiting, worker, slot)
        };
        // The last of each part: the shortest runs at the end are among them.
        rest.iter().skip(stride - 1).step_by(stride).find(well).copied()
    }

    /// Whether a run in the queue would be granted now, had it a slot.
    fn waits(&self, now: Duration, waiting: Waiting) -> bool {
        let run = &self.runs[waiting.index];
        run.state == RunState::Queued
            && run.live.is_none()
            && run.not_before <= now
            && self.affords(waiting.sweep, waiting.flops)
    }

    /// The workers that alone may take a run now; nothing where any may. A branch waits for a worker
    /// that has its trunk's checkpoint as long as there may be one: elsewhere it would train the
    /// steps of its trunk again. So would a run whose newest checkpoint is being handed in.
    pub(super) fn only_on<'a>(&'a self, now: Duration, run: &'a RunEntry) -> Option<Vec<&'a str>> {
        if let Some((_, worker)) = self.hands_in(now, run) {
            return Some(vec![worker]);
        }
        match (&run.checkpoint, self.fork(run)) {
            (None, Fork::At(holders)) if self.is_worth_waiting(now, run, holders) => {
                Some(holders.iter().map(String::as_str).collect())
            }
            _ => None,
        }
    }
}
