//! Made-up measurements like those of a village and of a switch, the same on every run: for sizes, benchmarks and
//! samples. Randomness is a hash of a counter, so that no dependency can change it.

use extranet_proto::id::{AssignmentVersion, CheckId, ObjectId};
use extranet_proto::metric::{self, Metric};
use extranet_proto::record::{
    Body, CheckResult, Definition, ObjectKind, Outcome, Reason, Record, RecordTime, Value,
};

/// Mean round trips in µs of the six checks of a village: gateway, county and centre, over IPv4 and IPv6 each.
pub(crate) const FIBRE_RTT_US: [u64; 6] = [450, 480, 2_100, 2_150, 9_400, 9_600];
/// The same behind a satellite.
pub(crate) const SATELLITE_RTT_US: [u64; 6] = [450, 480, 590_000, 592_000, 604_000, 606_000];
/// Ports of the switch.
pub(crate) const PORTS: u32 = 48;
/// Check id of the switch; the village has 1 to 6.
const SWITCH_CHECK: u32 = 7;
const MINUTE_MS: u64 = 60_000;
const BOOTED_AT_WALL_MS: u64 = 1_790_000_000_000;

/// A stream of reproducible random numbers (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Mostly small, sometimes large, like queueing: the mean is about `mean`.
    fn queueing(&mut self, mean: u64) -> u64 {
        let ones = self.next().trailing_ones().min(6);
        let scale = u64::from(ones + 1);
        self.below(mean * scale)
    }
}

fn time(dice: &mut Dice, boottime_ms: u64) -> RecordTime {
    // Both clocks are cut to milliseconds, each at its own moment.
    let wall_ms = BOOTED_AT_WALL_MS + boottime_ms + dice.below(8) / 7;
    RecordTime {
        boottime_ms,
        wall_ms: wall_ms.cast_signed(),
    }
}

fn result(check: u32, duration_us: u64, values: Vec<Value>) -> Body {
    Body::Result(CheckResult {
        assignment: AssignmentVersion(3),
        check: CheckId(check),
        outcome: Outcome::Ok,
        reason: Reason::None,
        duration_us,
        values,
    })
}

fn value(metric: Metric, object: u32, raw: u64) -> Value {
    Value {
        metric,
        object: ObjectId(object),
        raw,
    }
}

/// One round of a village: six bursts of five echo requests, one second apart.
pub(crate) fn village_round(dice: &mut Dice, round: u64, mean_rtt_us: [u64; 6]) -> Vec<Record> {
    let phases_ms = [4_211, 13_402, 22_877, 31_045, 44_630, 58_019];
    let checks = (1..).zip(mean_rtt_us.into_iter().zip(phases_ms));
    checks
        .map(|(check, (mean, phase_ms))| {
            let round_trips: Vec<u64> = (0..5).map(|_| mean + dice.queueing(mean / 20)).collect();
            let steps = round_trips.windows(2).map(|pair| pair[0].abs_diff(pair[1]));
            let jitter = steps.sum::<u64>() / 4;
            let min = round_trips.iter().copied().min().unwrap_or(0);
            let max = round_trips.iter().copied().max().unwrap_or(0);
            let mean = round_trips.iter().sum::<u64>() / 5;
            let hop_limit = 64 - u64::from(check) / 2 * 3;
            let raw = [5, 5, min, mean, max, jitter, hop_limit, 0];
            let values = (1..).zip(raw).map(|(m, raw)| value(Metric(m), 0, raw));
            let duration_us = 4_000_000 + round_trips[4] + 300 + dice.queueing(200);
            let boottime_ms = 86_400_000 + round * MINUTE_MS + phase_ms + duration_us / 1000;
            Record {
                time: time(dice, boottime_ms),
                body: result(check, duration_us, values.collect()),
            }
        })
        .collect()
}

/// Counters of the ports, as they stand now.
pub(crate) struct Switch {
    /// Four kinds of packets, in and out, and octets in and out, for each port.
    counters: Vec<[u64; 8]>,
    /// Mean octets in a minute, 0 for a port that is down.
    octets: Vec<u64>,
}

impl Switch {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let octets: Vec<u64> = (0..PORTS)
            .map(|_| {
                let down = dice.below(3) == 0;
                if down { 0 } else { 60_000 << dice.below(11) }
            })
            .collect();
        let start = |octets: &u64| std::array::from_fn(|i| octets * 9_000 / (1 + 40 * i as u64));
        Self {
            counters: octets.iter().map(start).collect(),
            octets,
        }
    }

    /// What a scrape of `system` and `if_mib` gives one minute later, walked column by column.
    pub(crate) fn round(&mut self, dice: &mut Dice, round: u64) -> Record {
        for (counters, mean) in self.counters.iter_mut().zip(&self.octets) {
            let octets_in = mean * 3 / 4 + dice.below(mean / 2);
            let octets_out = mean / 2 + dice.below(*mean);
            let grown = [
                octets_in,
                octets_in / 700 + dice.below(octets_in / 5_000),
                dice.below(octets_in / 60_000),
                dice.below(octets_in / 90_000),
                octets_out,
                octets_out / 650 + dice.below(octets_out / 5_000),
                dice.below(octets_out / 60_000),
                dice.below(octets_out / 90_000),
            ];
            counters.iter_mut().zip(grown).for_each(|(c, g)| *c += g);
        }
        let up_time = 8_640_000 + round * 6_000 + dice.below(9);
        let duration_us = 310_000 + dice.queueing(30_000);
        let mut values = vec![
            value(metric::SNMP_DURATION, 0, duration_us),
            value(metric::SNMP_PDUS, 0, 1_109),
            value(metric::SNMP_REQUESTS, 0, 47),
            value(metric::SYS_UP_TIME, 0, up_time),
            value(metric::IF_NUMBER, 0, PORTS.into()),
        ];
        for (metric, of_port) in self.columns() {
            let ports = (1..).zip(of_port);
            values.extend(ports.map(|(port, raw)| value(metric, port, raw)));
        }
        let boottime_ms = 86_400_000 + round * MINUTE_MS + 37_500 + duration_us / 1000;
        Record {
            time: time(dice, boottime_ms),
            body: result(SWITCH_CHECK, duration_us, values),
        }
    }

    fn columns(&self) -> Vec<(Metric, Vec<u64>)> {
        let ports = self.octets.len();
        let constant = |metric, raw| (metric, vec![raw; ports]);
        let by_state = |metric, up, down| {
            let octets = self.octets.iter();
            (
                metric,
                octets.map(|o| if *o > 0 { up } else { down }).collect(),
            )
        };
        let counter = |metric, i: usize| (metric, self.counters.iter().map(|c| c[i]).collect());
        vec![
            constant(metric::IF_TYPE, 6),
            constant(metric::IF_MTU, 1_500),
            by_state(metric::IF_SPEED, 1_000_000_000, 10_000_000),
            constant(metric::IF_ADMIN_STATUS, 1),
            by_state(metric::IF_OPER_STATUS, 1, 2),
            by_state(metric::IF_LAST_CHANGE, 2_817, 0),
            constant(metric::IF_IN_DISCARDS, 0),
            constant(metric::IF_IN_ERRORS, 0),
            constant(metric::IF_IN_UNKNOWN_PROTOS, 0),
            constant(metric::IF_OUT_DISCARDS, 0),
            constant(metric::IF_OUT_ERRORS, 0),
            counter(metric::IF_HC_IN_OCTETS, 0),
            counter(metric::IF_HC_IN_UCAST_PKTS, 1),
            counter(metric::IF_HC_IN_MULTICAST_PKTS, 2),
            counter(metric::IF_HC_IN_BROADCAST_PKTS, 3),
            counter(metric::IF_HC_OUT_OCTETS, 4),
            counter(metric::IF_HC_OUT_UCAST_PKTS, 5),
            counter(metric::IF_HC_OUT_MULTICAST_PKTS, 6),
            counter(metric::IF_HC_OUT_BROADCAST_PKTS, 7),
            by_state(metric::IF_HIGH_SPEED, 1_000, 10),
            constant(metric::IF_PROMISCUOUS_MODE, 2),
            constant(metric::IF_CONNECTOR_PRESENT, 1),
            constant(metric::IF_COUNTER_DISCONTINUITY_TIME, 0),
        ]
    }
}

/// Definitions of the ports.
pub(crate) fn port_definitions(dice: &mut Dice) -> Vec<Record> {
    let label = |name: &str, value: String| (name.to_owned(), value);
    (1..=PORTS)
        .map(|port| Record {
            time: time(dice, 86_400_000),
            body: Body::Definition(Definition {
                object: ObjectId(port),
                check: CheckId(SWITCH_CHECK),
                kind: ObjectKind::Interface,
                labels: vec![
                    label("ifIndex", port.to_string()),
                    label("ifName", format!("Gi1/0/{port}")),
                    label("ifDescr", format!("GigabitEthernet1/0/{port}")),
                    label("ifAlias", String::new()),
                ],
            }),
        })
        .collect()
}

/// What a village sends once a minute.
pub(crate) fn live_batch(mean_rtt_us: [u64; 6]) -> Vec<Record> {
    village_round(&mut Dice(1), 0, mean_rtt_us)
}

/// Backlog: rounds of a village that also polls a switch of 48 ports.
pub(crate) fn sealed_block(rounds: u64) -> Vec<Record> {
    let mut dice = Dice(2);
    let mut records = port_definitions(&mut dice);
    let mut switch = Switch::new(&mut dice);
    for round in 0..rounds {
        records.extend(village_round(&mut dice, round, FIBRE_RTT_US));
        records.push(switch.round(&mut dice, round));
    }
    records
}

/// Rounds of a village alone.
pub(crate) fn village_block(rounds: u64, mean_rtt_us: [u64; 6]) -> Vec<Record> {
    let mut dice = Dice(3);
    (0..rounds)
        .flat_map(|round| village_round(&mut dice, round, mean_rtt_us))
        .collect()
}

/// How many values the results hold.
pub(crate) fn value_count(records: &[Record]) -> usize {
    let values = records.iter().map(|record| match &record.body {
        Body::Result(result) => result.values.len(),
        _ => 0,
    });
    values.sum()
}
