//! What is known of the way to a target from run to run: who answers at which hop, and whether that is another way than
//! before.
//!
//! A hop that is silent says nothing: what was known of it stays. A way is another one when somebody answers at a hop at
//! which only others did before. Routers that share load packet by packet give several addresses at a hop; they are all
//! remembered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use extranet_proto::id::ObjectId;
use extranet_proto::record::{Definition, ObjectKind};

use super::flow::Fnv;
use super::walk::Row;
use crate::probe::{ObjectIds, Run};

/// Most addresses that are remembered at a hop (guess: routers share load between two or four links).
const ADDRESSES: usize = 8;
/// Most objects of a hop: an address beyond takes the place of the one that was not seen for longest.
const OBJECTS: usize = 8;

/// The way to one target, as one check sees it.
#[derive(Debug, Default)]
pub(super) struct Known {
    hops: BTreeMap<u8, Vec<IpAddr>>,
    changes: u64,
    /// The path MTU that was found last, bytes.
    pub(super) mtu: Option<u16>,
    objects: BTreeMap<u8, Vec<(ObjectId, Option<IpAddr>)>>,
}

/// Another way than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) before: String,
    pub(super) after: String,
}

impl Known {
    /// Takes in what a run saw; tells if that contradicts what was known, which is then forgotten.
    pub(super) fn see(&mut self, rows: &[Row]) -> Option<Change> {
        let seen = |row: &Row| -> Vec<IpAddr> {
            let addresses = row.responders.iter().map(|responder| responder.address);
            addresses.take(ADDRESSES).collect()
        };
        let contradicts = rows.iter().any(|row| {
            let now = seen(row);
            let before = self.hops.get(&row.hop);
            !now.is_empty()
                && before.is_some_and(|before| !now.iter().any(|address| before.contains(address)))
        });
        let before = contradicts.then(|| {
            self.changes += 1;
            let before = self.shown();
            self.hops.clear();
            before
        });
        for row in rows {
            let now = seen(row);
            if now.is_empty() {
                continue;
            }
            let known = self.hops.entry(row.hop).or_default();
            for address in now {
                if !known.contains(&address) && known.len() < ADDRESSES {
                    known.push(address);
                }
            }
        }
        before.map(|before| Change {
            before,
            after: self.shown(),
        })
    }

    /// How often the way changed.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// 48 bits, so that it is exact as the floating point number that it becomes: FNV-1a over distance and lowest
    /// address of each hop that ever answered on this way. 0 = none did.
    pub(super) fn fingerprint(&self) -> u64 {
        if self.hops.is_empty() {
            return 0;
        }
        let mut hash = Fnv::new();
        for (hop, addresses) in &self.hops {
            if let Some(lowest) = addresses.iter().min() {
                hash.add(&[*hop]);
                hash.add_address(*lowest);
            }
        }
        hash.finish() >> 16
    }

    /// "10.0.0.1 > * > 10.0.2.1|10.0.2.5"
    pub(super) fn shown(&self) -> String {
        let (Some(first), Some(last)) = (self.hops.keys().next(), self.hops.keys().next_back())
        else {
            return "*".to_owned();
        };
        let mut text = String::new();
        for hop in *first..=*last {
            if !text.is_empty() {
                text.push_str(" > ");
            }
            let Some(addresses) = self.hops.get(&hop) else {
                text.push('*');
                continue;
            };
            for (i, address) in addresses.iter().enumerate() {
                let bar = if i > 0 { "|" } else { "" };
                write!(text, "{bar}{address}").expect("writing into a string cannot fail");
            }
        }
        text
    }

    /// The object that stands for an address wherever it answers; hop 00 where that is not known.
    pub(super) fn object_at(
        &mut self,
        address: IpAddr,
        ids: &ObjectIds,
        run: &Run<'_>,
    ) -> Definition {
        let at = self.hops.iter().find(|(_, known)| known.contains(&address));
        let hop = at.map_or(0, |(hop, _)| *hop);
        self.object(hop, Some(address), ids, run)
    }

    /// The object that stands for an address at a hop, with its definition. `None` as address: nobody answers there.
    pub(super) fn object(
        &mut self,
        hop: u8,
        address: Option<IpAddr>,
        ids: &ObjectIds,
        run: &Run<'_>,
    ) -> Definition {
        let objects = self.objects.entry(hop).or_default();
        let position = objects.iter().position(|(_, known)| *known == address);
        let object = match position {
            // The one that was not seen for longest stands first.
            Some(position) => objects.remove(position).0,
            None if objects.len() < OBJECTS => ids.allocate(),
            None => objects.remove(0).0,
        };
        objects.push((object, address));
        let address = address.map_or_else(String::new, |address| address.to_string());
        Definition {
            object,
            check: run.check.id,
            kind: ObjectKind::PathHop,
            labels: vec![
                // With a zero in front names sort like numbers.
                ("hop".to_owned(), format!("{hop:02}")),
                ("address".to_owned(), address),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::path::walk::Responder;

    /// Hops as "1.5": last bytes of the addresses that answer; "" = silent.
    fn rows(hops: &[&str]) -> Vec<Row> {
        (1..)
            .zip(hops)
            .map(|(hop, text)| Row {
                hop,
                sent: 3,
                responders: text
                    .split('.')
                    .filter(|last| !last.is_empty())
                    .map(|last| Responder {
                        address: IpAddr::from([10, 0, 0, last.parse().unwrap()]),
                        received: 3,
                        round_trips: Vec::new(),
                    })
                    .collect(),
            })
            .collect()
    }

    #[test]
    fn silence_changes_nothing_and_another_router_does() {
        let mut known = Known::default();
        assert_eq!(known.fingerprint(), 0);
        // What the hops answer, changes so far, whether the fingerprint is that of the line before.
        let runs: [(&[&str], u64, bool); 9] = [
            (&["1", "2", "9"], 0, false),
            (&["1", "", "9"], 0, true),
            (&["1", "2"], 0, true),
            (&["", "", ""], 0, true),
            (&["1", "3", "9"], 1, false),
            (&["1", "3", "9"], 1, true),
            (&["1", "2", "9"], 2, false),
            // The target is nearer: somebody else answers at its old distance, or nobody, but at the new one it does.
            (&["1", "9"], 3, false),
            (&["1", "9.7"], 3, false),
        ];
        for (hops, changes, same) in runs {
            let before = known.fingerprint();
            let change = known.see(&rows(hops));
            assert_eq!(known.changes(), changes, "{hops:?}");
            assert_eq!(
                change.is_some(),
                known.changes() > 0 && !same && hops[1] != "9.7"
            );
            assert_eq!(known.fingerprint() == before, same, "{hops:?}");
        }
    }

    #[test]
    fn a_change_shows_both_ways() {
        let mut known = Known::default();
        assert_eq!(known.see(&rows(&["1", "", "2.3", "9"])), None);
        let change = known.see(&rows(&["1", "5", "6", "9"])).unwrap();
        assert_eq!(change.before, "10.0.0.1 > * > 10.0.0.2|10.0.0.3 > 10.0.0.9");
        assert_eq!(change.after, "10.0.0.1 > 10.0.0.5 > 10.0.0.6 > 10.0.0.9");
    }

    #[test]
    fn routers_that_take_turns_are_one_way() {
        let mut known = Known::default();
        for hops in ["2.3", "3", "2", "3.4", "4"] {
            assert_eq!(known.see(&rows(&["1", hops, "9"])), None, "{hops}");
        }
        assert!(known.see(&rows(&["1", "5", "9"])).is_some());
    }

    #[test]
    fn the_fingerprint_of_a_way_is_the_same_for_ever() {
        let mut known = Known::default();
        known.see(&rows(&["1", "2", "9"]));
        // Computed apart from this code; a new release must not make every path of the network "another one".
        assert_eq!(known.fingerprint(), 0xae09_1441_d4b4);
        assert!(known.fingerprint() < 1 << 48);
    }
}
