//! Orders for a slot, and how it takes them.
//!
//! Orders and news cross: as an order is given, what the slot told before may still be unread. So an
//! order that changes what a slot does has a serial, and the slot says with its news which was the
//! last one; whoever gives the orders can tell news about them from what is older.

use tokio::sync::mpsc;
use tracing::Span;

use crate::pipe::TrainOrder;

/// Counts the orders of one slot; the default stands for none so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Serial(u64);

impl Serial {
    /// That of the order after this one.
    pub(crate) fn following(self) -> Self {
        Self(self.0 + 1)
    }
}

/// To a slot.
#[derive(Debug)]
pub(crate) enum SlotOrder {
    /// Only for a slot that is ready. What is logged of the run is logged in the span.
    Train { serial: Serial, order: Box<TrainOrder>, span: Span },
    /// Stop at the next step, with a checkpoint.
    Stop,
    /// Use so many threads from the next step on.
    Threads(usize),
    /// End the run now; nothing of it is wanted.
    Kill,
    /// Replace the trainer, so that a new one passes its canary; only for a slot that is ready.
    Renew { serial: Serial },
}

/// What a slot that is ready is to do.
pub(super) enum Next {
    Train { serial: Serial, order: Box<TrainOrder>, span: Span },
    Renew,
}

/// The orders of a slot.
pub(crate) struct Orders {
    receiver: mpsc::Receiver<SlotOrder>,
    /// The last order with a serial that was read, also one that nobody heeded.
    taken: Serial,
}

impl From<mpsc::Receiver<SlotOrder>> for Orders {
    fn from(receiver: mpsc::Receiver<SlotOrder>) -> Self {
        Self { receiver, taken: Serial::default() }
    }
}

impl Orders {
    /// The last order that was taken, be it heeded or thrown away.
    pub(super) fn taken(&self) -> Serial {
        self.taken
    }

    /// The next order of any kind; none once the daemon ends.
    pub(super) async fn recv(&mut self) -> Option<SlotOrder> {
        let order = self.receiver.recv().await?;
        if let SlotOrder::Train { serial, .. } | SlotOrder::Renew { serial } = order {
            self.taken = serial;
        }
        Some(order)
    }

    /// The next order; what else was ordered for a run that has just ended means nothing.
    pub(super) async fn next(&mut self) -> Option<Next> {
        loop {
            match self.recv().await? {
                SlotOrder::Train { serial, order, span } => {
                    return Some(Next::Train { serial, order, span });
                }
                SlotOrder::Renew { .. } => return Some(Next::Renew),
                SlotOrder::Stop | SlotOrder::Kill | SlotOrder::Threads(_) => {}
            }
        }
    }

    /// Waits for the end of the daemon. No trainer is there to heed an order: a run is thrown away,
    /// which the next `Ready` says by its serial.
    pub(super) async fn closed(&mut self) {
        while self.recv().await.is_some() {}
    }
}
