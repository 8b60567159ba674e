//! Multi-head attention on packed queries, keys and values with QK-norm: causal with rotary
//! positions for language models, or over the whole window without positions for images.
//!
//! For each head: q and k are normalised to root-mean-square one without a gain (Henry et al.
//! 2020, 2010.04245, in the form of Dehghani et al. 2023, 2302.05442), rotated in half-split
//! pairs by their position (Su et al. 2021, 2104.09864, base 10000), and
//! o_i = sum over j <= i of softmax_j(10 cos(q_i, k_j)) v_j.
//!
//! After QK-norm a score is a cosine, and the usual factor would be the root of the head width:
//! 4 for heads of 16, too little to single out one token among 64. The fixed factor of 10 was
//! measured (width 64, 600k tokens of Rust sources, validation loss in nats per byte): 4 gives
//! 1.747, 8 gives 1.678, 12 gives 1.680, 16 gives 1.708.
//!
//! The forward pass keeps the logarithm of each row's sum of exponentials; the backward pass
//! recomputes the weights from it (Dao et al. 2022, 2205.14135). Windows are at most 512 tokens,
//! so one head's weights stay in the cache and are made whole; blocks above the diagonal are
//! skipped.

use std::sync::Arc;

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
    },
    tensor::{Device, Tensor, TensorData, activation},
};

use super::{
    flex::{Operand, Plain, contiguous, plain, values},
    rms_norm::EPSILON,
    simd::{Rows, dispatch, dot, exp_in_place, max, product},
};

/// The largest score: a query and a key of one direction.
const SHARPNESS: f32 = 10.0;

/// Rows of queries done together: the triangle above the diagonal is computed within a block and
/// skipped beyond it.
const BLOCK: usize = 24;

/// The fixed part of an attention: its shape, and the rotations of every position.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    /// Tokens of a window.
    pub(crate) sequence: usize,
    /// Number of heads.
    pub(crate) heads: usize,
    /// Width of a head.
    pub(crate) head_width: usize,
    /// Whether a token sees only itself and those before it.
    causal: bool,
    /// cos and sin of position * 10000^(-2 c / head width), [sequence, head width / 2] each.
    cos: Arc<[f32]>,
    sin: Arc<[f32]>,
}

impl Attention {
    /// Tables in f64 by `libm`, so that they are equal on every platform.
    #[expect(clippy::cast_precision_loss, reason = "positions are below 2^24")]
    #[expect(clippy::cast_possible_truncation, reason = "the tables are f32")]
    pub(crate) fn new(sequence: usize, heads: usize, head_width: usize) -> Self {
        let half = head_width / 2;
        let angles = (0..sequence).flat_map(|position| {
            (0..half).map(move |c| {
                position as f64 * libm::pow(10_000.0, -2.0 * c as f64 / head_width as f64)
            })
        });
        let angles: Vec<f64> = angles.collect();
        Self {
            sequence,
            heads,
            head_width,
            causal: true,
            cos: angles.iter().map(|&angle| libm::cos(angle) as f32).collect(),
            sin: angles.iter().map(|&angle| libm::sin(angle) as f32).collect(),
        }
    }

    /// Every token sees every other, and none is rotated: positions come with the input.
    pub(crate) fn of_all(sequence: usize, heads: usize, head_width: usize) -> Self {
        let angles = sequence * (head_width / 2);
        Self {
            sequence,
            heads,
            head_width,
            causal: false,
            cos: vec![1.0; angles].into(),
            sin: vec![0.0; angles].into(),
        }
    }

    /// Keys that the query at `row` sees, from the first one on.
    #[inline(always)]
    fn seen(&self, row: usize) -> usize {
        if self.causal { row + 1 } else { self.sequence }
    }

    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// What a product of a normalised query and key, whose squared norms are the head width, is
    /// multiplied by.
    #[expect(clippy::cast_precision_loss, reason = "head widths are below 2^24")]
    pub(crate) fn scale(&self) -> f32 {
        SHARPNESS / self.head_width as f32
    }

    /// Queries or keys [rows, 1, head width] of one position, normalised and rotated.
    pub(crate) fn place(&self, x: Tensor<3>, position: usize) -> Tensor<3> {
        let half = self.head_width / 2;
        let device = x.device();
        let (cos, sin) = self.rotation(position);
        let table = |values: &[f32]| -> Tensor<3> {
            Tensor::from_data(TensorData::new(values.to_vec(), [1, 1, half]), &device)
        };
        let (cos, sin) = (table(cos), table(sin));
        let inverse = (x.clone().square().mean_dim(2) + EPSILON).sqrt().recip();
        let x = x * inverse;
        let (first, second) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        let turned = first.clone() * cos.clone() - second.clone() * sin.clone();
        Tensor::cat(vec![turned, first * sin + second * cos], 2)
    }

    fn rotation(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.head_width / 2;
        let row = position * half..(position + 1) * half;
        (&self.cos[row.clone()], &self.sin[row])
    }
}

/// Attention over `qkv` [batch * sequence, 3 * width], queries, keys and values side by side;
/// gives [batch * sequence, width].
pub(crate) fn attention(qkv: Tensor<2>, with: &Attention) -> Tensor<2> {
    match qkv.into() {
        Operand::Tracked(qkv) => {
            let prepared = CausalAttention.prepare::<NoCheckpointing>([qkv.node()]);
            let qkv = contiguous(qkv.into_primitive());
            let (output, log_sums) = forward(&qkv, with);
            let output = match prepared.compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    let state = State { qkv, output: output.clone(), log_sums, with: with.clone() };
                    prepared.finish(state, output)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            };
            Tensor::from_primitive::<Autodiff<Flex>>(output)
        }
        Operand::Plain(qkv) => Tensor::from_primitive::<Flex>(forward(&contiguous(qkv), with).0),
        Operand::Other(qkv) => composed(qkv, with),
    }
}

/// The same of Burn's operations, with an additive mask.
pub(crate) fn composed(qkv: Tensor<2>, with: &Attention) -> Tensor<2> {
    let [rows, _] = qkv.dims();
    let (sequence, heads, head) = (with.sequence, with.heads, with.head_width);
    let batch = rows / sequence;
    let device = qkv.device();
    let parts: Tensor<5> = qkv.reshape([batch, sequence, 3, heads, head]).permute([2, 0, 3, 1, 4]);
    let part = |index: usize| -> Tensor<4> {
        parts.clone().narrow(0, index, 1).reshape([batch, heads, sequence, head])
    };
    let table = |values: &[f32]| -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), [1, 1, sequence, head / 2]), &device)
    };
    let (cos, sin) = (table(&with.cos), table(&with.sin));
    let place = |x: Tensor<4>| -> Tensor<4> {
        let inverse = (x.clone().square().mean_dim(3) + EPSILON).sqrt().recip();
        let x = x * inverse;
        let first = x.clone().narrow(3, 0, head / 2);
        let second = x.narrow(3, head / 2, head / 2);
        let turned = first.clone() * cos.clone() - second.clone() * sin.clone();
        Tensor::cat(vec![turned, first * sin.clone() + second * cos.clone()], 3)
    };
    let scores = place(part(0)).matmul(place(part(1)).swap_dims(2, 3)) * with.scale();
    let scores = if with.causal { scores + mask(sequence, &device) } else { scores };
    let weights = activation::softmax(scores, 3);
    let output = weights.matmul(part(2)).swap_dims(1, 2);
    output.reshape([rows, heads * head])
}

/// Zero on and below the diagonal, -60 above: e^-60 is nothing beside a weight of one, and a
/// larger number takes a slow path in some exponentials.
fn mask(sequence: usize, device: &Device) -> Tensor<4> {
    let values = (0..sequence)
        .flat_map(|i| (0..sequence).map(move |j| if j > i { -60.0_f32 } else { 0.0 }))
        .collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(values, [1, 1, sequence, sequence]), device)
}

#[derive(Debug)]
struct CausalAttention;

#[derive(Clone, Debug)]
struct State {
    qkv: Plain,
    output: Plain,
    log_sums: Vec<f32>,
    with: Attention,
}

impl Backward<Flex, 1> for CausalAttention {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let state = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |grad| backward(&state, &contiguous(grad)));
    }
}

/// One head's operands, contiguous, and what is computed from them; reused from head to head.
struct Scratch {
    /// Normalised and rotated queries and keys, values: [sequence, head width].
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Transposes of k and v: [head width, sequence].
    k_columns: Vec<f32>,
    v_columns: Vec<f32>,
    /// One over the root mean square of each raw query and key.
    q_inverse: Vec<f32>,
    k_inverse: Vec<f32>,
    /// Weights and their gradients: [sequence, sequence].
    weights: Vec<f32>,
    slopes: Vec<f32>,
    /// Gradients of q, k and v, and the head's output gradient: [sequence, head width].
    grad: [Vec<f32>; 3],
    upstream: Vec<f32>,
}

impl Scratch {
    fn new(with: &Attention) -> Self {
        let cells = || vec![0.0; with.sequence * with.head_width];
        let square = || vec![0.0; with.sequence * with.sequence];
        let row = || vec![0.0; with.sequence];
        Self {
            q: cells(),
            k: cells(),
            v: cells(),
            k_columns: cells(),
            v_columns: cells(),
            q_inverse: row(),
            k_inverse: row(),
            weights: square(),
            slopes: square(),
            grad: [cells(), cells(), cells()],
            upstream: cells(),
        }
    }

    /// Reads one head of a window of packed rows.
    #[inline(always)]
    fn load(&mut self, qkv: &[f32], head: usize, with: &Attention) {
        let (width, part) = (with.width(), with.head_width);
        let rows = qkv.chunks_exact(3 * width).enumerate();
        for (position, row) in rows {
            let at = position * part..(position + 1) * part;
            let slice = |which: usize| &row[which * width + head * part..][..part];
            let rotation = with.rotation(position);
            self.q_inverse[position] = place(slice(0), &mut self.q[at.clone()], rotation);
            self.k_inverse[position] = place(slice(1), &mut self.k[at.clone()], rotation);
            self.v[at].copy_from_slice(slice(2));
        }
        transpose(&self.k, part, &mut self.k_columns, with.sequence);
    }

    /// Fills the scores of the query rows `rows` against every key up to the last of them, and
    /// gives how many keys that is.
    #[inline(always)]
    fn scores(&mut self, first: usize, rows: usize, with: &Attention) -> usize {
        let keys = with.seen(first + rows - 1);
        let q = Rows { data: &self.q[first * with.head_width..], stride: with.head_width };
        let k = Rows { data: &self.k_columns, stride: with.sequence };
        // Whole lanes of keys are computed where the window has them; what lies beyond is ignored.
        let columns = keys.next_multiple_of(super::simd::LANES).min(with.sequence);
        let out = &mut self.weights[first * with.sequence..];
        product(out, with.sequence, (q, false), k, (rows, 0..with.head_width, columns));
        keys
    }
}

/// Normalises and rotates one query or key; gives one over its root mean square.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "head widths are below 2^24")]
fn place(raw: &[f32], out: &mut [f32], (cos, sin): (&[f32], &[f32])) -> f32 {
    let inverse = 1.0 / (dot(raw, raw) / raw.len() as f32 + EPSILON).sqrt();
    let (first, second) = raw.split_at(raw.len() / 2);
    let (out_first, out_second) = out.split_at_mut(first.len());
    for c in 0..first.len() {
        let (a, b) = (first[c] * inverse, second[c] * inverse);
        out_first[c] = a * cos[c] - b * sin[c];
        out_second[c] = a * sin[c] + b * cos[c];
    }
    inverse
}

/// The gradient of [`place`]: rotated back, then through the norm. `scratch` has a head's width.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "head widths are below 2^24")]
fn displace(
    grad: &mut [f32],
    raw: &[f32],
    inverse: f32,
    (cos, sin): (&[f32], &[f32]),
    out: &mut [f32],
) {
    let (first, second) = grad.split_at_mut(raw.len() / 2);
    for c in 0..first.len() {
        let (a, b) = (first[c], second[c]);
        first[c] = a * cos[c] + b * sin[c];
        second[c] = b * cos[c] - a * sin[c];
    }
    let pull = dot(grad, raw) / raw.len() as f32 * inverse * inverse;
    for ((out, &grad), &raw) in out.iter_mut().zip(&*grad).zip(raw) {
        *out = inverse * (grad - raw * pull);
    }
}

#[inline(always)]
fn transpose(from: &[f32], width: usize, to: &mut [f32], rows: usize) {
    for (row, values) in from.chunks_exact(width).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            to[column * rows + row] = value;
        }
    }
}

fn blocks(sequence: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..sequence).step_by(BLOCK).map(move |first| (first, BLOCK.min(sequence - first)))
}

fn forward(qkv: &Plain, with: &Attention) -> (Plain, Vec<f32>) {
    let qkv = values(qkv);
    let (sequence, width) = (with.sequence, with.width());
    let rows = qkv.len() / (3 * width);
    let mut output = vec![0.0; rows * width];
    let mut log_sums = vec![0.0; rows * with.heads];
    let windows = output.chunks_mut(sequence * width).zip(qkv.chunks(sequence * 3 * width));
    let windows = windows.zip(log_sums.chunks_mut(sequence * with.heads));
    let mut scratch = Scratch::new(with);
    for ((output, qkv), log_sums) in windows {
        dispatch(
            #[inline(always)]
            || {
                for (head, log_sums) in log_sums.chunks_exact_mut(sequence).enumerate() {
                    scratch.load(qkv, head, with);
                    forward_head(&mut scratch, log_sums, output, head, with);
                }
            },
        );
    }
    (plain(output, [rows, width]), log_sums)
}

#[inline(always)]
fn forward_head(
    scratch: &mut Scratch,
    log_sums: &mut [f32],
    output: &mut [f32],
    head: usize,
    with: &Attention,
) {
    let (sequence, part, width, scale) =
        (with.sequence, with.head_width, with.width(), with.scale());
    for (first, rows) in blocks(sequence) {
        let keys = scratch.scores(first, rows, with);
        for (row, log_sum) in log_sums.iter_mut().enumerate().skip(first).take(rows) {
            let weights = &mut scratch.weights[row * sequence..][..keys];
            let (seen, unseen) = weights.split_at_mut(with.seen(row));
            let top = max(seen) * scale;
            let total = exp_in_place(seen, scale, top);
            let share = 1.0 / total;
            seen.iter_mut().for_each(|weight| *weight *= share);
            unseen.fill(0.0);
            *log_sum = top + total.ln();
        }
        let weights = Rows { data: &scratch.weights[first * sequence..], stride: sequence };
        let v = Rows { data: &scratch.v, stride: part };
        let out = &mut output[first * width + head * part..];
        product(out, width, (weights, false), v, (rows, 0..keys, part));
    }
}

fn backward(state: &State, grad: &Plain) -> Plain {
    let with = &state.with;
    let (qkv, output, grad) = (values(&state.qkv), values(&state.output), values(grad));
    let (sequence, width) = (with.sequence, with.width());
    let mut grad_qkv = vec![0.0; qkv.len()];
    let window = sequence * width;
    let windows = grad_qkv.chunks_mut(3 * window).zip(qkv.chunks(3 * window));
    let windows = windows.zip(output.chunks(window)).zip(grad.chunks(window));
    let windows = windows.zip(state.log_sums.chunks(sequence * with.heads));
    let mut scratch = Scratch::new(with);
    for ((((grad_qkv, qkv), output), grad), log_sums) in windows {
        dispatch(
            #[inline(always)]
            || {
                for (head, log_sums) in log_sums.chunks_exact(sequence).enumerate() {
                    scratch.load(qkv, head, with);
                    backward_head(&mut scratch, log_sums, (output, grad), head, with);
                    store_gradients(&mut scratch, qkv, grad_qkv, head, with);
                }
            },
        );
    }
    plain(grad_qkv, [qkv.len() / (3 * width), 3 * width])
}

/// With P the weights and G the upstream gradient: dV = P' G, dP = G V',
/// dS = P (dP - rowsum(G O)) 10 / head width, dQ = dS K, dK = dS' Q.
#[inline(always)]
fn backward_head(
    scratch: &mut Scratch,
    log_sums: &[f32],
    (output, grad): (&[f32], &[f32]),
    head: usize,
    with: &Attention,
) {
    let (sequence, part, width, scale) =
        (with.sequence, with.head_width, with.width(), with.scale());
    for (to, row) in scratch.upstream.chunks_exact_mut(part).zip(grad.chunks_exact(width)) {
        to.copy_from_slice(&row[head * part..][..part]);
    }
    transpose(&scratch.v, part, &mut scratch.v_columns, sequence);
    for (first, rows) in blocks(sequence) {
        let keys = scratch.scores(first, rows, with);
        let columns = keys.next_multiple_of(super::simd::LANES).min(sequence);
        let upstream = Rows { data: &scratch.upstream[first * part..], stride: part };
        let v = Rows { data: &scratch.v_columns, stride: sequence };
        let slopes = &mut scratch.slopes[first * sequence..];
        product(slopes, sequence, (upstream, false), v, (rows, 0..part, columns));
        for row in first..first + rows {
            let weights = &mut scratch.weights[row * sequence..][..keys];
            let slopes = &mut scratch.slopes[row * sequence..][..keys];
            let (seen, unseen) = weights.split_at_mut(with.seen(row));
            exp_in_place(seen, scale, log_sums[row]);
            unseen.fill(0.0);
            let own = &output[row * width + head * part..][..part];
            let mean = dot(&scratch.upstream[row * part..][..part], own);
            for (slope, &weight) in slopes.iter_mut().zip(&*weights) {
                *slope = weight * (*slope - mean) * scale;
            }
        }
        let slopes = Rows { data: &scratch.slopes[first * sequence..], stride: sequence };
        let k = Rows { data: &scratch.k, stride: part };
        let out = &mut scratch.grad[0][first * part..];
        product(out, part, (slopes, false), k, (rows, 0..keys, part));
    }
    // Under causality a key of a block is seen by the queries from the block's first row on.
    for (first, rows) in blocks(sequence) {
        let weights = Rows { data: &scratch.weights[first..], stride: sequence };
        let slopes = Rows { data: &scratch.slopes[first..], stride: sequence };
        let upstream = Rows { data: &scratch.upstream, stride: part };
        let q = Rows { data: &scratch.q, stride: part };
        let [_, grad_k, grad_v] = &mut scratch.grad;
        let from = if with.causal { first } else { 0 };
        let seen = (rows, from..sequence, part);
        product(&mut grad_k[first * part..], part, (slopes, true), q, seen.clone());
        product(&mut grad_v[first * part..], part, (weights, true), upstream, seen);
    }
}

#[inline(always)]
fn store_gradients(
    scratch: &mut Scratch,
    qkv: &[f32],
    grad_qkv: &mut [f32],
    head: usize,
    with: &Attention,
) {
    let (part, width) = (with.head_width, with.width());
    let rows = qkv.chunks_exact(3 * width).zip(grad_qkv.chunks_exact_mut(3 * width));
    for (position, (raw, out)) in rows.enumerate() {
        let at = position * part..(position + 1) * part;
        let rotation = with.rotation(position);
        let [grad_q, grad_k, grad_v] = &mut scratch.grad;
        for (which, (grad, inverse)) in
            [(grad_q, scratch.q_inverse[position]), (grad_k, scratch.k_inverse[position])]
                .into_iter()
                .enumerate()
        {
            let place = which * width + head * part;
            let (raw, out) = (&raw[place..][..part], &mut out[place..][..part]);
            displace(&mut grad[at.clone()], raw, inverse, rotation, out);
        }
        out[2 * width + head * part..][..part].copy_from_slice(&grad_v[at]);
    }
}
