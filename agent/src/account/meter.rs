//! Counts what a TCP connection costs. The payload is exact; the packets around it are estimated, because the kernel
//! builds them: a header for each segment of [`SEGMENT_BYTES`] that is written or read, one for the acknowledgement that
//! comes back or goes out, and those of opening and closing.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Account;
use crate::probe::Traffic;

/// Payload of a full segment, bytes: an MTU of 1,500 less 100 for headers, options and tunnels.
const SEGMENT_BYTES: u64 = 1_400;
/// TCP header with the time stamp option (RFC 7323), bytes.
const TCP_HEADER: u64 = 32;

/// A TCP connection whose bytes are charged to the account, as part of the stream.
#[derive(Debug)]
pub struct Metered {
    stream: TcpStream,
    account: Account,
    peer: SocketAddr,
    header: u64,
}

impl Metered {
    /// Counts from here on; what opening it cost is charged at once.
    pub fn new(stream: TcpStream, peer: SocketAddr, account: Account) -> Self {
        let header = TCP_HEADER + if peer.is_ipv4() { 20 } else { 40 };
        let metered = Self {
            stream,
            account,
            peer,
            header,
        };
        // SYN and ACK against SYN-ACK; a FIN and its acknowledgement each way will follow.
        metered.charge(4 * header, 3 * header);
        metered
    }

    fn charge(&self, sent: u64, received: u64) {
        let traffic = Traffic { sent, received };
        self.account.charge_stream(self.peer.ip(), traffic);
    }

    /// Bytes of the packets that carry a payload, and of the acknowledgement that they cause.
    fn packets(&self, payload: usize) -> (u64, u64) {
        let payload = u64::try_from(payload).unwrap_or(u64::MAX);
        let packets = payload.div_ceil(SEGMENT_BYTES);
        (payload + packets * self.header, self.header)
    }

    fn written(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(payload @ 1..)) = result {
            let (sent, received) = self.packets(payload);
            self.charge(sent, received);
        }
        result
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let payload = buffer.filled().len().saturating_sub(before);
        if payload > 0 {
            let (received, sent) = self.packets(payload);
            self.charge(sent, received);
        }
        result
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
