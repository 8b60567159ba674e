//! Whole-system tests: real binaries, real processes, real files. `tests/run` builds what they need.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod access;
mod artifacts;
mod bad_data;
mod bad_recipe;
mod chaos;
mod cli;
mod doctor;
mod drivers;
mod exports;
mod guards;
mod lifecycle;
mod lifetime;
mod network;
mod operations;
mod postgres;
mod rates;
mod render;
mod resume;
mod samples;
mod services;
mod slow_link;
mod store;
mod tables;
mod tasks;
mod terms;
mod trunk;
mod walls;
