//! Checks of the way to a target: traceroute and path MTU.

use std::str::FromStr;

use extranet_agent::config::reader::Reader;
use extranet_proto::assignment::{PathProbe, PathTransport};
use extranet_proto::{limits, wire};

/// A transport as it is written in plans.
struct Transport(PathTransport);

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        PathTransport::ALL
            .into_iter()
            .find(|transport| transport.text() == text)
            .map(Self)
            .ok_or_else(|| "use icmp, udp, tcp".to_owned())
    }
}

/// Reads the keys of a check; everything is checked by the rules that agents apply.
pub(super) fn read(reader: &mut Reader<'_>) -> PathProbe {
    let usual = PathProbe::default();
    let transport = reader.parsed("transport", Transport(usual.transport)).0;
    let mut number = |key: &str, usual: u32, min: u32, max: u32| {
        let allowed = u64::from(min)..=u64::from(max);
        let number = reader.integer(key, usual.into(), allowed);
        u32::try_from(number).unwrap_or(u32::MAX)
    };
    let path = wire::PathProbe {
        transport: wire::PathProbe::from(&PathProbe { transport, ..usual }).transport,
        port: number("port", transport.usual_port().into(), 0, 65_535),
        flow_port: number("flow_port", 0, 0, 65_535),
        first_hop: number("first_hop", usual.first_hop.into(), 1, limits::PATH_HOPS),
        max_hop: number("max_hop", usual.max_hop.into(), 1, limits::PATH_HOPS),
        attempts: number("attempts", usual.attempts.into(), 1, limits::PATH_ATTEMPTS),
        parallel: number("parallel", usual.parallel.into(), 1, limits::PATH_PARALLEL),
        payload_bytes: number(
            "payload_bytes",
            usual.payload_bytes.into(),
            limits::PATH_PAYLOAD_BYTES_MIN,
            limits::PATH_PAYLOAD_BYTES,
        ),
        expected_path_mtu: number("expected_path_mtu", 0, 0, limits::PATH_MTU_MAX),
        trace: reader.boolean("trace", usual.trace),
        path_mtu: reader.boolean("path_mtu", usual.path_mtu),
    };
    PathProbe::try_from(path).unwrap_or_else(|error| {
        reader.problem("", error.to_string());
        PathProbe::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, ProbePlan};

    fn path(keys: &str) -> Result<PathProbe, String> {
        let text = format!(
            "[[plan]]\nname = 'p'\n[[plan.check]]\nname = 'c'\ntarget = 'anchor'\nprobe = 'path'\n{keys}\n"
        );
        let plan = Plan::parse("plan.toml", &text).map_err(|problems| problems.to_string())?;
        match plan.own[0].checks[0].probe.clone() {
            ProbePlan::Path(path) => Ok(path),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_key_has_its_usual_value() {
        assert_eq!(path(""), Ok(PathProbe::default()));
        let udp = path("transport = 'udp'\npath_mtu = true\nexpected_path_mtu = 1492").unwrap();
        assert_eq!((udp.transport, udp.port), (PathTransport::Udp, 33_434));
        assert_eq!((udp.path_mtu, udp.expected_path_mtu), (true, Some(1_492)));
        let tcp = path("transport = 'tcp'\nport = 8443\nmax_hop = 12").unwrap();
        assert_eq!((tcp.port, tcp.max_hop), (8_443, 12));
    }

    #[test]
    fn problems_are_those_an_agent_would_have() {
        for (keys, expected) in [
            ("transport = 'sctp'", "use icmp, udp, tcp"),
            ("port = 80", "ICMP has no ports"),
            ("flow_port = 80", "path.flow_port is 80"),
            ("first_hop = 9\nmax_hop = 8", "path.first_hop is 9"),
            ("attempts = 11", "attempts"),
            ("trace = false", "neither a trace nor the path MTU"),
            ("expected_path_mtu = 1500", "the path MTU is not asked for"),
            (
                "transport = 'tcp'\npath_mtu = true",
                "SYN segments have no size",
            ),
        ] {
            let problems = path(keys).unwrap_err();
            assert!(problems.contains(expected), "{keys}: {problems}");
        }
    }
}
