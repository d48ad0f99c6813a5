//! What the exporters ask for, and their cursors.

use std::collections::HashMap;
use std::sync::Arc;

use extranet_proto::wire;
use rusqlite::{Connection, OptionalExtension, params};

use super::catalogue::Doing;
use super::{Position, StoreError};
use crate::export::{CheckLabels, Definitions};
use crate::state::State;

pub(super) fn cursor(
    connection: &Connection,
    target: &str,
) -> Result<Option<Position>, StoreError> {
    connection
        .query_row(
            "SELECT incarnation, sequence FROM export_cursors WHERE target = ?1",
            [target],
            |row| {
                Ok(Position {
                    incarnation: row.get::<_, i64>(0)?.cast_unsigned(),
                    sequence: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            },
        )
        .optional()
        .doing("reading an export cursor")
}

pub(super) fn set_cursor(
    connection: &Connection,
    target: &str,
    position: Position,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO export_cursors (target, incarnation, sequence) VALUES (?1, ?2, ?3)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                target,
                position.incarnation.cast_signed(),
                position.sequence.cast_signed()
            ])
        })
        .doing("storing an export cursor")?;
    Ok(())
}

pub(super) fn check_labels(
    connection: &Connection,
    agent: &str,
    check: u32,
) -> Result<Option<CheckLabels>, StoreError> {
    connection
        .prepare_cached(
            "SELECT ap_id, name, family, instance, vrf, vantage FROM checks WHERE agent_id = ?1 AND check_id = ?2",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![agent, check], |row| {
                    Ok(CheckLabels {
                        ap_id: row.get(0)?,
                        check: row.get(1)?,
                        family: row.get::<_, i64>(2)?.to_string(),
                        instance: row.get(3)?,
                        vrf: row.get(4)?,
                        vantage: row.get(5)?,
                    })
                })
                .optional()
        })
        .doing("reading the labels of a check")
}

pub(super) fn definitions(
    connection: &Connection,
    agent: &str,
    incarnation: u64,
) -> Result<Definitions, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT object, from_sequence, labels FROM definitions WHERE agent_id = ?1 AND incarnation = ?2 \
             ORDER BY object, from_sequence",
        )
        .doing("reading definitions")?;
    let rows = statement
        .query_map(params![agent, incarnation.cast_signed()], |row| {
            Ok((
                row.get::<_, u32>(0)?,
                row.get::<_, i64>(1)?.cast_unsigned(),
                row.get::<_, String>(2)?,
            ))
        })
        .doing("reading definitions")?;
    let mut all: Definitions = HashMap::new();
    for row in rows {
        let (object, from, json) = row.doing("reading definitions")?;
        let labels: Vec<(String, String)> =
            serde_json::from_str(&json).map_err(|_| StoreError::Damaged { what: "definition" })?;
        all.entry(object)
            .or_default()
            .push((from, Arc::from(labels)));
    }
    Ok(all)
}

pub(super) fn states_at(
    connection: &Connection,
    wall_us: i64,
) -> Result<Vec<(wire::AccessPointRow, State)>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT a.ap_id, a.name, a.level, a.parent, a.medium, a.monitoring, a.division_code, \
             (SELECT state FROM state_known k WHERE k.ap_id = a.ap_id AND k.wall_us <= ?1 \
             ORDER BY k.wall_us DESC LIMIT 1) FROM access_points a \
             WHERE a.valid_from_us <= ?1 AND (a.valid_to_us IS NULL OR a.valid_to_us > ?1)",
        )
        .doing("reading states")?;
    let rows = statement
        .query_map([wall_us], |row| {
            let ap = wire::AccessPointRow {
                ap_id: row.get(0)?,
                name: row.get(1)?,
                level: row.get(2)?,
                parent: row.get(3)?,
                medium: row.get(4)?,
                monitoring: row.get(5)?,
                division_code: row.get(6)?,
                ..Default::default()
            };
            let state: Option<u8> = row.get(7)?;
            let state = state
                .and_then(State::from_number)
                .unwrap_or(State::NotInService);
            Ok((ap, state))
        })
        .doing("reading states")?;
    rows.collect::<Result<_, _>>().doing("reading states")
}
