//! The trainer: it trains one run on one device and reports what it measured.
//!
//! The only user of Burn. It knows no network, no database and no lease, never calls
//! `Device::default()`, and draws no random number on a device. Read `model/lm.rs` and `model/diffusion.rs` for the models,
//! `optim.rs` for the optimiser, `training.rs` for the loop, and `ops` for what makes small models
//! fast on a CPU.

mod bench;
mod canary;
mod checkpoint;
mod device;
mod diffusion;
mod error;
mod family;
mod model;
mod ops;
mod optim;
mod order;
mod parts;
mod sample;
mod task;
mod timer;
mod training;

pub use bench::{BenchReport, bench, peak_memory};
pub use canary::{CanaryReport, canary};
pub use checkpoint::CONFIG_FILE;
pub use device::{DeviceId, DeviceInfo, inventory};
pub use error::TrainError;
pub use sample::{Draw, SampleRequest, Samples, sample};
pub use training::{Outcome, TrainEvent, TrainRequest, train};
