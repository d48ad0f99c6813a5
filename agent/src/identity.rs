//! Who this agent is: ticket, key and certificate.
//!
//! ```text
//! no identity --(ticket: enrol)--> certificate --(two thirds of its life: renew, new key)--> certificate -> ...
//! ```
//!
//! The key is made on the agent and never leaves it. Key, certificate and roots lie in one file of the state folder,
//! so that a power cut cannot leave one without the other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use extranet_proto::id::AgentId;
use extranet_proto::wire::enrolment_client::EnrolmentClient;
use extranet_proto::wire::{EnrolReply, EnrolRequest, RenewRequest};
use extranet_proto::{ENROLMENT_SERVER_NAME, limits};
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;

use crate::config::Config;
use crate::dial::{DialError, dial};
use crate::state_file::{self, StateFileError};

mod pending;
pub mod ticket;
pub mod tls;

use ticket::Ticket;
use tls::CertificateTime;

/// Version of this agent, as it tells the collector.
pub const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long the collector may take to answer an enrolment: it writes to disk first.
const ENROL_TIMEOUT: Duration = Duration::from_secs(30);

/// An enrolled agent's key, certificate and roots.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Subject of the certificate.
    pub agent_id: AgentId,
    /// PKCS #8, DER. Secret.
    key: Vec<u8>,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    not_before_us: i64,
    not_after_us: i64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.agent_id)
    }
}

/// The form on disk.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    chain: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    roots: Vec<Vec<u8>>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The state folder failed.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// The file was read but says nothing useful.
    #[error("the identity in {} is not usable: {what}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// What the collector sent is not an identity.
    #[error("the collector's answer is not usable: {0}")]
    BadReply(&'static str),
    /// A key or request could not be made.
    #[error("cannot make a key and certificate request")]
    Key(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// No collector could be reached; the error is that of the last one.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A collector was reached and refused.
    #[error("the collector refused: {0}")]
    Refused(String),
}

/// Where the identity lies.
fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("identity")
}

impl Identity {
    /// Puts together what belongs together: key as PKCS #8 (DER), chain from the agent's certificate upwards, roots
    /// to trust. The agent id is the common name of the certificate.
    pub fn new(
        key: Vec<u8>,
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, &'static str> {
        let pair = KeyPair::try_from(key.as_slice()).map_err(|_| "unreadable key")?;
        let leaf = chain.first().ok_or("no certificate")?;
        if roots.is_empty() {
            return Err("no root certificate");
        }
        if chain
            .iter()
            .chain(&roots)
            .any(|der| der.len() > limits::CERTIFICATE_BYTES)
        {
            return Err("certificate too large");
        }
        let (_, parsed) =
            x509_parser::parse_x509_certificate(leaf).map_err(|_| "unreadable certificate")?;
        if parsed.public_key().raw != pair.subject_public_key_info() {
            return Err("the certificate is for another key");
        }
        let common_name = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .ok_or("the certificate has no common name")?;
        let agent_id =
            AgentId::new(common_name).map_err(|_| "the common name is not an agent id")?;
        let to_us = |time: x509_parser::time::ASN1Time| time.timestamp().saturating_mul(1_000_000);
        let (not_before_us, not_after_us) = (
            to_us(parsed.validity().not_before),
            to_us(parsed.validity().not_after),
        );
        Ok(Self {
            agent_id,
            key,
            chain,
            roots,
            not_before_us,
            not_after_us,
        })
    }

    /// The identity in the state folder; `None` when this agent was never enrolled.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = path_in(state_dir);
        let Some(payload) = state_file::read(&path)? else {
            return Ok(None);
        };
        let unusable = |what| IdentityError::Unusable { path, what };
        match Stored::decode(payload.as_slice()) {
            Err(_) => Err(unusable("unreadable content")),
            Ok(stored) => Self::new(
                stored.key,
                certificates(stored.chain),
                certificates(stored.roots),
            )
            .map(Some)
            .map_err(unusable),
        }
    }

    /// Writes the identity into the state folder, which must exist.
    pub fn store(&self, state_dir: &Path) -> Result<(), IdentityError> {
        let der = |list: &[CertificateDer<'static>]| list.iter().map(|der| der.to_vec()).collect();
        let stored = Stored {
            key: self.key.clone(),
            chain: der(&self.chain),
            roots: der(&self.roots),
        };
        Ok(state_file::write(
            &path_in(state_dir),
            &stored.encode_to_vec(),
        )?)
    }

    /// When it should be renewed, µs since 1970: after two thirds of its life, early enough for weeks of failing.
    pub fn renew_at_us(&self) -> i64 {
        let life = self.not_after_us.saturating_sub(self.not_before_us);
        self.not_before_us.saturating_add(life / 3 * 2)
    }

    /// When it ends, µs since 1970.
    pub fn not_after_us(&self) -> i64 {
        self.not_after_us
    }
}

fn certificates(list: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    list.into_iter().map(CertificateDer::from).collect()
}

/// A fresh P-256 key and a certificate request (DER) for it.
pub fn key_and_request() -> Result<(KeyPair, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let request = request_for(&key)?;
    Ok((key, request))
}

/// A certificate request (DER) for a key.
fn request_for(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let request = CertificateParams::default().serialize_request(key)?;
    Ok(request.der().to_vec())
}

/// Turns a ticket into an identity in the state folder, which must exist. If the answer is lost on its way, the next
/// call asks with the same key and gets its certificate.
pub async fn enrol_here(
    config: &Config,
    ticket: &Ticket,
    time: CertificateTime,
) -> Result<Identity, IdentityError> {
    let key = pending::key_for(&config.state_dir, ticket)?;
    let identity = enrol_with(config, ticket, time, &key).await?;
    identity.store(&config.state_dir)?;
    pending::forget(&config.state_dir)?;
    Ok(identity)
}

/// Turns a ticket into an identity, at the first collector that can be reached. Does not store it.
pub async fn enrol(
    config: &Config,
    ticket: &Ticket,
    time: CertificateTime,
) -> Result<Identity, IdentityError> {
    enrol_with(config, ticket, time, &KeyPair::generate()?).await
}

/// The same for a key.
pub async fn enrol_with(
    config: &Config,
    ticket: &Ticket,
    time: CertificateTime,
    key: &KeyPair,
) -> Result<Identity, IdentityError> {
    let certificate_request = request_for(key)?;
    let tls = tls::pinned(ticket.ca_fingerprint, time)?;
    let request = EnrolRequest {
        ticket_secret: ticket.secret.to_vec(),
        ap_id: ticket.ap_id.to_string(),
        certificate_request,
        agent_version: AGENT_VERSION.to_owned(),
    };
    let mut client = any_collector(config, &tls).await?;
    let reply = client
        .enrol(with_timeout(request))
        .await
        .map_err(|status| refused(&status))?
        .into_inner();
    let identity = from_reply(key, reply)?;
    // A ticket names whom to trust; an answer cannot widen that.
    let trusts_the_ticket = identity
        .roots
        .iter()
        .any(|root| ticket::sha256(root) == ticket.ca_fingerprint);
    if trusts_the_ticket {
        Ok(identity)
    } else {
        Err(IdentityError::BadReply(
            "its roots are not those of the ticket",
        ))
    }
}

/// A new key and certificate, requested with the old key. Works for some time after the old certificate ended. Does
/// not store the result.
pub async fn renew(
    config: &Config,
    identity: &Identity,
    time: CertificateTime,
) -> Result<Identity, IdentityError> {
    let (key, certificate_request) = key_and_request()?;
    let old_key = KeyPair::try_from(identity.key.as_slice())?;
    let request = RenewRequest {
        certificate: identity
            .chain
            .first()
            .map(|leaf| leaf.to_vec())
            .unwrap_or_default(),
        signature: old_key.sign(&certificate_request)?,
        certificate_request,
    };
    let tls = tls::without_certificate(identity, time)?;
    let mut client = any_collector(config, &tls).await?;
    let reply = client
        .renew(with_timeout(request))
        .await
        .map_err(|status| refused(&status))?
        .into_inner();
    let renewed = from_reply(&key, reply)?;
    if renewed.agent_id == identity.agent_id {
        Ok(renewed)
    } else {
        Err(IdentityError::BadReply(
            "the certificate is for another agent",
        ))
    }
}

async fn any_collector(
    config: &Config,
    tls: &std::sync::Arc<rustls::ClientConfig>,
) -> Result<EnrolmentClient<Channel>, IdentityError> {
    let mut last_error = IdentityError::BadReply("no collector is configured");
    for collector in &config.collectors {
        let tls = std::sync::Arc::clone(tls);
        match dial(collector, tls, ENROLMENT_SERVER_NAME, &config.uplink, None).await {
            Ok(channel) => {
                return Ok(
                    EnrolmentClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES)
                );
            }
            Err(error) => last_error = error.into(),
        }
    }
    Err(last_error)
}

fn with_timeout<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ENROL_TIMEOUT);
    request
}

fn refused(status: &tonic::Status) -> IdentityError {
    IdentityError::Refused(format!("{} ({:?})", status.message(), status.code()))
}

fn from_reply(key: &KeyPair, reply: EnrolReply) -> Result<Identity, IdentityError> {
    let chain = certificates(reply.certificate_chain);
    let roots = certificates(reply.trusted_roots);
    let identity =
        Identity::new(key.serialize_der(), chain, roots).map_err(IdentityError::BadReply)?;
    if identity.agent_id.as_str() == reply.agent_id {
        Ok(identity)
    } else {
        Err(IdentityError::BadReply("agent id and certificate differ"))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, DnType, IsCa, Issuer};

    use super::*;

    fn self_made(common_name: &str) -> Identity {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap().der().clone();
        let (key, _) = key_and_request().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name
            .push(DnType::CommonName, common_name);
        let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        Identity::new(key.serialize_der(), vec![leaf.der().clone()], vec![root]).unwrap()
    }

    #[test]
    fn an_identity_survives_the_disk_and_shows_no_key() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Identity::load(folder.path()).unwrap(), None);
        let identity = self_made("540121-001-a");
        identity.store(folder.path()).unwrap();
        assert_eq!(Identity::load(folder.path()).unwrap().unwrap(), identity);
        assert_eq!(format!("{identity:?}"), "Identity(540121-001-a)");
        assert!(identity.renew_at_us() < identity.not_after_us());

        let mut content = std::fs::read(path_in(folder.path())).unwrap();
        content.truncate(100);
        std::fs::write(path_in(folder.path()), content).unwrap();
        assert!(Identity::load(folder.path()).is_err());
    }

    #[test]
    fn key_and_certificate_must_belong_together() {
        let (one, other) = (self_made("a"), self_made("b"));
        let mixed = Identity::new(one.key, other.chain, one.roots);
        assert_eq!(mixed.unwrap_err(), "the certificate is for another key");
    }
}
