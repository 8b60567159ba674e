use std::{collections::VecDeque, sync::Mutex};

use tracing::Span;

use super::*;
use crate::{
    fake::{FakeRun, FakeScript},
    fixtures,
};

/// A slot with a scripted trainer, under a clock that jumps over every wait.
struct Bench {
    orders: mpsc::Sender<SlotOrder>,
    ordered: Serial,
    events: mpsc::Receiver<SlotEvent>,
    script: FakeScript,
    folder: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn new(runs: &[FakeRun]) -> Self {
        let script = FakeScript {
            runs: std::sync::Arc::new(Mutex::new(runs.iter().copied().collect())),
            step: Duration::from_millis(10),
            ..FakeScript::default()
        };
        Self::with(script)
    }

    fn with(script: FakeScript) -> Self {
        let (orders, inbox) = mpsc::channel(8);
        let (sender, events) = mpsc::channel(8);
        let slot = Slot {
            index: 0,
            source: TrainerSource::Fake(script.clone()),
            limits: SlotLimits::default(),
            orders: inbox.into(),
            events: sender,
        };
        let folder = tempfile::tempdir().unwrap();
        let (ordered, task) = (Serial::default(), tokio::spawn(slot.run()));
        Self { orders, ordered, events, script, folder, task }
    }

    async fn event(&mut self) -> SlotEvent {
        self.events.recv().await.expect("the slot lives")
    }

    async fn news(&mut self) -> SlotNews {
        self.event().await.news
    }

    async fn ready(&mut self) {
        let news = self.news().await;
        assert!(matches!(news, SlotNews::Ready { .. }), "{news:?}");
    }

    fn next_serial(&mut self) -> Serial {
        self.ordered = self.ordered.following();
        self.ordered
    }

    async fn renew(&mut self) {
        let serial = self.next_serial();
        self.orders.send(SlotOrder::Renew { serial }).await.unwrap();
    }

    async fn order(&mut self, steps: u64) {
        let order = TrainOrder {
            run: fixtures::run(steps, 0),
            checkpoints: self.folder.path().to_owned(),
            trunk: None,
            checkpoint_seconds: 60.0,
        };
        let (serial, order, span) = (self.next_serial(), Box::new(order), Span::none());
        self.orders.send(SlotOrder::Train { serial, order, span }).await.unwrap();
    }

    /// Everything up to the end of the run.
    async fn run(&mut self, steps: u64) -> (Vec<SlotNews>, Ending) {
        self.order(steps).await;
        self.rest().await
    }

    async fn rest(&mut self) -> (Vec<SlotNews>, Ending) {
        let mut all = Vec::new();
        loop {
            match self.news().await {
                SlotNews::Ended { ending, .. } => return (all, ending),
                news => all.push(news),
            }
        }
    }
}

fn failed(ending: &Ending) -> (FailureCause, &str) {
    let Ending::Failed { cause, reason } = ending else { panic!("{ending:?}") };
    (*cause, reason)
}

#[tokio::test(start_paused = true)]
async fn a_trainer_trains_one_run_after_another() {
    let mut bench = Bench::new(&[]);
    for steps in [3, 4] {
        bench.ready().await;
        let (news, ending) = bench.run(steps).await;
        assert_eq!(ending, Ending::Finished { step: steps });
        assert!(matches!(news[0], SlotNews::Started { .. }), "{news:?}");
        // The checkpoint of the last step comes after its points.
        assert!(matches!(&news[news.len() - 1], SlotNews::Checkpoint(note) if note.step == steps));
    }
    bench.ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_costs_one_run_and_the_trainer_is_replaced() {
    let mut bench = Bench::new(&[FakeRun::Crash(2), FakeRun::Fail(1)]);
    bench.ready().await;
    let (news, ending) = bench.run(5).await;
    assert_eq!(failed(&ending), (FailureCause::Program, "the trainer crashed with signal SIGSEGV"));
    let points = news.iter().filter(|news| matches!(news, SlotNews::Points(_))).count();
    assert_eq!(points, 2, "what it had sent is kept");
    bench.ready().await;
    let (_, ending) = bench.run(5).await;
    assert_eq!(failed(&ending), (FailureCause::Program, "scripted failure"));
    bench.ready().await;
    let (_, ending) = bench.run(5).await;
    assert_eq!(ending, Ending::Finished { step: 5 });
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_found_by_the_step_watchdog() {
    let mut bench = Bench::new(&[FakeRun::Hang(3), FakeRun::Hang(0)]);
    bench.ready().await;
    let begun = clock::now();
    let (_, ending) = bench.run(5).await;
    assert_eq!(
        failed(&ending),
        (FailureCause::Infrastructure, "killed: no sign of life for 120 s after step 3")
    );
    let waited = clock::now().duration_since(begun);
    assert!(waited >= Duration::from_secs(120) && waited < Duration::from_secs(125), "{waited:?}");

    // Before the first step kernels are tuned and data is read: more patience.
    bench.ready().await;
    let begun = clock::now();
    let (_, ending) = bench.run(5).await;
    assert!(failed(&ending).1.contains("900 s after step 0"), "{ending:?}");
    assert!(clock::now().duration_since(begun) >= Duration::from_secs(900));
}

#[tokio::test(start_paused = true)]
async fn a_diverged_run_is_no_failure_of_the_trainer() {
    let mut bench = Bench::new(&[FakeRun::Diverge(2)]);
    bench.ready().await;
    let (news, ending) = bench.run(5).await;
    assert_eq!(ending, Ending::Diverged { step: 3 });
    let Some(SlotNews::Points(points)) = news.last() else { panic!("{news:?}") };
    assert!(f64::from_bits(points[0].2).is_nan());
    bench.ready().await;
}

/// A refusal waits for the next trainer: it comes right after the loss that was not finite.
#[tokio::test(start_paused = true)]
async fn after_a_diverged_run_the_canary_comes_first() {
    let mut bench = Bench::new(&[FakeRun::Diverge(2)]);
    bench.ready().await;
    bench.script.refusals.lock().unwrap().push_back("the loss is flat".to_owned());
    assert_eq!(bench.run(5).await.1, Ending::Diverged { step: 3 });
    let SlotNews::Unusable { reason } = bench.news().await else { panic!("no canary") };
    assert_eq!(reason, "the loss is flat");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_goes_on_from_its_checkpoint() {
    let mut bench = Bench::new(&[]);
    bench.ready().await;
    bench.order(100).await;
    while !matches!(bench.news().await, SlotNews::Progress { step: 10, .. }) {}
    bench.orders.send(SlotOrder::Stop).await.unwrap();
    let (news, ending) = bench.rest().await;
    let Ending::Stopped { step } = ending else { panic!("{ending:?}") };
    assert!((10..20).contains(&step), "{step}");
    assert!(matches!(news.last(), Some(SlotNews::Checkpoint(note)) if note.step == step));
    bench.ready().await;
    let (news, ending) = bench.run(100).await;
    assert!(matches!(news[0], SlotNews::Started { step: from, .. } if from == step), "{news:?}");
    assert_eq!(ending, Ending::Finished { step: 100 });
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_does_not_stop_is_killed() {
    let mut bench = Bench::new(&[FakeRun::Hang(3)]);
    bench.ready().await;
    bench.order(5).await;
    while !matches!(bench.news().await, SlotNews::Progress { step: 3, .. }) {}
    bench.orders.send(SlotOrder::Stop).await.unwrap();
    let (_, ending) = bench.rest().await;
    assert!(failed(&ending).1.contains("no checkpoint within 60 s"), "{ending:?}");
}

#[tokio::test(start_paused = true)]
async fn a_killed_run_ends_at_once() {
    let mut bench = Bench::new(&[FakeRun::Hang(0)]);
    bench.ready().await;
    bench.order(5).await;
    bench.orders.send(SlotOrder::Kill).await.unwrap();
    let begun = clock::now();
    let (_, ending) = bench.rest().await;
    assert_eq!(failed(&ending).0, FailureCause::Infrastructure);
    assert!(clock::now().duration_since(begun) < Duration::from_secs(1));
    bench.ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_its_canary_takes_no_run() {
    let script = FakeScript::default();
    script.refusals.lock().unwrap().push_back("the loss is flat".to_owned());
    let mut bench = Bench::with(script);
    let SlotNews::Unusable { reason } = bench.news().await else { panic!("usable") };
    assert_eq!(reason, "the loss is flat");
    bench.task.await.unwrap();
}

/// A refusal waits for the next trainer; it comes after exactly so many runs.
#[tokio::test(start_paused = true)]
async fn a_trainer_is_replaced_after_its_runs() {
    let mut bench = Bench::new(&[]);
    bench.ready().await;
    bench.script.refusals.lock().unwrap().push_back("a second trainer".to_owned());
    for done in 1..=RUNS_MAX {
        // The checkpoint of the run before would leave nothing to train.
        std::fs::remove_dir_all(bench.folder.path()).unwrap();
        assert_eq!(bench.run(1).await.1, Ending::Finished { step: 1 });
        if done < RUNS_MAX {
            bench.ready().await;
        }
    }
    assert!(matches!(bench.news().await, SlotNews::Unusable { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_trainer_is_renewed_when_asked() {
    let mut bench = Bench::new(&[]);
    bench.ready().await;
    bench.renew().await;
    bench.ready().await;
    bench.script.refusals.lock().unwrap().push_back("the loss is flat".to_owned());
    bench.renew().await;
    assert!(matches!(bench.news().await, SlotNews::Unusable { .. }));
}

#[tokio::test(start_paused = true)]
async fn news_says_which_order_it_is_about() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.event().await.taken, Serial::default(), "nothing was ordered yet");
    bench.order(3).await;
    let first = bench.ordered;
    // Nobody should order this; if somebody does, it must not take over what the run tells.
    bench.order(4).await;
    loop {
        let SlotEvent { taken, news, .. } = bench.event().await;
        assert_eq!(taken, first, "{news:?}");
        if let SlotNews::Ended { ending, .. } = news {
            assert_eq!(ending, Ending::Finished { step: 3 });
            break;
        }
    }
    let event = bench.event().await;
    assert!(matches!(event.news, SlotNews::Ready { .. }), "{event:?}");
    assert_eq!(event.taken, bench.ordered, "the second one is gone");
    bench.renew().await;
    assert_eq!(bench.event().await.taken, bench.ordered);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_comes_while_a_trainer_starts_is_lost_and_that_is_told() {
    let mut bench = Bench::new(&[]);
    bench.order(3).await;
    let event = bench.event().await;
    assert!(matches!(event.news, SlotNews::Ready { .. }), "{event:?}");
    assert_eq!(event.taken, bench.ordered);
    // The slot waits for the next one.
    let (_, ending) = bench.run(4).await;
    assert_eq!(ending, Ending::Finished { step: 4 });
}

#[tokio::test(start_paused = true)]
async fn a_slot_ends_with_its_orders() {
    let mut bench = Bench::new(&[FakeRun::Hang(0)]);
    bench.ready().await;
    bench.order(5).await;
    drop(bench.orders);
    bench.task.await.unwrap();
}

#[test]
fn patience_follows_the_median_step() {
    let (limits, start) = (SlotLimits::default(), clock_start());
    let mut watch = Watch::new(&limits, start);
    watch.alive(&FromTrainer::Started { step: 0, passed_over: Vec::new() }, start);
    assert_eq!(watch.deadline, start + limits.first_step);
    // 10 s a step, with one outlier: 30 medians are 300 s.
    for (step, seconds) in [(1, 10), (2, 20), (3, 30), (4, 100)] {
        let message = FromTrainer::Progress { step, tokens_per_second: 1.0 };
        watch.alive(&message, start + Duration::from_secs(seconds));
    }
    assert_eq!(watch.deadline, start + Duration::from_secs(100 + 300));
    watch.stop(start + Duration::from_secs(100));
    assert_eq!(watch.deadline, start + Duration::from_secs(160));
}

#[test]
fn only_growth_beyond_the_slack_counts_as_a_leak() {
    let mut mark = None;
    assert!(!grown(&mut mark, Some(400 << 20)));
    assert!(!grown(&mut mark, Some(700 << 20)));
    assert!(!grown(&mut mark, None));
    assert!(grown(&mut mark, Some(800 << 20)));
}

#[test]
fn old_failures_are_forgotten() {
    let start = clock_start();
    let mut failures: VecDeque<Instant> =
        [0, 300, 601].map(|s| start + Duration::from_secs(s)).into();
    assert!(!too_many_failures(&mut failures, start + Duration::from_secs(601)));
    failures.push_back(start + Duration::from_secs(700));
    assert!(too_many_failures(&mut failures, start + Duration::from_secs(700)));
}

#[expect(clippy::disallowed_methods, reason = "a test owns its start of time")]
fn clock_start() -> Instant {
    Instant::now()
}
