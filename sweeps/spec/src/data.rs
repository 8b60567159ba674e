//! What a run is trained on: the source as a recipe describes it, and its content once read.

use serde::{Deserialize, Serialize};

use crate::id::DataId;

/// Where tokens come from. Paths and globs are expanded on the machine that reads them; they are
/// no part of a run's identity, the content is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "source", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataSource {
    /// Files of text: plain, `.gz`, `.zst`, or JSON lines with a `text` field (`.jsonl`, also
    /// compressed). A plain file is one document, a JSON line is one document.
    Text {
        /// Globs; `~` and `$VARIABLE` are expanded.
        globs: Vec<String>,
        /// How text becomes tokens.
        #[serde(default)]
        tokenizer: Tokenizer,
        /// At most this many bytes of text, in whole documents drawn in the order of their
        /// content hashes; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_bytes: Option<u64>,
        /// Share of the documents held out for validation, drawn by content hash.
        #[serde(default = "default_held_out")]
        held_out: f64,
    },
    /// Token files of little-endian u16, as nanoGPT writes them, read as they are.
    Bin {
        /// Globs of the training files.
        train: Vec<String>,
        /// Globs of the validation files.
        validation: Vec<String>,
        /// Size of the vocabulary; every token is below it.
        vocabulary: u32,
    },
    /// Text drawn from a process whose entropy rate is known in closed form.
    Synthetic(Synthetic),
    /// Files of images of one size: IDX, CIFAR-10 binary, `.npy`, PNG, JPEG; told apart by content.
    Images {
        /// Globs; `~` and `$VARIABLE` are expanded.
        globs: Vec<String>,
        /// Share of the images held out for validation, drawn by content hash.
        #[serde(default = "default_held_out")]
        held_out: f64,
    },
    /// Images drawn from a distribution whose modes and density are known.
    Glyphs(Glyphs),
}

fn default_held_out() -> f64 {
    0.05
}

/// How text becomes tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tokenizer {
    /// Bytes: a vocabulary of 256.
    #[default]
    Bytes,
    /// Byte-pair encoding with this vocabulary, trained once on the training documents and cached
    /// by content.
    Bpe(u32),
    /// A `tokenizer.json`.
    File(String),
}

/// The synthetic source; its construction is documented where it is drawn, in `sweep-data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// Size of the vocabulary, 2 to 256.
    pub vocabulary: u32,
    /// Entropy rate in nats per token, above 0, below ln(vocabulary).
    pub entropy: f64,
    /// Number of contexts with a table of their own.
    pub contexts: u32,
    /// Training tokens.
    pub tokens: u64,
    /// Seed of the tables and of the text.
    #[serde(default)]
    pub seed: u64,
}

/// The synthetic images; their construction is documented where they are drawn, in `sweep-data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Glyphs {
    /// Side of the square images, 8 to 64.
    pub side: u32,
    /// 1 for grey, 3 for colour.
    pub channels: u32,
    /// Training images.
    pub images: u64,
    /// Standard deviation of the noise on every value, in levels of 256.
    pub deviation: f64,
    /// Seed of the images.
    #[serde(default)]
    pub seed: u64,
}

/// What is known of the images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFacts {
    /// Side of the square images.
    pub side: u32,
    /// 1 for grey, 3 for colour.
    pub channels: u32,
    /// Classes that the images are labelled with; 0 where they have no label.
    pub classes: u32,
}

impl ImageFacts {
    /// Values of one image.
    #[must_use]
    pub const fn values(&self) -> u32 {
        self.side * self.side * self.channels
    }
}

/// A data set as it was read: the facts that enter a run's identity and a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataManifest {
    /// Hash of documents, split and tokenizer.
    pub id: DataId,
    /// Size of the vocabulary.
    pub vocabulary: u32,
    /// Unique training tokens; of images, their number.
    pub train_tokens: u64,
    /// Held-out tokens, or images.
    pub validation_tokens: u64,
    /// Bytes of text per token, for bits per byte; absent where tokens are no text.
    pub bytes_per_token: Option<f64>,
    /// Documents of the training part.
    pub train_documents: u64,
    /// Documents of the held-out part.
    pub validation_documents: u64,
    /// Entropy rate in nats per token where it is known.
    pub entropy: Option<f64>,
    /// The form of the images, where the data are images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageFacts>,
}

impl DataManifest {
    /// What its counts count, in the plural.
    #[must_use]
    pub const fn unit(&self) -> &'static str {
        if self.image.is_some() { "images" } else { "tokens" }
    }
}
