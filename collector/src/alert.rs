//! Alerts.

pub(crate) mod life;

use extranet_proto::wire;
use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// Open alerts, and those closed that nobody was told of yet.
pub(crate) fn status(
    connection: &Connection,
    ap_id: &str,
) -> Result<Vec<wire::AlertStatus>, StoreError> {
    let read = || -> Result<Vec<wire::AlertStatus>, rusqlite::Error> {
        connection
            .prepare_cached(
                "SELECT name, ap_id, severity, starts_ms FROM alerts \
                 WHERE closed_us IS NULL AND (?1 = '' OR ap_id = ?1) ORDER BY alert_id",
            )?
            .query_map([ap_id], |row| {
                Ok(wire::AlertStatus {
                    name: row.get(0)?,
                    ap_id: row.get(1)?,
                    severity: row.get(2)?,
                    state: "firing".to_owned(),
                    since_wall_us: row.get::<_, i64>(3)? * 1_000,
                    ..Default::default()
                })
            })?
            .collect()
    };
    read().doing("reading alerts")
}
