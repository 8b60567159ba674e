//! What a coordinator bears of its clients. Each of the numbers has its reason; a test makes them small.

use std::time::Duration;

/// Limits on connections, calls and what workers send.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in all; more wait to be accepted. Four for each of 1,000 workers.
    pub connections: usize,
    /// Connections from one address of the network; more are closed. A node has a worker or two, a
    /// login node the commands of many people.
    pub connections_per_address: usize,
    /// Connections from this machine, whose workers and commands share one address.
    pub connections_from_machine: usize,
    /// Time from a connection to its first call with a good token, encryption included: whoever sends a
    /// byte now and then holds a place no longer.
    pub introduction: Duration,
    /// Calls of one connection at a time: a worker has two streams and a unary call or two.
    pub streams: u32,
    /// A stream that brings nothing, or whose reader takes nothing, for so long has gone. Streams of
    /// workers have leases instead.
    pub stream_idle: Duration,
    /// Wait before the first wrong token of an address is answered; it doubles with each further one.
    pub wrong_token: Duration,
    /// Points of one worker a second. Eight slots measure 80; a spool of a day then drains in minutes,
    /// and seven workers that do so together stay below what a store takes.
    pub points_per_second: u32,
    /// Bytes of points of one worker a second: 16 a point and as much again for names.
    pub point_bytes_per_second: u32,
    /// Bytes of checkpoints of one attempt: the fifty of a run, each of the largest file twice.
    pub artifact_bytes_per_attempt: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 64,
            connections_from_machine: 4096,
            introduction: Duration::from_secs(10),
            streams: 64,
            stream_idle: Duration::from_secs(60),
            wrong_token: Duration::from_millis(100),
            points_per_second: 20_000,
            point_bytes_per_second: 1 << 20,
            artifact_bytes_per_attempt: 8 << 40,
        }
    }
}
