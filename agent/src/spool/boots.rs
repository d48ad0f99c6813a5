//! In which boot each incarnation of the spool was written: its records carry the boot clock of that boot.

use std::path::Path;

use extranet_journal::Journal;
use extranet_proto::id::{BootId, Incarnation};
use prost::Message as _;

use crate::shell::error_chain;
use crate::state_file;

/// Incarnations that are remembered beyond those that have records waiting.
const KEPT: usize = 256;

/// The form on disk.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(message, repeated, tag = "1")]
    boots: Vec<StoredBoot>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredBoot {
    #[prost(fixed64, tag = "1")]
    incarnation: u64,
    #[prost(bytes = "vec", tag = "2")]
    boot_id: Vec<u8>,
}

/// Known boots, oldest first.
#[derive(Debug)]
pub(super) struct Boots {
    current: BootId,
    known: Vec<(Incarnation, BootId)>,
}

impl Boots {
    /// Reads what is known and adds the incarnation of this process. A file that cannot be used costs the boots of
    /// earlier incarnations, nothing else.
    pub(super) fn open(
        path: &Path,
        incarnation: Incarnation,
        current: BootId,
        journal: &Journal,
    ) -> Self {
        let mut known = read(path);
        known.retain(|(known, _)| *known != incarnation);
        let waiting: Vec<u64> = journal.waiting().into_iter().map(|(i, _)| i).collect();
        let recent = known.len().saturating_sub(KEPT);
        let mut index = 0;
        known.retain(|(incarnation, _)| {
            index += 1;
            index > recent || waiting.contains(&incarnation.0)
        });
        known.push((incarnation, current));
        let this = Self { current, known };
        if let Err(error) = state_file::write(path, &this.to_bytes()) {
            tracing::warn!(
                error = error_chain(&error),
                "boot of this incarnation not kept"
            );
        }
        this
    }

    fn to_bytes(&self) -> Vec<u8> {
        let boots = self.known.iter().map(|(incarnation, boot_id)| StoredBoot {
            incarnation: incarnation.0,
            boot_id: boot_id.0.to_vec(),
        });
        Stored {
            boots: boots.collect(),
        }
        .encode_to_vec()
    }

    /// The boot of an incarnation when it is not the running one; all zeroes when it is not known any more.
    pub(super) fn other_than_current(&self, incarnation: Incarnation) -> Option<BootId> {
        let known = self
            .known
            .iter()
            .rev()
            .find(|(known, _)| *known == incarnation);
        let boot_id = known.map_or(BootId([0; 16]), |(_, boot_id)| *boot_id);
        (boot_id != self.current).then_some(boot_id)
    }
}

fn read(path: &Path) -> Vec<(Incarnation, BootId)> {
    let stored = match state_file::read(path) {
        Ok(None) => return Vec::new(),
        Ok(Some(bytes)) => Stored::decode(bytes.as_slice()).map_err(|error| error.to_string()),
        Err(error) => Err(error_chain(&error)),
    };
    match stored {
        Ok(stored) => stored
            .boots
            .into_iter()
            .filter_map(|boot| {
                let boot_id = boot.boot_id.try_into().ok()?;
                Some((Incarnation(boot.incarnation), BootId(boot_id)))
            })
            .collect(),
        Err(error) => {
            tracing::warn!(error, "boots of earlier incarnations are lost");
            Vec::new()
        }
    }
}
