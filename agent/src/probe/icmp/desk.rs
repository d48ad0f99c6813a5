//! The table of the requests that are out on a socket, and what each received message means for them. Knows bytes and
//! times, no socket and no clock: what was recorded can be replayed (`replay`), and a fuzzer can play anything.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use extranet_proto::assignment::Family;
use extranet_proto::record::Reason;

use super::burst::{Answer, Burst, Trouble, Verdict};
use super::counts::Counters;
use super::locked;
use super::token::{Recognised, Tokens, came_back_whole};
use crate::net::icmp_socket::ErrorReport;
use crate::packet::icmp::{self, Echo, Message};
use crate::packet::trouble;

/// The requests of one socket.
#[derive(Debug)]
pub(super) struct Desk {
    family: Family,
    /// Whether the checksum of what is received is still to be verified.
    unverified: bool,
    tokens: Tokens,
    /// Of the ICMP header, for raw sockets; on datagram sockets the kernel writes its own over it.
    identifier: u16,
    /// Id of the next packet: unique for the socket, and its low 16 bits are the sequence number on the wire.
    next_id: AtomicU64,
    /// The bursts that are out or were, by the id of their first packet. Each has as many consecutive ids as packets.
    bursts: Mutex<BTreeMap<u64, Arc<Burst>>>,
    counters: Arc<Counters>,
}

/// Where packets are built, used again for each packet of a run.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    payload: Vec<u8>,
    pub(super) packet: Vec<u8>,
}

impl Desk {
    pub(super) fn new(
        family: Family,
        unverified: bool,
        tokens: Tokens,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            family,
            unverified,
            identifier: tokens.identifier(),
            tokens,
            next_id: AtomicU64::new(0),
            bursts: Mutex::default(),
            counters,
        }
    }

    /// Puts a burst into the table and gives its packets their ids; returns the first one.
    pub(super) fn register(&self, burst: &Arc<Burst>) -> u64 {
        let ids = u64::from(burst.packets());
        let mut bursts = locked(&self.bursts);
        let first_id = self.next_id.fetch_add(ids, Ordering::Relaxed);
        bursts.insert(first_id, Arc::clone(burst));
        first_id
    }

    /// Takes it out again.
    pub(super) fn forget(&self, first_id: u64) {
        locked(&self.bursts).remove(&first_id);
    }

    /// Builds a request.
    pub(super) fn write_request(&self, id: u64, payload_bytes: usize, scratch: &mut Scratch) {
        self.tokens.write(id, payload_bytes, &mut scratch.payload);
        let echo = Echo {
            identifier: self.identifier,
            sequence: sequence_of(id),
            payload: &scratch.payload,
        };
        icmp::build_request(self.family, &echo, &mut scratch.packet);
    }

    /// An ICMP message was received.
    pub(super) fn message(&self, from: IpAddr, message: &[u8], answer: Answer) {
        let echo = match icmp::parse(self.family, message, self.unverified) {
            Ok(Message::Reply(echo)) => echo,
            // A raw socket sees everything, its own requests on loopback included.
            Ok(Message::Request(_) | Message::Other { .. }) => return,
            Err(_) => return self.counters.malformed.one(),
        };
        let Recognised::Ours(id) = self.tokens.recognise(echo.payload) else {
            return self.counters.foreign.one();
        };
        let Some((burst, index)) = self.find(id) else {
            return self.counters.late.one();
        };
        if from != burst.destination {
            return self.counters.foreign.one();
        }
        burst.received_bytes(ip_bytes(self.family, message.len()));
        if !came_back_whole(echo.payload, burst.payload_bytes) {
            burst.failed(index, Reason::Malformed);
            return self.counters.malformed.one();
        }
        match burst.answered(index, answer) {
            Verdict::Received => self.counters.received.one(),
            Verdict::ReceivedAcrossStep => {
                self.counters.received.one();
                self.counters.clock_steps.one();
            }
            Verdict::Duplicate => self.counters.duplicates.one(),
            Verdict::Late => self.counters.late.one(),
        }
    }

    /// An error message was received.
    pub(super) fn error(&self, report: &ErrorReport<'_>) {
        let Some(reason) = trouble::reason(self.family, report.kind, report.code) else {
            return;
        };
        let Some(quoted) = icmp::parse_quoted(self.family, report.quoted) else {
            return self.counters.foreign.one();
        };
        let found = match self.tokens.recognise(quoted.payload) {
            Recognised::Ours(id) => self.find(id),
            Recognised::TooShort => self.find_by_header(quoted.sequence, report.destination),
            Recognised::Foreign => None,
        };
        match found {
            Some((burst, index)) if burst.destination == report.destination => {
                let error_bytes = icmp::HEADER_BYTES + report.quoted.len();
                burst.received_bytes(ip_bytes(self.family, 0) + ip_bytes(self.family, error_bytes));
                let trouble = Trouble {
                    offender: report.offender,
                    kind: report.kind,
                    code: report.code,
                };
                if burst.troubled(index, reason, trouble) {
                    self.counters.errors.one();
                }
            }
            _ => self.counters.foreign.one(),
        }
    }

    /// The burst that a packet belongs to, and which of its packets it is.
    fn find(&self, id: u64) -> Option<(Arc<Burst>, u16)> {
        let bursts = locked(&self.bursts);
        let (first_id, burst) = bursts.range(..=id).next_back()?;
        let index = u16::try_from(id - first_id).ok()?;
        (index < burst.packets()).then(|| (Arc::clone(burst), index))
    }

    /// For routers that quote no payload: the newest packet with this sequence number that went to this destination.
    fn find_by_header(&self, sequence: u16, destination: IpAddr) -> Option<(Arc<Burst>, u16)> {
        let bursts = locked(&self.bursts);
        let mut newest_first = bursts.iter().rev();
        newest_first.find_map(|(first_id, burst)| {
            let index = sequence.wrapping_sub(sequence_of(*first_id));
            let fits = burst.destination == destination && index < burst.packets();
            fits.then(|| (Arc::clone(burst), index))
        })
    }
}

/// Bytes of an IP packet with a header without options.
pub(super) fn ip_bytes(family: Family, payload: usize) -> u64 {
    let header: u64 = match family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    header + payload as u64
}

/// Sequence number on the wire.
const fn sequence_of(id: u64) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
    let low = id as u16;
    low
}
