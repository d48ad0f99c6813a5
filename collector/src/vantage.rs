//! The collector's own vantage: the agent's code inside this process, as the agent `centre` at the access point
//! `centre`. It measures access points without an agent, and others from outside, and reaches us like any other agent:
//! over TLS, through our own port, with a certificate of our own authority.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::config::{Config as AgentConfig, HostPort};
use extranet_agent::identity::{self, Identity, IdentityError};
use extranet_agent::run::{self, RunError};
use extranet_agent::shell::{self, ShutdownTrigger, Stage, error_chain, spawn_named};
use extranet_agent::state_file::{self, StateFileError};
use extranet_proto::id::{AgentId, ApId};
use rustls_pki_types::CertificateDer;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::enrol::Enrolment;

/// Id of the agent and of its access point; the catalogue holds the latter from the beginning.
pub const CENTRE: &str = "centre";
/// Loopback does not need the backoff of a satellite link.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Pause before the vantage is started again after it failed.
const RESTART: Duration = Duration::from_secs(10);
/// How long it may take to send its last results when the collector stops. What is not sent stays in its spool.
const STOP: Duration = Duration::from_secs(3);

/// Why there is no vantage.
#[derive(Debug, thiserror::Error)]
pub enum VantageError {
    /// Its state folder.
    #[error("the collector's own vantage")]
    Folder(#[from] RunError),
    /// Its key and certificate.
    #[error("identity of the collector's own vantage")]
    Identity(#[from] IdentityError),
    /// Its key.
    #[error("key of the collector's own vantage")]
    Key(#[from] rcgen::Error),
    /// A file of its state.
    #[error("state of the collector's own vantage")]
    StateFile(#[from] StateFileError),
    /// It does not fit together.
    #[error("certificate of the collector's own vantage: {0}")]
    Certificate(&'static str),
    /// Our own authority refused.
    #[error("enrolment of the collector's own vantage")]
    Enrolment(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The running vantage.
#[derive(Debug)]
pub struct Vantage {
    trigger: ShutdownTrigger,
    task: JoinHandle<()>,
}

/// Sees to an identity and starts the agent. `address` is our own port.
pub async fn start(
    config: &Config,
    address: SocketAddr,
    enrolment: &Enrolment,
    clock: Clock,
) -> Result<Vantage, VantageError> {
    let state_dir = config.state_dir.join("vantage");
    run::prepare_state_dir(&state_dir)?;
    see_to_identity(&state_dir, enrolment, &clock).await?;
    let mut agent = AgentConfig {
        collectors: loopback(address),
        state_dir,
        allowed_prefixes: config.vantage.allowed_prefixes.clone(),
        ..AgentConfig::default()
    };
    agent.uplink.backoff_max = BACKOFF_MAX;
    let (trigger, shutdown) = shell::shutdown();
    let task = spawn_named("vantage", async move {
        loop {
            match run::run(agent.clone(), clock.clone(), shutdown.clone()).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(
                        error = error_chain(&error),
                        "the collector's own vantage failed"
                    );
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RESTART) => {}
                () = shutdown.reached(Stage::NoNewWork) => return,
            }
        }
    });
    Ok(Vantage { trigger, task })
}

impl Vantage {
    /// Lets it finish and send what it has in hand, for a short time.
    pub async fn stop(self) {
        self.trigger.advance(Stage::NoNewWork);
        if tokio::time::timeout(STOP, self.task).await.is_err() {
            tracing::info!("the collector's own vantage keeps its last results for the next start");
        }
    }
}

/// Enrols when there is no identity, when it is not of our (present) authority, or when it has lapsed.
async fn see_to_identity(
    state_dir: &Path,
    enrolment: &Enrolment,
    clock: &Clock,
) -> Result<(), VantageError> {
    let issuer_path = state_dir.join("issuer");
    let fingerprint = enrolment.fingerprint();
    let ours = state_file::read(&issuer_path)?.is_some_and(|issuer| issuer == fingerprint);
    let known = Identity::load(state_dir)?;
    let now_us = clock.read().wall_us;
    if ours && known.is_some_and(|known| known.not_after_us() > now_us) {
        return Ok(());
    }
    let agent = AgentId::new(CENTRE).expect("made of characters that an id may have");
    let ap = ApId::new(CENTRE).expect("made of characters that an id may have");
    let (key, request) = identity::key_and_request()?;
    let reply = enrolment
        .issue_own(&agent, &ap, &request)
        .await
        .map_err(VantageError::Enrolment)?;
    let der = |list: Vec<Vec<u8>>| list.into_iter().map(CertificateDer::from).collect();
    let identity = Identity::new(
        key.serialize_der(),
        der(reply.certificate_chain),
        der(reply.trusted_roots),
    )
    .map_err(VantageError::Certificate)?;
    identity.store(state_dir)?;
    state_file::write(&issuer_path, &fingerprint)?;
    tracing::info!(agent = CENTRE, "the collector's own vantage is enrolled");
    Ok(())
}

/// How we reach our own port.
fn loopback(address: SocketAddr) -> Vec<HostPort> {
    let addresses: Vec<IpAddr> = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        // An IPv6 wildcard serves IPv4 too; a machine may have only one of the two on its loopback.
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        ip => vec![ip],
    };
    let port = address.port();
    addresses
        .into_iter()
        .map(|ip| HostPort {
            host: ip.to_string(),
            port,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_port_is_reached_whatever_it_listens_on() {
        let reach = |listen: &str| {
            let own = loopback(listen.parse().unwrap());
            own.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(reach("[::]:8443"), ["127.0.0.1:8443", "[::1]:8443"]);
        assert_eq!(reach("0.0.0.0:1"), ["127.0.0.1:1"]);
        assert_eq!(reach("192.0.2.1:1"), ["192.0.2.1:1"]);
    }
}
