//! The one TCP port: accepts, shakes hands, and hands connections to the uplink or to enrolment.
//!
//! The server name in the `ClientHello` chooses before anybody is authenticated: [`ENROLMENT_SERVER_NAME`] asks for no
//! client certificate and leads to the enrolment service only, [`UPLINK_SERVER_NAME`] demands a certificate of our own
//! authority and leads to the uplink only. Whatever else comes is closed and counted with its reason. A stranger can
//! hold one of a bounded number of handshakes for a bounded time, and nothing more.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::shell::{Shutdown, Stage, spawn_named};
use extranet_proto::{ENROLMENT_SERVER_NAME, UPLINK_SERVER_NAME};
use rustls::server::{Acceptor, ServerConfig, ServerSessionMemoryCache};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::LazyConfigAcceptor;

use crate::pki::{self, Authority, PkiError};
use crate::self_stats::{Stats, count};

mod connection;

pub use connection::{Connection, Peer};

/// From accept to the end of the handshake. Satellite links need about 2.5 s for it; the rest is for loss.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at a time: about 0.5 ms of CPU each, so that a queue of this length drains in well under a second. More
/// wait in the kernel's backlog.
const HANDSHAKES: usize = 512;
/// Connections at a time: the fleet of 6,918 agents twice (each may have an old connection that is not known dead yet).
const CONNECTIONS: usize = 16_384;
/// TLS sessions that can be resumed; rustls' default of 256 would make the fleet do full handshakes after a cut.
const RESUMABLE_SESSIONS: usize = 16_384;
/// Connections that wait until the kernel hands them over: all agents come back at once after a restart.
const BACKLOG: i32 = 4_096;
/// Connections between this stage and the next; the next stage only spawns a task for each.
const HANDOVER: usize = 64;
/// Pause after the kernel refused to accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// TLS of both server names.
#[derive(Clone)]
pub struct Tls {
    uplink: Arc<ServerConfig>,
    enrolment: Arc<ServerConfig>,
}

impl Tls {
    /// Makes the server's certificate and both configurations.
    pub fn new(authority: &Authority, wall_us: i64) -> Result<Self, PkiError> {
        let (chain, key) = authority.server_identity(wall_us)?;
        let failed = |error: rustls::Error| PkiError::Tls(error.to_string());
        let base = || {
            ServerConfig::builder_with_provider(authority.provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(failed)
        };
        let mut uplink = base()?
            .with_client_cert_verifier(authority.verifier())
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(failed)?;
        uplink.session_storage = ServerSessionMemoryCache::new(RESUMABLE_SESSIONS);
        uplink.alpn_protocols = vec![b"h2".to_vec()];
        let mut enrolment = base()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(failed)?;
        enrolment.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            uplink: Arc::new(uplink),
            enrolment: Arc::new(enrolment),
        })
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Opens the port. An IPv6 wildcard address serves IPv4 too, whatever the machine's default.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Authenticated connections, ready for their services.
#[derive(Debug)]
pub struct Incoming {
    /// For the uplink: each has an agent's identity.
    pub uplink: mpsc::Receiver<Connection>,
    /// For enrolment: nobody is authenticated.
    pub enrolment: mpsc::Receiver<Connection>,
}

/// Accepts until no new work is wanted.
pub fn start(
    listener: TcpListener,
    tls: Tls,
    clock: Clock,
    stats: Arc<Stats>,
    shutdown: Shutdown,
) -> Incoming {
    let (uplink_sender, uplink) = mpsc::channel(HANDOVER);
    let (enrolment_sender, enrolment) = mpsc::channel(HANDOVER);
    let door = Arc::new(Door {
        tls,
        clock,
        stats,
        handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
        connections: Arc::new(Semaphore::new(CONNECTIONS)),
        uplink: uplink_sender,
        enrolment: enrolment_sender,
    });
    spawn_named("listen", async move {
        tokio::select! {
            () = door.accept(&listener) => {}
            () = shutdown.reached(Stage::NoNewWork) => {}
        }
    });
    Incoming { uplink, enrolment }
}

/// Which service a connection asked for.
#[derive(Debug, Clone, Copy)]
enum Service {
    Uplink,
    Enrolment,
}

struct Door {
    tls: Tls,
    clock: Clock,
    stats: Arc<Stats>,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    uplink: mpsc::Sender<Connection>,
    enrolment: mpsc::Sender<Connection>,
}

impl Door {
    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let handshake = Arc::clone(&self.handshakes)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let (tcp, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    count(&self.stats.listen_dropped, "accept_failed");
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            self.stats.listen_accepted.inc();
            let Ok(slot) = Arc::clone(&self.connections).try_acquire_owned() else {
                count(&self.stats.listen_dropped, "too_many_connections");
                continue;
            };
            let door = Arc::clone(self);
            spawn_named("handshake", async move {
                door.admit(tcp, address, slot, handshake).await;
            });
        }
    }

    async fn admit(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        slot: OwnedSemaphorePermit,
        handshake: OwnedSemaphorePermit,
    ) {
        let connection = self.shake_hands(tcp, address, slot);
        let outcome = match tokio::time::timeout(HANDSHAKE_TIMEOUT, connection).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Dropped::new("handshake_timeout")),
        };
        drop(handshake);
        match outcome {
            Ok((Service::Uplink, connection)) => drop(self.uplink.send(connection).await),
            Ok((Service::Enrolment, connection)) => drop(self.enrolment.send(connection).await),
            Err(dropped) => {
                count(&self.stats.listen_dropped, dropped.reason);
                tracing::debug!(%address, reason = dropped.reason, detail = dropped.detail, "connection dropped");
            }
        }
    }

    async fn shake_hands(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        slot: OwnedSemaphorePermit,
    ) -> Result<(Service, Connection), Dropped> {
        // Batches and acknowledgements are small and wanted at once.
        tcp.set_nodelay(true).map_err(|error| Dropped::io(&error))?;
        let metered = connection::Metered::new(tcp, Arc::clone(&self.stats), slot);
        let start = LazyConfigAcceptor::new(Acceptor::default(), metered)
            .await
            .map_err(|error| Dropped::io(&error))?;
        let (service, config) = match start.client_hello().server_name() {
            Some(UPLINK_SERVER_NAME) => (Service::Uplink, &self.tls.uplink),
            Some(ENROLMENT_SERVER_NAME) => (Service::Enrolment, &self.tls.enrolment),
            Some(_) => return Err(Dropped::new("unknown_server_name")),
            None => return Err(Dropped::new("no_server_name")),
        };
        let tls = start
            .into_stream(Arc::clone(config))
            .await
            .map_err(|error| Dropped::io(&error))?;
        let subject = match service {
            Service::Enrolment => None,
            Service::Uplink => Some(self.identify(&tls)?),
        };
        let kind = match tls.get_ref().1.handshake_kind() {
            Some(rustls::HandshakeKind::Resumed) => "resumed",
            _ => "full",
        };
        count(&self.stats.listen_handshakes, kind);
        Ok((service, Connection::new(tls, Peer { address, subject })))
    }

    /// Who the peer is, by its certificate. A resumed session is as old as its first handshake, so the end of the
    /// certificate is looked at again; revocation is looked at when a stream opens.
    fn identify(
        &self,
        tls: &tokio_rustls::server::TlsStream<connection::Metered>,
    ) -> Result<pki::Subject, Dropped> {
        let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or_else(|| Dropped::new("no_certificate"))?;
        let subject = pki::subject(certificate).map_err(|_| Dropped::new("bad_certificate"))?;
        if subject.not_after_wall_us <= self.clock.read().wall_us {
            return Err(Dropped::new("expired_certificate"));
        }
        Ok(subject)
    }
}

/// Why a connection did not reach a service.
struct Dropped {
    /// Label.
    reason: &'static str,
    /// For the log.
    detail: String,
}

impl Dropped {
    fn new(reason: &'static str) -> Self {
        Self {
            reason,
            detail: String::new(),
        }
    }

    fn io(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let reason = match tls {
            Some(error) => tls_reason(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => "closed_early",
            None => "io",
        };
        Self {
            reason,
            detail: error.to_string(),
        }
    }
}

fn tls_reason(error: &rustls::Error) -> &'static str {
    use rustls::{CertificateError, Error};
    match error {
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => "not_tls",
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "expired_certificate",
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => "unknown_issuer",
        Error::InvalidCertificate(_) => "bad_certificate",
        Error::AlertReceived(_) => "peer_alert",
        Error::PeerIncompatible(_) => "incompatible",
        _ => "handshake",
    }
}

#[cfg(test)]
mod tests;
