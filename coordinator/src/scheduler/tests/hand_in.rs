//! Runs whose newest checkpoint is on its way to the coordinator.

use super::*;

/// Workers `a` and `b` of one slot, where checkpoints are kept. A run on `a` has stopped at step 90
/// with a checkpoint there, after one at 75 that is kept; `b` is free.
fn stopped(keeps: bool) -> (Scheduler, RunConfig, Vec<Action>) {
    let (mut scheduler, run, key) = training(keeps);
    scheduler.on_event(at(2), Event::Checkpoint { key: key.clone(), step: 75 });
    scheduler.on_event(at(2), Event::Kept { run: run.id(), step: 75 });
    scheduler.on_event(at(3), beat("b", 1, &[], &[0]));
    scheduler.on_event(at(3), Event::Drain { worker: "a".into() });
    scheduler.on_event(at(4), Event::Checkpoint { key: key.clone(), step: 90 });
    let actions = scheduler.on_event(at(4), ended(&key, Ending::Stopped { step: 90 }));
    (scheduler, run, actions)
}

fn training(keeps: bool) -> (Scheduler, RunConfig, AttemptKey) {
    let mut scheduler = Scheduler::new(CostModel::default());
    scheduler.set_keeps_checkpoints(keeps);
    for worker in ["a", "b"] {
        scheduler.on_event(at(0), join(worker, 1, 1, Vec::new()));
        scheduler.on_event(at(0), Event::SessionOpened { worker: worker.into() });
    }
    let run = config(32, 100);
    scheduler.on_event(at(0), sweep(1, &[(run.clone(), RunRole::Fit)]));
    let key = grants(&scheduler.on_event(at(1), beat("a", 1, &[], &[0]))).remove(0).key;
    (scheduler, run, key)
}

fn placed(actions: &[Action]) -> Vec<(String, u32)> {
    grants(actions).into_iter().map(|grant| (grant.worker, grant.key.number)).collect()
}

#[test]
fn a_run_goes_to_another_worker_once_its_last_checkpoint_is_kept() {
    let (mut scheduler, run, actions) = stopped(true);
    assert_eq!(placed(&actions), [], "its checkpoint would be lost");
    let lines = scheduler.explain(at(5), &run.id()).unwrap();
    assert!(lines[0].contains("Worker a hands in its checkpoint at step 90"), "{lines:?}");
    assert_eq!(scheduler.waiting_for(at(5))["hand-in"], 1);
    let kept = |step| Event::Kept { run: run.id(), step };
    assert_eq!(placed(&scheduler.on_event(at(5), kept(75))), [], "not the last one");
    assert_eq!(placed(&scheduler.on_event(at(6), kept(90))), [("b".into(), 2)]);
}

#[test]
fn a_run_waits_for_no_checkpoint_where_none_is_kept() {
    assert_eq!(placed(&stopped(false).2), [("b".into(), 2)]);
}

#[test]
fn a_run_waits_no_longer_than_its_worker_lives_or_than_five_minutes() {
    let (mut scheduler, ..) = stopped(true);
    let mut lost = scheduler.clone();
    lost.on_event(at(15), beat("b", 1, &[], &[0]));
    assert_eq!(placed(&lost.on_event(at(20), Event::Tick)), []);
    assert_eq!(placed(&lost.on_event(at(21), Event::Tick)), [("b".into(), 2)], "a is silent");
    for second in (10..304).step_by(6) {
        scheduler.on_event(at(second), beat("a", 1, &[], &[]));
        assert_eq!(placed(&scheduler.on_event(at(second), beat("b", 1, &[], &[0]))), []);
    }
    assert_eq!(placed(&scheduler.on_event(at(304), Event::Tick)), [("b".into(), 2)]);
}

#[test]
fn the_worker_that_has_the_checkpoint_may_go_on_at_once() {
    let (mut scheduler, run, key) = training(true);
    scheduler.on_event(at(2), Event::Checkpoint { key: key.clone(), step: 90 });
    let pause = |paused| Event::Pause { runs: vec![run.id()], paused };
    scheduler.on_event(at(3), pause(true));
    scheduler.on_event(at(4), ended(&key, Ending::Stopped { step: 90 }));
    // What it trained before it paused is as much worth to a run that goes on.
    scheduler.on_event(at(5), beat("b", 1, &[], &[0]));
    assert_eq!(placed(&scheduler.on_event(at(5), pause(false))), []);
    assert_eq!(placed(&scheduler.on_event(at(6), beat("a", 1, &[], &[0]))), [("a".into(), 2)]);
    // The second attempt has none of its own: the first one's comes in no more.
    let again = AttemptKey { number: 2, ..key };
    scheduler.on_event(at(7), ended(&again, failed(FailureCause::Program)));
    assert_eq!(placed(&scheduler.on_event(at(9), beat("a", 1, &[], &[]))), [("b".into(), 3)]);
}

#[test]
fn a_failed_attempt_hands_in_what_it_had_and_a_lost_one_cannot() {
    let (mut scheduler, run, key) = training(true);
    scheduler.on_event(at(2), Event::Checkpoint { key: key.clone(), step: 90 });
    scheduler.on_event(at(3), beat("b", 1, &[], &[0]));
    let mut lost = scheduler.clone();
    scheduler.on_event(at(4), ended(&key, failed(FailureCause::Program)));
    assert_eq!(placed(&scheduler.on_event(at(8), Event::Tick)), []);
    let kept = Event::Kept { run: run.id(), step: 90 };
    assert_eq!(placed(&scheduler.on_event(at(9), kept)), [("b".into(), 2)]);
    // Its worker no longer names it: nothing may be handed in for it.
    lost.on_event(at(4), Event::Sent { key, sequence: 1 });
    lost.on_event(at(4), beat("a", 1, &[], &[]));
    assert_eq!(placed(&lost.on_event(at(8), Event::Tick)), [("b".into(), 2)]);
}
