//! The terms of sweeps: priority, share, pause, limits, held checks, runs given up by themselves.

use super::*;

fn with_terms(number: u64, members: &[(RunConfig, RunRole)], terms: Policy) -> Event {
    let Event::Sweep { id, members, runs, cancelled, .. } = sweep(number, members) else {
        unreachable!("it makes a sweep");
    };
    Event::Sweep { id, members, runs, cancelled, policy: terms }
}

fn fits(width: u32, steps: std::ops::Range<u64>) -> Vec<(RunConfig, RunRole)> {
    steps.map(|steps| (config(width, steps), RunRole::Fit)).collect()
}

fn change(number: u64, terms: Policy) -> Event {
    Event::Policy { sweep: sweep_id(number), policy: terms }
}

fn finish(scheduler: &mut Scheduler, now: u64, grant: &Grant, steps: u64) -> Vec<Action> {
    scheduler.on_event(at(now), ended(&grant.key, Ending::Finished { step: steps }))
}

/// Grants slot 0 again and again, each run finishing at once; the runs in order.
fn order(scheduler: &mut Scheduler, count: u64) -> Vec<RunId> {
    let mut order = Vec::new();
    for now in 1..=count {
        let granted = grants(&scheduler.on_event(at(now), beat("w", 1, &[], &[0])));
        let Some(grant) = granted.first() else { break };
        order.push(grant.key.run.clone());
        finish(scheduler, now, grant, 100);
    }
    order
}

fn ids_of(members: &[(RunConfig, RunRole)]) -> HashSet<RunId> {
    members.iter().map(|(config, _)| config.id()).collect()
}

#[test]
fn a_higher_priority_goes_first() {
    let mut scheduler = with_worker(1);
    let (usual, urgent) = (fits(64, 500..505), fits(32, 100..103));
    scheduler.on_event(at(0), sweep(1, &usual));
    let terms = Policy { priority: 5, ..Policy::default() };
    scheduler.on_event(at(0), with_terms(2, &urgent, terms));
    let order = order(&mut scheduler, 8);
    assert_eq!(order[..3].iter().cloned().collect::<HashSet<_>>(), ids_of(&urgent));
    assert_eq!(order.len(), 8);
}

#[test]
fn sweeps_of_one_priority_share_the_slots() {
    let mut scheduler = with_worker(4);
    let (large, small) = (fits(64, 500..520), fits(64, 400..420));
    scheduler.on_event(at(0), sweep(1, &large));
    scheduler.on_event(at(0), sweep(2, &small));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0, 1, 2, 3])));
    let of_small = ids_of(&small);
    let share = granted.iter().filter(|grant| of_small.contains(&grant.key.run)).count();
    // Longest first alone would give all four to the sweep of the longer runs.
    assert_eq!(share, 2, "{granted:?}");
    // A third sweep that comes later has had nothing yet, so its runs are next.
    let late = fits(64, 100..110);
    scheduler.on_event(at(2), sweep(3, &late));
    finish(&mut scheduler, 3, &granted[0], 100);
    let keys: Vec<_> = granted[1..].iter().map(|grant| grant.key.clone()).collect();
    let next = grants(&scheduler.on_event(at(3), beat("w", 1, &keys, &[granted[0].slot])));
    assert!(ids_of(&late).contains(&next[0].key.run));
}

#[test]
fn a_paused_sweep_stops_and_goes_on_where_it_was() {
    let mut scheduler = with_worker(1);
    let runs = fits(32, 100..102);
    scheduler.on_event(at(0), sweep(1, &runs));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))).remove(0);
    let paused = Policy { paused: true, ..Policy::default() };
    let actions = scheduler.on_event(at(2), change(1, paused));
    assert!(matches!(&actions[..], [Action::Kill { key, .. }] if *key == granted.key));
    let actions = scheduler.on_event(at(3), ended(&granted.key, Ending::Stopped { step: 5 }));
    let Action::End(row) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((row.outcome, row.state), (Outcome::Stopped, RunState::Queued));
    assert!(grants(&scheduler.on_event(at(4), beat("w", 1, &[], &[0]))).is_empty());
    let lines = scheduler.explain(at(4), &runs[0].0.id()).unwrap();
    assert!(lines[0].contains("paused"), "{lines:?}");
    assert!(scheduler.stuck(&sweep_id(1)).unwrap().contains("paused"));
    let actions = scheduler.on_event(at(5), change(1, Policy::default()));
    assert_eq!(grants(&actions).len(), 1);
    assert_eq!(scheduler.stuck(&sweep_id(1)), None);
}

#[test]
fn held_checks_wait_for_the_word() {
    let mut scheduler = with_worker(1);
    let (fit, check) = (config(32, 100), config(64, 100));
    let members = [(fit.clone(), RunRole::Fit), (check.clone(), RunRole::Check)];
    let held = Policy { checks_held: true, ..Policy::default() };
    scheduler.on_event(at(0), with_terms(1, &members, held));
    assert_eq!(order(&mut scheduler, 2), [fit.id()]);
    let lines = scheduler.explain(at(3), &check.id()).unwrap();
    assert!(lines[0].contains("forecast must be written down"), "{lines:?}");
    // A client is about to let it go: the sweep is not stuck.
    assert_eq!(scheduler.stuck(&sweep_id(1)), None);
    let actions = scheduler.on_event(at(4), change(1, Policy::default()));
    assert_eq!(grants(&actions)[0].key.run, check.id());
}

#[test]
fn flops_are_reserved_before_and_booked_after() {
    let mut scheduler = with_worker(2);
    let runs = [config(32, 100), config(32, 99), config(32, 98)];
    let members = runs.clone().map(|run| (run, RunRole::Fit));
    let all: f64 = runs.iter().map(RunConfig::flops).sum();
    let terms = Policy { flops_max: Some(all), ..Policy::default() };
    scheduler.on_event(at(0), with_terms(1, &members, terms));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0, 1])));
    assert_eq!(granted.len(), 2);
    // One trains half of its steps and fails: the half is gone, and the last run no longer fits.
    let key = granted[0].key.clone();
    let running = Event::Beat(Beat {
        worker: "w".into(),
        incarnation: 1,
        received: u64::MAX,
        running: granted
            .iter()
            .map(|grant| Running { key: grant.key.clone(), step: 50, tokens_per_second: None })
            .collect(),
        ..Beat::default()
    });
    scheduler.on_event(at(2), running);
    scheduler.on_event(at(3), ended(&key, Ending::Stopped { step: 50 }));
    finish(&mut scheduler, 3, &granted[1], 99);
    let again = grants(&scheduler.on_event(at(4), beat("w", 1, &[], &[0])));
    assert_eq!(again[0].key.run, key.run, "what is left is just enough for it");
    finish(&mut scheduler, 5, &again[0], 100);
    assert!(grants(&scheduler.on_event(at(6), beat("w", 1, &[], &[0]))).is_empty());
    let lines = scheduler.explain(at(6), &runs[2].id()).unwrap();
    assert!(lines[0].contains("FLOPs left of its limit"), "{lines:?}");
    assert!(scheduler.stuck(&sweep_id(1)).unwrap().contains("FLOPs are left"));
}

#[test]
fn used_up_device_time_stops_what_is_trained() {
    let mut scheduler = with_worker(1);
    let terms = Policy { device_seconds_max: Some(10.0), ..Policy::default() };
    scheduler.on_event(at(0), with_terms(1, &fits(32, 100..103), terms));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))).remove(0);
    assert!(scheduler.on_event(at(10), Event::Tick).is_empty());
    let actions = scheduler.on_event(at(11), Event::Tick);
    assert!(matches!(&actions[..], [Action::Kill { key, .. }] if *key == granted.key));
    scheduler.on_event(at(12), ended(&granted.key, Ending::Stopped { step: 50 }));
    assert!(grants(&scheduler.on_event(at(13), beat("w", 1, &[], &[0]))).is_empty());
    assert!(scheduler.stuck(&sweep_id(1)).unwrap().contains("device-hours"));
    // A higher limit lets it go on.
    let more = Policy { device_seconds_max: Some(1e6), ..Policy::default() };
    assert_eq!(grants(&scheduler.on_event(at(14), change(1, more))).len(), 1);
}

#[test]
fn failed_runs_beyond_the_limit_end_the_granting() {
    let mut scheduler = with_worker(1);
    let runs = fits(32, 100..103);
    let terms = Policy { failed_runs_max: Some(0), ..Policy::default() };
    scheduler.on_event(at(0), with_terms(1, &runs, terms));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))).remove(0);
    scheduler.on_event(at(2), ended(&granted.key, failed(FailureCause::Configuration)));
    assert!(grants(&scheduler.on_event(at(3), beat("w", 1, &[], &[0]))).is_empty());
    assert!(scheduler.stuck(&sweep_id(1)).unwrap().contains("1 runs of its sweep failed"));
    // Whoever retries the failed run has seen it.
    let actions = scheduler.on_event(at(4), Event::Retry(vec![granted.key.run.clone()]));
    assert_eq!(grants(&actions).len(), 1);
}

#[test]
fn a_single_run_is_given_up_and_taken_up_again() {
    let mut scheduler = with_worker(1);
    let runs = fits(32, 100..103);
    scheduler.on_event(at(0), sweep(1, &runs));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))).remove(0);
    let waiting = runs[0].0.id();
    let event = Event::Drop(vec![granted.key.run.clone(), waiting.clone()]);
    let actions = scheduler.on_event(at(2), event);
    // Stored before the kill goes out: a restart in between must not take the run up again.
    let dropped = vec![granted.key.run.clone(), waiting.clone()];
    assert_eq!(actions[0], Action::SetDropped { runs: dropped, dropped: true });
    assert!(matches!(&actions[1], Action::Kill { key, .. } if *key == granted.key));
    assert!(matches!(&actions[2], Action::SetState(row)
        if row.run == waiting && row.state == RunState::Cancelled));
    let actions = scheduler.on_event(at(3), ended(&granted.key, Ending::Stopped { step: 5 }));
    let Action::End(row) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((row.outcome, row.state), (Outcome::Cancelled, RunState::Cancelled));
    // The third run goes on.
    let next = grants(&scheduler.on_event(at(4), beat("w", 1, &[], &[0]))).remove(0);
    assert_eq!(next.key.run, runs[1].0.id());
    let actions = scheduler.on_event(at(5), Event::Retry(vec![waiting.clone()]));
    assert_eq!(actions[0], Action::SetDropped { runs: vec![waiting.clone()], dropped: false });
    finish(&mut scheduler, 6, &next, 101);
    assert_eq!(grants(&scheduler.on_event(at(7), beat("w", 1, &[], &[0])))[0].key.run, waiting);
}

/// Trunk and branches together cost what they train themselves, and that is what a limit counts.
#[test]
fn a_limit_counts_a_trunk_once() {
    let mut scheduler = with_worker(1);
    let members = family(32, &[500, 1000]);
    let trunk = members[0].0.clone();
    let own: f64 = members.iter().map(|(run, _)| run.own_flops()).sum();
    let terms = Policy { flops_max: Some(own), ..Policy::default() };
    scheduler.on_event(at(0), with_terms(1, &members, terms));
    scheduler.on_event(at(1), beat("w", 1, &[], &[0]));
    for step in [400, trunk.steps] {
        scheduler.on_event(at(2), checkpoint(&trunk, step));
    }
    scheduler.on_event(at(3), ended(&first_attempt(&trunk), Ending::Finished { step: 800 }));
    for (second, (branch, _)) in (4..).zip([&members[2], &members[1]]) {
        let granted = grants(&scheduler.on_event(at(second), beat("w", 1, &[], &[0])));
        assert_eq!(granted[0].key.run, branch.id());
        let report = Ended {
            key: granted[0].key.clone(),
            ending: Ending::Finished { step: branch.steps },
            resume_step: Some(branch.first_step()),
            seconds: Some(1.0),
            peak_memory_bytes: None,
            points_thinned: 0,
        };
        scheduler.on_event(at(second), Event::Ended(report));
    }
}

#[test]
fn branches_of_a_trunk_that_no_limit_allows_are_stuck_with_it() {
    let mut scheduler = with_worker(1);
    let members = family(32, &[500]);
    let terms = Policy { flops_max: Some(members[1].0.own_flops()), ..Policy::default() };
    scheduler.on_event(at(0), with_terms(1, &members, terms));
    assert!(grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))).is_empty());
    assert!(scheduler.stuck(&sweep_id(1)).unwrap().contains("FLOPs are left"));
}

#[test]
fn a_trunk_that_is_given_up_takes_its_waiting_branches_along() {
    let mut scheduler = with_worker(1);
    let members = family(32, &[500]);
    let [trunk, branch] = [0, 1].map(|place| members[place].0.id());
    scheduler.on_event(at(0), sweep(1, &members));
    let actions = scheduler.on_event(at(1), Event::Drop(vec![trunk.clone()]));
    let cancelled = |actions: &[Action]| {
        let mut runs = Vec::new();
        for action in actions {
            if let Action::SetState(row) = action {
                runs.push((row.run.clone(), row.state));
            }
        }
        runs
    };
    let both = [(trunk.clone(), RunState::Cancelled), (branch.clone(), RunState::Cancelled)];
    assert_eq!(cancelled(&actions), both);
    // A retry of either brings back both.
    for chosen in [trunk.clone(), branch.clone()] {
        let mut again = scheduler.clone();
        again.on_event(at(2), Event::Retry(vec![chosen]));
        for run in [&trunk, &branch] {
            assert_eq!(again.run(run).unwrap().state, RunState::Queued);
        }
    }
}

/// An attempt that outlives the coordinator is paid for by its sweep, which may stop it.
#[test]
fn an_attempt_from_before_the_start_is_charged_to_its_sweep() {
    let run = config(32, 100);
    let mut scheduler = Scheduler::new(CostModel::default());
    let members = [(run.clone(), RunRole::Fit), (config(32, 99), RunRole::Fit)];
    let mut event = with_terms(1, &members, terms_of(&run));
    let Event::Sweep { runs, .. } = &mut event else { unreachable!("made just above") };
    (runs[0].state, runs[0].attempts) = (RunState::Running, 1);
    runs[0].live = Some(sweep_store::LiveAttempt {
        worker: "w".into(),
        incarnation: 1,
        slot: 0,
        device_name: "AMD EPYC".into(),
        started_unix_ms: 0,
    });
    scheduler.on_event(at(0), event);
    let key = first_attempt(&run);
    let live = AttemptStatus { ended: false, reported: false, current: true, last_seq: 0 };
    let held = Held { key: key.clone(), slot: Some(0), status: Some(live) };
    scheduler.on_event(at(1), join("w", 2, 1, vec![held]));
    scheduler.on_event(at(1), Event::SessionOpened { worker: "w".into() });
    // What it may take is set aside: nothing is left for the other run.
    let keys = [key.clone()];
    assert!(grants(&scheduler.on_event(at(2), beat("w", 1, &keys, &[1]))).is_empty());
    let actions = scheduler.on_event(at(3), change(1, Policy { paused: true, ..terms_of(&run) }));
    assert!(matches!(&actions[..], [Action::Kill { key: killed, .. }] if *killed == key));
    scheduler.on_event(at(4), ended(&key, Ending::Finished { step: 100 }));
    assert!(grants(&scheduler.on_event(at(5), change(1, terms_of(&run)))).is_empty());
    assert!(scheduler.stuck(&sweep_id(1)).unwrap().contains("FLOPs are left"));
}

fn terms_of(run: &RunConfig) -> Policy {
    Policy { flops_max: Some(run.flops()), ..Policy::default() }
}

fn pause(runs: &[RunId], paused: bool) -> Event {
    Event::Pause { runs: runs.to_vec(), paused }
}

#[test]
fn a_run_that_is_paused_by_itself_stops_and_lets_the_others_go_on() {
    let mut scheduler = with_worker(1);
    let runs = fits(32, 100..102);
    scheduler.on_event(at(0), sweep(1, &runs));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))).remove(0);
    let (first, other) = (granted.key.run.clone(), runs[0].0.id());
    assert_ne!(first, other, "the longest goes first");
    let actions = scheduler.on_event(at(2), pause(std::slice::from_ref(&first), true));
    let [Action::SetPaused { runs: stored, paused: true }, Action::Kill { key, .. }] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((stored, key), (&vec![first.clone()], &granted.key));
    assert!(scheduler.explain(at(2), &first).unwrap()[0].contains("it is paused"));
    // Again: nothing to store, nothing to stop.
    assert!(scheduler.on_event(at(2), pause(std::slice::from_ref(&first), true)).is_empty());
    // The stop was lost with the life line, and is said again on the next.
    scheduler.on_event(at(2), Event::SessionClosed { worker: "w".into() });
    let again = scheduler.on_event(at(2), Event::SessionOpened { worker: "w".into() });
    assert!(matches!(&again[..], [Action::Kill { key, .. }] if *key == granted.key), "{again:?}");

    scheduler.on_event(at(3), ended(&granted.key, Ending::Stopped { step: 5 }));
    assert_eq!(scheduler.run(&first).unwrap().state, RunState::Queued);
    let next = grants(&scheduler.on_event(at(4), beat("w", 1, &[], &[0]))).remove(0);
    assert_eq!(next.key.run, other);
    finish(&mut scheduler, 5, &next, 100);
    assert!(grants(&scheduler.on_event(at(6), beat("w", 1, &[], &[0]))).is_empty());
    let lines = scheduler.explain(at(6), &first).unwrap();
    assert!(lines[0].contains("paused by itself"), "{lines:?}");
    assert!(scheduler.stuck(&sweep_id(1)).unwrap().contains("paused by themselves"));
    assert_eq!(scheduler.paused_of(&sweep_id(1)), 1);
    let waiting = scheduler.waiting_for(at(6));
    assert_eq!((waiting["pause"], waiting.values().sum::<u64>()), (1, 1), "{waiting:?}");
    // What has ended is not paused; what is paused goes on with the word.
    assert!(scheduler.on_event(at(7), pause(&[other], true)).is_empty());
    let actions = scheduler.on_event(at(7), pause(std::slice::from_ref(&first), false));
    assert_eq!(grants(&actions)[0].key, AttemptKey { run: first, number: 2 });
    assert_eq!(scheduler.stuck(&sweep_id(1)), None);
}

#[test]
fn a_run_that_was_paused_before_the_start_stops_once_its_worker_is_back() {
    let mut scheduler = Scheduler::new(CostModel::default());
    let config = config(32, 100);
    let Event::Sweep { id, members, mut runs, cancelled, policy } =
        sweep(1, &[(config.clone(), RunRole::Fit)])
    else {
        unreachable!("it makes a sweep");
    };
    (runs[0].paused, runs[0].state, runs[0].attempts) = (true, RunState::Running, 1);
    runs[0].live = Some(sweep_store::LiveAttempt {
        worker: "w".into(),
        incarnation: 1,
        slot: 0,
        device_name: "AMD EPYC".into(),
        started_unix_ms: 0,
    });
    scheduler.on_event(at(0), Event::Sweep { id, members, runs, cancelled, policy });
    let key = AttemptKey { run: config.id(), number: 1 };
    let status = AttemptStatus { ended: false, reported: false, current: true, last_seq: 0 };
    let held = vec![Held { key: key.clone(), slot: Some(0), status: Some(status) }];
    scheduler.on_event(at(1), join("w", 1, 1, held));
    let actions = scheduler.on_event(at(1), Event::SessionOpened { worker: "w".into() });
    assert!(matches!(&actions[..], [Action::Kill { key: told, .. }] if *told == key));
}

/// A run of these steps whose first attempt lives on a worker since before the start.
fn live_before_the_start(run: &RunConfig) -> Event {
    let mut event = sweep(1, &[(run.clone(), RunRole::Fit)]);
    let Event::Sweep { runs, .. } = &mut event else { unreachable!("it makes a sweep") };
    (runs[0].state, runs[0].attempts) = (RunState::Running, 1);
    runs[0].live = Some(sweep_store::LiveAttempt {
        worker: "w".into(),
        incarnation: 1,
        slot: 0,
        device_name: "AMD EPYC".into(),
        started_unix_ms: 0,
    });
    event
}

#[test]
fn a_run_that_was_given_up_before_the_start_is_not_taken_up_again() {
    let run = config(32, 100);
    let mut event = live_before_the_start(&run);
    let Event::Sweep { runs, .. } = &mut event else { unreachable!("made just above") };
    runs[0].dropped = true;
    let mut scheduler = Scheduler::new(CostModel::default());
    scheduler.on_event(at(0), event);
    let key = first_attempt(&run);
    let status = AttemptStatus { ended: false, reported: false, current: true, last_seq: 0 };
    let held = |slot| vec![Held { key: key.clone(), slot, status: Some(status) }];
    let mut training = scheduler.clone();
    let actions = training.on_event(at(1), join("w", 1, 1, held(Some(0))));
    let kills =
        |action: &Action| matches!(action, Action::Verdict { verdict: Verdict::Kill(_), .. });
    assert!(actions.iter().any(kills), "{actions:?}");
    assert_eq!(training.run(&run.id()).unwrap().state, RunState::Cancelled);
    // The same where it stopped in between and only its report was missing.
    scheduler.on_event(at(1), join("w", 1, 1, held(None)));
    scheduler.on_event(at(2), ended(&key, Ending::Stopped { step: 5 }));
    assert_eq!(scheduler.run(&run.id()).unwrap().state, RunState::Cancelled);
}

/// What was spent before the start is paid for by the sweep that wants the run, and not by an
/// earlier one that was given up.
#[test]
fn what_was_spent_before_the_start_is_booked_to_the_sweep_that_wants_the_run() {
    let run = config(32, 100);
    let members = [(run.clone(), RunRole::Fit)];
    let mut given_up = sweep(1, &members);
    let Event::Sweep { cancelled, .. } = &mut given_up else { unreachable!("it makes a sweep") };
    *cancelled = true;
    let mut scheduler = with_worker(1);
    scheduler.on_event(at(0), given_up);
    scheduler.on_event(at(0), with_terms(2, &members, terms_of(&run)));
    scheduler.book(&run.id(), 50, Duration::ZERO);
    assert!(grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))).is_empty());
    assert!(scheduler.stuck(&sweep_id(2)).unwrap().contains("FLOPs are left"));
}

#[test]
fn why_a_run_failed_is_known_after_a_start() {
    let run = config(32, 100);
    let mut event = sweep(1, &[(run.clone(), RunRole::Fit)]);
    let Event::Sweep { runs, .. } = &mut event else { unreachable!("it makes a sweep") };
    (runs[0].state, runs[0].attempts) = (RunState::Failed, 3);
    runs[0].reason = Some("it fell; 3 attempts failed".into());
    let mut scheduler = Scheduler::new(CostModel::default());
    scheduler.on_event(at(0), event);
    let lines = scheduler.explain(at(1), &run.id()).unwrap();
    assert!(lines[0].contains("it fell; 3 attempts failed"), "{lines:?}");
}
