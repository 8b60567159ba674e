//! Which attempt a step of the curve belongs to: cases of [`super::conformance`].

use sweep_spec::metric::Metric::TrainLoss;

use super::*;

/// A run of two workers, `w` and `v`, and its attempts.
struct Relay {
    store: Store,
    run: RunId,
}

impl Relay {
    async fn new(place: &Place) -> Self {
        let store = place.with_worker().await;
        store.join_worker("v", "box", 1, &[], 9).await.unwrap();
        store.submit(&sweep('a', &[100])).await.unwrap();
        Self { store, run: run(100).config.id() }
    }

    fn key(&self, number: u32) -> AttemptKey {
        AttemptKey { run: self.run.clone(), number }
    }

    /// Grants the next attempt; the step of the checkpoint that it is given.
    async fn begin(&self, number: u32, worker: &str) -> Option<u64> {
        let row = GrantRow { worker: worker.into(), ..grant(&self.run, number) };
        let granted = self.store.grant(&[row]).await.unwrap().remove(0).expect("it waits");
        granted.checkpoint.map(|at| at.step)
    }

    /// Trains from a step on up to another one, with a checkpoint there; the losses tell whose.
    async fn train(&self, number: u32, resume_step: u64, until: u64) {
        let key = self.key(number);
        let points: Vec<_> =
            (resume_step + 1..=until).map(|step| (TrainLoss, step, f64::from(number))).collect();
        let replies = self.store.ingest(&[batch(&key, 1, resume_step, &points)]).await.unwrap();
        assert_eq!(replies, [Ingested::Durable(1)]);
        let row = CheckpointRow {
            key,
            step: until,
            hash: "h".into(),
            bytes: Some(7),
            requires_seq: 1,
            unix_ms: 3,
        };
        assert_eq!(self.store.commit_checkpoint(&row).await.unwrap(), Applied::Done);
    }

    async fn lose(&self, number: u32) {
        let row = end(&self.key(number), Outcome::Lost, RunState::Queued);
        assert_eq!(self.store.end(&[row]).await.unwrap(), [Applied::Done]);
    }

    /// The attempt that each step of the curve is from.
    async fn owners(&self) -> Vec<(u64, f64)> {
        let curve = self.store.curve(&self.run, TrainLoss, -1, 100).await.unwrap();
        curve.iter().map(|point| (point.step, point.value)).collect()
    }
}

pub(super) async fn a_run_that_comes_back_to_its_checkpoint_keeps_its_curve(place: Place) {
    let relay = Relay::new(&place).await;
    assert_eq!(relay.begin(1, "w").await, None);
    relay.train(1, 0, 4).await;
    relay.lose(1).await;

    // Elsewhere it begins anew: nobody has the files of another worker.
    assert_eq!(relay.begin(2, "v").await, None);
    relay.train(2, 0, 2).await;
    assert_eq!(relay.owners().await, [(1, 2.0), (2, 2.0)]);
    relay.lose(2).await;

    assert_eq!(relay.begin(3, "w").await, Some(4));
    relay.train(3, 4, 5).await;
    let first = |step| (step, 1.0);
    assert_eq!(relay.owners().await, [first(1), first(2), first(3), first(4), (5, 3.0)]);
    let attempts = relay.store.attempts(&relay.run).await.unwrap();
    let from: Vec<_> = attempts.iter().map(|one| (one.resume_step, one.resume_attempt)).collect();
    assert_eq!(from, [(Some(0), None), (Some(0), None), (Some(4), Some(1))]);
}

pub(super) async fn an_attempt_that_never_began_leaves_the_curve_alone(place: Place) {
    let relay = Relay::new(&place).await;
    relay.begin(1, "w").await;
    relay.train(1, 0, 2).await;
    relay.lose(1).await;
    relay.begin(2, "v").await;
    relay.lose(2).await;
    assert_eq!(relay.owners().await, [(1, 1.0), (2, 1.0)]);
    let attempts = relay.store.attempts(&relay.run).await.unwrap();
    assert_eq!(attempts[1].resume_step, None);
}

pub(super) async fn kept_checkpoints_are_those_of_one_place(place: Place) {
    let relay = Relay::new(&place).await;
    let (store, key) = (&relay.store, relay.key(1));
    assert_eq!(store.keep_in("here", false).await.unwrap(), None);
    assert_eq!(store.keep_in("there", false).await.unwrap(), None, "nothing is kept yet");
    store.grant(&[grant(&relay.run, 1)]).await.unwrap();
    store.ingest(&[batch(&key, 1, 0, &[(TrainLoss, 10, 1.0)])]).await.unwrap();
    let row = CheckpointRow {
        key: key.clone(),
        step: 10,
        hash: "ab".into(),
        bytes: None,
        requires_seq: 1,
        unix_ms: 4,
    };
    store.commit_checkpoint(&row).await.unwrap();
    assert!(store.keep_checkpoint(&key, 10, "ab").await.unwrap().is_some());
    assert_eq!(store.keep_in("there", false).await.unwrap(), None);
    assert_eq!(store.keep_in("here", false).await.unwrap().as_deref(), Some("there"));
    assert_eq!(store.keep_in("here", true).await.unwrap(), None, "they are forgotten");
    store.end(&[end(&key, Outcome::Lost, RunState::Queued)]).await.unwrap();
    let other = GrantRow { worker: "v".into(), ..grant(&relay.run, 2) };
    let granted = store.grant(&[other]).await.unwrap();
    assert_eq!(granted[0].as_ref().unwrap().checkpoint, None, "no promise is left");
}

pub(super) async fn a_kept_checkpoint_is_offered_to_any_worker(place: Place) {
    let relay = Relay::new(&place).await;
    let keep = |number, step| {
        let (store, key) = (relay.store.clone(), relay.key(number));
        async move { store.keep_checkpoint(&key, step, "h").await.unwrap() }
    };
    relay.begin(1, "w").await;
    relay.train(1, 0, 4).await;
    assert_eq!(keep(1, 3).await, None, "there is no checkpoint at step 3");
    assert_eq!(relay.store.newest_kept(&relay.run).await.unwrap(), None);
    let kept = keep(1, 4).await.unwrap();
    assert_eq!((kept.kept.len(), kept.dropped.len()), (1, 0));
    relay.lose(1).await;

    // Another worker goes on from it, and comes back to it.
    assert_eq!(relay.begin(2, "v").await, Some(4));
    relay.lose(2).await;
    assert_eq!(relay.begin(3, "v").await, Some(4));
    relay.train(3, 4, 6).await;
    relay.lose(3).await;
    assert_eq!(relay.begin(4, "w").await, Some(4), "what lies on v is not kept");
    relay.lose(4).await;
    let first = |step| (step, 1.0);
    let owners = [first(1), first(2), first(3), first(4), (5, 3.0), (6, 3.0)];
    assert_eq!(relay.owners().await, owners);
    let attempts = relay.store.attempts(&relay.run).await.unwrap();
    assert_eq!((attempts[2].resume_step, attempts[2].resume_attempt), (Some(4), Some(1)));

    // Two are kept; older ones are dropped.
    assert_eq!(keep(3, 6).await.unwrap().dropped.len(), 0);
    relay.begin(5, "v").await;
    relay.train(5, 6, 8).await;
    let kept = keep(5, 8).await.unwrap();
    assert_eq!((kept.kept.len(), kept.dropped.len()), (2, 1));
    let newest = relay.store.newest_kept(&relay.run).await.unwrap().unwrap();
    assert_eq!((newest.step, newest.hash.as_str(), newest.kept), (8, "h", true));
    let history = relay.store.history(&relay.run).await.unwrap();
    let checkpoints = history.iter().filter_map(|event| match event.what {
        Happened::Checkpoint { step, kept, .. } => Some((event.attempt, step, kept)),
        _ => None,
    });
    assert_eq!(checkpoints.collect::<Vec<_>>(), [(1, 4, false), (3, 6, true), (5, 8, true)]);
    assert!(history.is_sorted_by_key(|event| event.attempt));
    let ended = |event: &&Event| matches!(&event.what, Happened::Ended { outcome, .. } if outcome == "lost");
    assert_eq!(history.iter().filter(ended).count(), 4);
    let first = |event: &Event| matches!(event.what, Happened::Granted { .. });
    assert!(first(&history[0]) && history[0].attempt == 1, "{history:?}");
    relay.lose(5).await;
    // Whoever finds the newest damaged falls back by one; the one before that is dropped.
    let before = |step| relay.store.kept_before(&relay.run, step);
    let earlier = before(8).await.unwrap().map(|at| (at.step, at.kept));
    assert_eq!(earlier, Some((6, true)));
    assert_eq!(before(6).await.unwrap(), None);
    assert_eq!(relay.begin(6, "w").await, Some(8));
    assert_eq!(relay.store.kept_hashes(&relay.run).await.unwrap(), ["h"]);
    let (count, bytes) = relay.store.kept_totals().await.unwrap();
    assert_eq!((count, bytes), (2, 14));
}

pub(crate) async fn a_wall_clock_that_is_set_back_reorders_nothing(place: Place) {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100])).await.unwrap();
    let id = run(100).config.id();
    // The second attempt begins an hour before the first, and ends an hour before it began.
    for (number, began, ended) in [(1, 7_200_000, 7_200_005), (2, 3_600_000, 5)] {
        let row = GrantRow { unix_ms: began, ..grant(&id, number) };
        assert!(store.grant(std::slice::from_ref(&row)).await.unwrap()[0].is_some());
        let lost = end(&row.key, Outcome::Lost, RunState::Queued);
        let applied = store.end(&[EndRow { unix_ms: ended, ..lost }]).await.unwrap();
        assert_eq!(applied, [Applied::Done]);
    }
    let history = store.history(&id).await.unwrap();
    let stamps: Vec<_> = history.iter().map(|event| (event.attempt, event.unix_ms)).collect();
    assert_eq!(stamps, [(1, 7_200_000), (1, 7_200_005), (2, 3_600_000), (2, 3_600_000)]);
    assert_eq!(store.spent().await.unwrap()[0].held_ms, 5, "no time is taken back");
}
