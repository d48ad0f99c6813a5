//! TCP connect against listeners, closed ports and broken paths.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};

use crate::namespace::{Laboratory, Namespace};
use crate::{AMPLE, block_on, connect, measure, measure_in, probes, value};

fn listener(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_listener_is_reached_and_sees_the_connection_close() {
    for address in ["127.0.0.1", "::1"] {
        let (listener, port) = listener(address);
        let measured = block_on(measure(&probes(), connect(port), address, AMPLE));
        assert_eq!(
            (measured.outcome, measured.reason),
            (Outcome::Ok, Reason::None)
        );
        let took = value(&measured, metric::TCP_CONNECT).unwrap();
        assert!(u128::from(took) <= measured.duration.as_micros());
        assert_eq!(measured.values.len(), 1);
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(AMPLE)).unwrap();
        let end = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        assert_eq!(end, 0, "closed in good order, nothing sent");
    }
}

#[test]
fn a_closed_port_refuses() {
    // In a namespace of its own, where nobody else can take the port meanwhile.
    Namespace::new().run(|| {
        for address in ["127.0.0.1", "::1"] {
            let (listener, port) = listener(address);
            drop(listener);
            let measured = block_on(measure(&probes(), connect(port), address, AMPLE));
            assert_eq!(
                (measured.outcome, measured.reason),
                (Outcome::Failed, Reason::Refused)
            );
            assert!(measured.values.is_empty());
        }
    });
}

#[test]
fn a_connection_that_meets_itself_is_refused() {
    let alone = Namespace::new();
    alone.sysctl("ipv4/ip_local_port_range", "40000 40000");
    alone.run(|| {
        for address in ["127.0.0.1", "::1"] {
            let measured = block_on(measure(&probes(), connect(40_000), address, AMPLE));
            assert_eq!(
                (measured.outcome, measured.reason),
                (Outcome::Failed, Reason::Refused),
                "{address}"
            );
        }
    });
}

#[test]
fn broken_paths_have_their_reasons() {
    let laboratory = Laboratory::new();
    let short = Duration::from_millis(300);
    laboratory.site.run(move || {
        let expected = [
            ("10.78.0.2", Reason::Refused, AMPLE),
            ("10.79.0.1", Reason::HostUnreachable, AMPLE),
            ("10.79.0.3", Reason::Timeout, short),
            ("10.80.0.1", Reason::NetworkUnreachable, AMPLE),
            ("fd78::2", Reason::Refused, AMPLE),
            ("fd79::1", Reason::NetworkUnreachable, AMPLE),
            ("fd79::2", Reason::Prohibited, AMPLE),
            ("fd79::3", Reason::Timeout, short),
            ("fd80::1", Reason::NetworkUnreachable, AMPLE),
        ];
        block_on(async {
            let probes = probes();
            for (address, reason, timeout) in expected {
                let measured = measure(&probes, connect(9), address, timeout).await;
                assert_eq!(
                    (measured.outcome, measured.reason),
                    (Outcome::Failed, reason),
                    "{address}"
                );
                assert!(measured.duration < AMPLE / 2, "{address}");
            }
        });
    });
}

#[test]
fn a_vrf_that_is_not_there_is_our_own_fault() {
    let alone = Namespace::new();
    alone.run(|| {
        let (_listener, port) = listener("127.0.0.1");
        block_on(async {
            let inside = measure_in(&probes(), connect(port), "127.0.0.1", "lo", AMPLE).await;
            assert_eq!(inside.outcome, Outcome::Ok);
            let missing = measure_in(&probes(), connect(port), "127.0.0.1", "nope", AMPLE).await;
            assert_eq!(
                (missing.outcome, missing.reason),
                (Outcome::NotMeasured, Reason::LocalError)
            );
        });
    });
}
