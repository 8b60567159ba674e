use std::fs;

use sweep_spec::metric::{Metric, Point};
use tokio::sync::mpsc;

use super::*;
use crate::{
    checkpoints::checkpoints_in,
    fixtures,
    pipe::{CheckpointNote, Memory},
    slot::{Serial, SlotEvent, SlotNews},
    spool::{Entry, SPOOL_BYTES_MAX},
};

mod crossing;

/// A supervisor with two slots whose orders are read by the test.
struct Bench {
    supervisor: Supervisor,
    orders: Vec<mpsc::Receiver<SlotOrder>>,
    now: Instant,
    home: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    #[expect(clippy::disallowed_methods, reason = "a test owns its start of time")]
    fn at(home: tempfile::TempDir) -> Self {
        let (mut seats, mut orders) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (sender, receiver) = mpsc::channel(8);
            seats.push(Seat::new("cpu".to_owned(), sender));
            orders.push(receiver);
        }
        let device = Device {
            id: "cpu".to_owned(),
            name: "a processor".to_owned(),
            backend: "cpu".to_owned(),
            memory_bytes: None,
            software: false,
            refused: None,
            canary: None,
        };
        let identity = Identity {
            worker_id: "w".to_owned(),
            incarnation: 1,
            start_id: "s".to_owned(),
            host: "h".to_owned(),
        };
        let spool = Spool::open(&home.path().join("spool"), SPOOL_BYTES_MAX).unwrap();
        let checkpoints = home.path().join("checkpoints");
        let outbox = Outbox::open(&home.path().join("outbox"), &checkpoints).unwrap();
        let supervisor =
            Supervisor::new(identity, spool, checkpoints, outbox, vec![device], seats, 2);
        Self { supervisor, orders, now: Instant::now(), home }
    }

    /// What a slot tells that has taken all its orders.
    fn tell(&mut self, slot: usize, news: SlotNews) -> Changed {
        self.tell_after(self.supervisor.seats[slot].ordered, slot, news)
    }

    fn tell_after(&mut self, taken: Serial, slot: usize, news: SlotNews) -> Changed {
        self.supervisor.slot_event(SlotEvent { slot, taken, news }, self.now)
    }

    fn ready(&mut self, slot: usize) {
        let passed = self.now;
        assert!(self.tell(slot, SlotNews::Ready { canary: String::new(), passed }).beat);
    }

    fn grant(&mut self, slot: u32, seed: u64) -> AttemptKey {
        let (key, grant) = grant(slot, seed);
        self.supervisor.grant(&grant, self.now).unwrap();
        key
    }

    fn entries(&mut self, key: &AttemptKey) -> Vec<Entry> {
        let mut entries = Vec::new();
        while let Some(entry) = self.supervisor.spool.next(key, 0).unwrap() {
            match &entry {
                Entry::Points { seq, .. } => self.supervisor.spool.acked_points(key, *seq),
                Entry::Checkpoint { .. } => self.supervisor.spool.acked_checkpoint(key),
                Entry::End(_) => self.supervisor.spool.remove(key),
            }
            entries.push(entry);
        }
        entries
    }
}

fn grant(slot: u32, seed: u64) -> (AttemptKey, v1::Grant) {
    let run = fixtures::run(10, seed);
    let key = AttemptKey { run: run.config.id(), number: 1 };
    let grant = v1::Grant {
        key: Some((&key).into()),
        slot,
        run_json: convert::run_json(&run),
        lease_ms: 20_000,
        checkpoint: None,
        fork: None,
        earlier: None,
    };
    (key, grant)
}

fn loss(step: u64) -> SlotNews {
    SlotNews::Points(vec![Point { metric: Metric::TrainLoss, step, value: 5.0 }.into()])
}

fn ended(ending: Ending) -> SlotNews {
    SlotNews::Ended { ending, memory: Memory { resident_bytes: None, peak_bytes: Some(7) } }
}

#[test]
fn a_grant_is_trained_spooled_and_reported() {
    let mut bench = Bench::new();
    assert!(bench.supervisor.heartbeat(bench.now).free_slots.is_empty(), "no canary has passed");
    bench.ready(1);
    assert_eq!(bench.supervisor.heartbeat(bench.now).free_slots, [1]);
    let key = bench.grant(1, 0);
    assert!(matches!(bench.orders[1].try_recv(), Ok(SlotOrder::Train { .. })));

    bench.tell(1, SlotNews::Started { step: 4, passed_over: Vec::new() });
    bench.now += Duration::from_secs(2);
    assert!(bench.tell(1, loss(5)).spooled);
    bench.tell(1, SlotNews::Progress { step: 5, tokens_per_second: 10.0 });
    let beat = bench.supervisor.heartbeat(bench.now);
    assert_eq!((beat.running.len(), beat.running[0].step, beat.running[0].slot), (1, 5, 1));
    assert!(beat.free_slots.is_empty() && beat.ended.is_empty());

    let note = CheckpointNote { step: 5, path: "/c".into(), hash: "h".into() };
    bench.tell(1, SlotNews::Checkpoint(note));
    let changed = bench.tell(1, ended(Ending::Finished { step: 10 }));
    assert_eq!(changed, Changed { beat: true, spooled: true });
    let beat = bench.supervisor.heartbeat(bench.now);
    assert_eq!((beat.running.len(), beat.ended.len()), (0, 1));

    let entries = bench.entries(&key);
    assert!(matches!(entries[0], Entry::Points { seq: 1, resume_step: 4, .. }), "{entries:?}");
    assert!(matches!(entries[1], Entry::Checkpoint { requires_seq: 1, .. }), "{entries:?}");
    let Entry::End(end) = &entries[2] else { panic!("{entries:?}") };
    assert_eq!(
        (end.seconds, end.resume_step, end.peak_memory_bytes),
        (Some(2.0), Some(4), Some(7))
    );
    assert!(bench.supervisor.is_idle());
}

#[test]
fn a_grant_of_another_run_fails_as_configuration() {
    let mut bench = Bench::new();
    bench.ready(0);
    let (key, mut grant) = grant(0, 0);
    grant.run_json = convert::run_json(&fixtures::run(10, 1));
    bench.supervisor.grant(&grant, bench.now).unwrap();
    assert!(bench.orders[0].try_recv().is_err());
    let entries = bench.entries(&key);
    let Entry::End(End { ending: Ending::Failed { cause, .. }, .. }) = &entries[0] else {
        panic!("{entries:?}");
    };
    assert_eq!(*cause, FailureCause::Configuration);
}

#[test]
fn a_grant_for_a_busy_slot_is_dropped() {
    let mut bench = Bench::new();
    bench.ready(0);
    bench.grant(0, 0);
    for slot in [0, 1, 9] {
        let (key, grant) = grant(slot, 1);
        assert!(bench.supervisor.grant(&grant, bench.now).is_err());
        assert!(!bench.supervisor.spool.keys().contains(&key));
    }
    // The same grant twice is one attempt.
    bench.ready(1);
    let (_, twice) = grant(1, 0);
    assert!(bench.supervisor.grant(&twice, bench.now).is_err());
}

#[test]
fn draining_stops_runs_and_takes_no_more() {
    let mut bench = Bench::new();
    bench.ready(0);
    bench.ready(1);
    let key = bench.grant(0, 0);
    assert!(matches!(bench.orders[0].try_recv(), Ok(SlotOrder::Train { .. })));
    assert!(matches!(bench.orders[0].try_recv(), Ok(SlotOrder::Threads(2))));
    bench.supervisor.drain("asked to leave");
    bench.supervisor.drain("asked again");
    assert!(matches!(bench.orders[0].try_recv(), Ok(SlotOrder::Stop)));
    assert!(bench.orders[0].try_recv().is_err(), "one stop is enough");
    let beat = bench.supervisor.heartbeat(bench.now);
    assert!(beat.draining && beat.free_slots.is_empty());
    assert!(bench.supervisor.grant(&grant(1, 1).1, bench.now).is_err());
    assert!(!bench.supervisor.has_work_left());
    bench.tell(0, ended(Ending::Stopped { step: 3 }));
    assert!(bench.supervisor.is_idle() && bench.supervisor.has_work_left());
    assert!(matches!(bench.entries(&key)[..], [Entry::End(_)]));
}

#[test]
fn what_an_earlier_daemon_trained_is_lost_but_its_points_are_not() {
    let mut bench = Bench::new();
    bench.ready(0);
    let key = bench.grant(0, 0);
    bench.tell(0, loss(1));
    bench.supervisor.spool.tick(bench.now + Duration::from_secs(1));
    let home = bench.home;
    drop(bench.supervisor);
    let mut bench = Bench::at(home);
    let request = bench.supervisor.join_request(bench.now);
    assert_eq!((request.held.len(), request.held[0].slot, request.held[0].last_seq), (1, None, 1));
    let entries = bench.entries(&key);
    assert!(matches!(entries[0], Entry::Points { seq: 1, .. }));
    let Entry::End(End { ending: Ending::Failed { cause, .. }, .. }) = &entries[1] else {
        panic!("{entries:?}");
    };
    assert_eq!(*cause, FailureCause::Daemon);
}

#[test]
fn verdicts_keep_kill_or_forget() {
    let mut bench = Bench::new();
    bench.ready(0);
    bench.ready(1);
    let (kept, killed) = (bench.grant(0, 0), bench.grant(1, 1));
    bench.tell(0, loss(1));
    bench.supervisor.spool.tick(bench.now + Duration::from_secs(1));
    let mut verdict = |key: &AttemptKey, kind: v1::verdict::Kind, acked_seq| {
        let verdict = v1::Verdict {
            key: Some(key.into()),
            kind: kind.into(),
            acked_seq,
            reason: "granted anew".to_owned(),
        };
        bench.supervisor.verdict(&verdict).unwrap();
    };
    verdict(&kept, v1::verdict::Kind::Keep, 1);
    verdict(&killed, v1::verdict::Kind::Kill, 0);
    assert_eq!(bench.supervisor.spool.next(&kept, 0).unwrap(), None, "batch 1 is durable");
    assert_eq!(bench.supervisor.spool.keys(), [kept]);
    bench.orders[1].try_recv().unwrap();
    assert!(matches!(bench.orders[1].try_recv(), Ok(SlotOrder::Kill)));
    // What the killed trainer still says is nobody's.
    bench.tell(1, loss(2));
    bench.tell(1, ended(Ending::Finished { step: 10 }));
    assert_eq!(bench.supervisor.spool.keys().len(), 1);
}

#[test]
fn a_run_resumes_only_from_a_committed_checkpoint() {
    let mut bench = Bench::new();
    bench.ready(0);
    let (key, mut grant) = grant(0, 0);
    let folder = bench.home.path().join("checkpoints").join(key.run.as_str());
    let make = |step: u64| {
        let path = folder.join(format!("step-{step:012}"));
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (committed, beyond) = (make(5), make(8));
    grant.checkpoint = Some(v1::CheckpointRef { step: 5, hash: "h".into(), kept: false });
    bench.supervisor.grant(&grant, bench.now).unwrap();
    assert!(committed.exists() && !beyond.exists());
    bench.tell(0, ended(Ending::Failed { cause: FailureCause::Program, reason: String::new() }));
    bench.entries(&key);

    // Without one of this worker, whatever lies here was never committed.
    grant.key = Some((&AttemptKey { number: 2, ..key }).into());
    grant.checkpoint = None;
    bench.ready(0);
    bench.supervisor.grant(&grant, bench.now).unwrap();
    assert!(!committed.exists());
}

#[test]
fn the_last_checkpoint_of_a_finished_run_stays() {
    let mut bench = Bench::new();
    bench.ready(0);
    let key = bench.grant(0, 0);
    let folder = bench.home.path().join("checkpoints").join(key.run.as_str());
    for step in [5, 10] {
        fs::create_dir_all(folder.join(format!("step-{step:012}"))).unwrap();
    }
    bench.tell(0, ended(Ending::Finished { step: 10 }));
    bench.supervisor.finished(&key, &Ending::Finished { step: 10 });
    assert_eq!(checkpoints_in(&folder).unwrap().len(), 1);
    assert!(folder.join(format!("step-{:012}", 10)).exists());
    assert!(bench.supervisor.spool.is_empty());
}

#[test]
fn a_trunk_keeps_its_forks_and_a_branch_is_told_where_they_are() {
    let mut bench = Bench::new();
    bench.ready(0);
    let mut run = fixtures::run(10, 0);
    run.config = sweep_spec::run::RunConfig { steps: 12, ..run.config.trunk().unwrap() };
    run.forks = vec![4, 8];
    let key = AttemptKey { run: run.config.id(), number: 1 };
    let folder = bench.home.path().join("checkpoints").join(key.run.as_str());
    let make = |step: u64| {
        fs::create_dir_all(folder.join(format!("step-{step:012}"))).unwrap();
    };
    let steps = || {
        let mut steps: Vec<u64> =
            checkpoints_in(&folder).unwrap().into_iter().map(|(step, _)| step).collect();
        steps.sort_unstable();
        steps
    };
    [4, 6, 8].into_iter().for_each(make);
    let at = v1::CheckpointRef { step: 6, hash: "h".into(), kept: false };
    let mut grant = v1::Grant {
        key: Some((&key).into()),
        slot: 0,
        run_json: convert::run_json(&run),
        lease_ms: 20_000,
        checkpoint: Some(at),
        fork: None,
        earlier: None,
    };
    bench.supervisor.grant(&grant, bench.now).unwrap();
    assert_eq!(steps(), [4, 6]);
    [8, 10, 12].into_iter().for_each(make);
    bench.tell(0, ended(Ending::Finished { step: 12 }));
    bench.entries(&key);
    bench.supervisor.finished(&key, &Ending::Finished { step: 12 });
    assert_eq!(steps(), [4, 8, 12]);

    let mut branch = fixtures::run(10, 0);
    branch.config.parent = Some(sweep_spec::run::ParentEdge { run: key.run.clone(), step: 8 });
    let key = AttemptKey { run: branch.config.id(), number: 1 };
    (grant.key, grant.checkpoint) = (Some((&key).into()), None);
    grant.run_json = convert::run_json(&branch);
    bench.ready(0);
    while bench.orders[0].try_recv().is_ok() {}
    bench.supervisor.grant(&grant, bench.now).unwrap();
    let Ok(SlotOrder::Train { order, .. }) = bench.orders[0].try_recv() else { panic!("no order") };
    assert_eq!(order.trunk, Some(folder));
}

#[test]
fn a_trainer_passes_its_canary_once_a_day() {
    let mut bench = Bench::new();
    bench.ready(0);
    bench.ready(1);
    bench.grant(1, 0);
    while bench.orders[1].try_recv().is_ok() {}
    let passed = bench.now;
    bench.now += CANARY_AGE_MAX / 2;
    bench.supervisor.renew(bench.now);
    assert!(bench.orders[0].try_recv().is_err(), "not yet");
    bench.now += CANARY_AGE_MAX / 2;
    bench.supervisor.renew(bench.now);
    assert!(matches!(bench.orders[0].try_recv(), Ok(SlotOrder::Renew { .. })));
    assert!(bench.orders[1].try_recv().is_err(), "a run is not disturbed");
    assert!(bench.supervisor.heartbeat(bench.now).free_slots.is_empty(), "it takes no run");
    assert!(bench.supervisor.grant(&grant(0, 1).1, bench.now).is_err());
    // The new trainer's counts; a busy slot comes to it between two runs.
    bench.ready(0);
    assert_eq!(bench.supervisor.heartbeat(bench.now).free_slots, [0]);
    bench.tell(1, ended(Ending::Finished { step: 10 }));
    bench.tell(1, SlotNews::Ready { canary: String::new(), passed });
    assert!(matches!(bench.orders[1].try_recv(), Ok(SlotOrder::Renew { .. })));
    assert_eq!(bench.supervisor.heartbeat(bench.now).free_slots, [0]);
}

#[test]
fn a_device_is_refused_with_its_last_slot() {
    let mut bench = Bench::new();
    bench.ready(0);
    let canary = bench.supervisor.heartbeat(bench.now).devices[0].canary.clone();
    assert_eq!(canary.as_deref(), Some(""), "what the canary found is told");
    let unusable = || SlotNews::Unusable { reason: "flat".to_owned() };
    bench.tell(1, unusable());
    assert!(bench.supervisor.heartbeat(bench.now).devices.is_empty());
    assert_eq!(bench.supervisor.unusable(), None);
    bench.tell(0, unusable());
    let devices = bench.supervisor.heartbeat(bench.now).devices;
    assert_eq!(devices[0].refused.as_deref(), Some("flat"));
    assert!(bench.supervisor.heartbeat(bench.now).devices.is_empty(), "told once");
    assert_eq!(bench.supervisor.unusable().as_deref(), Some("cpu (flat)"));
}

#[test]
fn a_longer_run_is_saved_less_often() {
    assert_eq!(checkpoint_seconds(&fixtures::run(10, 0)), CHECKPOINT_SECONDS_MIN);
    let mut long = fixtures::run(10, 0);
    long.config.steps = 1_000_000_000_000;
    assert_eq!(checkpoint_seconds(&long), CHECKPOINT_SECONDS_MAX);
}

#[test]
fn a_slot_lends_its_core_while_it_waits() {
    let mut bench = Bench::new();
    bench.ready(0);
    bench.ready(1);
    bench.grant(0, 0);
    assert!(matches!(bench.orders[0].try_recv(), Ok(SlotOrder::Train { .. })));
    assert!(matches!(bench.orders[0].try_recv(), Ok(SlotOrder::Threads(2))));
    bench.grant(1, 1);
    assert!(matches!(bench.orders[0].try_recv(), Ok(SlotOrder::Threads(1))));
    assert!(matches!(bench.orders[1].try_recv(), Ok(SlotOrder::Train { .. })));
    bench.tell(0, ended(Ending::Finished { step: 10 }));
    assert!(bench.orders[1].try_recv().is_err(), "the trainer of the other slot is not ready yet");
    bench.ready(0);
    assert!(matches!(bench.orders[1].try_recv(), Ok(SlotOrder::Threads(2))));
}

/// A bench whose first slot was granted a run that goes on from a kept checkpoint.
fn fetching() -> (Bench, AttemptKey, Wanted) {
    let mut bench = Bench::new();
    bench.ready(0);
    let (key, mut grant) = grant(0, 0);
    let kept = |step| v1::CheckpointRef { step, hash: "h".into(), kept: true };
    (grant.checkpoint, grant.earlier) = (Some(kept(5)), Some(kept(3)));
    bench.supervisor.grant(&grant, bench.now).unwrap();
    let (waiting, mut wanted) = bench.supervisor.incoming().remove(0);
    assert_eq!((&waiting, wanted.len()), (&key, 1));
    (bench, key, wanted.remove(0))
}

#[test]
fn a_kept_checkpoint_comes_in_before_its_run_begins() {
    let (mut bench, key, wanted) = fetching();
    let steps: Vec<u64> = wanted.kept.iter().map(|kept| kept.step).collect();
    assert_eq!((&wanted.run, steps), (&key.run, vec![5, 3]), "the newest first");
    assert!(bench.orders[0].try_recv().is_err());
    let beat = bench.supervisor.heartbeat(bench.now);
    assert_eq!((beat.running.len(), beat.free_slots.len()), (1, 0), "it holds its slot");
    // A trainer that is replaced meanwhile changes nothing.
    let passed = bench.now;
    bench.tell(0, SlotNews::Ready { canary: String::new(), passed });
    bench.supervisor.arrived(&key);
    assert!(matches!(bench.orders[0].try_recv(), Ok(SlotOrder::Train { .. })));
    assert!(bench.supervisor.incoming().is_empty());
}

#[test]
fn a_run_that_waits_for_its_checkpoint_can_be_stopped_or_dropped() {
    let (mut bench, key, _) = fetching();
    bench.supervisor.stop(&key);
    assert!(bench.supervisor.incoming().is_empty());
    let entries = bench.entries(&key);
    let Entry::End(end) = &entries[0] else { panic!("{entries:?}") };
    assert_eq!((&end.ending, end.resume_step), (&Ending::Stopped { step: 0 }, None));
    bench.supervisor.arrived(&key);
    assert!(bench.orders[0].try_recv().is_err(), "what comes in too late begins nothing");
    assert_eq!(bench.supervisor.heartbeat(bench.now).free_slots, [0]);

    let (mut bench, key, _) = fetching();
    bench.supervisor.discard(&key, "it belongs to someone else");
    assert!(bench.supervisor.is_idle() && bench.supervisor.spool.is_empty());
}

#[test]
fn an_attempt_whose_checkpoint_does_not_come_ends_for_want_of_it() {
    let (mut bench, key, _) = fetching();
    let cause = FailureCause::Fetch;
    bench.supervisor.cannot_begin(&key, cause, "the store is away".to_owned());
    let entries = bench.entries(&key);
    let Entry::End(end) = &entries[0] else { panic!("{entries:?}") };
    let reason = "the store is away".to_owned();
    assert_eq!((&end.ending, end.resume_step), (&Ending::Failed { cause, reason }, None));
    assert_eq!(bench.supervisor.heartbeat(bench.now).free_slots, [0]);
    bench.supervisor.arrived(&key);
    assert!(bench.orders[0].try_recv().is_err(), "it does not begin at its first step");

    // One that has begun meanwhile goes on.
    let (mut bench, key, _) = fetching();
    bench.supervisor.arrived(&key);
    bench.supervisor.cannot_begin(&key, cause, "too late".to_owned());
    assert!(!bench.supervisor.is_idle());
}

#[test]
fn committed_checkpoints_are_handed_in_where_they_are_kept() {
    let mut bench = Bench::new();
    bench.ready(0);
    let key = bench.grant(0, 0);
    // Folders that are there: what a trainer has removed is not handed in.
    let path = bench.home.path().to_owned();
    let note = |step| CheckpointNote { step, path: path.clone(), hash: "h".into() };
    let steps =
        |bench: &Bench| -> Vec<u64> { bench.supervisor.outbox.iter().map(|at| at.step).collect() };
    bench.supervisor.committed(&key, &note(5));
    assert!(steps(&bench).is_empty());
    bench.supervisor.set_keeps_checkpoints(true);
    bench.supervisor.committed(&key, &note(6));
    bench.supervisor.committed(&key, &note(7));
    assert_eq!(steps(&bench), [6, 7]);
    bench.supervisor.set_keeps_checkpoints(false);
    assert!(steps(&bench).is_empty());
}

/// Every line of an attempt says which, on which slot and device; as the journal is replayed after a
/// restart there is no slot any more.
#[test]
fn log_lines_carry_their_attempt() {
    use tracing_subscriber::EnvFilter;

    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("log");
    let file = std::sync::Arc::new(fs::File::create(&path).unwrap());
    let subscriber = crate::log::subscriber(true, EnvFilter::new("info"), false, file);
    let key = tracing::subscriber::with_default(subscriber, || {
        let mut bench = Bench::new();
        bench.ready(1);
        let key = bench.grant(1, 0);
        let passed_over = vec!["step-5: does not match its hash".to_owned()];
        bench.tell(1, SlotNews::Started { step: 0, passed_over });
        let (cause, reason) = (FailureCause::Program, "it broke".to_owned());
        bench.tell(1, ended(Ending::Failed { cause, reason }));
        bench.supervisor.discard(&key, "another attempt owns the run");
        key
    });
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let about = |line: &serde_json::Value| line["fields"]["message"].as_str().unwrap().to_owned();
    let messages: Vec<String> = lines.iter().map(about).collect();
    for words in ["begins", "passed over", "it broke", "is dropped"] {
        assert!(messages.iter().any(|message| message.contains(words)), "{words}: {messages:?}");
    }
    for (line, message) in lines.iter().zip(&messages) {
        let span = &line["span"];
        assert_eq!(span["run"], key.run.short(), "{message}");
        assert_eq!(span["attempt"], 1, "{message}");
        let on_slot = ["begins", "passed over", "it broke"].iter().any(|on| message.contains(on));
        if on_slot {
            assert_eq!(span["slot"], 1, "{message}");
            assert_eq!(span["device"], "cpu", "{message}");
        }
    }
}
