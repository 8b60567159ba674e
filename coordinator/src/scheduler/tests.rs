mod hand_in;
mod histories;
mod life_line;
mod lifetime;
mod makespan;
mod memory;
mod placing;
mod policy;
mod rules;

use std::collections::HashSet;

use sweep_spec::{attempt::FailureCause, cost::CostModel, run::RunConfig};
use sweep_store::Outcome;

use super::*;
use crate::rehearsal::{
    crowded,
    events::{at, beat, config, ended_in, grants, join, joined, sweep, sweep_id},
};

fn ended(key: &AttemptKey, ending: Ending) -> Event {
    ended_in(key, ending, Some(1.0))
}

fn failed(cause: FailureCause) -> Ending {
    Ending::Failed { cause, reason: "it fell".into() }
}

/// A scheduler with one worker of some slots whose session is open.
fn with_worker(slots: u32) -> Scheduler {
    let mut scheduler = Scheduler::new(CostModel::default());
    scheduler.on_event(at(0), join("w", slots, 1, Vec::new()));
    scheduler.on_event(at(0), Event::SessionOpened { worker: "w".into() });
    scheduler
}

#[test]
fn the_longest_run_goes_first_and_checks_go_last() {
    let mut scheduler = with_worker(1);
    let (short, long, check) = (config(32, 100), config(32, 900), config(64, 9000));
    let members = [
        (short.clone(), RunRole::Fit),
        (check.clone(), RunRole::Check),
        (long.clone(), RunRole::Fit),
    ];
    assert!(scheduler.on_event(at(0), sweep(1, &members)).is_empty());
    let mut order = Vec::new();
    for second in 1..4 {
        let granted = grants(&scheduler.on_event(at(second), beat("w", 1, &[], &[0])));
        assert_eq!(granted.len(), 1);
        order.push(granted[0].key.run.clone());
        // The slot is held: the same heartbeat again grants nothing.
        let key = granted[0].key.clone();
        scheduler.on_event(at(second), Event::Sent { key: key.clone(), sequence: 1 });
        let again = beat("w", 1, std::slice::from_ref(&key), &[0]);
        assert!(grants(&scheduler.on_event(at(second), again)).is_empty());
        scheduler.on_event(at(second), ended(&key, Ending::Finished { step: 100 }));
    }
    assert_eq!(order, [long.id(), short.id(), check.id()]);
}

#[test]
fn no_lease_runs_out_while_the_coordinator_stood_still() {
    let mut scheduler = with_worker(1);
    scheduler.on_event(at(0), sweep(1, &[(config(32, 100), RunRole::Fit)]));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0])));
    assert_eq!(granted.len(), 1);
    // Stopped from 2 to 42: the heartbeats of that time lie unread.
    assert!(scheduler.on_event(at(42), Event::Stood(at(40))).is_empty());
    assert!(scheduler.on_event(at(42), Event::Tick).is_empty());
    assert!(scheduler.on_event(at(60), Event::Tick).is_empty());
    let actions = scheduler.on_event(at(61), Event::Tick);
    assert!(matches!(actions[0], Action::End(_)), "it is silent all the same: {actions:?}");
}

#[test]
fn a_silent_worker_loses_its_lease_and_the_run_is_granted_anew() {
    let mut scheduler = with_worker(1);
    scheduler.on_event(at(0), sweep(1, &[(config(32, 100), RunRole::Fit)]));
    let first = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))).remove(0);
    assert_eq!(first.key.number, 1);
    assert!(scheduler.on_event(at(20), Event::Tick).is_empty());
    let actions = scheduler.on_event(at(21), Event::Tick);
    let Action::End(row) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((row.outcome, row.state), (Outcome::Lost, RunState::Queued));
    assert_eq!(row.failures.infrastructure, 1);
    // Its own late end changes nothing, and it must join again before it gets a run.
    assert!(
        scheduler.on_event(at(22), ended(&first.key, Ending::Finished { step: 100 })).is_empty()
    );
    assert!(scheduler.on_event(at(22), beat("w", 1, &[], &[0])).is_empty());
    scheduler.on_event(at(23), join("w", 1, 2, Vec::new()));
    scheduler.on_event(at(23), Event::SessionOpened { worker: "w".into() });
    let second = grants(&scheduler.on_event(at(24), beat("w", 2, &[], &[0]))).remove(0);
    assert_eq!((second.key.run, second.key.number), (first.key.run, 2));
}

#[test]
fn the_copy_of_a_worker_is_told_from_the_worker_that_comes_back() {
    let start = |incarnation, start_id: &str| Joined {
        start_id: start_id.into(),
        ..joined("w", 1, incarnation, Vec::new())
    };
    let mut scheduler = Scheduler::new(CostModel::default());
    scheduler.on_event(at(0), Event::Join(start(1, "one")));
    assert!(!scheduler.is_clone(&start(1, "one")), "its connection broke");
    assert!(!scheduler.is_clone(&start(2, "two")), "it was started again");
    assert!(!scheduler.is_clone(&start(1, "")), "an earlier version");
    assert!(scheduler.is_clone(&start(1, "two")));
    // Once the first is gone, the other may have its place.
    scheduler.on_event(at(30), Event::Tick);
    assert!(!scheduler.is_clone(&start(1, "two")));
}

#[test]
fn a_worker_that_comes_back_keeps_what_it_holds() {
    let mut scheduler = with_worker(2);
    let members = [(config(32, 100), RunRole::Fit), (config(32, 200), RunRole::Fit)];
    scheduler.on_event(at(0), sweep(1, &members));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0, 1])));
    assert_eq!(granted.len(), 2);
    let live = AttemptStatus { ended: false, reported: false, current: true, last_seq: 0 };
    let held = |grant: &Grant, status| Held { key: grant.key.clone(), slot: Some(0), status };
    let unknown = AttemptKey { run: config(64, 1).id(), number: 9 };
    let done = AttemptStatus { ended: true, reported: true, current: true, last_seq: 4 };
    let list = vec![
        held(&granted[0], Some(live)),
        Held { key: unknown.clone(), slot: None, status: None },
        Held {
            key: AttemptKey { number: 1, run: config(64, 2).id() },
            slot: None,
            status: Some(done),
        },
    ];
    let actions = scheduler.on_event(at(5), join("w", 2, 2, list));
    let verdicts: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Verdict { verdict, .. } => Some(verdict.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(verdicts[0], Verdict::Keep);
    assert!(matches!(verdicts[1], Verdict::Kill(_)));
    assert_eq!(verdicts[2], Verdict::Done);
    // The other attempt is not held: it is lost.
    let lost: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::End(row) => Some((row.key.clone(), row.outcome)),
            _ => None,
        })
        .collect();
    assert_eq!(lost, [(granted[1].key.clone(), Outcome::Lost)]);
}

#[test]
fn budgets_end_a_run_and_a_retry_gives_a_new_one() {
    let mut scheduler = with_worker(1);
    let run = config(32, 100);
    scheduler.on_event(at(0), sweep(1, &[(run.clone(), RunRole::Fit)]));
    let mut moment = 1;
    for number in 1..=3 {
        let granted = grants(&scheduler.on_event(at(moment), beat("w", 1, &[], &[0])));
        assert_eq!(granted[0].key.number, number);
        let actions =
            scheduler.on_event(at(moment), ended(&granted[0].key, failed(FailureCause::Program)));
        let Action::End(row) = &actions[0] else { panic!("{actions:?}") };
        let expected = if number < 3 { RunState::Queued } else { RunState::Failed };
        assert_eq!(row.state, expected);
        // Back-off: not at once.
        assert!(grants(&scheduler.on_event(at(moment), beat("w", 1, &[], &[0]))).is_empty());
        moment += 10;
    }
    let lines = scheduler.explain(at(moment), &run.id()).unwrap();
    assert!(lines[0].contains("3 attempts failed"), "{lines:?}");
    let actions = scheduler.on_event(at(moment), Event::Retry(vec![run.id()]));
    assert!(matches!(&actions[0], Action::SetState(row) if row.state == RunState::Queued));
    assert_eq!(grants(&actions)[0].key.number, 4);
}

#[test]
fn a_configuration_that_cannot_work_is_not_tried_again() {
    let mut scheduler = with_worker(1);
    scheduler.on_event(at(0), sweep(1, &[(config(32, 100), RunRole::Fit)]));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0])));
    let ending = failed(FailureCause::Configuration);
    let actions = scheduler.on_event(at(2), ended(&granted[0].key, ending));
    assert!(matches!(&actions[0], Action::End(row) if row.state == RunState::Failed));
}

#[test]
fn a_cancelled_sweep_stops_its_runs_unless_another_wants_them() {
    let mut scheduler = with_worker(1);
    let (shared, own, waiting) = (config(32, 900), config(32, 800), config(32, 100));
    let first = [shared.clone(), own.clone(), waiting.clone()].map(|run| (run, RunRole::Fit));
    scheduler.on_event(at(0), sweep(1, &first));
    scheduler.on_event(at(0), sweep(2, &[(shared.clone(), RunRole::Fit)]));
    let granted = grants(&scheduler.on_event(at(1), beat("w", 1, &[], &[0])));
    assert_eq!(granted[0].key.run, shared.id());
    let actions = scheduler.on_event(at(2), Event::Cancel(sweep_id(1)));
    let cancelled: HashSet<RunId> = actions
        .iter()
        .filter_map(|action| match action {
            Action::SetState(row) => Some(row.run.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(cancelled, HashSet::from([own.id(), waiting.id()]));
    let actions = scheduler.on_event(at(3), Event::Cancel(sweep_id(2)));
    assert!(actions.iter().any(|action| matches!(action, Action::Kill { .. })));
    let actions = scheduler.on_event(at(4), ended(&granted[0].key, Ending::Stopped { step: 5 }));
    let Action::End(row) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((row.outcome, row.state), (Outcome::Cancelled, RunState::Cancelled));
}

#[test]
fn a_draining_worker_gets_no_run() {
    let mut scheduler = with_worker(1);
    let actions = scheduler.on_event(at(0), Event::Drain { worker: "w".into() });
    assert!(matches!(&actions[0], Action::Drain { .. }));
    scheduler.on_event(at(0), sweep(1, &[(config(32, 100), RunRole::Fit)]));
    assert!(scheduler.on_event(at(1), beat("w", 1, &[], &[0])).is_empty());
}

/// A trunk under runs of these lengths, which cool down over a fifth of their steps.
fn family(width: u32, steps: &[u64]) -> Vec<(RunConfig, RunRole)> {
    let mut trunk = config(width, 1).trunk().unwrap();
    let mut branches = Vec::new();
    for &steps in steps {
        let alone = config(width, steps);
        let step = alone.trunk().unwrap().steps;
        trunk.steps = trunk.steps.max(step);
        let parent = Some(sweep_spec::run::ParentEdge { run: trunk.id(), step });
        branches.push((RunConfig { parent, ..alone }, RunRole::Fit));
    }
    branches.insert(0, (trunk, RunRole::Trunk));
    branches
}

fn first_attempt(config: &RunConfig) -> AttemptKey {
    AttemptKey { run: config.id(), number: 1 }
}

fn checkpoint(config: &RunConfig, step: u64) -> Event {
    Event::Checkpoint { key: first_attempt(config), step }
}

fn ids(actions: &[Action]) -> Vec<RunId> {
    grants(actions).into_iter().map(|grant| grant.key.run).collect()
}

#[test]
fn a_branch_starts_at_its_trunks_checkpoint_while_the_trunk_goes_on() {
    let mut scheduler = with_worker(2);
    let members = family(32, &[500, 1000]);
    let [trunk, short, long] = [0, 1, 2].map(|place| members[place].0.clone());
    scheduler.on_event(at(0), sweep(1, &members));
    let granted = ids(&scheduler.on_event(at(1), beat("w", 1, &[], &[0, 1])));
    assert_eq!(granted, [trunk.id()], "branches wait for it");
    let lines = scheduler.explain(at(1), &short.id()).unwrap();
    assert!(lines[0].contains("at step 400; the trunk is at step 0 now"), "{lines:?}");

    // Another checkpoint is not the fork's.
    assert!(ids(&scheduler.on_event(at(2), checkpoint(&trunk, 300))).is_empty());
    assert_eq!(ids(&scheduler.on_event(at(3), checkpoint(&trunk, 400))), [short.id()]);
    scheduler.on_event(at(4), checkpoint(&trunk, 800));
    let end = ended(&first_attempt(&trunk), Ending::Finished { step: 800 });
    scheduler.on_event(at(5), end);
    let running = [first_attempt(&short)];
    assert_eq!(ids(&scheduler.on_event(at(6), beat("w", 1, &running, &[0]))), [long.id()]);
    assert!(scheduler.remaining_of_sweep(&sweep_id(1)).is_some());
}

#[test]
fn a_chain_goes_before_a_run_that_is_longer_than_its_trunk() {
    let mut scheduler = with_worker(1);
    let mut members = vec![(config(32, 900), RunRole::Fit)];
    // 800 steps of trunk and 200 more.
    members.extend(family(32, &[1000]));
    scheduler.on_event(at(0), sweep(1, &members));
    let granted = ids(&scheduler.on_event(at(1), beat("w", 1, &[], &[0])));
    assert_eq!(granted, [members[1].0.id()]);
}

#[test]
fn a_branch_waits_for_the_worker_with_the_checkpoint_unless_it_is_gone() {
    let mut scheduler = with_worker(1);
    scheduler.on_event(at(0), join("v", 1, 1, Vec::new()));
    scheduler.on_event(at(0), Event::SessionOpened { worker: "v".into() });
    let members = family(32, &[500, 1000]);
    let (trunk, short) = (members[0].0.clone(), members[1].0.clone());
    scheduler.on_event(at(0), sweep(1, &members));
    assert_eq!(ids(&scheduler.on_event(at(1), beat("w", 1, &[], &[0]))), [trunk.id()]);
    scheduler.on_event(at(2), checkpoint(&trunk, 400));
    assert!(ids(&scheduler.on_event(at(3), beat("v", 1, &[], &[0]))).is_empty());
    let lines = scheduler.explain(at(3), &short.id()).unwrap();
    assert!(lines[0].contains("whose checkpoint lies on worker w"), "{lines:?}");
    // Its worker falls silent. The trunk starts anew elsewhere, and the branch waits for it.
    scheduler.on_event(at(15), beat("v", 1, &[], &[]));
    scheduler.on_event(at(22), Event::Tick);
    let granted = grants(&scheduler.on_event(at(24), beat("v", 1, &[], &[0]))).remove(0);
    assert_eq!((&granted.key.run, granted.key.number), (&trunk.id(), 2));
    // Once it has ended nobody makes the checkpoint again: the branch trains its steps itself.
    scheduler.on_event(at(25), ended(&granted.key, Ending::Finished { step: 800 }));
    let mut order = Vec::new();
    for second in 26..28 {
        let granted = grants(&scheduler.on_event(at(second), beat("v", 1, &[], &[0]))).remove(0);
        order.push(granted.key.run.clone());
        scheduler.on_event(at(second), ended(&granted.key, Ending::Finished { step: 1000 }));
    }
    assert_eq!(order, [members[2].0.id(), short.id()]);
}

#[test]
fn a_branch_of_a_kept_checkpoint_waits_for_nobody() {
    let mut scheduler = with_worker(1);
    scheduler.on_event(at(0), join("v", 1, 1, Vec::new()));
    scheduler.on_event(at(0), Event::SessionOpened { worker: "v".into() });
    let members = family(32, &[500, 1000]);
    let (trunk, short) = (members[0].0.clone(), members[1].0.clone());
    scheduler.on_event(at(0), sweep(1, &members));
    scheduler.on_event(at(1), beat("w", 1, &[], &[0]));
    scheduler.on_event(at(2), checkpoint(&trunk, 400));
    assert!(ids(&scheduler.on_event(at(3), beat("v", 1, &[], &[0]))).is_empty());
    assert_eq!(scheduler.kept_fork(&short.id()), None);
    let kept = Event::Kept { run: trunk.id(), step: 400 };
    assert_eq!(ids(&scheduler.on_event(at(4), kept)), [short.id()]);
    assert_eq!(scheduler.kept_fork(&short.id()), short.parent);
    assert!(scheduler.explain(at(4), &members[2].0.id()).unwrap()[0].contains("at step 800"));
}

#[test]
fn a_trunk_that_fails_takes_its_waiting_branches_along_and_a_retry_brings_both_back() {
    let mut scheduler = with_worker(1);
    let members = family(32, &[500, 1000]);
    let [trunk, short, long] = [0, 1, 2].map(|place| members[place].0.clone());
    scheduler.on_event(at(0), sweep(1, &members));
    scheduler.on_event(at(1), beat("w", 1, &[], &[0]));
    scheduler.on_event(at(2), checkpoint(&trunk, 400));
    let end = ended(&first_attempt(&trunk), failed(FailureCause::Configuration));
    let actions = scheduler.on_event(at(3), end);
    let states: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::SetState(row) => Some((row.run.clone(), row.state, row.reason.clone())),
            _ => None,
        })
        .collect();
    let why = format!("its trunk {} failed: it fell; no attempt can work", trunk.id().short());
    assert_eq!(states, [(long.id(), RunState::Failed, Some(why))]);
    // The other branch has its checkpoint and is trained.
    assert_eq!(ids(&scheduler.on_event(at(4), beat("w", 1, &[], &[0]))), [short.id()]);
    // Retrying the branch retries its trunk, and the other way round.
    for chosen in [long.id(), trunk.id()] {
        let mut again = scheduler.clone();
        let actions = again.on_event(at(5), Event::Retry(vec![chosen]));
        let queued: HashSet<RunId> = actions
            .iter()
            .filter_map(|action| match action {
                Action::SetState(row) if row.state == RunState::Queued => Some(row.run.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(queued, HashSet::from([trunk.id(), long.id()]));
    }
    // A branch handed in under a failed trunk fails with it, and says so.
    let later = family(32, &[2000]);
    let actions = scheduler.on_event(at(6), sweep(2, &later));
    assert!(
        matches!(&actions[0], Action::SetState(row) if row.run == later[1].0.id()
            && row.state == RunState::Failed),
        "{actions:?}"
    );
}

#[test]
fn a_diverged_trunk_makes_its_waiting_branches_diverge() {
    let mut scheduler = with_worker(1);
    let members = family(32, &[500]);
    scheduler.on_event(at(0), sweep(1, &members));
    scheduler.on_event(at(1), beat("w", 1, &[], &[0]));
    let end = ended(&first_attempt(&members[0].0), Ending::Diverged { step: 7 });
    let actions = scheduler.on_event(at(2), end);
    let Some(Action::SetState(row)) = actions.last() else { panic!("{actions:?}") };
    assert_eq!((&row.run, row.state), (&members[1].0.id(), RunState::Diverged));
    assert!(row.reason.as_ref().unwrap().contains("diverged: the loss is not finite at step 7"));
}

#[test]
fn a_trunk_extended_while_it_is_trained_goes_on_and_a_finished_one_waits_again() {
    let mut scheduler = with_worker(1);
    let members = family(32, &[500]);
    let trunk = members[0].0.clone();
    scheduler.on_event(at(0), sweep(1, &members));
    scheduler.on_event(at(1), beat("w", 1, &[], &[0]));
    let extended = |state, attempts| {
        let members = family(32, &[500, 1000]);
        let mut event = sweep(2, &members);
        let Event::Sweep { runs, .. } = &mut event else { unreachable!("made just above") };
        runs[0] = SavedRun { state, attempts, ..runs[0].clone() };
        event
    };
    let mut finished = scheduler.clone();
    // While it is trained: its end at the step of its grant is not its end.
    scheduler.on_event(at(2), extended(RunState::Running, 1));
    let end = || ended(&first_attempt(&trunk), Ending::Finished { step: 400 });
    let actions = scheduler.on_event(at(3), end());
    let Action::End(row) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((row.outcome, row.state), (Outcome::Finished, RunState::Queued));
    // Once it is finished: the store queues it, the scheduler follows.
    finished.on_event(at(3), end());
    finished.on_event(at(4), extended(RunState::Queued, 1));
    let granted = grants(&finished.on_event(at(5), beat("w", 1, &[], &[0])));
    assert_eq!(granted[0].key, AttemptKey { run: trunk.id(), number: 2 });
}

#[test]
fn after_a_restart_the_checkpoints_of_a_trunk_are_known() {
    let mut scheduler = with_worker(1);
    let members = family(32, &[500, 1000]);
    let mut event = sweep(1, &members);
    let Event::Sweep { runs, .. } = &mut event else { unreachable!("made just above") };
    runs[0].checkpoints = vec![(400, "w".into())];
    runs[0].state = RunState::Cancelled;
    scheduler.on_event(at(0), event);
    let granted = ids(&scheduler.on_event(at(1), beat("w", 1, &[], &[0])));
    assert_eq!(granted, [members[1].0.id()]);
}

/// Two hundred workers fall silent in one moment: one event ends all that they held, in one list.
#[test]
fn two_hundred_lost_workers_are_one_event() {
    let mut scheduler = crowded(1000, 200);
    let names: Vec<String> = scheduler.workers.keys().cloned().collect();
    let beats =
        names.iter().map(|name| scheduler.on_event(at(1), beat(name, 1, &[], &[0, 1, 2, 3])));
    assert_eq!(beats.map(|actions| grants(&actions).len()).sum::<usize>(), 800);
    let actions = scheduler.on_event(at(60), Event::Tick);
    let lost =
        |action: &&Action| matches!(action, Action::End(row) if row.outcome == Outcome::Lost);
    assert_eq!(actions.iter().filter(lost).count(), 800);
}
