//! One placing on many slots: none is overlooked, and no run is looked at in vain again and again.

use super::*;

/// Workers of one slot each, called by number.
fn with_workers(count: u32) -> (Scheduler, Vec<String>) {
    let mut scheduler = Scheduler::new(CostModel::default());
    let names: Vec<String> = (0..count).map(|number| format!("w{number:03}")).collect();
    for name in &names {
        scheduler.on_event(at(0), join(name, 1, 1, Vec::new()));
        scheduler.on_event(at(0), Event::SessionOpened { worker: name.clone() });
    }
    (scheduler, names)
}

#[test]
fn the_last_of_many_free_slots_is_found() {
    let (mut scheduler, names) = with_workers(300);
    let (last, others) = names.split_last().unwrap();
    let members = family(32, &[500]);
    let (trunk, branch) = (members[0].0.clone(), members[1].0.clone());
    scheduler.on_event(at(0), sweep(1, &members));
    assert_eq!(ids(&scheduler.on_event(at(1), beat(last, 1, &[], &[0]))), [trunk.id()]);
    scheduler.on_event(at(2), checkpoint(&trunk, 400));
    scheduler.on_event(at(3), ended(&first_attempt(&trunk), Ending::Finished { step: 400 }));
    for other in others {
        assert!(ids(&scheduler.on_event(at(4), beat(other, 1, &[], &[0]))).is_empty());
    }
    let granted = grants(&scheduler.on_event(at(4), beat(last, 1, &[], &[0])));
    assert_eq!(granted.len(), 1, "it was overlooked");
    assert_eq!((&granted[0].key.run, &granted[0].worker), (&branch.id(), last));
}

#[test]
fn no_more_is_granted_at_once_than_a_cycle_may() {
    let (mut scheduler, names) = with_workers(300);
    for name in &names {
        scheduler.on_event(at(1), beat(name, 1, &[], &[0]));
    }
    let members: Vec<_> = (0..300).map(|n| (config(32, 100 + n), RunRole::Fit)).collect();
    assert_eq!(grants(&scheduler.on_event(at(2), sweep(1, &members))).len(), GRANTS_MAX);
    assert_eq!(grants(&scheduler.on_event(at(2), Event::Tick)).len(), 300 - GRANTS_MAX);
}

#[test]
fn a_queue_that_nothing_can_be_granted_from_is_looked_through_once() {
    let (mut scheduler, names) = with_workers(3);
    let members: Vec<_> = (0..50).map(|n| (config(32, 100 + n), RunRole::Fit)).collect();
    scheduler.on_event(at(0), sweep(1, &members));
    let poor = Policy { flops_max: Some(1.0), ..Policy::default() };
    scheduler.on_event(at(0), Event::Policy { sweep: sweep_id(1), policy: poor });
    for name in &names {
        assert!(grants(&scheduler.on_event(at(1), beat(name, 1, &[], &[0]))).is_empty());
    }
    assert_eq!(scheduler.queue.len(), 50, "they are in the queue");
    let mut search = scheduler.search();
    assert!(!scheduler.has_more(at(1), &mut search), "no slot is looked at");
    let rich = Policy::default();
    let actions = scheduler.on_event(at(2), Event::Policy { sweep: sweep_id(1), policy: rich });
    assert_eq!(grants(&actions).len(), 3);
}

#[test]
fn a_slot_is_shown_no_run_that_waits_for_other_workers() {
    let (mut scheduler, names) = with_workers(3);
    let members = family(32, &[500]);
    let (trunk, branch) = (members[0].0.clone(), members[1].0.clone());
    scheduler.on_event(at(0), sweep(1, &members));
    scheduler.on_event(at(1), beat(&names[2], 1, &[], &[0]));
    scheduler.on_event(at(2), checkpoint(&trunk, 400));
    scheduler.on_event(at(3), ended(&first_attempt(&trunk), Ending::Finished { step: 400 }));
    scheduler.on_event(at(3), beat(&names[0], 1, &[], &[0]));
    let mut search = scheduler.search();
    let next = |search: &mut _, name: &str| scheduler.next_run(at(3), search, name, 0);
    assert!(scheduler.has_more(at(3), &mut search), "it waits for a slot of its worker");
    assert!(next(&mut search, &names[0]).is_none());
    assert!(next(&mut search, &names[1]).is_none());
    let found = next(&mut search, &names[2]).unwrap();
    assert_eq!(scheduler.runs[found.index].id, branch.id());
}
