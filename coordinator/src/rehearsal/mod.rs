//! The scheduler alone, on clusters that nothing but its events makes: how long its decisions take,
//! and how near its makespans come to the lower bound. `examples/load.rs` prints both, and the tests
//! of the scheduler stand on the same events.
//!
//! There is no store, no network and no clock in it; whoever measures brings a clock.

mod decisions;
pub(crate) mod events;
mod makespan;

pub use decisions::decisions;
pub use makespan::{Makespan, makespans};

#[cfg(test)]
pub(crate) use decisions::crowded;
#[cfg(test)]
pub(crate) use makespan::{Cluster, predicted};
