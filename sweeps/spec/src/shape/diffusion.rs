//! Shape of the diffusion transformer, its counts, and the rule that turns a parameter target into
//! a shape (DiT: Peebles and Xie 2022, 2212.09748).
//!
//! An image of s x s values and c channels is cut into T = (s / p)^2 patches of P = p^2 c values.
//! Each patch, with 32 fixed numbers that tell its place, goes through one matrix to the width d:
//! (P + 32) d parameters. The timestep, as 64 sines and cosines, goes through 64 d and d^2. A layer
//! has 12 d^2 parameters for attention and the ReLU^2 MLP, and 6 d^2 for the shift, scale and gate
//! of its two halves, which follow from the timestep (adaLN-zero). The end has 2 d^2 for shift and
//! scale, and P d for the head. Classes, where there are any, have d each. There are no biases and
//! no gains: shift and scale take their place.

use serde::{Deserialize, Serialize};

use super::{ParameterCounts, ShapeError, nearest};
use crate::diffusion::Process;

/// Numbers that tell a patch its place: sines and cosines of 8 frequencies for row and column.
pub const PLACE_FEATURES: u32 = 32;

/// Numbers that tell the timestep: sines and cosines of 32 frequencies.
pub const TIME_FEATURES: u32 = 64;

/// Smallest and largest side of an image.
pub const SIDES: std::ops::RangeInclusive<u32> = 8..=64;

/// Most patches of an image, the limit on attention that language models have too.
pub const MAX_PATCHES: u32 = super::lm::MAX_SEQUENCE;

/// The exact shape of a diffusion transformer with the process that it is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionShape {
    /// Side s of the square images.
    pub side: u32,
    /// Channels c: 1 or 3.
    pub channels: u32,
    /// Side p of a patch; divides s.
    pub patch: u32,
    /// Classes that the model is told; 0 where it is told none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub classes: u32,
    /// Width d of the residual stream; `heads` divides it into even parts.
    pub width: u32,
    /// Number of layers.
    pub layers: u32,
    /// Number of attention heads.
    pub heads: u32,
    /// The process.
    pub process: Process,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_zero(classes: &u32) -> bool {
    *classes == 0
}

impl DiffusionShape {
    /// Checks that the shape can be built.
    ///
    /// # Errors
    /// [`ShapeError`] names the dimension.
    pub fn check(&self) -> Result<(), ShapeError> {
        for (name, value) in [
            ("channels", self.channels),
            ("patch", self.patch),
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
            ("timesteps", self.process.timesteps),
        ] {
            if value == 0 {
                return Err(ShapeError::Zero(name));
            }
        }
        if !SIDES.contains(&self.side) {
            return Err(ShapeError::Side(self.side));
        }
        if !self.side.is_multiple_of(self.patch) {
            return Err(ShapeError::Patch { side: self.side, patch: self.patch });
        }
        if self.patches() > MAX_PATCHES {
            return Err(ShapeError::Patches(self.patches()));
        }
        if !self.width.is_multiple_of(2 * self.heads) {
            return Err(ShapeError::Heads { width: self.width, heads: self.heads });
        }
        Ok(())
    }

    /// Patches of an image, T.
    #[must_use]
    pub const fn patches(&self) -> u32 {
        (self.side / self.patch) * (self.side / self.patch)
    }

    /// Values of a patch, P.
    #[must_use]
    pub const fn patch_values(&self) -> u32 {
        self.patch * self.patch * self.channels
    }

    /// Values of an image.
    #[must_use]
    pub const fn values(&self) -> u32 {
        self.side * self.side * self.channels
    }

    /// Width of one head.
    #[must_use]
    pub const fn head_width(&self) -> u32 {
        self.width / self.heads
    }

    /// Hidden width of the MLP.
    #[must_use]
    pub const fn hidden(&self) -> u32 {
        4 * self.width
    }

    /// Parameters by convention: the embedding is the patch matrix and the table of classes.
    #[must_use]
    pub const fn parameters(&self) -> ParameterCounts {
        let (d, l) = (self.width as u64, self.layers as u64);
        let patch = self.patch_values() as u64;
        let non_embedding = l * 18 * d * d + 2 * d * d + TIME_FEATURES as u64 * d + d * d;
        let embedding = (patch + PLACE_FEATURES as u64) * d + self.classes as u64 * d;
        let head = patch * d;
        ParameterCounts {
            total: non_embedding + embedding + head,
            non_embedding,
            with_head: non_embedding + head,
        }
    }

    /// Exact training FLOPs per image: two per multiply-add of every matrix product, the backward
    /// pass twice the forward pass, attention over all T^2 pairs. What is left out is what
    /// [`super::LmShape::flops_per_token`] leaves out, and the drawing of noise.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub fn flops_per_image(&self) -> f64 {
        let (d, l, t) = (u64::from(self.width), u64::from(self.layers), u64::from(self.patches()));
        let patch = u64::from(self.patch_values());
        let per_patch = l * 12 * d * d + (patch + u64::from(PLACE_FEATURES)) * d + patch * d;
        let per_image = u64::from(TIME_FEATURES) * d + d * d + l * 6 * d * d + 2 * d * d;
        // Scores and weighted values: 2 * 2 * d per pair.
        let attention = l * 4 * d * t * t;
        3.0 * (2 * (t * per_patch + per_image) + attention) as f64
    }
}

/// What the shape rule holds fixed.
#[derive(Clone, Debug)]
pub struct DiffusionShapeRule {
    /// Any shape of the family: its width, layers and heads are replaced.
    pub like: DiffusionShape,
    /// Width of a head; the width of the model is a multiple of it.
    pub head_width: u32,
    /// Width per layer: `layers = max(2, round(width / aspect))`.
    pub aspect: u32,
}

impl DiffusionShapeRule {
    /// The shape of this width.
    #[must_use]
    pub fn of_width(&self, width: u32) -> DiffusionShape {
        DiffusionShape {
            width,
            layers: ((width + self.aspect / 2) / self.aspect).max(2),
            heads: (width / self.head_width).max(1),
            ..self.like.clone()
        }
    }

    /// The shape whose total parameters are nearest to `target` in ratio.
    ///
    /// # Errors
    /// [`ShapeError::TooSmall`] and [`ShapeError::TooLarge`], as for language models.
    pub fn of_parameters(&self, target: u64) -> Result<DiffusionShape, ShapeError> {
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
    use crate::diffusion::{NoiseSchedule, Prediction, Weighting};

    fn shape(side: u32, channels: u32, patch: u32, width: u32, layers: u32) -> DiffusionShape {
        DiffusionShape {
            side,
            channels,
            patch,
            classes: 0,
            width,
            layers,
            heads: width / 16,
            process: Process {
                noise: NoiseSchedule::Cosine,
                timesteps: 1000,
                prediction: Prediction::Noise,
                weighting: Weighting::Uniform,
                ema_decay: 0.999,
            },
        }
    }

    /// Worked out by hand from the matrices of the module's head.
    #[test]
    fn three_shapes_have_the_counts_of_the_hand_calculation() {
        // 16 x 16 grey, patches of 4: T = 16, P = 16; d 32, 2 layers.
        // Layers 2 * 18 * 1024 = 36864; end 2048; time 64 * 32 + 1024 = 3072; together 41984.
        // Patch matrix 48 * 32 = 1536, head 16 * 32 = 512.
        let small = shape(16, 1, 4, 32, 2);
        assert_eq!(
            small.parameters(),
            ParameterCounts { total: 44_032, non_embedding: 41_984, with_head: 42_496 }
        );
        // Per patch 2 * 12288 + 1536 + 512 = 26624, times 16 = 425984; per image 3072 + 12288 +
        // 2048 = 17408; twice the sum 886784; attention 2 * 4 * 32 * 256 = 65536; times 3.
        assert_eq!(small.flops_per_image(), 2_856_960.0);

        // 32 x 32 colour, patches of 4: T = 64, P = 48; d 64, 3 layers, 10 classes.
        // Layers 3 * 18 * 4096 = 221184; end 8192; time 4096 + 4096; together 237568.
        // Patch matrix 80 * 64 = 5120, classes 640, head 3072.
        let colour = DiffusionShape { classes: 10, ..shape(32, 3, 4, 64, 3) };
        assert_eq!(
            colour.parameters(),
            ParameterCounts { total: 246_400, non_embedding: 237_568, with_head: 240_640 }
        );
        // Per patch 147456 + 5120 + 3072 = 155648, times 64 = 9961472; per image 8192 + 73728 +
        // 8192 = 90112; twice 20103168; attention 3 * 4 * 64 * 4096 = 3145728; times 3.
        assert_eq!(colour.flops_per_image(), 69_746_688.0);

        // 8 x 8 grey, patches of 2: T = 16, P = 4; d 16, 2 layers.
        // Layers 9216; end 512; time 1024 + 256; together 11008. Patch 576, head 64.
        let tiny = shape(8, 1, 2, 16, 2);
        assert_eq!(tiny.parameters().total, 11_648);
        // Per patch 6144 + 576 + 64 = 6784, times 16 = 108544; per image 1280 + 3072 + 512 = 4864;
        // twice 226816; attention 2 * 4 * 16 * 256 = 32768; times 3.
        assert_eq!(tiny.flops_per_image(), 778_752.0);
    }

    #[test]
    fn the_rule_takes_the_nearest_shape() {
        let rule = DiffusionShapeRule { like: shape(16, 1, 4, 16, 2), head_width: 16, aspect: 32 };
        for (target, width, layers) in [(44_000, 32, 2), (165_000, 64, 2), (1_250_000, 128, 4)] {
            let found = rule.of_parameters(target).expect("a shape");
            assert_eq!((found.width, found.layers), (width, layers), "{target}");
            found.check().expect("buildable");
        }
        assert!(matches!(rule.of_parameters(1000), Err(ShapeError::TooSmall { .. })));
    }

    #[test]
    fn impossible_shapes_are_refused_by_name() {
        assert_eq!(shape(65, 1, 5, 32, 2).check(), Err(ShapeError::Side(65)));
        assert_eq!(shape(28, 1, 5, 32, 2).check(), Err(ShapeError::Patch { side: 28, patch: 5 }));
        assert_eq!(shape(64, 1, 2, 32, 2).check(), Err(ShapeError::Patches(1024)));
        assert_eq!(shape(16, 1, 0, 32, 2).check(), Err(ShapeError::Zero("patch")));
    }
}
