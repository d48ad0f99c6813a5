//! TLS as a probe sees it: the handshake takes place with whoever answers, and only then it is judged whether he could
//! be trusted, so that a bad certificate is a finding with all its facts and not just an error.
//!
//! What proves possession of the key (signatures within the handshake) is verified as always.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use extranet_proto::id::{CheckId, ObjectId};
use extranet_proto::metric;
use extranet_proto::record::{Definition, ObjectKind, Reason, Value};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::label::clean;
use super::meter::Metered;
use super::{ObjectIds, Run, own_value};
use crate::identity::ticket::{hex, sha256};
use crate::identity::tls::CertificateTime;
use crate::net::refusal::{Refusal, errno_of};
use crate::packet::certificate::Certificate;

/// Where Debian keeps the authorities that the machine trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Most endpoints that are remembered; beyond, they get new object ids (guess: twice the checks of an agent).
const ENDPOINTS_MAX: usize = 8_192;
/// Most certificates of a chain that are reported one by one: its own, and those of two or three authorities above.
const CHAIN_MAX: usize = 4;

/// Makes handshakes, and remembers by which object id each endpoint is known. Cheap to clone.
#[derive(Clone)]
pub(super) struct Endpoints {
    provider: Arc<CryptoProvider>,
    time: CertificateTime,
    objects: ObjectIds,
    known: Arc<Mutex<HashMap<Asked, Known>>>,
    system: Arc<OnceLock<RootCertStore>>,
}

/// By which check, where, and under which name.
type Asked = (CheckId, SocketAddr, String);

/// What is remembered of an endpoint.
#[derive(Clone)]
struct Known {
    /// Of the endpoint, then of its certificates.
    objects: [ObjectId; 1 + CHAIN_MAX],
    /// Fingerprints of certificate and key of the last run.
    last: Option<Identity>,
}

/// Fingerprints of certificate and key (SHA-256).
type Identity = ([u8; 32], [u8; 32]);

/// What an endpoint showed in a handshake, judged.
pub(super) struct Shown {
    /// Whether the chain leads to a trusted root and is in force.
    pub(super) chain: Result<(), Reason>,
    /// Whether the certificate bears the name.
    pub(super) name: Result<(), Reason>,
    /// Whether certificate or key are not those of the run before; `None` in the first run.
    pub(super) changed: Option<bool>,
    /// SHA-256 of the public key (`SubjectPublicKeyInfo`).
    pub(super) key_sha256: Option<[u8; 32]>,
    /// By ALPN; empty = nothing was agreed on.
    pub(super) alpn: Vec<u8>,
    /// Thousandths: 1,300 for TLS 1.3; 0 = unknown.
    version: u64,
    certificates: u64,
    /// When the certificates that are reported one by one expire, seconds since 1970.
    expiries: Vec<(ObjectId, i64)>,
    /// Of all certificates shown, seconds since 1970.
    earliest_expiry: Option<i64>,
    handshake: Duration,
    definitions: Vec<Definition>,
    endpoint: ObjectId,
}

impl Shown {
    /// By growing metric number.
    pub(super) fn values(&self) -> Vec<Value> {
        let mut values = Vec::with_capacity(12);
        let expiry = self.earliest_expiry.map(i64::cast_unsigned);
        values.extend(expiry.map(|expiry| own_value(metric::TLS_EARLIEST_EXPIRY, expiry)));
        values.extend([
            own_value(metric::TLS_CHAIN_VALID, self.chain.is_ok().into()),
            own_value(metric::TLS_NAME_VALID, self.name.is_ok().into()),
            own_value(metric::TLS_HANDSHAKE, super::micros(self.handshake)),
            Value {
                metric: metric::TLS_CHAIN_INFO,
                object: self.endpoint,
                raw: 1,
            },
        ]);
        values.extend(self.expiries.iter().map(|(object, expiry)| Value {
            metric: metric::TLS_NOT_AFTER,
            object: *object,
            raw: expiry.cast_unsigned(),
        }));
        values.extend([
            own_value(metric::TLS_VERSION, self.version),
            own_value(metric::TLS_CERTIFICATES, self.certificates),
        ]);
        let changed = self.changed;
        values.extend(changed.map(|changed| own_value(metric::TLS_CHANGED, changed.into())));
        values
    }

    /// Of the endpoint and of its certificates.
    pub(super) fn into_definitions(self) -> Vec<Definition> {
        self.definitions
    }
}

impl Endpoints {
    pub(super) fn new(objects: ObjectIds, time: CertificateTime) -> Self {
        Self {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            time,
            objects,
            known: Arc::default(),
            system: Arc::default(),
        }
    }

    pub(super) fn set_time(&mut self, time: CertificateTime) {
        self.time = time;
    }

    /// A full handshake; the caller sets the limit in time. `roots` (DER) are trusted besides those of the system.
    pub(super) async fn handshake(
        &self,
        run: &Run<'_>,
        stream: Metered,
        name: &str,
        alpn: &[&str],
        roots: &[Vec<u8>],
    ) -> Result<(TlsStream<Metered>, Shown), Refusal> {
        let ours = || Refusal::not_measured(Reason::LocalError);
        let asked = name;
        let peer = stream
            .peer_addr()
            .map_err(|error| Refusal::of(errno_of(&error)))?;
        let name = if name.is_empty() {
            ServerName::from(peer.ip())
        } else {
            ServerName::try_from(name.to_owned()).map_err(|_| ours())?
        };
        let verifier = AnyPeer(Arc::clone(&self.provider));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|_| ours())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let begun = Instant::now();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name.clone(), stream)
            .await
            .map_err(|error| refusal_of(&error))?;
        let handshake = begun.elapsed();
        let (_, connection) = stream.get_ref();
        let chain = connection.peer_certificates().unwrap_or_default();
        let (chain_verdict, name_verdict) = self.judge(chain, &name, roots);
        let read: Vec<_> = chain.iter().map(|der| Certificate::read(der)).collect();
        let own = read.first().and_then(Option::as_ref);
        let identity = own.map(|own| (sha256(&chain[0]), own.key_sha256));
        let (objects, changed) = self.remember(run.check.id, peer, asked, identity);
        let definition = |object, kind, labels| Definition {
            object,
            check: run.check.id,
            kind,
            labels,
        };
        let mut definitions = vec![definition(
            objects[0],
            ObjectKind::TlsEndpoint,
            endpoint_labels(connection, chain, own),
        )];
        let mut expiries = Vec::new();
        for (number, (der, certificate)) in chain.iter().zip(&read).take(CHAIN_MAX).enumerate() {
            let Some(certificate) = certificate else {
                continue;
            };
            let object = objects[1 + number];
            expiries.push((object, certificate.not_after));
            let labels = certificate_labels(number, der, certificate);
            definitions.push(definition(object, ObjectKind::Certificate, labels));
        }
        let shown = Shown {
            chain: chain_verdict,
            name: name_verdict,
            changed,
            key_sha256: own.map(|own| own.key_sha256),
            alpn: connection.alpn_protocol().unwrap_or_default().to_vec(),
            version: version(connection).0,
            certificates: chain.len() as u64,
            expiries,
            earliest_expiry: read.iter().flatten().map(|c| c.not_after).min(),
            handshake,
            definitions,
            endpoint: objects[0],
        };
        Ok((stream, shown))
    }

    /// Verdicts on the chain and on the name.
    fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        roots: &[Vec<u8>],
    ) -> (Result<(), Reason>, Result<(), Reason>) {
        let untrusted = Err(Reason::CertificateUntrusted);
        let Some((own, above)) = chain.split_first() else {
            return (untrusted, Err(Reason::CertificateName));
        };
        let Ok(own) = ParsedCertificate::try_from(own) else {
            return (untrusted, Err(Reason::CertificateName));
        };
        let mut brought = RootCertStore::empty();
        brought.add_parsable_certificates(
            roots.iter().map(|der| CertificateDer::from(der.as_slice())),
        );
        let now = self
            .time
            .current_time()
            .unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO));
        let under = |roots: &RootCertStore| {
            verify_server_cert_signed_by_trust_anchor(
                &own,
                roots,
                above,
                now,
                self.provider.signature_verification_algorithms.all,
            )
            .map_err(|error| reason_of(&error))
        };
        let chain_verdict = under(&brought).or_else(|reason| {
            // "Expired" under a root that was brought along says more than "unknown" under the others.
            under(self.system_roots()).map_err(|other| match reason {
                Reason::CertificateExpired => reason,
                _ => other,
            })
        });
        let name_verdict = verify_server_name(&own, name).map_err(|_| Reason::CertificateName);
        (chain_verdict, name_verdict)
    }

    /// Read once, when the first endpoint is judged. A machine without any trusts only what a check brings along.
    fn system_roots(&self) -> &RootCertStore {
        self.system.get_or_init(|| {
            let mut store = RootCertStore::empty();
            match fs::read(SYSTEM_ROOTS) {
                Ok(pem) => {
                    let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
                    store.add_parsable_certificates(certificates);
                }
                Err(error) => tracing::warn!(
                    file = SYSTEM_ROOTS,
                    error = &error as &dyn std::error::Error,
                    "no authorities of this machine: certificates are judged by those of the checks only"
                ),
            }
            store
        })
    }

    /// The object ids of an endpoint, and whether it is not the one of the run before; unknown in the first run.
    fn remember(
        &self,
        check: CheckId,
        peer: SocketAddr,
        name: &str,
        identity: Option<Identity>,
    ) -> ([ObjectId; 1 + CHAIN_MAX], Option<bool>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ENDPOINTS_MAX {
            known.clear();
        }
        let endpoint = known
            .entry((check, peer, name.to_owned()))
            .or_insert_with(|| Known {
                objects: std::array::from_fn(|_| self.objects.allocate()),
                last: None,
            });
        let changed = endpoint.last.zip(identity).map(|(last, now)| last != now);
        endpoint.last = identity.or(endpoint.last);
        (endpoint.objects, changed)
    }
}

/// Why a handshake ended: the TLS library puts its error inside of an I/O error.
fn refusal_of(error: &std::io::Error) -> Refusal {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        // Whatever it is that answers, it does not speak TLS.
        Some(rustls::Error::InvalidMessage(_)) => Refusal::failed(Reason::Malformed),
        Some(_) => Refusal::failed(Reason::TlsHandshake),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Refusal::failed(Reason::Closed)
        }
        None => Refusal::of(errno_of(error)),
    }
}

fn reason_of(error: &rustls::Error) -> Reason {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Reason::CertificateExpired,
        _ => Reason::CertificateUntrusted,
    }
}

/// In thousandths, and by name.
fn version(connection: &ClientConnection) -> (u64, &'static str) {
    match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => (1_200, "TLS 1.2"),
        Some(rustls::ProtocolVersion::TLSv1_3) => (1_300, "TLS 1.3"),
        _ => (0, ""),
    }
}

/// What the endpoint showed, for people and for the rule that watches for changes. Always the same names, in the same
/// order; what cannot be read is empty.
fn endpoint_labels(
    connection: &ClientConnection,
    chain: &[CertificateDer<'_>],
    own: Option<&Certificate>,
) -> Vec<(String, String)> {
    let cipher = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        // The usual name (RFC 8446 appendix B.4) does not have the version in it.
        .map(|name| name.replacen("TLS13_", "TLS_", 1))
        .unwrap_or_default();
    let group = connection
        .negotiated_key_exchange_group()
        .and_then(|group| group.name().as_str())
        .unwrap_or_default();
    let of = |read: fn(&Certificate) -> &str| own.map(read).unwrap_or_default();
    let fingerprint = chain.first().map(|der| hex(&sha256(der)));
    let whole: Vec<u8> = chain.iter().flat_map(|der| der.iter().copied()).collect();
    let alpn = connection.alpn_protocol().unwrap_or_default();
    named([
        ("version", version(connection).1),
        ("cipher", &cipher),
        ("fingerprint_sha256", &fingerprint.unwrap_or_default()),
        (
            "key_sha256",
            &own.map(|own| hex(&own.key_sha256)).unwrap_or_default(),
        ),
        ("subject", of(|own| &own.subject)),
        ("issuer", of(|own| &own.issuer)),
        ("not_after", of(|own| &own.not_after_text)),
        ("group", group),
        ("alpn", &String::from_utf8_lossy(alpn)),
        ("chain_sha256", &hex(&sha256(&whole))),
        ("serialnumber", of(|own| &own.serial)),
        ("subjectalternative", of(|own| &own.names)),
    ])
}

fn certificate_labels(number: usize, der: &[u8], found: &Certificate) -> Vec<(String, String)> {
    named([
        ("cert_no", number.to_string().as_str()),
        ("cn", &found.cn),
        ("issuer_cn", &found.issuer_cn),
        ("serial_no", &found.serial),
        ("fingerprint_sha256", &hex(&sha256(der))),
    ])
}

fn named<const N: usize>(labels: [(&str, &str); N]) -> Vec<(String, String)> {
    let clean = |(name, value): (&str, &str)| (name.to_owned(), clean(value.as_bytes()));
    labels.map(clean).to_vec()
}

/// Goes through with the handshake whoever the peer is; [`Endpoints::judge`] comes after.
#[derive(Debug)]
struct AnyPeer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyPeer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
