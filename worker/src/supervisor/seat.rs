//! A slot as the supervisor sees it, and which of its news are about its last order.

use std::time::Instant;

use tokio::sync::mpsc;
use tracing::Span;

use super::Work;
use crate::{
    cores::Use,
    pipe::TrainOrder,
    slot::{Serial, SlotEvent, SlotNews, SlotOrder},
};

/// A slot as the supervisor sees it.
pub(crate) struct Seat {
    pub(super) device_id: String,
    pub(super) orders: mpsc::Sender<SlotOrder>,
    /// The last order with a serial.
    pub(super) ordered: Serial,
    pub(super) state: SeatState,
    /// When its trainer passed its canary; absent before the first.
    pub(super) canary_passed: Option<Instant>,
}

/// What a slot is doing.
#[derive(Debug)]
pub(crate) enum SeatState {
    /// Its trainer is started, or starts again.
    Starting,
    Free,
    Busy(Work),
    Unusable,
}

impl Seat {
    /// The seat of a slot whose first trainer is started.
    pub(crate) fn new(device_id: String, orders: mpsc::Sender<SlotOrder>) -> Self {
        let (ordered, state) = (Serial::default(), SeatState::Starting);
        Self { device_id, orders, ordered, state, canary_passed: None }
    }

    /// Orders a run; whether the slot takes orders.
    pub(super) fn train(&mut self, order: Box<TrainOrder>, span: Span) -> bool {
        self.order(|serial| SlotOrder::Train { serial, order, span })
    }

    /// Orders another trainer; whether the slot takes orders.
    pub(super) fn renew(&mut self) -> bool {
        self.order(|serial| SlotOrder::Renew { serial })
    }

    fn order(&mut self, order: impl FnOnce(Serial) -> SlotOrder) -> bool {
        let serial = self.ordered.following();
        let is_sent = self.orders.try_send(order(serial)).is_ok();
        if is_sent {
            self.ordered = serial;
        }
        is_sent
    }

    /// Whether the slot had taken its last order as it told this. News from before it is about
    /// another run or another trainer, and the order still lies there for the slot to take. Only
    /// that a slot takes no orders at all holds for every one.
    pub(super) fn is_current(&self, event: &SlotEvent) -> bool {
        event.taken == self.ordered || matches!(event.news, SlotNews::Unusable { .. })
    }
}

impl SeatState {
    pub(super) fn cores(&self) -> Use {
        match self {
            Self::Busy(_) => Use::Trains,
            Self::Starting => Use::Starts,
            Self::Free | Self::Unusable => Use::Lends,
        }
    }
}
