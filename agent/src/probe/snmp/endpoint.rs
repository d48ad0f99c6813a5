//! One UDP socket per address family and VRF, shared by all SNMP sessions.
//!
//! Constraints:
//!
//! - async-snmp's own `connect()` binds with `SO_REUSEADDR`, so that two of its sockets can share a port and one loses
//!   all replies; and its shared socket cannot be bound to a VRF. So the socket is ours, behind the library's
//!   [`Transport`] trait.
//! - A reply counts only if it comes from exactly the address and port that was asked. This makes the address the key
//!   by which a datagram finds its request: no byte of a datagram is looked at before its source is known.
//! - Nothing a device sends may take memory: each waiting request holds at most [`QUEUE`] datagrams.
//! - A host without an SNMP service says so by ICMP. An unconnected socket hears that only through its error queue
//!   (`IP_RECVERR`), and then any call on it may report an error that belongs to another device: such calls are tried
//!   again, the truth is in the queue.
//!
//! ```text
//! Handle::request_with -- send_to --> device
//!        ^                              |
//!        |  bounded queue               v
//!     waiting[source] <---------- receive task (one per socket, ends with the last handle)
//! ```

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_snmp::{
    Candidate, Error, ReceiveLimits, RequestRegistration, ResponseIdentity, Transport,
};
use bytes::Bytes;
use extranet_proto::assignment::Family;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::net::refusal::errno_of;
use crate::shell::spawn_named;

use super::pace::Pace;

/// Datagrams that one request may have waiting: the answer, a duplicate, a few forgeries.
const QUEUE: usize = 8;
/// Datagrams that are taken before other tasks get their turn (guess).
const BURST: usize = 64;
/// Receive buffer of a socket, bytes: 1,000 devices may answer within the same millisecond (guess).
const RECEIVE_BUFFER: usize = 1 << 20;
/// Pause after the kernel refused a receive, so that a lasting error cannot spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// Largest UDP payload.
const DATAGRAM_BYTES: usize = 65_535;
/// What `SNMPv3` requests advertise as `msgMaxSize`: an Ethernet frame without fragments.
const LIMITS: ReceiveLimits = match ReceiveLimits::udp(1_472) {
    Ok(limits) => limits,
    Err(_) => panic!("1,472 lies within the limits of RFC 3412"),
};

/// How often a refused send is tried again, see above. More errors than this between two sends are unlikely, and cost
/// one request a repetition.
const SEND_ATTEMPTS: u32 = 4;

/// What arrives for a request: a datagram, or what ICMP said about ours.
type Arrival = Result<Bytes, Errno>;
/// Requests that wait, by the source they wait for.
type Waiting = Mutex<HashMap<SocketAddr, Vec<Waiter>>>;

/// A request that waits.
struct Waiter {
    token: u64,
    queue: mpsc::Sender<Arrival>,
    traffic: Arc<Traffic>,
}

/// Bytes of the IP packet of a datagram. What needs fragments has a header more in each; that is not counted.
fn on_the_wire(payload: usize, device: SocketAddr) -> u64 {
    payload as u64 + if device.is_ipv4() { 28 } else { 48 }
}

/// A socket with its receive task.
pub(super) struct Endpoint {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    waiting: Arc<Waiting>,
    next_token: AtomicU64,
    /// Dropped with the endpoint, which ends the receive task.
    _stop: oneshot::Sender<()>,
}

impl Endpoint {
    /// Opens a socket of `family`, bound to the device `vrf` unless that is empty.
    pub(super) fn open(family: Family, vrf: &str) -> io::Result<Arc<Self>> {
        let (domain, any) = match family {
            Family::V4 => (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            Family::V6 => (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if family == Family::V6 {
            socket.set_only_v6(true)?;
        }
        if !vrf.is_empty() {
            socket.bind_device(Some(vrf.as_bytes()))?;
        }
        match family {
            Family::V4 => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
            Family::V6 => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
        // The kernel grants what net.core.rmem_max allows; less is no reason to measure nothing.
        if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
            tracing::debug!(%error, "receive buffer of the SNMP socket stays as it is");
        }
        socket.bind(&SocketAddr::new(any, 0).into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let local = socket.local_addr()?;
        let waiting = Arc::<Waiting>::default();
        let (stop, stopped) = oneshot::channel();
        spawn_named(
            "snmp-receive",
            receive(Arc::clone(&socket), Arc::clone(&waiting), stopped),
        );
        Ok(Arc::new(Self {
            socket,
            local,
            waiting,
            next_token: AtomicU64::new(0),
            _stop: stop,
        }))
    }

    /// Sessions with `device` through this socket, for runs of at most `timeout`.
    pub(super) fn handle(self: &Arc<Self>, device: SocketAddr, timeout: Duration) -> Handle {
        Handle {
            endpoint: Arc::clone(self),
            device: plain(device),
            traffic: Arc::default(),
            pace: Arc::new(Pace::new(timeout)),
        }
    }
}

/// Without flow label, which differs between what we send to and what we receive from.
fn plain(mut address: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_flowinfo(0);
    }
    address
}

/// Hands every datagram and every ICMP error to the requests that wait for its source; the rest is nobody's.
async fn receive(
    socket: Arc<UdpSocket>,
    waiting: Arc<Waiting>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut buffer = vec![0_u8; DATAGRAM_BYTES];
    let mut control = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    loop {
        let ready = tokio::select! {
            ready = socket.ready(Interest::READABLE | Interest::ERROR) => ready,
            _ = &mut stopped => return,
        };
        let outcome = ready.and_then(|ready| {
            if ready.is_error() {
                drain_errors(&socket, &mut buffer, &mut control, &waiting)?;
            }
            drain_datagrams(&socket, &mut buffer, &waiting)
        });
        if let Err(error) = outcome {
            tracing::debug!(%error, "receiving from the SNMP socket failed");
            tokio::time::sleep(ERROR_PAUSE).await;
        }
    }
}

/// Takes up to [`BURST`] datagrams, so that other tasks get their turn.
fn drain_datagrams(socket: &UdpSocket, buffer: &mut [u8], waiting: &Waiting) -> io::Result<()> {
    for _ in 0..BURST {
        match socket.try_recv_from(buffer) {
            Ok((length, source)) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                deliver(waiting, source, || Ok(Bytes::copy_from_slice(datagram)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Told again, and with its destination, by the error queue.
            Err(error) if told_by_icmp(errno_of(&error)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Empties the error queue.
fn drain_errors(
    socket: &UdpSocket,
    buffer: &mut [u8],
    control: &mut [u8],
    waiting: &Waiting,
) -> io::Result<()> {
    loop {
        let next = socket.try_io(Interest::ERROR, || {
            let mut slices = [IoSliceMut::new(buffer)];
            let received = recvmsg::<SockaddrStorage>(
                socket.as_raw_fd(),
                &mut slices,
                Some(control),
                MsgFlags::MSG_ERRQUEUE,
            )?;
            let mut errno = None;
            for message in received.cmsgs()? {
                if let ControlMessageOwned::Ipv4RecvErr(error, _)
                | ControlMessageOwned::Ipv6RecvErr(error, _) = message
                    && matches!(
                        error.ee_origin,
                        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
                    )
                {
                    errno = i32::try_from(error.ee_errno).ok().map(Errno::from_raw);
                }
            }
            Ok(errno.zip(received.address.as_ref().and_then(address_of)))
        });
        match next {
            // EMSGSIZE: the kernel has noted the smaller path MTU; the repetition will fit.
            Ok(None | Some((Errno::EMSGSIZE, _))) => {}
            Ok(Some((errno, destination))) => deliver(waiting, destination, || Err(errno)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Puts an arrival into the queues of the requests that wait for `source`.
fn deliver(waiting: &Waiting, source: SocketAddr, arrival: impl FnOnce() -> Arrival) {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(requests) = waiting.get(&plain(source)) else {
        return;
    };
    let arrival = arrival();
    if let (Some(first), Ok(datagram)) = (requests.first(), &arrival) {
        let bytes = on_the_wire(datagram.len(), source);
        first
            .traffic
            .received_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        if !is_a_message(datagram) {
            first.traffic.unreadable.fetch_add(1, Ordering::Relaxed);
        }
    }
    for waiter in requests {
        // A full queue means a flood from the device itself: it may lose its own answer.
        drop(waiter.queue.try_send(arrival.clone()));
    }
}

/// Whether a datagram has the frame of an SNMP message: a SEQUENCE that fills it, with the version first (RFC 3417
/// section 8). What passes here and is wrong inside is found by the request it answers.
fn is_a_message(datagram: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = datagram else {
        return false;
    };
    let (length, body) = match usize::from(*length) {
        short if short < 0x80 => (Some(short), rest),
        long => match rest.split_at_checked(long & 0x7f) {
            Some((octets, body)) if (1..=4).contains(&octets.len()) => {
                let number = octets
                    .iter()
                    .fold(0_usize, |sum, octet| (sum << 8) | usize::from(*octet));
                (Some(number), body)
            }
            _ => (None, rest),
        },
    };
    length == Some(body.len()) && body.starts_with(&[0x02])
}

/// Errors that a call may report for an earlier datagram to another device.
fn told_by_icmp(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EACCES
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::EOPNOTSUPP
            | Errno::EMSGSIZE
    )
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    address
        .as_sockaddr_in6()
        .map(|v6| SocketAddr::V6((*v6).into()))
}

/// What went over the wire for one device.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    timeouts: AtomicU64,
    bindings: AtomicU64,
    unreadable: AtomicU64,
}

impl Traffic {
    /// Datagrams sent, repetitions included.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of IP packets in both directions so far.
    pub(super) fn bytes(&self) -> crate::probe::Traffic {
        crate::probe::Traffic {
            sent: self.sent_bytes.load(Ordering::Relaxed),
            received: self.received_bytes.load(Ordering::Relaxed),
        }
    }

    /// Attempts that got no answer in time.
    pub(super) fn timeouts(&self) -> u64 {
        self.timeouts.load(Ordering::Relaxed)
    }

    /// Variable bindings received.
    pub(super) fn bindings(&self) -> u64 {
        self.bindings.load(Ordering::Relaxed)
    }

    /// Counts the variable bindings of an answer.
    pub(super) fn note_bindings(&self, count: usize) {
        self.bindings.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Datagrams from the device that are no SNMP message, or that answered a request wrongly.
    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }
}

/// One device behind a shared socket: what the library calls a transport.
#[derive(Clone)]
pub(super) struct Handle {
    endpoint: Arc<Endpoint>,
    device: SocketAddr,
    traffic: Arc<Traffic>,
    pace: Arc<Pace>,
}

impl Handle {
    /// Counters of this device, shared by the clones of the handle.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Registers a request: from now on datagrams of the device arrive in the queue, until the guard is dropped.
    fn wait(&self) -> (Registered<'_>, mpsc::Receiver<Arrival>) {
        let token = self.endpoint.next_token.fetch_add(1, Ordering::Relaxed);
        let (sender, queue) = mpsc::channel(QUEUE);
        let waiter = Waiter {
            token,
            queue: sender,
            traffic: Arc::clone(&self.traffic),
        };
        self.endpoint
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(self.device)
            .or_default()
            .push(waiter);
        let registered = Registered {
            handle: self,
            token,
        };
        (registered, queue)
    }

    async fn send_datagram(&self, data: &[u8]) -> async_snmp::Result<()> {
        self.traffic.sent.fetch_add(1, Ordering::Relaxed);
        self.traffic
            .sent_bytes
            .fetch_add(on_the_wire(data.len(), self.device), Ordering::Relaxed);
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.endpoint.socket.send_to(data, self.device).await {
                Ok(_) => return Ok(()),
                Err(error) if attempts < SEND_ATTEMPTS && told_by_icmp(errno_of(&error)) => {}
                Err(source) => return Err(self.network_error(source)),
            }
        }
    }

    #[expect(
        clippy::unnecessary_box_returns,
        reason = "the library's errors are boxed"
    )]
    fn network_error(&self, source: io::Error) -> Box<Error> {
        Error::Network {
            target: self.device,
            source,
        }
        .boxed()
    }

    fn note_unreadable(&self) {
        self.traffic.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing came in time for this attempt.
    fn note_timeout(&self) {
        self.traffic.timeouts.fetch_add(1, Ordering::Relaxed);
        self.pace.lost();
    }

    #[expect(
        clippy::unnecessary_box_returns,
        reason = "the library's errors are boxed"
    )]
    fn timeout(&self, started: Instant) -> Box<Error> {
        Error::Timeout {
            target: self.device,
            elapsed: started.elapsed(),
            retries: 0,
        }
        .boxed()
    }
}

/// Takes its request off the table, also when the request is cancelled.
struct Registered<'a> {
    handle: &'a Handle,
    token: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut waiting = self
            .handle
            .endpoint
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = waiting.get_mut(&self.handle.device) {
            requests.retain(|waiter| waiter.token != self.token);
            if requests.is_empty() {
                waiting.remove(&self.handle.device);
            }
        }
    }
}

impl Transport for Handle {
    async fn send(&self, data: &[u8]) -> async_snmp::Result<()> {
        self.send_datagram(data).await
    }

    async fn request_with<T, F>(
        &self,
        data: &[u8],
        registration: RequestRegistration,
        mut validate: F,
    ) -> async_snmp::Result<T>
    where
        T: Send,
        F: FnMut(Bytes, SocketAddr) -> async_snmp::Result<Candidate<T>> + Send,
    {
        let started = Instant::now();
        if started >= registration.deadline() {
            return Err(self.timeout(started));
        }
        let deadline = registration.deadline().min(started + self.pace.patience());
        let (_registered, mut queue) = self.wait();
        match tokio::time::timeout_at(deadline, self.send_datagram(data)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(self.timeout(started)),
        }
        loop {
            let datagram = match tokio::time::timeout_at(deadline, queue.recv()).await {
                Ok(Some(Ok(datagram))) => datagram,
                Ok(Some(Err(errno))) => return Err(self.network_error(errno.into())),
                Ok(None) | Err(_) => {
                    self.note_timeout();
                    return Err(self.timeout(started));
                }
            };
            // The source is the device: the table is keyed by it.
            match registration.evaluate_response_identity(&datagram, true) {
                // A late answer to an earlier request, or one to another request of the same device.
                ResponseIdentity::Reject => {}
                ResponseIdentity::Match | ResponseIdentity::AcceptedCommunityMismatch => {
                    match validate(datagram, self.device)? {
                        Candidate::Accept(value) => {
                            self.pace.answered(started.elapsed());
                            return Ok(value);
                        }
                        Candidate::Reject => self.note_unreadable(),
                    }
                }
            }
        }
    }

    fn peer_addr(&self) -> SocketAddr {
        self.device
    }

    fn local_addr(&self) -> SocketAddr {
        self.endpoint.local
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn receive_limits(&self) -> ReceiveLimits {
        LIMITS
    }
}
