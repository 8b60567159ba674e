//! The worker's disk buffer: one journal file per attempt, written before anything is sent and
//! deleted when the coordinator has acknowledged all of it.
//!
//! A journal is a sequence of records ([`crate::frame`]): its head, then batches of points under a
//! rising sequence number, checkpoints with the last batch they need, and the end of the attempt.
//! What it holds is sent in that order, each entry after the one before was acknowledged, so a
//! finished attempt is never reported before its last point is durable at the coordinator. Sending
//! twice is harmless: every entry is idempotent there. After a restart of the daemon whatever was
//! not acknowledged is sent again.
//!
//! Points are sealed into a batch after 250 ms, so a daemon that dies loses at most those; they lie
//! behind the last checkpoint, from which the run repeats them. Checkpoints and ends are synced to
//! the disk, points are not. The spool knows no network and no clock.

mod fenced;
mod places;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sweep_spec::{
    attempt::{AttemptKey, Ending},
    metric::Origin,
};

use self::places::{Counted, ReadAt, Synced, WriteAt};
use crate::{
    disk,
    frame::{self, FrameError},
    pipe::{CheckpointNote, PackedPoint},
};

/// Points of one batch at most: 1,000 rows are one commit of the coordinator.
pub(crate) const BATCH_POINTS_MAX: usize = 1000;

/// A batch is sealed when its first point is this old: curves look live, and a commit is shared.
pub(crate) const BATCH_AGE_MAX: Duration = Duration::from_millis(250);

/// Unacknowledged bytes on disk at most: a day without coordinator at 8 slots and 10 points/s, twice
/// over. Beyond it training points are thinned 2:1, evaluations kept.
pub(crate) const SPOOL_BYTES_MAX: u64 = 512 << 20;

/// A journal whose acknowledged part is longer is rewritten without it, so that a run of days does
/// not keep its whole curve on the worker's disk.
const ACKED_BYTES_MAX: u64 = 8 << 20;

/// Entries that wait in memory while the disk refuses them; then training points are thinned.
const UNSAVED_MAX: usize = 256;

/// Ending of a journal that is being rewritten.
const SCRATCH: &str = "new";

/// Version of the journal's records.
const JOURNAL_VERSION: u32 = 1;

/// The last entry of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) ending: Ending,
    /// Seconds of training; absent when none began.
    pub(crate) seconds: Option<f64>,
    /// Step that the attempt resumed from, absent when it never began; filled in by the spool.
    pub(crate) resume_step: Option<u64>,
    /// The most memory the trainer held.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Points that a full spool left out; filled in by the spool.
    pub(crate) points_thinned: u64,
}

impl End {
    /// An end of which no more is known.
    pub(crate) fn new(ending: Ending) -> Self {
        Self {
            ending,
            seconds: None,
            resume_step: None,
            peak_memory_bytes: None,
            points_thinned: 0,
        }
    }
}

/// An entry of a journal, in the order of sending.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// A batch of points, beyond the step that the attempt resumed from.
    Points { seq: u64, resume_step: u64, points: Vec<PackedPoint> },
    /// A checkpoint, good once the points up to `requires_seq` are durable.
    Checkpoint { note: CheckpointNote, requires_seq: u64 },
    /// The end of the attempt.
    End(End),
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    key: AttemptKey,
    /// The sequence number of the last batch that a rewritten journal no longer holds.
    acked_seq: u64,
}

/// Why the spool cannot work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("cannot {doing} {}: {source}; hint: give a writable folder with --state", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{0} is in the spool already")]
    Exists(AttemptKey),
}

/// What the link tells the coordinator about an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttemptMark {
    pub(crate) key: AttemptKey,
    /// The last sealed batch; 0 before the first.
    pub(crate) last_seq: u64,
    /// The end, when there is one.
    pub(crate) ending: Option<Ending>,
}

/// All journals of a worker.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    journals: BTreeMap<AttemptKey, Journal>,
}

impl Spool {
    /// Opens the spool in a folder, with whatever an earlier daemon left unacknowledged. A torn
    /// tail is cut; a file without a readable head is set aside and told.
    pub(crate) fn open(folder: &Path, bytes_max: u64) -> Result<Self, SpoolError> {
        let failed =
            |doing| move |source| SpoolError::Io { doing, path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed("make the folder"))?;
        let mut journals = BTreeMap::new();
        let files = fs::read_dir(folder).map_err(failed("list"))?;
        for file in files {
            let path = file.map_err(failed("list"))?.path();
            if path.extension().is_some_and(|extension| extension == SCRATCH) {
                // A daemon died while it shortened a journal, which is still there.
                fs::remove_file(&path).map_err(failed("tidy"))?;
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "journal") {
                continue;
            }
            match Journal::load(&path) {
                Ok(journal) => {
                    journals.insert(journal.key.clone(), journal);
                }
                Err(error) => {
                    let aside = path.with_extension("unreadable");
                    tracing::error!(
                        "spool file {} is unreadable ({error}); kept as {}",
                        path.display(),
                        aside.display()
                    );
                    fs::rename(&path, &aside).map_err(failed("set aside a file in"))?;
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), bytes_max, journals })
    }

    /// Opens the journal of a granted attempt.
    pub(crate) fn begin(&mut self, key: &AttemptKey) -> Result<(), SpoolError> {
        if self.journals.contains_key(key) {
            return Err(SpoolError::Exists(key.clone()));
        }
        let path = self.folder.join(format!("{}-{:06}.journal", key.run, key.number));
        let journal = Journal::create(&path, key).map_err(|source| SpoolError::Io {
            doing: "write",
            path,
            source,
        })?;
        self.journals.insert(key.clone(), journal);
        Ok(())
    }

    /// Notes the step that an attempt resumed from, before its first point.
    pub(crate) fn started(&mut self, key: &AttemptKey, resume_step: u64) {
        if let Some(journal) = self.journals.get_mut(key) {
            journal.resume_step = Some(resume_step);
        }
    }

    /// Takes points; they are sealed when the batch is full or old enough.
    pub(crate) fn points(&mut self, key: &AttemptKey, points: Vec<PackedPoint>, now: Instant) {
        let full = self.bytes() >= self.bytes_max;
        let Some(journal) = self.journals.get_mut(key) else { return };
        journal.take(points, full || journal.unsaved.len() >= UNSAVED_MAX, now);
    }

    /// Seals what is old enough and tries again what the disk refused.
    pub(crate) fn tick(&mut self, now: Instant) {
        for journal in self.journals.values_mut() {
            if journal.open_since.is_some_and(|since| now >= since + BATCH_AGE_MAX) {
                journal.seal();
            }
            journal.save();
        }
    }

    /// Takes a checkpoint, after all points that came before it.
    pub(crate) fn checkpoint(&mut self, key: &AttemptKey, note: CheckpointNote) {
        let Some(journal) = self.journals.get_mut(key) else { return };
        journal.seal();
        let requires_seq = journal.last_seq;
        journal.push(Entry::Checkpoint { note, requires_seq });
        journal.save();
    }

    /// Takes the end of an attempt; nothing may follow. A second end changes nothing.
    pub(crate) fn end(&mut self, key: &AttemptKey, mut end: End) {
        let Some(journal) = self.journals.get_mut(key) else { return };
        if journal.ending.is_some() {
            return;
        }
        journal.seal();
        end.points_thinned = journal.thinned;
        end.resume_step = journal.resume_step;
        journal.push(Entry::End(end));
        journal.save();
    }

    /// The next entry to send when the batches up to `sent_seq` are on their way. Checkpoints and
    /// the end come out only when nothing is on its way before them.
    pub(crate) fn next(
        &self,
        key: &AttemptKey,
        sent_seq: u64,
    ) -> Result<Option<Entry>, FrameError> {
        let Some(journal) = self.journals.get(key) else { return Ok(None) };
        let sent = |place: &&Place| place.seq.is_some_and(|seq| seq <= sent_seq);
        let on_their_way = journal.saved.iter().take_while(sent).count();
        match journal.saved.get(on_their_way) {
            Some(place) if on_their_way == 0 || place.seq.is_some() => {
                journal.read(place).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Drops the batches up to this sequence number.
    pub(crate) fn acked_points(&mut self, key: &AttemptKey, seq: u64) {
        let Some(journal) = self.journals.get_mut(key) else { return };
        #[cfg(feature = "simulation")]
        journal.note_acked(seq);
        while journal.saved.front().is_some_and(|place| place.seq.is_some_and(|at| at <= seq)) {
            journal.saved.pop_front();
        }
        journal.acked_seq = journal.acked_seq.max(seq);
        if let Err(error) = journal.compact() {
            tracing::warn!("cannot shorten the spool file of {key}: {error}");
        }
    }

    /// Drops the checkpoint at the front.
    pub(crate) fn acked_checkpoint(&mut self, key: &AttemptKey) {
        let Some(journal) = self.journals.get_mut(key) else { return };
        if journal.saved.front().is_some_and(|place| place.seq.is_none()) {
            journal.saved.pop_front();
        }
    }

    /// Deletes a journal: its end was acknowledged, or the coordinator wants nothing of it.
    pub(crate) fn remove(&mut self, key: &AttemptKey) {
        let Some(journal) = self.journals.remove(key) else { return };
        if let Err(error) = fs::remove_file(&journal.path) {
            tracing::warn!("cannot delete {}: {error}", journal.path.display());
        }
    }

    /// Sets a journal aside that the coordinator takes nothing of: what was measured is still there
    /// for whoever wants to look, until later ones take its place.
    pub(crate) fn set_aside(&mut self, key: &AttemptKey) {
        let Some(journal) = self.journals.remove(key) else { return };
        if let Err(error) = fenced::set_aside(&journal.path, &self.folder) {
            tracing::warn!("cannot set aside {}: {error}", journal.path.display());
        }
    }

    /// The last sealed batch of an attempt; 0 before the first.
    pub(crate) fn last_seq(&self, key: &AttemptKey) -> u64 {
        self.journals.get(key).map_or(0, |journal| journal.last_seq)
    }

    /// The first batch of an attempt that is still here.
    pub(crate) fn first_seq(&self, key: &AttemptKey) -> Option<u64> {
        self.journals.get(key)?.saved.iter().find_map(|place| place.seq)
    }

    /// The attempts in the spool, in order.
    pub(crate) fn keys(&self) -> Vec<AttemptKey> {
        self.journals.keys().cloned().collect()
    }

    /// What is known of every attempt in the spool, in order.
    pub(crate) fn marks(&self) -> Vec<AttemptMark> {
        self.journals
            .values()
            .map(|journal| AttemptMark {
                key: journal.key.clone(),
                last_seq: journal.last_seq,
                ending: journal.ending.clone(),
            })
            .collect()
    }

    /// Whether there is nothing left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.journals.is_empty()
    }

    /// Unacknowledged bytes on disk.
    fn bytes(&self) -> u64 {
        self.journals.values().map(Journal::unacked_bytes).sum()
    }
}

/// Where a saved entry lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    /// Sequence number of a batch.
    seq: Option<u64>,
}

#[derive(Debug)]
struct Journal {
    key: AttemptKey,
    path: PathBuf,
    file: File,
    /// End of the last whole record.
    length: u64,
    synced: Synced,
    /// Entries on disk that are not acknowledged.
    saved: VecDeque<Place>,
    /// Entries that the disk has not taken yet.
    unsaved: VecDeque<Entry>,
    /// Whether the disk refused the last write; told once.
    refused: bool,
    /// Points of the batch that is not sealed yet.
    open: Vec<PackedPoint>,
    open_since: Option<Instant>,
    /// Unknown until the trainer has begun, and in a journal without points.
    resume_step: Option<u64>,
    last_seq: u64,
    acked_seq: u64,
    thinned: u64,
    /// Thinning keeps every second step that has training points: the last one, and its fate.
    thin_step: Option<(u64, bool)>,
    ending: Option<Ending>,
}

impl Journal {
    fn new(key: AttemptKey, path: PathBuf, file: File, acked_seq: u64) -> Self {
        Self {
            key,
            path,
            file,
            length: 0,
            synced: Synced::default(),
            saved: VecDeque::new(),
            unsaved: VecDeque::new(),
            refused: false,
            open: Vec::new(),
            open_since: None,
            resume_step: None,
            last_seq: acked_seq,
            acked_seq,
            thinned: 0,
            thin_step: None,
            ending: None,
        }
    }

    fn create(path: &Path, key: &AttemptKey) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let mut journal = Self::new(key.clone(), path.to_owned(), file, 0);
        journal.write_head(0)?;
        Ok(journal)
    }

    fn write_head(&mut self, acked_seq: u64) -> io::Result<()> {
        let head = Head { version: JOURNAL_VERSION, key: self.key.clone(), acked_seq };
        let record = record(&head)?;
        disk::write_at(&self.file, &record, 0)?;
        self.length = record.len() as u64;
        Ok(())
    }

    fn load(path: &Path) -> Result<Self, FrameError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut input = io::BufReader::new(Counted { inner: file.try_clone()?, count: 0 });
        let head: Head = match frame::read(&mut input)? {
            Some(payload) => serde_json::from_slice(&payload)?,
            None => return Err(FrameError::Truncated),
        };
        let mut journal = Self::new(head.key, path.to_owned(), file, head.acked_seq);
        journal.length = input.get_ref().count - input.buffer().len() as u64;
        loop {
            let entry = match frame::read(&mut input) {
                Ok(Some(payload)) => match serde_json::from_slice::<Entry>(&payload) {
                    Ok(entry) => entry,
                    Err(error) => break journal.cut_tail(&error)?,
                },
                Ok(None) => break,
                Err(error) => break journal.cut_tail(&error)?,
            };
            journal.note(&entry);
            journal.length = input.get_ref().count - input.buffer().len() as u64;
        }
        Ok(journal)
    }

    /// Forgets everything after the last good record: a daemon died while it wrote.
    fn cut_tail(&self, why: &dyn fmt::Display) -> io::Result<()> {
        tracing::warn!(
            "spool file {} is cut after byte {}: {why}",
            self.path.display(),
            self.length
        );
        self.file.set_len(self.length)
    }

    /// Books an entry that stands at `length`.
    fn note(&mut self, entry: &Entry) {
        let seq = match entry {
            Entry::Points { seq, resume_step, .. } => {
                self.resume_step = Some(*resume_step);
                self.last_seq = self.last_seq.max(*seq);
                Some(*seq)
            }
            Entry::Checkpoint { .. } => None,
            Entry::End(end) => {
                self.ending = Some(end.ending.clone());
                self.thinned = end.points_thinned;
                None
            }
        };
        self.saved.push_back(Place { offset: self.length, seq });
    }

    fn take(&mut self, points: Vec<PackedPoint>, thin: bool, now: Instant) {
        for point in points {
            if thin && !self.keeps(&point) {
                self.thinned += 1;
                continue;
            }
            self.open.push(point);
            self.open_since.get_or_insert(now);
            if self.open.len() >= BATCH_POINTS_MAX {
                self.seal();
            }
        }
    }

    /// Whether a point survives thinning.
    fn keeps(&mut self, point: &PackedPoint) -> bool {
        if point.0.origin() == Origin::Evaluation {
            return true;
        }
        let keep = match self.thin_step {
            Some((step, keep)) if step == point.1 => keep,
            Some((_, keep)) => !keep,
            None => false,
        };
        self.thin_step = Some((point.1, keep));
        keep
    }

    fn seal(&mut self) {
        self.open_since = None;
        if !self.open.is_empty() {
            self.last_seq += 1;
            let points = std::mem::take(&mut self.open);
            // Nobody trains a step before telling where the run began.
            let (seq, resume_step) = (self.last_seq, self.resume_step.unwrap_or(0));
            self.push(Entry::Points { seq, resume_step, points });
            self.save();
        }
    }

    fn push(&mut self, entry: Entry) {
        self.unsaved.push_back(entry);
    }

    /// Writes what waits. A disk that refuses is told once and tried again at the next tick: the
    /// run goes on, and only what is on disk is sent.
    fn save(&mut self) {
        while let Some(entry) = self.unsaved.pop_front() {
            match self.append(&entry) {
                Ok(length) => {
                    if self.refused {
                        self.refused = false;
                        tracing::info!("spool file {} can be written again", self.path.display());
                    }
                    self.note(&entry);
                    self.length = length;
                }
                Err(error) => {
                    self.unsaved.push_front(entry);
                    if !self.refused {
                        self.refused = true;
                        tracing::error!(
                            "cannot write spool file {}: {error}; training goes on and the points \
                             wait in memory; hint: free space on the disk that holds --state",
                            self.path.display()
                        );
                    }
                    return;
                }
            }
        }
    }

    /// Writes one record behind the last good one, over what a failed write may have left there.
    fn append(&mut self, entry: &Entry) -> io::Result<u64> {
        let record = record(entry)?;
        disk::write_at(&self.file, &record, self.length)?;
        let end = self.length + record.len() as u64;
        if !matches!(entry, Entry::Points { .. }) {
            self.synced.reach(&self.file, end)?;
        }
        Ok(end)
    }

    fn read(&self, place: &Place) -> Result<Entry, FrameError> {
        let mut input = ReadAt { file: &self.file, offset: place.offset };
        let payload = frame::read(&mut input)?.ok_or(FrameError::Truncated)?;
        Ok(serde_json::from_slice(&payload)?)
    }

    /// Tells a simulation which points are held to be durable from now on.
    #[cfg(feature = "simulation")]
    fn note_acked(&self, seq: u64) {
        for place in self.saved.iter().take_while(|place| place.seq.is_some_and(|at| at <= seq)) {
            if let Ok(Entry::Points { points, .. }) = self.read(place) {
                let points = points.iter().map(Into::into).collect();
                crate::simulation::note_acked(self.key.clone(), points);
            }
        }
    }

    /// Where the unacknowledged part starts.
    fn acked_bytes(&self) -> u64 {
        self.saved.front().map_or(self.length, |place| place.offset)
    }

    fn unacked_bytes(&self) -> u64 {
        self.length - self.acked_bytes()
    }

    /// Rewrites the journal without its acknowledged part, once that is long.
    fn compact(&mut self) -> io::Result<()> {
        let start = self.acked_bytes();
        if start < ACKED_BYTES_MAX {
            return Ok(());
        }
        let path = self.path.with_extension(SCRATCH);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let mut fresh = Self::new(self.key.clone(), self.path.clone(), file, self.acked_seq);
        fresh.write_head(self.acked_seq)?;
        let head = fresh.length;
        let mut output = io::BufWriter::new(WriteAt { file: &fresh.file, offset: head });
        io::copy(&mut ReadAt { file: &self.file, offset: start }, &mut output)?;
        output.flush()?;
        drop(output);
        fresh.file.sync_data()?;
        fs::rename(&path, &self.path)?;
        self.file = fresh.file;
        self.length = self.length - start + head;
        self.synced = Synced::all(self.length);
        for place in &mut self.saved {
            place.offset = place.offset - start + head;
        }
        Ok(())
    }
}

fn record(message: &impl Serialize) -> io::Result<Vec<u8>> {
    frame::encode(&serde_json::to_vec(message)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
