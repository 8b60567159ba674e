//! Who can reach the listener: this machine, in plain text, or a network, encrypted.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use sweep_proto::access::Identity;
use tonic::transport::{Certificate, Server, ServerTlsConfig};

use crate::{
    authority::{Authority, Signed},
    clients,
    config::Config,
    error::CoordinatorError,
    role::Role,
};

/// The client of the coordinator's own access files; they get another certificate at each start.
const OWN_CLIENT: &str = "coordinator";

/// Who can reach a listener.
#[derive(Debug)]
pub(crate) enum Reach {
    /// Programs of this machine.
    Machine(SocketAddr),
    /// Other machines as well.
    Network(Box<Network>),
}

/// What a listener on a network needs.
#[derive(Debug)]
pub(crate) struct Network {
    /// `https://HOST:PORT`.
    pub(crate) address: String,
    /// Certificate of the authority.
    pub(crate) authority: String,
    /// For the access file, where clients must show a certificate.
    pub(crate) client: Option<Identity>,
    server: Identity,
}

impl Reach {
    /// What the address of a listener asks for; makes the authority at the first start.
    pub(crate) fn of(listener: SocketAddr, config: &Config) -> Result<Self, CoordinatorError> {
        if !listener.ip().is_loopback() {
            return Ok(Self::Network(Box::new(Network::of(listener, config)?)));
        }
        if config.client_certificates {
            return Err(CoordinatorError::PlainText(listener));
        }
        Ok(Self::Machine(listener))
    }

    /// A server with the encryption that goes with it. A client that has not shown by then who it is
    /// is cut off.
    pub(crate) fn server(&self, handshake: Duration) -> Result<Server, CoordinatorError> {
        let Self::Network(network) = self else { return Ok(Server::builder()) };
        let Identity { certificate, key } = &network.server;
        let mut tls = ServerTlsConfig::new()
            .identity(tonic::transport::Identity::from_pem(certificate, key))
            .timeout(handshake);
        if network.client.is_some() {
            tls = tls.client_ca_root(Certificate::from_pem(&network.authority));
        }
        let server = Server::builder().tls_config(tls);
        server.map_err(|error| CoordinatorError::Serve(format!("certificates: {error}")))
    }
}

impl Network {
    fn of(listener: SocketAddr, config: &Config) -> Result<Self, CoordinatorError> {
        let authority = Authority::open(&config.state)?;
        let host = config.advertise.clone().unwrap_or_else(|| host_of(listener.ip()));
        let client = if config.client_certificates {
            let Signed { identity, hash } = authority.client(OWN_CLIENT)?;
            clients::note(&config.state, OWN_CLIENT, Role::Operator, hash)?;
            Some(identity)
        } else {
            None
        };
        Ok(Self {
            address: format!("https://{}:{}", bracketed(&host), listener.port()),
            authority: authority.certificate().to_owned(),
            client,
            server: authority.server(names(host, listener.ip()))?,
        })
    }
}

/// The name that others are told where none is given.
fn host_of(listener: IpAddr) -> String {
    if listener.is_unspecified() { machine_name() } else { listener.to_string() }
}

fn machine_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// Everything the listener may be called: a client on this machine dials it as well.
fn names(host: String, listener: IpAddr) -> Vec<String> {
    let mut names = vec![host, machine_name()];
    if !listener.is_unspecified() {
        names.push(listener.to_string());
    }
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

/// An address of IPv6 stands in brackets before a port.
fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_the_network_is_told_by_a_name_that_others_can_dial() {
        let state = tempfile::tempdir().unwrap();
        let address = |listener: &str, advertise: Option<&str>| {
            let config = Config {
                state: state.path().to_owned(),
                advertise: advertise.map(str::to_owned),
                ..Config::default()
            };
            match Reach::of(listener.parse().unwrap(), &config).unwrap() {
                Reach::Machine(_) => "this machine".to_owned(),
                Reach::Network(network) => network.address,
            }
        };
        assert_eq!(address("127.0.0.1:7", None), "this machine");
        assert_eq!(address("10.1.2.3:7", None), "https://10.1.2.3:7");
        assert_eq!(address("[2001:db8::1]:7", None), "https://[2001:db8::1]:7");
        assert_eq!(address("0.0.0.0:7", Some("login.example")), "https://login.example:7");
        assert_eq!(address("0.0.0.0:7", None), format!("https://{}:7", machine_name()));
    }
}
