//! The echo engine is told anything: requests that leave, replies and errors made from them and damaged, at any time,
//! with clocks that are set and runs that end too early. The first byte says which kind of socket.
#![no_main]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use extranet_agent::net::icmp_socket::ErrorReport;
use extranet_agent::probe::icmp::replay::Player;
use extranet_proto::assignment::Family;
use extranet_proto::metric;
use extranet_proto::record::Outcome;
use libfuzzer_sys::fuzz_target;

const PACKETS: u16 = 4;
const PAYLOAD: u16 = 24;

fuzz_target!(|bytes: &[u8]| {
    let Some((socket, mut rest)) = bytes.split_first() else {
        return;
    };
    let (family, hosts) = if socket & 1 == 0 {
        (Family::V4, ["10.0.0.1", "10.0.0.2"])
    } else {
        (Family::V6, ["fd00::1", "fd00::2"])
    };
    let hosts = hosts.map(|host| host.parse::<IpAddr>().expect("an address"));
    let mut player = Player::new(family, socket & 2 != 0);
    let runs = hosts.map(|host| player.begin(host, PACKETS, PAYLOAD, Duration::ZERO));
    let mut requests: Vec<Vec<u8>> = Vec::new();
    // The engine sends each request once, or refuses it.
    let mut left = BTreeSet::new();
    let mut at = Duration::ZERO;
    let mut received_before = 0;
    // What happens: three bytes, and up to 15 changes of two bytes for what arrives.
    while let Some(([what, which, when], after)) = rest.split_first_chunk() {
        rest = after;
        at += Duration::from_micros(u64::from(*when) * 10);
        let host = hosts[usize::from(which & 1)];
        let index = u16::from(which >> 1) % (PACKETS + 1);
        match what & 7 {
            0 | 1 if left.insert((which & 1, index)) => {
                let run = runs[usize::from(which & 1)];
                let request = player.send(run, index, at, Duration::from_millis(1));
                requests.push(request.to_vec());
            }
            2..=4 => {
                let Some(request) = requests.get(usize::from(which >> 1)) else {
                    continue;
                };
                let mut message = request.clone();
                let is_reply = what & 7 != 4;
                if is_reply {
                    let (asked, reply) = if family == Family::V4 {
                        (8, 0)
                    } else {
                        (128, 129)
                    };
                    message[0] = reply;
                    // RFC 1624: the checksum of the reply follows from that of the request.
                    if family == Family::V4 {
                        let sum = u16::from_be_bytes([message[2], message[3]]);
                        let sum = u32::from(sum) + (u32::from(asked - reply) << 8);
                        let folded = (sum & 0xffff) + (sum >> 16);
                        message[2..4].copy_from_slice(&(folded as u16).to_be_bytes());
                    }
                }
                rest = damage(&mut message, usize::from(what >> 4), rest);
                if is_reply {
                    player.receive(host, &message, at, Some(*when));
                } else {
                    player.error(&ErrorReport {
                        destination: host,
                        offender: hosts[0],
                        kind: what >> 3,
                        code: *when & 15,
                        quoted: &message,
                    });
                }
            }
            5 => player.set_clock(i64::from(*which) * 1_000_000_000 - 128_000_000_000),
            6 if left.insert((which & 1, index)) => {
                player.refuse(runs[usize::from(which & 1)], index);
            }
            0 | 1 | 6 => {}
            _ => {
                let run = runs[usize::from(which & 1)];
                let ended = player.end(run, at).expect("it began");
                let value = |metric| {
                    let mut values = ended.values.iter();
                    values
                        .find(|value| value.metric == metric)
                        .map(|value| value.raw)
                };
                let sent = value(metric::ICMP_SENT).unwrap_or(0);
                let received = value(metric::ICMP_RECEIVED).unwrap_or(0);
                assert!(received <= sent && sent <= u64::from(PACKETS));
                assert_eq!(ended.outcome == Outcome::Ok, received > 0);
                assert!(value(metric::ICMP_REORDERED).unwrap_or(0) < received.max(1));
                assert!(ended.values.is_sorted_by_key(|value| value.metric));
                if let Some(longest) = value(metric::ICMP_RTT_MAX) {
                    assert!(longest <= 1_000, "later than it was waited for");
                }
            }
        }
        let counts = player.counts();
        assert!(counts.received >= received_before);
        received_before = counts.received;
    }
});

fn damage<'a>(message: &mut Vec<u8>, changes: usize, mut rest: &'a [u8]) -> &'a [u8] {
    for _ in 0..changes {
        let Some(([place, value], after)) = rest.split_first_chunk() else {
            return rest;
        };
        rest = after;
        match message.get_mut(usize::from(*place)) {
            Some(byte) => *byte ^= value,
            None => message.truncate(usize::from(*value)),
        }
    }
    rest
}
