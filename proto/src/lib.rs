//! The wire: the gRPC services `Control` (for the command line) and `Work` (for workers), how a
//! client finds and enters a coordinator, and the conversion of messages into domain types.
//!
//! It decides nothing. A generated type becomes a domain type in [`convert`] and nowhere else.

pub mod access;
pub mod client;
pub mod colour;
pub mod convert;
pub mod fault;

/// Generated from `sweep/v1/*.proto`.
pub mod v1 {
    #![expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::too_many_lines,
        reason = "generated code; its documentation stands in the wire files"
    )]
    tonic::include_proto!("sweep.v1");
}

/// The wire files in their compiled form, for tools that ask a server what it speaks.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Longest message in either direction. Longer lists are streamed.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Bytes of a file in one message.
pub const ARTIFACT_CHUNK_BYTES_MAX: usize = 1 << 20;

/// Points of one batch at most: 1,000 rows are one commit of the coordinator.
pub const BATCH_POINTS_MAX: usize = 1000;

/// Points in one message of a complete curve: 16 bytes each stay far below a message.
pub const CURVE_POINTS_MAX: usize = 50_000;

/// Longest recipe.
pub const RECIPE_BYTES_MAX: usize = 1 << 20;

/// Runs of one sweep at most.
pub const SWEEP_RUNS_MAX: usize = 10_000;

/// Header with the version of the caller.
pub const VERSION_HEADER: &str = "sweep-version";

/// The version that both ends must share: that of the program, and the revision of the training
/// code, because workers of two revisions would train one run differently.
#[must_use]
pub fn version() -> String {
    format!("{}+r{}", env!("CARGO_PKG_VERSION"), sweep_spec::training::TRAINING_REVISION)
}
