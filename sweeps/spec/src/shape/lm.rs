//! Shape of the decoder-only language model, its counts, and the rule that turns a parameter
//! target into a shape.
//!
//! Matrices of a layer of width d: queries, keys and values 3 d^2, output d^2, and the MLP, which
//! is 8 d^2 for ReLU^2 (So et al. 2021, 2109.08668) or three matrices of width h = 8 d / 3 rounded
//! up to a multiple of 8 for SwiGLU (Shazeer 2020, 2002.05202). Two RMSNorm gains per layer and
//! one at the end have d parameters each; QK-norm has none. Embedding and head are V d each and
//! are not tied.

use serde::{Deserialize, Serialize};

use super::{ParameterCounts, nearest};

/// The two-matrix or three-matrix MLP of a layer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mlp {
    /// Width 4 d with a squared ReLU.
    #[default]
    Relu2,
    /// Width 8 d / 3 with a gate.
    SwiGlu,
}

impl Mlp {
    /// Its name in recipes, tables and the words of a bench.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relu2 => "relu2",
            Self::SwiGlu => "swiglu",
        }
    }
}

/// The exact shape of a language model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LmShape {
    /// Size of the vocabulary V.
    pub vocabulary: u32,
    /// Width d of the residual stream; `heads` divides it into even parts.
    pub width: u32,
    /// Number of layers.
    pub layers: u32,
    /// Number of attention heads.
    pub heads: u32,
    /// Tokens of a training window T.
    pub sequence: u32,
    /// Kind of MLP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mlp: Mlp,
    /// Whether attention reads half of its channels from the token before. It has no parameters
    /// and costs no matrix product.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub token_shift: bool,
}

fn is_default(mlp: &Mlp) -> bool {
    *mlp == Mlp::default()
}

pub use super::ShapeError;

/// Longest training window: attention memory is quadratic where no fused kernel runs.
pub const MAX_SEQUENCE: u32 = 512;

impl LmShape {
    /// Checks that the shape can be built.
    ///
    /// # Errors
    /// [`ShapeError`] names the dimension.
    pub fn check(&self) -> Result<(), ShapeError> {
        for (name, value) in [
            ("vocabulary", self.vocabulary),
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
            ("sequence", self.sequence),
        ] {
            if value == 0 {
                return Err(ShapeError::Zero(name));
            }
        }
        if !self.width.is_multiple_of(2 * self.heads) {
            return Err(ShapeError::Heads { width: self.width, heads: self.heads });
        }
        if self.sequence > MAX_SEQUENCE {
            return Err(ShapeError::Sequence(self.sequence));
        }
        Ok(())
    }

    /// Width of one head.
    #[must_use]
    pub const fn head_width(&self) -> u32 {
        self.width / self.heads
    }

    /// Hidden width of the MLP.
    #[must_use]
    pub const fn hidden(&self) -> u32 {
        match self.mlp {
            Mlp::Relu2 => 4 * self.width,
            Mlp::SwiGlu => (8 * self.width).div_ceil(3).next_multiple_of(8),
        }
    }

    /// Parameters of the matrices of one layer.
    #[must_use]
    pub const fn layer_matrices(&self) -> u64 {
        let (d, h) = (self.width as u64, self.hidden() as u64);
        let mlp = match self.mlp {
            Mlp::Relu2 => 2 * d * h,
            Mlp::SwiGlu => 3 * d * h,
        };
        4 * d * d + mlp
    }

    /// Parameters by convention.
    #[must_use]
    pub const fn parameters(&self) -> ParameterCounts {
        let (d, v, l) = (self.width as u64, self.vocabulary as u64, self.layers as u64);
        let non_embedding = l * (self.layer_matrices() + 2 * d) + d;
        ParameterCounts {
            total: non_embedding + 2 * v * d,
            non_embedding,
            with_head: non_embedding + v * d,
        }
    }

    /// Exact training FLOPs per token, averaged over a window of T tokens: two per multiply-add
    /// of every matrix product, the backward pass twice the forward pass, and causal attention
    /// counted on the T (T + 1) / 2 pairs that it needs. Norms, activations, softmax and the
    /// optimiser are left out: for d >= 32 they are below 5 % of the operations, though not of
    /// the seconds.
    #[must_use]
    pub fn flops_per_token(&self) -> f64 {
        let matrices = u64::from(self.layers) * self.layer_matrices()
            + u64::from(self.vocabulary) * u64::from(self.width);
        // Scores and weighted values: 2 * 2 * d per pair, (T + 1) / 2 pairs per token.
        let attention =
            u64::from(self.layers) * 2 * u64::from(self.width) * u64::from(self.sequence + 1);
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
        let forward = (2 * matrices + attention) as f64;
        3.0 * forward
    }
}

/// What the shape rule may vary.
#[derive(Clone, Copy, Debug)]
pub struct ShapeRule {
    /// Size of the vocabulary.
    pub vocabulary: u32,
    /// Tokens of a window.
    pub sequence: u32,
    /// Kind of MLP.
    pub mlp: Mlp,
    /// Whether attention reads half of its channels from the token before.
    pub token_shift: bool,
    /// Width of a head; the width of the model is a multiple of it.
    pub head_width: u32,
    /// Width per layer: `layers = max(2, round(width / aspect))`.
    pub aspect: u32,
}

impl ShapeRule {
    /// The shape of this width: `layers = max(2, round(width / aspect))`, heads of fixed width.
    #[must_use]
    pub fn of_width(&self, width: u32) -> LmShape {
        let layers = ((width + self.aspect / 2) / self.aspect).max(2);
        LmShape {
            vocabulary: self.vocabulary,
            width,
            layers,
            heads: (width / self.head_width).max(1),
            sequence: self.sequence,
            mlp: self.mlp,
            token_shift: self.token_shift,
        }
    }

    /// The shape whose total parameters are nearest to `target` in ratio.
    ///
    /// # Errors
    /// [`ShapeError::TooSmall`] below the smallest shape by more than 20 %, and
    /// [`ShapeError::TooLarge`] beyond the widest.
    pub fn of_parameters(&self, target: u64) -> Result<LmShape, ShapeError> {
        nearest(
            target,
            self.head_width,
            |width| self.of_width(width),
            |shape| (shape.parameters().total, shape.width, shape.layers),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(width: u32, layers: u32, heads: u32, sequence: u32, mlp: Mlp) -> LmShape {
        LmShape { vocabulary: 256, width, layers, heads, sequence, mlp, token_shift: false }
    }

    #[test]
    fn an_mlp_is_called_as_recipes_call_it() {
        for mlp in [Mlp::Relu2, Mlp::SwiGlu] {
            assert_eq!(serde_json::to_value(mlp).unwrap(), mlp.name());
        }
    }

    /// Worked out by hand from the matrices of the module's head.
    #[test]
    fn three_shapes_have_the_counts_of_the_hand_calculation() {
        // d 32, 2 layers: layer 12 * 1024 = 12288, norms 64; twice that 24704, final norm 32.
        let small = shape(32, 2, 2, 64, Mlp::Relu2);
        assert_eq!(
            small.parameters(),
            ParameterCounts { total: 41_120, non_embedding: 24_736, with_head: 32_928 }
        );
        // Matrices 24576 + 8192 = 32768, twice 65536; attention 2 * 2 * 32 * 65 = 8320; times 3.
        assert_eq!(small.flops_per_token(), 221_568.0);

        // d 128, 4 layers: layer 12 * 16384 = 196608, norms 256; 787456 + 128; 2 * 32768 more.
        let middle = shape(128, 4, 4, 128, Mlp::Relu2);
        assert_eq!(
            middle.parameters(),
            ParameterCounts { total: 853_120, non_embedding: 787_584, with_head: 820_352 }
        );
        // Matrices 786432 + 32768 = 819200, twice 1638400; attention 4 * 2 * 128 * 129 = 132096.
        assert_eq!(middle.flops_per_token(), 5_311_488.0);

        // d 96, 3 layers, SwiGLU: h = 256; layer 4 * 9216 + 3 * 96 * 256 = 110592, norms 192.
        let gated = shape(96, 3, 6, 64, Mlp::SwiGlu);
        assert_eq!(gated.hidden(), 256);
        assert_eq!(
            gated.parameters(),
            ParameterCounts { total: 381_600, non_embedding: 332_448, with_head: 357_024 }
        );
        // Matrices 331776 + 24576 = 356352, twice 712704; attention 3 * 2 * 96 * 65 = 37440.
        assert_eq!(gated.flops_per_token(), 2_250_432.0);
    }

    const RULE: ShapeRule = ShapeRule {
        vocabulary: 256,
        sequence: 64,
        mlp: Mlp::Relu2,
        token_shift: false,
        head_width: 16,
        aspect: 32,
    };

    #[test]
    fn the_rule_takes_the_nearest_shape() {
        for (target, width, layers) in
            [(41_000, 32, 2), (131_000, 64, 2), (380_000, 96, 3), (860_000, 128, 4)]
        {
            let found = RULE.of_parameters(target).expect("a shape");
            assert_eq!((found.width, found.layers), (width, layers), "{target}");
            found.check().expect("buildable");
        }
    }

    #[test]
    fn the_rule_says_what_it_cannot_reach() {
        let smallest = RULE.of_width(16).parameters().total;
        assert_eq!(
            RULE.of_parameters(1000),
            Err(ShapeError::TooSmall { target: 1000, smallest, width: 16, layers: 2 })
        );
        assert_eq!(RULE.of_parameters(u64::MAX / 2), Err(ShapeError::TooLarge(u64::MAX / 2)));
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert_eq!(shape(0, 2, 2, 64, Mlp::Relu2).check(), Err(ShapeError::Zero("width")));
        assert_eq!(
            shape(34, 2, 2, 64, Mlp::Relu2).check(),
            Err(ShapeError::Heads { width: 34, heads: 2 })
        );
        assert_eq!(shape(32, 2, 2, 513, Mlp::Relu2).check(), Err(ShapeError::Sequence(513)));
    }
}
