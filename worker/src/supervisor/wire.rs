//! What goes to the coordinator about this worker, and what it answers to a `Join`.

use std::time::Instant;

use sweep_proto::{convert, v1};

use super::{SeatState, Supervisor};

impl Supervisor {
    /// What `Join` says.
    pub(crate) fn join_request(&self, now: Instant) -> v1::JoinRequest {
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
            start_id: self.identity.start_id.clone(),
            host: self.identity.host.clone(),
            devices: self.devices.iter().map(Into::into).collect(),
            slots: slots.collect(),
            held: held.collect(),
            lifetime_ms: self.end.map(|end| {
                let left = end.saturating_duration_since(now).as_millis();
                u64::try_from(left).unwrap_or(u64::MAX)
            }),
        }
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
