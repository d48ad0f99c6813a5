//! TLS servers with certificates that are good, old, for somebody else, by a stranger, and never the same.

use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The name that certificates are for.
pub(crate) const HOST: &str = "portal.test";

/// An authority of the test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    /// For people and for plans.
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("keys can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(2095, 1, 1);
        let root = params.self_signed(&key).expect("it signs itself");
        Self {
            pem: root.pem(),
            root: root.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key in PEM form.
    pub(crate) fn issue_pem(&self, name: &str, to_year: i32) -> (String, String) {
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = self.sign(name, to_year, &key);
        (certificate.pem(), key.serialize_pem())
    }

    fn sign(&self, name: &str, to_year: i32, key: &KeyPair) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(to_year, 1, 1);
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .signed_by(key, &self.issuer)
            .expect("the authority signs")
    }

    /// A certificate under this authority, with the authority behind it.
    pub(crate) fn issue(&self, name: &str, to_year: i32) -> Arc<CertifiedKey> {
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = self.sign(name, to_year, &key);
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&der).expect("a usual key");
        let chain = vec![certificate.der().clone(), self.root.clone()];
        Arc::new(CertifiedKey::new(chain, key))
    }
}

/// Shows its certificates in turn.
#[derive(Debug)]
struct InTurn {
    certificates: Vec<Arc<CertifiedKey>>,
    next: AtomicUsize,
}

impl ResolvesServerCert for InTurn {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let certificate = self.certificates.get(turn % self.certificates.len())?;
        Some(Arc::clone(certificate))
    }
}

/// Speaks TLS and serves pages behind it. To be called within the server's namespace.
pub(crate) fn serve(address: IpAddr, port: u16, certificates: Vec<Arc<CertifiedKey>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let in_turn = InTurn {
        certificates,
        next: AtomicUsize::new(0),
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the usual versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(in_turn));
    let config = Arc::new(config);
    super::streams::serve(address, port, move |mut stream: TcpStream| {
        let mut connection =
            ServerConnection::new(Arc::clone(&config)).expect("the configuration is good");
        while connection.is_handshaking() {
            if connection.complete_io(&mut stream).is_err() {
                connection.write_tls(&mut stream).ok();
                return;
            }
        }
        let mut tls = StreamOwned::new(connection, stream);
        super::streams::page(&mut tls);
        tls.conn.send_close_notify();
        tls.conn.write_tls(&mut tls.sock).ok();
    });
}
