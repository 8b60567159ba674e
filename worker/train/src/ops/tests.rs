//! Each fused operation against the same in Burn's operations, values and gradients, at odd shapes.

use burn::tensor::{Device, Int, Tensor, TensorData};
use sweep_spec::random::{Purpose, Stream};

use super::{
    Attention, Modulation, attention, cross_entropy, gated_sum, modulated_norm, relu2, rms_norm,
    token_shift,
};
use crate::model::leaf;

fn draws(seed: u64, shape: [usize; 2]) -> Tensor<2> {
    let mut stream = Stream::new(seed, Purpose::Weights, 0);
    #[expect(clippy::cast_possible_truncation, reason = "test data is f32")]
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| stream.normal() as f32).collect();
    leaf(Tensor::from_data(TensorData::new(values, shape), &Device::flex()))
}

fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// Value and input gradients of an operation, with a different weight for every output.
fn outcome(inputs: &[Tensor<2>], op: impl Fn(&[Tensor<2>]) -> Tensor<2>) -> Vec<Vec<f32>> {
    let output = op(inputs);
    let weights = draws(99, output.dims()).inner();
    let mut gradients = (output.clone() * Tensor::from_inner(weights)).sum().backward();
    let gradients =
        inputs.iter().map(|x| numbers(x.grad_remove(&mut gradients).expect("a gradient")));
    std::iter::once(numbers(output.inner())).chain(gradients).collect()
}

/// Both forms agree within rounding: a few hundred sums of f32 products.
fn assert_same(fused: &[Vec<f32>], composed: &[Vec<f32>], what: &str) {
    for (part, (fused, composed)) in fused.iter().zip(composed).enumerate() {
        assert_eq!(fused.len(), composed.len());
        let scale = composed.iter().fold(1e-3_f32, |top, x| top.max(x.abs()));
        for (index, (a, b)) in fused.iter().zip(composed).enumerate() {
            assert!(
                (a - b).abs() <= 2e-5 * scale,
                "{what}, part {part}, element {index}: {a} and {b}"
            );
        }
    }
}

#[test]
fn rms_norm_equals_its_composed_form() {
    for (rows, width) in [(1, 2), (5, 7), (300, 48), (257, 33)] {
        let inputs = [draws(1, [rows, width]), draws(2, [1, width])];
        let fused = outcome(&inputs, |x| rms_norm(x[0].clone(), x[1].clone()));
        let composed = outcome(&inputs, |x| super::rms_norm::composed(x[0].clone(), x[1].clone()));
        assert_same(&fused, &composed, &format!("rms_norm {rows} x {width}"));
    }
}

#[test]
fn token_shift_equals_its_composed_form_and_stays_in_its_window() {
    for (windows, sequence, width) in [(1, 2, 2), (3, 5, 7), (4, 64, 48)] {
        let inputs = [draws(4, [windows * sequence, width])];
        let fused = outcome(&inputs, |x| token_shift(x[0].clone(), sequence));
        let composed = outcome(&inputs, |x| super::token_shift::composed(x[0].clone(), sequence));
        assert_eq!(fused, composed, "token_shift {windows} x {sequence} x {width}");
    }
    let rows: Vec<f32> = (0..8_u8).map(f32::from).collect();
    let x = Tensor::from_data(TensorData::new(rows, [4, 2]), &Device::flex());
    assert_eq!(numbers(token_shift(x, 2)), [0.0, 1.0, 0.0, 3.0, 0.0, 5.0, 4.0, 7.0]);
}

#[test]
fn relu2_equals_its_composed_form() {
    for shape in [[1, 1], [33, 17], [300, 300]] {
        let inputs = [draws(3, shape)];
        let fused = outcome(&inputs, |x| relu2(x[0].clone()));
        let composed = outcome(&inputs, |x| super::relu2::composed(x[0].clone()));
        assert_same(&fused, &composed, "relu2");
    }
}

#[test]
fn attention_equals_its_composed_form() {
    for (batch, sequence, heads, head_width) in
        [(1, 1, 1, 2), (2, 5, 1, 4), (3, 24, 2, 8), (2, 33, 3, 6), (2, 64, 2, 16), (1, 100, 2, 32)]
    {
        let with = Attention::new(sequence, heads, head_width);
        let inputs = [draws(4, [batch * sequence, 3 * heads * head_width])];
        let fused = outcome(&inputs, |x| attention(x[0].clone(), &with));
        let composed = outcome(&inputs, |x| super::attention::composed(x[0].clone(), &with));
        let what = format!("attention {batch} x {sequence}, {heads} heads of {head_width}");
        assert_same(&fused, &composed, &what);
    }
}

#[test]
fn attention_over_the_whole_window_equals_its_composed_form() {
    for (batch, sequence, heads, head_width) in
        [(1, 1, 1, 2), (2, 5, 1, 4), (3, 16, 2, 16), (2, 49, 3, 8), (2, 64, 2, 16)]
    {
        let with = Attention::of_all(sequence, heads, head_width);
        let inputs = [draws(4, [batch * sequence, 3 * heads * head_width])];
        let fused = outcome(&inputs, |x| attention(x[0].clone(), &with));
        let composed = outcome(&inputs, |x| super::attention::composed(x[0].clone(), &with));
        assert_same(&fused, &composed, &format!("attention of all {batch} x {sequence}"));
    }
}

#[test]
fn modulations_equal_their_composed_forms() {
    for (images, rows, width, part) in [(1, 1, 2, 0), (3, 5, 7, 2), (4, 16, 48, 3)] {
        let at = Modulation { rows, part };
        let x = draws(8, [images * rows, width]);
        let z = draws(9, [images * rows, width]);
        let mods = draws(10, [images, 6 * width]);
        let inputs = [x.clone(), mods.clone()];
        let fused = outcome(&inputs, |x| modulated_norm(x[0].clone(), x[1].clone(), at));
        let composed =
            outcome(&inputs, |x| super::modulation::composed_norm(x[0].clone(), x[1].clone(), at));
        assert_same(&fused, &composed, &format!("modulated norm {images} x {rows} x {width}"));
        let inputs = [x, z, mods];
        let fused = outcome(&inputs, |x| gated_sum(x[0].clone(), x[1].clone(), x[2].clone(), at));
        let composed = outcome(&inputs, |x| {
            super::modulation::composed_gate(x[0].clone(), x[1].clone(), x[2].clone(), at)
        });
        assert_same(&fused, &composed, &format!("gated sum {images} x {rows} x {width}"));
    }
}

#[test]
fn a_window_does_not_see_what_comes_later() {
    let with = Attention::new(40, 2, 8);
    let x = draws(5, [40, 48]);
    let output = numbers(attention(x.clone().inner(), &with));
    let mut changed = numbers(x.inner());
    changed[30 * 48..].iter_mut().for_each(|value| *value += 1.0);
    let changed = Tensor::<2>::from_data(TensorData::new(changed, [40, 48]), &Device::flex());
    let after = numbers(attention(changed, &with));
    assert_eq!(output[..30 * 16], after[..30 * 16]);
    assert_ne!(output[30 * 16..], after[30 * 16..]);
}

#[test]
fn cross_entropy_equals_its_composed_form() {
    for (rows, vocabulary) in [(1, 2), (7, 19), (300, 256)] {
        let inputs = [draws(6, [rows, vocabulary])];
        let targets: Vec<i32> =
            (0..rows).map(|row| i32::try_from(row * 7 % vocabulary).expect("small")).collect();
        let on_device = || Tensor::<1, Int>::from_data(&targets[..], &Device::flex());
        let fused =
            outcome(&inputs, |x| cross_entropy(x[0].clone(), &targets, on_device).unsqueeze());
        let composed = outcome(&inputs, |x| {
            super::cross_entropy::composed(x[0].clone(), on_device()).unsqueeze()
        });
        assert_same(&fused, &composed, &format!("cross entropy {rows} x {vocabulary}"));
    }
}

#[test]
fn an_operation_gives_the_same_bits_every_time() {
    let with = Attention::new(64, 2, 16);
    let inputs = [draws(7, [256, 96])];
    let once = outcome(&inputs, |x| attention(x[0].clone(), &with));
    let again = outcome(&inputs, |x| attention(x[0].clone(), &with));
    assert_eq!(once, again);
}
