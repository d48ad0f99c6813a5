//! The way to the anchors and the collector (checks C1, C2, F1, F2, F3, G1, G2).

use std::net::IpAddr;
use std::time::Duration;

use extranet_proto::assignment::{IcmpProbe, Ipv6Probe, PathProbe, Probe};
use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};
use tokio::time::Instant;

use super::report::Report;
use super::run::{Surroundings, connect};
use super::score::Verdict;

/// Anchors of one family that a run asks: two each of prefecture and region.
const ANCHORS: usize = 4;
/// Echo requests to each anchor in a run, and the time between two. A guess between a verdict on 1 % of loss and the
/// byte budget of a satellite link: 20 requests of 64 bytes every 15 minutes.
const PACKETS: u16 = 20;
const PACKET_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes behind the ICMP header: the usual size.
const PAYLOAD_BYTES: u16 = 56;
/// How long the last reply may take: two ways by a geostationary satellite are 1.2 s.
const REPLY_TIME: Duration = Duration::from_secs(3);
/// V6-F1: 1,280 bytes without the headers of IPv6 (40) and ICMPv6 (8), tried this often.
const SMALLEST_MTU_PAYLOAD: u16 = 1_280 - 40 - 8;
const SMALLEST_MTU_PACKETS: u16 = 3;
/// V6-F2: what finding the path MTU to an anchor may take.
const PATH_MTU_TIME: Duration = Duration::from_secs(5);
/// V6-C2: connections in a run.
const CONNECTIONS: u32 = 3;

/// Echo to all anchors of a family together.
#[derive(Debug, Clone, Copy, Default)]
struct Echo {
    sent: u64,
    received: u64,
    /// Sum of the mean round trips of the anchors that answered, µs, and how many they are.
    round_trips_us: (u64, u64),
    /// Why nothing could be measured at some anchor.
    hindered: Option<Reason>,
}

impl Echo {
    /// Lost requests in thousandths of a percent.
    fn loss(&self) -> Option<i64> {
        let lost = (self.sent.saturating_sub(self.received)).saturating_mul(100_000);
        lost.checked_div(self.sent)
            .and_then(|loss| i64::try_from(loss).ok())
    }

    /// Mean round trip, µs.
    fn round_trip(&self) -> Option<i64> {
        let (sum, anchors) = self.round_trips_us;
        sum.checked_div(anchors)
            .and_then(|mean| i64::try_from(mean).ok())
    }
}

async fn echo(
    around: &Surroundings<'_>,
    anchors: &[IpAddr],
    packets: u16,
    payload_bytes: u16,
) -> Echo {
    let probe = Probe::Icmp(IcmpProbe {
        packets,
        packet_interval: PACKET_INTERVAL,
        payload_bytes,
        ..IcmpProbe::default()
    });
    let time = PACKET_INTERVAL * u32::from(packets) + REPLY_TIME;
    let mut all = Echo::default();
    // One anchor after another: bursts side by side would queue behind each other on a thin link.
    for &anchor in anchors {
        let measured = around.probe(anchor, probe.clone(), time).await;
        let value = |wanted| {
            let found = measured.values.iter().find(|value| value.metric == wanted);
            found.map(|value| value.raw)
        };
        // A burst that the end of the run cut short would count its missing replies as lost.
        let cut_short = Instant::now() >= around.deadline;
        match value(metric::ICMP_SENT) {
            Some(sent) if measured.outcome != Outcome::NotMeasured && !cut_short => {
                all.sent += sent;
                all.received += value(metric::ICMP_RECEIVED).unwrap_or(0);
            }
            _ => all.hindered = Some(measured.reason),
        }
        if let Some(mean) = value(metric::ICMP_RTT_AVG) {
            all.round_trips_us = (all.round_trips_us.0 + mean, all.round_trips_us.1 + 1);
        }
    }
    all
}

/// C1, F1, F2, F3, G1, G2.
pub(super) async fn anchors(around: &Surroundings<'_>, probe: &Ipv6Probe, report: &mut Report) {
    let allowed = |anchor: &IpAddr| around.targets.allows(*anchor);
    let anchors6: Vec<IpAddr> = probe
        .anchors6
        .iter()
        .copied()
        .map(IpAddr::V6)
        .filter(allowed)
        .collect();
    let anchors4: Vec<IpAddr> = probe
        .anchors4
        .iter()
        .copied()
        .map(IpAddr::V4)
        .filter(allowed)
        .collect();
    if anchors6.is_empty() {
        let why = if probe.anchors6.is_empty() {
            "no IPv6 anchor is known"
        } else {
            "every IPv6 anchor lies outside the allowed prefixes"
        };
        for id in ["V6-C1", "V6-F1", "V6-F2", "V6-F3", "V6-G1", "V6-G2"] {
            report.untested(id, why);
        }
        return;
    }
    // The families together, so that both meet the same load of the link.
    let few = |all: &[IpAddr]| all.iter().copied().take(ANCHORS).collect::<Vec<_>>();
    let (anchors6, anchors4) = (few(&anchors6), few(&anchors4));
    let (v6, v4) = tokio::join!(
        echo(around, &anchors6, PACKETS, PAYLOAD_BYTES),
        echo(around, &anchors4, PACKETS, PAYLOAD_BYTES),
    );
    let note = format!("{} of {} replies", v6.received, v6.sent);
    match v6.loss() {
        // Below 1 %: with twenty requests that is none lost.
        Some(loss) => report.decide("V6-C1", loss < 1_000, loss, note),
        None => around.not_measured(report, "V6-C1", v6.hindered),
    }
    if v6.received == 0 && around.can_reach_out {
        for id in ["V6-F1", "V6-F2", "V6-F3"] {
            report.untested(id, "no reply over IPv6, however small");
        }
    } else {
        let payload = SMALLEST_MTU_PAYLOAD;
        let big = echo(around, &anchors6, SMALLEST_MTU_PACKETS, payload).await;
        match big.loss() {
            Some(loss) => report.decide("V6-F1", big.received > 0, loss, ""),
            None => around.not_measured(report, "V6-F1", big.hindered),
        }
        path_mtu(around, &anchors6, probe.expected_path_mtu, report).await;
    }
    compare(&v6, &v4, report);
}

/// F2 and F3: the path MTU to each anchor, by packets that may not be fragmented. A black hole is a size that leaves
/// this machine, vanishes, and about which no "packet too big" comes.
async fn path_mtu(
    around: &Surroundings<'_>,
    anchors: &[IpAddr],
    expected: Option<u16>,
    report: &mut Report,
) {
    let probe = Probe::Path(PathProbe {
        trace: false,
        path_mtu: true,
        ..PathProbe::default()
    });
    let mut found = PathMtus::default();
    for &anchor in anchors {
        let measured = around.probe(anchor, probe.clone(), PATH_MTU_TIME).await;
        let mut values = measured.values.iter();
        let mtu = values.find(|value| value.metric == metric::PATH_MTU);
        found.smallest = match (found.smallest, mtu.map(|value| value.raw)) {
            (Some(before), Some(mtu)) => Some(before.min(mtu)),
            (before, mtu) => before.or(mtu),
        };
        found.longest = found.longest.max(measured.duration);
        match measured.outcome {
            Outcome::Ok => {}
            Outcome::Failed => found.failed = Some((anchor, measured.reason)),
            Outcome::NotMeasured => found.hindered = Some(measured.reason),
        }
    }
    found.judge(around, expected, report);
}

/// What was found at all anchors together.
#[derive(Debug, Default)]
struct PathMtus {
    /// Bytes.
    smallest: Option<u64>,
    longest: Duration,
    failed: Option<(IpAddr, Reason)>,
    hindered: Option<Reason>,
}

impl PathMtus {
    fn judge(&self, around: &Surroundings<'_>, expected: Option<u16>, report: &mut Report) {
        let note = match self.smallest {
            Some(mtu) => format!("path MTU {mtu}"),
            None => String::new(),
        };
        let took = i64::try_from(self.longest.as_micros()).unwrap_or(i64::MAX);
        match (self.failed, self.hindered) {
            (Some((anchor, reason)), _) => {
                let note = format!("{anchor}: {} {note}", reason.label());
                report.decide("V6-F2", false, took, note.trim_end());
            }
            (None, Some(reason)) => around.not_measured(report, "V6-F2", Some(reason)),
            (None, None) => report.decide("V6-F2", true, took, note),
        }
        let Some(expected) = expected else {
            return report.untested("V6-F3", "no expected path MTU is known");
        };
        match self.smallest {
            Some(mtu) => report.decide(
                "V6-F3",
                mtu == u64::from(expected),
                i64::try_from(mtu).unwrap_or(i64::MAX).saturating_mul(1_000),
                format!("{expected} expected"),
            ),
            None if self.failed.is_some() => {
                let note = format!("{expected} expected");
                report.enter("V6-F3", Verdict::Fail, None, note);
            }
            None => around.not_measured(report, "V6-F3", self.hindered),
        }
    }
}

/// G1 and G2: IPv6 against IPv4. Where one of the two does not answer at all there is nothing to compare, and C1 tells.
fn compare(v6: &Echo, v4: &Echo, report: &mut Report) {
    /// Both at most this: nobody feels the difference, µs.
    const BOTH_GOOD_US: i64 = 20_000;
    let (Some(new), Some(old), Some(loss6), Some(loss4)) =
        (v6.round_trip(), v4.round_trip(), v6.loss(), v4.loss())
    else {
        let why = match (v6.round_trip(), v4.round_trip()) {
            (None, _) => "no reply over IPv6",
            _ => "no reply over IPv4",
        };
        report.untested("V6-G1", why);
        report.untested("V6-G2", why);
        return;
    };
    let degradation = (new - old).saturating_mul(100_000) / old.max(1);
    let good = degradation <= 10_000 || new.max(old) <= BOTH_GOOD_US;
    let ms = |us: i64| format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10);
    report.decide(
        "V6-G1",
        good,
        degradation,
        format!("{} against {}", ms(new), ms(old)),
    );
    report.decide("V6-G2", loss6 <= loss4 + 100, loss6 - loss4, "");
}

/// C2.
pub(super) async fn collector(around: &Surroundings<'_>, probe: &Ipv6Probe, report: &mut Report) {
    const ID: &str = "V6-C2";
    let Some(address) = probe.collector6 else {
        return report.untested(ID, "no IPv6 address of the collector is known");
    };
    let ip = IpAddr::V6(*address.ip());
    if !around.targets.allows(ip) {
        return report.untested(ID, format!("{ip} lies outside the allowed prefixes"));
    }
    let mut good = 0;
    let mut reason = Reason::None;
    for _ in 0..CONNECTIONS {
        let measured = connect(around, ip, address.port()).await;
        match measured.outcome {
            Outcome::Ok => good += 1,
            // 99 % are out of reach then, and a silent port would cost the run its time.
            Outcome::Failed => {
                reason = measured.reason;
                break;
            }
            Outcome::NotMeasured => return around.not_measured(report, ID, Some(measured.reason)),
        }
    }
    let note = if good == CONNECTIONS {
        address.to_string()
    } else {
        format!("{address}: {}", reason.label())
    };
    report.decide(
        ID,
        good == CONNECTIONS,
        i64::from(good * 100_000 / CONNECTIONS),
        note,
    );
}

impl Surroundings<'_> {
    /// Enters a check that this machine could not do: a failure where IPv6 itself is what is missing.
    pub(super) fn not_measured(&self, report: &mut Report, id: &str, reason: Option<Reason>) {
        let why = reason.unwrap_or(Reason::Other).label();
        if self.can_reach_out || reason == Some(Reason::NoPrivilege) {
            report.untested(id, why);
        } else {
            report.enter(
                id,
                Verdict::Fail,
                None,
                "no usable address or no default route",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipv6::rubric::rubric;

    #[test]
    fn degradation_and_loss_are_judged_as_the_rubric_says() {
        let echo = |received: u64, us: u64| Echo {
            sent: 1_000,
            received,
            round_trips_us: (us * 2, 2),
            hindered: None,
        };
        // IPv6, IPv4, verdicts of G1 and G2, values in thousandths of a percent.
        let cases = [
            (
                echo(1_000, 110_000),
                echo(1_000, 100_000),
                [Verdict::Pass, Verdict::Pass],
                [10_000, 0],
            ),
            (
                echo(1_000, 111_000),
                echo(1_000, 100_000),
                [Verdict::Fail, Verdict::Pass],
                [11_000, 0],
            ),
            (
                echo(1_000, 20_000),
                echo(1_000, 2_000),
                [Verdict::Pass, Verdict::Pass],
                [900_000, 0],
            ),
            (
                echo(1_000, 20_001),
                echo(1_000, 2_000),
                [Verdict::Fail, Verdict::Pass],
                [900_050, 0],
            ),
            (
                echo(998, 90_000),
                echo(999, 100_000),
                [Verdict::Pass, Verdict::Pass],
                [-10_000, 100],
            ),
            (
                echo(997, 90_000),
                echo(999, 100_000),
                [Verdict::Pass, Verdict::Fail],
                [-10_000, 200],
            ),
        ];
        for (v6, v4, verdicts, values) in cases {
            let mut report = Report::default();
            compare(&v6, &v4, &mut report);
            for (i, id) in ["V6-G1", "V6-G2"].into_iter().enumerate() {
                let finding = report.findings()[rubric().row(id).unwrap()];
                assert_eq!(finding.verdict, verdicts[i], "{id} {v6:?} {v4:?}");
                assert_eq!(finding.value, Some(values[i]), "{id} {v6:?} {v4:?}");
            }
        }
    }

    #[test]
    fn nothing_is_compared_with_silence() {
        let mut report = Report::default();
        let silent = Echo {
            sent: 20,
            ..Echo::default()
        };
        let answering = Echo {
            received: 20,
            round_trips_us: (1_000, 1),
            ..silent
        };
        compare(&answering, &silent, &mut report);
        assert_eq!(report, {
            let mut expected = Report::default();
            expected.untested("V6-G1", "no reply over IPv4");
            expected.untested("V6-G2", "no reply over IPv4");
            expected
        });
        assert_eq!(silent.loss(), Some(100_000));
        assert_eq!(Echo::default().loss(), None);
    }
}
