//! Workers whose machine is taken away.

use super::*;
use crate::scheduler::state::RunEntry;

/// A worker of one slot that stays for 300 s, where a step takes 0.1 s.
fn leaving() -> Scheduler {
    let mut cost = CostModel::default();
    cost.observe_steps("AMD EPYC", &config(32, 100), 100, 10.0);
    let mut scheduler = Scheduler::new(cost);
    let lifetime = Some(at(300));
    let worker = Joined { lifetime, ..joined("w", 1, 1, Vec::new()) };
    scheduler.on_event(at(0), Event::Join(worker));
    scheduler.on_event(at(0), Event::SessionOpened { worker: "w".into() });
    scheduler
}

#[test]
fn a_run_that_ends_before_its_worker_leaves_goes_first() {
    let mut scheduler = leaving();
    let (short, long) = (config(32, 100), config(32, 9000));
    scheduler
        .on_event(at(0), sweep(1, &[(long.clone(), RunRole::Fit), (short.clone(), RunRole::Fit)]));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0])));
    assert_eq!(granted[0].key.run, short.id());
    let lines = scheduler.explain(at(60), &long.id()).unwrap();
    assert!(lines.iter().any(|line| line.contains("leaves in 4 min")), "{lines:?}");
    // Where nothing else waits it is begun all the same.
    scheduler.on_event(at(11), ended(&granted[0].key, Ending::Finished { step: 100 }));
    let granted = grants(&scheduler.on_event(at(12), beat("w", 1, &[], &[0])));
    assert_eq!(granted[0].key.run, long.id());
}

#[test]
fn a_worker_that_is_about_to_leave_begins_nothing() {
    let mut scheduler = leaving();
    scheduler.on_event(at(0), sweep(1, &[(config(32, 100), RunRole::Fit)]));
    for second in (10..190).step_by(10) {
        scheduler.on_event(at(second), beat("w", 1, &[], &[]));
    }
    assert_eq!(grants(&scheduler.clone().on_event(at(199), beat("w", 1, &[], &[0]))).len(), 1);
    assert!(grants(&scheduler.on_event(at(200), beat("w", 1, &[], &[0]))).is_empty());
}

#[test]
fn a_run_with_a_checkpoint_fits_where_its_rest_does() {
    let scheduler = leaving();
    let worker = &scheduler.workers["w"];
    let mut whole = scheduler.clone();
    whole.on_event(at(0), sweep(1, &[(config(32, 4000), RunRole::Fit)]));
    let fits = |now, run: &RunEntry| whole.fits(at(now), run, worker, &worker.slots[0]);
    assert!(!fits(0, &whole.runs[0]), "400 s of 300");
    let mut run = whole.runs[0].clone();
    run.checkpoint = Some((2000, "w".into()));
    assert!(fits(0, &run), "200 s of 300");
    assert!(!fits(150, &run));
}

#[test]
fn a_run_is_measured_by_the_device_of_the_slot_it_would_have() {
    let mut cost = CostModel::default();
    cost.observe_steps("AMD EPYC", &config(32, 100), 100, 10.0);
    cost.observe_steps("fast", &config(32, 100), 100, 1.0);
    let mut scheduler = Scheduler::new(cost);
    let mut worker = Joined { lifetime: Some(at(300)), ..joined("w", 2, 1, Vec::new()) };
    worker.devices.push(Device {
        id: "gpu".into(),
        name: "fast".into(),
        ..worker.devices[0].clone()
    });
    worker.slots[1].device_id = "gpu".into();
    scheduler.on_event(at(0), Event::Join(worker));
    scheduler.on_event(at(0), Event::SessionOpened { worker: "w".into() });
    // 400 s on the one, 40 s on the other.
    let (long, short) = (config(32, 4000), config(32, 100));
    scheduler
        .on_event(at(0), sweep(1, &[(long.clone(), RunRole::Fit), (short.clone(), RunRole::Fit)]));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[1])));
    assert_eq!(granted[0].key.run, long.id());
    let lines = scheduler.explain(at(1), &short.id()).unwrap();
    assert!(!lines.iter().any(|line| line.contains("leaves in")), "{lines:?}");
}

#[test]
fn a_run_that_fits_is_found_at_the_end_of_a_long_queue() {
    let mut scheduler = leaving();
    // 500 s and more each, but for the last tenth.
    let long = (0..3000).map(|n| (config(32, 5000 + n), RunRole::Fit));
    let short = (0..300).map(|n| (config(32, 100 + n), RunRole::Fit));
    let members: Vec<_> = long.chain(short).collect();
    scheduler.on_event(at(0), sweep(1, &members));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0])));
    let run = members.iter().find(|(run, _)| run.id() == granted[0].key.run).unwrap();
    assert!(run.0.steps < 400, "{}", run.0.steps);
}
