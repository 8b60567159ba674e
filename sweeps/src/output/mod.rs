//! How results are printed: tables for people, beside the JSON that the types give by themselves.

pub(crate) mod analysis;
pub(crate) mod curves;
pub(crate) mod emergence;
pub(crate) mod fit_table;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod table;
