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
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::label::clean;
use super::{ObjectIds, Run, own_value};
use crate::identity::ticket::{hex, sha256};
use crate::identity::tls::CertificateTime;
use crate::net::refusal::{Refusal, errno_of};

/// Where Debian keeps the authorities that the machine trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Most endpoints whose object ids are remembered; beyond, they get new ones (guess: twice the checks of an agent).
const ENDPOINTS_MAX: usize = 8_192;

/// Makes handshakes, and remembers by which object id each endpoint is known. Cheap to clone.
#[derive(Clone)]
pub(super) struct Endpoints {
    provider: Arc<CryptoProvider>,
    time: CertificateTime,
    objects: ObjectIds,
    known: Arc<Mutex<HashMap<(CheckId, SocketAddr), ObjectId>>>,
    system: Arc<OnceLock<RootCertStore>>,
}

/// What an endpoint showed in a handshake, judged.
pub(super) struct Shown {
    /// Whether the chain leads to a trusted root and is in force.
    pub(super) chain: Result<(), Reason>,
    /// Whether the certificate bears the name.
    pub(super) name: Result<(), Reason>,
    /// Of all certificates shown, seconds since 1970.
    earliest_expiry: Option<i64>,
    handshake: Duration,
    definition: Definition,
}

impl Shown {
    /// By growing metric number.
    pub(super) fn values(&self) -> Vec<Value> {
        let mut values = Vec::with_capacity(5);
        let expiry = self.earliest_expiry.map(i64::cast_unsigned);
        values.extend(expiry.map(|expiry| own_value(metric::TLS_EARLIEST_EXPIRY, expiry)));
        values.extend([
            own_value(metric::TLS_CHAIN_VALID, self.chain.is_ok().into()),
            own_value(metric::TLS_NAME_VALID, self.name.is_ok().into()),
            own_value(metric::TLS_HANDSHAKE, super::micros(self.handshake)),
            Value {
                metric: metric::TLS_CHAIN_INFO,
                object: self.definition.object,
                raw: 1,
            },
        ]);
        values
    }

    pub(super) fn into_definition(self) -> Definition {
        self.definition
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
        stream: TcpStream,
        name: &str,
        alpn: &[&str],
        roots: &[Vec<u8>],
    ) -> Result<(TlsStream<TcpStream>, Shown), Refusal> {
        let ours = || Refusal::not_measured(Reason::LocalError);
        let peer = stream
            .peer_addr()
            .map_err(|error| Refusal::of(errno_of(&error)))?;
        let name = if name.is_empty() {
            ServerName::from(run.address)
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
        let shown = Shown {
            chain: chain_verdict,
            name: name_verdict,
            earliest_expiry: chain.iter().filter_map(|der| expiry(der)).min(),
            handshake,
            definition: Definition {
                object: self.object(run.check.id, peer),
                check: run.check.id,
                kind: ObjectKind::TlsEndpoint,
                labels: labels(connection, chain),
            },
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

    fn object(&self, check: CheckId, peer: SocketAddr) -> ObjectId {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ENDPOINTS_MAX {
            known.clear();
        }
        *known
            .entry((check, peer))
            .or_insert_with(|| self.objects.allocate())
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

/// Seconds since 1970.
fn expiry(der: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// What the endpoint showed, for people and for the rule that watches for changes. Always the same names, in the same
/// order; what cannot be read is empty.
fn labels(connection: &ClientConnection, chain: &[CertificateDer<'_>]) -> Vec<(String, String)> {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "",
    };
    let cipher = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        // The usual name (RFC 8446 appendix B.4) does not have the version in it.
        .map(|name| name.replacen("TLS13_", "TLS_", 1))
        .unwrap_or_default();
    let own = chain.first();
    let parsed = own.and_then(|der| X509Certificate::from_der(der).ok());
    let of = |read: fn(&X509Certificate<'_>) -> String| {
        parsed
            .as_ref()
            .map(|(_, certificate)| clean(read(certificate).as_bytes()))
            .unwrap_or_default()
    };
    [
        ("version", version.to_owned()),
        ("cipher", cipher),
        (
            "fingerprint_sha256",
            own.map(|der| hex(&sha256(der))).unwrap_or_default(),
        ),
        ("key_sha256", of(|c| hex(&sha256(c.public_key().raw)))),
        ("subject", of(|c| c.subject().to_string())),
        ("issuer", of(|c| c.issuer().to_string())),
        ("not_after", of(|c| rfc3339(c.validity().not_after))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn rfc3339(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
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
