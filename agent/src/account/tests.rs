//! The account under a clock that is moved by hand.

use std::net::Ipv4Addr;

use extranet_proto::assignment::{Check, Family, Probe, Target, TargetAddress};
use extranet_proto::id::{AssignmentVersion, CheckName, TargetId};

use super::*;
use crate::clock::{ManualClock, Reading};

/// Off every link of this machine; the kernel may know a way or not, it passes an uplink either way.
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 7, 7));

fn clock() -> ManualClock {
    ManualClock::new(Reading {
        wall_us: 0,
        boottime_us: 1_000_000,
        synchronised: true,
    })
}

fn planned(id: u32, interval: Duration, stretch_last: bool) -> Arc<PlannedCheck> {
    Arc::new(PlannedCheck {
        assignment: AssignmentVersion(1),
        check: Check {
            id: CheckId(id),
            target: TargetId(1),
            name: CheckName::new(format!("check-{id}")).unwrap(),
            family: Family::V4,
            interval,
            timeout: Duration::from_secs(1),
            stretch_last,
            probe: Probe::Traffic,
        },
        target: Target {
            id: TargetId(1),
            vrf: String::new(),
            address: TargetAddress::Ip(FAR),
        },
    })
}

fn plan(daily_budget: u64, checks: Vec<Arc<PlannedCheck>>) -> Plan {
    Plan {
        version: AssignmentVersion(1),
        flush_interval: Duration::ZERO,
        daily_budget,
        checks,
        problems: Vec::new(),
        security: extranet_proto::assignment::Security::default(),
        snmp_modules: Vec::new(),
    }
}

fn traffic(sent: u64, received: u64) -> Traffic {
    Traffic { sent, received }
}

#[test]
fn what_stays_on_this_machine_costs_nothing() {
    let account = Account::new(clock().clock());
    let loopback = Ipv4Addr::LOCALHOST.into();
    account.charge_probe(CheckId(1), "", loopback, traffic(100, 100));
    account.charge_stream(loopback, traffic(100, 100));
    account.follow(&plan(1_000_000, Vec::new()));
    assert_eq!(account.left(), 100_000, "not spent");
    account.charge_probe(CheckId(1), "", FAR, traffic(100, 50));
    account.charge_stream(FAR, traffic(10, 5));
    let totals = account.totals();
    assert_eq!(totals.len(), 2, "{totals:?}");
    let local = |device: &Arc<str>| &**device == LOCAL;
    for (device, totals) in totals {
        let (probes, stream) = if local(&device) {
            (traffic(100, 100), traffic(100, 100))
        } else {
            (traffic(100, 50), traffic(10, 5))
        };
        assert_eq!((totals.probes, totals.stream), (probes, stream), "{device}");
    }
    assert_eq!(account.left(), 100_000 - 165);
}

#[test]
fn an_expensive_plan_is_stretched_and_the_important_check_is_not() {
    let clock = clock();
    let account = Account::new(clock.clock());
    let anchor = planned(1, Duration::from_mins(1), true);
    let bulk = planned(2, Duration::from_mins(1), false);
    account.follow(&plan(
        10_000_000,
        vec![Arc::clone(&anchor), Arc::clone(&bulk)],
    ));
    assert_eq!(account.interval(&bulk), Duration::from_mins(1));
    // Three hours at what the intervals allow: 20 MB a day unstretched.
    let mut due = 0;
    for minute in 0_u64..180 {
        account.charge_probe(CheckId(1), "", FAR, traffic(600, 600));
        account.run_ended(CheckId(1));
        if minute * 60 >= due {
            account.charge_probe(CheckId(2), "", FAR, traffic(7_000, 7_000));
            account.run_ended(CheckId(2));
            due = minute * 60 + account.interval(&bulk).as_secs();
        }
        clock.advance(Duration::from_mins(1));
        account.adjust();
    }
    assert_eq!(account.interval(&anchor), Duration::from_mins(1));
    let stretched = account.interval(&bulk).as_secs();
    assert!((120..=300).contains(&stretched), "{stretched}");
    let measured = account.measured(CheckId(9), &ObjectIds::new());
    let raw = |metric| {
        let found = measured.values.iter().find(|value| value.metric == metric);
        found.map(|value| value.raw)
    };
    assert_eq!(raw(metric::BUDGET_DAILY), Some(10_000_000));
    assert_eq!(raw(metric::STRETCH), Some(stretched * 1_000 / 60));
    assert_eq!(raw(metric::STRETCH_LAST), Some(1_000));
    assert!(raw(metric::PROBES_SENT) > Some(100_000));
    assert_eq!(measured.definitions.len(), 1);
    let again = account.measured(CheckId(9), &ObjectIds::new());
    assert_eq!(again.definitions, [], "defined once");
}

#[test]
fn a_restart_does_not_fill_the_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(folder.path());
    let clock = clock();
    let before = Account::new(clock.clock());
    before.follow(&plan(10_000_000, Vec::new()));
    before.charge_stream(FAR, traffic(900_000, 0));
    before.keep(&path);
    clock.advance(Duration::from_mins(1));

    let after = Account::new(clock.clock());
    after.follow(&plan(10_000_000, Vec::new()));
    after.resume(&path);
    // 100,000 were left, and a minute of the same boot gave 104 bytes a second.
    assert!(
        (106_000..=106_500).contains(&after.left()),
        "{}",
        after.left()
    );

    std::fs::write(&path, b"not an account").unwrap();
    let anew = Account::new(clock.clock());
    anew.follow(&plan(10_000_000, Vec::new()));
    anew.resume(&path);
    assert_eq!(anew.left(), 1_000_000);
}

#[test]
fn devices_without_end_have_one_account_together() {
    let account = Account::new(clock().clock());
    let mut inner = account.inner();
    for number in 0..40 {
        let device: Arc<str> = format!("ppp{number}").into();
        inner
            .egresses
            .remember("", IpAddr::V4(Ipv4Addr::new(198, 18, 0, number)), &device);
    }
    drop(inner);
    for number in 0..40 {
        let address = IpAddr::V4(Ipv4Addr::new(198, 18, 0, number));
        account.charge_stream(address, traffic(1, 0));
    }
    let totals = account.totals();
    assert_eq!(totals.len(), DEVICES + 1);
    assert_eq!(totals.iter().map(|(_, t)| t.stream.sent).sum::<u64>(), 40);
}
