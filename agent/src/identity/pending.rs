//! The key of an enrolment under way: kept until its certificate is stored, so that an enrolment whose answer was lost
//! can be asked for again. The collector answers the same key once more as long as the ticket is valid.

use std::path::{Path, PathBuf};

use prost::Message;
use rcgen::KeyPair;

use super::IdentityError;
use super::ticket::{Ticket, sha256};
use crate::state_file::{self, StateFileError};

/// What lies in the file.
#[derive(Clone, PartialEq, Message)]
struct Pending {
    /// PKCS #8 (DER).
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    /// SHA-256 of the secret of the ticket that it is for.
    #[prost(bytes = "vec", tag = "2")]
    secret_digest: Vec<u8>,
}

fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("enrolling")
}

/// The key of an earlier attempt with this ticket, or a new one that is on disk.
pub(super) fn key_for(state_dir: &Path, ticket: &Ticket) -> Result<KeyPair, IdentityError> {
    let path = path_in(state_dir);
    let secret_digest = sha256(&ticket.secret);
    let stored = match state_file::read(&path) {
        Ok(stored) => stored,
        // It holds nothing that is needed: a new key and, at worst, a new ticket.
        Err(StateFileError::Damaged { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let earlier = stored
        .and_then(|payload| Pending::decode(payload.as_slice()).ok())
        .filter(|pending| pending.secret_digest == secret_digest)
        .and_then(|pending| KeyPair::try_from(pending.key.as_slice()).ok());
    if let Some(key) = earlier {
        return Ok(key);
    }
    let key = KeyPair::generate()?;
    let pending = Pending {
        key: key.serialize_der(),
        secret_digest: secret_digest.to_vec(),
    };
    state_file::write(&path, &pending.encode_to_vec())?;
    Ok(key)
}

/// The certificate is stored.
pub(super) fn forget(state_dir: &Path) -> Result<(), IdentityError> {
    let path = path_in(state_dir);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(IdentityError::StateFile(StateFileError::Io {
                operation: "remove",
                path,
                source,
            }))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use extranet_proto::id::ApId;

    use super::*;

    #[test]
    fn a_ticket_keeps_its_key_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let ticket = |secret| Ticket {
            ap_id: ApId::new("a").unwrap(),
            secret: [secret; 16],
            ca_fingerprint: [0; 32],
        };
        let key = |secret| {
            key_for(folder.path(), &ticket(secret))
                .unwrap()
                .serialize_der()
        };
        let first = key(1);
        assert_eq!(key(1), first);
        assert_ne!(key(2), first, "another ticket, another key");
        let second = key(2);
        forget(folder.path()).unwrap();
        forget(folder.path()).unwrap();
        assert_ne!(key(2), second);
        std::fs::write(path_in(folder.path()), [1; 50]).unwrap();
        key(2);
    }
}
