//! The poller against the real snmpd and, in [`hostile`], against an agent that answers as badly as it can.

mod ber;
mod delay;
mod hostile;
mod peers;
mod snmpd;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use extranet_proto::assignment::{Check, Probe};
use extranet_proto::id::{CheckName, ObjectId, TargetId};
use extranet_proto::record::{Definition, ObjectKind, Value};

use self::snmpd::{AUTH_PHRASE, PRIVACY_PHRASE, Snmpd, USER};
use super::*;

pub(super) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// For runs that end by themselves.
const LONG: Duration = Duration::from_secs(20);
/// For runs that are expected to time out.
const SHORT: Duration = Duration::from_millis(600);

pub(super) fn poller() -> Poller {
    Poller::new(ObjectIds::new())
}

pub(super) fn v2c(community: &str) -> SnmpCredential {
    SnmpCredential::V2c {
        community: community.into(),
    }
}

fn v3(phrase: &str) -> SnmpCredential {
    SnmpCredential::V3 {
        user: USER.into(),
        auth: Some(("SHA".into(), phrase.into())),
        privacy: Some(("AES".into(), PRIVACY_PHRASE.into())),
        context: String::new(),
    }
}

/// A check of both modules.
pub(super) fn check(id: u32, port: u16, credential: SnmpCredential, timeout: Duration) -> Check {
    let probe = SnmpProbe {
        port,
        credential,
        modules: vec!["system".into(), "if_mib".into()],
    };
    Check {
        stretch_last: false,
        id: CheckId(id),
        target: TargetId(1),
        name: CheckName::new("snmp").unwrap(),
        family: Family::V4,
        interval: Duration::from_mins(1),
        timeout,
        probe: Probe::Snmp(probe),
    }
}

async fn run_in(poller: &Poller, check: &Check, address: IpAddr, vrf: &str) -> Measured {
    let Probe::Snmp(probe) = &check.probe else {
        panic!("an SNMP check");
    };
    let run = Run {
        check,
        address,
        vrf,
        deadline: Instant::now() + check.timeout,
    };
    poller.run(&run, probe).await
}

pub(super) async fn run(poller: &Poller, check: &Check, address: IpAddr) -> Measured {
    run_in(poller, check, address, "").await
}

fn value(measured: &Measured, metric: metric::Metric, object: ObjectId) -> Option<u64> {
    let is_it = |value: &&Value| value.metric == metric && value.object == object;
    measured.values.iter().find(is_it).map(|value| value.raw)
}

fn label<'a>(definition: &'a Definition, name: &str) -> &'a str {
    let found = definition.labels.iter().find(|(label, _)| label == name);
    found.map_or("", |(_, text)| text)
}

fn loopback(measured: &Measured) -> &Definition {
    measured
        .definitions
        .iter()
        .find(|definition| label(definition, "ifName") == "lo")
        .unwrap_or_else(|| panic!("no interface lo in {measured:?}"))
}

/// Everything that a good scrape of snmpd on this machine must hold.
fn assert_good(measured: &Measured) {
    assert_eq!(
        (measured.outcome, measured.reason),
        (Outcome::Ok, Reason::None),
        "{measured:?}"
    );
    let device = &measured.definitions[0];
    assert_eq!(device.kind, ObjectKind::System);
    let names: Vec<&str> = device
        .labels
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "sysName",
            "sysDescr",
            "sysObjectID",
            "sysLocation",
            "sysContact"
        ]
    );
    assert_eq!(label(device, "sysLocation"), "拉萨 540100");
    assert_eq!(label(device, "sysObjectID"), "1.3.6.1.4.1.8072.3.2.10");

    let lo = loopback(measured);
    assert_eq!(lo.kind, ObjectKind::Interface);
    assert_eq!(label(lo, "ifIndex"), "1");
    assert_eq!(label(lo, "ifDescr"), "lo");
    assert_eq!(value(measured, metric::IF_TYPE, lo.object), Some(24));
    assert_eq!(value(measured, metric::IF_OPER_STATUS, lo.object), Some(1));
    assert!(value(measured, metric::IF_IN_OCTETS, lo.object).is_some());

    let interfaces = measured.definitions.len() - 1;
    assert!(value(measured, metric::IF_NUMBER, ObjectId(0)).is_some());
    assert!(value(measured, metric::SYS_UP_TIME, ObjectId(0)).is_some());
    assert!(value(measured, metric::SNMP_REQUESTS, ObjectId(0)).unwrap() >= 3);
    let bindings = value(measured, metric::SNMP_PDUS, ObjectId(0)).unwrap();
    assert!(usize::try_from(bindings).unwrap() >= interfaces * 20);
    let keys: Vec<_> = measured
        .values
        .iter()
        .map(|v| (v.metric, v.object))
        .collect();
    assert!(
        keys.is_sorted_by(|a, b| a < b),
        "sorted, each once: {keys:?}"
    );
}

#[tokio::test]
async fn every_version_scrapes_snmpd_over_both_families() {
    let snmpd = Snmpd::start("").await;
    let poller = poller();
    let community = SnmpCredential::V1 {
        community: "public".into(),
    };
    for (id, credential) in [(1, v2c("public")), (2, v3(AUTH_PHRASE)), (3, community)] {
        for (family, address) in [(0, V4), (10, V6)] {
            let is_v1 = matches!(credential, SnmpCredential::V1 { .. });
            let check = check(id + family, snmpd.port, credential.clone(), LONG);
            let first = run(&poller, &check, address).await;
            assert_good(&first);
            let second = run(&poller, &check, address).await;
            assert_good(&second);
            let lo = loopback(&first).object;
            assert_eq!(loopback(&second).object, lo, "ids are stable");
            // Counter64 does not exist in SNMPv1 (RFC 2576 section 4.1.2.1).
            let wide = value(&second, metric::IF_HC_IN_OCTETS, lo);
            assert_eq!(wide.is_none(), is_v1);
        }
    }
}

#[tokio::test]
async fn wrong_secrets_have_their_reasons() {
    let snmpd = Snmpd::start("").await;
    let poller = poller();
    let unknown_user = SnmpCredential::V3 {
        user: "nobody".into(),
        auth: None,
        privacy: None,
        context: String::new(),
    };
    for (id, credential, timeout, reason) in [
        (1, v2c("private"), SHORT, Reason::Timeout),
        (2, v3("wrong phrase"), LONG, Reason::AuthenticationFailed),
        (3, unknown_user, LONG, Reason::AuthenticationFailed),
    ] {
        let check = check(id, snmpd.port, credential, timeout);
        let measured = run(&poller, &check, V4).await;
        assert_eq!(
            (measured.outcome, measured.reason),
            (Outcome::Failed, reason),
            "{id}"
        );
        assert!(measured.definitions.is_empty());
        assert!(value(&measured, metric::SNMP_REQUESTS, ObjectId(0)).unwrap() >= 1);
    }
}

#[tokio::test]
async fn a_replaced_v3_device_is_found_again() {
    let poller = poller();
    let first = Snmpd::start("exactEngineID 0x80001f8880aabbccdd00000001").await;
    let port = first.port;
    let check = check(1, port, v3(AUTH_PHRASE), Duration::from_secs(3));
    assert_good(&run(&poller, &check, V4).await);
    drop(first);
    let second = Snmpd::start_on(port, "exactEngineID 0x80001f8880aabbccdd00000002").await;
    let mut failed_runs = 0;
    while run(&poller, &check, V4).await.outcome != Outcome::Ok {
        failed_runs += 1;
        assert!(failed_runs <= 3, "rediscovery comes after two failed runs");
    }
    assert!(failed_runs > 0, "the second snmpd has another engine id");
    drop(second);
}

#[tokio::test]
async fn a_vrf_is_a_device_the_socket_is_bound_to() {
    let snmpd = Snmpd::start("").await;
    let poller = poller();
    let check = check(1, snmpd.port, v2c("public"), LONG);
    assert_good(&run_in(&poller, &check, V4, "lo").await);
    let absent = run_in(&poller, &check, V4, "no-such-vrf").await;
    assert_eq!(
        (absent.outcome, absent.reason),
        (Outcome::NotMeasured, Reason::LocalError)
    );
}

#[tokio::test]
async fn a_check_that_cannot_be_run_says_nothing_about_its_target() {
    let poller = poller();
    let mut no_module = check(1, 9, v2c("public"), SHORT);
    if let Probe::Snmp(probe) = &mut no_module.probe {
        probe.modules = vec!["from_the_future".into()];
    }
    let short_phrase = check(2, 9, v3("short"), SHORT);
    for check in [no_module, short_phrase] {
        let measured = run(&poller, &check, V4).await;
        assert_eq!(
            (measured.outcome, measured.reason),
            (Outcome::NotMeasured, Reason::LocalError)
        );
    }
}

#[tokio::test]
async fn a_host_without_the_service_is_known_at_once() {
    let poller = poller();
    for address in [V4, V6] {
        let closed = tokio::net::UdpSocket::bind((address, 0)).await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        for (id, credential) in [(1, v2c("public")), (2, v3(AUTH_PHRASE))] {
            let check = check(id, port, credential, LONG);
            let measured = run(&poller, &check, address).await;
            assert_eq!(
                (measured.outcome, measured.reason),
                (Outcome::Failed, Reason::Refused)
            );
        }
    }
}

#[tokio::test]
async fn refusals_of_other_devices_disturb_nobody() {
    let snmpd = Snmpd::start("").await;
    let closed = tokio::net::UdpSocket::bind((V4, 0)).await.unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let poller = poller();
    let good_check = check(1, snmpd.port, v2c("public"), LONG);
    let refused_check = check(2, port, v2c("public"), LONG);
    for _ in 0..20 {
        let (good, refused) = tokio::join!(
            run(&poller, &good_check, V4),
            run(&poller, &refused_check, V4)
        );
        assert_good(&good);
        assert_eq!(refused.reason, Reason::Refused);
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn silence_and_refusal_are_results_not_log_lines() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let silent = tokio::net::UdpSocket::bind((V4, 0)).await.unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let poller = poller();
    for (id, credential) in [(1, v2c("public")), (2, v3(AUTH_PHRASE))] {
        let check = check(id, silent_port, credential, SHORT);
        assert_eq!(run(&poller, &check, V4).await.reason, Reason::Timeout);
    }
    drop(silent);
    let check = check(3, silent_port, v2c("public"), SHORT);
    assert_eq!(run(&poller, &check, V4).await.reason, Reason::Refused);
    let logged = String::from_utf8(lock(&log.0).clone()).unwrap();
    assert_eq!(logged, "");
    tracing::warn!("the log works");
    assert!(String::from_utf8_lossy(&lock(&log.0)).contains("the log works"));
}

#[tokio::test]
async fn a_silent_device_delays_nobody() {
    let snmpd = Snmpd::start("").await;
    let silent = tokio::net::UdpSocket::bind((V4, 0)).await.unwrap();
    let poller = poller();
    let silent_check = check(1, silent.local_addr().unwrap().port(), v2c("public"), LONG);
    let good_check = check(2, snmpd.port, v2c("public"), LONG);
    let silent_run = run(&poller, &silent_check, V4);
    tokio::pin!(silent_run);
    let measured = tokio::select! {
        biased;
        _ = &mut silent_run => panic!("nobody answers there"),
        measured = run(&poller, &good_check, V4) => measured,
    };
    assert_good(&measured);
}
