//! A bad line: everything arrives late and in small pieces, and now and then nothing moves for a
//! while, as where lost packets are sent again. No lease may end for it.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use sweep_tests::{Process, Sandbox};

use crate::services::{coordinator, curves, curves_in_peace, in_state, runs, slow};

/// From one end to the other.
const DELAY: Duration = Duration::from_millis(250);

/// Every so many pieces one is late as if it had been lost twice.
const LATE_EVERY: u32 = 10;

/// How late: two times the least wait of TCP before it sends again.
const LATE: Duration = Duration::from_millis(600);

/// Bytes of a piece: a line of a few hundred kilobytes a second.
const PIECE: usize = 16 << 10;

/// Pieces on their way, of each direction.
const PIECES: usize = 64;

/// Passes connections on to a port of the loopback interface, badly, for as long as the test lives.
fn bad_line(to: u16) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // A coordinator that is not there: the worker tries again.
            let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            for (from, to) in [(&near, &far), (&far, &near)] {
                // Only a process without free file handles cannot clone one, and then the
                // connection is cut, which the test sees.
                if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                    thread::spawn(move || carry(from, to));
                }
            }
        }
    });
    Ok(port)
}

/// Carries what one end sends to the other, in order, each piece [`DELAY`] later or more.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let (sender, pieces) = mpsc::sync_channel::<(Instant, Vec<u8>)>(PIECES);
    let arriving = thread::spawn(move || -> io::Result<()> {
        for (count, (arrives, piece)) in (1_u32..).zip(pieces) {
            thread::sleep(arrives.saturating_duration_since(now()));
            if count.is_multiple_of(LATE_EVERY) {
                thread::sleep(LATE);
            }
            to.write_all(&piece)?;
        }
        to.shutdown(Shutdown::Write)
    });
    let mut buffer = [0; PIECE];
    // A direction that broke is over; its peer sees the end of the stream.
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if sender.send((now() + DELAY, buffer[..read].to_vec())).is_err() {
            break;
        }
    }
    drop(sender);
    // An end that is gone already cannot be shut, nor does it matter then.
    let _ = arriving.join();
}

#[expect(clippy::disallowed_methods, reason = "the line is late by the clock")]
fn now() -> Instant {
    Instant::now()
}

/// A worker that reaches its coordinator through this port.
fn worker(sandbox: &Sandbox, port: u16) -> Result<Process> {
    let (state, cache) = (sandbox.path("worker"), sandbox.path("cache"));
    let (state, cache) = (state.display().to_string(), cache.display().to_string());
    let coordinator = format!("http://127.0.0.1:{port}");
    let arguments = ["--coordinator", &coordinator, "--state", &state, "--cache", &cache];
    sandbox.start("worker", &[&arguments[..], &["--device", "cpu", "--slots", "2"]].concat())
}

#[test]
fn a_bad_line_ends_no_lease_and_costs_no_point() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", slow()).unwrap();
    let coordinator = coordinator(&sandbox).unwrap();
    let worker = worker(&sandbox, bad_line(port(&sandbox).unwrap()).unwrap()).unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    sandbox.sweep(&["watch"]).unwrap();
    let done = runs(&sandbox).unwrap();
    let log = format!("{}\n{}", worker.log(), coordinator.log());
    assert_eq!(in_state(&done, "finished"), done.len(), "{done:#?}\n{log}");
    assert!(done.iter().all(|run| run["attempts"] == 1), "a lease ended: {done:#?}\n{log}");
    assert!(curves(&sandbox).unwrap() == curves_in_peace(&slow()).unwrap(), "the curves differ");
}

/// Where the coordinator of this sandbox listens.
fn port(sandbox: &Sandbox) -> Result<u16> {
    let access: serde_json::Value = serde_json::from_slice(&std::fs::read(sandbox.access())?)?;
    let address = access["address"].as_str().context("the access file has no address")?;
    let port = address.rsplit(':').next().context("the address has no port")?;
    Ok(port.trim_end_matches('/').parse()?)
}
