//! Runs go where their memory suffices.

use sweep_spec::plan::{largest_estimate, training_memory_bytes};

use super::*;

const MIB: u64 = 1 << 20;

/// A worker of so many slots on one processor of so much memory.
fn come(scheduler: &mut Scheduler, worker: &str, slots: u32, memory_bytes: Option<u64>) {
    let mut worker = joined(worker, slots, 1, Vec::new());
    worker.devices[0].memory_bytes = memory_bytes;
    let name = worker.worker.clone();
    scheduler.on_event(at(0), Event::Join(worker));
    scheduler.on_event(at(0), Event::SessionOpened { worker: name });
}

fn with_runs(runs: &[RunConfig]) -> Scheduler {
    let mut scheduler = Scheduler::new(CostModel::default());
    let members: Vec<_> = runs.iter().map(|run| (run.clone(), RunRole::Fit)).collect();
    scheduler.on_event(at(0), sweep(1, &members));
    scheduler
}

fn granted(scheduler: &mut Scheduler, now: u64, worker: &str, free: &[u32]) -> Vec<Grant> {
    grants(&scheduler.on_event(at(now), beat(worker, 1, &[], free)))
}

/// The least memory of a slot that suffices for a run.
fn enough_for(run: &RunConfig) -> u64 {
    (training_memory_bytes(run) + MIB) * 10 / 9
}

/// Two runs, the first of which takes more memory and more time.
fn large_and_small() -> (RunConfig, RunConfig) {
    let (large, small) = (config(256, 900), config(32, 100));
    assert!(training_memory_bytes(&large) > 2 * training_memory_bytes(&small));
    (large, small)
}

#[test]
fn a_run_goes_only_where_its_memory_suffices() {
    let (large, small) = large_and_small();
    let mut scheduler = with_runs(&[large.clone(), small.clone()]);
    come(&mut scheduler, "small", 1, Some(enough_for(&small)));
    let first = granted(&mut scheduler, 1, "small", &[0]);
    assert_eq!(first[0].key.run, small.id(), "the longer run does not fit");
    scheduler.on_event(at(2), ended(&first[0].key, Ending::Finished { step: 100 }));
    assert!(granted(&mut scheduler, 3, "small", &[0]).is_empty());
    assert_eq!(scheduler.run(&large.id()).unwrap().state, RunState::Queued, "it waits");
    assert_eq!(scheduler.waiting_for(at(3))["memory"], 1);
    let lines = scheduler.explain(at(3), &large.id()).unwrap();
    let needs = sweep_spec::units::bytes(training_memory_bytes(&large));
    let says = |line: &String| line.contains("worker small") && line.contains(&needs);
    assert!(lines.iter().any(says), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("Every slot is busy")), "{lines:?}");
    come(&mut scheduler, "large", 1, Some(enough_for(&large)));
    assert_eq!(scheduler.waiting_for(at(4))["memory"], 0);
    assert_eq!(granted(&mut scheduler, 4, "large", &[0])[0].key.run, large.id());
}

#[test]
fn unknown_memory_is_taken_to_suffice() {
    let (large, _) = large_and_small();
    let mut scheduler = with_runs(std::slice::from_ref(&large));
    come(&mut scheduler, "w", 8, None);
    assert_eq!(granted(&mut scheduler, 1, "w", &[0])[0].key.run, large.id());
}

#[test]
fn the_slots_of_a_device_share_its_memory() {
    let (large, _) = large_and_small();
    let memory = Some(enough_for(&large));
    let mut scheduler = with_runs(std::slice::from_ref(&large));
    come(&mut scheduler, "shared", 2, memory);
    assert!(granted(&mut scheduler, 1, "shared", &[0, 1]).is_empty());
    let lines = scheduler.explain(at(1), &large.id()).unwrap();
    assert!(lines.iter().any(|line| line.contains("fewer slots")), "{lines:?}");
    come(&mut scheduler, "alone", 1, memory);
    assert_eq!(granted(&mut scheduler, 2, "alone", &[0]).len(), 1);
}

/// The end of an attempt that was trained to the end with this peak.
fn finished(key: &AttemptKey, step: u64, peak: u64) -> Event {
    let Event::Ended(end) = ended(key, Ending::Finished { step }) else { unreachable!() };
    Event::Ended(Ended { peak_memory_bytes: Some(peak), ..end })
}

#[test]
fn a_measured_peak_counts_more_than_an_estimate() {
    let (large, _) = large_and_small();
    let alike = RunConfig { seed: 2, ..large.clone() };
    let peak = training_memory_bytes(&large) / 2;
    let room = enough_for(&large) / 2 + 2 * MIB;
    let mut scheduler = with_runs(&[large.clone(), alike.clone()]);
    come(&mut scheduler, "half", 1, Some(room));
    come(&mut scheduler, "whole", 1, Some(enough_for(&large)));
    assert!(granted(&mut scheduler, 1, "half", &[0]).is_empty());
    let first = granted(&mut scheduler, 1, "whole", &[0]).remove(0);
    // The slot that waits is granted as soon as the peak is known.
    let second = grants(&scheduler.on_event(at(2), finished(&first.key, 900, peak))).remove(0);
    assert_eq!(second.worker, "half");
    assert_ne!(second.key.run, first.key.run);

    // What a card needs is not what its process holds.
    let mut scheduler = with_runs(&[large.clone(), alike]);
    let mut card = joined("card", 1, 1, Vec::new());
    card.devices[0].backend = "vulkan".into();
    card.devices[0].memory_bytes = Some(enough_for(&large));
    scheduler.on_event(at(0), Event::Join(card));
    scheduler.on_event(at(0), Event::SessionOpened { worker: "card".into() });
    come(&mut scheduler, "half", 1, Some(room));
    let first = granted(&mut scheduler, 1, "card", &[0]).remove(0);
    scheduler.on_event(at(2), finished(&first.key, 900, peak));
    assert!(granted(&mut scheduler, 3, "half", &[0]).is_empty());
}

#[test]
fn a_peak_above_the_memory_of_a_slot_does_not_shut_its_kind_out() {
    let (large, _) = large_and_small();
    let alike = RunConfig { seed: 2, ..large.clone() };
    let mut scheduler = with_runs(&[large.clone(), alike]);
    let room = enough_for(&large);
    come(&mut scheduler, "w", 1, Some(room));
    let first = granted(&mut scheduler, 1, "w", &[0]).remove(0);
    scheduler.on_event(at(2), finished(&first.key, 900, 5 * room));
    assert_eq!(scheduler.peaks.values().copied().collect::<Vec<_>>(), [largest_estimate(room)]);
    assert_eq!(granted(&mut scheduler, 3, "w", &[0]).len(), 1);
}

#[test]
fn what_ran_out_of_memory_goes_where_there_is_more() {
    let (large, _) = large_and_small();
    let mut scheduler = with_runs(std::slice::from_ref(&large));
    let room = enough_for(&large);
    come(&mut scheduler, "a", 1, Some(room));
    come(&mut scheduler, "b", 1, Some(2 * room));
    let first = granted(&mut scheduler, 1, "a", &[0]).remove(0);
    scheduler.on_event(at(1), Event::Checkpoint { key: first.key.clone(), step: 10 });
    let actions = scheduler.on_event(at(2), ended(&first.key, failed(FailureCause::Memory)));
    let Action::End(row) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((row.state, row.failures.program), (RunState::Queued, 1));
    assert!(granted(&mut scheduler, 10, "a", &[0]).is_empty(), "not there again");
    let lines = scheduler.explain(at(10), &large.id()).unwrap();
    assert!(lines.iter().any(|line| line.contains("ran out of")), "{lines:?}");
    let second = granted(&mut scheduler, 10, "b", &[0]).remove(0);
    // There is no more memory than that, so it is tried there until its budget is used up.
    scheduler.on_event(at(11), ended(&second.key, failed(FailureCause::Memory)));
    let third = granted(&mut scheduler, 18, "b", &[0]).remove(0);
    assert_eq!(third.worker, "b", "not where there is less");
    let actions = scheduler.on_event(at(19), ended(&third.key, failed(FailureCause::Memory)));
    let Action::End(row) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((row.state, row.failures.program), (RunState::Failed, 3));
    // A fresh budget begins anywhere.
    let actions = scheduler.on_event(at(19), Event::Retry(vec![large.id()]));
    assert_eq!(grants(&actions).remove(0).worker, "a");
}

#[test]
fn a_lack_of_memory_condemns_no_device() {
    let runs: Vec<_> = (1..5).map(|n| config(32, n * 100)).collect();
    let mut scheduler = with_runs(&runs);
    come(&mut scheduler, "w", 1, None);
    for _ in 0..3 {
        let granted = granted(&mut scheduler, 1, "w", &[0]).remove(0);
        scheduler.on_event(at(1), ended(&granted.key, failed(FailureCause::Memory)));
    }
    assert_eq!(granted(&mut scheduler, 1, "w", &[0]).len(), 1);
}

#[test]
fn a_branch_does_not_wait_for_a_worker_without_the_memory_for_it() {
    let members = family(256, &[100, 200]);
    let (trunk, branch) = (members[0].0.clone(), members[1].0.clone());
    let mut scheduler = Scheduler::new(CostModel::default());
    scheduler.on_event(at(0), sweep(1, &members));
    let room = enough_for(&trunk);
    come(&mut scheduler, "w", 1, Some(room));
    let first = granted(&mut scheduler, 1, "w", &[0]).remove(0);
    assert_eq!(first.key.run, trunk.id());
    let step = branch.parent.as_ref().unwrap().step;
    scheduler.on_event(at(2), Event::Checkpoint { key: first.key.clone(), step });
    scheduler.on_event(at(3), ended(&first.key, Ending::Finished { step: trunk.steps }));
    // It comes back with two slots, each of which has half; another worker has enough.
    let mut again = joined("w", 2, 2, Vec::new());
    again.devices[0].memory_bytes = Some(room);
    scheduler.on_event(at(30), Event::Join(again));
    scheduler.on_event(at(30), Event::SessionOpened { worker: "w".into() });
    assert!(grants(&scheduler.on_event(at(30), beat("w", 2, &[], &[0, 1]))).is_empty());
    let mut other = joined("v", 1, 1, Vec::new());
    other.devices[0].memory_bytes = Some(room);
    scheduler.on_event(at(31), Event::Join(other));
    scheduler.on_event(at(31), Event::SessionOpened { worker: "v".into() });
    assert_eq!(grants(&scheduler.on_event(at(31), beat("v", 1, &[], &[0]))).len(), 1);
}

#[test]
fn a_sweep_that_no_worker_has_the_memory_for_says_so_after_a_while() {
    let (large, small) = large_and_small();
    let mut scheduler = with_runs(std::slice::from_ref(&large));
    assert_eq!(scheduler.lacks_memory(at(100), &sweep_id(1)), None, "there is no worker");
    come(&mut scheduler, "w", 1, Some(enough_for(&small)));
    assert_eq!(scheduler.lacks_memory(at(59), &sweep_id(1)), None, "a larger one may come");
    let reason = scheduler.lacks_memory(at(60), &sweep_id(1)).unwrap();
    assert!(reason.contains(&sweep_spec::units::bytes(enough_for(&small))), "{reason}");
    // One that was seen may come back.
    come(&mut scheduler, "large", 1, Some(enough_for(&large)));
    scheduler.on_event(at(0), Event::Drain { worker: "large".into() });
    assert_eq!(scheduler.lacks_memory(at(60), &sweep_id(1)), None);
}
