//! What every store must do, whatever is under it. A new store is a new [`Place`] and one more line
//! of [`conformance`]; the cases stay as they are.

use Metric::{TrainLoss, ValidationLoss};
use sweep_spec::{
    attempt::{AttemptKey, RunState},
    metric::Metric,
    policy::Policy,
    run::RunRole,
};

use super::{
    lineage::{
        a_kept_checkpoint_is_offered_to_any_worker,
        a_run_that_comes_back_to_its_checkpoint_keeps_its_curve,
        a_wall_clock_that_is_set_back_reorders_nothing,
        an_attempt_that_never_began_leaves_the_curve_alone,
        kept_checkpoints_are_those_of_one_place,
    },
    trunk::{
        a_larger_d_extends_a_finished_trunk_and_a_smaller_one_does_not,
        the_cost_of_a_sweep_counts_its_trunk_once,
    },
    *,
};

macro_rules! conformance {
    ($($case:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Place::Memory(crate::Memory::default())).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Place::Sqlite(tempfile::tempdir().unwrap())).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                if let Some(address) = crate::tests::postgres::database(stringify!($case)) {
                    super::$case(super::Place::Postgres(address)).await;
                }
            })*
        }
    };
}

conformance! {
    a_run_goes_from_submission_to_its_result
    a_lower_attempt_number_changes_nothing
    everything_is_there_after_it_was_closed
    names_ids_and_beginnings_are_found
    long_curves_are_read_in_pages
    a_worker_is_known_by_its_latest_incarnation
    ends_decide_what_a_run_comes_to
    any_history_gives_the_answers_of_the_store_in_memory
    terms_are_kept_and_may_come_before_their_sweep
    a_run_that_is_paused_stays_so_until_it_is_resumed
    a_run_that_is_dropped_stays_so_until_it_is_wanted_again
    a_turn_is_stored_as_a_whole_or_not_at_all
    a_start_knows_why_a_run_ended_and_since_when_one_is_trained
    what_operators_ask_for_is_kept_newest_first
    a_larger_d_extends_a_finished_trunk_and_a_smaller_one_does_not
    the_cost_of_a_sweep_counts_its_trunk_once
    a_run_that_comes_back_to_its_checkpoint_keeps_its_curve
    an_attempt_that_never_began_leaves_the_curve_alone
    a_kept_checkpoint_is_offered_to_any_worker
    kept_checkpoints_are_those_of_one_place
    a_wall_clock_that_is_set_back_reorders_nothing
}

async fn a_run_goes_from_submission_to_its_result(place: Place) {
    let store = place.with_worker().await;
    let submitted = store.submit(&sweep('a', &[100, 200])).await.unwrap();
    assert_eq!((submitted.runs_new, submitted.earlier.len()), (2, 0));
    let id = run(100).config.id();
    let granted = store.grant(&[grant(&id, 1), grant(&id, 1)]).await.unwrap();
    assert!(granted[0].is_some() && granted[1].is_none(), "a number is granted once");
    assert_eq!(granted[0].as_ref().unwrap().run_json, sweep_spec::hash::canonical_json(&run(100)));
    let key = AttemptKey { run: id.clone(), number: 1 };
    let points = [
        (TrainLoss, 1, 5.0),
        (TrainLoss, 2, f64::NAN),
        (TrainLoss, 3, f64::INFINITY),
        (TrainLoss, 4, f64::NEG_INFINITY),
        (ValidationLoss, 0, 6.0),
        (ValidationLoss, 100, 0.1 + 0.2),
    ];
    let replies = store.ingest(&[batch(&key, 1, 0, &points)]).await.unwrap();
    assert_eq!(replies, [Ingested::Durable(1)]);
    let ended = end(&key, Outcome::Finished, RunState::Finished);
    assert_eq!(store.end(std::slice::from_ref(&ended)).await.unwrap(), [Applied::Done]);
    assert_eq!(store.end(&[ended]).await.unwrap(), [Applied::Done], "the same end again");

    let record = store.run(&id).await.unwrap();
    assert_eq!(record.final_validation_loss, Some(0.1 + 0.2), "every bit of a value is kept");
    assert_eq!((record.state, record.latest_step), (RunState::Finished, Some(4)));
    assert_eq!(record.latest_loss, Some(f64::NEG_INFINITY));
    assert_eq!((record.measured_seconds, record.points_thinned), (Some(4.0), 6));
    assert_eq!(record.canary.as_deref(), Some("reference"));
    assert_eq!(record.device_refused.as_deref(), Some("its canary failed"));
    store.set_devices("w", &[Device { refused: None, ..device() }]).await.unwrap();
    assert_eq!(store.run(&id).await.unwrap().device_refused, None);
    assert_eq!((record.facts.seed, record.facts.mlp.as_str()), (u64::MAX, "swiglu"));
    assert_eq!(record.facts, Facts::of(&run(100)));
    let curve = store.curve(&id, TrainLoss, -1, 100).await.unwrap();
    assert!(curve[1].value.is_nan() && curve[2].value == f64::INFINITY);
    assert_eq!(store.curve(&id, ValidationLoss, -1, 100).await.unwrap().len(), 2);
    assert_eq!(store.metrics_of(&id).await.unwrap(), [TrainLoss, ValidationLoss]);
    let measured = store.measured().await.unwrap();
    assert_eq!((measured[0].steps, measured[0].seconds), (100, 4.0));
    let counts = store.counts(&sweep_id('a')).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.runs).sum::<u64>(), 2);
    assert_eq!(counts.iter().filter_map(|count| count.ended_unix_ms).max(), Some(3));
    let again = NewSweep { planned_seconds: Some(1.0), ..sweep('a', &[100]) };
    assert_eq!(store.submit(&again).await.unwrap().runs_finished, 1);
    assert_eq!(store.sweeps().await.unwrap()[0].planned_seconds, Some(40.0), "the first word");
    let page = store.runs_page(&sweep_id('a'), -1, 10).await.unwrap();
    assert_eq!(page.iter().map(|record| record.position).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((page[0].role, page[0].budget_flops), (Some(RunRole::Fit), Some(1e12)));
    let mut tuned = sweep('b', &[300]);
    tuned.runs[0].role = RunRole::Sensitivity;
    store.submit(&tuned).await.unwrap();
    let page = store.runs_page(&sweep_id('b'), -1, 10).await.unwrap();
    assert_eq!(page[0].role, Some(RunRole::Sensitivity));
}

async fn a_lower_attempt_number_changes_nothing(place: Place) {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100])).await.unwrap();
    let id = run(100).config.id();
    store.grant(&[grant(&id, 1)]).await.unwrap();
    let first = AttemptKey { run: id.clone(), number: 1 };
    let points = [(TrainLoss, 10, 1.0), (TrainLoss, 20, 0.9), (TrainLoss, 30, 0.8)];
    store.ingest(&[batch(&first, 1, 0, &points)]).await.unwrap();
    let checkpoint = |key: &AttemptKey, step, requires_seq| CheckpointRow {
        key: key.clone(),
        step,
        hash: "ab".into(),
        bytes: None,
        requires_seq,
        unix_ms: 4,
    };
    let missing = store.commit_checkpoint(&checkpoint(&first, 20, 2)).await.unwrap();
    assert_eq!(missing, Applied::PointsMissing(1));
    let done = store.commit_checkpoint(&checkpoint(&first, 20, 1)).await.unwrap();
    assert_eq!(done, Applied::Done);
    store.end(&[end(&first, Outcome::Lost, RunState::Queued)]).await.unwrap();
    let granted = store.grant(&[grant(&id, 2)]).await.unwrap();
    assert_eq!(granted[0].as_ref().unwrap().checkpoint.as_ref().unwrap().step, 20);

    // The first attempt comes back.
    let late = store.ingest(&[batch(&first, 2, 0, &[(TrainLoss, 40, 0.1)])]).await.unwrap();
    assert!(matches!(late[0], Ingested::Fenced(_)));
    let late = store.end(&[end(&first, Outcome::Finished, RunState::Finished)]).await.unwrap();
    assert_eq!(late, [Applied::Fenced]);
    let late = store.commit_checkpoint(&checkpoint(&first, 30, 1)).await.unwrap();
    assert_eq!(late, Applied::Fenced);
    assert_eq!(store.run(&id).await.unwrap().state, RunState::Running);

    // The second resumes from step 20: what the first has beyond it leaves the curve.
    let second = AttemptKey { run: id.clone(), number: 2 };
    let resumed = [(TrainLoss, 30, 0.7), (TrainLoss, 40, 0.6)];
    let replies = store
        .ingest(&[
            batch(&second, 1, 20, &resumed),
            batch(&second, 1, 20, &resumed),
            batch(&second, 3, 20, &resumed),
            batch(&second, 2, 20, &[(TrainLoss, 20, 9.0)]),
            batch(&second, 2, 10, &[(TrainLoss, 50, 9.0)]),
        ])
        .await
        .unwrap();
    assert_eq!(replies[..3], [Ingested::Durable(1), Ingested::Durable(1), Ingested::Resend(1)]);
    assert!(replies[3..].iter().all(|reply| matches!(reply, Ingested::Refused(_))));
    let curve = store.curve(&id, TrainLoss, -1, 100).await.unwrap();
    let values: Vec<(u64, f64)> = curve.iter().map(|point| (point.step, point.value)).collect();
    assert_eq!(values, [(10, 1.0), (20, 0.9), (30, 0.7), (40, 0.6)]);
    assert_eq!(store.attempts(&id).await.unwrap().len(), 2);
}

async fn everything_is_there_after_it_was_closed(place: Place) {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100, 200])).await.unwrap();
    store.submit(&sweep('b', &[200, 300])).await.unwrap();
    let id = run(200).config.id();
    store.grant(&[grant(&id, 1)]).await.unwrap();
    let before = store.load().await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = place.open().await;
    let after = store.load().await.unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert_eq!((after.sweeps.len(), after.runs.len()), (2, 3));
    let live = after.runs.iter().find_map(|run| run.live.as_ref()).unwrap();
    assert_eq!((live.worker.as_str(), live.incarnation), ("w", 2));
    let worker = &store.workers().await.unwrap()[0];
    assert_eq!(worker.devices[0].refused.as_deref(), Some("its canary failed"));
    assert!(!store.join_worker("w", "box", 1, &[], 9).await.unwrap(), "an earlier incarnation");
}

async fn terms_are_kept_and_may_come_before_their_sweep(place: Place) {
    let store = place.open().await;
    assert_eq!(store.policies().await.unwrap(), []);
    let paused = Policy { paused: true, flops_max: Some(0.1 + 0.2), ..Policy::default() };
    store.set_policy(&sweep_id('b'), &paused).await.unwrap();
    store.set_policy(&sweep_id('a'), &paused).await.unwrap();
    let later = Policy { priority: -3, failed_runs_max: Some(0), ..Policy::default() };
    store.set_policy(&sweep_id('a'), &later).await.unwrap();
    store.submit(&sweep('a', &[100])).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let kept = place.open().await.policies().await.unwrap();
    assert_eq!(kept, [(sweep_id('a'), later), (sweep_id('b'), paused)]);
}

async fn a_run_that_is_paused_stays_so_until_it_is_resumed(place: Place) {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100, 200])).await.unwrap();
    let ids = [100, 200].map(|steps| run(steps).config.id());
    store.set_paused(&ids[1..], true).await.unwrap();
    store.set_paused(&[run(7).config.id()], true).await.unwrap();
    // A grant may be under way; what it leaves is still paused, and so it is when handed in again.
    store.grant(&[grant(&ids[1], 1)]).await.unwrap();
    let key = AttemptKey { run: ids[1].clone(), number: 1 };
    store.end(&[end(&key, Outcome::Stopped, RunState::Queued)]).await.unwrap();
    store.submit(&sweep('a', &[100, 200])).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = place.open().await;
    let paused = |runs: Vec<SavedRun>| runs.iter().map(|run| run.paused).collect::<Vec<_>>();
    assert_eq!(paused(store.load().await.unwrap().runs), [false, true]);
    assert!(store.run(&ids[1]).await.unwrap().paused);
    store.set_paused(&ids, false).await.unwrap();
    assert_eq!(paused(store.load_runs(&ids).await.unwrap()), [false, false]);
    assert!(!store.run(&ids[1]).await.unwrap().paused);
}

async fn a_run_that_is_dropped_stays_so_until_it_is_wanted_again(place: Place) {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100, 200])).await.unwrap();
    let ids = [100, 200].map(|steps| run(steps).config.id());
    store.grant(&[grant(&ids[0], 1)]).await.unwrap();
    let drop_all =
        |to| Turn { drops: ids.iter().map(|id| (id.clone(), to)).collect(), ..Turn::default() };
    store.turn(&drop_all(true)).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = place.open().await;
    let dropped = |runs: Vec<SavedRun>| runs.iter().map(|run| run.dropped).collect::<Vec<_>>();
    assert_eq!(dropped(store.load().await.unwrap().runs), [true, true]);
    // Whoever hands a run in wants it, trained or not.
    store.submit(&sweep('b', &[100])).await.unwrap();
    assert_eq!(dropped(store.load_runs(&ids).await.unwrap()), [false, true]);
    store.turn(&drop_all(false)).await.unwrap();
    assert_eq!(dropped(store.load_runs(&ids).await.unwrap()), [false, false]);
}

async fn a_turn_is_stored_as_a_whole_or_not_at_all(place: Place) {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100, 200])).await.unwrap();
    let ids = [100, 200].map(|steps| run(steps).config.id());
    let given_up = StateRow {
        run: ids[0].clone(),
        state: RunState::Cancelled,
        reason: Some("cancelled".into()),
        failures: Failures::default(),
    };
    let mut turn = Turn {
        marks: vec![(sweep_id('a'), true)],
        drops: vec![(ids[0].clone(), true)],
        states: vec![given_up],
        grants: vec![GrantRow { worker: "nobody".into(), ..grant(&ids[1], 1) }],
        ..Turn::default()
    };
    store.turn(&turn).await.unwrap_err();
    let stands = async || {
        let saved = store.load().await.unwrap();
        (saved.sweeps[0].cancelled, saved.runs[0].dropped, saved.runs[0].state)
    };
    assert_eq!(stands().await, (false, false, RunState::Queued));
    turn.grants.clear();
    store.turn(&turn).await.unwrap();
    assert_eq!(stands().await, (true, true, RunState::Cancelled));
}

async fn a_start_knows_why_a_run_ended_and_since_when_one_is_trained(place: Place) {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100, 200, 300])).await.unwrap();
    let ids = [100, 200, 300].map(|steps| run(steps).config.id());
    let grants = [grant(&ids[0], 1), GrantRow { unix_ms: -7, ..grant(&ids[1], 1) }];
    store.grant(&grants).await.unwrap();
    let key = AttemptKey { run: ids[0].clone(), number: 1 };
    // What a trainer says may hold the separators of lines and columns.
    let reason = Some("it fell\nat \u{1e}step\u{1f} 3".to_owned());
    let failed = EndRow { state_reason: reason, ..end(&key, Outcome::Failed, RunState::Failed) };
    store.end(&[failed]).await.unwrap();
    for runs in [store.load().await.unwrap().runs, store.load_runs(&ids).await.unwrap()] {
        let reason = runs[0].reason.as_deref().unwrap();
        assert!(reason.starts_with("it fell\nat ") && reason.ends_with(" 3"), "{reason:?}");
        assert_eq!((runs[1].reason.as_deref(), runs[2].reason.as_deref()), (None, None));
        let since = |run: &SavedRun| run.live.as_ref().map(|live| live.started_unix_ms);
        assert_eq!(runs.iter().map(since).collect::<Vec<_>>(), [None, Some(-7), None]);
    }
}

async fn what_operators_ask_for_is_kept_newest_first(place: Place) {
    let store = place.open().await;
    assert_eq!(store.audit(9).await.unwrap(), []);
    let row = |call: &str, client: Option<&str>| AuditRow {
        unix_ms: 5,
        role: "operator".into(),
        client: client.map(str::to_owned),
        address: client.map(|_| "10.0.0.1".into()),
        call: call.into(),
        subject: "a sweep".into(),
        outcome: "done".into(),
    };
    for call in ["pause", "resume"] {
        store.note_audit(&row(call, Some("alice"))).await.unwrap();
    }
    store.note_audit(&row("cancel", None)).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = place.open().await;
    let newest = [row("cancel", None), row("resume", Some("alice"))];
    assert_eq!(store.audit(2).await.unwrap(), newest);
    assert_eq!(store.audit(9).await.unwrap().len(), 3);
}

async fn names_ids_and_beginnings_are_found(place: Place) {
    let store = place.open().await;
    store.submit(&sweep('a', &[100])).await.unwrap();
    let second = store.submit(&sweep('b', &[200])).await.unwrap();
    assert_eq!(second.earlier, [sweep_id('a')]);
    assert_eq!(store.find_sweep("grid").await.unwrap().id, sweep_id('b'), "the latest of a name");
    assert_eq!(store.find_sweep("aaaa").await.unwrap().id, sweep_id('a'));
    assert!(matches!(store.find_sweep("c").await, Err(StoreError::NotFound { .. })));
    let id = run(100).config.id();
    assert_eq!(store.find_run(id.short()).await.unwrap(), id);
    assert!(matches!(store.find_run("' OR 1=1").await, Err(StoreError::NotFound { .. })));
    store.mark_sweep(&sweep_id('b'), true).await.unwrap();
    assert!(store.find_sweep("grid").await.unwrap().cancelled);
    let row = StateRow {
        run: id.clone(),
        state: RunState::Cancelled,
        reason: None,
        failures: Failures::default(),
    };
    store.set_states(&[row]).await.unwrap();
    store.submit(&sweep('a', &[100])).await.unwrap();
    assert_eq!(store.run(&id).await.unwrap().state, RunState::Queued, "wanted again");
}

async fn long_curves_are_read_in_pages(place: Place) {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100])).await.unwrap();
    let id = run(100).config.id();
    store.grant(&[grant(&id, 1)]).await.unwrap();
    let key = AttemptKey { run: id.clone(), number: 1 };
    // Both the long statements and the remainder, and a commit of several batches.
    let all: Vec<_> = (1..=1234).map(|step| (Metric::Tokens, step, 1.0)).collect();
    let more = [(Metric::Tokens, 1234, 2.0), (Metric::Tokens, 1235, 1.0)];
    let replies = store.ingest(&[batch(&key, 1, 0, &all), batch(&key, 2, 0, &more)]).await.unwrap();
    assert_eq!(replies, [Ingested::Durable(1), Ingested::Durable(2)]);
    let curve = store.curve(&id, Metric::Tokens, -1, 5000).await.unwrap();
    assert_eq!(curve.len(), 1235);
    assert_eq!(curve[1233].value, 1.0, "a point is never overwritten");
    let page = store.curve(&id, Metric::Tokens, 1200, 10).await.unwrap();
    assert_eq!((page.len(), page[0].step), (10, 1201));
    assert!(store.metrics_of(&run(7).config.id()).await.unwrap().is_empty());
}

async fn a_worker_is_known_by_its_latest_incarnation(place: Place) {
    let store = place.with_worker().await;
    assert!(!store.join_worker("w", "box", 1, &[], 9).await.unwrap());
    assert_eq!(store.workers().await.unwrap()[0].devices, [device()]);
    assert!(store.join_worker("w", "other", 3, &[], 9).await.unwrap());
    assert!(store.join_worker("v", "box", 1, &[device(), device()], 8).await.is_ok());
    let two = [Device { id: "b".into(), ..device() }, Device { id: "a".into(), ..device() }];
    store.set_devices("w", &two).await.unwrap();
    let workers = store.workers().await.unwrap();
    assert_eq!(workers[0].devices, two, "in the order of the worker");
    assert_eq!((workers[0].host.as_str(), workers[0].incarnation), ("other", 3));
    assert_eq!(workers[1].devices.len(), 1, "a device is there once");
    assert!(store.set_devices("nobody", &[]).await.is_err());
}

async fn ends_decide_what_a_run_comes_to(place: Place) {
    let store = place.with_worker().await;
    let steps = [100, 200, 300];
    store.submit(&sweep('a', &steps)).await.unwrap();
    let ids = steps.map(|steps| run(steps).config.id());
    let grants: Vec<_> = ids.iter().map(|id| grant(id, 1)).collect();
    store.grant(&grants).await.unwrap();
    let keys = ids.clone().map(|run| AttemptKey { run, number: 1 });
    let nan = [(ValidationLoss, 0, 2.0), (ValidationLoss, 100, f64::NAN)];
    store.ingest(&[batch(&keys[0], 1, 0, &nan)]).await.unwrap();
    let rows = [
        end(&keys[0], Outcome::Finished, RunState::Finished),
        EndRow { seconds: Some(1.0 / 3.0), ..end(&keys[1], Outcome::Failed, RunState::Failed) },
        EndRow {
            seconds: Some(f64::NAN),
            ..end(&keys[2], Outcome::Cancelled, RunState::Cancelled)
        },
    ];
    assert_eq!(store.end(&rows).await.unwrap(), [Applied::Done; 3]);
    let record = store.run(&ids[0]).await.unwrap();
    assert_eq!(record.final_validation_loss, None, "a loss that is no number is absent");
    let seconds = store.run(&ids[1]).await.unwrap().measured_seconds;
    assert_eq!(seconds, Some(0.333_333), "whole microseconds are kept");
    assert_eq!(store.run(&ids[2]).await.unwrap().measured_seconds, None);
    let totals = store.totals().await.unwrap();
    let one = |state| (state, 1);
    assert_eq!(totals, [RunState::Cancelled, RunState::Failed, RunState::Finished].map(one));
    // Only what has no end may be changed.
    let queue = |id: &RunId| StateRow {
        run: id.clone(),
        state: RunState::Queued,
        reason: Some("asked for".into()),
        failures: Failures::default(),
    };
    store.set_states(&ids.clone().map(|id| queue(&id))).await.unwrap();
    let states = |runs: Vec<SavedRun>| runs.iter().map(|run| run.state).collect::<Vec<_>>();
    let loaded = states(store.load_runs(&ids).await.unwrap());
    assert_eq!(loaded, [RunState::Finished, RunState::Queued, RunState::Queued]);
    let again = store.submit(&sweep('a', &steps)).await.unwrap();
    assert_eq!((again.runs_new, again.runs_finished, again.runs_known), (0, 1, 2));
}

/// Plays random histories, fixed by their seed, and compares every answer and at the end all that
/// can be read with the store in memory.
async fn any_history_gives_the_answers_of_the_store_in_memory(place: Place) {
    let model = Place::Memory(Memory::default()).with_worker().await;
    let store = place.with_worker().await;
    for store in [&model, &store] {
        store.join_worker("v", "box", 1, &[], 9).await.unwrap();
    }
    let mut dice = Dice(20_261_124);
    for digit in ['a', 'b', 'c', 'd'] {
        let steps: Vec<u64> = (0..4).map(|_| 100 + dice.below(6)).collect();
        let steps: std::collections::BTreeSet<u64> = steps.into_iter().collect();
        let steps: Vec<u64> = steps.into_iter().collect();
        let submission = sweep(digit, &steps);
        alike(&model.submit(&submission).await, &store.submit(&submission).await);
        for _ in 0..60 {
            let action = dice.action();
            alike(&action.play(&model).await, &action.play(&store).await);
        }
    }
    let (saved, expected) = (store.load().await.unwrap(), model.load().await.unwrap());
    alike(&expected, &saved);
    alike(&model.measured().await, &store.measured().await);
    alike(&model.spent().await, &store.spent().await);
    alike(&model.totals().await, &store.totals().await);
    for sweep in &saved.sweeps {
        alike(&model.counts(&sweep.id).await, &store.counts(&sweep.id).await);
        let pages =
            (model.runs_page(&sweep.id, 0, 3).await, store.runs_page(&sweep.id, 0, 3).await);
        alike(&pages.0, &pages.1);
    }
    for SavedRun { id, .. } in &saved.runs {
        alike(&model.run(id).await, &store.run(id).await);
        alike(&model.attempts(id).await, &store.attempts(id).await);
        for metric in [TrainLoss, ValidationLoss] {
            let (curve, expected) =
                (store.curve(id, metric, -1, 999).await, model.curve(id, metric, -1, 999).await);
            alike(&expected, &curve);
        }
    }
}

#[track_caller]
fn alike<T: std::fmt::Debug>(expected: &T, got: &T) {
    assert_eq!(format!("{expected:?}"), format!("{got:?}"));
}

/// A generator of random choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn key(&mut self) -> AttemptKey {
        let run = run(100 + self.below(6)).config.id();
        AttemptKey { run, number: 1 + u32::try_from(self.below(5)).unwrap() }
    }

    fn end(&mut self) -> EndRow {
        let ends = [
            (Outcome::Lost, RunState::Queued),
            (Outcome::Stopped, RunState::Queued),
            (Outcome::Failed, RunState::Failed),
            (Outcome::Finished, RunState::Finished),
        ];
        let (key, (outcome, state)) = (self.key(), ends[self.below(8).min(3) as usize]);
        let resume_step = (self.below(2) == 0).then(|| self.below(3) * 10);
        // Eighths, whose sums are the same in any order.
        let seconds = (self.below(3) > 0).then(|| self.below(1000) as f64 / 8.0);
        EndRow { resume_step, seconds, ..end(&key, outcome, state) }
    }

    fn grant(&mut self) -> GrantRow {
        let AttemptKey { run, number } = self.key();
        let worker = ["w", "v"][self.below(2) as usize].to_owned();
        GrantRow { worker, ..grant(&run, number) }
    }

    fn state(&mut self) -> StateRow {
        let state = [RunState::Queued, RunState::Cancelled][self.below(2) as usize];
        StateRow { run: self.key().run, state, reason: None, failures: Failures::default() }
    }

    /// Some of each, which may concern one run.
    fn turn(&mut self) -> Turn {
        Turn {
            ends: (0..self.below(5)).map(|_| self.end()).collect(),
            states: (0..self.below(2)).map(|_| self.state()).collect(),
            grants: (0..self.below(6)).map(|_| self.grant()).collect(),
            ..Turn::default()
        }
    }

    fn action(&mut self) -> Action {
        let key = self.key();
        match self.below(12) {
            0..=2 => Action::Turn(Turn { grants: vec![self.grant()], ..Turn::default() }),
            3..=6 => {
                let resume = self.below(3) * 10;
                let (first, metric) =
                    (self.below(40), [TrainLoss, ValidationLoss][self.below(2) as usize]);
                let value = [1.0, 0.25, f64::NAN, f64::INFINITY][self.below(4) as usize];
                let points: Vec<_> =
                    (first..first + self.below(9)).map(|step| (metric, step, value)).collect();
                Action::Ingest(batch(&key, 1 + self.below(3), resume, &points))
            }
            7 => {
                let row = CheckpointRow {
                    key,
                    step: self.below(4) * 10,
                    hash: "ab".into(),
                    bytes: Some(7),
                    requires_seq: self.below(3),
                    unix_ms: 4,
                };
                Action::Checkpoint(row)
            }
            8 | 9 => Action::Turn(self.turn()),
            10 => Action::Keep(key, self.below(4) * 10),
            _ => Action::Turn(Turn { states: vec![self.state()], ..Turn::default() }),
        }
    }
}

enum Action {
    Turn(Turn),
    Ingest(Batch),
    Checkpoint(CheckpointRow),
    Keep(AttemptKey, u64),
}

impl Action {
    /// Does it and shows the answer.
    async fn play(&self, store: &Store) -> String {
        match self {
            Self::Turn(turn) => format!("{:?}", store.turn(turn).await),
            Self::Ingest(batch) => format!("{:?}", store.ingest(std::slice::from_ref(batch)).await),
            Self::Checkpoint(row) => format!("{:?}", store.commit_checkpoint(row).await),
            Self::Keep(key, step) => format!("{:?}", store.keep_checkpoint(key, *step, "ab").await),
        }
    }
}
