use sweep_spec::{
    attempt::AttemptKey,
    data::{DataManifest, DataSource, Synthetic},
    run::{Evaluation, Run, RunRole},
};
use sweep_store::{GrantRow, Memory, NewRun, NewSweep};

use super::*;
use crate::{rehearsal::events::config, scheduler::Action};

const HOUR_MS: i64 = 3_600_000;

fn run() -> Run {
    let config = config(32, 100);
    let manifest = DataManifest {
        id: config.data.clone(),
        vocabulary: 256,
        train_tokens: 1_000_000,
        validation_tokens: 10_000,
        bytes_per_token: None,
        train_documents: 10,
        validation_documents: 1,
        entropy: Some(2.0),
        image: None,
    };
    let source =
        Synthetic { vocabulary: 256, entropy: 2.0, contexts: 16, tokens: 1_000_000, seed: 0 };
    Run {
        config,
        source: DataSource::Synthetic(source),
        manifest,
        evaluation: Evaluation { tokens: 1000, times: 3, sampling: None, tasks: Vec::new() },
        forks: Vec::new(),
    }
}

/// A store with a sweep of one run whose attempt was granted at this moment, and a limit of hours.
async fn granted_at(unix_ms: i64, hours: f64) -> Store {
    let store = Store::Memory(Memory::default());
    let id: SweepId = "0".repeat(32).parse().unwrap();
    let terms = Policy { device_seconds_max: Some(hours * 3600.0), ..Policy::default() };
    store.set_policy(&id, &terms).await.unwrap();
    let run = run();
    let key = AttemptKey { run: run.config.id(), number: 1 };
    let member = NewRun { run, role: RunRole::Fit, budget_flops: None, tokens_requested: 1e6 };
    let sweep = NewSweep {
        id,
        name: "grid".into(),
        recipe: String::new(),
        runs: vec![member],
        unix_ms,
        planned_seconds: None,
    };
    store.submit(&sweep).await.unwrap();
    store.join_worker("w", "box", 1, &[], unix_ms).await.unwrap();
    let grant = GrantRow {
        key,
        worker: "w".into(),
        incarnation: 1,
        slot: 0,
        device_id: "cpu".into(),
        device_name: "AMD EPYC".into(),
        backend: "cpu".into(),
        canary: None,
        unix_ms,
    };
    let turn = sweep_store::Turn { grants: vec![grant], ..Default::default() };
    store.turn(&turn).await.unwrap();
    store
}

#[tokio::test]
async fn a_limit_of_time_counts_what_a_live_attempt_took_before_the_start() {
    let now = Duration::from_secs(1);
    for (ago_ms, hours, stops) in [(7 * HOUR_MS, 6.0, true), (7 * HOUR_MS, 8.0, false)] {
        let store = granted_at(unix_ms() - ago_ms, hours).await;
        let actions = scheduler(&store, now, true).await.unwrap().on_event(now, Event::Tick);
        let killed = actions.iter().any(|action| matches!(action, Action::Kill { .. }));
        assert_eq!(killed, stops, "{hours}: {actions:?}");
    }
}

#[tokio::test]
async fn a_wall_clock_that_went_back_takes_no_time() {
    let now = Duration::from_secs(1);
    let store = granted_at(unix_ms() + HOUR_MS, 1.0).await;
    let actions = scheduler(&store, now, true).await.unwrap().on_event(now, Event::Tick);
    assert_eq!(actions, []);
}
