//! What is remembered of a check from one run to the next: the requests that may still be answered, the histogram, and
//! the object that stands for error messages.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use extranet_proto::id::{CheckId, ObjectId};

use super::histogram::Histogram;
use super::locked;
use super::port::Registered;

/// Most checks that are remembered. A guess: an assignment has at most 4,096; names that resolve to another address
/// and replaced assignments leave some behind. When it is full all are forgotten, and counters begin at zero again.
const TRACKS_MAX: usize = 16_384;

/// A check at an address: a name may lead to another host the next time.
pub(super) type Key = (CheckId, IpAddr);

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// The last run. Its table entry lives as long as this, so that late replies still find it.
    pub(super) last: Option<Registered>,
    pub(super) histogram: Histogram,
    /// Stands for whoever sends error messages.
    pub(super) trouble: Option<ObjectId>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Tracks(Mutex<HashMap<Key, Track>>);

impl Tracks {
    /// Takes what is remembered of a check. Two runs of it at a time: the second one remembers nothing.
    pub(super) fn take(&self, key: Key) -> Track {
        locked(&self.0).remove(&key).unwrap_or_default()
    }

    /// Remembers.
    pub(super) fn put(&self, key: Key, track: Track) {
        let mut tracks = locked(&self.0);
        let forgotten = if tracks.len() >= TRACKS_MAX {
            std::mem::take(&mut *tracks)
        } else {
            HashMap::new()
        };
        let replaced = tracks.insert(key, track);
        // What was registered leaves the tables of its ports only after this lock is free.
        drop(tracks);
        drop((forgotten, replaced));
    }
}
