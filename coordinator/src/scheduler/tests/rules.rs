//! The rules that give up runs and leave devices alone.

use super::*;

fn end_of(actions: &[Action]) -> (RunState, String) {
    let row = actions.iter().find_map(|action| match action {
        Action::End(row) => Some(row),
        _ => None,
    });
    let row = row.expect("an attempt ended");
    (row.state, row.state_reason.clone().unwrap_or_default())
}

fn come(scheduler: &mut Scheduler, now: u64, worker: &str, incarnation: u64) {
    scheduler.on_event(at(now), join(worker, 1, incarnation, Vec::new()));
    scheduler.on_event(at(now), Event::SessionOpened { worker: worker.into() });
}

#[test]
fn a_run_that_takes_three_workers_with_it_is_given_up() {
    let mut scheduler = Scheduler::new(CostModel::default());
    let run = config(32, 100);
    scheduler.on_event(at(0), sweep(1, &[(run.clone(), RunRole::Fit)]));
    for (number, worker) in ["a", "b", "c"].into_iter().enumerate() {
        let now = 100 * (number as u64 + 1);
        come(&mut scheduler, now, worker, 1);
        assert_eq!(grants(&scheduler.on_event(at(now), beat(worker, 1, &[], &[0]))).len(), 1);
        let (state, reason) = end_of(&scheduler.on_event(at(now + 30), Event::Tick));
        if number < 2 {
            assert_eq!(state, RunState::Queued);
        } else {
            assert_eq!(state, RunState::Failed);
            assert!(reason.contains("a, b, c"), "{reason}");
        }
    }
    // A fresh budget forgets them.
    let actions = scheduler.on_event(at(900), Event::Retry(vec![run.id()]));
    assert!(matches!(&actions[0], Action::SetState(row) if row.state == RunState::Queued));
}

#[test]
fn preemptions_with_progress_are_no_poison() {
    let mut scheduler = Scheduler::new(CostModel::default());
    scheduler.on_event(at(0), sweep(1, &[(config(32, 100), RunRole::Fit)]));
    for number in 0..5_u64 {
        let now = 100 * (number + 1);
        let worker = format!("w{number}");
        come(&mut scheduler, now, &worker, 1);
        let granted = grants(&scheduler.on_event(at(now), beat(&worker, 1, &[], &[0]))).remove(0);
        scheduler.on_event(at(now), Event::Checkpoint { key: granted.key, step: 10 });
        let (state, _) = end_of(&scheduler.on_event(at(now + 30), Event::Tick));
        assert_eq!(state, RunState::Queued);
    }
}

#[test]
fn a_device_that_fails_three_runs_is_left_alone_for_a_while() {
    let mut scheduler = with_worker(1);
    let runs: Vec<_> = (1..6).map(|n| (config(32, n * 100), RunRole::Fit)).collect();
    scheduler.on_event(at(0), sweep(1, &runs));
    for _ in 0..3 {
        // In one moment, so that the run that has just failed is not the next one again.
        let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))).remove(0);
        let ending = failed(FailureCause::Infrastructure);
        scheduler.on_event(at(1), ended(&granted.key, ending));
    }
    assert!(grants(&scheduler.on_event(at(10), beat("w", 1, &[], &[0]))).is_empty());
    let lines = scheduler.explain(at(10), &runs[0].0.id()).unwrap();
    assert!(lines.iter().any(|line| line.contains("Device cpu of worker w")), "{lines:?}");
    // A worker that starts anew has the same device.
    come(&mut scheduler, 20, "w", 2);
    assert!(grants(&scheduler.on_event(at(20), beat("w", 2, &[], &[0]))).is_empty());
    come(&mut scheduler, 1900, "w", 3);
    assert_eq!(grants(&scheduler.on_event(at(1900), beat("w", 3, &[], &[0]))).len(), 1);
}

#[test]
fn daemons_that_were_killed_condemn_neither_device_nor_run() {
    let mut scheduler = with_worker(1);
    let run = config(32, 900);
    scheduler.on_event(at(0), sweep(1, &[(run.clone(), RunRole::Fit)]));
    for n in 1..=6 {
        come(&mut scheduler, 100 * n, "w", n);
        let now = at(100 * n + 1);
        let granted = grants(&scheduler.on_event(now, beat("w", n, &[], &[0]))).remove(0);
        assert_eq!(granted.key.run, run.id());
        scheduler.on_event(now, ended(&granted.key, failed(FailureCause::Daemon)));
    }
}

/// The coordinator's objects may be away for hours.
#[test]
fn fetches_that_fail_condemn_neither_device_nor_run() {
    let mut scheduler = with_worker(1);
    let runs: Vec<_> = (1..4).map(|n| (config(32, n * 100), RunRole::Fit)).collect();
    scheduler.on_event(at(0), sweep(1, &runs));
    let (mut now, mut pause) = (1, 0);
    for number in 1..=30_u64 {
        let granted = grants(&scheduler.on_event(at(now), beat("w", 1, &[], &[0]))).remove(0);
        let actions = scheduler.on_event(at(now), ended(&granted.key, failed(FailureCause::Fetch)));
        let Action::End(row) = &actions[0] else { panic!("{actions:?}") };
        assert_eq!(row.state, RunState::Queued, "{number}");
        assert_eq!((row.failures.without_checkpoint, row.failures.program), (0, 0));
        let run = scheduler.run(&granted.key.run).unwrap();
        pause = pause.max((run.not_before - at(now)).as_secs());
        // All three wait for the moment that the last of them may try again.
        if number.is_multiple_of(3) {
            now += 20;
            while now % 61 != 0 {
                scheduler.on_event(at(now), beat("w", 1, &[], &[]));
                now += 1;
            }
        }
    }
    assert_eq!(pause, 60, "the pause between two tries bounds them");
}

#[test]
fn one_run_alone_condemns_no_device() {
    let mut scheduler = with_worker(1);
    let (bad, good) = (config(32, 900), config(32, 100));
    scheduler.on_event(at(0), sweep(1, &[(bad.clone(), RunRole::Fit)]));
    for now in [1, 100, 200] {
        let granted = grants(&scheduler.on_event(at(now), beat("w", 1, &[], &[0]))).remove(0);
        assert_eq!(granted.key.run, bad.id());
        let ending = failed(FailureCause::Infrastructure);
        scheduler.on_event(at(now), ended(&granted.key, ending));
    }
    scheduler.on_event(at(201), sweep(2, &[(good.clone(), RunRole::Fit)]));
    let granted = grants(&scheduler.on_event(at(202), beat("w", 1, &[], &[0])));
    assert_eq!(granted[0].key.run, good.id());
}

/// A worker with a slot on each of three devices.
fn come_with_three_devices(scheduler: &mut Scheduler) {
    let mut worker = joined("w", 3, 1, Vec::new());
    let device = |id: &str| Device { id: id.into(), ..worker.devices[0].clone() };
    worker.devices = ["gpu0", "gpu1", "gpu2"].map(device).to_vec();
    for (slot, device) in worker.slots.iter_mut().zip(&worker.devices) {
        slot.device_id.clone_from(&device.id);
    }
    scheduler.on_event(at(0), Event::Join(worker));
    scheduler.on_event(at(0), Event::SessionOpened { worker: "w".into() });
}

#[test]
fn devices_that_fail_together_condemn_their_worker() {
    let mut scheduler = Scheduler::new(CostModel::default());
    come_with_three_devices(&mut scheduler);
    let runs: Vec<_> = (1..6).map(|n| (config(32, n * 100), RunRole::Fit)).collect();
    scheduler.on_event(at(0), sweep(1, &runs));
    for grant in grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0, 1, 2]))) {
        // No device has failed three runs.
        scheduler.on_event(at(1), ended(&grant.key, failed(FailureCause::Infrastructure)));
    }
    assert!(grants(&scheduler.on_event(at(10), beat("w", 1, &[], &[0, 1, 2]))).is_empty());
    let lines = scheduler.explain(at(10), &runs[0].0.id()).unwrap();
    assert!(lines.iter().any(|line| line.starts_with("Worker w takes no run for 30 min")));
    // Another worker is none the worse for it.
    come(&mut scheduler, 11, "v", 1);
    assert_eq!(grants(&scheduler.on_event(at(11), beat("v", 1, &[], &[0]))).len(), 1);
    for second in (20..1900).step_by(10) {
        scheduler.on_event(at(second), beat("w", 1, &[], &[]));
    }
    assert!(!grants(&scheduler.on_event(at(1900), beat("w", 1, &[], &[0]))).is_empty());
}

#[test]
fn one_run_that_fails_on_every_device_condemns_no_worker() {
    let mut scheduler = Scheduler::new(CostModel::default());
    come_with_three_devices(&mut scheduler);
    let (bad, good) = (config(32, 900), config(32, 100));
    scheduler.on_event(at(0), sweep(1, &[(bad.clone(), RunRole::Fit)]));
    for (slot, now) in [(0, 1), (1, 10), (2, 20)] {
        let granted = grants(&scheduler.on_event(at(now), beat("w", 1, &[], &[slot]))).remove(0);
        assert_eq!(granted.key.run, bad.id());
        scheduler.on_event(at(now), ended(&granted.key, failed(FailureCause::Infrastructure)));
    }
    scheduler.on_event(at(21), sweep(2, &[(good.clone(), RunRole::Fit)]));
    let granted = grants(&scheduler.on_event(at(22), beat("w", 1, &[], &[0])));
    assert_eq!(granted[0].key.run, good.id());
}
