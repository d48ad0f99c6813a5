//! Promise 1: a result acknowledged to the spool reaches the store exactly once, across kill -9 of either side and
//! network cuts.

use std::time::Duration;

use extranet_tests::clock::wait_until;
use extranet_tests::engine::{Snmpd, snmpd};
use extranet_tests::oracle;
use extranet_tests::place::Place;
use extranet_tests::proxy::{Fault, Proxy};
use extranet_tests::sandbox::{Sandbox, Settings};

const PLAN: &str = r#"
[[plan]]
name = "everything, all the time"
flush_interval = "300ms"
[[plan.check]]
name = "icmp"
probe = "icmp"
target = "anchor"
packets = 1
interval = "200ms"
[[plan.check]]
name = "tcp"
probe = "tcp"
target = "anchor"
interval = "200ms"
[[plan.check]]
name = "snmp"
probe = "snmp"
target = "router"
interval = "1s"
timeout = "900ms"
"#;

/// What happens to the system, one after the other.
#[derive(Debug, Clone, Copy)]
enum Blow {
    KillAgent,
    KillCollector,
    StopCollector,
    CutOnce,
    Cut(Duration),
    Blackhole(Duration),
    Throttle(Duration),
    /// Nothing, so that something gets through.
    Rest(Duration),
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Short and long, apart and on top of each other: a kill in the middle of a batch, an agent that restarts while the
/// collector is away, acknowledgements that never arrive.
const BLOWS: &[Blow] = &[
    Blow::Rest(ms(2_000)),
    Blow::CutOnce,
    Blow::Rest(ms(700)),
    Blow::KillAgent,
    Blow::Rest(ms(900)),
    Blow::KillCollector,
    Blow::Rest(ms(1_100)),
    Blow::Blackhole(ms(800)),
    Blow::KillAgent,
    Blow::Cut(ms(1_500)),
    Blow::KillCollector,
    Blow::CutOnce,
    Blow::Rest(ms(400)),
    Blow::CutOnce,
    Blow::Throttle(ms(1_500)),
    Blow::KillAgent,
    Blow::KillCollector,
    Blow::Rest(ms(600)),
    Blow::StopCollector,
    Blow::Rest(ms(1_300)),
    Blow::Blackhole(ms(600)),
    Blow::KillCollector,
    Blow::Rest(ms(500)),
    Blow::KillAgent,
    Blow::Rest(ms(300)),
    Blow::CutOnce,
    Blow::KillAgent,
    Blow::Rest(ms(2_000)),
];

#[test]
fn what_was_acknowledged_is_stored_exactly_once() {
    let mut sandbox = Sandbox::start(Settings::default());
    let device = Snmpd::start(&Place::Host, sandbox.folder());
    sandbox.import(
        "ap_id,name,level,parent,medium\nvillage,Village 村,village,centre,fibre\n",
        &format!(
            "ap_id,name,kind,address,tcp_port,snmp_version,snmp_port,snmp_community\n\
             centre,four,anchor,127.0.0.1,{listening},,,\n\
             centre,six,anchor,::1,{closed},,,\n\
             village,router,router,{address},,2c,{port},{community}\n",
            listening = sandbox.address().port(),
            closed = 9,
            address = device.address(),
            port = device.port(),
            community = snmpd::COMMUNITY,
        ),
    );
    sandbox.apply_plan(PLAN);
    let proxy = Proxy::start(sandbox.address());
    let mut agent = sandbox.agent("village", &Place::Host, proxy.address(), "");

    for blow in BLOWS {
        match *blow {
            Blow::KillAgent => {
                agent.kill();
                agent.start();
            }
            Blow::KillCollector => {
                sandbox.kill_collector();
                sandbox.start_collector();
            }
            Blow::StopCollector => {
                let status = sandbox.stop_collector();
                assert!(status.success(), "the collector stopped with {status}");
                sandbox.start_collector();
            }
            Blow::CutOnce => proxy.cut_once(),
            Blow::Cut(span) => during(&proxy, Fault::Cut, span),
            Blow::Blackhole(span) => during(&proxy, Fault::Blackhole, span),
            Blow::Throttle(span) => during(&proxy, Fault::Throttle(2_000), span),
            Blow::Rest(span) => std::thread::sleep(span),
        }
    }

    // At rest: everything is acknowledged and exported.
    agent.wait_drained(30, ms(60_000));
    let status = agent.stop();
    assert!(status.success(), "the agent stopped with {status}");
    sandbox.wait_exported(ms(60_000));
    sandbox.must_not_have_panicked();
    let status = sandbox.stop_collector();
    assert!(status.success(), "the collector stopped with {status}");

    let spooled = oracle::spooled(&agent.state());
    let logged = oracle::logged(&sandbox.collector_state());
    logged.must_hold_what_was_acknowledged(&spooled);
    let ledger = &spooled.ledger;
    assert!(
        ledger.waiting < 30 && ledger.damaged == 0 && ledger.dropped.is_empty(),
        "{ledger:?}"
    );
    let seconds = 15;
    let at_least = seconds * (5 * 4 + 1);
    let results = logged.results(None).len();
    assert!(
        results >= at_least,
        "only {results} results in more than {seconds} s"
    );
    wait_until("each result once in the time series", ms(15_000), || {
        logged.compare(&sandbox.victoria)
    });
}

fn during(proxy: &Proxy, fault: Fault, span: Duration) {
    proxy.set(fault);
    std::thread::sleep(span);
    proxy.set(Fault::Pass);
}
