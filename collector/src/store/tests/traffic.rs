//! Uplinks and notifications: the same rows whatever the order of arrival.

use extranet_proto::metric::{IF_IN_RATE, IF_OUT_RATE, IF_RATE_SPAN};
use extranet_proto::record::{AgentEvent, EventKind};

use super::*;
use crate::sketch::Sketch;

/// The check of the village's router by the village's own agent.
fn router_check(log: &Log) -> u32 {
    let (_folder, store) = whole(log);
    let connection = store.read().unwrap();
    connection
        .query_row(
            "SELECT check_id FROM checks WHERE agent_id = 'v1' AND name = 'router-snmp'",
            [],
            |row| row.get(0),
        )
        .unwrap()
}

fn at(wall_ms: i64, body: Body) -> Record {
    Record {
        time: RecordTime {
            // What the batch's estimate of the boot makes a time of.
            boottime_ms: u64::try_from(wall_ms - BEGIN / 1_000).unwrap_or(0),
            wall_ms,
        },
        body,
    }
}

fn interface(check: u32, object: u32, alias: &str) -> Record {
    let labels = [
        ("ifIndex", "1"),
        ("ifName", "ge0"),
        ("ifDescr", ""),
        ("ifAlias", alias),
    ];
    let definition = Definition {
        object: ObjectId(object),
        check: CheckId(check),
        kind: ObjectKind::Interface,
        labels: labels
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .to_vec(),
    };
    at(0, Body::Definition(definition))
}

fn rates(check: u32, wall_ms: i64, object: u32, inward: u64, outward: u64) -> Record {
    let value = |metric, raw| Value {
        metric,
        object: ObjectId(object),
        raw,
    };
    let result = CheckResult {
        assignment: AssignmentVersion(1),
        check: CheckId(check),
        outcome: Outcome::Ok,
        reason: Reason::None,
        duration_us: 1,
        values: vec![
            value(IF_IN_RATE, inward),
            value(IF_OUT_RATE, outward),
            value(IF_RATE_SPAN, 300_000),
        ],
    };
    at(wall_ms, Body::Result(result))
}

fn rows(store: &Store, table: &str) -> Vec<String> {
    let of_table = |line: &String| line.starts_with(table);
    dump(store).into_iter().filter(of_table).collect()
}

#[test]
fn an_uplink_is_summed_by_days_in_any_order() {
    let begin_ms = BEGIN / 1_000;
    let check = router_check(&network());
    let records = [
        interface(check, 3, "to the county, UPLINK"),
        interface(check, 4, "office"),
        rates(check, begin_ms, 3, 8_000_000, 2_000_000),
        rates(check, begin_ms + 300_000, 3, 4_000_000, 1_000_000),
        rates(check, begin_ms, 4, 999, 999),
        rates(check, begin_ms + 86_400_000, 3, 1, 1),
    ];
    let in_order = |order: &[usize]| {
        let (log, mut agents) = (network(), Agents::default());
        // Each record in a batch of its own, so that results come before definitions too.
        for index in order {
            log.push(
                BEGIN + MINUTE,
                agents.batch("v1", &records[*index..=*index]),
            );
        }
        let (_folder, store) = whole(&log);
        assert_eq!(rows(&store, "traffic_waiting"), Vec::<String>::new());
        rows(&store, "traffic_days")
    };
    let first = in_order(&[0, 1, 2, 3, 4, 5]);
    assert_eq!(first.len(), 2, "two days of one uplink: {first:?}");
    let name = format!("{:?}", rusqlite::types::ValueRef::Text(b"ge0"));
    assert!(first[0].contains(&name), "{first:?}");
    for order in [[5, 4, 3, 2, 1, 0], [2, 0, 3, 5, 4, 1], [4, 2, 1, 3, 0, 5]] {
        assert_eq!(in_order(&order), first, "{order:?}");
    }
    let mut sketch = Sketch::default();
    sketch.add(8_000_000, 1);
    sketch.add(4_000_000, 1);
    let expected = format!("{:?}", rusqlite::types::ValueRef::Blob(&sketch.encode()));
    assert!(first[0].contains(&expected), "{} / {expected}", first[0]);
    // 8 and 4 Mbit/s for five minutes each.
    assert!(first[0].contains("Integer(450000000)"), "{}", first[0]);
}

#[test]
fn notifications_are_kept_and_shown() {
    let (log, mut agents) = (network(), Agents::default());
    let text = "source=10.3.0.1 trap=linkDown ifIndex=3";
    let event = AgentEvent {
        kind: EventKind::Trap,
        value: 2,
        text: text.to_owned(),
    };
    log.push(
        BEGIN,
        agents.batch("v1", &[at(BEGIN / 1_000, Body::Event(event))]),
    );
    let (_folder, store) = whole(&log);
    let request = wire::StatusRequest {
        ap_id: "village".to_owned(),
        measurements: 0,
    };
    let reply = store.status(&request).unwrap();
    let told = &reply.access_points[0].notifications;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].text.as_str(), told[0].many), (text, 2));
}
