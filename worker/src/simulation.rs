//! What a simulation needs of the daemon: a network of its own, a record of what was acknowledged,
//! a disk that loses what was not synced, and one deliberate fault to show that the simulation
//! finds it. Built only with the feature `simulation`.
//!
//! The record and the fault belong to a thread, as a simulation does.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt, fs, io,
    path::Path,
    pin::Pin,
    sync::Arc,
};

use sweep_proto::{
    access::Access,
    client::{ConnectError, Connection},
};
use sweep_spec::{
    attempt::AttemptKey,
    metric::Point,
    run::{ParentEdge, Run, RunConfig},
};

use crate::{fake, fixtures, frame};

/// A connection under way.
pub type Dialled = Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

/// A network that is not the system's.
#[derive(Clone)]
pub struct Network {
    pub(crate) access: Access,
    dial: Arc<dyn Fn(Access) -> Dialled + Send + Sync>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Network {
    /// A network where the coordinator is reached with `dial`.
    pub fn new(access: Access, dial: impl Fn(Access) -> Dialled + Send + Sync + 'static) -> Self {
        Self { access, dial: Arc::new(dial) }
    }

    pub(crate) async fn dial(&self) -> Result<Connection, ConnectError> {
        (self.dial)(self.access.clone()).await
    }
}

/// Points that the worker was told are durable.
#[derive(Clone, Debug)]
pub struct Acked {
    /// Their attempt.
    pub key: AttemptKey,
    /// What the spool held.
    pub points: Vec<Point>,
}

thread_local! {
    static ACKED: RefCell<Vec<Acked>> = const { RefCell::new(Vec::new()) };
    static RENUMBERS: Cell<bool> = const { Cell::new(false) };
}

/// What was acknowledged on this thread since the last call.
#[must_use]
pub fn take_acked() -> Vec<Acked> {
    ACKED.with_borrow_mut(std::mem::take)
}

pub(crate) fn note_acked(key: AttemptKey, points: Vec<Point>) {
    ACKED.with_borrow_mut(|acked| acked.push(Acked { key, points }));
}

/// The deliberate fault of the worker: batches are numbered from 1 on each connection.
pub fn renumber_batches() {
    RENUMBERS.set(true);
}

/// The sequence number that goes over the wire.
pub(crate) fn wire_seq(offsets: &mut BTreeMap<AttemptKey, u64>, key: &AttemptKey, seq: u64) -> u64 {
    if !RENUMBERS.get() {
        return seq;
    }
    seq - *offsets.entry(key.clone()).or_insert(seq - 1)
}

/// A run of so many steps; the seed tells it from others.
#[must_use]
pub fn scripted_run(steps: u64, seed: u64) -> Run {
    fixtures::run(steps, seed)
}

/// A trunk, then a branch of each of these lengths; the seed tells them from others.
///
/// # Panics
/// When a length is too short for a cool-down of its own.
#[must_use]
pub fn scripted_family(lengths: &[u64], seed: u64) -> Vec<Run> {
    let mut family: Vec<Run> = lengths.iter().map(|&steps| fixtures::run(steps, seed)).collect();
    let mut trunk: Option<Run> = None;
    for branch in &mut family {
        let config = branch.config.trunk().expect("a fifth of its steps cools down");
        let edge = ParentEdge { run: config.id(), step: config.steps };
        let stem = Run { forks: vec![config.steps], config, ..branch.clone() };
        trunk = Some(trunk.map_or_else(|| stem.clone(), |known| known.extended_by(&stem)));
        branch.config.parent = Some(edge);
    }
    trunk.into_iter().chain(family).collect()
}

/// Training loss of a scripted trainer, in nats per token.
#[must_use]
pub fn scripted_loss(config: &RunConfig, step: u64) -> f64 {
    fake::loss(config, step)
}

/// Does to the spool of a state folder what a loss of power may do: of each journal some of the
/// bytes behind the last synced record are gone. `below` draws a number under its argument.
///
/// # Errors
/// When a journal cannot be read or cut.
pub fn lose_power(state: &Path, below: &mut impl FnMut(u64) -> u64) -> io::Result<()> {
    let Ok(files) = fs::read_dir(state.join("spool")) else { return Ok(()) };
    let mut paths: Vec<_> = files.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
    paths.sort();
    for path in paths {
        let bytes = fs::read(&path)?;
        let synced = synced_bytes(&bytes);
        let length = bytes.len() as u64;
        let kept = synced + below(length - synced + 1);
        fs::OpenOptions::new().write(true).open(&path)?.set_len(kept)?;
    }
    Ok(())
}

/// End of the last record that was synced: the head, a checkpoint or an end.
fn synced_bytes(bytes: &[u8]) -> u64 {
    let mut input = bytes;
    let mut synced = 0;
    let mut first = true;
    while let Ok(Some(payload)) = frame::read(&mut input) {
        if first || !payload.starts_with(b"{\"Points\"") {
            synced = (bytes.len() - input.len()) as u64;
        }
        first = false;
    }
    synced
}
