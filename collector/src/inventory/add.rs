//! `ap add`: one more router, watched from the vantages, without an agent.

use extranet_proto::id::ApId;
use extranet_proto::wire;

use super::import::{Checker, difference};
use super::villages::Register;
use super::{CENTRE_AP, Inventory};
use crate::store::Planned;

/// Name of the target that `ap add` makes.
const ROUTER: &str = "router";

/// Checks the request and says what it would change. The name becomes the access point's id where it can be one
/// (ASCII letters, digits, '-', '_', '.'); otherwise the id is made from the address.
pub fn plan(now: &Inventory, request: &wire::AddAccessPointRequest) -> Planned {
    let or = |text: &str, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text.to_owned()
        }
    };
    let ap_id = if ApId::new(request.name.as_str()).is_ok() {
        request.name.clone()
    } else {
        id_of_address(&request.address)
    };
    let known = now.access_point(&ap_id);
    let level = or(&request.level, known.map_or("village", |ap| &ap.level));
    let row = wire::AccessPointRow {
        name: request.name.clone(),
        level,
        parent: or(&request.parent, known.map_or(CENTRE_AP, |ap| &ap.parent)),
        medium: or(&request.medium, known.map_or("other", |ap| &ap.medium)),
        monitoring: known.map_or_else(|| "remote".to_owned(), |ap| ap.monitoring.clone()),
        ap_id: ap_id.clone(),
        ..known.cloned().unwrap_or_default()
    };
    let target = wire::TargetRow {
        ap_id,
        name: ROUTER.to_owned(),
        kind: "router".to_owned(),
        address: request.address.clone(),
        vrf: String::new(),
        tcp_port: 0,
        snmp: request.snmp.clone(),
        service: None,
        router: None,
    };
    let mut checker = Checker::new(now);
    checker.access_point("ap add", row);
    checker.target("ap add", target);
    difference(now, &Register::default(), checker, &request.actor)
}

/// `10.1.2.3` becomes `ap-10.1.2.3`, `fd00::1` becomes `ap-fd00--1`.
fn id_of_address(address: &str) -> String {
    let text: String = address
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    format!("ap-{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, address: &str) -> wire::AddAccessPointRequest {
        wire::AddAccessPointRequest {
            name: name.to_owned(),
            address: address.to_owned(),
            actor: "test".to_owned(),
            ..Default::default()
        }
    }

    fn centre() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.insert_access_point(wire::AccessPointRow {
            ap_id: CENTRE_AP.to_owned(),
            name: "centre".to_owned(),
            level: "region".to_owned(),
            medium: "fibre".to_owned(),
            monitoring: "agent".to_owned(),
            ..Default::default()
        });
        inventory
    }

    #[test]
    fn a_router_becomes_a_remote_access_point_below_the_centre() {
        let mut inventory = centre();
        let planned = plan(&inventory, &request("router-9", "10.9.0.1"));
        assert!(
            planned.reply.problems.is_empty(),
            "{:?}",
            planned.reply.problems
        );
        assert_eq!(planned.reply.added, 2);
        let record = planned.record.expect("something to add");
        let ap = &record.access_points[0];
        assert_eq!(
            (
                ap.ap_id.as_str(),
                ap.parent.as_str(),
                ap.monitoring.as_str()
            ),
            ("router-9", "centre", "remote")
        );
        inventory.apply(&record);
        let again = plan(&inventory, &request("router-9", "10.9.0.1"));
        assert_eq!((again.reply.unchanged, again.record.is_none()), (2, true));
    }

    #[test]
    fn a_chinese_name_gets_an_id_from_the_address() {
        let planned = plan(&centre(), &request("阿朗乡路由器", "fd00::9"));
        let record = planned.record.expect("something to add");
        assert_eq!(record.access_points[0].ap_id, "ap-fd00--9");
        assert_eq!(record.access_points[0].name, "阿朗乡路由器");
    }

    #[test]
    fn a_bad_address_level_or_parent_is_refused() {
        let bad = wire::AddAccessPointRequest {
            level: "hamlet".to_owned(),
            parent: "nowhere".to_owned(),
            ..request("x", "not an address")
        };
        let planned = plan(&centre(), &bad);
        assert!(planned.record.is_none());
        let problems = planned.reply.problems.join("\n");
        for word in ["hamlet", "nowhere", "address"] {
            assert!(problems.contains(word), "{problems}");
        }
    }
}
