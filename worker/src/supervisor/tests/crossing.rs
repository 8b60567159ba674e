//! Orders and news that cross: the slot told something, an order was given, and only then the news
//! is read. An idle trainer that dies is replaced by one that says `Ready` at any time.

use super::*;

impl Bench {
    /// The order that lies in the channel of a slot, as the slot takes it.
    fn take_run(&mut self, slot: usize) -> Serial {
        loop {
            match self.orders[slot].try_recv().expect("a run is ordered") {
                SlotOrder::Train { serial, .. } => return serial,
                SlotOrder::Threads(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn passed(&self) -> SlotNews {
        SlotNews::Ready { canary: String::new(), passed: self.now }
    }

    /// The attempts that a heartbeat reports as running, with their slots.
    fn running(&mut self) -> Vec<(AttemptKey, u32)> {
        let running = self.supervisor.heartbeat(self.now).running;
        let one = |at: &v1::RunningAttempt| {
            (convert::attempt_key("key", at.key.as_ref()).unwrap(), at.slot)
        };
        running.iter().map(one).collect()
    }

    /// Trains the run whose order lies in the channel, and checks that all is booked to it.
    fn finish(&mut self, slot: usize, key: &AttemptKey) {
        let serial = self.take_run(slot);
        self.tell_after(serial, slot, SlotNews::Started { step: 0, passed_over: Vec::new() });
        assert!(self.tell_after(serial, slot, loss(1)).spooled);
        assert!(self.tell_after(serial, slot, ended(Ending::Finished { step: 10 })).spooled);
        let entries = self.entries(key);
        let [Entry::Points { .. }, Entry::End(end)] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(end.ending, Ending::Finished { step: 10 });
        assert!(self.tell_after(serial, slot, self.passed()).beat);
        assert!(self.supervisor.is_idle());
    }
}

#[test]
fn an_attempt_outlives_news_from_before_its_order() {
    let mut bench = Bench::new();
    bench.ready(0);
    let before = bench.supervisor.seats[0].ordered;
    let key = bench.grant(0, 0);
    assert_eq!(bench.tell_after(before, 0, bench.passed()), Changed::default());
    assert_eq!(bench.running(), [(key.clone(), 0)]);
    assert!(bench.supervisor.heartbeat(bench.now).free_slots.is_empty(), "the slot will train it");
    assert!(bench.supervisor.grant(&grant(0, 1).1, bench.now).is_err());
    bench.finish(0, &key);
    // The slot is free for others.
    let next = bench.grant(0, 1);
    bench.finish(0, &next);
}

#[test]
fn an_attempt_that_waited_for_its_checkpoint_outlives_news_from_before_its_order() {
    let (mut bench, key, _) = fetching();
    let before = bench.supervisor.seats[0].ordered;
    bench.supervisor.arrived(&key);
    assert_eq!(bench.tell_after(before, 0, bench.passed()), Changed::default());
    assert_eq!(bench.running(), [(key.clone(), 0)]);
    bench.finish(0, &key);
}

#[test]
fn an_order_that_a_slot_lost_ends_its_attempt() {
    let mut bench = Bench::new();
    bench.ready(0);
    let key = bench.grant(0, 0);
    // It had no trainer: the order is thrown away, and the next trainer says so.
    let lost = bench.take_run(0);
    let changed = bench.tell_after(lost, 0, bench.passed());
    assert_eq!(changed, Changed { beat: true, spooled: true });
    let entries = bench.entries(&key);
    assert!(
        matches!(&entries[..], [Entry::End(End { ending: Ending::Failed { cause, .. }, .. })]
            if *cause == FailureCause::Infrastructure),
        "{entries:?}"
    );
    assert_eq!(bench.supervisor.heartbeat(bench.now).free_slots, [0]);
    let next = bench.grant(0, 1);
    bench.finish(0, &next);
}

#[test]
fn what_is_told_of_one_order_is_never_booked_to_the_next() {
    let mut bench = Bench::new();
    bench.ready(0);
    bench.grant(0, 0);
    let first = bench.take_run(0);
    bench.tell_after(first, 0, bench.passed());
    let key = bench.grant(0, 1);
    let note = CheckpointNote { step: 9, path: "/c".into(), hash: "h".into() };
    for news in [
        SlotNews::Started { step: 8, passed_over: Vec::new() },
        loss(9),
        SlotNews::Progress { step: 9, tokens_per_second: 1.0 },
        SlotNews::Checkpoint(note),
        ended(Ending::Finished { step: 9 }),
        bench.passed(),
    ] {
        assert_eq!(bench.tell_after(first, 0, news), Changed::default());
    }
    let beat = bench.supervisor.heartbeat(bench.now);
    assert_eq!((beat.running.len(), beat.running[0].step), (1, 0));
    bench.finish(0, &key);
}

#[test]
fn a_slot_whose_trainer_is_renewed_is_not_free_by_news_from_before() {
    let mut bench = Bench::new();
    bench.ready(0);
    let before = bench.supervisor.seats[0].ordered;
    bench.now += CANARY_AGE_MAX;
    bench.supervisor.tick(bench.now);
    let Ok(SlotOrder::Renew { serial }) = bench.orders[0].try_recv() else { panic!("no order") };
    assert_eq!(bench.tell_after(before, 0, bench.passed()), Changed::default());
    assert!(bench.supervisor.heartbeat(bench.now).free_slots.is_empty(), "it takes no run");
    assert!(bench.tell_after(serial, 0, bench.passed()).beat);
    assert_eq!(bench.supervisor.heartbeat(bench.now).free_slots, [0]);
}

#[test]
fn a_slot_that_takes_no_more_orders_ends_its_attempt_also_by_news_from_before() {
    let mut bench = Bench::new();
    bench.ready(0);
    let before = bench.supervisor.seats[0].ordered;
    let key = bench.grant(0, 0);
    bench.tell_after(before, 0, SlotNews::Unusable { reason: "flat".to_owned() });
    assert!(matches!(&bench.entries(&key)[..], [Entry::End(_)]));
    assert!(bench.supervisor.is_idle());
}

#[test]
fn an_order_that_cannot_be_given_has_no_serial() {
    let mut bench = Bench::new();
    bench.ready(0);
    let before = bench.supervisor.seats[0].ordered;
    bench.orders.remove(0);
    let key = bench.grant(0, 0);
    assert_eq!(bench.supervisor.seats[0].ordered, before);
    assert!(matches!(&bench.entries(&key)[..], [Entry::End(_)]));
}
