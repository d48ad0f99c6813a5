//! A name server that lies in every way, by the first label of the name that it knows.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;

const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;
const AAAA: u16 = 28;

/// A query: its id, and name, type and class as they are repeated in the answer.
struct Query<'a> {
    id: [u8; 2],
    question: &'a [u8],
    labels: Vec<String>,
    wanted: u16,
}

impl<'a> Query<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let id = [*bytes.first()?, *bytes.get(1)?];
        let mut labels = Vec::new();
        let mut at = 12;
        loop {
            let len = usize::from(*bytes.get(at)?);
            if len == 0 {
                break;
            }
            let label = bytes.get(at + 1..at + 1 + len)?;
            labels.push(String::from_utf8_lossy(label).into_owned());
            at += 1 + len;
        }
        let wanted = u16::from_be_bytes([*bytes.get(at + 1)?, *bytes.get(at + 2)?]);
        Some(Self {
            id,
            question: bytes.get(12..at + 5)?,
            labels,
            wanted,
        })
    }

    /// An answer with the query's own name as the owner of `count` addresses.
    fn answer(&self, flags: u8, rcode: u8, count: u8) -> Vec<u8> {
        let mut message = self.id.to_vec();
        // Response, recursion desired; recursion available.
        message.extend([0x81 | flags, 0x80 | rcode, 0, 1, 0, count, 0, 0, 0, 0]);
        message.extend(self.question);
        for _ in 0..count {
            message.extend([0xc0, 12]);
            message.extend(self.wanted.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            if self.wanted == AAAA {
                message.extend([0, 16, 0xfd, 0, 0, 9]);
                message.extend([0; 11]);
                message.push(0x50);
            } else {
                message.extend([0, 4, 10, 9, 0, 0x50]);
            }
        }
        message
    }
}

/// Cut (flag TC).
const CUT: u8 = 2;
/// Authentic (flag AD), in the byte of the response code.
const AUTHENTIC: u8 = 0x20;

/// What the server says over TCP; over UDP too where nothing else is wrong there.
fn honest(query: &Query<'_>) -> Vec<u8> {
    let has = |label: &str| query.labels.iter().any(|own| own == label);
    // A name below the zone "honest" does not exist, below "rewritten" everything does.
    if has("missing") || (has("honest") && query.labels.len() > 2) {
        return query.answer(0, NXDOMAIN, 0);
    }
    if has("half") && query.wanted == AAAA {
        return query.answer(0, SERVFAIL, 0);
    }
    if has("empty") {
        return query.answer(0, 0, 0);
    }
    if has("always-cut") {
        return query.answer(CUT, 0, 0);
    }
    if has("authentic") {
        return query.answer(0, AUTHENTIC, 1);
    }
    query.answer(0, 0, 1)
}

/// Serves datagrams and connections. To be called within the server's namespace.
pub(crate) fn serve(address: IpAddr, port: u16) {
    super::streams::serve(address, port, over_tcp);
    let at = SocketAddr::new(address, port);
    let socket = UdpSocket::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
    let elsewhere = UdpSocket::bind(SocketAddr::new(address, 0)).expect("a port is free");
    thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        let mut asked_before = false;
        loop {
            let Ok((len, peer)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let Some(query) = Query::read(&buffer[..len]) else {
                continue;
            };
            let good = honest(&query);
            let first = query.labels.first().map_or("", String::as_str);
            let datagram = match first {
                "silent" => continue,
                // Every second query gets through.
                "second" => {
                    asked_before = !asked_before;
                    if asked_before {
                        continue;
                    }
                    good
                }
                "other-id" => [&[!query.id[0], query.id[1]], &good[2..]].concat(),
                "garbage" => [&good[..2], &[0x81, 0x80], &[0xff; 30]].concat(),
                "cut-record" => good[..good.len() - 2].to_vec(),
                "cut" => query.answer(CUT, 0, 0),
                "large" => query.answer(0, 0, 100),
                _ => good,
            };
            let from = if first == "other-port" {
                &elsewhere
            } else {
                &socket
            };
            from.send_to(&datagram, peer).ok();
        }
    });
}

fn over_tcp(mut stream: TcpStream) {
    let mut length = [0; 2];
    if stream.read_exact(&mut length).is_err() {
        return;
    }
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    if stream.read_exact(&mut bytes).is_err() {
        return;
    }
    let Some(query) = Query::read(&bytes) else {
        return;
    };
    if query.labels.iter().any(|label| label == "hung-up") {
        return;
    }
    let answer = honest(&query);
    let length = u16::try_from(answer.len()).expect("answers here are short");
    stream
        .write_all(&[&length.to_be_bytes()[..], &answer].concat())
        .ok();
}
