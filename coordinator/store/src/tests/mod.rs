//! What the tests of stores stand on: places for a store, and things to put into it.

mod conformance;
mod doctor;
mod lineage;
mod memory;
mod postgres;
mod schema;
mod select;
mod sqlite;
mod trunk;

use sweep_spec::{
    attempt::{AttemptKey, Device, RunState},
    data::{DataManifest, DataSource, Synthetic},
    id::{DataId, RunId, SweepId},
    metric::{Metric, Point},
    run::{Evaluation, Run, RunConfig, RunRole},
    shape::{LmShape, Mlp, Shape},
    training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
};

use crate::*;

/// Where the store of one test lies; opened again, it holds what it held.
pub(crate) enum Place {
    Memory(Memory),
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

impl Place {
    pub(crate) async fn open(&self) -> Store {
        match self {
            Self::Memory(memory) => Store::Memory(memory.clone()),
            Self::Sqlite(folder) => {
                let path = folder.path().join("deep/sweep.db");
                Store::open(&format!("sqlite:{}", path.display())).await.unwrap()
            }
            Self::Postgres(address) => Store::open(address).await.unwrap(),
        }
    }

    /// Opens it with a worker in it.
    pub(crate) async fn with_worker(&self) -> Store {
        let store = self.open().await;
        assert!(store.join_worker("w", "box", 2, &[device()], 1).await.unwrap());
        store
    }
}

/// Turns of one kind.
impl Store {
    pub(crate) async fn mark_sweep(
        &self,
        sweep: &SweepId,
        cancelled: bool,
    ) -> Result<(), StoreError> {
        let marks = vec![(sweep.clone(), cancelled)];
        self.turn(&Turn { marks, ..Turn::default() }).await.map(|_| ())
    }

    pub(crate) async fn end(&self, rows: &[EndRow]) -> Result<Vec<Applied>, StoreError> {
        Ok(self.turn(&Turn { ends: rows.to_vec(), ..Turn::default() }).await?.ends)
    }

    pub(crate) async fn set_states(&self, rows: &[StateRow]) -> Result<(), StoreError> {
        self.turn(&Turn { states: rows.to_vec(), ..Turn::default() }).await.map(|_| ())
    }

    pub(crate) async fn grant(
        &self,
        rows: &[GrantRow],
    ) -> Result<Vec<Option<Granted>>, StoreError> {
        Ok(self.turn(&Turn { grants: rows.to_vec(), ..Turn::default() }).await?.grants)
    }
}

pub(crate) fn device() -> Device {
    Device {
        id: "cpu".into(),
        name: "AMD EPYC".into(),
        backend: "cpu".into(),
        memory_bytes: Some(1 << 30),
        software: false,
        refused: Some("its canary failed".into()),
        canary: Some("0.1 % off".into()),
    }
}

pub(crate) fn run(steps: u64) -> Run {
    let data: DataId = "00112233445566778899aabbccddeeff".parse().unwrap();
    Run {
        config: RunConfig {
            training_revision: TRAINING_REVISION,
            shape: Shape::Lm(LmShape {
                vocabulary: 256,
                width: 32,
                layers: 2,
                heads: 2,
                sequence: 64,
                mlp: Mlp::SwiGlu,
                token_shift: false,
            }),
            data: data.clone(),
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
                decay: Decay::Cosine { floor: 0.1 },
            },
            seed: u64::MAX,
            parent: None,
            mixture: Vec::new(),
        },
        source: DataSource::Synthetic(Synthetic {
            vocabulary: 256,
            entropy: 2.0,
            contexts: 16,
            tokens: 1_000_000,
            seed: 0,
        }),
        manifest: DataManifest {
            id: data,
            vocabulary: 256,
            train_tokens: 1_000_000,
            validation_tokens: 10_000,
            bytes_per_token: None,
            train_documents: 10,
            validation_documents: 1,
            entropy: Some(2.0),
            image: None,
        },
        evaluation: Evaluation { tokens: 1000, times: 3, sampling: None, tasks: Vec::new() },
        forks: Vec::new(),
    }
}

pub(crate) fn sweep_id(digit: char) -> SweepId {
    String::from(digit).repeat(32).parse().unwrap()
}

pub(crate) fn sweep(digit: char, steps: &[u64]) -> NewSweep {
    let new = |&steps: &u64| NewRun {
        run: run(steps),
        role: RunRole::Fit,
        budget_flops: Some(1e12),
        tokens_requested: 1e6,
    };
    NewSweep {
        id: sweep_id(digit),
        name: "grid".into(),
        recipe: "# recipe".into(),
        runs: steps.iter().map(new).collect(),
        unix_ms: 1,
        planned_seconds: Some(40.0),
    }
}

pub(crate) fn grant(id: &RunId, number: u32) -> GrantRow {
    GrantRow {
        key: AttemptKey { run: id.clone(), number },
        worker: "w".into(),
        incarnation: 2,
        slot: 0,
        device_id: "cpu".into(),
        device_name: "AMD EPYC".into(),
        backend: "cpu".into(),
        canary: Some("reference".into()),
        unix_ms: 2,
    }
}

pub(crate) fn end(key: &AttemptKey, outcome: Outcome, state: RunState) -> EndRow {
    EndRow {
        key: key.clone(),
        outcome,
        reason: Some("why".into()),
        end_step: Some(100),
        resume_step: None,
        seconds: Some(4.0),
        peak_memory_bytes: Some(5),
        points_thinned: 6,
        state,
        state_reason: None,
        failures: Failures { program: 1, infrastructure: 2, without_checkpoint: 3 },
        unix_ms: 3,
    }
}

pub(crate) fn batch(
    key: &AttemptKey,
    seq: u64,
    resume_step: u64,
    points: &[(Metric, u64, f64)],
) -> Batch {
    let points =
        points.iter().map(|&(metric, step, value)| Point { metric, step, value }).collect();
    Batch { key: key.clone(), seq, resume_step, points }
}
