//! SNMP secrets: in what agents get, and nowhere on the disk of the collector.

use super::*;

const SECRET: &str = "topsecret-community";

fn files(targets: &str) -> Files<'_> {
    Files {
        access_points: b"",
        targets: targets.as_bytes(),
        villages: b"",
    }
}

fn holds(bytes: &[u8]) -> bool {
    bytes
        .windows(SECRET.len())
        .any(|window| window == SECRET.as_bytes())
}

fn on_disk(folder: &Path) -> bool {
    let mut found = false;
    for entry in std::fs::read_dir(folder).unwrap() {
        found |= holds(&std::fs::read(entry.unwrap().path()).unwrap());
    }
    found
}

#[test]
fn a_community_reaches_its_agent_and_no_disk() {
    let targets = format!(
        "ap_id,name,kind,address,snmp_version,snmp_community\nvillage,ce,router,10.3.0.1,2c,{SECRET}\n"
    );
    let log = network();
    let folder = tempfile::tempdir().unwrap();
    let store = apply(folder.path(), &log, log.len(), 1_000);
    let planned = store.plan_inventory(&files(&targets), "t").unwrap();
    assert_eq!(
        (planned.reply.problems.len(), planned.reply.changed),
        (0, 1)
    );
    let record = planned.record.unwrap();
    let logged = prost::Message::encode_to_vec(&record);
    assert!(!holds(&logged), "the log is a disk too");
    log.push(BEGIN, Input::InventoryChanged(record));
    drop(store);
    let store = apply(folder.path(), &log, log.len(), 1_000);
    let agent = AgentId::new("v1").unwrap();
    let assignment = store.assignment_for(&agent).unwrap().unwrap();
    let communities: Vec<String> = assignment
        .checks
        .iter()
        .filter_map(|check| match &check.probe {
            Some(wire::check::Probe::Snmp(snmp)) => Some(snmp.credential.clone()?.community),
            _ => None,
        })
        .collect();
    assert_eq!(communities, [SECRET]);
    let again = store.plan_inventory(&files(&targets), "t").unwrap();
    assert_eq!(
        (again.reply.unchanged, again.record),
        (1, None),
        "nothing changed"
    );
    drop(store);
    assert!(!on_disk(folder.path()));
    std::fs::write(folder.path().join("leak"), SECRET).unwrap();
    assert!(on_disk(folder.path()), "the test can fail");
}
