//! Life lines that break under a process that lives on.

use super::*;

fn start(worker: &str, start_id: &str, incarnation: u64) -> Event {
    Event::Join(Joined { start_id: start_id.into(), ..joined(worker, 1, incarnation, Vec::new()) })
}

fn open(scheduler: &mut Scheduler, now: u64, worker: &str) -> Vec<Action> {
    scheduler.on_event(at(now), Event::SessionOpened { worker: worker.into() })
}

#[test]
fn a_drain_outlives_the_life_line_but_not_the_process() {
    let mut scheduler = Scheduler::new(CostModel::default());
    scheduler.on_event(at(0), start("w", "one", 1));
    assert!(open(&mut scheduler, 0, "w").is_empty());
    scheduler.on_event(at(1), Event::Drain { worker: "w".into() });
    scheduler.on_event(at(2), Event::SessionClosed { worker: "w".into() });
    scheduler.on_event(at(3), start("w", "one", 1));
    let said = open(&mut scheduler, 3, "w");
    assert!(matches!(&said[..], [Action::Drain { worker, .. }] if worker == "w"), "{said:?}");
    scheduler.on_event(at(3), sweep(1, &[(config(32, 100), RunRole::Fit)]));
    assert!(ids(&scheduler.on_event(at(4), beat("w", 1, &[], &[0]))).is_empty());
    // Started again, it is not asked to leave.
    scheduler.on_event(at(5), start("w", "two", 2));
    assert!(open(&mut scheduler, 5, "w").is_empty());
    assert_eq!(ids(&scheduler.on_event(at(6), beat("w", 2, &[], &[0]))).len(), 1);
}

/// Three breaks that each catch a grant on its way, to one worker after the other; what becomes of
/// the run in the end.
fn three_breaks(comes_back: impl Fn(&str) -> Event) -> RunState {
    let mut scheduler = Scheduler::new(CostModel::default());
    let run = config(32, 100);
    scheduler.on_event(at(0), sweep(1, &[(run.clone(), RunRole::Fit)]));
    for (number, worker) in ["a", "b", "c"].into_iter().enumerate() {
        let now = 10 * (number as u64 + 1);
        scheduler.on_event(at(now), start(worker, "one", 1));
        open(&mut scheduler, now, worker);
        assert_eq!(ids(&scheduler.on_event(at(now), beat(worker, 1, &[], &[0]))).len(), 1);
        scheduler.on_event(at(now + 1), Event::SessionClosed { worker: worker.into() });
        let actions = scheduler.on_event(at(now + 2), comes_back(worker));
        let lost =
            |action: &Action| matches!(action, Action::End(row) if row.outcome == Outcome::Lost);
        assert!(actions.iter().any(lost), "{actions:?}");
    }
    scheduler.run(&run.id()).unwrap().state
}

#[test]
fn grants_that_are_lost_on_their_way_are_no_lost_workers() {
    assert_eq!(three_breaks(|worker| start(worker, "one", 1)), RunState::Queued);
    assert_eq!(three_breaks(|worker| start(worker, "two", 2)), RunState::Failed);
}
