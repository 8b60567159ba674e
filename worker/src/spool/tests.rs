use proptest::prelude::*;
use sweep_spec::{id::RunId, metric::Metric};

use super::{
    fenced::{FENCED, FENCED_MAX},
    *,
};
use crate::disk::faults::{self, Disk};

fn key(name: &str, number: u32) -> AttemptKey {
    AttemptKey { run: RunId::from_hash(&blake3::hash(name.as_bytes())), number }
}

fn point(metric: Metric, step: u64, value: f64) -> PackedPoint {
    PackedPoint(metric, step, value.to_bits())
}

fn losses(steps: std::ops::Range<u64>) -> Vec<PackedPoint> {
    steps.map(|step| point(Metric::TrainLoss, step, 5.0)).collect()
}

fn end(ending: Ending) -> End {
    End { seconds: Some(1.0), ..End::new(ending) }
}

fn note(step: u64) -> CheckpointNote {
    CheckpointNote { step, path: "/c".into(), hash: "h".into() }
}

#[expect(clippy::disallowed_methods, reason = "a test owns its start of time")]
fn start() -> Instant {
    Instant::now()
}

/// Everything unacknowledged, in order.
fn all(spool: &Spool, key: &AttemptKey) -> Vec<Entry> {
    let journal = &spool.journals[key];
    journal.saved.iter().map(|place| journal.read(place).unwrap()).collect()
}

fn one_attempt(folder: &Path) -> (Spool, AttemptKey) {
    let (mut spool, key) = (Spool::open(folder, SPOOL_BYTES_MAX).unwrap(), key("a", 1));
    let now = start();
    spool.begin(&key).unwrap();
    spool.started(&key, 0);
    spool.points(&key, losses(0..3), now);
    spool.checkpoint(&key, note(3));
    spool.points(&key, losses(3..5), now);
    spool.end(&key, end(Ending::Finished { step: 5 }));
    (spool, key)
}

#[test]
fn entries_come_out_in_order_and_leave_when_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, key) = one_attempt(home.path());
    let entries = all(&spool, &key);
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[0], Entry::Points { seq: 1, resume_step: 0, points: losses(0..3) });
    assert_eq!(entries[1], Entry::Checkpoint { note: note(3), requires_seq: 1 });
    assert_eq!(entries[2], Entry::Points { seq: 2, resume_step: 0, points: losses(3..5) });
    let finished = End { resume_step: Some(0), ..end(Ending::Finished { step: 5 }) };
    assert_eq!(entries[3], Entry::End(finished));

    // With the first batch on its way, the checkpoint that needs it is not to be sent yet.
    assert_eq!(spool.next(&key, 0).unwrap().as_ref(), Some(&entries[0]));
    assert_eq!(spool.next(&key, 1).unwrap(), None);

    // An acknowledgement of both batches passes no checkpoint that is still unacknowledged.
    spool.acked_points(&key, 2);
    assert_eq!(spool.next(&key, 0).unwrap().as_ref(), Some(&entries[1]));
    spool.acked_checkpoint(&key);
    assert_eq!(spool.next(&key, 0).unwrap().as_ref(), Some(&entries[2]));
    spool.acked_points(&key, 2);
    assert_eq!(spool.next(&key, 0).unwrap().as_ref(), Some(&entries[3]));
    spool.remove(&key);
    assert!(spool.is_empty());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn what_the_coordinator_takes_nothing_of_is_set_aside() {
    let home = tempfile::tempdir().unwrap();
    for old in 0..FENCED_MAX {
        fs::write(home.path().join(format!("old-{old}.{FENCED}")), b"").unwrap();
    }
    let (mut spool, key) = one_attempt(home.path());
    spool.set_aside(&key);
    assert!(spool.is_empty());
    let files = || fs::read_dir(home.path()).unwrap().map(|file| file.unwrap());
    assert_eq!(files().count(), FENCED_MAX, "the oldest made room");
    assert!(files().any(|file| file.metadata().unwrap().len() > 0), "the latest is kept");
    drop(spool);
    assert!(Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap().is_empty(), "and never sent");
}

#[test]
fn a_restart_sends_again_what_was_left() {
    let home = tempfile::tempdir().unwrap();
    let (spool, key) = one_attempt(home.path());
    let before = all(&spool, &key);
    drop(spool);
    let spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
    assert_eq!(all(&spool, &key), before);
    let marks = spool.marks();
    assert_eq!(marks[0].last_seq, 2);
    assert_eq!(marks[0].ending, Some(Ending::Finished { step: 5 }));
}

#[test]
fn points_are_sealed_by_age_and_by_number() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
    let (key, now) = (key("a", 1), start());
    spool.begin(&key).unwrap();
    spool.points(&key, losses(0..2), now);
    spool.tick(now + BATCH_AGE_MAX / 2);
    assert!(all(&spool, &key).is_empty());
    spool.tick(now + BATCH_AGE_MAX);
    assert_eq!(all(&spool, &key).len(), 1);
    spool.points(&key, losses(2..2 + BATCH_POINTS_MAX as u64), now);
    assert_eq!(all(&spool, &key).len(), 2);
}

#[test]
fn an_attempt_begins_once() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, key) = one_attempt(home.path());
    assert!(matches!(spool.begin(&key), Err(SpoolError::Exists(_))));
    // The next attempt of the same run has a journal of its own.
    spool.begin(&AttemptKey { number: 2, ..key }).unwrap();
}

#[test]
fn a_full_spool_thins_training_points_and_counts_them() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(home.path(), 1).unwrap();
    let (key, now) = (key("a", 1), start());
    spool.begin(&key).unwrap();
    spool.points(&key, losses(0..1), now);
    spool.tick(now + BATCH_AGE_MAX);
    let mut points = losses(1..9);
    points.extend((1..9).map(|step| point(Metric::ValidationLoss, step, 5.0)));
    spool.points(&key, points, now);
    spool.end(&key, end(Ending::Finished { step: 9 }));
    let entries = all(&spool, &key);
    let Entry::Points { points, .. } = &entries[1] else { panic!("{entries:?}") };
    let count = |metric| points.iter().filter(|point| point.0 == metric).count();
    assert_eq!((count(Metric::TrainLoss), count(Metric::ValidationLoss)), (4, 8));
    let Entry::End(end) = &entries[2] else { panic!("{entries:?}") };
    assert_eq!(end.points_thinned, 4);
}

#[test]
fn a_long_journal_drops_its_acknowledged_part() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
    let (key, now) = (key("a", 1), start());
    spool.begin(&key).unwrap();
    let mut written = 0;
    while spool.bytes() < ACKED_BYTES_MAX + (1 << 20) {
        spool.points(&key, losses(written..written + BATCH_POINTS_MAX as u64), now);
        written += BATCH_POINTS_MAX as u64;
    }
    let last = written / BATCH_POINTS_MAX as u64;
    spool.acked_points(&key, last - 1);
    let file = fs::read_dir(home.path()).unwrap().next().unwrap().unwrap();
    assert!(file.metadata().unwrap().len() < 1 << 20);
    spool.points(&key, losses(written..written + 1), now);
    spool.tick(now + BATCH_AGE_MAX);
    let before = all(&spool, &key);
    assert_eq!(before.len(), 2);
    drop(spool);
    let spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
    assert_eq!(all(&spool, &key), before);
    assert_eq!(spool.marks()[0].last_seq, last + 1);
}

#[test]
fn a_journal_that_was_being_shortened_is_the_old_one() {
    let home = tempfile::tempdir().unwrap();
    let (spool, key) = one_attempt(home.path());
    let (before, path) = (all(&spool, &key), spool.journals[&key].path.clone());
    drop(spool);
    fs::write(path.with_extension(SCRATCH), b"half of it").unwrap();
    let spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
    assert_eq!(all(&spool, &key), before);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

/// A disk that is full for a while: nothing is sent that is not on it, and nothing is lost.
#[test]
fn a_full_disk_delays_the_spool_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, key) = (Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap(), key("a", 1));
    let now = start();
    faults::set(Disk::Full);
    assert!(spool.begin(&key).is_err(), "a run that cannot be spooled is not taken");
    faults::set(Disk::Sound);
    spool.begin(&key).unwrap();
    spool.started(&key, 0);
    spool.points(&key, losses(0..3), now);
    spool.checkpoint(&key, note(3));
    faults::set(Disk::Full);
    spool.points(&key, losses(3..5), now);
    spool.checkpoint(&key, note(5));
    spool.end(&key, end(Ending::Finished { step: 5 }));
    spool.tick(now + BATCH_AGE_MAX);
    assert_eq!(all(&spool, &key).len(), 2, "what was on the disk before");
    faults::set(Disk::Sound);
    spool.tick(now + BATCH_AGE_MAX);
    let entries = all(&spool, &key);
    assert_eq!(entries.len(), 5);
    assert_eq!(entries[2], Entry::Points { seq: 2, resume_step: 0, points: losses(3..5) });
    assert_eq!(entries[3], Entry::Checkpoint { note: note(5), requires_seq: 2 });
    drop(spool);
    assert_eq!(all(&Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap(), &key), entries);
}

/// A sync that failed answers for nothing: what was written since the last good one is written
/// again before the next.
#[test]
fn a_failed_sync_holds_a_checkpoint_back_and_is_made_good() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, key) = (Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap(), key("a", 1));
    let now = start();
    spool.begin(&key).unwrap();
    spool.points(&key, losses(0..3), now);
    spool.checkpoint(&key, note(3));
    let good = spool.journals[&key].length;
    spool.points(&key, losses(3..5), now);
    faults::set(Disk::Unsyncable);
    spool.checkpoint(&key, note(5));
    assert_eq!(all(&spool, &key).len(), 3, "the points wait for their checkpoint");
    faults::take_written();
    faults::set(Disk::Sound);
    spool.tick(now);
    let entries = all(&spool, &key);
    assert_eq!(entries[3], Entry::Checkpoint { note: note(5), requires_seq: 2 });
    assert!(faults::take_written().contains(&good), "the points behind it are written again");
    drop(spool);
    assert_eq!(all(&Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap(), &key), entries);
}

#[test]
fn a_file_that_is_no_journal_is_set_aside() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("x.journal"), b"garbage that is long enough").unwrap();
    let spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
    assert!(spool.is_empty());
    assert!(home.path().join("x.unreadable").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_a_hint() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Spool::open(&file.join("spool"), 1).unwrap_err().to_string();
    assert!(error.contains("file/spool") && error.contains("hint: "), "{error}");
}

/// Opens a spool whose one journal has these bytes; what is in it.
fn reopened(bytes: &[u8], key: &AttemptKey) -> Option<(Vec<Entry>, AttemptMark)> {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("one.journal"), bytes).unwrap();
    let spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
    let mark = spool.marks().pop()?;
    assert_eq!(&mark.key, key);
    let entries = all(&spool, key);
    drop(spool);
    // What was cut off stays cut off.
    let again = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
    assert_eq!(all(&again, key), entries);
    Some((entries, mark))
}

/// Whatever byte of a journal is missing or wrong, what is read back is a true beginning of what
/// was written, or the file is set aside as a whole.
#[test]
fn any_cut_and_any_wrong_byte_leaves_a_true_beginning() {
    let home = tempfile::tempdir().unwrap();
    let (spool, key) = one_attempt(home.path());
    let (before, path) = (all(&spool, &key), spool.journals[&key].path.clone());
    let ends: Vec<usize> = {
        let saved = &spool.journals[&key].saved;
        let starts = saved.iter().map(|place| usize::try_from(place.offset).unwrap());
        starts.chain([usize::try_from(spool.journals[&key].length).unwrap()]).collect()
    };
    drop(spool);
    let bytes = fs::read(&path).unwrap();
    let whole_before = |place: usize| ends[1..].iter().filter(|&&end| end <= place).count();
    for place in 0..bytes.len() {
        let cut = reopened(&bytes[..place], &key);
        let mut wrong = bytes.clone();
        wrong[place] ^= 1 << (place % 8);
        let flipped = reopened(&wrong, &key);
        if place < ends[0] {
            assert!(cut.is_none() && flipped.is_none(), "no head, no journal: {place}");
            continue;
        }
        for (entries, mark) in [cut.unwrap(), flipped.unwrap()] {
            assert_eq!(entries.len(), whole_before(place), "{place}");
            assert_eq!(entries[..], before[..entries.len()], "{place}");
            let batches = entries.iter().filter(|entry| matches!(entry, Entry::Points { .. }));
            assert_eq!(mark.last_seq, batches.count() as u64);
            assert_eq!(mark.ending.is_some(), entries.len() == before.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A file of anything is a journal or set aside; opening never fails.
    #[test]
    fn a_file_of_anything_opens(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("x.journal"), &bytes).unwrap();
        let spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
        prop_assert!(spool.is_empty());
        prop_assert!(home.path().join("x.unreadable").exists());
    }

    /// Records that are whole and mean nothing end the journal, and do no harm.
    #[test]
    fn a_record_without_meaning_ends_the_journal(payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let home = tempfile::tempdir().unwrap();
        let (spool, key) = one_attempt(home.path());
        let (before, path) = (all(&spool, &key), spool.journals[&key].path.clone());
        drop(spool);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(frame::encode(&payload).unwrap());
        let (entries, _) = reopened(&bytes, &key).unwrap();
        prop_assert_eq!(entries, before);
    }

    /// A daemon may die at any byte of a write: what was whole stays, in order, and writing goes on.
    #[test]
    fn a_torn_tail_keeps_every_whole_record(at in any::<prop::sample::Index>()) {
        let home = tempfile::tempdir().unwrap();
        let (spool, key) = one_attempt(home.path());
        let (before, path) = (all(&spool, &key), spool.journals[&key].path.clone());
        let head = spool.journals[&key].saved[0].offset;
        drop(spool);
        let bytes = fs::read(&path).unwrap();
        let cut = usize::try_from(head).unwrap() + at.index(bytes.len() - usize::try_from(head).unwrap());
        fs::write(&path, &bytes[..cut]).unwrap();
        let mut spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
        let kept = all(&spool, &key);
        prop_assert!(kept.len() < before.len());
        prop_assert_eq!(&kept[..], &before[..kept.len()]);
        spool.end(&key, end(Ending::Stopped { step: 1 }));
        drop(spool);
        let spool = Spool::open(home.path(), SPOOL_BYTES_MAX).unwrap();
        prop_assert_eq!(all(&spool, &key).len(), kept.len() + 1);
    }
}
