//! A coordinator that crashes at any edge of any commit loses nothing.

use std::{path::Path, sync::Mutex, thread};

use sweep_simulation::{Edge, play_edge};
use sweep_tests::PostgresServer;

/// Commits of a small sweep: workers that join, grants, points, checkpoints, ends.
const COMMITS: u64 = 16;

/// Cases at a time: they mostly wait.
const AT_ONCE: usize = 8;

/// Crashes once at each edge, in a database of its own each time.
fn crash_at_each(database: impl Fn() -> Option<String> + Sync) {
    let program = Path::new(env!("CARGO_BIN_EXE_crashing-coordinator"));
    let edges = (1..=COMMITS).flat_map(|number| [Edge::Before(number), Edge::After(number)]);
    let (open, crashed) = (Mutex::new(edges), Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = open.lock().expect("nobody panics with it").next();
                    let Some(edge) = next else { return };
                    let came = play_edge(program, edge, database())
                        .unwrap_or_else(|error| panic!("at {edge:?}: {error:#}"));
                    *crashed.lock().expect("nobody panics with it") += u64::from(came);
                }
            });
        }
    });
    // Points that come together share a commit, so that the last ones may not be reached.
    let crashed = crashed.into_inner().expect("nobody panics with it");
    assert!(crashed >= COMMITS, "only {crashed} crashes took place");
}

#[test]
fn a_coordinator_that_crashes_at_any_commit_loses_nothing() {
    crash_at_each(|| None);
}

#[test]
#[expect(clippy::print_stderr, reason = "the reader of a test run has to know")]
fn a_coordinator_on_postgres_that_crashes_at_any_commit_loses_nothing() {
    match PostgresServer::start().expect("a server that is installed starts") {
        Ok(server) => crash_at_each(|| Some(server.database().expect("the server makes it"))),
        Err(reason) => eprintln!("SKIPPED on Postgres: crashes at each commit: {reason}"),
    }
}
