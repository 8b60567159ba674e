//! Decoding one token at a time: keys and values of what was read are kept, so that a token costs
//! one row of every matrix product and one row of scores.
//!
//! A test holds its logits to those of the whole window.

use burn::tensor::{Device, Int, Tensor, activation};

use super::{Layer, Lm};
use crate::{
    model::Parameter,
    ops::{relu2, rms_norm},
};

/// Keys and values of the tokens read so far, of every layer, for a batch of texts of one length.
#[derive(Debug)]
pub(crate) struct Cache {
    /// (keys, values) by layer, each [texts * heads, tokens, head width]; empty before the first.
    layers: Vec<Option<(Tensor<3>, Tensor<3>)>>,
    /// What attention of each layer read of the last token, [texts, width], for the token shift.
    earlier: Vec<Option<Tensor<2>>>,
    /// Tokens read.
    length: usize,
}

impl Cache {
    /// Tokens read so far.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }
}

impl Lm {
    /// Where its parameters are.
    pub(crate) fn device(&self) -> Device {
        self.head.plain().device()
    }

    /// A cache that has read nothing.
    pub(crate) fn cache(&self) -> Cache {
        Cache {
            layers: self.layers.iter().map(|_| None).collect(),
            earlier: self.layers.iter().map(|_| None).collect(),
            length: 0,
        }
    }

    /// Logits [rows, vocabulary] of chosen rows of whole windows: `inputs` are the tokens of some
    /// windows, `rows` are places among them.
    pub(crate) fn logits(&self, inputs: Tensor<1, Int>, rows: Tensor<1, Int>) -> Tensor<2> {
        let x = self.stream(inputs, Parameter::plain);
        rms_norm(x.select(0, rows), self.norm.plain()).matmul(self.head.plain())
    }

    /// Reads one more token of every text, [texts], and gives the logits of the next one, [texts,
    /// vocabulary].
    ///
    /// # Panics
    /// When the cache already holds a whole window.
    pub(crate) fn decode(&self, tokens: Tensor<1, Int>, cache: &mut Cache) -> Tensor<2> {
        let position = cache.length;
        assert!(position < self.attention.sequence, "a window has an end");
        let mut x = self.embedding.plain().select(0, tokens);
        let kept = cache.layers.iter_mut().zip(&mut cache.earlier);
        for (layer, (kept, earlier)) in self.layers.iter().zip(kept) {
            let mut normed = rms_norm(x.clone(), layer.attention_norm.plain());
            if self.token_shift {
                normed = shifted(normed, earlier);
            }
            let mixed = self.attend(normed.matmul(layer.qkv.plain()), position, kept);
            x = x + mixed.matmul(layer.attention_output.plain());
            x = x.clone() + layer.mlp(&x);
        }
        cache.length += 1;
        rms_norm(x, self.norm.plain()).matmul(self.head.plain())
    }

    /// Attention of one new token of every text over itself and what was read; `qkv` is [texts,
    /// 3 * width].
    fn attend(
        &self,
        qkv: Tensor<2>,
        position: usize,
        kept: &mut Option<(Tensor<3>, Tensor<3>)>,
    ) -> Tensor<2> {
        let (heads, head) = (self.attention.heads, self.attention.head_width);
        let [texts, _] = qkv.dims();
        let part = |index: usize| -> Tensor<3> {
            let width = heads * head;
            qkv.clone().narrow(1, index * width, width).reshape([texts * heads, 1, head])
        };
        let query = self.attention.place(part(0), position);
        let (key, value) = (self.attention.place(part(1), position), part(2));
        let (keys, values) = match kept.take() {
            None => (key, value),
            Some((keys, values)) => {
                (Tensor::cat(vec![keys, key], 1), Tensor::cat(vec![values, value], 1))
            }
        };
        let scores = query.matmul(keys.clone().swap_dims(1, 2)) * self.attention.scale();
        let mixed = activation::softmax(scores, 2).matmul(values.clone());
        *kept = Some((keys, values));
        mixed.reshape([texts, heads * head])
    }
}

/// The token shift of one row per text, with the row before it, which `normed` then replaces.
fn shifted(normed: Tensor<2>, earlier: &mut Option<Tensor<2>>) -> Tensor<2> {
    let [_, width] = normed.dims();
    let half = width / 2;
    let before = earlier.replace(normed.clone()).unwrap_or_else(|| normed.zeros_like());
    Tensor::cat(vec![before.narrow(1, 0, half), normed.narrow(1, half, width - half)], 1)
}

impl Layer {
    fn mlp(&self, x: &Tensor<2>) -> Tensor<2> {
        let normed = rms_norm(x.clone(), self.mlp_norm.plain());
        let up = normed.clone().matmul(self.up.plain());
        let hidden = match &self.gate {
            None => relu2(up),
            Some(gate) => activation::silu(normed.matmul(gate.plain())) * up,
        };
        hidden.matmul(self.down.plain())
    }
}
