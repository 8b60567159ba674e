use burn::tensor::Device;
use sweep_spec::shape::{LmShape, Mlp};

use super::*;
use crate::model::{Model as _, leaf, normal};

const SHAPE: LmShape = LmShape {
    vocabulary: 256,
    width: 32,
    layers: 3,
    heads: 2,
    sequence: 24,
    mlp: Mlp::Relu2,
    token_shift: false,
};

/// A model none of whose matrices is zero, so that every part takes part.
fn model(shape: &LmShape) -> Lm {
    let device = Device::flex();
    let mut model = Lm::new(shape, 7, &device);
    for (index, parameter) in (100..).zip(model.parameters_mut()) {
        let [rows, columns] = parameter.value.dims();
        let values = normal(3, index, rows * columns, 0.3);
        let data = burn::tensor::TensorData::new(values, [rows, columns]);
        parameter.value = leaf(Tensor::from_data(data, &device));
    }
    model
}

fn tokens(count: usize, seed: u64) -> Vec<i32> {
    let mut draws = Stream::new(seed, Purpose::Resampling, 0);
    (0..count).map(|_| i32::try_from(draws.below(256)).expect("a byte")).collect()
}

#[test]
fn cached_and_uncached_logits_agree() {
    for (mlp, token_shift) in [(Mlp::Relu2, false), (Mlp::SwiGlu, false), (Mlp::Relu2, true)] {
        let shape = LmShape { mlp, token_shift, ..SHAPE };
        let model = model(&shape);
        let device = model.device();
        let (sequence, texts) = (shape.sequence as usize, 3);
        let inputs = tokens(sequence * texts, 5);
        let rows: Vec<i32> = (0..).take(inputs.len()).collect();
        let whole = model.logits(
            Tensor::<1, Int>::from_data(&inputs[..], &device),
            Tensor::<1, Int>::from_data(&rows[..], &device),
        );
        let whole = row_values(whole).expect("reads");
        let mut cache = model.cache();
        for place in 0..sequence {
            let read: Vec<i32> = (0..texts).map(|text| inputs[text * sequence + place]).collect();
            let logits = model.decode(Tensor::<1, Int>::from_data(&read[..], &device), &mut cache);
            let logits = row_values(logits).expect("reads");
            for (text, row) in logits.chunks_exact(256).enumerate() {
                let at = (text * sequence + place) * 256;
                for (cached, whole) in row.iter().zip(&whole[at..at + 256]) {
                    // Sums in other orders, in f32, over three layers.
                    let scale = 1e-4 * whole.abs().max(1.0);
                    assert!((cached - whole).abs() < scale, "{cached} against {whole} at {place}");
                }
            }
        }
        assert_eq!(cache.length(), sequence);
    }
}

#[test]
fn draws_follow_their_distribution() {
    let logits = [1.0_f32, 3.0, 2.0, 0.0];
    let whole = Draw { temperature: 1.0, top_k: None, top_p: 1.0 };
    let share = |draw: Draw, token: usize| {
        let mut stream = Stream::new(2, Purpose::Resampling, 1);
        let count = 20_000;
        let found = (0..count).filter(|_| pick(&logits, draw, stream.uniform()) == token).count();
        found as f64 / f64::from(count)
    };
    let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    // Four standard deviations of 20,000 draws.
    assert!((share(whole, 1) - 3_f64.exp() / total).abs() < 0.014);
    let warm = Draw { temperature: 2.0, ..whole };
    let total: f64 = logits.iter().map(|&logit| (f64::from(logit) / 2.0).exp()).sum();
    assert!((share(warm, 1) - 1.5_f64.exp() / total).abs() < 0.014);
    let two = Draw { top_k: Some(2), ..whole };
    assert_eq!((share(two, 0), share(two, 3)), (0.0, 0.0));
    assert!((share(two, 1) - 1.0 / (1.0 + (-1_f64).exp())).abs() < 0.014);
    // The most probable token has 0.64, the first two 0.88.
    let nucleus = Draw { top_p: 0.6, ..whole };
    assert_eq!(share(nucleus, 1), 1.0);
    let nucleus = Draw { top_p: 0.8, ..whole };
    assert_eq!(share(nucleus, 1) + share(nucleus, 2), 1.0);
    assert_eq!(pick(&logits, Draw { temperature: 0.0, ..whole }, 0.99), 1);
}
