//! TLS towards the collector: rustls with our own roots, time and server names, never the system's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

use super::Identity;
use super::ticket::sha256;
use crate::clock::Clock;

/// When this binary was built, seconds since 1970 (build.rs).
const BUILD_TIME: &str = env!("EXTRANET_BUILD_TIME");

/// The time at which certificates are verified: the latest of the system clock, the build of this binary, and the last
/// collector's time that was learnt and kept. A machine without RTC boots in 1970 and can still connect.
#[derive(Debug, Clone)]
pub struct CertificateTime {
    clock: Clock,
    floor_us: Arc<AtomicI64>,
}

impl CertificateTime {
    /// `learnt_us`: the last collector's time that was kept, µs since 1970; 0 = none.
    pub fn new(clock: Clock, learnt_us: i64) -> Self {
        let build_us = BUILD_TIME
            .parse::<i64>()
            .unwrap_or(0)
            .saturating_mul(1_000_000);
        Self {
            clock,
            floor_us: Arc::new(AtomicI64::new(build_us.max(learnt_us))),
        }
    }

    /// A collector that was authenticated told its time.
    pub fn learn(&self, collector_us: i64) {
        self.floor_us.fetch_max(collector_us, Ordering::Relaxed);
    }

    /// µs since 1970.
    pub fn now_us(&self) -> i64 {
        self.clock
            .read()
            .wall_us
            .max(self.floor_us.load(Ordering::Relaxed))
    }
}

impl TimeProvider for CertificateTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since_1970 = Duration::from_micros(u64::try_from(self.now_us()).unwrap_or(0));
        Some(UnixTime::since_unix_epoch(since_1970))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// HTTP/2 is the only thing spoken behind TLS.
fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Mutual TLS with the agent's certificate. Keep the result: it holds the sessions that make reconnecting cheap.
pub fn mutual(
    identity: &Identity,
    time: CertificateTime,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
    let config = ClientConfig::builder_with_details(provider(), Arc::new(time))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(&identity.roots)?)
        .with_client_auth_cert(identity.chain.clone(), key)?;
    Ok(finish(config))
}

/// For renewal: the collector is verified as usual, the agent shows no certificate (it may have lapsed).
pub fn without_certificate(
    identity: &Identity,
    time: CertificateTime,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = ClientConfig::builder_with_details(provider(), Arc::new(time))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(&identity.roots)?)
        .with_no_client_auth();
    Ok(finish(config))
}

/// For enrolment: trusts exactly the authority whose fingerprint the ticket carries.
pub fn pinned(
    ca_fingerprint: [u8; 32],
    time: CertificateTime,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = Pinned {
        ca_fingerprint,
        provider: provider(),
    };
    let config = ClientConfig::builder_with_details(provider(), Arc::new(time))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finish(config))
}

fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone())?;
    }
    Ok(roots)
}

/// Verifies the server against the one authority in its chain that has the ticket's fingerprint.
struct Pinned {
    ca_fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| sha256(certificate) == self.ca_fingerprint)
            .ok_or_else(|| {
                rustls::Error::General(
                    "the collector does not have the authority that the ticket names: wrong collector address, or an old ticket"
                        .to_owned(),
                )
            })?;
        let roots = roots(&[authority.clone().into_owned()])?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Reading};

    #[test]
    fn certificates_are_never_verified_in_1970() {
        let in_1970 = ManualClock::new(Reading {
            wall_us: 5_000_000,
            boottime_us: 5_000_000,
            synchronised: false,
        });
        let time = CertificateTime::new(in_1970.clock(), 0);
        let build_us = BUILD_TIME.parse::<i64>().unwrap() * 1_000_000;
        assert!(build_us > 1_700_000_000_000_000);
        assert_eq!(time.now_us(), build_us);
        time.learn(build_us + 7);
        time.learn(build_us - 7);
        assert_eq!(time.now_us(), build_us + 7);
        in_1970.step_wall(build_us + 1_000);
        assert_eq!(time.now_us(), build_us + 5_001_000);
    }
}
