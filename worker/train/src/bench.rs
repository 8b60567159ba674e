//! The speed of a training step: the source of the cost model and the yardstick against other
//! programs.

use serde::{Deserialize, Serialize};
use sweep_spec::{
    random::{Purpose, Stream},
    shape::LmShape,
    training::Optimizer,
};

use burn::tensor::{Int, Tensor};

use crate::{
    device::{self, DeviceId},
    error::TrainError,
    model::{
        Model,
        lm::{Batch, Lm},
    },
    optim::AdamW,
    parts,
    timer::Timer,
};

/// Steps before the counted ones: kernels are compiled and tuned, memory is mapped.
const WARM_UP: u32 = 5;

/// What a bench measured; the keys of its JSON are stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// What trained.
    pub engine: String,
    /// The device's name.
    pub device: String,
    /// Type of weights and arithmetic.
    pub dtype: String,
    /// Threads that may share a step.
    pub threads: usize,
    /// Trainable parameters.
    pub params: u64,
    /// Median over the counted steps.
    pub tokens_per_second: f64,
    /// 6 N times tokens per second.
    pub flops_6n: f64,
    /// Peak resident memory of this process, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// Trains `steps` counted steps of a shape on random tokens, on up to `threads` threads of a CPU,
/// and reports the median speed.
///
/// # Errors
/// [`TrainError`] for an impossible shape or an unknown device.
#[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
pub fn bench(
    shape: &LmShape,
    batch: u32,
    steps: u32,
    id: &DeviceId,
    threads: usize,
) -> Result<BenchReport, TrainError> {
    shape.check()?;
    let device = device::open(id)?;
    let mut model = Lm::new(shape, 0, &device);
    let mut optimizer = AdamW::new(&recipe(shape.width), &model.parameters_mut());
    let sequence = shape.sequence as usize;
    let tokens = batch as usize * sequence;
    let parts = parts::parts(batch as usize, sequence, id.is_cpu());
    let mut draws = Stream::new(0, Purpose::DataOrder, 0);
    let mut seconds = Vec::new();
    for step in 0..WARM_UP + steps.max(1) {
        let text: Vec<i32> = (0..=tokens)
            .map(|_| {
                i32::try_from(draws.below(u64::from(shape.vocabulary))).expect("a small token")
            })
            .collect();
        let timer = Timer::start();
        let found = parts::gradients(&model, &parts, threads, |model, windows| {
            let (start, end) = (windows.start * sequence, windows.end * sequence);
            let inputs = Tensor::<1, Int>::from_data(&text[start..end], &device);
            model.loss(&Batch { inputs, targets: text[start + 1..=end].to_vec() })
        });
        let norm = optimizer.step(model.parameters_mut(), found.parameters, u64::from(step), 1.0);
        norm.try_into_data().map_err(|error| TrainError::Read(format!("{error:?}")))?;
        if step >= WARM_UP {
            seconds.push(timer.seconds());
        }
    }
    seconds.sort_unstable_by(f64::total_cmp);
    let params = shape.parameters().total;
    let tokens_per_second = tokens as f64 / seconds[seconds.len() / 2];
    Ok(BenchReport {
        engine: format!("sweep {}", env!("CARGO_PKG_VERSION")),
        device: id.0.clone(),
        dtype: "f32".to_owned(),
        threads,
        params,
        tokens_per_second,
        flops_6n: 6.0 * params as f64 * tokens_per_second,
        peak_memory_bytes: peak_memory(),
    })
}

/// The optimiser of the default recipe: it does the same work at any rate.
fn recipe(width: u32) -> Optimizer {
    Optimizer {
        learning_rate: 1e-3,
        base_width: width,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1.0,
    }
}

/// Peak resident memory of this process in bytes, where the system tells.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
