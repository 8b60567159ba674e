//! Formats that other tools read, one file each. Always complete, never downsampled.

pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod parquet;
pub(crate) mod tensorboard;

use sweep_spec::run::RunRole;

/// The name of a role.
pub(crate) const fn role(role: RunRole) -> &'static str {
    match role {
        RunRole::Fit => "fit",
        RunRole::Check => "check",
        RunRole::Trunk => "trunk",
        RunRole::Sensitivity => "sensitivity",
    }
}
