//! The operator's register of villages: what village percentages are computed against, and where rural information
//! service stations (农村综合信息服务站) stand. A station belongs to a village, it is not an access point.

use std::collections::BTreeMap;

use extranet_proto::wire;
use rusqlite::{Connection, Transaction, params};

use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// Villages by their code of 12 digits.
pub type Register = BTreeMap<String, wire::VillageRow>;

/// The register as it was valid at a time; `i64::MAX` for now.
pub(crate) fn at(connection: &Connection, wall_us: i64) -> Result<Register, StoreError> {
    connection
        .prepare_cached(
            "SELECT code, name, rural_station FROM villages \
             WHERE valid_from_us <= ?1 AND (valid_to_us IS NULL OR valid_to_us > ?1)",
        )
        .and_then(|mut statement| {
            let rows = statement.query_map([wall_us], |row| {
                let village = wire::VillageRow {
                    code: row.get(0)?,
                    name: row.get(1)?,
                    rural_station: row.get(2)?,
                };
                Ok((village.code.clone(), village))
            })?;
            rows.collect()
        })
        .doing("reading villages")
}

/// Stores what changed.
pub(super) fn store(
    transaction: &Transaction<'_>,
    now_us: i64,
    villages: &[wire::VillageRow],
) -> Result<(), StoreError> {
    if villages.is_empty() {
        return Ok(());
    }
    let now = at(transaction, i64::MAX)?;
    let write = |row: &wire::VillageRow| -> Result<(), rusqlite::Error> {
        transaction
            .prepare_cached(
                "UPDATE villages SET valid_to_us = ?2 WHERE code = ?1 AND valid_to_us IS NULL",
            )?
            .execute(params![row.code, now_us])?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO villages (code, valid_from_us, name, rural_station) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![row.code, now_us, row.name, row.rural_station])?;
        Ok(())
    };
    for row in villages {
        if now.get(&row.code) != Some(row) {
            write(row).doing("storing a village")?;
        }
    }
    Ok(())
}
