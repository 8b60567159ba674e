//! A coordinator that other machines reach: encrypted, and vouched for by its own authority.

use coordinator::{Config, Coordinator, CoordinatorError};
use sweep_proto::{
    access::{Access, Identity},
    client::{ConnectError, Connection},
    v1,
};

use crate::support::Served;

/// Starts one on every address of this machine; it is told as `localhost`.
async fn start(folder: &std::path::Path, client_certificates: bool) -> Served {
    let config = Config {
        store: format!("sqlite:{}", folder.join("sweep.db").display()),
        state: folder.join("state"),
        advertise: Some("localhost".to_owned()),
        client_certificates,
        ..Config::default()
    };
    Served::start_with(config, "0.0.0.0:0").await
}

async fn answers(access: &Access) -> Result<(), String> {
    let connection = Connection::open(access).await.map_err(|error| error.to_string())?;
    let reply = connection.control().get_info(v1::GetInfoRequest {}).await;
    reply.map(|_| ()).map_err(|status| status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_on_the_network_is_encrypted_and_trusted_by_its_authority_alone() {
    let folder = tempfile::tempdir().unwrap();
    let served = start(folder.path(), false).await;
    let access = served.access.clone();
    assert!(access.address.starts_with("https://localhost:"), "{}", access.address);
    assert!(access.identity.is_none());
    answers(&access).await.unwrap();
    // By another of its names.
    let numbered = access.address.replace("localhost", "127.0.0.1");
    answers(&Access { address: numbered, ..access.clone() }).await.unwrap();

    let wrong = Access { token: "0".repeat(64), ..access.clone() };
    assert!(answers(&wrong).await.unwrap_err().contains("token"));
    let plain = access.address.replace("https", "http");
    assert!(answers(&Access { address: plain, ..access.clone() }).await.is_err());
    let nameless = Access { authority: None, ..access.clone() };
    let error = Connection::open(&nameless).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoAuthority(_)), "{error}");

    // Someone else's authority is not trusted, whatever the token.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = start(elsewhere.path(), false).await;
    let mixed = Access { authority: other.access.authority.clone(), ..access.clone() };
    let refused = answers(&mixed).await.unwrap_err();
    assert!(refused.contains("certificate") && refused.contains("hint:"), "{refused}");
    other.stop().await;
    served.stop().await;

    // Started again it has another certificate from the same authority, and the same token.
    let again = start(folder.path(), false).await;
    assert_eq!(again.access.authority, access.authority);
    assert_eq!(again.access.token, access.token);
    answers(&Access { address: again.access.address.clone(), ..access }).await.unwrap();
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_a_certificate_where_they_must() {
    let folder = tempfile::tempdir().unwrap();
    let served = start(folder.path(), true).await;
    let access = served.access.clone();
    answers(&access).await.unwrap();
    let bare = Access { identity: None, ..access.clone() };
    assert!(answers(&bare).await.is_err());

    let elsewhere = tempfile::tempdir().unwrap();
    let other = start(elsewhere.path(), true).await;
    let foreign = Access { identity: other.access.identity.clone(), ..access.clone() };
    assert!(answers(&foreign).await.is_err());
    other.stop().await;

    let damaged = Identity { certificate: "none".into(), key: "none".into() };
    let error = answers(&Access { identity: Some(damaged), ..access }).await.unwrap_err();
    assert!(error.contains("hint:"), "{error}");
    served.stop().await;
}

/// The program `coordinator`, in the state folder of a test.
fn ca(state: &std::path::Path, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_coordinator"));
    command.arg("ca").args(arguments).arg("--state").arg(state).output().expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_clients_certificate_is_taken_back_while_the_coordinator_serves() {
    let folder = tempfile::tempdir().unwrap();
    let served = start(folder.path(), true).await;
    let state = folder.path().join("state");
    let access_of = |name: &str| {
        let out = folder.path().join(format!("{name}.json"));
        let made = ca(&state, &["client", name, "--out", out.to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
        Access::read(&out).unwrap()
    };
    let (alice, bob) = (access_of("alice"), access_of("bob"));
    answers(&alice).await.unwrap();
    let revoked = ca(&state, &["revoke", "alice"]);
    assert_eq!(String::from_utf8_lossy(&revoked.stdout), "1 taken back\n");
    let refused = answers(&alice).await.unwrap_err();
    assert!(refused.contains("taken back") && refused.contains("hint:"), "{refused}");
    answers(&bob).await.unwrap();
    answers(&served.access).await.unwrap();
    let unknown = ca(&state, &["revoke", "carol"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(!unknown.status.success() && said.contains("alice, bob, coordinator"), "{said}");
    served.stop().await;
}

#[tokio::test]
async fn client_certificates_need_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        store: format!("sqlite:{}", folder.path().join("sweep.db").display()),
        state: folder.path().join("state"),
        client_certificates: true,
        ..Config::default()
    };
    let listener = coordinator::bind("127.0.0.1:0").await.unwrap();
    let error = Coordinator::prepare(config, listener).await.err().unwrap();
    assert!(matches!(error, CoordinatorError::PlainText(_)), "{error}");
    assert!(error.to_string().contains("hint:"), "{error}");
}
