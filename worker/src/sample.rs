//! Text from the checkpoints that workers of this machine keep; the trainer writes it.

pub use sweep_train::{CONFIG_FILE, DeviceId, Draw, SampleRequest, Samples, TrainError, sample};
