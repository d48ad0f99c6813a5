//! One direction: what becomes of each packet, and when. No clock and no file in here.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::{Faults, Flow, addresses};

/// A direction of the link.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) faults: Faults,
    random: SplitMix,
    queue: BinaryHeap<Reverse<Release>>,
    /// Packets that were admitted: the number of the next one.
    admitted: u64,
    /// What stays in order is not released before this.
    not_before: Duration,
    /// When the line is free again.
    line_free: Duration,
    /// The highest number that was released, by source and destination.
    highest: HashMap<(IpAddr, IpAddr), u64>,
    flow: Flow,
}

/// A packet on its way. Ordered by time; what is due at once goes in the order of arrival, copies last.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Release {
    at: Duration,
    number: u64,
    role: Role,
    packet: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Original,
    Copy,
    Control,
}

impl Lane {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            random: SplitMix(seed),
            queue: BinaryHeap::new(),
            admitted: 0,
            not_before: Duration::ZERO,
            line_free: Duration::ZERO,
            highest: HashMap::new(),
            flow: Flow::default(),
        }
    }

    pub(super) fn flow(&self) -> Flow {
        let counted = |release: &&Reverse<Release>| release.0.role == Role::Original;
        Flow {
            waiting: self.queue.iter().filter(counted).count() as u64,
            ..self.flow
        }
    }

    pub(super) fn forget(&mut self) {
        self.flow = Flow::default();
    }

    /// When there is something to release next.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.queue.peek().map(|next| next.0.at)
    }

    /// Takes a packet that came out of the namespace.
    pub(super) fn admit(&mut self, now: Duration, packet: &[u8]) {
        let number = self.admitted;
        self.admitted += 1;
        let ends = addresses(packet);
        if ends.is_none_or(|(source, destination)| is_control(source, destination)) {
            self.flow.control += 1;
            let at = now + self.faults.delay;
            return self.push(at, number, Role::Control, packet);
        }
        let bytes = packet.len() as u64;
        self.flow.received += 1;
        self.flow.received_bytes += bytes;
        // Always as many draws, so that the fate of one packet does not depend on that of another.
        let [lost, copied, held, waits] = [(); 4].map(|()| self.random.draw());
        let faults = self.faults;
        let is_v6 = ends.is_some_and(|(source, _)| source.is_ipv6());
        if if is_v6 {
            faults.drop_v6
        } else {
            faults.drop_v4
        } {
            self.flow.wrong_family += 1;
            return;
        }
        if faults.black_hole_above > 0 && packet.len() > faults.black_hole_above {
            self.flow.too_big += 1;
            return;
        }
        if is_hit(lost, faults.loss_per_mille) {
            self.flow.lost += 1;
            return;
        }
        let Some(behind_the_line) = self.pass_line(now, bytes) else {
            self.flow.queue_full += 1;
            return;
        };
        let jitter_ns = u64::try_from(faults.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter =
            Duration::from_nanos(waits.checked_rem(jitter_ns.saturating_add(1)).unwrap_or(0));
        let mut at = (behind_the_line + faults.delay + jitter).max(self.not_before);
        if is_hit(held, faults.hold_per_mille) {
            at += faults.hold;
        } else {
            self.not_before = at;
        }
        self.push(at, number, Role::Original, packet);
        if is_hit(copied, faults.duplicate_per_mille) {
            self.push(at, number, Role::Copy, packet);
        }
    }

    /// When a packet has left the line; `None` if too much waits for it already.
    fn pass_line(&mut self, now: Duration, bytes: u64) -> Option<Duration> {
        let Faults {
            rate, queue_bytes, ..
        } = self.faults;
        if rate == 0 {
            return Some(now);
        }
        let start = self.line_free.max(now);
        let waiting_bits = start.saturating_sub(now).as_nanos() * u128::from(rate) / 1_000_000_000;
        if waiting_bits / 8 > u128::from(queue_bytes) {
            return None;
        }
        let nanoseconds = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate);
        self.line_free =
            start + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        Some(self.line_free)
    }

    fn push(&mut self, at: Duration, number: u64, role: Role, packet: &[u8]) {
        self.queue.push(Reverse(Release {
            at,
            number,
            role,
            packet: packet.to_vec(),
        }));
    }

    /// Gives everything that is due to `deliver`, which says whether it was taken.
    pub(super) fn release(&mut self, now: Duration, mut deliver: impl FnMut(&[u8]) -> bool) {
        while self.next_due().is_some_and(|due| due <= now) {
            let Some(Reverse(release)) = self.queue.pop() else {
                return;
            };
            let taken = deliver(&release.packet);
            match release.role {
                Role::Control => {}
                Role::Original if !taken => self.flow.refused += 1,
                Role::Copy if !taken => {}
                Role::Original => {
                    self.forwarded(&release.packet);
                    self.note_order(&release);
                }
                Role::Copy => {
                    self.forwarded(&release.packet);
                    self.flow.duplicated += 1;
                }
            }
        }
    }

    fn forwarded(&mut self, packet: &[u8]) {
        self.flow.forwarded += 1;
        self.flow.forwarded_bytes += packet.len() as u64;
    }

    fn note_order(&mut self, release: &Release) {
        let Some(ends) = addresses(&release.packet) else {
            return;
        };
        let highest = self.highest.entry(ends).or_insert(release.number);
        if release.number < *highest {
            self.flow.reordered += 1;
        } else {
            *highest = release.number;
        }
    }
}

fn is_hit(draw: u64, per_mille: u16) -> bool {
    draw % 1_000 < u64::from(per_mille)
}

fn is_control(source: IpAddr, destination: IpAddr) -> bool {
    let link_local = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    destination.is_multicast() || link_local(source) || link_local(destination)
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, and the same everywhere.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 or IPv6 packet of so many bytes, marked in its last byte.
    fn packet(version: u8, length: usize, mark: u8) -> Vec<u8> {
        let mut packet = vec![0; length];
        packet[0] = version << 4;
        if version == 4 {
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        } else {
            packet[8] = 0xfd;
            packet[24] = 0xfd;
        }
        packet[length - 1] = mark;
        packet
    }

    fn run(
        seed: u64,
        faults: Faults,
        packets: u16,
        apart: Duration,
    ) -> (Vec<(Duration, u8)>, Flow) {
        let mut lane = Lane::new(seed);
        lane.faults = faults;
        let mut out = Vec::new();
        for number in 0..packets {
            let now = apart * u32::from(number);
            let mark = u8::try_from(number % 256).unwrap();
            drain(&mut lane, now, &mut out);
            lane.admit(now, &packet(4, 100, mark));
        }
        drain(&mut lane, Duration::from_hours(1), &mut out);
        (out, lane.flow())
    }

    fn drain(lane: &mut Lane, until: Duration, out: &mut Vec<(Duration, u8)>) {
        while let Some(due) = lane.next_due().filter(|due| *due <= until) {
            lane.release(due, |packet| {
                out.push((due, packet[packet.len() - 1]));
                true
            });
        }
    }

    const APART: Duration = Duration::from_millis(10);

    #[test]
    fn without_faults_everything_passes_at_once() {
        let (out, flow) = run(1, Faults::default(), 10, APART);
        let expected: Vec<_> = (0..10).map(|n| (APART * u32::from(n), n)).collect();
        assert_eq!(out, expected);
        assert_eq!(
            (flow.received, flow.forwarded, flow.forwarded_bytes),
            (10, 10, 1_000)
        );
    }

    #[test]
    fn a_seed_is_a_fate_and_counts_are_what_happened() {
        let faults = Faults {
            loss_per_mille: 300,
            duplicate_per_mille: 200,
            hold_per_mille: 100,
            hold: APART * 3,
            jitter: APART / 2,
            ..Faults::delay(APART)
        };
        let (out, flow) = run(42, faults, 1_000, APART);
        assert_eq!(
            (&out, &flow),
            (
                &run(42, faults, 1_000, APART).0,
                &run(42, faults, 1_000, APART).1
            )
        );
        assert_ne!(out, run(43, faults, 1_000, APART).0);
        assert_eq!(flow.forwarded, out.len() as u64);
        assert_eq!(flow.received, flow.lost + flow.forwarded - flow.duplicated);
        assert!((250..350).contains(&flow.lost), "{flow:?}");
        assert!((100..180).contains(&flow.duplicated), "{flow:?}");
        assert!((40..100).contains(&flow.reordered), "{flow:?}");
    }

    #[test]
    fn what_is_held_back_is_overtaken() {
        let faults = Faults {
            hold_per_mille: 1_000,
            hold: APART * 2,
            ..Faults::default()
        };
        let mut lane = Lane::new(1);
        lane.faults = faults;
        lane.admit(Duration::ZERO, &packet(4, 40, 0));
        lane.faults = Faults::default();
        lane.admit(APART, &packet(4, 40, 1));
        let mut out = Vec::new();
        drain(&mut lane, APART * 9, &mut out);
        assert_eq!(out, [(APART, 1), (APART * 2, 0)]);
        assert_eq!(lane.flow().reordered, 1);
    }

    #[test]
    fn a_rate_makes_packets_wait_and_a_full_queue_drops() {
        // 100 bytes take 10 ms; the queue holds two packets besides the one on the line.
        let faults = Faults {
            rate: 80_000,
            queue_bytes: 200,
            ..Faults::default()
        };
        let (out, flow) = run(1, faults, 5, Duration::ZERO);
        let times: Vec<_> = out.iter().map(|(at, _)| at.as_millis()).collect();
        assert_eq!(times, [10, 20, 30]);
        assert_eq!(flow.queue_full, 2);
    }

    #[test]
    fn families_and_sizes_vanish_and_the_kernels_own_talk_does_not() {
        let mut lane = Lane::new(1);
        lane.faults = Faults {
            drop_v6: true,
            black_hole_above: 1_300,
            ..Faults::default()
        };
        lane.admit(Duration::ZERO, &packet(6, 100, 0));
        lane.admit(Duration::ZERO, &packet(4, 1_301, 0));
        lane.admit(Duration::ZERO, &packet(4, 1_300, 0));
        let mut multicast = packet(6, 100, 0);
        multicast[24] = 0xff;
        lane.admit(Duration::ZERO, &multicast);
        lane.admit(Duration::ZERO, b"no IP");
        let mut out = Vec::new();
        drain(&mut lane, APART, &mut out);
        let flow = lane.flow();
        assert_eq!((flow.received, flow.wrong_family, flow.too_big), (3, 1, 1));
        assert_eq!((flow.forwarded, flow.control, out.len()), (1, 2, 3));
    }
}
