//! How long a decision takes with 100,000 runs waiting and 1,000 workers. Timings depend on the
//! machine, so the figure is asked for: `cargo test --release -p coordinator -- --ignored
//! --nocapture decision`.

use std::time::Instant;

use super::*;

const WORKERS: usize = 1000;
const SLOTS: u32 = 4;
const SWEEPS: u64 = 10;
const RUNS_OF_A_SWEEP: u64 = 10_000;

/// Grants, ends and heartbeats until so many runs have ended; gives the microseconds of each event.
fn play(scheduler: &mut Scheduler, ends: usize) -> Vec<u128> {
    let mut times = Vec::new();
    let mut held: Vec<Vec<(AttemptKey, u32)>> = vec![Vec::new(); WORKERS];
    let (mut ended_runs, mut turn) = (0, 0);
    while ended_runs < ends {
        let (number, now) = (turn % WORKERS, at(1 + (turn / WORKERS) as u64 * 5));
        let name = format!("w{number:04}");
        if let Some((key, _)) = held[number].pop() {
            let event = Event::Ended(Ended {
                key,
                ending: Ending::Finished { step: 100 },
                resume_step: Some(0),
                seconds: Some(1.0 + chance_of(turn)),
                peak_memory_bytes: None,
                points_thinned: 0,
            });
            times.push(timed(scheduler, now, event).0);
            ended_runs += 1;
        }
        let keys: Vec<_> = held[number].iter().map(|(key, _)| key.clone()).collect();
        let busy: Vec<u32> = held[number].iter().map(|(_, slot)| *slot).collect();
        let free: Vec<u32> = (0..SLOTS).filter(|slot| !busy.contains(slot)).collect();
        let (time, actions) = timed(scheduler, now, beat(&name, 1, &keys, &free));
        times.push(time);
        for grant in grants(&actions) {
            let place: usize = grant.worker[1..].parse().unwrap();
            let sent = Event::Sent { key: grant.key.clone(), sequence: 1 };
            times.push(timed(scheduler, now, sent).0);
            held[place].push((grant.key, grant.slot));
        }
        if turn.is_multiple_of(20) {
            times.push(timed(scheduler, now, Event::Tick).0);
        }
        turn += 1;
    }
    times
}

fn chance_of(turn: usize) -> f64 {
    f64::from(u32::try_from(turn % 97).unwrap()) / 97.0
}

#[expect(clippy::disallowed_methods, reason = "this measures")]
fn timed(scheduler: &mut Scheduler, now: Duration, event: Event) -> (u128, Vec<Action>) {
    let start = Instant::now();
    let actions = scheduler.on_event(now, event);
    (start.elapsed().as_micros(), actions)
}

/// Waiting runs of 40 shapes and workers that have just come.
fn crowded(workers: usize, sweeps: u64, runs: u64) -> Scheduler {
    let mut scheduler = Scheduler::new(CostModel::default());
    for number in 0..sweeps {
        let members: Vec<_> = (0..runs)
            .map(|run| {
                let width = 16 * (1 + u32::try_from((number * runs + run) % 40).unwrap());
                (config(width, 100 + number * runs + run), RunRole::Fit)
            })
            .collect();
        scheduler.on_event(at(0), sweep(u8::try_from(number + 1).unwrap(), &members));
    }
    for worker in 0..workers {
        let name = format!("w{worker:04}");
        scheduler.on_event(at(0), join(&name, SLOTS, 1, Vec::new()));
        scheduler.on_event(at(0), Event::SessionOpened { worker: name });
    }
    scheduler
}

#[test]
#[ignore = "a timing; it is asked for"]
#[expect(clippy::print_stdout, reason = "the figures that were asked for")]
fn decision_with_a_hundred_thousand_runs_and_a_thousand_workers() {
    let mut scheduler = crowded(WORKERS, SWEEPS, RUNS_OF_A_SWEEP);
    let mut times = play(&mut scheduler, 20_000);
    times.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let place = ((times.len() - 1) as f64 * share) as usize;
        #[expect(clippy::cast_precision_loss, reason = "microseconds")]
        let milliseconds = times[place] as f64 / 1000.0;
        milliseconds
    };
    println!(
        "{} decisions: p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, longest {:.3} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    assert!(at(0.99) < 20.0, "p99 is {} ms", at(0.99));
}

/// Two hundred workers fall silent in one moment: one event ends all that they held, in one list.
#[test]
fn two_hundred_lost_workers_are_one_event() {
    let mut scheduler = crowded(200, 1, 1000);
    let now = at(1);
    let mut live = 0;
    for worker in 0..200 {
        let name = format!("w{worker:04}");
        let actions = scheduler.on_event(now, beat(&name, 1, &[], &[0, 1, 2, 3]));
        live += grants(&actions).len();
    }
    assert_eq!(live, 800);
    let actions = scheduler.on_event(at(60), Event::Tick);
    let lost =
        |action: &&Action| matches!(action, Action::End(row) if row.outcome == Outcome::Lost);
    assert_eq!(actions.iter().filter(lost).count(), 800);
}
