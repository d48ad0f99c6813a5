//! The poller against snmpd: every form of security, tables of 200 ports, restarts, and a slow link.

use std::sync::atomic::Ordering;

use super::delay::Link;
use super::*;
use crate::probe::snmp::by_hand::ByHand;

/// snmpd with a table of so many ports.
async fn switch(ports: u32) -> Snmpd {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/probe/snmp/tests/if_table.py"
    );
    let overlay = |oid: &str| format!("pass_persist -p 10 {oid} /usr/bin/python3 {script} {ports}");
    let tables = [overlay("1.3.6.1.2.1.2.2"), overlay("1.3.6.1.2.1.31.1.1")];
    Snmpd::start(&tables.join("\n")).await
}

fn interfaces(measured: &Measured) -> Vec<&Definition> {
    let is_interface = |definition: &&Definition| definition.kind == ObjectKind::Interface;
    measured.definitions.iter().filter(is_interface).collect()
}

#[tokio::test]
async fn users_of_every_kind_are_served() {
    let users = [
        ("md5des", "MD5", "DES"),
        ("shades", "SHA", "DES"),
        ("sha224", "SHA-224", "AES"),
        ("sha256", "SHA-256", "AES"),
        ("sha384", "SHA-384", "AES-192"),
        ("sha512", "SHA-512", "AES-256"),
        ("sha1aes256", "SHA", "AES-256"),
        ("md5aes192", "MD5", "AES-192"),
    ];
    let mut configuration: Vec<String> = users
        .map(|(name, auth, privacy)| {
            format!(
                "createUser {name} {auth} \"{AUTH_PHRASE}\" {privacy} \"{PRIVACY_PHRASE}\"\nrouser {name} priv"
            )
        })
        .to_vec();
    configuration.push(format!(
        "createUser signed SHA-256 \"{AUTH_PHRASE}\"\nrouser signed auth\ncreateUser plain\nrouser plain noauth"
    ));
    let snmpd = Snmpd::start(&configuration.join("\n")).await;
    let poller = poller();
    let user = |name: &str, auth: Option<&str>, privacy: Option<&str>| SnmpCredential::V3 {
        user: name.into(),
        auth: auth.map(|protocol| (protocol.into(), AUTH_PHRASE.into())),
        privacy: privacy.map(|protocol| (protocol.into(), PRIVACY_PHRASE.into())),
        context: String::new(),
    };
    let mut credentials: Vec<SnmpCredential> = users
        .map(|(name, auth, privacy)| user(name, Some(auth), Some(privacy)))
        .to_vec();
    credentials.push(user("signed", Some("SHA-256"), None));
    credentials.push(user("plain", None, None));
    for (id, credential) in (1..).zip(credentials) {
        let check = check(id, snmpd.port, credential, LONG);
        assert_good(&run(&poller, &check, V4).await);
        assert_good(&run(&poller, &check, V4).await);
    }
}

#[tokio::test]
async fn a_device_that_boots_again_is_polled_on() {
    let poller = poller();
    let engine = "exactEngineID 0x80001f8880aabbccdd00000007";
    let first = Snmpd::start(engine).await;
    let port = first.port;
    let check = check(1, port, v3(AUTH_PHRASE), Duration::from_secs(5));
    assert_good(&run(&poller, &check, V4).await);
    let state = first.keep_state();
    let second = Snmpd::start_again(port, engine, state).await;
    assert_good(&run(&poller, &check, V4).await);
    drop(second);
}

#[tokio::test]
async fn two_hundred_ports_have_all_their_columns() {
    let snmpd = switch(200).await;
    let poller = poller();
    let check = check(1, snmpd.port, v2c("public"), LONG);
    let mut before = 0;
    for _ in 0..2 {
        let measured = run(&poller, &check, V4).await;
        assert_eq!(
            (measured.outcome, measured.reason),
            (Outcome::Ok, Reason::None)
        );
        let ports = interfaces(&measured);
        assert_eq!(ports.len(), 200);
        for port in &ports {
            let columns = measured
                .values
                .iter()
                .filter(|value| value.object == port.object);
            assert_eq!(columns.count(), 31, "{port:?}");
        }
        let last = ports
            .iter()
            .find(|port| label(port, "ifName") == "GE0/0/200")
            .unwrap();
        assert_eq!(label(last, "ifAlias"), "to site 200");
        let octets = value(&measured, metric::IF_HC_IN_OCTETS, last.object).unwrap();
        assert!(octets >= before);
        before = octets;
        assert!(
            measured.traffic.received > 200 * 31 * 15,
            "{:?}",
            measured.traffic
        );
        assert!(measured.traffic.sent > 20_000, "{:?}", measured.traffic);
    }
}

#[tokio::test]
async fn over_a_slow_link_requests_do_not_wait_for_each_other() {
    let snmpd = switch(200).await;
    let link = Link::to(snmpd.port, Duration::from_millis(20)).await;
    let poller = poller();
    let check = check(1, link.port, v2c("public"), Duration::from_mins(1));
    let first = run(&poller, &check, V4).await;
    assert_eq!(
        (first.outcome, interfaces(&first).len()),
        (Outcome::Ok, 200)
    );
    let account = &link.account;
    let (requests, trips) = (
        account.requests.load(Ordering::SeqCst),
        account.round_trips.load(Ordering::SeqCst),
    );
    assert!(requests > 100, "{account:?}");
    assert!(trips <= 50, "the first run learns the rows: {account:?}");
    let second = run(&poller, &check, V4).await;
    assert_eq!(
        (second.outcome, interfaces(&second).len()),
        (Outcome::Ok, 200)
    );
    let more = account.round_trips.load(Ordering::SeqCst) - trips;
    let sent = account.requests.load(Ordering::SeqCst) - requests;
    assert!(
        sent > 100 && more <= 30,
        "{more} round trips for {sent} requests"
    );
    assert_eq!(account.at_once.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn a_technician_can_ask() {
    let snmpd = Snmpd::start("").await;
    let device = SocketAddr::new(V4, snmpd.port);
    let by_hand = ByHand::new(device, &v2c("public"), LONG).unwrap();
    let names = [
        "sysLocation".to_owned(),
        "1.3.6.1.2.1.1.3.0".to_owned(),
        "ifDescr.1".to_owned(),
    ];
    let text = by_hand.get(&names).await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "sysLocation = \"拉萨 540100\"");
    assert!(lines[1].starts_with("sysUpTime = "), "{text}");
    assert_eq!(lines[2], "ifDescr.1 = \"lo\"");
    let mut walked = Vec::new();
    let count = by_hand
        .walk("ifDescr", 1_000, |line| walked.push(line.to_owned()))
        .await
        .unwrap();
    assert_eq!(
        (walked.len(), walked[0].as_str()),
        (count, "ifDescr.1 = \"lo\"")
    );
    let text = by_hand
        .module("system", module::text_of("system").unwrap())
        .await
        .unwrap();
    assert!(
        text.contains("sysUpTime ") && text.contains(" requests, "),
        "{text}"
    );
    let wrong = ByHand::new(device, &v2c("private"), SHORT).unwrap();
    let problem = wrong.get(&names[..1]).await.unwrap_err();
    assert!(problem.starts_with("no answer"), "{problem}");
    assert!(
        by_hand
            .get(&["noSuchName".to_owned()])
            .await
            .unwrap_err()
            .contains("neither")
    );
}

#[tokio::test]
async fn modules_of_an_assignment_are_read_like_built_in_ones() {
    let snmpd = Snmpd::start("sysServices 72").await;
    let poller = poller();
    let text = "[[scalar]]\nname = 'acmeLocation'\noid = '1.3.6.1.2.1.1.6.0'\ntype = 'text'\n\
                [[scalar]]\nname = 'acmeServices'\noid = '1.3.6.1.2.1.1.7.0'\ntype = 'gauge'\nscale = '0.5'\n";
    poller.use_modules(&[SnmpModule {
        name: "acme.0123".into(),
        text: text.into(),
    }]);
    let mut check = check(1, snmpd.port, v2c("public"), LONG);
    if let Probe::Snmp(probe) = &mut check.probe {
        probe.modules = vec!["acme.0123".into()];
    }
    let measured = run(&poller, &check, V4).await;
    assert_eq!(measured.outcome, Outcome::Ok);
    let meaning = measured
        .definitions
        .iter()
        .find(|d| d.kind == ObjectKind::Metric)
        .unwrap();
    assert_eq!(
        (label(meaning, "name"), label(meaning, "scale")),
        ("acmeServices", "0.5")
    );
    let value = measured
        .values
        .iter()
        .find(|v| v.metric.is_defined())
        .unwrap();
    assert_eq!(value.metric.definition_object(), meaning.object);
    let row = measured
        .definitions
        .iter()
        .find(|d| d.kind == ObjectKind::SnmpRow)
        .unwrap();
    assert_eq!(label(row, "acmeLocation"), "拉萨 540100");
}
