//! When a run is given up, and when a device is left alone: budgets by cause, no progress, poison,
//! bad devices.
//!
//! What a run has used of its budgets is stored with it. Who was lost under it, and where devices
//! failed, is known since the coordinator's start: at worst a rule takes a few failures longer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use sweep_store::Failures;

use super::Scheduler;

/// Failures of the trainer or the run: what fails three times fails again.
pub(super) const FAILURES_PROGRAM_MAX: u32 = 3;

/// Failures of machines: a preemption is not the run's fault.
pub(super) const FAILURES_INFRASTRUCTURE_MAX: u32 = 100;

/// Failed attempts in a row that left no newer checkpoint: no progress.
pub(super) const FAILURES_WITHOUT_CHECKPOINT_MAX: u32 = 3;

/// Workers lost under a run since its last checkpoint: what took three with it takes the next.
const WORKERS_LOST_MAX: usize = 3;

/// Runs that failed on a device for want of the machine, within the period: the device is at fault.
const DEVICE_FAILURES_MAX: usize = 3;
const DEVICE_FAILURES_PERIOD: Duration = Duration::from_mins(10);

/// A device at fault takes no run for so long; then it may show whether it still is.
const QUARANTINE: Duration = Duration::from_mins(30);

/// Why no further attempt is made, if a rule says so.
pub(super) fn given_up(failures: Failures, lost_on: &BTreeSet<String>) -> Option<String> {
    if failures.program >= FAILURES_PROGRAM_MAX {
        Some(format!("{} attempts failed", failures.program))
    } else if failures.infrastructure >= FAILURES_INFRASTRUCTURE_MAX {
        Some(format!("{} attempts were lost", failures.infrastructure))
    } else if failures.without_checkpoint >= FAILURES_WITHOUT_CHECKPOINT_MAX {
        Some(format!("{} attempts left no newer checkpoint", failures.without_checkpoint))
    } else if lost_on.len() >= WORKERS_LOST_MAX {
        let names: Vec<&str> = lost_on.iter().map(String::as_str).collect();
        Some(format!("workers were lost under it one after another: {}", names.join(", ")))
    } else {
        None
    }
}

/// What is known of devices that fail runs.
#[derive(Clone, Debug, Default)]
pub(super) struct BadDevices {
    /// Failures of the last minutes, with their runs, by worker and device.
    failures: BTreeMap<(String, String), VecDeque<(Duration, usize)>>,
    /// Devices that take no run, until when.
    quarantined: BTreeMap<(String, String), Duration>,
}

impl BadDevices {
    /// Takes note that a run failed on a device for want of the machine. Failures of one run alone
    /// say more about the run.
    fn note(&mut self, now: Duration, worker: &str, device: &str, run: usize) {
        let place = (worker.to_owned(), device.to_owned());
        let failures = self.failures.entry(place.clone()).or_default();
        failures.retain(|(at, other)| now < *at + DEVICE_FAILURES_PERIOD && *other != run);
        failures.push_back((now, run));
        if failures.len() >= DEVICE_FAILURES_MAX {
            self.failures.remove(&place);
            self.quarantined.insert(place, now + QUARANTINE);
        }
    }

    /// Whether a device takes no run now.
    pub(super) fn holds(&self, now: Duration, worker: &str, device: &str) -> bool {
        // The usual case costs nothing.
        !self.quarantined.is_empty()
            && self
                .quarantined
                .get(&(worker.to_owned(), device.to_owned()))
                .is_some_and(|until| now < *until)
    }

    /// Devices that take no run now, with the time left.
    pub(super) fn list(&self, now: Duration) -> impl Iterator<Item = (&str, &str, Duration)> {
        self.quarantined
            .iter()
            .filter(move |(_, until)| now < **until)
            .map(move |((worker, device), until)| (worker.as_str(), device.as_str(), *until - now))
    }
}

impl Scheduler {
    /// Notes against its device that a run's attempt failed for want of the machine.
    pub(super) fn blame_device(&mut self, now: Duration, index: usize) {
        let Some(live) = &self.runs[index].live else { return };
        if let Some(device) = &live.device_id {
            self.bad_devices.note(now, &live.worker, device, index);
        }
    }
}
