//! Histories of any events: the promises that hold after each, and that everything ends.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use sweep_spec::plan::{slot_memory_bytes, suffices, training_memory_bytes};

use super::*;

/// What a simulated worker does next.
#[derive(Clone, Debug)]
enum Step {
    Beat(usize),
    Restart(usize),
    End(usize, u8),
    Wait(u64),
    Cancel,
    Submit,
    Disconnect(usize),
    Retry,
    Checkpoint(usize, u64),
    Pause(bool),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize).prop_map(Step::Beat),
        1 => (0..3_usize).prop_map(Step::Restart),
        6 => (0..8_usize, 0..8_u8).prop_map(|(which, how)| Step::End(which, how)),
        2 => (1..15_u64).prop_map(Step::Wait),
        1 => Just(Step::Cancel),
        1 => Just(Step::Submit),
        1 => (0..3_usize).prop_map(Step::Disconnect),
        1 => Just(Step::Retry),
        3 => (0..8_usize, 1..5_u64).prop_map(|(which, fork)| Step::Checkpoint(which, fork * 80)),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => (0..10_usize).prop_map(Step::Drop),
    ]
}

/// Memory of the device of each worker, which two slots share: unknown, enough for the narrow runs
/// alone, and enough for all.
const MEMORY: [Option<u64>; 3] = [None, Some(140 << 20), Some(400 << 20)];

fn memory_of(worker: &str) -> Option<u64> {
    let number: usize = worker[1..].parse().unwrap();
    MEMORY[number].map(|bytes| slot_memory_bytes(bytes, 2))
}

/// The world around a scheduler: what a store would hold and what workers do.
struct World {
    scheduler: Scheduler,
    now: Duration,
    live: HashMap<RunId, Grant>,
    attempts: HashMap<RunId, u32>,
    states: HashMap<RunId, RunState>,
    incarnations: [u64; 3],
    members: Vec<(RunConfig, RunRole)>,
    /// Committed steps of runs.
    checkpoints: HashSet<(RunId, u64)>,
    paused: bool,
    /// The largest slot memory that a run did not find enough.
    ran_out_of: HashMap<RunId, u64>,
}

impl World {
    fn new() -> Self {
        let mut members: Vec<_> =
            (1..6).map(|steps| (config(32, steps * 100), RunRole::Fit)).collect();
        members.push((config(64, 5000), RunRole::Check));
        // Forks at 80, 160 and 320.
        members.extend(family(32, &[100, 200, 400]));
        let mut world = Self {
            scheduler: Scheduler::new(CostModel::default()),
            now: Duration::ZERO,
            live: HashMap::new(),
            attempts: HashMap::new(),
            states: members.iter().map(|(run, _)| (run.id(), RunState::Queued)).collect(),
            incarnations: [0; 3],
            members,
            checkpoints: HashSet::new(),
            paused: false,
            ran_out_of: HashMap::new(),
        };
        world.event(sweep(1, &world.members.clone()));
        (0..3).for_each(|worker| world.restart(worker));
        world
    }

    /// Plays an event and checks the invariants of what comes back.
    fn event(&mut self, event: Event) {
        let actions = self.scheduler.on_event(self.now, event);
        let mut slots: HashSet<(String, u32)> = HashSet::new();
        for action in &actions {
            match action {
                Action::End(row) => {
                    let live = self.live.remove(&row.key.run).expect("only a live attempt ends");
                    assert_eq!(live.key, row.key);
                    self.states.insert(row.key.run.clone(), row.state);
                }
                Action::SetState(row) => {
                    assert!(!self.live.contains_key(&row.run), "a live run changes by its end");
                    self.states.insert(row.run.clone(), row.state);
                }
                Action::Grant(grant) => self.check_grant(grant, &mut slots),
                _ => {}
            }
        }
        assert!(grants(&actions).len() <= GRANTS_MAX);
    }

    fn check_grant(&mut self, grant: &Grant, slots: &mut HashSet<(String, u32)>) {
        let run = &grant.key.run;
        assert!(!self.paused, "a paused sweep gets nothing");
        assert!(!self.live.contains_key(run), "at most one live attempt");
        assert_eq!(self.states[run], RunState::Queued, "only a waiting run is granted");
        let last = self.attempts.insert(run.clone(), grant.key.number).unwrap_or(0);
        assert_eq!(grant.key.number, last + 1, "attempt numbers rise by one");
        assert!(slots.insert((grant.worker.clone(), grant.slot)), "a slot is granted once");
        let busy = self
            .live
            .values()
            .any(|other| other.worker == grant.worker && other.slot == grant.slot);
        assert!(!busy, "no grant on a busy slot");
        let (_, role) = self.members.iter().find(|(config, _)| config.id() == *run).unwrap();
        if *role == RunRole::Check {
            let fit = self.members.iter().filter(|(_, role)| *role == RunRole::Fit);
            let open = fit.filter(|(config, _)| !self.states[&config.id()].is_ended()).count();
            assert_eq!(open, 0, "a check run waits for the fit");
        }
        let (config, _) = self.members.iter().find(|(config, _)| config.id() == *run).unwrap();
        if let Some(edge) = &config.parent {
            let made = self.checkpoints.contains(&(edge.run.clone(), edge.step));
            let over = self.states[&edge.run] == RunState::Finished;
            assert!(made || over, "a branch waits for its trunk's checkpoint");
        }
        self.check_memory(grant, config);
        self.states.insert(run.clone(), RunState::Running);
        self.live.insert(run.clone(), grant.clone());
    }

    fn check_memory(&self, grant: &Grant, config: &RunConfig) {
        let Some(bytes) = memory_of(&grant.worker) else { return };
        assert!(suffices(training_memory_bytes(config), bytes), "memory suffices");
        if self.ran_out_of.get(&config.id()).is_some_and(|least| bytes <= *least) {
            let there = self.scheduler.workers().iter().filter(|(_, worker)| {
                worker.expires.is_some() && !worker.draining && !worker.slots.is_empty()
            });
            let larger = there.filter(|(id, _)| memory_of(id).is_none_or(|other| other > bytes));
            assert_eq!(larger.count(), 0, "what ran out of memory goes where there is more");
        }
    }

    fn restart(&mut self, worker: usize) {
        self.incarnations[worker] += 1;
        let name = format!("w{worker}");
        let mut joined = joined(&name, 2, self.incarnations[worker], Vec::new());
        joined.devices[0].memory_bytes = MEMORY[worker];
        self.event(Event::Join(joined));
        self.event(Event::SessionOpened { worker: name });
    }

    fn beat(&mut self, worker: usize) {
        let name = format!("w{worker}");
        let held: Vec<&Grant> = self.live.values().filter(|live| live.worker == name).collect();
        let keys: Vec<AttemptKey> = held.iter().map(|grant| grant.key.clone()).collect();
        let free: Vec<u32> =
            (0..2).filter(|slot| held.iter().all(|grant| grant.slot != *slot)).collect();
        self.event(beat(&name, self.incarnations[worker], &keys, &free));
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Beat(worker) => self.beat(worker),
            Step::Restart(worker) => self.restart(worker),
            Step::End(which, how) => {
                let mut keys: Vec<_> = self.live.values().map(|live| live.key.clone()).collect();
                keys.sort();
                let Some(key) = keys.get(which) else { return };
                let (config, _) =
                    self.members.iter().find(|(config, _)| config.id() == key.run).unwrap();
                let ending = match how {
                    0 | 1 => Ending::Finished { step: config.steps },
                    2 => Ending::Diverged { step: 10 },
                    3 => Ending::Stopped { step: 5 },
                    4 => failed(FailureCause::Program),
                    5 => failed(FailureCause::Memory),
                    6 => failed(FailureCause::Fetch),
                    _ => failed(FailureCause::Infrastructure),
                };
                let starved = matches!(ending, Ending::Failed { cause: FailureCause::Memory, .. });
                if starved && let Some(bytes) = memory_of(&self.live[&key.run].worker) {
                    let least = self.ran_out_of.entry(key.run.clone()).or_default();
                    *least = bytes.max(*least);
                }
                self.event(ended(key, ending));
            }
            Step::Wait(seconds) => {
                self.now += at(seconds);
                self.event(Event::Tick);
            }
            Step::Cancel => self.event(Event::Cancel(sweep_id(1))),
            Step::Submit => {
                let members = self.members.clone();
                // The store queues cancelled runs when their sweep is handed in again.
                for state in self.states.values_mut() {
                    if *state == RunState::Cancelled {
                        *state = RunState::Queued;
                    }
                }
                self.paused = false;
                self.event(sweep(1, &members));
            }
            Step::Pause(paused) => {
                self.paused = paused;
                let policy = Policy { paused, ..Policy::default() };
                self.event(Event::Policy { sweep: sweep_id(1), policy });
            }
            Step::Drop(which) => {
                let run = self.members[which % self.members.len()].0.id();
                self.event(Event::Drop(vec![run]));
            }
            Step::Disconnect(worker) => {
                self.event(Event::SessionClosed { worker: format!("w{worker}") });
            }
            Step::Checkpoint(which, step) => {
                let mut keys: Vec<_> = self.live.values().map(|live| live.key.clone()).collect();
                keys.sort();
                let Some(key) = keys.get(which) else { return };
                // Noted first: the event may bring about the grant of a branch.
                self.checkpoints.insert((key.run.clone(), step));
                self.event(Event::Checkpoint { key: key.clone(), step });
            }
            Step::Retry => {
                // What is tried anew is tried anywhere.
                let ended = |run: &RunId| {
                    matches!(self.states[run], RunState::Failed | RunState::Cancelled)
                };
                self.ran_out_of.retain(|run, _| !ended(run));
                let runs = self.states.keys().cloned().collect();
                self.event(Event::Retry(runs));
            }
        }
    }
}

proptest! {
    #[test]
    fn invariants_hold_after_every_event_and_everything_ends(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new();
        for step in steps {
            world.play(step);
        }
        // With faults off, every run that is wanted ends.
        world.play(Step::Submit);
        // Devices that failed runs are left alone for so long.
        world.play(Step::Wait(1801));
        (0..3).for_each(|worker| world.restart(worker));
        for _ in 0..200 {
            world.play(Step::Wait(4));
            (0..3).for_each(|worker| world.beat(worker));
            world.play(Step::End(0, 0));
        }
        let open: Vec<_> = world.states.iter().filter(|(_, state)| !state.is_ended()).collect();
        prop_assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn the_same_events_give_the_same_actions(steps in prop::collection::vec(step(), 0..60)) {
        let (mut one, mut two) = (World::new(), World::new());
        for step in steps {
            one.play(step.clone());
            two.play(step);
            prop_assert_eq!(&one.attempts, &two.attempts);
            prop_assert_eq!(&one.states, &two.states);
        }
    }
}
