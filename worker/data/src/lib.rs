//! Training data: from files or from a process of known entropy to tokens on disk.
//!
//! [`resolve`] reads a source and tells its facts, [`open`] gives its tokens to a trainer. What
//! was read is kept under the hash of its content in a cache folder, so that the second call is
//! fast, and a trainer never trains on other data than its run names.
//!
//! Layout: `globs` finds files, `documents` reads them, `index` remembers what was read, `select`
//! chooses and splits, `tokenizer` makes tokens, `codec` makes them text again, `shard` keeps them; `text`, `bin`, `synthetic`, `images` and
//! `glyphs` are the sources and `dataset` joins them; `task` draws and reads the
//! items of evaluation tasks.
//!
//! Rules, each held by a test:
//! - Content decides: neither path nor name nor order of the files enters a data id.
//! - Whole documents are held out, into a file of their own: no training window touches them.
//! - Documents are followed by a separator: byte 0 for bytes and our own byte-pair encoding, which
//!   text does not contain, so that a model can tell where a document ends.
//!
//! Token files are read by position (`pread`), not memory-mapped: a map is unsafe in Rust (another
//! process may cut the file under it), and unsafe code is forbidden here. A window costs one call
//! of about a microsecond against training steps of milliseconds, memory stays at one window, and
//! the page cache is shared by all trainers of a machine as it is with a map.
//!
//! Not here: devices, the order of windows (the trainer's), and whether a run asks for more tokens
//! than there are (the planner's: it compares with [`sweep_spec::data::DataManifest`]).

mod bin;
mod codec;
mod dataset;
mod documents;
mod error;
mod globs;
mod glyphs;
mod images;
mod index;
mod select;
mod shard;
mod synthetic;
pub mod task;
mod text;
mod tokenizer;

pub use codec::{Codec, Writing};
pub use dataset::{Dataset, open, resolve};
pub use error::DataError;
pub use glyphs::GlyphDensity;
pub use shard::TokenFile;
