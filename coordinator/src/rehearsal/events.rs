//! What happens in a rehearsal: sweeps of small models, workers of one device, heartbeats and ends.

use std::time::Duration;

use sweep_spec::{
    attempt::{AttemptKey, Device, Ending, RunState, Slot},
    id::{DataId, SweepId},
    policy::Policy,
    run::{RunConfig, RunRole},
    shape::{LmShape, Mlp, Shape},
    training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
};
use sweep_store::{Failures, SavedRun};

use crate::scheduler::{Action, Beat, Ended, Event, Grant, Held, Joined, Running};

/// A run of a small language model.
pub(crate) fn config(width: u32, steps: u64) -> RunConfig {
    RunConfig {
        training_revision: TRAINING_REVISION,
        shape: Shape::Lm(LmShape {
            vocabulary: 256,
            width,
            layers: 2,
            heads: width / 16,
            sequence: 64,
            mlp: Mlp::Relu2,
            token_shift: false,
        }),
        data: "00112233445566778899aabbccddeeff".parse::<DataId>().expect("32 digits"),
        batch: 16,
        steps,
        optimizer: Optimizer {
            learning_rate: 1e-2,
            base_width: 64,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
        },
        schedule: Schedule {
            warmup_steps: 100,
            warmup_fraction: 0.1,
            decay: Decay::Wsd { fraction: 0.2 },
        },
        seed: 1,
        parent: None,
        mixture: Vec::new(),
    }
}

/// A run that waits for its first attempt.
pub(crate) fn saved(config: &RunConfig) -> SavedRun {
    SavedRun {
        id: config.id(),
        state: RunState::Queued,
        attempts: 0,
        config: config.clone(),
        failures: Failures::default(),
        checkpoint: None,
        checkpoints: Vec::new(),
        kept: Vec::new(),
        live: None,
        reason: None,
        paused: false,
        dropped: false,
    }
}

/// The sweep of a number, handed in.
pub(crate) fn sweep(number: u64, members: &[(RunConfig, RunRole)]) -> Event {
    Event::Sweep {
        id: sweep_id(number),
        members: members.iter().map(|(config, role)| (config.id(), *role)).collect(),
        runs: members.iter().map(|(config, _)| saved(config)).collect(),
        cancelled: false,
        policy: Policy::default(),
    }
}

pub(crate) fn sweep_id(number: u64) -> SweepId {
    format!("{number:032x}").parse().expect("32 digits")
}

/// A worker with slots on one device.
pub(crate) fn joined(worker: &str, slots: u32, incarnation: u64, held: Vec<Held>) -> Joined {
    Joined {
        worker: worker.into(),
        host: "box".into(),
        incarnation,
        start_id: String::new(),
        devices: vec![Device {
            id: "cpu".into(),
            name: "AMD EPYC".into(),
            backend: "cpu".into(),
            memory_bytes: None,
            software: false,
            refused: None,
            canary: Some("reference".into()),
        }],
        slots: (0..slots).map(|index| Slot { index, device_id: "cpu".into() }).collect(),
        held,
        lifetime: None,
    }
}

pub(crate) fn join(worker: &str, slots: u32, incarnation: u64, held: Vec<Held>) -> Event {
    Event::Join(joined(worker, slots, incarnation, held))
}

/// A heartbeat that knows of every directive.
pub(crate) fn beat(worker: &str, incarnation: u64, running: &[AttemptKey], free: &[u32]) -> Event {
    Event::Beat(Beat {
        worker: worker.into(),
        incarnation,
        received: u64::MAX,
        running: running
            .iter()
            .map(|key| Running { key: key.clone(), step: 1, tokens_per_second: None })
            .collect(),
        free_slots: free.to_vec(),
        ..Beat::default()
    })
}

/// The end of an attempt from the beginning, and the seconds that were measured, if they were.
pub(crate) fn ended_in(key: &AttemptKey, ending: Ending, seconds: Option<f64>) -> Event {
    Event::Ended(Ended {
        key: key.clone(),
        ending,
        resume_step: Some(0),
        seconds,
        peak_memory_bytes: None,
        points_thinned: 0,
    })
}

/// What was granted.
pub(crate) fn grants(actions: &[Action]) -> Vec<Grant> {
    let grant = |action: &Action| match action {
        Action::Grant(grant) => Some(grant.clone()),
        _ => None,
    };
    actions.iter().filter_map(grant).collect()
}

pub(crate) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
