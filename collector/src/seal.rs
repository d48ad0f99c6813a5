//! SNMP secrets at rest: whoever copies the catalogue, the log or a backup of them does not have the communities and pass
//! phrases of the network.
//!
//! - The key is a file of its own, `secrets.key` in the state folder, for its owner only; back it up apart from the rest.
//! - Secrets are sealed before they enter the log, and opened where an assignment is handed to its agent, which it
//!   reaches over mutual TLS. Between the two there is only the sealed form.
//! - AES-256-GCM with a nonce that is a MAC of the secret: the same secret is sealed the same way, so that an import that
//!   changes nothing changes nothing, and a nonce comes again only with the same secret. Equal secrets look equal; that is
//!   known and accepted.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use extranet_agent::identity::ticket::hex;
use extranet_proto::wire;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Begins every sealed text; no community or pass phrase that people choose does.
const PREFIX: &str = "sealed:1:";
const KEY_BYTES: usize = 32;
/// What the ciphertext is bound to.
const PURPOSE: &[u8] = b"extranet snmp credential";

/// Seals and opens.
pub struct Sealer {
    cipher: LessSafeKey,
    nonces: hmac::Key,
}

/// Shows no key.
impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(<secret>)")
    }
}

impl Sealer {
    /// Reads the key file; makes one where there is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let key = match std::fs::read(path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
            Err(error) => return Err(error),
        };
        Self::new(&key).ok_or_else(|| {
            let text = "is no key of 32 bytes: restore it from its backup";
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} {text}", path.display()),
            )
        })
    }

    fn new(key: &[u8]) -> Option<Self> {
        if key.len() != KEY_BYTES {
            return None;
        }
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derived = |label: &[u8]| hmac::sign(&root, label);
        let cipher = UnboundKey::new(&AES_256_GCM, derived(b"cipher").as_ref()).ok()?;
        Some(Self {
            cipher: LessSafeKey::new(cipher),
            nonces: hmac::Key::new(hmac::HMAC_SHA256, derived(b"nonce").as_ref()),
        })
    }

    /// Seals the secrets of a credential; those that are sealed stay as they are.
    pub fn seal(&self, credential: &mut wire::SnmpCredential) {
        for secret in secrets(credential) {
            if !secret.is_empty() && !secret.starts_with(PREFIX) {
                *secret = self.sealed(secret);
            }
        }
    }

    /// Opens them. What was sealed under another key becomes nothing, which no device accepts, and is reported.
    pub fn unseal(&self, credential: &mut wire::SnmpCredential) {
        for secret in secrets(credential) {
            if let Some(sealed) = secret.strip_prefix(PREFIX) {
                let opened = self.opened(sealed);
                if opened.is_none() {
                    tracing::error!("an SNMP secret was sealed under another secrets.key");
                }
                *secret = opened.unwrap_or_default();
            }
        }
    }

    /// Seals the credentials of an inventory's change.
    pub fn seal_targets(&self, targets: &mut [wire::TargetRow]) {
        for target in targets {
            if let Some(credential) = target
                .snmp
                .as_mut()
                .and_then(|snmp| snmp.credential.as_mut())
            {
                self.seal(credential);
            }
        }
    }

    /// Opens the credentials of an assignment.
    pub fn unseal_assignment(&self, assignment: &mut wire::Assignment) {
        for check in &mut assignment.checks {
            if let Some(wire::check::Probe::Snmp(snmp)) = &mut check.probe
                && let Some(credential) = &mut snmp.credential
            {
                self.unseal(credential);
            }
        }
    }

    fn sealed(&self, secret: &str) -> String {
        let mac = hmac::sign(&self.nonces, secret.as_bytes());
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&mac.as_ref()[..NONCE_LEN]);
        let mut bytes = secret.as_bytes().to_vec();
        self.cipher
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(PURPOSE),
                &mut bytes,
            )
            .expect("AES-GCM seals any text shorter than 64 GiB");
        format!("{PREFIX}{}{}", hex(&nonce), hex(&bytes))
    }

    fn opened(&self, sealed: &str) -> Option<String> {
        let bytes = unhex(sealed)?;
        let (nonce, cipher) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut cipher = cipher.to_vec();
        let plain = self
            .cipher
            .open_in_place(nonce, Aad::from(PURPOSE), &mut cipher)
            .ok()?;
        String::from_utf8(plain.to_vec()).ok()
    }
}

/// The secrets of a credential. A user is a name.
fn secrets(credential: &mut wire::SnmpCredential) -> [&mut String; 3] {
    [
        &mut credential.community,
        &mut credential.auth_password,
        &mut credential.privacy_password,
    ]
}

fn create(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let bytes = digits?;
    let pairs = bytes.chunks_exact(2);
    pairs
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn credential(community: &str) -> wire::SnmpCredential {
        wire::SnmpCredential {
            community: community.to_owned(),
            user: "noc".to_owned(),
            auth_password: "长口令 with spaces".to_owned(),
            ..wire::SnmpCredential::default()
        }
    }

    #[test]
    fn secrets_are_sealed_the_same_way_and_opened_by_their_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let sealer = Sealer::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (mut one, mut two) = (credential("public"), credential("public"));
        sealer.seal(&mut one);
        Sealer::open(&path).unwrap().seal(&mut two);
        assert_eq!(one, two, "the key is kept, and sealing is a function of it");
        assert!(one.community.starts_with(PREFIX) && !one.community.contains("public"));
        assert_eq!(
            (one.user.as_str(), one.privacy_password.as_str()),
            ("noc", "")
        );
        sealer.seal(&mut one);
        assert_eq!(one, two, "once is enough");
        sealer.unseal(&mut one);
        assert_eq!(one, credential("public"));

        let other = Sealer::open(&folder.path().join("another")).unwrap();
        other.unseal(&mut two);
        assert_eq!(two.community, "");
    }

    #[test]
    fn damage_opens_nothing() {
        let sealer = Sealer::new(&[7; KEY_BYTES]).unwrap();
        let whole = sealer.sealed("public");
        let digits = whole.strip_prefix(PREFIX).unwrap();
        assert_eq!(sealer.opened(digits).as_deref(), Some("public"));
        let (head, tail) = digits.split_at(20);
        for damaged in ["", "zz", "é", tail, head, &format!("{digits}00")] {
            assert_eq!(sealer.opened(damaged), None, "{damaged}");
        }
        assert!(Sealer::new(&[7; 31]).is_none());
    }
}
