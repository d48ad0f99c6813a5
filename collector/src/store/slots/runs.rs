//! Runs and intervals in the database.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::Head;
use crate::state::{Cause, Interval, Run, Signal, Slot, State};
use crate::store::StoreError;
use crate::store::catalogue::Doing;

fn run(row: &Row<'_>) -> Result<Run, rusqlite::Error> {
    Ok(Run {
        from: row.get(0)?,
        signal: Signal::from_number(row.get(1)?),
    })
}

fn interval(row: &Row<'_>) -> Result<Interval, rusqlite::Error> {
    Ok(Interval {
        from: row.get(0)?,
        state: State::from_number(row.get(1)?).unwrap_or(State::Unknown),
        firm_up: row.get(2)?,
        cause: Cause::from_number(row.get(3)?),
    })
}

/// Start of the run that holds a slot.
pub(super) fn start_of(
    connection: &Connection,
    ap_id: &str,
    slot: Slot,
) -> Result<Option<Slot>, StoreError> {
    connection
        .prepare_cached(
            "SELECT max(from_inclusive) FROM slot_runs WHERE ap_id = ?1 AND from_inclusive <= ?2",
        )
        .and_then(|mut statement| statement.query_row(params![ap_id, slot], |row| row.get(0)))
        .doing("finding a run")
}

/// Whether a slot was judged good.
pub(super) fn is_good(
    connection: &Connection,
    ap_id: &str,
    slot: Slot,
) -> Result<bool, StoreError> {
    let found: Option<u8> = connection
        .prepare_cached(
            "SELECT signal FROM slot_runs WHERE ap_id = ?1 AND from_inclusive <= ?2 \
             ORDER BY from_inclusive DESC LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![ap_id, slot], |row| row.get(0))
                .optional()
        })
        .doing("finding a run")?;
    Ok(found == Some(Signal::Good.number()))
}

/// Runs from a slot on.
pub(super) fn runs_from(
    connection: &Connection,
    ap_id: &str,
    from: Slot,
) -> Result<Vec<Run>, StoreError> {
    connection
        .prepare_cached(
            "SELECT from_inclusive, signal FROM slot_runs WHERE ap_id = ?1 AND from_inclusive >= ?2 \
             ORDER BY from_inclusive",
        )
        .and_then(|mut statement| statement.query_map(params![ap_id, from], run)?.collect())
        .doing("reading runs")
}

/// Makes the stored runs what they should be; both lists start at the same slot.
pub(super) fn replace_runs(
    transaction: &Transaction<'_>,
    ap_id: &str,
    old: &[Run],
    new: &[Run],
) -> Result<(), StoreError> {
    let write = || -> Result<(), rusqlite::Error> {
        for run in old.iter().filter(|run| !new.contains(run)) {
            transaction
                .prepare_cached("DELETE FROM slot_runs WHERE ap_id = ?1 AND from_inclusive = ?2")?
                .execute(params![ap_id, run.from])?;
        }
        for run in new.iter().filter(|run| !old.contains(run)) {
            transaction
                .prepare_cached(
                    "INSERT INTO slot_runs (ap_id, from_inclusive, signal) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![ap_id, run.from, run.signal.number()])?;
        }
        Ok(())
    };
    write().doing("storing runs")
}

/// The interval before a slot.
pub(super) fn interval_before(
    connection: &Connection,
    ap_id: &str,
    slot: Slot,
) -> Result<Option<Interval>, StoreError> {
    connection
        .prepare_cached(
            "SELECT from_inclusive, state, firm, cause FROM state_intervals \
             WHERE ap_id = ?1 AND from_inclusive < ?2 ORDER BY from_inclusive DESC LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![ap_id, slot], interval)
                .optional()
        })
        .doing("reading an interval")
}

/// Intervals from a slot on.
pub(super) fn intervals_from(
    connection: &Connection,
    ap_id: &str,
    from: Slot,
) -> Result<Vec<Interval>, StoreError> {
    connection
        .prepare_cached(
            "SELECT from_inclusive, state, firm, cause FROM state_intervals \
             WHERE ap_id = ?1 AND from_inclusive >= ?2 ORDER BY from_inclusive",
        )
        .and_then(|mut statement| {
            statement
                .query_map(params![ap_id, from], interval)?
                .collect()
        })
        .doing("reading intervals")
}

/// Makes the stored intervals what they should be.
pub(super) fn replace_intervals(
    transaction: &Transaction<'_>,
    ap_id: &str,
    old: &[Interval],
    new: &[Interval],
) -> Result<(), StoreError> {
    let write = || -> Result<(), rusqlite::Error> {
        for interval in old.iter().filter(|interval| !new.contains(interval)) {
            transaction
                .prepare_cached(
                    "DELETE FROM state_intervals WHERE ap_id = ?1 AND from_inclusive = ?2",
                )?
                .execute(params![ap_id, interval.from])?;
        }
        for interval in new.iter().filter(|interval| !old.contains(interval)) {
            transaction
                .prepare_cached(
                    "INSERT INTO state_intervals (ap_id, from_inclusive, state, firm, cause) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    ap_id,
                    interval.from,
                    interval.state.number(),
                    interval.firm_up,
                    interval.cause.number()
                ])?;
        }
        Ok(())
    };
    write().doing("storing intervals")
}

/// Start of the first run of an access point.
pub(super) fn first(connection: &Connection, ap_id: &str) -> Result<Option<Slot>, StoreError> {
    connection
        .prepare_cached("SELECT min(from_inclusive) FROM slot_runs WHERE ap_id = ?1")
        .and_then(|mut statement| statement.query_row([ap_id], |row| row.get(0)))
        .doing("finding the first run")
}

/// The live states as they were last made known.
pub(super) fn known(connection: &Connection) -> Result<BTreeMap<String, State>, StoreError> {
    connection
        .prepare_cached("SELECT ap_id, state, max(wall_us) FROM state_known GROUP BY ap_id")
        .and_then(|mut statement| {
            let rows = statement.query_map([], |row| {
                let state = State::from_number(row.get(1)?).unwrap_or(State::Unknown);
                Ok((row.get(0)?, state))
            })?;
            rows.collect()
        })
        .doing("reading known states")
}

/// Writes down a live state as it becomes known.
pub(super) fn make_known(
    transaction: &Transaction<'_>,
    ap_id: &str,
    now_us: i64,
    state: State,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO state_known (ap_id, wall_us, state) VALUES (?1, ?2, ?3)",
        )
        .and_then(|mut statement| statement.execute(params![ap_id, now_us, state.number()]))
        .doing("storing a known state")?;
    Ok(())
}

/// Times in which the collector did not watch, that end behind `from_ms`.
pub(super) fn own_gaps(
    connection: &Connection,
    from_ms: i64,
) -> Result<Vec<(i64, i64)>, StoreError> {
    connection
        .prepare_cached("SELECT from_ms, to_ms FROM own_gaps WHERE to_ms > ?1 ORDER BY from_ms")
        .and_then(|mut statement| {
            statement
                .query_map([from_ms], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .doing("reading gaps")
}

/// The open run and interval of every access point in service.
pub(super) fn heads(connection: &Connection) -> Result<BTreeMap<String, Head>, StoreError> {
    let read = || -> Result<BTreeMap<String, Head>, rusqlite::Error> {
        connection
            .prepare_cached(
                "SELECT r.from_inclusive, r.signal, s.from_inclusive, s.state, s.firm, s.cause, r.ap_id FROM \
                 (SELECT ap_id, max(from_inclusive) AS last FROM slot_runs GROUP BY ap_id) m \
                 JOIN slot_runs r ON r.ap_id = m.ap_id AND r.from_inclusive = m.last \
                 JOIN state_intervals s ON s.ap_id = m.ap_id AND s.from_inclusive = \
                 (SELECT max(from_inclusive) FROM state_intervals WHERE ap_id = m.ap_id)",
            )?
            .query_map([], |row| {
                let head = Head {
                    run: run(row)?,
                    interval: Interval {
                        from: row.get(2)?,
                        state: State::from_number(row.get(3)?).unwrap_or(State::Unknown),
                        firm_up: row.get(4)?,
                        cause: Cause::from_number(row.get(5)?),
                    },
                };
                Ok((row.get(6)?, head))
            })?
            .collect()
    };
    read().doing("reading open runs")
}

/// Forgets everything that was judged about slots from `slot` on.
pub(super) fn forget_from(
    transaction: &Transaction<'_>,
    slot: Slot,
    now_ms: i64,
) -> Result<(), StoreError> {
    let write = || -> Result<(), rusqlite::Error> {
        transaction.execute("DELETE FROM slot_runs WHERE from_inclusive >= ?1", [slot])?;
        transaction.execute(
            "DELETE FROM state_intervals WHERE from_inclusive >= ?1",
            [slot],
        )?;
        transaction.execute("DELETE FROM slot_evidence WHERE slot > ?1", [slot])?;
        transaction.execute("DELETE FROM own_gaps WHERE from_ms >= ?1", [now_ms])?;
        transaction.execute("UPDATE own_gaps SET to_ms = ?1 WHERE to_ms > ?1", [now_ms])?;
        Ok(())
    };
    write().doing("forgetting judged slots")
}

/// The slot in which an old slot began.
pub(super) fn convert(slot: Slot, old_ms: i64, new_ms: i64) -> Slot {
    slot.saturating_mul(old_ms).div_euclid(new_ms)
}

/// The slot length was configured anew: numbers are converted, evidence of unfinished slots is dropped.
pub(super) fn convert_all(
    connection: &Connection,
    old_ms: i64,
    new_ms: i64,
) -> Result<(), StoreError> {
    let write = || -> Result<(), rusqlite::Error> {
        for table in ["slot_runs", "state_intervals"] {
            // Through negative numbers, so that no converted row meets one that is still to be converted.
            connection.execute(
                &format!(
                    "UPDATE OR REPLACE {table} SET from_inclusive = -1 - from_inclusive * ?1 / ?2"
                ),
                params![old_ms, new_ms],
            )?;
            connection.execute(
                &format!("UPDATE {table} SET from_inclusive = -1 - from_inclusive"),
                [],
            )?;
        }
        connection.execute("DELETE FROM slot_evidence", [])?;
        connection.execute("DELETE FROM slot_dirty", [])?;
        Ok(())
    };
    write().doing("converting slots")
}
