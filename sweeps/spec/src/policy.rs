//! What a sweep may take, and when. Nothing here changes what a run is, so nothing enters its id.

use serde::{Deserialize, Serialize};

/// The terms of a sweep. One that is handed in again takes its new priority and limits, and stays
/// paused or held as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Sweeps of a higher priority are served first; those of one share the slots.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Nothing of it is granted until it is resumed.
    #[serde(skip_serializing_if = "is_false")]
    pub paused: bool,
    /// Its check runs wait until the client that makes the forecast lets them go.
    #[serde(skip_serializing_if = "is_false")]
    pub checks_held: bool,
    /// Training FLOPs at most, by the exact count, attempts that failed included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flops_max: Option<f64>,
    /// Seconds of a slot's device at most, attempts that failed included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_seconds_max: Option<f64>,
    /// With more failed runs than this nothing more is granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_runs_max: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &i32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_survive_their_text_and_defaults_take_no_room() {
        assert_eq!(serde_json::to_string(&Policy::default()).unwrap(), "{}");
        let terms = Policy {
            priority: -3,
            paused: true,
            checks_held: true,
            flops_max: Some(1e18),
            device_seconds_max: Some(3600.0),
            failed_runs_max: Some(0),
        };
        let text = serde_json::to_string(&terms).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), terms);
        assert!(serde_json::from_str::<Policy>("{\"speed\": 1}").is_err());
    }
}
