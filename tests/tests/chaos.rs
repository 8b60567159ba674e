//! Kill anything and stop anything, as often as you like: the store ends as that of the same sweep
//! left in peace, value for value.

use std::{thread, time::Duration};

use sweep_tests::{Process, Sandbox, children, signal, wait_until};

use crate::services::{
    BEYOND_A_LEASE, coordinator_on, curves, curves_in_peace, in_state, postgres, runs, slow, worker,
};

/// Disturbances before the sweep is left in peace.
const DISTURBANCES: u32 = 14;

/// Three failures of one run by itself are final, so not more trainers than that are killed.
const TRAINERS_KILLED_MAX: u32 = 2;

/// Runs of several seconds each.
fn recipe() -> String {
    slow().replace("\"slow\"", "\"chaos\"").replace("\"240k\"", "\"480k\"")
}

/// Random choices, the same in every run of the tests.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn rest(&mut self, least: u64, most: u64) {
        thread::sleep(Duration::from_millis(least + self.below(most - least)));
    }
}

/// A coordinator with two workers that can be killed and come back.
struct Fleet<'a> {
    sandbox: &'a Sandbox,
    store: String,
    coordinator: Process,
    workers: Vec<Process>,
    trainers_killed: u32,
}

const WORKERS: [&str; 2] = ["one", "two"];

impl<'a> Fleet<'a> {
    fn start(sandbox: &'a Sandbox, store: &str) -> Self {
        let coordinator = coordinator_on(sandbox, store).unwrap();
        let workers = WORKERS.iter().map(|name| worker(sandbox, name).unwrap()).collect();
        Self { sandbox, store: store.to_owned(), coordinator, workers, trainers_killed: 0 }
    }

    fn disturb(&mut self, dice: &mut Dice) {
        let which = usize::try_from(dice.below(2)).unwrap();
        match dice.below(6) {
            0 => {
                kill(&mut self.coordinator);
                dice.rest(0, 1500);
                self.coordinator = coordinator_on(self.sandbox, &self.store).unwrap();
            }
            1 => pause(&self.coordinator, dice),
            2 | 3 => {
                kill(&mut self.workers[which]);
                dice.rest(0, 1500);
                self.workers[which] = worker(self.sandbox, WORKERS[which]).unwrap();
            }
            4 => pause(&self.workers[which], dice),
            _ => {
                let trainers = children(self.workers[which].id());
                if self.trainers_killed < TRAINERS_KILLED_MAX
                    && let Some(&trainer) = trainers.first()
                    // It may have ended by itself.
                    && signal(trainer, "KILL").is_ok()
                {
                    self.trainers_killed += 1;
                }
            }
        }
    }

    fn log(&self) -> String {
        let logs = self.workers.iter().map(Process::log).chain([self.coordinator.log()]);
        logs.collect::<Vec<_>>().join("\n---\n")
    }
}

fn kill(process: &mut Process) {
    process.signal("KILL").unwrap();
    process.wait().unwrap();
}

fn pause(process: &Process, dice: &mut Dice) {
    process.signal("STOP").unwrap();
    dice.rest(500, 2500);
    process.signal("CONT").unwrap();
}

/// The curves of the sweep on this store after everything that befalls it.
fn disturbed(store: &str, seed: u64) -> Vec<String> {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", recipe()).unwrap();
    let mut fleet = Fleet::start(&sandbox, store);
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let mut dice = Dice(seed);
    for _ in 0..DISTURBANCES {
        dice.rest(200, 1200);
        fleet.disturb(&mut dice);
    }
    fleet.workers[1].signal("STOP").unwrap();
    thread::sleep(BEYOND_A_LEASE);
    fleet.workers[1].signal("CONT").unwrap();
    let done = wait_until(
        "the sweep to finish",
        || fleet.log(),
        || {
            let runs = runs(&sandbox)?;
            Ok((in_state(&runs, "finished") == runs.len()).then_some(runs))
        },
    )
    .unwrap();
    let attempts: u64 = done.iter().map(|run| run["attempts"].as_u64().unwrap()).sum();
    assert!(attempts > done.len() as u64, "nothing was disturbed: {done:#?}");
    let checks = sandbox.sweep_json(&["doctor", "--store", store]).unwrap();
    let checks = checks["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["sound"] == true), "{checks:#?}\n{}", fleet.log());
    curves(&sandbox).unwrap()
}

#[test]
fn a_sweep_in_chaos_is_the_sweep_in_peace() {
    let folder = tempfile::tempdir().unwrap();
    let mut stores = vec![format!("sqlite:{}", folder.path().join("sweep.db").display())];
    let server = postgres("a_sweep_in_chaos_is_the_sweep_in_peace, on Postgres").unwrap();
    stores.extend(server.as_ref().map(|server| server.database().unwrap()));
    let expected = curves_in_peace(&recipe()).unwrap();
    for (store, seed) in stores.iter().zip(7..) {
        let found = disturbed(store, seed);
        let first = expected.iter().zip(&found).find(|(expected, found)| expected != found);
        assert_eq!(first, None, "on {store}");
        assert_eq!(expected.len(), found.len(), "on {store}");
    }
}
