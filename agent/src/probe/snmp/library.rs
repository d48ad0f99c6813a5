//! The session on async-snmp: credentials in, requests through, errors out as verdicts.
//!
//! Only calls that the library does not instrument with `err` are used: the others log each timeout at ERROR, and a
//! silent device is nobody's emergency.

use std::sync::Arc;
use std::time::Duration;

use async_snmp::v3::{MasterKeys, ReportStatus};
use async_snmp::{
    Auth, AuthProtocol, Client, ClientBuilder, DesSaltState, Error, ErrorStatus,
    PersistedDesSaltState, PrivProtocol, Retry, UsmConfig, Value, VarBind,
};
use extranet_proto::assignment::SnmpCredential;
use extranet_proto::record::Reason;

use crate::net::refusal::{Refusal, errno_of};

use super::endpoint::{Handle, Traffic};
use super::session::{Binding, Cost, Datum, Failure, OCTETS_KEPT, Oid, Session};

/// Repetitions of a request that got no answer; each waits twice as long as the one before ([`super::pace`]).
const RETRIES: u32 = 3;
/// Shortest time for a request with its repetitions.
const EXCHANGE_MIN: Duration = Duration::from_millis(100);

/// Turns a credential into what the library wants. Deriving keys from pass phrases costs milliseconds (RFC 3414 A.2
/// hashes a megabyte for each): do it once per credential.
pub(super) fn prepare(credential: &SnmpCredential) -> Result<Auth, Box<dyn std::error::Error>> {
    let usm = match credential {
        SnmpCredential::V1 { community } => return Ok(Auth::v1(community.clone())),
        SnmpCredential::V2c { community } => return Ok(Auth::v2c(community.clone())),
        SnmpCredential::V3 {
            user,
            auth,
            privacy,
            context,
        } => {
            let usm = UsmConfig::new(user.clone()).context_name(context.clone());
            match (auth, privacy) {
                (None, None) => usm,
                (None, Some(_)) => return Err("privacy without authentication".into()),
                (Some((name, phrase)), privacy) => {
                    let mut keys =
                        MasterKeys::new(name.parse::<AuthProtocol>()?, phrase.as_bytes())?;
                    if let Some((name, phrase)) = privacy {
                        keys = keys.with_privacy(privacy_protocol(name)?, phrase.as_bytes())?;
                    }
                    usm.with_master_keys(keys)?
                }
            }
        }
    };
    Ok(usm.into())
}

/// AES-192 and AES-256 were never standardised: the plain names mean the key extension of net-snmp (Blumenthal), those
/// with `C` Cisco's (Reeder), as in `snmp_exporter`.
pub(super) fn privacy_protocol(name: &str) -> Result<PrivProtocol, async_snmp::ParseProtocolError> {
    match name.to_ascii_uppercase().replace(['-', '_'], "").as_str() {
        "AES" | "AES128" => Ok(PrivProtocol::Aes128),
        "AES192" => Ok(PrivProtocol::Aes192Blumenthal),
        "AES256" => Ok(PrivProtocol::Aes256Blumenthal),
        "AES192C" => Ok(PrivProtocol::Aes192Reeder),
        "AES256C" => Ok(PrivProtocol::Aes256Reeder),
        _ => name.parse(),
    }
}

/// Salt state for DES privacy. RFC 3414 section 8.1.1.1 wants salts that do not repeat under a key; like net-snmp we
/// start each process at a random boots value instead of keeping one on disk.
pub(super) fn des_salt() -> Option<DesSaltState> {
    let mut random = [0_u8; 4];
    getrandom::fill(&mut random).ok()?;
    let boots = (u32::from_ne_bytes(random) >> 2).max(1);
    let previous = PersistedDesSaltState::new(boots).ok()?;
    DesSaltState::restart(previous, |_| Ok::<(), std::convert::Infallible>(())).ok()
}

/// A device under one credential.
pub(super) struct Library {
    client: Client<Handle>,
    traffic: Arc<Traffic>,
}

impl Library {
    /// A session through `handle`; sends nothing yet. `timeout` is that of the check.
    pub(super) fn new(
        handle: Handle,
        auth: Auth,
        des_salt: Option<DesSaltState>,
        timeout: Duration,
    ) -> async_snmp::Result<Self> {
        let traffic = handle.traffic();
        let retry = Retry::fixed(RETRIES, Duration::ZERO).unwrap_or_else(|_| Retry::none());
        let mut builder = ClientBuilder::new(auth)
            // The transport gives up an attempt earlier.
            .request_timeout(super::pace::LONGEST)
            .exchange_timeout(Some(timeout.max(EXCHANGE_MIN)))
            .retry(retry)
            .max_oids_per_request(super::window::OBJECTS_MAX)
            .allow_unauthenticated_v3_time_correction(true);
        if let Some(state) = des_salt {
            builder = builder.des_salt_state(state);
        }
        Ok(Self {
            client: builder.build_with_transport(handle)?,
            traffic,
        })
    }

    /// Counters of the device.
    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Asks a v3 device again who it is: the way back after it was replaced, or forgot its boots counter.
    pub(super) async fn rediscover(&self) -> Result<(), Failure> {
        let before = self.traffic.unreadable();
        self.client
            .rediscover_engine()
            .await
            .map_err(|error| self.failure(&error, before))
    }

    fn is_v1(&self) -> bool {
        self.client.version() == async_snmp::Version::V1
    }

    /// The verdict behind an error. `unreadable_before` is the counter when the request began.
    fn failure(&self, error: &Error, unreadable_before: u64) -> Failure {
        tracing::debug!(device = %self.client.peer_addr(), %error, "SNMP request failed");
        match error.exchange_source() {
            Error::Timeout { .. } if self.traffic.unreadable() > unreadable_before => {
                Failure::failed(Reason::Malformed)
            }
            Error::Timeout { .. } => Failure::failed(Reason::Timeout),
            Error::Network { source, .. } => Failure::Verdict(Refusal::of(errno_of(source))),
            Error::Snmp { status, .. } => match status {
                ErrorStatus::TooBig => Failure::TooBig,
                ErrorStatus::AuthorizationError | ErrorStatus::NoAccess => {
                    Failure::failed(Reason::AuthenticationFailed)
                }
                _ => Failure::failed(Reason::RemoteError),
            },
            Error::Auth { .. } => Failure::failed(Reason::AuthenticationFailed),
            Error::Report { status, .. } => Failure::failed(match **status {
                ReportStatus::UnsupportedSecurityLevel { .. }
                | ReportStatus::UnknownUserName { .. }
                | ReportStatus::WrongDigest { .. }
                | ReportStatus::DecryptionError { .. } => Reason::AuthenticationFailed,
                _ => Reason::RemoteError,
            }),
            Error::Decode(_) | Error::MalformedResponse { .. } | Error::ResponseShape { .. } => {
                Failure::failed(Reason::Malformed)
            }
            Error::WalkAborted { .. } => Failure::failed(Reason::NotIncreasing),
            _ => Failure::not_measured(Reason::LocalError),
        }
    }
}

fn to_library(oid: &Oid) -> async_snmp::Oid {
    async_snmp::Oid::from_slice(&oid.0)
}

pub(super) fn binding(varbind: VarBind) -> Binding {
    let datum = match varbind.value {
        Value::Integer(number) => Datum::Signed(number.into()),
        Value::Counter32(number)
        | Value::Gauge32(number)
        | Value::UInteger32(number)
        | Value::TimeTicks(number) => Datum::Unsigned(number.into()),
        Value::Counter64(number) => Datum::Unsigned(number),
        Value::OctetString(octets) => {
            let kept = octets.get(..OCTETS_KEPT).unwrap_or(&octets);
            Datum::Octets(kept.to_vec())
        }
        Value::IpAddress(octets) => Datum::Octets(octets.to_vec()),
        Value::ObjectIdentifier(oid) => Datum::Oid(Oid(oid.arcs().to_vec())),
        Value::NoSuchObject | Value::NoSuchInstance => Datum::Missing,
        Value::EndOfMibView => Datum::EndOfView,
        _ => Datum::Other,
    };
    Binding {
        oid: Oid(varbind.oid.arcs().to_vec()),
        datum,
    }
}

/// Which of the request's objects an `SNMPv1` device does not have (RFC 1157 section 4.1.2: noSuchName with the index
/// of the variable, from 1).
fn missing_in_v1(error: &Error) -> Option<usize> {
    match error.exchange_source() {
        Error::Snmp {
            status: ErrorStatus::NoSuchName,
            index,
            ..
        } => usize::try_from(*index).ok()?.checked_sub(1),
        _ => None,
    }
}

impl Session for Library {
    fn has_counter64(&self) -> bool {
        !self.is_v1()
    }

    fn cost(&self) -> Cost {
        Cost {
            repeated: self.traffic.timeouts(),
        }
    }

    async fn get(&self, oids: &[Oid]) -> Result<Vec<Binding>, Failure> {
        let before = self.traffic.unreadable();
        let mut wanted: Vec<async_snmp::Oid> = oids.iter().map(to_library).collect();
        loop {
            let answer = match self.client.get_many_chunks(&wanted) {
                Ok(chunks) => collect(chunks).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(varbinds) => return Ok(self.bindings(varbinds)),
                Err(error) => match missing_in_v1(&error) {
                    Some(missing) if self.is_v1() && missing < wanted.len() => {
                        wanted.remove(missing);
                        if wanted.is_empty() {
                            return Ok(Vec::new());
                        }
                    }
                    _ => return Err(self.failure(&error, before)),
                },
            }
        }
    }

    async fn successors(&self, oids: &[Oid], repetitions: u32) -> Result<Vec<Binding>, Failure> {
        let before = self.traffic.unreadable();
        if self.is_v1() {
            return self.successors_v1(oids).await;
        }
        let wanted: Vec<async_snmp::Oid> = oids.iter().map(to_library).collect();
        match self
            .client
            .get_bulk_with_metadata(&wanted, 0, repetitions)
            .await
        {
            Ok(answer) => Ok(self.bindings(answer.varbinds)),
            Err(error) => Err(self.failure(&error, before)),
        }
    }
}

impl Library {
    /// Counts and converts an answer.
    fn bindings(&self, varbinds: Vec<VarBind>) -> Vec<Binding> {
        self.traffic.note_bindings(varbinds.len());
        varbinds.into_iter().map(binding).collect()
    }

    /// One GETNEXT; identifiers without a successor are taken out and answered with [`Datum::EndOfView`].
    async fn successors_v1(&self, oids: &[Oid]) -> Result<Vec<Binding>, Failure> {
        let before = self.traffic.unreadable();
        let mut answers: Vec<Option<Binding>> = vec![None; oids.len()];
        let mut asked: Vec<usize> = (0..oids.len()).collect();
        while !asked.is_empty() {
            let wanted: Vec<async_snmp::Oid> = asked
                .iter()
                .filter_map(|position| oids.get(*position).map(to_library))
                .collect();
            let answer = match self.client.get_next_many_chunks(&wanted) {
                Ok(chunks) => collect(chunks).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(varbinds) => {
                    if varbinds.len() != asked.len() {
                        return Err(Failure::failed(Reason::Malformed));
                    }
                    let bindings = self.bindings(varbinds);
                    for (position, binding) in asked.drain(..).zip(bindings) {
                        if let Some(slot) = answers.get_mut(position) {
                            *slot = Some(binding);
                        }
                    }
                }
                Err(error) => match missing_in_v1(&error) {
                    Some(missing) if missing < asked.len() => {
                        asked.remove(missing);
                    }
                    _ => return Err(self.failure(&error, before)),
                },
            }
        }
        let ended = |oid: &Oid| Binding {
            oid: oid.clone(),
            datum: Datum::EndOfView,
        };
        Ok(oids
            .iter()
            .zip(answers)
            .map(|(oid, answer)| answer.unwrap_or_else(|| ended(oid)))
            .collect())
    }
}

/// All variable bindings of a request that the library may have cut into several.
async fn collect(
    mut chunks: async_snmp::FixedCardinalityChunkStream<Handle>,
) -> async_snmp::Result<Vec<VarBind>> {
    let mut varbinds = Vec::new();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => varbinds.extend(chunk.response.varbinds),
            Err(error) => return Err(error.source),
        }
    }
    Ok(varbinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_protocol_names_are_understood() {
        for (name, protocol) in [
            ("AES", PrivProtocol::Aes128),
            ("aes-128", PrivProtocol::Aes128),
            ("AES256", PrivProtocol::Aes256Blumenthal),
            ("AES-256-C", PrivProtocol::Aes256Reeder),
            ("AES192C", PrivProtocol::Aes192Reeder),
            ("DES", PrivProtocol::Des),
        ] {
            assert_eq!(privacy_protocol(name), Ok(protocol), "{name}");
        }
        assert!(privacy_protocol("ROT13").is_err());
    }

    #[test]
    fn a_credential_that_cannot_work_is_refused_without_its_secret() {
        let short = SnmpCredential::V3 {
            user: "u".into(),
            auth: Some(("SHA-256".into(), "s3cr3t".into())),
            privacy: None,
            context: String::new(),
        };
        let error = prepare(&short).err().unwrap().to_string();
        assert!(!error.contains("s3cr3t"), "{error}");
        let without_auth = SnmpCredential::V3 {
            user: "u".into(),
            auth: None,
            privacy: Some(("AES".into(), "long enough".into())),
            context: String::new(),
        };
        assert!(prepare(&without_auth).is_err());
    }
}
