//! The canary: 20 fixed training steps that a device must reproduce before it may train.
//!
//! Devices lie: a driver may run every step without an error and compute nothing. So a tiny model
//! is trained on a fixed text and its loss curve compared with the stored one of the CPU backend.
//! The settings make that curve fall by more than a nat, so a device that computes nothing cannot
//! pass.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};
use sweep_spec::{
    shape::{LmShape, Mlp},
    training::Optimizer,
};

use crate::{
    device::{self, DeviceId},
    error::TrainError,
    model::{
        Model,
        lm::{Batch, Lm},
    },
    optim::AdamW,
    parts::gradients,
};

/// Steps of the curve.
const STEPS: u64 = 20;

/// Windows of a step.
const WINDOWS: usize = 8;

/// Largest relative deviation of a step's loss. Devices sum in other orders, and NVIDIA's may
/// multiply in TF32 with its 10-bit mantissa, which 20 steps of training amplify.
const TOLERANCE: f64 = 0.02;

/// Losses of the CPU backend, in nats per token.
#[rustfmt::skip]
const EXPECTED: [f64; STEPS as usize] = [
    5.545177, 5.240813, 4.830565, 4.460159, 4.040545,
    3.643740, 3.313279, 3.002146, 2.710305, 2.433141,
    2.161708, 1.898915, 1.643128, 1.399816, 1.173160,
    0.964831, 0.778166, 0.616943, 0.481766, 0.371120,
];

/// What a canary found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryReport {
    /// Whether the device may train.
    pub passed: bool,
    /// Why not, or the largest deviation; one line.
    pub reason: String,
    /// The loss of each step, as this device computed it.
    pub losses: Vec<f64>,
}

/// Trains the canary on a device and compares its curve with the stored one.
///
/// # Errors
/// [`TrainError`] when the device cannot be opened or read.
pub fn canary(id: &DeviceId) -> Result<CanaryReport, TrainError> {
    let losses = curve(id)?;
    let deviations =
        losses.iter().zip(&EXPECTED).map(|(loss, expected)| (loss / expected - 1.0).abs());
    let worst = deviations.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    let (step, deviation) = worst.expect("the curve has steps");
    // Written so that NaN does not pass.
    let passed = deviation <= TOLERANCE;
    let reason = if passed {
        format!("largest deviation from the reference curve {:.1e} at step {}", deviation, step + 1)
    } else {
        format!(
            "loss {:.4} at step {} where the reference has {:.4}: the device computes wrong numbers",
            losses[step],
            step + 1,
            EXPECTED[step]
        )
    };
    Ok(CanaryReport { passed, reason, losses })
}

fn curve(id: &DeviceId) -> Result<Vec<f64>, TrainError> {
    let device = device::open(id)?;
    let shape = LmShape {
        vocabulary: 256,
        width: 32,
        layers: 2,
        heads: 2,
        sequence: 32,
        mlp: Mlp::Relu2,
        token_shift: false,
    };
    let optimizer = Optimizer {
        learning_rate: 0.01,
        base_width: 32,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1.0,
    };
    let mut model = Lm::new(&shape, 1, &device);
    let mut optimizer = AdamW::new(&optimizer, &model.parameters_mut());
    let (inputs, targets) = text();
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let inputs = Tensor::<1, Int>::from_data(&inputs[..], &device);
        let batch = Batch { inputs, targets: targets.clone() };
        let whole = std::slice::from_ref(&(0..WINDOWS));
        let found = gradients(&model, whole, 1, |model, _| model.loss(&batch));
        optimizer.step(model.parameters_mut(), found.parameters, step, 1.0);
        let data = found.loss.try_into_data();
        let data = data.map_err(|error| TrainError::Read(format!("{error:?}")))?;
        let values =
            data.try_to_vec::<f32>().map_err(|error| TrainError::Read(format!("{error:?}")))?;
        losses.push(f64::from(values[0]));
    }
    Ok(losses)
}

/// Windows of a text that is easy to learn: letters in order, each window from another one.
fn text() -> (Vec<i32>, Vec<i32>) {
    let letter = |place: i32| 97 + place.rem_euclid(26);
    let places =
        (0..).take(WINDOWS).flat_map(|window| (0..32).map(move |token| 3 * window + token));
    let inputs: Vec<i32> = places.clone().map(letter).collect();
    (inputs, places.map(|place| letter(place + 1)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_reproduces_its_own_curve() {
        let report = canary(&DeviceId::cpu()).expect("the CPU trains");
        assert!(report.passed, "{}: {:?}", report.reason, report.losses);
    }

    #[test]
    fn the_curve_falls_by_more_than_a_nat() {
        assert!(EXPECTED[0] - EXPECTED[STEPS as usize - 1] > 1.0);
    }
}
