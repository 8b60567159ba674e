//! Runs for the tests of this crate, and for the simulation.

use sweep_spec::{
    data::{DataManifest, DataSource, Synthetic},
    id::DataId,
    run::{Evaluation, Run, RunConfig},
    shape::{LmShape, Mlp, Shape},
    training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
};

/// A run of so many steps; the seed tells it from others.
pub(crate) fn run(steps: u64, seed: u64) -> Run {
    let data = DataId::from_hash(&blake3::hash(b"data"));
    let shape = LmShape {
        vocabulary: 16,
        width: 16,
        layers: 1,
        heads: 2,
        sequence: 8,
        mlp: Mlp::default(),
        token_shift: false,
    };
    let optimizer = Optimizer {
        learning_rate: 1e-3,
        base_width: 16,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1.0,
    };
    let schedule =
        Schedule { warmup_steps: 1, warmup_fraction: 0.1, decay: Decay::Wsd { fraction: 0.2 } };
    Run {
        config: RunConfig {
            training_revision: TRAINING_REVISION,
            shape: Shape::Lm(shape),
            data: data.clone(),
            batch: 2,
            steps,
            optimizer,
            schedule,
            seed,
            parent: None,
            mixture: Vec::new(),
        },
        source: DataSource::Synthetic(Synthetic {
            vocabulary: 16,
            entropy: 1.0,
            contexts: 4,
            tokens: 10_000,
            seed: 0,
        }),
        manifest: DataManifest {
            id: data,
            vocabulary: 16,
            train_tokens: 10_000,
            validation_tokens: 1000,
            bytes_per_token: None,
            train_documents: 1,
            validation_documents: 1,
            entropy: Some(1.0),
            image: None,
        },
        evaluation: Evaluation { tokens: 100, times: 1, sampling: None, tasks: Vec::new() },
        forks: Vec::new(),
    }
}
