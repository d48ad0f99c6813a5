//! Checks by ICMP echo: bursts and trains.

use std::net::IpAddr;
use std::time::Duration;

use extranet_agent::config::reader::Reader;
use extranet_proto::{limits, wire};

/// Requests of a run when the plan does not say: what a slot of 60 s needs for a verdict (AV-05).
const PACKETS: u64 = 5;

/// How many requests, and when. Read before the rest of the check: the usual timeout of a train follows from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    packets: u32,
    steady: bool,
}

impl Pace {
    /// The keys `packets` and `steady`.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let allowed = 1..=u64::from(limits::ICMP_PACKETS);
        Self {
            packets: number(reader.integer("packets", PACKETS, allowed)),
            steady: reader.boolean("steady", false),
        }
    }

    /// How much time a run has for one timeout: in a train the time from one request to the next.
    pub(super) fn span(self, interval: Duration) -> Duration {
        if self.steady {
            interval / self.packets.max(1)
        } else {
            interval
        }
    }
}

/// The other keys of the check.
pub(super) fn read(
    reader: &mut Reader<'_>,
    pace: Pace,
    families: &[u8],
    interval: Duration,
    timeout: Duration,
) -> wire::IcmpProbe {
    let shortest = Duration::from_millis(1);
    let packet_interval = if pace.steady {
        if reader.has("packet_interval") {
            reader.problem(
                "packet_interval",
                "a steady train takes it from the interval",
            );
        }
        if timeout >= pace.span(interval) {
            reader.problem(
                "timeout",
                "must be shorter than the interval divided by the packets of a steady train",
            );
        }
        Duration::ZERO
    } else {
        reader.duration(
            "packet_interval",
            Duration::from_millis(200),
            shortest..=Duration::from_mins(1),
        )
    };
    if pace.steady && pace.packets > 1 && pace.span(interval) < shortest {
        reader.problem(
            "packets",
            "more than one for each millisecond of the interval",
        );
    }
    if packet_interval.saturating_mul(pace.packets.saturating_sub(1)) >= timeout {
        reader.problem(
            "packet_interval",
            "the last packet would be sent behind the timeout",
        );
    }
    let payload = u64::from(limits::ICMP_PAYLOAD_BYTES_MIN)..=u64::from(limits::ICMP_PAYLOAD_BYTES);
    let source = reader.optional_string("source_address").unwrap_or_default();
    if !source.is_empty() && !is_of_families(&source, families) {
        reader.problem(
            "source_address",
            "must be an address, and the only one of families its own",
        );
    }
    let interface = reader.optional_string("interface").unwrap_or_default();
    if interface.len() > limits::VRF_NAME_BYTES {
        reader.problem("interface", "names of interfaces have at most 15 bytes");
    }
    wire::IcmpProbe {
        packets: pace.packets,
        packet_interval_ms: super::compile::millis(packet_interval),
        payload_bytes: number(reader.integer("payload_bytes", 56, payload)),
        dscp: number(reader.integer("dscp", 0, 0..=u64::from(limits::DSCP_MAX))),
        dont_fragment: reader.boolean("dont_fragment", false),
        source_address: source,
        interface,
        steady: pace.steady,
        histogram: reader.boolean("histogram", false),
        hop_limit: number(reader.integer("hop_limit", 0, 0..=255)),
    }
}

fn is_of_families(source: &str, families: &[u8]) -> bool {
    match source.parse() {
        Ok(IpAddr::V4(_)) => families == [4],
        Ok(IpAddr::V6(_)) => families == [6],
        Err(_) => false,
    }
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use extranet_proto::wire;

    use crate::plan::{Plan, ProbePlan};

    fn icmp(keys: &str) -> Result<wire::IcmpProbe, String> {
        let text = format!(
            "[[plan]]\nname = 'p'\n[[plan.check]]\nname = 'c'\nprobe = 'icmp'\ntarget = 'anchor'\n{keys}"
        );
        let plan = Plan::parse("plan.toml", &text).map_err(|problems| problems.to_string())?;
        match &plan.own[0].checks[0].probe {
            ProbePlan::Icmp(icmp) => Ok(icmp.clone()),
            other => panic!("{other:?} is no ICMP"),
        }
    }

    #[test]
    fn a_train_is_spread_over_the_interval() {
        let train = icmp("packets = 20\nsteady = true").unwrap();
        assert!(train.steady);
        assert_eq!((train.packets, train.packet_interval_ms), (20, 0));
        for (keys, expected) in [
            (
                "packets = 20\nsteady = true\ntimeout = '3s'",
                "timeout: must be shorter",
            ),
            (
                "steady = true\npacket_interval = '1s'",
                "packet_interval: a steady train takes it",
            ),
            (
                "packets = 1000\nsteady = true\ninterval = '500ms'",
                "packets: more than one",
            ),
        ] {
            let problems = icmp(keys).unwrap_err();
            assert!(problems.contains(expected), "{problems}");
        }
    }

    #[test]
    fn every_option_goes_on_the_wire() {
        let all = icmp(
            "families = [6]\ndscp = 46\ndont_fragment = true\nhop_limit = 9\nhistogram = true\n\
             source_address = 'fd00::1'\ninterface = 'eth0'\npayload_bytes = 1232",
        )
        .unwrap();
        let expected = wire::IcmpProbe {
            packets: 5,
            packet_interval_ms: 200,
            payload_bytes: 1_232,
            dscp: 46,
            dont_fragment: true,
            source_address: "fd00::1".to_owned(),
            interface: "eth0".to_owned(),
            steady: false,
            histogram: true,
            hop_limit: 9,
        };
        assert_eq!(all, expected);
        for source in ["source_address = 'fd00::1'", "source_address = 'eth0'"] {
            assert!(
                icmp(source)
                    .unwrap_err()
                    .contains("source_address: must be")
            );
        }
        let long = format!("interface = '{}'", "e".repeat(16));
        assert!(icmp(&long).unwrap_err().contains("at most 15"));
    }
}
