//! Batches: which records the log holds, what the latest results say, what agents discovered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use extranet_proto::block;
use extranet_proto::id::{AgentId, Incarnation};
use extranet_proto::metric::{IF_HC_IN_OCTETS, IF_HC_OUT_OCTETS, IF_OPER_STATUS, TLS_CHAIN_INFO};
use extranet_proto::ranges::RangeSet;
use extranet_proto::record::{
    Body, CheckResult, Definition, EventKind, ObjectKind, Record, SecurityEvent, Value,
};
use extranet_proto::wire;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::catalogue::Doing;
use super::{StoreError, traffic};
use crate::self_stats::{Stats, count};

/// Most values kept of a latest result: what `status` may show, not what the metrics engine holds.
const SHOWN_VALUES: usize = 200;
/// Most definitions kept of one incarnation: an agent cannot fill the catalogue (guess: 40 switches with 96 ports).
const DEFINITIONS: i64 = 4_096;

/// Sequences and records of a logged batch that are new, with the time at which each was measured, ms since 1970.
/// `Err` says why the batch cannot be used.
pub(crate) fn new_records(
    batch: &wire::LoggedBatch,
) -> Result<Vec<(u64, i64, Record)>, &'static str> {
    let records = block::decode(&batch.block).map_err(|_| "undecodable_block")?;
    let mut new = RangeSet::new();
    for range in &batch.new_ranges {
        new.insert(range.from_inclusive, range.to_exclusive);
    }
    let numbered = (batch.first_sequence..).zip(records);
    Ok(numbered
        .filter(|(sequence, _)| new.contains(*sequence))
        .map(|(sequence, record)| {
            let since_boot = i64::try_from(record.time.boottime_ms).unwrap_or(i64::MAX);
            (
                sequence,
                batch.boot_to_wall_ms.saturating_add(since_boot),
                record,
            )
        })
        .collect())
}

/// What the records of a batch say, each with the time at which it was measured, ms since 1970.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) results: Vec<(i64, CheckResult)>,
    pub(super) security: Vec<(i64, SecurityEvent)>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// What a TLS server showed to a check.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Which of the results.
    pub(super) result: usize,
    /// As the agent defined it, see [`ObjectKind::TlsEndpoint`].
    pub(super) labels: Vec<(String, String)>,
}

/// Applies batches.
pub(super) struct Results {
    received: HashMap<(String, u64), RangeSet>,
    changed: HashSet<(String, u64)>,
    stats: Arc<Stats>,
}

impl Results {
    pub(super) fn load(connection: &Connection, stats: Arc<Stats>) -> Result<Self, StoreError> {
        Ok(Self {
            received: stored_ranges(connection)?,
            changed: HashSet::new(),
            stats,
        })
    }

    /// Applies a batch and returns what is new in it.
    pub(super) fn batch(
        &mut self,
        transaction: &Transaction<'_>,
        batch: &wire::LoggedBatch,
    ) -> Result<News, StoreError> {
        let key = (batch.agent_id.clone(), batch.incarnation);
        let held = self.received.entry(key.clone()).or_default();
        for range in &batch.new_ranges {
            held.insert(range.from_inclusive, range.to_exclusive);
        }
        self.changed.insert(key);
        let records = match new_records(batch) {
            Ok(records) => records,
            Err(reason) => {
                count(&self.stats.store_skipped, reason);
                return Ok(News::default());
            }
        };
        let mut news = News {
            results: Vec::with_capacity(records.len()),
            ..News::default()
        };
        let mut newest: Option<i64> = None;
        for (sequence, wall_ms, record) in records {
            match record.body {
                Body::Result(result) => {
                    latest(transaction, batch, wall_ms, &result)?;
                    newest = newest.max(Some(wall_ms));
                    if let Some(labels) = endpoint(transaction, batch, sequence, &result)? {
                        let result = news.results.len();
                        news.endpoints.push(Endpoint { result, labels });
                    }
                    traffic::result(transaction, batch, wall_ms, &result)?;
                    news.results.push((wall_ms, result));
                }
                Body::Definition(definition) => {
                    if !define(transaction, batch, sequence, &definition)? {
                        count(&self.stats.store_skipped, "too_many_definitions");
                    }
                    traffic::defined(transaction, batch, &definition)?;
                }
                Body::Dropped(dropped) => {
                    transaction
                        .prepare_cached(
                            "INSERT OR IGNORE INTO dropped (agent_id, incarnation, from_inclusive, to_exclusive, \
                             reason) VALUES (?1, ?2, ?3, ?4, ?5)",
                        )
                        .and_then(|mut statement| {
                            statement.execute(params![
                                batch.agent_id,
                                dropped.incarnation.0.cast_signed(),
                                dropped.from_inclusive.cast_signed(),
                                dropped.to_exclusive.cast_signed(),
                                dropped.reason.number()
                            ])
                        })
                        .doing("storing a dropped range")?;
                }
                Body::Event(event) if event.kind == EventKind::Trap => {
                    traffic::notification(transaction, batch, sequence, wall_ms, &event)?;
                }
                Body::Event(event) => tracing::info!(
                    agent = batch.agent_id,
                    event = event.kind.label(),
                    value = event.value,
                    text = event.text,
                    "an agent reports"
                ),
                Body::Security(event) => news.security.push((wall_ms, event)),
                Body::Unknown { .. } => count(&self.stats.store_skipped, "unknown_record_kind"),
            }
        }
        if newest.is_some() {
            transaction
                .prepare_cached(
                    "UPDATE agents SET last_result_ms = max(coalesce(last_result_ms, ?2), ?2) WHERE agent_id = ?1",
                )
                .and_then(|mut statement| statement.execute(params![batch.agent_id, newest]))
                .doing("storing the time of the last result")?;
        }
        Ok(news)
    }

    /// Writes the range sets that the group changed.
    pub(super) fn finish(&mut self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        for key in self.changed.drain() {
            let Some(ranges) = self.received.get(&key) else {
                continue;
            };
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO received (agent_id, incarnation, ranges) VALUES (?1, ?2, ?3)",
                )
                .and_then(|mut statement| {
                    statement.execute(params![key.0, key.1.cast_signed(), ranges.encode()])
                })
                .doing("storing received ranges")?;
        }
        Ok(())
    }
}

fn stored_ranges(connection: &Connection) -> Result<HashMap<(String, u64), RangeSet>, StoreError> {
    let mut statement = connection
        .prepare("SELECT agent_id, incarnation, ranges FROM received")
        .doing("reading received ranges")?;
    let rows = statement
        .query_map([], |row| {
            Ok((
                (row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()),
                row.get::<_, Vec<u8>>(2)?,
            ))
        })
        .doing("reading received ranges")?;
    let mut all = HashMap::new();
    for row in rows {
        let (key, bytes) = row.doing("reading received ranges")?;
        let ranges = RangeSet::decode(&bytes).map_err(|_| StoreError::Damaged {
            what: "received ranges",
        })?;
        all.insert(key, ranges);
    }
    Ok(all)
}

pub(super) fn received(
    connection: &Connection,
) -> Result<HashMap<(AgentId, Incarnation), RangeSet>, StoreError> {
    stored_ranges(connection)?
        .into_iter()
        .map(|((agent, incarnation), ranges)| {
            let agent =
                AgentId::new(agent).map_err(|_| StoreError::Damaged { what: "agent id" })?;
            Ok(((agent, Incarnation(incarnation)), ranges))
        })
        .collect()
}

/// What a TLS server showed, when a result is about one and what it showed is defined already. An agent defines it in
/// front of the first result that shows it, so a change is never without.
fn endpoint(
    connection: &Connection,
    batch: &wire::LoggedBatch,
    sequence: u64,
    result: &CheckResult,
) -> Result<Option<Vec<(String, String)>>, StoreError> {
    let mut values = result.values.iter();
    let Some(shown) = values.find(|value| value.metric == TLS_CHAIN_INFO) else {
        return Ok(None);
    };
    let labels: Option<String> = connection
        .prepare_cached(
            "SELECT labels FROM definitions WHERE agent_id = ?1 AND incarnation = ?2 AND object = ?3 AND kind = ?5 \
             ORDER BY from_sequence <= ?4 DESC, abs(from_sequence - ?4) LIMIT 1",
        )
        .and_then(|mut statement| {
            let key = params![
                batch.agent_id,
                batch.incarnation.cast_signed(),
                shown.object.0,
                sequence.cast_signed(),
                ObjectKind::TlsEndpoint.number()
            ];
            statement.query_row(key, |row| row.get(0)).optional()
        })
        .doing("reading a definition")?;
    labels
        .map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|_| StoreError::Damaged { what: "definition" })
}

/// Keeps the newest result of each check: by the time it was measured, whatever the order of arrival.
fn latest(
    transaction: &Transaction<'_>,
    batch: &wire::LoggedBatch,
    wall_ms: i64,
    result: &CheckResult,
) -> Result<(), StoreError> {
    let worth = |value: &&Value| {
        value.object.0 == 0
            || matches!(
                value.metric,
                IF_OPER_STATUS | IF_HC_IN_OCTETS | IF_HC_OUT_OCTETS
            )
    };
    let mut shown = Vec::new();
    for value in result.values.iter().filter(worth).take(SHOWN_VALUES) {
        shown.extend_from_slice(&value.metric.0.to_le_bytes());
        shown.extend_from_slice(&value.object.0.to_le_bytes());
        shown.extend_from_slice(&value.raw.to_le_bytes());
    }
    transaction
        .prepare_cached(
            "INSERT INTO latest (agent_id, check_id, wall_ms, incarnation, outcome, reason, duration_us, shown) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (agent_id, check_id) DO UPDATE SET wall_ms = ?3, \
             incarnation = ?4, outcome = ?5, reason = ?6, duration_us = ?7, shown = ?8 WHERE wall_ms < ?3",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                batch.agent_id,
                result.check.0,
                wall_ms,
                batch.incarnation.cast_signed(),
                result.outcome.number(),
                result.reason.number(),
                result.duration_us.cast_signed(),
                shown
            ])
        })
        .doing("storing a latest result")?;
    Ok(())
}

/// Stores a definition for the records from `sequence` on; `false` when the agent has too many. Definitions are
/// repeated and may arrive in any order, so each stored one remembers up to where it was seen to hold.
fn define(
    transaction: &Transaction<'_>,
    batch: &wire::LoggedBatch,
    sequence: u64,
    definition: &Definition,
) -> Result<bool, StoreError> {
    let labels = serde_json::to_string(&definition.labels).expect("texts are always JSON");
    let (agent, incarnation) = (&batch.agent_id, batch.incarnation.cast_signed());
    let (object, sequence) = (definition.object.0, sequence.cast_signed());
    let before: Option<(i64, i64, String)> = transaction
        .prepare_cached(
            "SELECT from_sequence, last_sequence, labels FROM definitions WHERE agent_id = ?1 AND incarnation = ?2 \
             AND object = ?3 AND from_sequence <= ?4 ORDER BY from_sequence DESC LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![agent, incarnation, object, sequence], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()
        })
        .doing("reading a definition")?;
    let insert = |from: i64, labels: &str| {
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO definitions (agent_id, incarnation, object, from_sequence, last_sequence, \
                 check_id, kind, labels) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    agent,
                    incarnation,
                    object,
                    from,
                    definition.check.0,
                    definition.kind.number(),
                    labels
                ])
            })
            .doing("storing a definition")
    };
    match before {
        Some((from, last, known)) if known == labels => {
            if sequence > last {
                transaction
                    .prepare_cached(
                        "UPDATE definitions SET last_sequence = ?5 WHERE agent_id = ?1 AND incarnation = ?2 \
                         AND object = ?3 AND from_sequence = ?4",
                    )
                    .and_then(|mut statement| {
                        statement.execute(params![agent, incarnation, object, from, sequence])
                    })
                    .doing("extending a definition")?;
            }
            return Ok(true);
        }
        // The old labels were seen again behind this record: they hold again from there.
        Some((_, last, known)) if last > sequence => {
            insert(last, &known)?;
        }
        _ => {}
    }
    let stored: i64 = transaction
        .prepare_cached("SELECT count(*) FROM definitions WHERE agent_id = ?1 AND incarnation = ?2")
        .and_then(|mut statement| {
            statement.query_row(params![agent, incarnation], |row| row.get(0))
        })
        .doing("counting definitions")?;
    if stored >= DEFINITIONS {
        return Ok(false);
    }
    insert(sequence, &labels)?;
    Ok(true)
}
