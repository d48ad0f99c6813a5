//! The collector's own certification authority: its key, the server certificate, agents' certificates.
//!
//! The authority lives in `<state_dir>/pki` (`ca.key`, mode 0600, and `ca.der`) and is made at the first start. Agents
//! trust exactly this certificate: a ticket carries its SHA-256. The server's key and certificate are made anew at
//! every start and never touch the disk. An agent's certificate has the agent's id as its common name; everything else
//! in a certificate request but the public key is ignored.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extranet_proto::id::{AgentId, ApId};
use extranet_proto::{ENROLMENT_SERVER_NAME, UPLINK_SERVER_NAME, limits};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SerialNumber,
};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use time::OffsetDateTime;

/// Life of the authority: longer than the hardware. Its rotation is prepared by `EnrolReply.trusted_roots`.
const AUTHORITY_LIFE: time::Duration = time::Duration::days(20 * 365);
/// Life of an agent's certificate; agents renew at two thirds of it.
const AGENT_LIFE: time::Duration = time::Duration::days(365);
/// Life of the server's certificate: longer than any uptime we expect, it is made anew at every start.
const SERVER_LIFE: time::Duration = time::Duration::days(5 * 365);
/// Certificates begin this long before they are made, so that an agent whose clock is behind accepts them.
const BACKDATED: time::Duration = time::Duration::days(1);
/// A lapsed certificate can still be renewed for this long: a village may be cut off for weeks (guess).
const RENEWAL_GRACE: Duration = Duration::from_hours(60 * 24);

/// Why the authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of the authority cannot be read or written.
    #[error("cannot {operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key or the certificate on disk is not usable.
    #[error("the authority in {path} is not usable")]
    Unusable {
        /// Folder.
        path: PathBuf,
        /// What is wrong.
        source: rcgen::Error,
    },
    /// Key or certificate and its other half: one of the two files is missing.
    #[error(
        "{missing} is missing beside {present}: restore it from a backup, or move both away to start a new fleet"
    )]
    Half {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make the {what} certificate")]
    Make {
        /// Which one.
        what: &'static str,
        /// What went wrong.
        source: rcgen::Error,
    },
    /// The TLS library refused our own certificate.
    #[error("cannot set up TLS with the collector's own certificates: {0}")]
    Tls(String),
}

/// Why a certificate or a request of an agent was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Larger than [`limits::CERTIFICATE_BYTES`].
    #[error("certificate or request of {0} bytes is larger than {max}", max = limits::CERTIFICATE_BYTES)]
    TooLarge(usize),
    /// Not a PKCS #10 request, or its signature does not fit its key.
    #[error("certificate request is not valid")]
    Request,
    /// Not a certificate, or without a usable agent id.
    #[error("certificate is not valid")]
    Certificate,
    /// Another authority's, or made for something else.
    #[error("certificate was not issued by this collector")]
    NotOurs,
    /// Past its end (and past the grace period where one applies).
    #[error("certificate has expired")]
    Expired,
    /// The signature over the request was not made by the old key.
    #[error("renewal is not signed by the old key")]
    Signature,
    /// The authority failed to sign; the fault is ours.
    #[error("certificate could not be made")]
    Ours,
}

/// A certificate made for an agent.
#[derive(Debug, Clone)]
pub struct Issued {
    /// SHA-256 of the public key in it (`SubjectPublicKeyInfo`, DER).
    pub key_digest: [u8; 32],
    /// The agent's certificate.
    pub certificate: CertificateDer<'static>,
    /// SHA-256 of it.
    pub digest: [u8; 32],
    /// Its end, microseconds since 1970.
    pub not_after_wall_us: i64,
}

/// What a certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The agent.
    pub agent: AgentId,
    /// The access point it was enrolled for.
    pub ap: ApId,
    /// SHA-256 of the certificate.
    pub digest: [u8; 32],
    /// Its end, microseconds since 1970.
    pub not_after_wall_us: i64,
}

/// The certification authority, with its key in memory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    verifier: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the authority from `folder`, or makes it there when there is none. `wall_us` is the time now.
    pub fn open(folder: &Path, wall_us: i64) -> Result<Self, PkiError> {
        let key_path = folder.join("ca.key");
        let certificate_path = folder.join("ca.der");
        let unusable = |source| PkiError::Unusable {
            path: folder.to_owned(),
            source,
        };
        let (key, certificate) = match (read(&key_path)?, read(&certificate_path)?) {
            (Some(key), Some(certificate)) => {
                let key = KeyPair::try_from(key).map_err(unusable)?;
                (key, CertificateDer::from(certificate))
            }
            (None, None) => create(folder, &key_path, &certificate_path, wall_us)?,
            (Some(_), None) => {
                return Err(PkiError::Half {
                    present: key_path,
                    missing: certificate_path,
                });
            }
            (None, Some(_)) => {
                return Err(PkiError::Half {
                    present: certificate_path,
                    missing: key_path,
                });
            }
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(unusable)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate.clone())
            .map_err(|error| PkiError::Tls(error.to_string()))?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| PkiError::Tls(error.to_string()))?;
        Ok(Self {
            issuer,
            certificate,
            verifier,
            provider,
        })
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the authority's certificate, as tickets carry it.
    pub fn fingerprint(&self) -> [u8; 32] {
        digest(&self.certificate)
    }

    /// The verifier of agents' certificates: chain to this authority, made for clients, not expired.
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// The one crypto provider of this process.
    pub fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.provider)
    }

    /// A fresh key and certificate for both server names of the port, with the authority's certificate behind it:
    /// an agent that enrols compares the latter with its ticket.
    pub fn server_identity(
        &self,
        wall_us: i64,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let failed = |source| PkiError::Make {
            what: "server",
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let names = vec![
            UPLINK_SERVER_NAME.to_owned(),
            ENROLMENT_SERVER_NAME.to_owned(),
        ];
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = name("extranet-collector");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf(&mut params, wall_us, SERVER_LIFE);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((
            vec![certificate.der().clone(), self.certificate.clone()],
            key,
        ))
    }

    /// Makes a certificate for the key in a PKCS #10 request, whose own signature proves that the sender holds the key.
    pub fn issue(
        &self,
        request: &[u8],
        agent: &AgentId,
        ap: &ApId,
        wall_us: i64,
    ) -> Result<Issued, Refused> {
        check_size(request)?;
        let request = CertificateSigningRequestParams::from_der(&request.into())
            .map_err(|_| Refused::Request)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(agent.as_str());
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, ap.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf(&mut params, wall_us, AGENT_LIFE);
        let not_after_wall_us = params.not_after.unix_timestamp().saturating_mul(1_000_000);
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(|_| Refused::Ours)?;
        let certificate = certificate.der().clone();
        Ok(Issued {
            key_digest: digest(&request.public_key.subject_public_key_info()),
            digest: digest(&certificate),
            certificate,
            not_after_wall_us,
        })
    }

    /// Checks that `certificate` is one of ours that may still be renewed, and that its key signed `request`.
    pub fn check_renewal(
        &self,
        certificate: &[u8],
        request: &[u8],
        signature: &[u8],
        wall_us: i64,
    ) -> Result<Subject, Refused> {
        check_size(certificate)?;
        check_size(request)?;
        let subject = subject(certificate)?;
        let grace_us = i64::try_from(RENEWAL_GRACE.as_micros()).unwrap_or(i64::MAX);
        if wall_us > subject.not_after_wall_us.saturating_add(grace_us) {
            return Err(Refused::Expired);
        }
        // A lapsed certificate is judged at its last second: the grace period was checked above.
        let at_us = wall_us.min(subject.not_after_wall_us - 1_000_000);
        let at =
            UnixTime::since_unix_epoch(Duration::from_micros(u64::try_from(at_us).unwrap_or(0)));
        let presented = CertificateDer::from(certificate);
        self.verifier
            .verify_client_cert(&presented, &[], at)
            .map_err(|_| Refused::NotOurs)?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(certificate).map_err(|_| Refused::Certificate)?;
        let key = &parsed.public_key().subject_public_key.data;
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, key)
            .verify(request, signature)
            .map_err(|_| Refused::Signature)?;
        Ok(subject)
    }
}

/// Reads who a certificate is for and when it ends. Says nothing about who issued it.
pub fn subject(certificate: &[u8]) -> Result<Subject, Refused> {
    let (rest, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| Refused::Certificate)?;
    if !rest.is_empty() {
        return Err(Refused::Certificate);
    }
    let subject = parsed.subject();
    let agent =
        AgentId::new(only(subject.iter_common_name())?).map_err(|_| Refused::Certificate)?;
    let ap =
        ApId::new(only(subject.iter_organizational_unit())?).map_err(|_| Refused::Certificate)?;
    let not_after_wall_us = parsed
        .validity()
        .not_after
        .timestamp()
        .saturating_mul(1_000_000);
    Ok(Subject {
        agent,
        ap,
        digest: digest(certificate),
        not_after_wall_us,
    })
}

/// The text of an attribute that must stand exactly once.
fn only<'a>(
    mut values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Result<&'a str, Refused> {
    match (values.next(), values.next()) {
        (Some(value), None) => value.as_str().map_err(|_| Refused::Certificate),
        _ => Err(Refused::Certificate),
    }
}

/// SHA-256.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

fn check_size(bytes: &[u8]) -> Result<(), Refused> {
    if bytes.len() > limits::CERTIFICATE_BYTES {
        Err(Refused::TooLarge(bytes.len()))
    } else {
        Ok(())
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn leaf(params: &mut CertificateParams, wall_us: i64, life: time::Duration) {
    let now = instant(wall_us);
    params.not_before = now - BACKDATED;
    params.not_after = now + life;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial_number());
}

/// 16 random bytes, positive (RFC 5280 section 4.1.2.2).
fn serial_number() -> SerialNumber {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random source works");
    bytes[0] = bytes[0] & 0x7f | 0x01;
    SerialNumber::from_slice(&bytes)
}

fn instant(wall_us: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(wall_us.div_euclid(1_000_000))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn create(
    folder: &Path,
    key_path: &Path,
    certificate_path: &Path,
    wall_us: i64,
) -> Result<(KeyPair, CertificateDer<'static>), PkiError> {
    let failed = |source| PkiError::Make {
        what: "authority's",
        source,
    };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    let fleet = extranet_agent::identity::ticket::hex(&digest(key.public_key_raw())[..4]);
    params.distinguished_name = name(&format!("Extranet Monitor fleet {fleet}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial_number());
    params.not_before = instant(wall_us) - BACKDATED;
    params.not_after = instant(wall_us) + AUTHORITY_LIFE;
    let certificate = params.self_signed(&key).map_err(failed)?.der().clone();
    let file = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| PkiError::File {
            operation,
            path,
            source,
        }
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(file("create", folder))?;
    write_new(key_path, &key.serialize_der(), 0o600).map_err(file("write", key_path))?;
    write_new(certificate_path, &certificate, 0o644).map_err(file("write", certificate_path))?;
    tracing::info!(folder = %folder.display(), fleet, "certification authority created");
    Ok((key, certificate))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File {
            operation: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes beside the final name, syncs and renames, so that a cut leaves the whole file or none.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: i64 = 1_800_000_000_000_000;
    const DAY: i64 = 86_400_000_000;

    fn authority() -> (tempfile::TempDir, Authority) {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(&folder.path().join("pki"), NOW).unwrap();
        (folder, authority)
    }

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default()
            .serialize_request(key)
            .unwrap()
            .der()
            .to_vec()
    }

    fn sign(key: &KeyPair, bytes: &[u8]) -> Vec<u8> {
        rcgen::SigningKey::sign(key, bytes).unwrap()
    }

    fn ids() -> (AgentId, ApId) {
        (
            AgentId::new("village-1").unwrap(),
            ApId::new("540121-001").unwrap(),
        )
    }

    #[test]
    fn the_authority_survives_a_restart_and_guards_its_key() {
        let (folder, first) = authority();
        let again = Authority::open(&folder.path().join("pki"), NOW + DAY).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        let mode = std::fs::metadata(folder.path().join("pki/ca.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_file(folder.path().join("pki/ca.der")).unwrap();
        assert!(matches!(
            Authority::open(&folder.path().join("pki"), NOW),
            Err(PkiError::Half { .. })
        ));
    }

    #[test]
    fn an_issued_certificate_names_its_agent_and_nothing_the_request_asked_for() {
        let (_folder, authority) = authority();
        let key = KeyPair::generate().unwrap();
        let mut asked =
            CertificateParams::new(vec!["uplink.extranet.internal".to_owned()]).unwrap();
        asked.distinguished_name = name("somebody-else");
        let asked = asked.serialize_request(&key).unwrap();
        let (agent, ap) = ids();
        let issued = authority.issue(asked.der(), &agent, &ap, NOW).unwrap();
        assert_eq!(subject(&issued.certificate).unwrap().agent, agent);
        assert_eq!(
            subject(&issued.certificate).unwrap().not_after_wall_us,
            issued.not_after_wall_us
        );
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.certificate).unwrap();
        assert!(parsed.subject_alternative_name().unwrap().is_none());
        let at = UnixTime::since_unix_epoch(Duration::from_micros(NOW as u64));
        assert!(
            authority
                .verifier()
                .verify_client_cert(&issued.certificate, &[], at)
                .is_ok()
        );
    }

    #[test]
    fn requests_that_are_not_requests_are_refused() {
        let (_folder, authority) = authority();
        let (agent, ap) = ids();
        assert_eq!(
            authority.issue(b"garbage", &agent, &ap, NOW).unwrap_err(),
            Refused::Request
        );
        let mut forged = request(&KeyPair::generate().unwrap());
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(
            authority.issue(&forged, &agent, &ap, NOW).unwrap_err(),
            Refused::Request
        );
        let large = vec![0; limits::CERTIFICATE_BYTES + 1];
        assert!(matches!(
            authority.issue(&large, &agent, &ap, NOW),
            Err(Refused::TooLarge(_))
        ));
    }

    #[test]
    fn a_renewal_needs_our_certificate_and_its_key() {
        let (_folder, ours) = authority();
        let (_other_folder, theirs) = authority();
        let (agent, ap) = ids();
        let old = KeyPair::generate().unwrap();
        let certificate = ours
            .issue(&request(&old), &agent, &ap, NOW)
            .unwrap()
            .certificate;
        let new = request(&KeyPair::generate().unwrap());
        let good = sign(&old, &new);
        assert_eq!(
            ours.check_renewal(&certificate, &new, &good, NOW)
                .unwrap()
                .agent,
            agent
        );
        // Lapsed for 30 days: within the grace period. For 70: outside.
        assert!(
            ours.check_renewal(&certificate, &new, &good, NOW + 395 * DAY)
                .is_ok()
        );
        assert_eq!(
            ours.check_renewal(&certificate, &new, &good, NOW + 435 * DAY),
            Err(Refused::Expired)
        );
        let other_key = sign(&KeyPair::generate().unwrap(), &new);
        assert_eq!(
            ours.check_renewal(&certificate, &new, &other_key, NOW),
            Err(Refused::Signature)
        );
        assert_eq!(
            theirs.check_renewal(&certificate, &new, &good, NOW),
            Err(Refused::NotOurs)
        );
        assert_eq!(
            ours.check_renewal(b"junk", &new, &good, NOW),
            Err(Refused::Certificate)
        );
    }
}
