use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn id() -> RunId {
    RunId::from_hash_of_text("a run")
}

trait FromText {
    fn from_hash_of_text(text: &str) -> Self;
}

impl FromText for RunId {
    fn from_hash_of_text(text: &str) -> Self {
        sweep_spec::hash::content_hash("test", &text).to_hex()[..32].parse().unwrap()
    }
}

#[test]
fn points_survive_the_wire_with_every_class_of_value() {
    let values = [0.1, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324];
    let sent: Vec<Point> = values
        .iter()
        .zip(1..)
        .map(|(&value, step)| Point { metric: Metric::TrainLoss, step, value })
        .collect();
    let batch = v1::PointBatch {
        key: Some((&AttemptKey { run: id(), number: 3 }).into()),
        seq: 7,
        resume_step: 0,
        series: series(&sent),
    };
    let read = v1::PointBatch::decode(batch.encode_to_vec().as_slice()).unwrap();
    let key = attempt_key("key", read.key.as_ref()).unwrap();
    assert_eq!(key, AttemptKey { run: id(), number: 3 });
    let received = points("series", &read.series).unwrap();
    assert_eq!(received.len(), sent.len());
    for (sent, received) in sent.iter().zip(&received) {
        assert_eq!(sent.value.to_bits(), received.value.to_bits());
        assert_eq!((sent.metric, sent.step), (received.metric, received.step));
    }
}

#[test]
fn an_error_names_the_path_of_its_field() {
    let key = v1::AttemptKey { run_id: "nonsense".into(), attempt: 1 };
    assert_eq!(attempt_key("held[2].key", Some(&key)).unwrap_err().field(), "held[2].key.run_id");
    let key = v1::AttemptKey { run_id: id().to_string(), attempt: 0 };
    assert_eq!(attempt_key("key", Some(&key)).unwrap_err().field(), "key.attempt");
    assert_eq!(attempt_key("key", None).unwrap_err().to_string(), "key: is missing");
    let odd = v1::Series { metric: "train/loss".into(), steps: vec![1, 2], values: vec![0.5] };
    assert_eq!(points("series", &[odd]).unwrap_err().field(), "series[0].values");
    let unknown = v1::Series { metric: "mood".into(), ..v1::Series::default() };
    let error = points("series", &[v1::Series::default(), unknown]).unwrap_err();
    assert_eq!(error.field(), "series[0].metric");
    assert_eq!(role("role", 0).unwrap_err().field(), "role");
    let no_cause = v1::Ending::from(&Ending::Failed {
        cause: FailureCause::Program,
        reason: "it fell".into(),
    });
    assert!(ending("ending", Some(&no_cause)).is_ok());
    assert_eq!(ending("ending", Some(&v1::Ending::default())).unwrap_err().field(), "ending");
}

#[test]
fn a_batch_above_its_limit_is_refused() {
    let long = v1::Series {
        metric: "train/loss".into(),
        steps: (0..1001).collect(),
        values: vec![0.0; 1001],
    };
    assert!(points("series", &[long]).unwrap_err().to_string().contains("1001"));
}

#[test]
fn endings_states_and_roles_read_back() {
    let causes = [
        FailureCause::Program,
        FailureCause::Infrastructure,
        FailureCause::Daemon,
        FailureCause::Memory,
        FailureCause::Fetch,
        FailureCause::Configuration,
    ];
    let failed = causes.map(|cause| Ending::Failed { cause, reason: "no data".into() });
    let endings =
        [Ending::Finished { step: 9 }, Ending::Diverged { step: 8 }, Ending::Stopped { step: 7 }];
    for one in endings.into_iter().chain(failed) {
        assert_eq!(ending("ending", Some(&v1::Ending::from(&one))).unwrap(), one);
    }
    for &state in RunState::ALL {
        assert_eq!(run_state("state", v1::RunState::from(state).into()).unwrap(), state);
    }
    for one in [RunRole::Fit, RunRole::Check, RunRole::Trunk, RunRole::Sensitivity] {
        assert_eq!(role("role", v1::RunRole::from(one).into()).unwrap(), one);
    }
}

#[test]
fn a_run_under_another_id_is_refused() {
    let error = run("run_json", &id(), "{}").unwrap_err();
    assert!(error.to_string().starts_with("run_json: is no run of this version"), "{error}");
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..300)
}

/// A real message of each kind that a worker or a command sends.
fn wire_messages() -> Vec<Vec<u8>> {
    let key = AttemptKey { run: id(), number: 3 };
    let point = Point { metric: Metric::TrainLoss, step: 7, value: 1.5 };
    let ending = Ending::Failed {
        cause: sweep_spec::attempt::FailureCause::Program,
        reason: "it fell".to_owned(),
    };
    vec![
        v1::PointBatch {
            key: Some((&key).into()),
            seq: 1,
            resume_step: 0,
            series: series(&[point]),
        }
        .encode_to_vec(),
        v1::FinishAttemptRequest {
            key: Some((&key).into()),
            ending: Some((&ending).into()),
            ..v1::FinishAttemptRequest::default()
        }
        .encode_to_vec(),
        v1::SubmittedRun {
            run_id: id().to_string(),
            run_json: "{\"config\":{}}".to_owned(),
            ..v1::SubmittedRun::default()
        }
        .encode_to_vec(),
    ]
}

/// Reads bytes as every message whose meaning is checked here. An error is an answer.
fn read_as_everything(bytes: &[u8]) {
    if let Ok(batch) = v1::PointBatch::decode(bytes) {
        let _ = attempt_key("key", batch.key.as_ref());
        if let Ok(points) = points("series", &batch.series) {
            assert!(points.len() <= BATCH_POINTS_MAX);
            assert!(points.iter().all(|point| i64::try_from(point.step).is_ok()));
        }
    }
    if let Ok(finish) = v1::FinishAttemptRequest::decode(bytes) {
        let _ = attempt_key("key", finish.key.as_ref());
        let _ = ending("ending", finish.ending.as_ref());
    }
    if let Ok(submitted) = v1::SubmittedRun::decode(bytes) {
        let _ = role("role", submitted.role);
        if let Ok(id) = run_id("run_id", &submitted.run_id) {
            let _ = run("run_json", &id, &submitted.run_json);
        }
    }
    if let Ok(join) = v1::JoinRequest::decode(bytes) {
        let _ = join.devices.iter().map(device).count();
        let _ = join.slots.iter().map(slot).count();
    }
    if let Ok(list) = v1::ListRunsRequest::decode(bytes) {
        for state in list.states {
            let _ = run_state("states", state);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bytes_of_anything_are_a_message_or_an_error(bytes in noise()) {
        read_as_everything(&bytes);
    }

    #[test]
    fn a_changed_message_is_a_message_or_an_error(
        which in 0..3_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = wire_messages().swap_remove(which);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        read_as_everything(&bytes);
    }
}
