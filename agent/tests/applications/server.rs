//! Servers of a test: a thread for each, on a port of its own, until the test binary ends.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::AMPLE;

/// Hands each connection to `serve`, in a thread of its own.
pub(crate) fn stream_server(
    address: IpAddr,
    serve: impl Fn(TcpStream) + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind(SocketAddr::new(address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(AMPLE)).unwrap();
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Sends what `answer` makes of each datagram.
pub(crate) fn datagram_server(
    address: IpAddr,
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> u16 {
    let socket = UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 4_096];
        loop {
            let (len, peer) = socket.recv_from(&mut buffer).unwrap();
            for datagram in answer(&buffer[..len]) {
                // The probe may be gone already.
                socket.send_to(&datagram, peer).ok();
            }
        }
    });
    port
}

/// A port on which nobody listens: it belongs to a socket that never listens, and stays so while the test runs.
pub(crate) fn closed_port(address: IpAddr) -> (socket2::Socket, u16) {
    let domain = socket2::Domain::for_address(SocketAddr::new(address, 0));
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

/// Reads a request up to its empty line; `None` if the peer went away.
pub(crate) fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// An authority of a test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) root: Vec<u8>,
}

/// For how long a certificate is in force, as years from and to.
pub(crate) const IN_FORCE: (i32, i32) = (2020, 2090);
pub(crate) const EXPIRED: (i32, i32) = (2020, 2021);
pub(crate) const NOT_YET: (i32, i32) = (2080, 2090);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(2095, 1, 1);
        let root = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    /// A certificate with its new key.
    pub(crate) fn issue(&self, name: &str, (from, to): (i32, i32)) -> Arc<CertifiedKey> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(
            vec![CertificateDer::from(certificate.der().to_vec())],
            key,
        ))
    }
}

/// The certificate that a server shows; can be exchanged while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Shown(Arc<Mutex<Arc<CertifiedKey>>>);

impl Shown {
    pub(crate) fn new(certificate: Arc<CertifiedKey>) -> Self {
        Self(Arc::new(Mutex::new(certificate)))
    }

    pub(crate) fn exchange(&self, certificate: Arc<CertifiedKey>) {
        *self.0.lock().unwrap() = certificate;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

pub(crate) type TlsStream = StreamOwned<ServerConnection, TcpStream>;

/// Speaks TLS; `serve` gets each connection after its handshake.
pub(crate) fn tls_server(
    address: IpAddr,
    shown: &Shown,
    change: impl FnOnce(&mut ServerConfig),
    serve: impl Fn(TlsStream) + Send + Sync + 'static,
) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown.clone()));
    change(&mut config);
    let config = Arc::new(config);
    stream_server(address, move |mut stream| {
        let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        while connection.is_handshaking() {
            if connection.complete_io(&mut stream).is_err() {
                // The alert that says why.
                connection.write_tls(&mut stream).ok();
                return;
            }
        }
        serve(StreamOwned::new(connection, stream));
    })
}

/// Reads until the peer is gone.
pub(crate) fn drain(mut stream: impl Read) {
    std::io::copy(&mut stream, &mut std::io::sink()).ok();
}

/// Sends bytes one by one, with pauses, until the peer is gone.
pub(crate) fn trickle(stream: &mut impl Write, pause: Duration) {
    while stream.write_all(b"x").and_then(|()| stream.flush()).is_ok() {
        thread::sleep(pause);
    }
}
