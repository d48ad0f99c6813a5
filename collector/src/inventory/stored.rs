//! Rows of the inventory in the catalogue: a change ends the validity of the old row and begins a new one.

use extranet_proto::wire;
use prost::Message;
use rusqlite::{Row, Transaction, params};

/// Columns of an access point in the order of [`access_point`].
pub(crate) const ACCESS_POINT: &str = "ap_id, name, level, parent, medium, monitoring, division_code, department, \
    zone, network_kind, uplinks, isp, contract_kbps, lon_e6, lat_e6, coord_quality, ipv4_prefix, ipv6_prefix, \
    border_county, ce_model, ce_install_date, warranty_end, contact_role, remarks";

/// Reads the columns of [`ACCESS_POINT`], which must come first.
pub(crate) fn access_point(row: &Row<'_>) -> Result<wire::AccessPointRow, rusqlite::Error> {
    Ok(wire::AccessPointRow {
        ap_id: row.get(0)?,
        name: row.get(1)?,
        level: row.get(2)?,
        parent: row.get(3)?,
        medium: row.get(4)?,
        monitoring: row.get(5)?,
        division_code: row.get(6)?,
        department: row.get(7)?,
        zone: row.get(8)?,
        network_kind: row.get(9)?,
        uplinks: row.get(10)?,
        isp: row.get(11)?,
        contract_kbps: row.get::<_, i64>(12)?.cast_unsigned(),
        lon_e6: row.get(13)?,
        lat_e6: row.get(14)?,
        coord_quality: row.get(15)?,
        ipv4_prefix: row.get(16)?,
        ipv6_prefix: row.get(17)?,
        border_county: row.get(18)?,
        ce_model: row.get(19)?,
        ce_install_date: row.get(20)?,
        warranty_end: row.get(21)?,
        contact_role: row.get(22)?,
        remarks: row.get(23)?,
    })
}

/// Columns of a target in the order of [`target`].
pub(super) const TARGET: &str = "ap_id, name, kind, address, vrf, tcp_port, snmp, service, router";

/// Reads the columns of [`TARGET`].
pub(super) fn target(row: &Row<'_>) -> Result<wire::TargetRow, rusqlite::Error> {
    let snmp: Option<Vec<u8>> = row.get(6)?;
    let service: Option<Vec<u8>> = row.get(7)?;
    let router: Option<Vec<u8>> = row.get(8)?;
    Ok(wire::TargetRow {
        ap_id: row.get(0)?,
        name: row.get(1)?,
        kind: row.get(2)?,
        address: row.get(3)?,
        vrf: row.get(4)?,
        tcp_port: row.get(5)?,
        snmp: snmp.and_then(|bytes| wire::SnmpProbe::decode(bytes.as_slice()).ok()),
        service: service.and_then(|bytes| wire::TargetService::decode(bytes.as_slice()).ok()),
        router: router.and_then(|bytes| wire::ApprovedRouter::decode(bytes.as_slice()).ok()),
    })
}

pub(super) fn store_access_point(
    transaction: &Transaction<'_>,
    now_us: i64,
    row: &wire::AccessPointRow,
) -> Result<(), rusqlite::Error> {
    transaction
        .prepare_cached(
            "UPDATE access_points SET valid_to_us = ?2 WHERE ap_id = ?1 AND valid_to_us IS NULL",
        )?
        .execute(params![row.ap_id, now_us])?;
    // OR REPLACE: a clock that was set back can bring the same microsecond again.
    transaction
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO access_points ({ACCESS_POINT}, valid_from_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, \
             ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)"
        ))?
        .execute(params![
            row.ap_id,
            row.name,
            row.level,
            row.parent,
            row.medium,
            row.monitoring,
            row.division_code,
            row.department,
            row.zone,
            row.network_kind,
            row.uplinks,
            row.isp,
            row.contract_kbps.cast_signed(),
            row.lon_e6,
            row.lat_e6,
            row.coord_quality,
            row.ipv4_prefix,
            row.ipv6_prefix,
            row.border_county,
            row.ce_model,
            row.ce_install_date,
            row.warranty_end,
            row.contact_role,
            row.remarks,
            now_us,
        ])?;
    Ok(())
}

pub(super) fn store_target(
    transaction: &Transaction<'_>,
    now_us: i64,
    row: &wire::TargetRow,
) -> Result<(), rusqlite::Error> {
    transaction
        .prepare_cached(
            "UPDATE targets SET valid_to_us = ?3 WHERE ap_id = ?1 AND name = ?2 AND valid_to_us IS NULL",
        )?
        .execute(params![row.ap_id, row.name, now_us])?;
    transaction
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO targets ({TARGET}, valid_from_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        ))?
        .execute(params![
            row.ap_id,
            row.name,
            row.kind,
            row.address,
            row.vrf,
            row.tcp_port,
            row.snmp.as_ref().map(Message::encode_to_vec),
            row.service.as_ref().map(Message::encode_to_vec),
            row.router.as_ref().map(Message::encode_to_vec),
            now_us,
        ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Inventory;
    use crate::store::catalogue::Pool;

    #[test]
    fn a_target_is_read_as_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let pool = Pool::open(&folder.path().join("catalogue")).unwrap();
        let mut connection = pool.get().unwrap();
        let bare = wire::TargetRow {
            ap_id: "centre".to_owned(),
            name: "portal".to_owned(),
            kind: "service".to_owned(),
            address: "10.0.0.80".to_owned(),
            tcp_port: 443,
            ..Default::default()
        };
        let full = wire::TargetRow {
            vrf: "vpn-gov".to_owned(),
            snmp: Some(wire::SnmpProbe {
                port: 161,
                ..Default::default()
            }),
            service: Some(wire::TargetService {
                host: "portal.example".to_owned(),
                path: "/login".to_owned(),
                tls: true,
            }),
            router: Some(wire::ApprovedRouter {
                macs: vec![vec![2, 0, 0, 0, 0, 1]],
                ..Default::default()
            }),
            ..bare.clone()
        };
        for (now_us, row) in [(1, &bare), (2, &full), (3, &bare)] {
            let transaction = connection.transaction().unwrap();
            store_target(&transaction, now_us, row).unwrap();
            transaction.commit().unwrap();
            let now = Inventory::load(&connection).unwrap();
            assert_eq!(now.target("centre", "portal"), Some(row));
        }
    }
}
