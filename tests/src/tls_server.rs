//! A TLS server whose certificate is exchanged while it runs, and the authorities of its certificates.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::clock::wall_ms;
use crate::place::Place;

/// Longest a client may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An authority of a test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl Authority {
    /// A new one; whoever has the name has not the key.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("the machine has randomness");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let root = params.self_signed(&key).expect("the parameters are valid");
        Self {
            pem: root.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for a host, with a new key.
    pub fn issue(&self, host: &str, common_name: &str, days_left: i64) -> Identity {
        let key = KeyPair::generate().expect("the machine has randomness");
        let mut params =
            CertificateParams::new(vec![host.to_owned()]).expect("a host name of a test");
        let now = OffsetDateTime::from_unix_timestamp(wall_ms() / 1_000).expect("now is a time");
        params.not_before = now - time::Duration::days(1);
        params.not_after = now + time::Duration::days(days_left);
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the parameters are valid");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key of rcgen");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        Identity(Arc::new(CertifiedKey::new(chain, key)))
    }
}

#[derive(Debug)]
struct Shown {
    identity: Mutex<Identity>,
    /// How often it was shown.
    times: AtomicUsize,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        self.times.fetch_add(1, Ordering::AcqRel);
        Some(Arc::clone(&identity.0))
    }
}

/// A running server.
#[derive(Debug)]
pub struct TlsServer {
    place: Place,
    address: SocketAddr,
    shown: Arc<Shown>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TlsServer {
    /// Starts a server on a free loopback port of the place.
    pub fn start(place: &Place, identity: Identity) -> Self {
        let listener = place
            .run(|| TcpListener::bind("127.0.0.1:0"))
            .expect("a loopback port can be bound");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shown = Arc::new(Shown {
            identity: Mutex::new(identity),
            times: AtomicUsize::new(0),
        });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        let config = Arc::new(config);
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stopping = Arc::clone(&stopping);
            move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::Acquire) {
                        return;
                    }
                    // A client that breaks off has seen what it wanted to see.
                    if let Ok(stream) = stream {
                        serve(stream, &config).ok();
                    }
                }
            }
        });
        Self {
            place: place.clone(),
            address,
            shown,
            stopping,
            thread: Some(thread),
        }
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Shows another certificate from now on.
    pub fn exchange(&self, identity: Identity) {
        let mut shown = self
            .shown
            .identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *shown = identity;
        self.shown.times.store(0, Ordering::Release);
    }

    /// How often the present certificate was shown.
    pub fn times_shown(&self) -> usize {
        self.shown.times.load(Ordering::Acquire)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread from accept; whether it can be reached does not matter then.
        self.place.run(|| TcpStream::connect(self.address)).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A handshake, then whatever the client says until it goes.
fn serve(mut stream: TcpStream, config: &Arc<ServerConfig>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut connection =
        ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = rustls::Stream::new(&mut connection, &mut stream);
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_exchanged_while_the_server_runs() {
        let authority = Authority::new("lab");
        let issue = |name| authority.issue("portal.lab", name, 90);
        let server = TlsServer::start(&Place::Host, issue("one"));
        let mut fingerprints = Vec::new();
        for other in [None, Some(issue("two"))] {
            if let Some(identity) = other {
                server.exchange(identity);
            }
            let shown = server.shown.identity.lock().unwrap().clone();
            fingerprints.push(shown.0.cert[0].to_vec());
            assert_eq!(server.times_shown(), 0);
        }
        assert_ne!(fingerprints[0], fingerprints[1]);
    }
}
