//! When a run is given up, and when a device or a worker is left alone: budgets by cause, no
//! progress, poison, bad places.
//!
//! What a run has used of its budgets is stored with it. Who was lost under it, and where devices
//! failed, is known since the coordinator's start: at worst a rule takes a few failures longer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use sweep_store::Failures;

use super::Scheduler;

/// Failures of the trainer or the run, and for want of memory: what fails three times fails again.
pub(super) const FAILURES_PROGRAM_MAX: u32 = 3;

/// Failures of machines, and of what they are to fetch: a preemption is not the run's fault.
pub(super) const FAILURES_INFRASTRUCTURE_MAX: u32 = 100;

/// Failed attempts in a row that left no newer checkpoint: no progress.
pub(super) const FAILURES_WITHOUT_CHECKPOINT_MAX: u32 = 3;

/// Workers lost under a run since its last checkpoint: what took three with it takes the next.
const WORKERS_LOST_MAX: usize = 3;

/// Runs that failed on a device for want of the machine, within the period: the device is at fault.
const DEVICE_FAILURES_MAX: usize = 3;
const FAILURES_PERIOD: Duration = Duration::from_mins(10);

/// Devices of one worker with a failure within the period, each of another run: what they share is
/// at fault, the machine or its driver.
const WORKER_DEVICES_MAX: usize = 3;

/// What is at fault takes no run for so long; then it may show whether it still is.
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

/// What is known of devices, and of whole workers, that fail runs.
#[derive(Clone, Debug, Default)]
pub(super) struct BadPlaces {
    /// Failures of the last minutes, with their runs, by worker and device.
    failures: BTreeMap<(String, String), VecDeque<(Duration, usize)>>,
    /// The last failure of each device with its run, by worker. No run is in it twice.
    by_worker: BTreeMap<String, BTreeMap<String, (Duration, usize)>>,
    /// Devices that take no run, until when.
    devices: BTreeMap<(String, String), Duration>,
    /// Workers that take no run, until when.
    workers: BTreeMap<String, Duration>,
}

impl BadPlaces {
    /// Takes note that a run failed on a device for want of the machine. Failures of one run alone
    /// say more about the run.
    fn note(&mut self, now: Duration, worker: &str, device: &str, run: usize) {
        let recent = |at: Duration| now < at + FAILURES_PERIOD;
        let place = (worker.to_owned(), device.to_owned());
        let failures = self.failures.entry(place.clone()).or_default();
        failures.retain(|&(at, other)| recent(at) && other != run);
        failures.push_back((now, run));
        if failures.len() >= DEVICE_FAILURES_MAX {
            self.failures.remove(&place);
            self.devices.insert(place, now + QUARANTINE);
        }
        let devices = self.by_worker.entry(worker.to_owned()).or_default();
        devices.retain(|_, (at, other)| recent(*at) && *other != run);
        devices.insert(device.to_owned(), (now, run));
        if devices.len() >= WORKER_DEVICES_MAX {
            self.by_worker.remove(worker);
            self.workers.insert(worker.to_owned(), now + QUARANTINE);
        }
    }

    /// Whether a device takes no run now.
    pub(super) fn holds(&self, now: Duration, worker: &str, device: &str) -> bool {
        // The usual case costs nothing.
        !self.devices.is_empty()
            && self
                .devices
                .get(&(worker.to_owned(), device.to_owned()))
                .is_some_and(|until| now < *until)
    }

    /// Whether a worker takes no run now.
    pub(super) fn holds_worker(&self, now: Duration, worker: &str) -> bool {
        self.workers.get(worker).is_some_and(|until| now < *until)
    }

    /// What takes no run now and why, in sentences.
    pub(super) fn explain(&self, now: Duration) -> Vec<String> {
        let minutes = |until: &Duration| (*until - now).as_secs() / 60 + 1;
        let workers = self.workers.iter().filter(|(_, until)| now < **until);
        let devices = self.devices.iter().filter(|(_, until)| now < **until);
        let mut lines: Vec<String> = workers
            .map(|(worker, until)| {
                format!(
                    "Worker {worker} takes no run for {} min more: runs failed on \
                     {WORKER_DEVICES_MAX} of its devices within ten minutes.",
                    minutes(until)
                )
            })
            .collect();
        lines.extend(devices.map(|((worker, device), until)| {
            format!(
                "Device {device} of worker {worker} takes no run for {} min more: three runs failed \
                 there within ten minutes.",
                minutes(until)
            )
        }));
        lines
    }
}

impl Scheduler {
    /// Notes against its device that a run's attempt failed for want of the machine.
    pub(super) fn blame_device(&mut self, now: Duration, index: usize) {
        let Some(live) = &self.runs[index].live else { return };
        if let Some(device) = &live.device_id {
            self.bad_places.note(now, &live.worker, device, index);
        }
    }
}
