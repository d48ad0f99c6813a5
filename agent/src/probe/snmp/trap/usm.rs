//! Notifications of version 3 (RFC 3414, RFC 3412).
//!
//! The sender of a trap is authoritative: keys are those of its engine, and its clock may only go forwards. The receiver of
//! an inform is authoritative: a sender that does not know our engine is told of it, sends again, and gets an answer under
//! the same security. Our engine is a new one in each process, so that nothing has to be remembered on disk.

use std::collections::HashMap;

use async_snmp::message::{
    MsgFlags, MsgGlobalData, ScopedPdu, SecurityLevel, V3Message, V3MessageData,
};
use async_snmp::v3::auth::{authenticate_message, verify_message};
use async_snmp::v3::{
    LocalizedKey, MasterKeys, PrivKey, SaltCounter, UsmSecurityParams, generate_engine_id,
    in_authoritative_time_window,
};
use async_snmp::{
    AuthProtocol, DecodeConfig, MessageSize, Pdu, ResponsePdu, Value, VarBind, Version,
};
use bytes::Bytes;
use extranet_proto::assignment::SnmpCredential;
use tokio::time::Instant;

use super::Dropped;
use super::message::{Received, Refused, notice, response};
use crate::probe::snmp::library::privacy_protocol;

/// Most credentials whose keys are kept, and most engines whose clocks are.
const REMEMBERED_MAX: usize = 1_024;
/// A message may be this much older than the newest one (RFC 3414 section 2.2.3), seconds.
const TIME_WINDOW: u32 = 150;
/// What we take in one message.
const MESSAGE_BYTES: usize = 65_507;
/// SNMP-USER-BASED-SM-MIB `usmStatsUnknownEngineIDs.0` and `usmStatsNotInTimeWindows.0`.
const UNKNOWN_ENGINE_IDS: [u32; 11] = [1, 3, 6, 1, 6, 3, 15, 1, 1, 4, 0];
const NOT_IN_TIME_WINDOWS: [u32; 11] = [1, 3, 6, 1, 6, 3, 15, 1, 1, 2, 0];
/// Boots of an engine that exists only once.
const BOOTS: u32 = 1;

/// Our engine, and what is known of others.
pub(super) struct Engine {
    id: Bytes,
    since: Instant,
    salt: Option<SaltCounter>,
    keys: Vec<(SnmpCredential, MasterKeys)>,
    /// Boots and newest time of each engine.
    clocks: HashMap<Bytes, (u32, u32)>,
    unknown_engine_ids: u32,
}

impl Engine {
    pub(super) fn new() -> Self {
        Self {
            // Without randomness there is no engine: informs of version 3 are then refused, traps are not.
            id: generate_engine_id().unwrap_or_default(),
            since: Instant::now(),
            salt: SaltCounter::new().ok(),
            keys: Vec::new(),
            clocks: HashMap::new(),
            unknown_engine_ids: 0,
        }
    }

    fn time(&self) -> u32 {
        u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Keys from pass phrases, derived once; `None` for a user without authentication.
    fn master_keys(&mut self, credential: &SnmpCredential) -> Option<MasterKeys> {
        if let Some((_, keys)) = self.keys.iter().find(|(known, _)| known == credential) {
            return Some(keys.clone());
        }
        let SnmpCredential::V3 {
            auth: Some((name, phrase)),
            privacy,
            ..
        } = credential
        else {
            return None;
        };
        let mut keys =
            MasterKeys::new(name.parse::<AuthProtocol>().ok()?, phrase.as_bytes()).ok()?;
        if let Some((name, phrase)) = privacy {
            keys = keys
                .with_privacy(privacy_protocol(name).ok()?, phrase.as_bytes())
                .ok()?;
        }
        if self.keys.len() >= REMEMBERED_MAX {
            self.keys.remove(0);
        }
        self.keys.push((credential.clone(), keys.clone()));
        Some(keys)
    }

    /// Whether a trap of another engine is new; remembers its time if so.
    fn is_fresh(&mut self, engine: &Bytes, boots: u32, time: u32) -> bool {
        if let Some((known_boots, newest)) = self.clocks.get_mut(engine) {
            let is_old = boots < *known_boots
                || (boots == *known_boots && time.saturating_add(TIME_WINDOW) < *newest);
            if is_old {
                return false;
            }
            *newest = if boots > *known_boots {
                time
            } else {
                time.max(*newest)
            };
            *known_boots = boots;
            return true;
        }
        if self.clocks.len() < REMEMBERED_MAX {
            self.clocks.insert(engine.clone(), (boots, time));
        }
        true
    }
}

/// Keys of one user for one engine.
struct Keys {
    auth: LocalizedKey,
    privacy: Option<PrivKey>,
}

pub(super) fn read(
    datagram: &Bytes,
    message: &V3Message,
    credentials: &[SnmpCredential],
    engine: &mut Engine,
) -> Result<Received, Refused> {
    let malformed = || (Dropped::Malformed, None);
    let not_authentic = || (Dropped::NotAuthentic, None);
    let security =
        UsmSecurityParams::decode(message.security_params().clone(), DecodeConfig::DEFAULT)
            .map_err(|_| malformed())?
            .value;
    // Only what wants an answer is for our engine: an inform, or the question that goes before one.
    let wants_answer = message.global_data().msg_flags().reportable;
    if wants_answer && (engine.id.is_empty() || *security.engine_id() != engine.id) {
        engine.unknown_engine_ids = engine.unknown_engine_ids.wrapping_add(1);
        let count = engine.unknown_engine_ids;
        let report = report(message, &security, engine, &UNKNOWN_ENGINE_IDS, count, None);
        return Err((Dropped::Discovery, report));
    }
    let credential = credentials
        .iter()
        .find(|credential| matches!(credential, SnmpCredential::V3 { user, .. } if user.as_bytes() == &security.username()[..]))
        .ok_or_else(not_authentic)?;
    let level = message.security_level();
    let keys = keys(engine, credential, &security, level).ok_or_else(not_authentic)?;
    if let Some(keys) = &keys
        && !is_signed(&keys.auth, datagram)
    {
        return Err(not_authentic());
    }
    let (boots, time) = (security.engine_boots(), security.engine_time());
    if wants_answer {
        if keys.is_some() && !in_authoritative_time_window(BOOTS, engine.time(), boots, time) {
            let report = report(
                message,
                &security,
                engine,
                &NOT_IN_TIME_WINDOWS,
                1,
                keys.as_ref(),
            );
            return Err((Dropped::Replayed, report));
        }
    } else if keys.is_some() && !engine.is_fresh(security.engine_id(), boots, time) {
        return Err((Dropped::Replayed, None));
    }
    let scoped = scoped_pdu(message, &security, keys.as_ref()).ok_or_else(malformed)?;
    let notice = notice(&scoped.pdu).ok_or_else(malformed)?;
    let answer = (wants_answer && scoped.pdu.is_confirmed())
        .then(|| {
            let pdu = response(&scoped.pdu, Version::V3)?;
            let scoped = ScopedPdu::new(
                scoped.context_engine_id.clone(),
                scoped.context_name.clone(),
                pdu,
            );
            sealed(message, &security, engine, scoped, keys.as_ref())
        })
        .flatten();
    Ok(Received { notice, answer })
}

/// The keys that a message must have been made with: outer `None` when its level is not that of the credential.
#[expect(clippy::option_option, reason = "no keys at all is a level of its own")]
fn keys(
    engine: &mut Engine,
    credential: &SnmpCredential,
    security: &UsmSecurityParams,
    level: SecurityLevel,
) -> Option<Option<Keys>> {
    let SnmpCredential::V3 { auth, privacy, .. } = credential else {
        return None;
    };
    // Less than what the device is polled with could be anybody's; more is not possible without keys.
    if level.requires_auth() != auth.is_some() || level.requires_priv() != privacy.is_some() {
        return None;
    }
    if auth.is_none() {
        return Some(None);
    }
    let master = engine.master_keys(credential)?;
    let (auth, privacy) = master.localize(security.engine_id()).ok()?;
    Some(Some(Keys { auth, privacy }))
}

fn is_signed(key: &LocalizedKey, datagram: &Bytes) -> bool {
    UsmSecurityParams::find_auth_params_offset(datagram).is_some_and(|(offset, length)| {
        length == key.mac_len() && verify_message(key, datagram, offset, length) == Ok(true)
    })
}

fn scoped_pdu(
    message: &V3Message,
    security: &UsmSecurityParams,
    keys: Option<&Keys>,
) -> Option<ScopedPdu> {
    match message.data() {
        V3MessageData::Plaintext(scoped) => Some(scoped.clone()),
        V3MessageData::Encrypted(cipher) => {
            let key = keys?.privacy.as_ref()?;
            let (boots, time) = (security.engine_boots(), security.engine_time());
            let plain = key
                .decrypt(cipher, boots, time, security.priv_params())
                .ok()?;
            ScopedPdu::decode(&mut async_snmp::ber::Decoder::new(plain)).ok()
        }
    }
}

/// A report: what the sender has to know before it sends again.
fn report(
    message: &V3Message,
    security: &UsmSecurityParams,
    engine: &Engine,
    counter: &[u32],
    count: u32,
    keys: Option<&Keys>,
) -> Option<Vec<u8>> {
    let binding = VarBind::new(
        async_snmp::Oid::from_slice(counter),
        Value::Counter32(count),
    );
    let request_id = message
        .pdu()
        .map_or(0, |pdu: &Pdu| pdu.clone().into_raw_parts().0);
    let pdu = ResponsePdu::report(request_id, vec![binding])
        .ok()?
        .into_raw();
    let scoped = ScopedPdu::new(engine.id.clone(), Bytes::new(), pdu);
    // A report is signed at most: it holds no secret, and its reader may not have our engine's time yet.
    let signing = keys.map(|keys| Keys {
        auth: keys.auth.clone(),
        privacy: None,
    });
    sealed(message, security, engine, scoped, signing.as_ref())
}

/// A message of our engine under the given keys, in answer to `asked`.
fn sealed(
    asked: &V3Message,
    security: &UsmSecurityParams,
    engine: &Engine,
    scoped: ScopedPdu,
    keys: Option<&Keys>,
) -> Option<Vec<u8>> {
    let level = match keys {
        None => SecurityLevel::NoAuthNoPriv,
        Some(Keys { privacy: None, .. }) => SecurityLevel::AuthNoPriv,
        Some(_) => SecurityLevel::AuthPriv,
    };
    let time = engine.time();
    let size = MessageSize::new(MESSAGE_BYTES).ok()?;
    let global = MsgGlobalData::new(asked.msg_id(), size, MsgFlags::new(level, false)).ok()?;
    let mut params =
        UsmSecurityParams::new(engine.id.clone(), BOOTS, time, security.username().clone()).ok()?;
    if let Some(keys) = keys {
        params = params.with_auth_placeholder(keys.auth.mac_len()).ok()?;
    }
    let message = match keys.and_then(|keys| keys.privacy.as_ref()) {
        None => V3Message::new(global, params.encode().ok()?, scoped).ok()?,
        Some(key) => {
            let plain = scoped.encode_to_bytes().ok()?;
            // DES needs salts that survive the process: informs over it are not acknowledged.
            let (cipher, salt) = key
                .encrypt_aes(&plain, BOOTS, time, engine.salt.as_ref()?)
                .ok()?;
            let params = params.with_priv_params(salt).ok()?;
            V3Message::new_with_opaque_encrypted_scoped_pdu(global, params.encode().ok()?, cipher)
                .ok()?
        }
    };
    let mut bytes = message.encode().ok()?.to_vec();
    if let Some(keys) = keys {
        let (offset, length) = UsmSecurityParams::find_auth_params_offset(&bytes)?;
        authenticate_message(&keys.auth, &mut bytes, offset, length).ok()?;
    }
    Some(bytes)
}
