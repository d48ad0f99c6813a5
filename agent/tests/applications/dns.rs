//! Name servers that answer well, badly and not at all.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message_builder::AnswerBuilder;
use domain::base::{Message, MessageBuilder, Name, Serial, Ttl};
use domain::rdata::{A, Aaaa, Cname, Ns, Soa};
use extranet_agent::probe::Measured;
use extranet_proto::assignment::{DnsProbe, DnsTransport, DnsType, Probe};
use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};

use crate::server::{datagram_server, stream_server};
use crate::{AMPLE, SHORT, V4, V6, assert_in_order, measure, probes, value, verdict};

type Answer = AnswerBuilder<Vec<u8>>;

fn name(text: &str) -> Name<Vec<u8>> {
    text.parse().unwrap()
}

/// An answer to the query with records of choice.
fn reply(query: &[u8], rcode: Rcode, fill: impl Fn(&mut Answer)) -> Vec<u8> {
    let query = Message::from_slice(query).unwrap();
    let mut answer = MessageBuilder::new_vec()
        .start_answer(query, rcode)
        .unwrap();
    fill(&mut answer);
    answer.finish()
}

fn ttl() -> Ttl {
    Ttl::from_secs(60)
}

/// A little zone.
fn zone(query: &[u8]) -> Vec<u8> {
    let question = Message::from_slice(query).unwrap().sole_question().unwrap();
    let asked = question.qname().to_string().to_ascii_lowercase();
    let rcode = if asked == "nowhere.example" {
        Rcode::NXDOMAIN
    } else {
        Rcode::NOERROR
    };
    reply(query, rcode, |answer| {
        match (asked.as_str(), question.qtype()) {
            ("portal.example", Rtype::A) => {
                let alias = Cname::new(name("web.example"));
                answer.push((name("portal.example"), ttl(), alias)).unwrap();
                for last in [2, 1] {
                    let data = A::from_octets(10, 0, 0, last);
                    answer.push((name("web.example"), ttl(), data)).unwrap();
                }
            }
            ("portal.example", Rtype::AAAA) => {
                let data = Aaaa::new("2001:db8::80".parse().unwrap());
                answer.push((name("portal.example"), ttl(), data)).unwrap();
            }
            ("example", Rtype::NS) => {
                let data = Ns::new(name("NS1.Example"));
                answer.push((name("example"), ttl(), data)).unwrap();
            }
            ("example", Rtype::SOA) => {
                let data = Soa::new(
                    name("ns1.example"),
                    name("noc.example"),
                    Serial(1),
                    ttl(),
                    ttl(),
                    ttl(),
                    ttl(),
                );
                answer.push((name("example"), ttl(), data)).unwrap();
            }
            _ => {}
        }
    })
}

fn probe(port: u16, query_name: &str, query_type: DnsType, expected: &[&str]) -> DnsProbe {
    DnsProbe {
        transport: DnsTransport::Udp,
        port,
        query_name: query_name.to_owned(),
        query_type,
        expected: expected.iter().map(ToString::to_string).collect(),
        ..DnsProbe::default()
    }
}

fn ask(address: IpAddr, probe: DnsProbe, timeout: Duration) -> Measured {
    let measured = measure(&probes(), Probe::Dns(probe), address, timeout);
    assert_in_order(&measured);
    measured
}

/// A stream server that frames what `answer` makes of each query.
fn framed(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> u16 {
    stream_server(V4, move |mut stream| {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query).unwrap();
        stream.write_all(&answer(&query)).ok();
    })
}

fn with_length(message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [length.to_be_bytes().to_vec(), message].concat()
}

#[test]
fn answers_are_compared_with_what_is_expected() {
    let ok = (Outcome::Ok, Reason::None);
    let other = (Outcome::Failed, Reason::UnexpectedContent);
    let table: [(&str, DnsType, &[&str], _); 10] = [
        ("portal.example", DnsType::A, &[], ok),
        ("PORTAL.example", DnsType::A, &["10.0.0.1", "10.0.0.2"], ok),
        ("portal.example", DnsType::A, &["10.0.0.1"], other),
        (
            "portal.example",
            DnsType::A,
            &["10.0.0.1", "10.0.0.2", "10.0.0.3"],
            other,
        ),
        ("portal.example", DnsType::Aaaa, &["2001:db8::80"], ok),
        ("example", DnsType::Ns, &["ns1.example"], ok),
        ("example", DnsType::Soa, &["ns1.example"], ok),
        ("example", DnsType::Soa, &["ns2.example"], other),
        ("example", DnsType::A, &[], other),
        (
            "nowhere.example",
            DnsType::A,
            &[],
            (Outcome::Failed, Reason::UnexpectedStatus),
        ),
    ];
    for address in [V4, V6] {
        let port = datagram_server(address, |query| vec![zone(query)]);
        for (asked, query_type, expected, found) in table {
            let measured = ask(address, probe(port, asked, query_type, expected), AMPLE);
            assert_eq!(
                verdict(&measured),
                found,
                "{asked} {query_type:?} {expected:?}"
            );
            assert_eq!(value(&measured, metric::DNS_QUERY_SUCCEEDED), Some(1));
        }
    }
}

#[test]
fn the_same_over_tcp_with_its_figures() {
    let port = framed(|query| with_length(zone(query)));
    let probe = DnsProbe {
        transport: DnsTransport::Tcp,
        ..probe(
            port,
            "portal.example",
            DnsType::A,
            &["10.0.0.2", "10.0.0.1"],
        )
    };
    let measured = ask(V4, probe, AMPLE);
    assert_eq!(verdict(&measured), (Outcome::Ok, Reason::None));
    assert_eq!(
        value(&measured, metric::DNS_ANSWERS),
        Some(3),
        "with the alias"
    );
    assert_eq!(value(&measured, metric::DNS_AUTHORITIES), Some(0));
    assert_eq!(value(&measured, metric::DNS_RCODE), Some(0));
    let took = value(&measured, metric::DNS_LOOKUP).unwrap();
    assert!(took > 0 && u128::from(took) <= measured.duration.as_micros());
}

#[test]
fn a_name_that_must_not_exist_is_expected_by_its_code() {
    let port = datagram_server(V4, |query| vec![zone(query)]);
    for (asked, reason) in [
        ("nowhere.example", Reason::None),
        ("portal.example", Reason::UnexpectedStatus),
    ] {
        let probe = DnsProbe {
            expected_rcode: 3,
            ..probe(port, asked, DnsType::A, &[])
        };
        let measured = ask(V4, probe, AMPLE);
        assert_eq!(measured.reason, reason, "{asked}");
        let rcode = if reason == Reason::None { 3 } else { 0 };
        assert_eq!(value(&measured, metric::DNS_RCODE), Some(rcode));
    }
}

/// What a hostile or broken server sends in answer to a query, and what becomes of it.
type Case<T> = (&'static str, fn(&[u8]) -> T, Reason);

#[test]
fn bad_datagrams_have_their_reasons() {
    let table: [Case<Vec<Vec<u8>>>; 13] = [
        ("silence", |_| vec![], Reason::Timeout),
        ("no header", |_| vec![vec![1, 2, 3]], Reason::Mismatched),
        (
            "somebody else's id",
            |q| vec![changed(zone(q), 0)],
            Reason::Mismatched,
        ),
        ("a query", |q| vec![q.to_vec()], Reason::Mismatched),
        (
            "another question",
            |q| vec![changed(zone(q), 14)],
            Reason::Mismatched,
        ),
        (
            "strays, then the answer",
            |q| vec![changed(zone(q), 1), vec![], zone(q)],
            Reason::None,
        ),
        (
            "strays without end",
            |q| vec![changed(zone(q), 0); 80],
            Reason::Mismatched,
        ),
        (
            "records that are not there",
            |q| vec![claiming(zone(q))],
            Reason::Malformed,
        ),
        (
            "a name that points at itself",
            |q| vec![pointing_at_itself(q)],
            Reason::Malformed,
        ),
        (
            "an address of three bytes",
            |q| vec![short_address(q)],
            Reason::Malformed,
        ),
        ("cut to fit", |q| vec![cut(zone(q))], Reason::Truncated),
        (
            "more than we offered to take",
            |q| vec![long(q, 100)],
            Reason::TooLarge,
        ),
        (
            "it could not read the question",
            |q| vec![refusing(q)],
            Reason::UnexpectedStatus,
        ),
    ];
    for (what, answer, reason) in table {
        let port = datagram_server(V4, answer);
        // To see nothing but strays takes the time of the run as well.
        let timeout = if matches!(reason, Reason::Timeout | Reason::Mismatched) {
            SHORT
        } else {
            AMPLE
        };
        let probe = DnsProbe {
            tcp_fallback: false,
            ..probe(port, "portal.example", DnsType::A, &[])
        };
        let measured = ask(V4, probe, timeout);
        assert_eq!(measured.reason, reason, "{what}");
        let judged = matches!(
            reason,
            Reason::None | Reason::Truncated | Reason::UnexpectedStatus
        );
        assert_eq!(
            value(&measured, metric::DNS_QUERY_SUCCEEDED),
            Some(judged.into()),
            "{what}"
        );
    }
}

#[test]
fn bad_streams_have_their_reasons() {
    let table: [Case<Vec<u8>>; 5] = [
        ("closes without a word", |_| vec![], Reason::Closed),
        (
            "closes in the middle",
            |q| with_length(zone(q))[..20].to_vec(),
            Reason::Closed,
        ),
        (
            "claims the most and sends little",
            |_| vec![0xff, 0xff, 0],
            Reason::Closed,
        ),
        (
            "somebody else's id",
            |q| with_length(changed(zone(q), 0)),
            Reason::Mismatched,
        ),
        (
            "an answer of 64 KiB",
            |q| with_length(long(q, 4_000)),
            Reason::None,
        ),
    ];
    for (what, answer, reason) in table {
        let port = framed(answer);
        let probe = DnsProbe {
            transport: DnsTransport::Tcp,
            ..probe(port, "portal.example", DnsType::A, &[])
        };
        assert_eq!(ask(V4, probe, AMPLE).reason, reason, "{what}");
    }
    let silent = stream_server(V4, crate::server::drain);
    let probe = DnsProbe {
        transport: DnsTransport::Tcp,
        ..probe(silent, "portal.example", DnsType::A, &[])
    };
    assert_eq!(ask(V4, probe, SHORT).reason, Reason::Timeout);
}

#[test]
fn a_port_without_a_name_server_refuses() {
    for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
        let (_taken, port) = crate::server::closed_port(V6);
        let probe = DnsProbe {
            transport,
            ..probe(port, "portal.example", DnsType::A, &[])
        };
        let measured = ask(V6, probe, AMPLE);
        assert_eq!(
            verdict(&measured),
            (Outcome::Failed, Reason::Refused),
            "{transport:?}"
        );
    }
}

fn changed(mut message: Vec<u8>, at: usize) -> Vec<u8> {
    message[at] ^= 1;
    message
}

/// Claims 65,535 answers.
fn claiming(mut message: Vec<u8>) -> Vec<u8> {
    message[6..8].copy_from_slice(&[0xff, 0xff]);
    message
}

fn cut(mut message: Vec<u8>) -> Vec<u8> {
    message[2] |= 0x02;
    message
}

fn long(query: &[u8], records: u16) -> Vec<u8> {
    reply(query, Rcode::NOERROR, |answer| {
        for _ in 0..records {
            let data = A::from_octets(10, 0, 0, 1);
            // The root as owner: 15 bytes for a record.
            answer
                .push((Name::root_vec(), Class::IN, ttl(), data))
                .unwrap();
        }
    })
}

fn refusing(query: &[u8]) -> Vec<u8> {
    let mut message = query[..12].to_vec();
    message[2] |= 0x80;
    message[3] = 1;
    message[4..].fill(0);
    message
}

/// The query's own header and question as an answer with one record, whose bytes follow.
fn with_record(query: &[u8], record: &[u8]) -> Vec<u8> {
    let empty = reply(query, Rcode::NOERROR, |_| {});
    let mut message = [&empty, record].concat();
    message[7] = 1;
    message
}

fn pointing_at_itself(query: &[u8]) -> Vec<u8> {
    let here = u16::try_from(reply(query, Rcode::NOERROR, |_| {}).len()).unwrap();
    let pointer = (0xc000 | here).to_be_bytes();
    let rest = [0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1];
    with_record(query, &[&pointer[..], &rest[..]].concat())
}

fn short_address(query: &[u8]) -> Vec<u8> {
    with_record(query, &[0, 0, 1, 0, 1, 0, 0, 0, 60, 0, 3, 10, 0, 0])
}
