//! What slots tell, and what it means for their attempts.

use std::time::Instant;

use sweep_spec::attempt::{Ending, FailureCause};
use tracing::Span;

use super::{Changed, Seat, SeatState, Supervisor, Work};
use crate::{
    pipe::Memory,
    slot::{SlotEvent, SlotNews},
    spool::End,
};

impl Supervisor {
    /// Takes in what a slot tells.
    pub(crate) fn slot_event(&mut self, event: SlotEvent, now: Instant) -> Changed {
        let seat = &mut self.seats[event.slot];
        if let SlotNews::Ready { passed, .. } = event.news {
            seat.canary_passed = Some(passed);
        }
        if !seat.is_current(&event) {
            note_older(&event);
            return Changed::default();
        }
        let span = match &seat.state {
            SeatState::Busy(work) => work.span.clone(),
            _ => Span::none(),
        };
        let changed = span.in_scope(|| self.take_news(event, now));
        if changed.beat {
            // Slots begin and end with a heartbeat: between two runs is the time for a canary.
            self.renew(now);
            self.share_cores();
        }
        changed
    }

    fn take_news(&mut self, event: SlotEvent, now: Instant) -> Changed {
        let slot = event.slot;
        let seat = &mut self.seats[slot];
        match (event.news, &mut seat.state) {
            // The slot has a new trainer while checkpoints come in.
            (SlotNews::Ready { .. }, SeatState::Busy(Work { waits: Some(_), .. })) => {
                Changed::default()
            }
            // The order was taken, but by a slot without a trainer.
            (SlotNews::Ready { .. }, SeatState::Busy(work)) => {
                let key = work.key.clone();
                seat.state = SeatState::Free;
                let reason = "the trainer was lost before it took the order".to_owned();
                self.fail(&key, FailureCause::Infrastructure, reason);
                Changed { beat: true, spooled: true }
            }
            (SlotNews::Ready { canary, .. }, state) => {
                *state = SeatState::Free;
                let device_id = seat.device_id.clone();
                self.note_canary(&device_id, canary);
                Changed { beat: true, spooled: false }
            }
            (SlotNews::Unusable { reason }, state) => {
                let device_id = seat.device_id.clone();
                let before = std::mem::replace(state, SeatState::Unusable);
                tracing::error!(slot, "device {device_id} takes no more runs: {reason}");
                self.refuse_device(&device_id, &reason);
                let left = matches!(before, SeatState::Busy(_));
                if let SeatState::Busy(work) = before {
                    self.fail(&work.key, FailureCause::Infrastructure, reason);
                }
                Changed { beat: true, spooled: left }
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

    /// Keeps what the canary of a device found.
    fn note_canary(&mut self, device_id: &str, canary: String) {
        for device in self.devices.iter_mut().filter(|device| device.id == device_id) {
            if device.canary.as_ref() != Some(&canary) {
                tracing::debug!("{device_id}: canary passed, {canary}");
                device.canary = Some(canary.clone());
                self.devices_changed = true;
            }
        }
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
}

/// Notes news that an order has overtaken. An idle trainer may be replaced at any time; but no order
/// is given while a run has not ended, so there is nothing else that one could overtake.
fn note_older(SlotEvent { slot, news, .. }: &SlotEvent) {
    match news {
        SlotNews::Ready { .. } => {
            tracing::debug!(slot, "its trainer was replaced as an order was given");
        }
        news => tracing::error!(slot, "news of an earlier order is dropped: {news:?}"),
    }
}
