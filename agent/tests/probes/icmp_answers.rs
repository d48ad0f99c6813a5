//! ICMP: answers that are late, doubled, damaged or not for us.

use std::net::Ipv4Addr;
use std::time::Duration;

use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};

use crate::namespace::Laboratory;
use crate::responder::{Behaviour, answer_with, fix_checksum, reply_to};
use crate::{AMPLE, block_on, echoes, eventually, measure, probes, value};
use extranet_agent::probe::icmp::Counts;

const FAR: &str = "10.78.0.2";
const NOW: Duration = Duration::ZERO;

/// Measures the far host while it behaves like this, with datagram and raw sockets; then waits for the counts.
fn measure_behaviour(
    behaviour: Behaviour,
    timeout: Duration,
    counted: fn(&Counts) -> bool,
    judge: fn(&extranet_agent::probe::Measured),
) {
    let laboratory = Laboratory::new();
    answer_with(&laboratory.far, behaviour);
    for datagram in [true, false] {
        laboratory.site.allow_datagram_icmp(datagram);
        laboratory.site.run(move || {
            block_on(async {
                let probes = probes();
                judge(&measure(&probes, echoes(3), FAR, timeout).await);
                let counts = || probes.icmp_counts();
                eventually(|| counted(&counts()), || format!("{:?}", counts())).await;
            });
        });
    }
}

#[test]
fn a_reply_that_comes_twice_counts_once() {
    measure_behaviour(
        |request| vec![(NOW, reply_to(request)), (NOW, reply_to(request))],
        AMPLE,
        // The second answer to the last request may find the run already over; it is a copy all the same.
        |counts| (counts.received, counts.duplicates, counts.late) == (3, 3, 0),
        |measured| {
            assert_eq!(measured.outcome, Outcome::Ok);
            assert_eq!(value(measured, metric::ICMP_RECEIVED), Some(3));
            let duplicates = value(measured, metric::ICMP_DUPLICATES).unwrap();
            assert!((2..=3).contains(&duplicates), "{duplicates}");
        },
    );
}

#[test]
fn a_late_reply_is_counted_and_proves_nothing() {
    measure_behaviour(
        |request| vec![(Duration::from_millis(700), reply_to(request))],
        Duration::from_millis(200),
        |counts| counts.late == 3 && counts.received == 0,
        |measured| {
            assert_eq!(
                (measured.outcome, measured.reason),
                (Outcome::Failed, Reason::Timeout)
            );
            assert_eq!(value(measured, metric::ICMP_RECEIVED), Some(0));
        },
    );
}

#[test]
fn a_reply_with_another_token_is_not_ours() {
    measure_behaviour(
        |request| {
            let mut forged = reply_to(request);
            forged[8 + 12] ^= 1;
            fix_checksum(&mut forged);
            let mut short = reply_to(request);
            short.truncate(8 + 15);
            fix_checksum(&mut short);
            vec![(NOW, forged), (NOW, short)]
        },
        Duration::from_millis(200),
        |counts| counts.foreign == 6 && counts.received == 0,
        |measured| assert_eq!(measured.reason, Reason::Timeout),
    );
}

#[test]
fn a_reply_with_changed_content_is_malformed() {
    measure_behaviour(
        |request| {
            let mut changed = reply_to(request);
            *changed.last_mut().unwrap() ^= 1;
            fix_checksum(&mut changed);
            vec![(NOW, changed)]
        },
        AMPLE,
        |counts| counts.malformed == 3 && counts.received == 0,
        |measured| {
            assert_eq!(
                (measured.outcome, measured.reason),
                (Outcome::Failed, Reason::Malformed)
            );
        },
    );
}

#[test]
fn a_damaged_reply_is_dropped() {
    measure_behaviour(
        |request| {
            let mut damaged = reply_to(request);
            damaged[2] ^= 0xff;
            vec![(NOW, damaged)]
        },
        Duration::from_millis(200),
        // Datagram sockets: the kernel dropped it. Raw sockets: we did, and the kernel counted it all the same.
        |counts| {
            counts.sent == 3
                && counts.received == 0
                && counts.bad_checksums == 3
                && matches!(counts.malformed, 0 | 3)
        },
        |measured| assert_eq!(measured.reason, Reason::Timeout),
    );
}

/// An error message about a request, quoting so many bytes of its ICMP message behind the IP header.
fn host_unreachable(request: &[u8], quoted: usize) -> Vec<u8> {
    let mut message = vec![3, 1, 0, 0, 0, 0, 0, 0];
    let mut header = [0; 20];
    header[0] = 0x45;
    let length = u16::try_from(20 + request.len()).unwrap();
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[8..10].copy_from_slice(&[1, 1]);
    header[12..16].copy_from_slice(&Ipv4Addr::new(10, 77, 0, 1).octets());
    header[16..20].copy_from_slice(&Ipv4Addr::new(10, 78, 0, 2).octets());
    message.extend_from_slice(&header);
    message.extend_from_slice(&request[..quoted]);
    fix_checksum(&mut message);
    message
}

#[test]
fn an_error_that_quotes_only_eight_bytes_finds_its_request() {
    measure_behaviour(
        |request| vec![(NOW, host_unreachable(request, 8))],
        AMPLE,
        |counts| counts.errors == 3 && counts.received == 0,
        |measured| {
            assert_eq!(
                (measured.outcome, measured.reason),
                (Outcome::Failed, Reason::HostUnreachable)
            );
        },
    );
}

#[test]
fn a_reply_after_an_error_has_the_last_word() {
    measure_behaviour(
        |request| {
            let wait = Duration::from_millis(1);
            vec![
                (NOW, host_unreachable(request, request.len())),
                (wait, reply_to(request)),
            ]
        },
        AMPLE,
        |counts| counts.received + counts.late == 3,
        |measured| {
            // The last request is settled by its error, unless the reply was as quick.
            assert_eq!(measured.outcome, Outcome::Ok);
            assert!(value(measured, metric::ICMP_RECEIVED).unwrap() >= 2);
        },
    );
}

#[test]
fn an_error_about_another_request_is_not_ours() {
    measure_behaviour(
        |request| {
            // Another token, quoted in full: somebody else's request, or a forgery.
            let mut other = request.to_vec();
            other[8 + 9] ^= 1;
            vec![
                (NOW, host_unreachable(&other, other.len())),
                (NOW, reply_to(request)),
            ]
        },
        AMPLE,
        |counts| counts.received == 3 && counts.foreign == 3 && counts.errors == 0,
        |measured| assert_eq!(measured.outcome, Outcome::Ok),
    );
}

/// Bytes that look random and are the same in each run.
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// Thousands of damaged replies and errors to the first requests, made to look whole; then a good reply to each.
fn storm_then_sunshine(request: &[u8]) -> Vec<(Duration, Vec<u8>)> {
    let sequence = request[7];
    let mut answers = Vec::new();
    if u16::from(sequence) < STORMY {
        for random in noise(u64::from(sequence) + 1).take(2_000) {
            let mut mutated = if random % 2 == 0 {
                reply_to(request)
            } else {
                host_unreachable(request, request.len())
            };
            let at = usize::try_from(random >> 40).unwrap() % mutated.len();
            mutated[at] ^= u8::try_from((random >> 32) & 0xff).unwrap() | 1;
            if random % 3 == 0 {
                mutated.truncate(4 + at);
            }
            fix_checksum(&mut mutated);
            answers.push((NOW, mutated));
        }
    }
    answers.push((NOW, reply_to(request)));
    answers
}

/// So many requests are answered by a storm.
const STORMY: u16 = 3;

#[test]
fn a_storm_of_mutated_replies_is_weathered() {
    let laboratory = Laboratory::new();
    answer_with(&laboratory.far, storm_then_sunshine);
    for datagram in [true, false] {
        laboratory.site.allow_datagram_icmp(datagram);
        laboratory.site.run(|| {
            block_on(async {
                let probes = probes();
                let counts = || probes.icmp_counts();
                let stormy = measure(&probes, echoes(STORMY), FAR, AMPLE).await;
                assert_eq!(value(&stormy, metric::ICMP_SENT), Some(3));
                let calm = || counts().malformed > 500 && counts().foreign > 500;
                eventually(calm, || format!("{:?}", counts())).await;
                let sunny = measure(&probes, echoes(4), FAR, AMPLE).await;
                assert_eq!(sunny.outcome, Outcome::Ok);
                assert_eq!(value(&sunny, metric::ICMP_RECEIVED), Some(4));
            });
        });
    }
}
