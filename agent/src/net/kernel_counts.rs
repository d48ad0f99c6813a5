//! What the kernel counts about ICMP and tells nobody else: messages that it dropped for a wrong checksum.
//!
//! A damaged reply never reaches a datagram socket, so to the engine it looks lost. These counters are those of the
//! network namespace: all ICMP of the machine, not only ours.

use std::fs;

/// Lines of names and of values, by protocol.
const V4: &str = "/proc/thread-self/net/snmp";
/// One name and one value in a line.
const V6: &str = "/proc/thread-self/net/snmp6";

/// ICMP and `ICMPv6` messages with a wrong checksum since the namespace was made; what cannot be read counts as none.
pub fn wrong_checksums() -> u64 {
    let v4 = fs::read_to_string(V4).ok();
    let v6 = fs::read_to_string(V6).ok();
    v4.as_deref().and_then(of_v4).unwrap_or(0) + v6.as_deref().and_then(of_v6).unwrap_or(0)
}

fn of_v4(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Icmp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let (_, value) = names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(name, _)| *name == "InCsumErrors")?;
    value.parse().ok()
}

fn of_v6(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.starts_with("Icmp6InCsumErrors"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_read_by_name() {
        let v4 = "Ip: Forwarding InHdrErrors\nIp: 1 7\nIcmp: InMsgs InErrors InCsumErrors InEchos\nIcmp: 54 9 3 27\n\
                  IcmpMsg: InType0\nIcmpMsg: 2\n";
        assert_eq!(of_v4(v4), Some(3));
        assert_eq!(of_v4("Icmp: InMsgs InErrors\nIcmp: 54 9\n"), None);
        let v6 = "Icmp6InErrors  \t2\nIcmp6InCsumErrors               \t5\n";
        assert_eq!(of_v6(v6), Some(5));
        assert_eq!(of_v6(""), None);
    }
}
