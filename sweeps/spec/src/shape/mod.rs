//! Exact model shapes, their parameter counts and their FLOPs, by family.

pub mod diffusion;
pub mod lm;

use serde::{Deserialize, Serialize};

pub use diffusion::DiffusionShape;
pub use lm::{LmShape, Mlp};

/// A shape that no model can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A dimension is zero.
    #[error("`{0}` is 0; hint: every dimension of a model is at least 1")]
    Zero(&'static str),
    /// The heads do not divide the width evenly, or a head is odd (rotary embedding needs pairs).
    #[error("width {width} does not split into {heads} heads of even width; hint: choose a width that is a multiple of {}", 2 * heads)]
    Heads {
        /// The width asked for.
        width: u32,
        /// The heads asked for.
        heads: u32,
    },
    /// Longer than attention memory allows.
    #[error("sequence {0} is above the limit of {limit}; hint: lower `sequence`", limit = lm::MAX_SEQUENCE)]
    Sequence(u32),
    /// Below the smallest shape of the rule.
    #[error(
        "{target} parameters are fewer than the {smallest} of the smallest shape (width {width}, {layers} layers); hint: ask for at least {smallest}, or give `width` and `layers` yourself"
    )]
    TooSmall {
        /// The parameters asked for.
        target: u64,
        /// What the smallest shape has.
        smallest: u64,
        /// Width of the smallest shape.
        width: u32,
        /// Layers of the smallest shape.
        layers: u32,
    },
    /// An image side that is not supported.
    #[error("images of {0} x {0} are outside {least} to {most}; hint: resize them", least = diffusion::SIDES.start(), most = diffusion::SIDES.end())]
    Side(u32),
    /// A patch that does not divide the image.
    #[error(
        "patches of {patch} x {patch} do not tile images of {side} x {side}; hint: choose a `patch` that divides {side}"
    )]
    Patch {
        /// Side of the image.
        side: u32,
        /// Side of a patch.
        patch: u32,
    },
    /// A diffusion model on data that are no images.
    #[error("the data are no images; hint: use a source of kind `images` or `glyphs`")]
    NoImages,
    /// Classes asked for where there are none.
    #[error(
        "the images have no classes; hint: drop `class_conditional`, or add labels: IDX labels, CIFAR-10, or one folder per class"
    )]
    NoClasses,
    /// More patches than attention memory allows.
    #[error("{0} patches per image are above the limit of {limit}; hint: raise `patch`", limit = diffusion::MAX_PATCHES)]
    Patches(u32),
    /// Beyond the largest shape of the rule.
    #[error(
        "{0} parameters are beyond the largest shape of the rule; hint: give `width` and `layers` yourself"
    )]
    TooLarge(u64),
}

/// Width of the widest shape a rule gives.
const MAX_WIDTH: u32 = 16_384;

/// The shape among those of widths `step`, 2 `step`, ... whose parameters are nearest to `target`
/// in ratio; `facts` gives parameters, width and layers, and parameters rise with the width.
fn nearest<S>(
    target: u64,
    step: u32,
    of_width: impl Fn(u32) -> S,
    facts: impl Fn(&S) -> (u64, u32, u32),
) -> Result<S, ShapeError> {
    let mut below: Option<S> = None;
    for shape in (1..=MAX_WIDTH / step).map(|heads| of_width(heads * step)) {
        let (total, width, layers) = facts(&shape);
        if total < target {
            below = Some(shape);
            continue;
        }
        let Some(below) = below else {
            let close = target.saturating_mul(5) >= total.saturating_mul(4);
            return if close {
                Ok(shape)
            } else {
                Err(ShapeError::TooSmall { target, smallest: total, width, layers })
            };
        };
        // Nearest in ratio: compare target^2 with the product of the neighbours.
        let product = u128::from(facts(&below).0) * u128::from(total);
        return Ok(if u128::from(target).pow(2) < product { below } else { shape });
    }
    Err(ShapeError::TooLarge(target))
}

/// The three usual ways of counting a model's parameters. Which one a law uses moves its
/// exponents by tenths, so every figure states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterCounts {
    /// Every trainable parameter (Hoffmann et al. 2022).
    pub total: u64,
    /// Without the token embedding and without the head (Kaplan et al. 2020).
    pub non_embedding: u64,
    /// Without the token embedding, with the head: the parameters that do arithmetic.
    pub with_head: u64,
}

/// Which count of parameters is N.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterConvention {
    /// Every parameter (Chinchilla).
    #[default]
    Total,
    /// Without embedding and head (Kaplan).
    NonEmbedding,
    /// Without embedding, with head.
    WithHead,
}

impl ParameterCounts {
    /// The count under a convention.
    #[must_use]
    pub const fn under(&self, convention: ParameterConvention) -> u64 {
        match convention {
            ParameterConvention::Total => self.total,
            ParameterConvention::NonEmbedding => self.non_embedding,
            ParameterConvention::WithHead => self.with_head,
        }
    }
}

/// A model family with its exact shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A decoder-only next-token language model.
    Lm(LmShape),
    /// A diffusion transformer over images.
    Diffusion(DiffusionShape),
}

impl Shape {
    /// Parameters by convention.
    #[must_use]
    pub fn parameters(&self) -> ParameterCounts {
        match self {
            Self::Lm(shape) => shape.parameters(),
            Self::Diffusion(shape) => shape.parameters(),
        }
    }

    /// Exact training FLOPs per unit of D (token, image): matrix products and attention, forward
    /// and backward.
    #[must_use]
    pub fn flops_per_token(&self) -> f64 {
        match self {
            Self::Lm(shape) => shape.flops_per_token(),
            Self::Diffusion(shape) => shape.flops_per_image(),
        }
    }

    /// Units of D in one training sample: the tokens of a window; 1 for an image.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Lm(shape) => u64::from(shape.sequence),
            Self::Diffusion(_) => 1,
        }
    }

    /// Rows that one training sample puts through the layers: tokens, or patches of an image.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match self {
            Self::Lm(shape) => u64::from(shape.sequence),
            Self::Diffusion(shape) => u64::from(shape.patches()),
        }
    }

    /// Name of the family in recipes, tables and exports.
    #[must_use]
    pub const fn family(&self) -> &'static str {
        match self {
            Self::Lm(_) => "lm",
            Self::Diffusion(_) => "diffusion",
        }
    }

    /// What D counts, in the plural.
    #[must_use]
    pub const fn data_unit(&self) -> &'static str {
        match self {
            Self::Lm(_) => "tokens",
            Self::Diffusion(_) => "images",
        }
    }

    /// Width of the residual stream.
    #[must_use]
    pub const fn width(&self) -> u32 {
        match self {
            Self::Lm(shape) => shape.width,
            Self::Diffusion(shape) => shape.width,
        }
    }

    /// Number of layers.
    #[must_use]
    pub const fn layers(&self) -> u32 {
        match self {
            Self::Lm(shape) => shape.layers,
            Self::Diffusion(shape) => shape.layers,
        }
    }

    /// Number of attention heads.
    #[must_use]
    pub const fn heads(&self) -> u32 {
        match self {
            Self::Lm(shape) => shape.heads,
            Self::Diffusion(shape) => shape.heads,
        }
    }
}
