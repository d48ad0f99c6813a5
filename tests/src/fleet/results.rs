//! Results as a site with a given medium would measure them: drawn, but with the shapes, sizes and spreads that the
//! encoding has to deal with. Deterministic by seed.

use extranet_proto::assignment::{Check, LinkClass, Probe};
use extranet_proto::id::{AssignmentVersion, ObjectId};
use extranet_proto::metric::{self, Metric};
use extranet_proto::record::{CheckResult, Outcome, Reason, Value};

/// Numbers that look random (xorshift64*).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Uniform below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit.max(1)
    }
}

/// Round trip and its spread, µs, and packets lost of a thousand.
const fn line(medium: LinkClass) -> (u64, u64, u64) {
    match medium {
        LinkClass::Fibre => (8_000, 1_500, 0),
        LinkClass::Microwave => (12_000, 4_000, 1),
        LinkClass::Mobile => (60_000, 40_000, 10),
        LinkClass::Satellite => (620_000, 60_000, 20),
        LinkClass::Other => (20_000, 8_000, 2),
    }
}

/// Samples that the collector makes of each result beside its values: duration and success.
pub const SAMPLES_BESIDE: usize = 2;

/// One run of a check.
pub fn result(
    assignment: AssignmentVersion,
    check: &Check,
    medium: LinkClass,
    dice: &mut Dice,
) -> CheckResult {
    let (base, spread, loss_per_mille) = line(medium);
    let trip = |dice: &mut Dice| base + dice.below(spread);
    let value = |metric: Metric, raw: u64| Value {
        metric,
        object: ObjectId(0),
        raw,
    };
    let (duration_us, values) = match &check.probe {
        Probe::Icmp(icmp) => {
            let sent = u64::from(icmp.packets);
            let silent = (0..sent)
                .filter(|_| dice.below(1_000) < loss_per_mille)
                .count() as u64;
            let (first, second) = (trip(dice), trip(dice));
            let (min, max) = (first.min(second), first.max(second));
            let mut values = vec![
                value(metric::ICMP_SENT, sent),
                value(metric::ICMP_RECEIVED, sent - silent),
            ];
            if silent < sent {
                values.extend([
                    value(metric::ICMP_RTT_MIN, min),
                    value(metric::ICMP_RTT_AVG, min.midpoint(max)),
                    value(metric::ICMP_RTT_MAX, max),
                    value(metric::ICMP_JITTER, (max - min) / 3),
                    value(metric::ICMP_HOP_LIMIT, 57),
                ]);
            }
            let gap = u64::try_from(icmp.packet_interval.as_micros()).unwrap_or(0);
            (gap * sent.saturating_sub(1) + max, values)
        }
        Probe::Tcp(_) => {
            let connect = trip(dice);
            (connect, vec![value(metric::TCP_CONNECT, connect)])
        }
        _ => (2 * trip(dice), Vec::new()),
    };
    CheckResult {
        assignment,
        check: check.id,
        outcome: Outcome::Ok,
        reason: Reason::None,
        duration_us,
        values,
    }
}
