//! NTP packets (RFC 5905 section 7.3), as a client needs them: 48 bytes each way, extensions passed over.
//!
//! The request says nothing about this machine (draft-ietf-ntp-data-minimization): its only content is a random number
//! where a client usually puts its time. The server must send it back as the origin timestamp, so that an answer that
//! somebody else made up is not believed.

/// Length of a packet without extensions.
pub const PACKET_BYTES: usize = 48;
/// Mode 3: client.
const CLIENT: u8 = 3;
/// Mode 4: server.
const SERVER: u8 = 4;
/// Leap indicator 3: clock not synchronised.
pub const LEAP_UNKNOWN: u8 = 3;
/// Lowest stratum of a server that is not synchronised.
pub const STRATUM_UNSYNCHRONISED: u8 = 16;
/// Seconds from the start of NTP's era 0 (1900) to 1970.
const ERA_OFFSET_S: i64 = 2_208_988_800;

/// A point in time: seconds since 1900 and their fraction, 32 bits each, without the era. Zero = unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(pub u64);

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Leap indicator, 0 to 3.
    pub leap: u8,
    /// Version of the protocol.
    pub version: u8,
    /// Distance from a reference clock; 0 = a kiss-o'-death.
    pub stratum: u8,
    /// Round trip to the reference clock, 2^-16 s.
    pub root_delay: u32,
    /// Largest error of the server's clock, 2^-16 s.
    pub root_dispersion: u32,
    /// Which server or reference clock; the kiss code where the stratum is 0.
    pub reference_id: [u8; 4],
    /// When the server's clock was set.
    pub reference: Timestamp,
    /// What the request had as its transmit timestamp.
    pub origin: Timestamp,
    /// When the request arrived.
    pub receive: Timestamp,
    /// When the answer left.
    pub transmit: Timestamp,
}

/// Why a datagram is no answer of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Shorter than a packet.
    Short,
    /// Of another mode or of a version before 3.
    OtherMode,
}

/// A request with `nonce` as its transmit timestamp.
pub fn request(version: u8, nonce: Timestamp) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[0] = (version & 7) << 3 | CLIENT;
    packet[40..].copy_from_slice(&nonce.0.to_be_bytes());
    packet
}

/// Reads an answer.
pub fn parse(datagram: &[u8]) -> Result<Answer, NoAnswer> {
    let (packet, _) = datagram
        .split_first_chunk::<PACKET_BYTES>()
        .ok_or(NoAnswer::Short)?;
    let [flags, stratum, ..] = *packet;
    let version = flags >> 3 & 7;
    if flags & 7 != SERVER || version < 3 {
        return Err(NoAnswer::OtherMode);
    }
    let word = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&packet[at..at + 4]);
        bytes
    };
    let stamp = |at: usize| {
        let high = u32::from_be_bytes(word(at));
        let low = u32::from_be_bytes(word(at + 4));
        Timestamp(u64::from(high) << 32 | u64::from(low))
    };
    Ok(Answer {
        leap: flags >> 6,
        version,
        stratum,
        root_delay: u32::from_be_bytes(word(4)),
        root_dispersion: u32::from_be_bytes(word(8)),
        reference_id: word(12),
        reference: stamp(16),
        origin: stamp(24),
        receive: stamp(32),
        transmit: stamp(40),
    })
}

impl Timestamp {
    /// From ns since 1970; the era is dropped.
    pub fn from_unix_ns(ns: i64) -> Self {
        let seconds = ns.div_euclid(1_000_000_000) + ERA_OFFSET_S;
        let fraction = (ns.rem_euclid(1_000_000_000).cast_unsigned() << 32) / 1_000_000_000;
        Self(seconds.cast_unsigned() << 32 | fraction)
    }

    /// This time minus an earlier or later one, µs. Right for times that are less than 68 years apart, whatever their
    /// eras (RFC 5905 section 6).
    pub fn since_us(self, other: Self) -> i64 {
        let difference = self.0.wrapping_sub(other.0).cast_signed();
        let us = (i128::from(difference) * 1_000_000) >> 32;
        i64::try_from(us).unwrap_or(i64::MAX)
    }

    /// Seconds since 1970, of the era that is next to a time known otherwise (ns since 1970).
    pub fn unix_s_near(self, near_ns: i64) -> i64 {
        let near = Self::from_unix_ns(near_ns);
        near_ns.div_euclid(1_000_000_000) + self.since_us(near).div_euclid(1_000_000)
    }
}

impl Answer {
    /// Whether the server says that its own clock is not set.
    pub fn is_unsynchronised(&self) -> bool {
        self.leap == LEAP_UNKNOWN || self.stratum >= STRATUM_UNSYNCHRONISED
    }

    /// Offset of the server's clock against ours and round trip without the server's own time, µs (RFC 5905 section 8:
    /// theta and delta). `sent` and `received` are times of our clock.
    pub fn offset_and_delay_us(&self, sent: Timestamp, received: Timestamp) -> (i64, u64) {
        let there = self.receive.since_us(sent);
        let back = self.transmit.since_us(received);
        let whole = received.since_us(sent);
        let inside = self.transmit.since_us(self.receive);
        let delay = whole.saturating_sub(inside);
        // Less than nothing comes from clocks that run at different speeds, over very short ways.
        (there.midpoint(back), u64::try_from(delay).unwrap_or(0))
    }
}

/// A duration in NTP's short format, in µs.
pub fn short_us(short: u32) -> u64 {
    (u64::from(short) * 1_000_000) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_NS: i64 = 1_790_000_000_250_000_000;

    fn answer() -> [u8; PACKET_BYTES] {
        let mut packet = request(4, Timestamp(0));
        packet[0] = 4 << 3 | SERVER;
        packet[1] = 2;
        packet[4..8].copy_from_slice(&0x0000_8000_u32.to_be_bytes());
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[24..32].copy_from_slice(&7_u64.to_be_bytes());
        packet
    }

    #[test]
    fn an_answer_is_read_and_nothing_else() {
        let read = parse(&answer()).unwrap();
        assert_eq!((read.leap, read.version, read.stratum), (0, 4, 2));
        assert_eq!(short_us(read.root_delay), 500_000);
        assert_eq!(read.reference_id, [10, 0, 0, 1]);
        assert_eq!(read.origin, Timestamp(7));
        let mut with_extension = answer().to_vec();
        with_extension.extend([0; 20]);
        assert_eq!(parse(&with_extension), Ok(read));

        assert_eq!(parse(&answer()[..47]), Err(NoAnswer::Short));
        let request = request(4, Timestamp(1));
        assert_eq!(parse(&request), Err(NoAnswer::OtherMode));
        let mut old = answer();
        old[0] = 2 << 3 | SERVER;
        assert_eq!(parse(&old), Err(NoAnswer::OtherMode));
    }

    #[test]
    fn times_keep_their_distance_across_eras() {
        let stamp = Timestamp::from_unix_ns(AT_NS);
        assert_eq!(stamp.unix_s_near(AT_NS), 1_790_000_000);
        let later = Timestamp::from_unix_ns(AT_NS + 1_500_000_000);
        assert_eq!(later.since_us(stamp), 1_500_000);
        assert_eq!(stamp.since_us(later), -1_500_000);
        // Era 0 ends in February 2036.
        let end_ns = 2_085_978_496_i64 * 1_000_000_000;
        let (before, behind) = (end_ns - 1_000_000_000, end_ns + 1_000_000_000);
        let across = Timestamp::from_unix_ns(behind).since_us(Timestamp::from_unix_ns(before));
        assert_eq!(across, 2_000_000);
        assert_eq!(
            Timestamp::from_unix_ns(behind).unix_s_near(before),
            2_085_978_497
        );
        // A machine that woke up in 1970 still sees by how much it is wrong.
        let start = Timestamp::from_unix_ns(0);
        assert_eq!(stamp.since_us(start), 1_790_000_000_250_000);
    }

    #[test]
    fn offset_and_delay_are_those_of_the_rfc() {
        // Our clock is 1 s behind; 40 ms there, 10 ms in the server, 20 ms back.
        let at = |ms: i64| Timestamp::from_unix_ns(AT_NS + ms * 1_000_000);
        let answer = Answer {
            receive: at(1_040),
            transmit: at(1_050),
            ..parse(&answer()).unwrap()
        };
        let (offset, delay) = answer.offset_and_delay_us(at(0), at(70));
        assert!((offset - 1_010_000).abs() <= 1, "{offset}");
        assert!(delay.abs_diff(60_000) <= 1, "{delay}");
    }
}
