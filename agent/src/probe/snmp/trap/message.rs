//! One datagram: whether it is to be believed, what it says, and how it is acknowledged.

use async_snmp::message::{CommunityMessage, CommunityPdu, Message};
use async_snmp::{DecodeConfig, Pdu, Value, VarBind, Version};
use bytes::Bytes;
use extranet_proto::assignment::SnmpCredential;

use super::Dropped;
use super::notice::Notice;
use super::usm::{self, Engine};
use crate::probe::snmp::library::binding;
use crate::probe::snmp::session::Oid;

/// SNMPv2-MIB `sysUpTime.0` and `snmpTrapOID.0`, the first two bindings of every notification (RFC 3416 section 4.2.6).
const SYS_UP_TIME: [u32; 9] = [1, 3, 6, 1, 2, 1, 1, 3, 0];
const SNMP_TRAP_OID: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];

/// A notification that is believed.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) notice: Notice,
    /// For an inform.
    pub(super) answer: Option<Vec<u8>>,
}

/// Why nothing came of a datagram, and what to answer all the same.
pub(super) type Refused = (Dropped, Option<Vec<u8>>);

const fn refused(dropped: Dropped) -> Refused {
    (dropped, None)
}

/// Reads a datagram of a device that is polled with `credentials`.
pub(super) fn read(
    datagram: &[u8],
    credentials: &[SnmpCredential],
    engine: &mut Engine,
) -> Result<Received, Refused> {
    if credentials.is_empty() {
        return Err(refused(Dropped::UnknownSource));
    }
    let bytes = Bytes::copy_from_slice(datagram);
    let message = Message::decode(bytes.clone(), DecodeConfig::DEFAULT);
    match message {
        Ok(outcome) => match outcome.value {
            Message::Community(message) => community(message, credentials),
            Message::V3(message) => usm::read(&bytes, &message, credentials, engine),
        },
        Err(_) => Err(refused(Dropped::Malformed)),
    }
}

fn community(message: CommunityMessage, known: &[SnmpCredential]) -> Result<Received, Refused> {
    let (version, community, pdu) = message.into_parts();
    let authentic = known.iter().any(|credential| match credential {
        SnmpCredential::V1 { community: known } | SnmpCredential::V2c { community: known } => {
            community.as_bytes() == known.as_bytes()
        }
        SnmpCredential::V3 { .. } => false,
    });
    if !authentic {
        return Err(refused(Dropped::NotAuthentic));
    }
    match pdu {
        CommunityPdu::TrapV1(trap) => {
            let name = trap
                .v2_trap_oid()
                .map_err(|_| refused(Dropped::Malformed))?;
            Ok(Received {
                notice: Notice::new(Oid(name.arcs().to_vec()), trap.varbinds().to_vec()),
                answer: None,
            })
        }
        CommunityPdu::Standard(pdu) => {
            let is_inform = pdu.is_confirmed();
            let notice = notice(&pdu).ok_or(refused(Dropped::Malformed))?;
            let answer = is_inform
                .then(|| {
                    let response = response(&pdu, version)?;
                    CommunityMessage::v2c(community, response)
                        .ok()?
                        .encode()
                        .ok()
                })
                .flatten()
                .map(Into::into);
            Ok(Received { notice, answer })
        }
    }
}

/// What a notification of version 2 or 3 says; `None` for every other PDU.
pub(super) fn notice(pdu: &Pdu) -> Option<Notice> {
    if !pdu.is_notification() {
        return None;
    }
    let [up_time, name, rest @ ..] = pdu.varbinds() else {
        return None;
    };
    let well_begun = up_time.oid.arcs() == SYS_UP_TIME && name.oid.arcs() == SNMP_TRAP_OID;
    match &name.value {
        Value::ObjectIdentifier(oid) if well_begun => {
            Some(Notice::new(Oid(oid.arcs().to_vec()), rest.to_vec()))
        }
        _ => None,
    }
}

/// The acknowledgement: the same bindings again (RFC 3416 section 4.2.7).
pub(super) fn response(pdu: &Pdu, version: Version) -> Option<Pdu> {
    let (request_id, _, bindings) = pdu.clone().into_raw_parts();
    async_snmp::ResponsePdu::success(version, request_id, bindings)
        .ok()
        .map(async_snmp::ResponsePdu::into_raw)
}

impl Notice {
    fn new(name: Oid, bindings: Vec<VarBind>) -> Self {
        Self {
            name,
            bindings: bindings.into_iter().map(binding).collect(),
        }
    }
}
