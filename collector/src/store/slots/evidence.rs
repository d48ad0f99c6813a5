//! Evidence by slot: from results to probes, and where it is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use extranet_proto::metric::{ICMP_RECEIVED, ICMP_SENT, Metric};
use extranet_proto::record::{CheckResult, Outcome};
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::PROBES_PER_CONNECTION;
use crate::plan::compile::INBOUND;
use crate::state::{Evidence, Probes, Slot};
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// What the results of a check say about availability.
#[derive(Debug, Clone)]
pub(super) struct Role {
    /// About which access point.
    pub(super) ap_id: String,
    kind: String,
    probe: String,
    instance: String,
}

impl Role {
    pub(super) fn load(
        connection: &Connection,
        agent: &str,
        check: u32,
    ) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached(
                "SELECT ap_id, role, probe, instance FROM checks WHERE agent_id = ?1 AND check_id = ?2",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![agent, check], |row| {
                        Ok(Self {
                            ap_id: row.get(0)?,
                            kind: row.get(1)?,
                            probe: row.get(2)?,
                            instance: row.get(3)?,
                        })
                    })
                    .optional()
            })
            .doing("reading the role of a check")
    }

    /// The evidence in a result; `None` when it says nothing about availability.
    pub(super) fn evidence(&self, agent: &str, result: &CheckResult) -> Option<Evidence> {
        let probes = probes(&self.probe, result)?;
        let mut evidence = Evidence::default();
        match self.kind.as_str() {
            "anchor" => {
                evidence.anchors.insert(self.instance.clone(), probes);
            }
            "gateway" => evidence.gateway = Some(probes),
            INBOUND => {
                evidence.inbound.insert(agent.to_owned(), probes);
            }
            _ => return None,
        }
        Some(evidence)
    }
}

fn probes(probe: &str, result: &CheckResult) -> Option<Probes> {
    let value = |metric: Metric| {
        let found = result
            .values
            .iter()
            .find(|value| value.metric == metric && value.object.0 == 0);
        found.map(|value| u32::try_from(value.raw).unwrap_or(u32::MAX))
    };
    let failed = Probes {
        answered: 0,
        ..PROBES_PER_CONNECTION
    };
    match (result.outcome, probe) {
        // A device that answers pings may have another community: only an answer says something.
        (Outcome::NotMeasured, _) | (Outcome::Failed, "snmp") => None,
        (_, "icmp") => match (value(ICMP_SENT), value(ICMP_RECEIVED)) {
            (Some(sent), Some(answered)) if sent > 0 => Some(Probes { sent, answered }),
            // Nothing could be sent: no route, no address.
            _ => (result.outcome == Outcome::Failed).then_some(failed),
        },
        (Outcome::Ok, _) => Some(PROBES_PER_CONNECTION),
        (Outcome::Failed, _) => Some(failed),
    }
}

/// Evidence of the slots that the group of records in hand touches.
#[derive(Default)]
pub(super) struct EvidenceCache {
    slots: HashMap<(String, Slot), (Evidence, bool)>,
}

impl EvidenceCache {
    pub(super) fn get(
        &mut self,
        connection: &Connection,
        ap_id: &str,
        slot: Slot,
    ) -> Result<&Evidence, StoreError> {
        let key = (ap_id.to_owned(), slot);
        if !self.slots.contains_key(&key) {
            let evidence = stored(connection, ap_id, slot)?;
            self.slots.insert(key.clone(), (evidence, false));
        }
        Ok(self
            .slots
            .get(&key)
            .map(|(evidence, _)| evidence)
            .expect("was just inserted"))
    }

    pub(super) fn set(&mut self, ap_id: &str, slot: Slot, evidence: Evidence) {
        self.slots
            .insert((ap_id.to_owned(), slot), (evidence, true));
    }

    /// Writes what changed and forgets everything. `owes_own_probes` tells access points with agents from others.
    pub(super) fn flush(
        &mut self,
        transaction: &Transaction<'_>,
        owes_own_probes: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        for ((ap_id, slot), (evidence, changed)) in self.slots.drain() {
            if !changed {
                continue;
            }
            let settled = evidence.is_settled_good(owes_own_probes(&ap_id));
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO slot_evidence (ap_id, slot, evidence, settled) VALUES (?1, ?2, ?3, ?4)",
                )
                .and_then(|mut statement| {
                    statement.execute(params![ap_id, slot, evidence.encode_to_vec(), settled])
                })
                .doing("storing evidence")?;
        }
        Ok(())
    }
}

pub(super) fn stored(
    connection: &Connection,
    ap_id: &str,
    slot: Slot,
) -> Result<Evidence, StoreError> {
    let bytes: Option<Vec<u8>> = connection
        .prepare_cached("SELECT evidence FROM slot_evidence WHERE ap_id = ?1 AND slot = ?2")
        .and_then(|mut statement| {
            statement
                .query_row(params![ap_id, slot], |row| row.get(0))
                .optional()
        })
        .doing("reading evidence")?;
    decode(bytes.as_deref().unwrap_or_default())
}

fn decode(bytes: &[u8]) -> Result<Evidence, StoreError> {
    Evidence::decode(bytes).map_err(|_| StoreError::Damaged { what: "evidence" })
}

/// Evidence of all access points in a range of slots.
pub(super) fn in_range(
    connection: &Connection,
    from: Slot,
    to_exclusive: Slot,
) -> Result<BTreeMap<String, BTreeMap<Slot, Evidence>>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT ap_id, slot, evidence FROM slot_evidence WHERE slot >= ?1 AND slot < ?2",
        )
        .doing("reading evidence")?;
    let rows = statement
        .query_map(params![from, to_exclusive], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get(1)?,
                row.get::<_, Vec<u8>>(2)?,
            ))
        })
        .doing("reading evidence")?;
    let mut all: BTreeMap<String, BTreeMap<Slot, Evidence>> = BTreeMap::new();
    for row in rows {
        let (ap_id, slot, bytes) = row.doing("reading evidence")?;
        all.entry(ap_id).or_default().insert(slot, decode(&bytes)?);
    }
    Ok(all)
}

/// Evidence of one access point in a range of slots.
pub(super) fn of(
    connection: &Connection,
    ap_id: &str,
    from: Slot,
    to_exclusive: Slot,
) -> Result<BTreeMap<Slot, Evidence>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT slot, evidence FROM slot_evidence WHERE ap_id = ?1 AND slot >= ?2 AND slot < ?3",
        )
        .doing("reading evidence")?;
    let rows = statement
        .query_map(params![ap_id, from, to_exclusive], |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .doing("reading evidence")?;
    let mut all = BTreeMap::new();
    for row in rows {
        let (slot, bytes) = row.doing("reading evidence")?;
        all.insert(slot, decode(&bytes)?);
    }
    Ok(all)
}

/// Access points that agents of `ap_id` look at from outside.
pub(super) fn seen_from(connection: &Connection, ap_id: &str) -> Result<Vec<String>, StoreError> {
    connection
        .prepare_cached(
            "SELECT DISTINCT c.ap_id FROM checks c JOIN agents a USING (agent_id) \
             WHERE a.ap_id = ?1 AND c.role = 'inbound'",
        )
        .and_then(|mut statement| statement.query_map([ap_id], |row| row.get(0))?.collect())
        .doing("reading what a vantage sees")
}

/// How many agents look at an access point from outside now.
pub(super) fn probers(connection: &Connection, ap_id: &str) -> Result<usize, StoreError> {
    let count: i64 = connection
        .prepare_cached(
            "SELECT count(DISTINCT agent_id) FROM checks WHERE ap_id = ?1 AND role = 'inbound' AND active = 1",
        )
        .and_then(|mut statement| statement.query_row([ap_id], |row| row.get(0)))
        .doing("counting probers")?;
    Ok(usize::try_from(count).unwrap_or_default())
}

pub(super) fn stored_dirty(
    connection: &Connection,
) -> Result<BTreeMap<String, BTreeSet<Slot>>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT ap_id, slot FROM slot_dirty")
        .doing("reading dirty slots")?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .doing("reading dirty slots")?;
    let mut dirty: BTreeMap<String, BTreeSet<Slot>> = BTreeMap::new();
    for row in rows {
        let (ap_id, slot) = row.doing("reading dirty slots")?;
        dirty.entry(ap_id).or_default().insert(slot);
    }
    Ok(dirty)
}

pub(super) fn store_dirty(
    transaction: &Transaction<'_>,
    dirty: &BTreeMap<String, BTreeSet<Slot>>,
) -> Result<(), StoreError> {
    let write = || -> Result<(), rusqlite::Error> {
        transaction
            .prepare_cached("DELETE FROM slot_dirty")?
            .execute([])?;
        let mut insert =
            transaction.prepare_cached("INSERT INTO slot_dirty (ap_id, slot) VALUES (?1, ?2)")?;
        for (ap_id, slots) in dirty {
            for slot in slots {
                insert.execute(params![ap_id, slot])?;
            }
        }
        Ok(())
    };
    write().doing("storing dirty slots")
}
