//! SEC-09 and windows as functions of the log.

use extranet_proto::id::{AssignmentVersion, CheckId, ObjectId};
use extranet_proto::metric::{
    HTTP_REDIRECTS, TLS_CHAIN_INFO, TLS_CHAIN_VALID, TLS_EARLIEST_EXPIRY, TLS_NAME_VALID,
};
use extranet_proto::record::{CheckResult, Definition, ObjectKind, Outcome, Reason, Value};

use super::*;
use crate::inventory::import::Files;
use crate::store::tests::check;

/// The village has a portal; the check of its certificate.
fn portal() -> (Bench, u32) {
    let bench = Bench::new();
    let (_folder, store) = whole(&bench.log);
    let files = Files {
        targets: b"ap_id,name,kind,address,tcp_port,tls\nvillage,portal,service,10.3.0.9,443,yes\n",
        ..Files::default()
    };
    let planned = store.plan_inventory(&files, "t").unwrap();
    let record = planned
        .record
        .unwrap_or_else(|| panic!("{:?}", planned.reply.problems));
    bench.log.push(BEGIN, Input::InventoryChanged(record));
    let (_folder, store) = whole(&bench.log);
    let id = check(&store, "v1", "service", "service-tls", "village");
    (bench, id)
}

struct Poll {
    check: u32,
    name: &'static str,
    issuer: &'static str,
    days_left: i64,
    trusted: bool,
    misnamed: bool,
    unpinned: bool,
    redirects: u64,
}

impl Poll {
    /// What the agent writes when it has looked, so many µs after the beginning.
    fn at(&self, at: i64) -> Vec<Record> {
        let time = RecordTime {
            boottime_ms: u64::try_from(at / 1_000).unwrap(),
            wall_ms: (BEGIN + at) / 1_000,
        };
        let ends = (BEGIN + self.days_left * DAY) / SECOND;
        let not_after = time::OffsetDateTime::from_unix_timestamp(ends)
            .unwrap()
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap();
        let label = |name: &str, value: String| (name.to_owned(), value);
        let value = |metric, object, raw| Value {
            metric,
            object: ObjectId(object),
            raw,
        };
        let definition = Definition {
            object: ObjectId(5),
            check: CheckId(self.check),
            kind: ObjectKind::TlsEndpoint,
            labels: vec![
                label("fingerprint_sha256", format!("certificate {}", self.name)),
                label("key_sha256", format!("key {}", self.name)),
                label("subject", "CN=portal".to_owned()),
                label("issuer", self.issuer.to_owned()),
                label("not_after", not_after),
            ],
        };
        let failed = self.misnamed || !self.trusted || self.unpinned;
        let result = CheckResult {
            assignment: AssignmentVersion(1),
            check: CheckId(self.check),
            outcome: if failed { Outcome::Failed } else { Outcome::Ok },
            reason: match (self.trusted, self.misnamed) {
                _ if self.unpinned => Reason::CertificateChanged,
                (false, _) => Reason::CertificateUntrusted,
                (true, true) => Reason::CertificateName,
                (true, false) => Reason::None,
            },
            duration_us: 1,
            values: vec![
                value(TLS_EARLIEST_EXPIRY, 0, ends.cast_unsigned()),
                value(TLS_CHAIN_VALID, 0, self.trusted.into()),
                value(TLS_NAME_VALID, 0, (!self.misnamed).into()),
                value(TLS_CHAIN_INFO, 5, 1),
                value(HTTP_REDIRECTS, 0, self.redirects),
            ],
        };
        vec![
            Record {
                time,
                body: Body::Definition(definition),
            },
            Record {
                time,
                body: Body::Result(result),
            },
        ]
    }
}

fn poll(check: u32, name: &'static str, issuer: &'static str, days_left: i64) -> Poll {
    Poll {
        check,
        name,
        issuer,
        days_left,
        trusted: true,
        misnamed: false,
        unpinned: false,
        redirects: 0,
    }
}

#[test]
fn a_certificate_that_changes_is_an_event_with_both_as_evidence() {
    let (mut bench, check) = portal();
    let (one, two) = (
        poll(check, "one", "CN=ca", 300),
        poll(check, "two", "CN=ca", 300),
    );
    bench.arrive(10 * SECOND, "v1", &one.at(10 * SECOND));
    assert_eq!(bench.events(), [], "the first one is learned");
    bench.arrive(70 * SECOND, "v1", &two.at(70 * SECOND));
    let events = bench.events();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].rule.as_str(), events[0].severity.as_str()),
        ("SEC-09", "major")
    );
    assert_eq!(events[0].object, "10.3.0.9:443 certificate");
    let evidence = |name: &str| {
        let found = events[0].evidence.iter().find(|piece| piece.name == name);
        found.map_or("", |piece| piece.value.as_str())
    };
    for (name, expected) in [
        ("change", "key"),
        ("service", "10.3.0.9:443"),
        ("check", "service-tls"),
        ("fingerprint_sha256", "certificate two"),
        ("key_sha256", "key two"),
        ("known_fingerprint_sha256", "certificate one"),
        ("known_key_sha256", "key one"),
        ("known_issuer", "CN=ca"),
        ("chain_trusted", "yes"),
    ] {
        assert_eq!(evidence(name), expected, "{name}");
    }
    // The old one is back: over, after the hold-down.
    bench.arrive(130 * SECOND, "v1", &one.at(130 * SECOND));
    bench.tick(430 * SECOND);
    assert_eq!(bench.alerts(), ["major 70 130 recovered"]);
    bench.must_replay();
}

#[test]
fn planned_renewals_open_nothing_and_a_window_may_come_afterwards() {
    let window = |from: i64, to: i64| {
        Input::SecurityWindowAdded(wire::SecurityWindowAdded {
            service: "10.3.0.9:443".to_owned(),
            from_wall_us: BEGIN + from,
            to_wall_us: BEGIN + to,
            reason: "renewal".to_owned(),
            ..Default::default()
        })
    };
    // Registered before, by the same issuer.
    let (mut bench, check) = portal();
    bench.log.push(BEGIN, window(60 * SECOND, 120 * SECOND));
    bench.arrive(
        10 * SECOND,
        "v1",
        &poll(check, "one", "CN=ca", 300).at(10 * SECOND),
    );
    let mut two = poll(check, "two", "CN=ca", 600);
    two.trusted = false;
    bench.arrive(70 * SECOND, "v1", &two.at(70 * SECOND));
    // Behind the window it is the known one.
    bench.arrive(200 * SECOND, "v1", &two.at(200 * SECOND));
    assert_eq!(bench.events(), []);
    bench.must_replay();

    // By the same issuer, shortly before the end.
    let (mut bench, check) = portal();
    let old = poll(check, "one", "CN=ca", 20);
    bench.arrive(10 * SECOND, "v1", &old.at(10 * SECOND));
    bench.arrive(
        70 * SECOND,
        "v1",
        &poll(check, "two", "CN=ca", 400).at(70 * SECOND),
    );
    bench.tick(400 * SECOND);
    let objects: Vec<String> = bench.events().into_iter().map(|e| e.object).collect();
    assert_eq!(
        objects,
        ["10.3.0.9:443 expiry"],
        "only the end of the old one, which is over"
    );
    assert_eq!(bench.alerts(), ["minor 10 70 recovered"]);

    // Registered when somebody asked; what another issuer signed stays open.
    for (issuer, expected) in [("CN=ca", "closed"), ("CN=other", "active")] {
        let (mut bench, check) = portal();
        bench.arrive(
            10 * SECOND,
            "v1",
            &poll(check, "one", "CN=ca", 300).at(10 * SECOND),
        );
        let two = poll(check, "two", issuer, 600);
        bench.arrive(70 * SECOND, "v1", &two.at(70 * SECOND));
        bench
            .log
            .push(BEGIN + 100 * SECOND, window(60 * SECOND, 120 * SECOND));
        bench.arrive(130 * SECOND, "v1", &two.at(130 * SECOND));
        let events = bench.events();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].state, expected);
        bench.must_replay();
    }
}

#[test]
fn a_window_is_for_something_that_is_watched() {
    let (bench, _) = portal();
    let (_folder, store) = whole(&bench.log);
    let ask = |ap_id: &str, service: &str, lasting: i64, reason: &str| {
        let request = wire::AddSecurityWindowRequest {
            ap_id: ap_id.to_owned(),
            service: service.to_owned(),
            from_wall_us: BEGIN,
            to_wall_us: BEGIN + lasting,
            reason: reason.to_owned(),
            actor: "t".to_owned(),
        };
        store.plan_security_window(&request).unwrap()
    };
    // By its name in the inventory, or by its address.
    for service in ["portal", "10.3.0.9:443"] {
        let window = ask("village", service, MINUTE, " renewal ").unwrap();
        assert_eq!(
            (window.service.as_str(), window.reason.as_str()),
            ("10.3.0.9:443", "renewal")
        );
    }
    assert_eq!(ask("village", "", MINUTE, "r").unwrap().service, "");
    for (ap_id, service, lasting, reason, problem) in [
        ("", "", MINUTE, "r", "which access point"),
        ("nowhere", "", MINUTE, "r", "no access point nowhere"),
        ("county", "portal", MINUTE, "r", "nobody looks at"),
        ("village", "", -1, "r", "must end after it begins"),
        ("village", "", 93 * DAY, "r", "within 92 days"),
        ("village", "", MINUTE, " ", "reason is needed"),
    ] {
        let problems = ask(ap_id, service, lasting, reason).unwrap_err();
        assert!(problems[0].contains(problem), "{problems:?}");
    }
}

#[test]
fn a_check_of_tls_speaks_for_the_service_and_a_redirect_for_nobody() {
    let (mut bench, tls) = portal();
    let (_folder, store) = whole(&bench.log);
    let files = Files {
        targets: b"ap_id,name,kind,address,tcp_port,tls,host,path\n\
            village,portal,service,10.3.0.9,443,yes,portal.x,/\n",
        ..Files::default()
    };
    let planned = store.plan_inventory(&files, "t").unwrap();
    let record = planned.record.expect("it has a page now");
    bench.log.push(BEGIN, Input::InventoryChanged(record));
    let (_folder, store) = whole(&bench.log);
    let http = check(&store, "v1", "service", "service-http", "village");
    assert_ne!(http, tls);
    let tls = check(&store, "v1", "service", "service-tls", "village");
    let at = |seconds: i64| seconds * SECOND;
    bench.arrive(at(10), "v1", &poll(tls, "one", "CN=ca", 300).at(at(10)));
    bench.arrive(at(20), "v1", &poll(http, "two", "CN=x", 300).at(at(20)));
    let mut elsewhere = poll(tls, "three", "CN=y", 300);
    elsewhere.redirects = 1;
    bench.arrive(at(30), "v1", &elsewhere.at(at(30)));
    assert_eq!(bench.events(), []);
}

#[test]
fn what_an_operator_closes_is_accepted() {
    let (mut bench, check) = portal();
    bench.arrive(
        10 * SECOND,
        "v1",
        &poll(check, "one", "CN=ca", 300).at(10 * SECOND),
    );
    let two = poll(check, "two", "CN=other", 600);
    bench.arrive(70 * SECOND, "v1", &two.at(70 * SECOND));
    let closed = wire::SecurityEventClosed {
        ap_id: "village".to_owned(),
        rule: SecurityRule::Certificate.number().into(),
        object: "10.3.0.9:443 certificate".to_owned(),
        reason: "new authority".to_owned(),
        ..Default::default()
    };
    bench
        .log
        .push(BEGIN + 80 * SECOND, Input::SecurityEventClosed(closed));
    bench.arrive(90 * SECOND, "v1", &two.at(90 * SECOND));
    assert_eq!(bench.alerts(), ["major 70 80 by_hand"]);
    assert_eq!(bench.events().len(), 1);
    bench.must_replay();
}

#[test]
fn the_end_of_a_certificate_grows_worse_step_by_step() {
    let (mut bench, check) = portal();
    let one = poll(check, "one", "CN=ca", 40);
    for day in [5, 12, 20, 30, 34, 36, 39, 41] {
        bench.arrive(day * DAY, "v1", &one.at(day * DAY));
    }
    let (day, worse) = (DAY / SECOND, "worse");
    assert_eq!(
        bench.alerts(),
        [
            format!("minor {} {} {worse}", 12 * day, 34 * day),
            format!("major {} {} {worse}", 12 * day, 39 * day),
            format!("critical {}", 12 * day),
        ]
    );
    let events = bench.events();
    let days_left = events[0]
        .evidence
        .iter()
        .find(|piece| piece.name == "days_left");
    assert_eq!(days_left.unwrap().value, "-1");
    // Nobody looks at the service any more.
    let (_folder, store) = whole(&bench.log);
    let toml = "[[plan]]\nname = 'x'\n";
    let plan = store.plan_plan(toml, "t").unwrap().0.unwrap();
    bench.log.push(BEGIN + 42 * DAY, Input::PlanChanged(plan));
    assert_eq!(bench.events()[0].close_reason, "not_monitored");
    bench.must_replay();
}

#[test]
fn a_wrong_name_is_an_event_where_names_are_verified() {
    let (mut bench, check) = portal();
    let mut one = poll(check, "one", "CN=ca", 300);
    one.misnamed = true;
    bench.arrive(10 * SECOND, "v1", &one.at(10 * SECOND));
    let events = bench.events();
    assert_eq!(events[0].object, "10.3.0.9:443 name");
    one.misnamed = false;
    bench.arrive(70 * SECOND, "v1", &one.at(70 * SECOND));
    bench.tick(370 * SECOND);
    assert_eq!(bench.alerts(), ["major 10 70 recovered"]);
}

#[test]
fn a_key_that_is_not_pinned_is_an_event_from_the_first_sight() {
    let (mut bench, check) = portal();
    let mut one = poll(check, "one", "CN=ca", 300);
    one.unpinned = true;
    bench.arrive(10 * SECOND, "v1", &one.at(10 * SECOND));
    let events = bench.events();
    assert_eq!(events[0].object, "10.3.0.9:443 certificate");
    assert_eq!(events[0].evidence[0].value, "pin");
    bench.arrive(
        70 * SECOND,
        "v1",
        &poll(check, "two", "CN=ca", 300).at(70 * SECOND),
    );
    bench.tick(370 * SECOND);
    assert_eq!(bench.alerts(), ["major 10 70 recovered"]);
    bench.must_replay();
}

#[test]
fn a_certificate_of_an_outage_is_history_when_the_known_one_is_back() {
    let (mut bench, check) = portal();
    let (one, two) = (
        poll(check, "one", "CN=ca", 300),
        poll(check, "two", "CN=x", 300),
    );
    bench.arrive(10 * SECOND, "v1", &one.at(10 * SECOND));
    // Live results first, then what was measured while the link was away.
    bench.arrive(3_600 * SECOND, "v1", &one.at(3_600 * SECOND));
    bench.arrive(3_601 * SECOND, "v1", &two.at(1_000 * SECOND));
    let events = bench.events();
    assert_eq!(
        (events.len(), events[0].state.as_str(), events[0].late),
        (1, "closed", true)
    );
    assert_eq!(bench.alerts(), [""; 0]);
    bench.must_replay();
}
