//! Remembers every definition of this process, to repeat them in time.

use std::collections::BTreeMap;

use extranet_proto::id::ObjectId;
use extranet_proto::record::{Body, Definition, Record, RecordTime};

/// Most objects that are remembered. A guess: 1,000 ports on each of 16 devices. A definition beyond is still sent
/// once, when it is discovered.
const OBJECTS: usize = 16_384;

/// A definition that a probe says with every run is stored again after this time, ms: half of what the collector lets
/// values wait for theirs, when newer records overtake older ones after an outage.
const SAID_MS: u64 = 300_000;

/// The definitions and when they were last repeated.
#[derive(Debug)]
pub(super) struct Definitions {
    by_object: BTreeMap<ObjectId, Definition>,
    /// When each was last appended because a probe said it.
    said_ms: BTreeMap<ObjectId, u64>,
    every_bytes: u64,
    every_ms: u64,
    bytes_since: u64,
    repeated_boottime_ms: u64,
}

impl Definitions {
    /// Repeats after so many bytes of records, or after so many milliseconds.
    pub(super) fn new(every_bytes: u64, every_ms: u64) -> Self {
        Self {
            by_object: BTreeMap::new(),
            said_ms: BTreeMap::new(),
            every_bytes,
            every_ms,
            bytes_since: 0,
            repeated_boottime_ms: 0,
        }
    }

    /// A record is about to be appended. Returns definitions to append before it, and whether it is to be appended
    /// itself: a definition that says what was said a moment ago waits.
    pub(super) fn before(&mut self, record: &Record) -> (Vec<Record>, bool) {
        let time = record.time;
        let repeat = if self.is_due(time) {
            self.bytes_since = 0;
            self.repeated_boottime_ms = time.boottime_ms;
            self.by_object
                .values()
                .map(|definition| Record {
                    time,
                    body: Body::Definition(definition.clone()),
                })
                .collect()
        } else {
            Vec::new()
        };
        if let Body::Definition(definition) = &record.body {
            let known = self.by_object.get(&definition.object);
            let said = self.said_ms.get(&definition.object);
            let lately = said.is_some_and(|said| time.boottime_ms.saturating_sub(*said) < SAID_MS);
            if known == Some(definition) && lately {
                return (repeat, false);
            }
            if known.is_some() || self.by_object.len() < OBJECTS {
                self.by_object.insert(definition.object, definition.clone());
                self.said_ms.insert(definition.object, time.boottime_ms);
            }
        }
        (repeat, true)
    }

    fn is_due(&self, time: RecordTime) -> bool {
        let since_ms = time.boottime_ms.saturating_sub(self.repeated_boottime_ms);
        self.bytes_since >= self.every_bytes || since_ms >= self.every_ms
    }

    /// So many bytes were appended.
    pub(super) fn appended(&mut self, bytes: u64) {
        self.bytes_since = self.bytes_since.saturating_add(bytes);
    }
}
