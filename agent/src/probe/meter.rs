//! What a run costs on the network, where the kernel builds the packets.
//!
//! Datagrams are exact as long as nothing fragments them. A TCP connection is an estimate: the handshake and the end of
//! a connection, payloads cut into segments of an Ethernet, one bare acknowledgement for two segments. Retransmissions
//! behind the handshake are not seen.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Traffic;

const UDP_HEADER: u64 = 8;
/// With timestamps, which Linux uses by default (RFC 7323).
const TCP_HEADER: u64 = 32;
/// SYN and SYN-ACK: maximum segment size, window scale, SACK, timestamps.
const TCP_SYN_HEADER: u64 = 40;
/// RST has no options.
const TCP_RST_HEADER: u64 = 20;
/// An Ethernet without the headers of IPv6 and TCP; with IPv4 it is 20 more.
const SEGMENT_BYTES: u64 = 1_428;

#[derive(Debug, Default)]
struct Counted {
    sent: AtomicU64,
    received: AtomicU64,
}

/// Adds up what a run sends and receives. Clones count together.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    ip_header: u64,
    counted: Arc<Counted>,
}

impl Meter {
    /// For a run to this address.
    pub(super) fn new(address: IpAddr) -> Self {
        Self {
            ip_header: if address.is_ipv4() { 20 } else { 40 },
            counted: Arc::default(),
        }
    }

    /// What was counted so far.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            sent: self.counted.sent.load(Ordering::Relaxed),
            received: self.counted.received.load(Ordering::Relaxed),
        }
    }

    fn sent(&self, packets: u64, bytes: u64) {
        let bytes = packets * self.ip_header + bytes;
        self.counted.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    fn received(&self, packets: u64, bytes: u64) {
        let bytes = packets * self.ip_header + bytes;
        self.counted.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A datagram with so many bytes left.
    pub(super) fn datagram_sent(&self, payload: usize) {
        self.sent(1, UDP_HEADER + payload as u64);
    }

    /// A datagram with so many bytes came.
    pub(super) fn datagram_received(&self, payload: usize) {
        self.received(1, UDP_HEADER + payload as u64);
    }

    /// An ICMP error about a packet of ours came: its headers, and what it quotes.
    pub(super) fn error_received(&self, quoted: usize) {
        // 8 of ICMP, then the IP header of the packet that it is about.
        self.received(1, 8 + self.ip_header + UDP_HEADER + quoted as u64);
    }

    /// A connection was asked for, and `refused` (RST), granted or not answered within `waited`.
    pub(super) fn connected(&self, answer: Connected, waited: Duration) {
        // RFC 6298 section 2: 1 s, doubled each time.
        let mut syns = 1;
        let mut next = Duration::from_secs(1);
        while next < waited && syns < 7 {
            syns += 1;
            next += Duration::from_secs(1 << (syns - 1));
        }
        self.sent(syns, syns * TCP_SYN_HEADER);
        match answer {
            Connected::Established => {
                self.received(1, TCP_SYN_HEADER);
                // The acknowledgement of the handshake; both ends say goodbye and acknowledge it.
                self.sent(3, 3 * TCP_HEADER);
                self.received(2, 2 * TCP_HEADER);
            }
            Connected::Refused => self.received(1, TCP_RST_HEADER),
            Connected::Unanswered => {}
        }
    }
}

/// How an attempt to connect ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connected {
    Established,
    Refused,
    Unanswered,
}

/// A connection whose bytes are counted.
#[derive(Debug)]
pub(super) struct Metered {
    stream: TcpStream,
    meter: Meter,
}

impl Metered {
    pub(super) const fn new(stream: TcpStream, meter: Meter) -> Self {
        Self { stream, meter }
    }

    /// The other end.
    pub(super) fn peer_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len().saturating_sub(before) as u64;
        if bytes > 0 {
            let segments = bytes.div_ceil(SEGMENT_BYTES);
            self.meter.received(segments, segments * TCP_HEADER + bytes);
            let acknowledgements = segments.div_ceil(2);
            self.meter
                .sent(acknowledgements, acknowledgements * TCP_HEADER);
        }
        result
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(bytes @ 1..)) = result {
            let bytes = bytes as u64;
            let segments = bytes.div_ceil(SEGMENT_BYTES);
            self.meter.sent(segments, segments * TCP_HEADER + bytes);
            let acknowledgements = segments.div_ceil(2);
            self.meter
                .received(acknowledgements, acknowledgements * TCP_HEADER);
        }
        result
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_counted_with_their_headers() {
        let meter = Meter::new("10.0.0.1".parse().unwrap());
        meter.datagram_sent(48);
        meter.clone().datagram_received(48);
        assert_eq!(
            meter.traffic(),
            Traffic {
                sent: 76,
                received: 76
            }
        );
        let meter = Meter::new("fd00::1".parse().unwrap());
        meter.datagram_sent(48);
        assert_eq!(
            meter.traffic(),
            Traffic {
                sent: 96,
                received: 0
            }
        );
    }

    #[test]
    fn connecting_costs_by_how_it_ends() {
        for (answer, seconds, sent, received) in [
            (Connected::Established, 0, 60 + 3 * 52, 60 + 2 * 52),
            (Connected::Refused, 0, 60, 40),
            (Connected::Unanswered, 5, 3 * 60, 0),
        ] {
            let meter = Meter::new("10.0.0.1".parse().unwrap());
            meter.connected(answer, Duration::from_secs(seconds));
            assert_eq!(meter.traffic(), Traffic { sent, received }, "{answer:?}");
        }
    }
}
