//! The door before all services: it lifts the deadline of a connection whose caller shows a good token,
//! and answers wrong ones more and more slowly.
//!
//! Nobody guesses 256 bits; but a client that is refused and asks again at once, or a program that
//! tries, must not cost more than it is worth. Who has a good token never waits, whatever others do
//! from the same address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{extract::Request, http::header, middleware::Next, response::Response};
use sweep_proto::fault::Fault;
use tokio::sync::Semaphore;

use crate::{
    auth::Gate,
    clock::Clock,
    connection::{Peer, certificate_of},
    limits::Limits,
    metrics::Metrics,
};

/// Longest wait before a wrong token is answered; below the time that a connection has to show a good
/// one.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// An address that has shown no wrong token for so long begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(5);

/// Addresses that are remembered; 100 bytes each.
const ADDRESSES_MAX: usize = 10_000;

/// Answers that wait at a time; beyond, the refusal comes at once and says that there are too many.
const WAITING_MAX: usize = 1024;

/// Wrong tokens of each address: how many in a row, and when the last came.
#[derive(Debug, Default)]
struct WrongTokens(HashMap<IpAddr, (u32, Duration)>);

impl WrongTokens {
    /// Notes one more; how long its answer waits, from the first wait on.
    fn note(&mut self, now: Duration, address: IpAddr, first: Duration) -> Duration {
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&address) {
            self.0.retain(|_, (_, last)| now < *last + FORGOTTEN_AFTER);
            if self.0.len() >= ADDRESSES_MAX {
                return WAIT_MAX;
            }
        }
        let (count, last) = self.0.entry(address).or_default();
        if now >= *last + FORGOTTEN_AFTER {
            *count = 0;
        }
        (*count, *last) = (count.saturating_add(1), now);
        first.saturating_mul(2_u32.saturating_pow(*count - 1)).min(WAIT_MAX)
    }
}

/// The door; clones share what it knows.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    gate: Gate,
    clock: Clock,
    metrics: Metrics,
    first_wait: Duration,
    wrong: Arc<Mutex<WrongTokens>>,
    waiting: Arc<Semaphore>,
}

impl Door {
    pub(crate) fn new(gate: Gate, clock: Clock, metrics: Metrics, limits: &Limits) -> Self {
        let waiting = Arc::new(Semaphore::new(WAITING_MAX));
        Self {
            gate,
            clock,
            metrics,
            first_wait: limits.wrong_token,
            wrong: Arc::default(),
            waiting,
        }
    }

    /// Lets a call on to the services, which decide whether it may pass.
    pub(crate) async fn pass(self, call: Request, next: Next) -> Response {
        let token = call.headers().get(header::AUTHORIZATION).and_then(|text| text.to_str().ok());
        let peer = Peer::of(call.extensions());
        if self.gate.role(token).is_some() {
            if let Some(peer) = peer.filter(|peer| !peer.is_introduced()) {
                let certificate = certificate_of(call.extensions());
                if self.gate.admits(token, certificate.as_deref()) {
                    peer.introduce();
                }
            }
            return next.run(call).await;
        }
        self.metrics.refused("token");
        let Ok(_waiting) = self.waiting.try_acquire() else {
            let message = "too many callers with wrong tokens wait for their answers";
            return Fault::Busy.status(message).into_http();
        };
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
        tokio::time::sleep(self.wait(address)).await;
        next.run(call).await
    }

    /// How long the answer to one more wrong token from this address waits.
    fn wait(&self, address: IpAddr) -> Duration {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.note(self.clock.now(), address, self.first_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_token_of_an_address_waits_longer_until_it_is_forgotten() {
        let mut wrong = WrongTokens::default();
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = Duration::from_millis(100);
        let at = Duration::from_secs;
        let waits: Vec<u128> =
            (0..8).map(|now| wrong.note(at(now), one, first).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(wrong.note(at(8), other, first), first, "another address has its own count");
        assert_eq!(wrong.note(at(306), one, first), WAIT_MAX, "remembered for five minutes");
        assert_eq!(wrong.note(at(606), one, first), first, "forgotten");
        wrong.note(at(700), other, first);
        for number in 0..u32::MAX {
            wrong.note(at(700), IpAddr::V4(number.into()), first);
            if wrong.0.len() == ADDRESSES_MAX {
                break;
            }
        }
        let new = IpAddr::from([192, 168, 0, 1]);
        assert_eq!(wrong.note(at(700), new, first), WAIT_MAX, "no place to remember it");
        assert_eq!(wrong.0.len(), ADDRESSES_MAX);
        assert_eq!(wrong.note(at(1000), new, first), first, "there is a place again");
    }
}
