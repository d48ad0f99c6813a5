//! A link with known faults: a forwarder in user space between two namespaces, because the kernel of the CI machines
//! has no netem.
//!
//! ```text
//!  namespace A                      this process                      namespace B
//!  +--------------+ TUN   +---------------------------------+   TUN +---------------+
//!  | up0 10.9.1.2 |======>| forth: faults, queue, own counts |======>| down0 10.9.1.1|
//!  |              |<======| back:  faults, queue, own counts |<======|               |
//!  +--------------+       +---------------------------------+       +---------------+
//! ```
//!
//! ```no_run
//! # use extranet_tests::forwarder::{Faults, Forwarder};
//! # use extranet_tests::namespace::{End, Namespace};
//! # use std::time::Duration;
//! let (site, far) = (Namespace::new("site"), Namespace::new("far"));
//! let link = Forwarder::connect(
//!     End { namespace: &site, interface: "up0", addresses: &["10.9.1.2/30", "fd00:9:1::2/64"] },
//!     End { namespace: &far, interface: "down0", addresses: &["10.9.1.1/30", "fd00:9:1::1/64"] },
//!     7, // seed
//! );
//! // From the first end to the second 10 % loss, the way back is only slow.
//! link.forth(Faults { loss_per_mille: 100, ..Faults::delay(Duration::from_millis(5)) });
//! link.back(Faults::delay(Duration::from_millis(300)));
//! // ... measure ...
//! let counts = link.counts();
//! assert_eq!(counts.forth.received - counts.forth.lost, counts.back.received);
//! ```
//!
//! - A new link has no faults. [`Forwarder::forth`] and [`Forwarder::back`] change them at any time; packets that are
//!   on their way keep their fate.
//! - Deterministic: the fate of the n-th packet of a direction follows from the seed, n and the faults in force.
//! - Exact: every packet that came out of a namespace is in exactly one of the counts of [`Flow`]. What kernels say by
//!   themselves (multicast, link-local) passes without faults and is counted apart.
//! - Layer 3 without Ethernet: no neighbour discovery; routes name the interface (`ip route add default dev up0`).
//!   The kernel computes checksums in full for a TUN, so that nothing has to be switched off.
//! - Every packet can be looked at: [`Forwarder::capture`] keeps copies of what comes out of the namespaces.
//! - The interfaces' MTU is 1,500; a smaller one of the path is [`Faults::black_hole_above`], which tells nobody. For
//!   an honest router set the MTU of a real interface behind it.

mod fate;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use serde::Serialize;
use tappers::{Interface, Tun};

use self::fate::Lane;
use crate::clock::now;
use crate::namespace::End;

/// How long the thread sleeps at most before it looks whether it should end.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// Packets taken from one side before the other has its turn.
const READ_LIMIT: usize = 64;
/// No IP packet is larger.
const PACKET_BYTES: usize = 65_535;

/// What a direction does to its packets. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// From one end to the other.
    pub delay: Duration,
    /// Added to the delay: evenly distributed from nothing to this. Packets stay in order.
    pub jitter: Duration,
    /// Share of the packets that vanish, thousandths; 1,000 = all.
    pub loss_per_mille: u16,
    /// Share of the packets that arrive twice, thousandths.
    pub duplicate_per_mille: u16,
    /// Share of the packets that are held back for [`Faults::hold`], so that later ones overtake them, thousandths.
    pub hold_per_mille: u16,
    /// How much later a packet arrives that is held back.
    pub hold: Duration,
    /// Bits a second, 0 = unlimited.
    pub rate: u64,
    /// What waits for the rate at most, bytes; what comes then is dropped.
    pub queue_bytes: u64,
    /// IP packets of more bytes vanish without a word, 0 = all fit.
    pub black_hole_above: usize,
    /// No IPv4.
    pub drop_v4: bool,
    /// No IPv6.
    pub drop_v6: bool,
}

impl Faults {
    /// Nothing but a delay.
    pub fn delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Nothing comes through.
    pub fn all_lost() -> Self {
        Self {
            loss_per_mille: 1_000,
            ..Self::default()
        }
    }
}

/// What became of the packets of one direction:
/// `received = lost + wrong_family + too_big + queue_full + waiting + forwarded - duplicated + refused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Flow {
    /// Out of the namespace, without those in `control`.
    pub received: u64,
    /// Bytes of the same.
    pub received_bytes: u64,
    /// Into the other namespace, second copies included.
    pub forwarded: u64,
    /// Bytes of the same.
    pub forwarded_bytes: u64,
    /// By [`Faults::loss_per_mille`].
    pub lost: u64,
    /// By [`Faults::drop_v4`] and [`Faults::drop_v6`].
    pub wrong_family: u64,
    /// By [`Faults::black_hole_above`].
    pub too_big: u64,
    /// By [`Faults::queue_bytes`].
    pub queue_full: u64,
    /// Second copies.
    pub duplicated: u64,
    /// Forwarded after a packet of the same two addresses that had come later; copies not counted (RFC 4737).
    pub reordered: u64,
    /// On their way.
    pub waiting: u64,
    /// Not taken by the other namespace, whose interface is down.
    pub refused: u64,
    /// Multicast and link-local: the kernels' own business.
    pub control: u64,
}

/// Both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// From the first end to the second.
    pub forth: Flow,
    /// From the second end to the first.
    pub back: Flow,
}

/// A packet as it came out of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Whether it came from the first end.
    pub forth: bool,
    /// Since the link was made.
    pub at: Duration,
    /// From the IP header on.
    pub packet: Vec<u8>,
}

#[derive(Debug, Default)]
struct Capture {
    room: usize,
    packets: Vec<Captured>,
}

/// A link that runs until this is dropped.
#[derive(Debug)]
pub struct Forwarder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    lanes: Mutex<[Lane; 2]>,
    capture: Mutex<Capture>,
    stop: AtomicBool,
    started: Instant,
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, [Lane; 2]> {
        locked(&self.lanes)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    /// Makes the interfaces of both ends, gives them their addresses and begins to forward.
    pub fn connect(one: End<'_>, other: End<'_>, seed: u64) -> Self {
        let ends = [one, other].map(|end| tunnel(&end));
        let shared = Arc::new(Shared {
            // Directions that meet the same packets must not do the same to them.
            lanes: Mutex::new([Lane::new(seed), Lane::new(!seed)]),
            capture: Mutex::default(),
            stop: AtomicBool::new(false),
            started: now(),
        });
        let forwarding = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("forwarder".to_owned())
            .spawn(move || forward(&forwarding, ends))
            .expect("a thread can be started");
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// What happens from now on between the first end and the second.
    pub fn forth(&self, faults: Faults) {
        self.set(0, faults);
    }

    /// What happens from now on between the second end and the first.
    pub fn back(&self, faults: Faults) {
        self.set(1, faults);
    }

    /// The same in both directions.
    pub fn both(&self, faults: Faults) {
        self.forth(faults);
        self.back(faults);
    }

    /// What happened until now.
    pub fn counts(&self) -> Counts {
        let lanes = self.shared.lanes();
        let [forth, back] = [0, 1].map(|side: usize| lanes[side].flow());
        Counts { forth, back }
    }

    /// Begins to count anew; what is on its way stays.
    pub fn forget_counts(&self) {
        for lane in self.shared.lanes().iter_mut() {
            lane.forget();
        }
    }

    /// Keeps a copy of the next packets, so many at most, the kernels' own talk included.
    pub fn capture(&self, packets: usize) {
        *locked(&self.shared.capture) = Capture {
            room: packets,
            packets: Vec::new(),
        };
    }

    /// What was captured since then.
    pub fn captured(&self) -> Vec<Captured> {
        locked(&self.shared.capture).packets.clone()
    }

    fn set(&self, side: usize, faults: Faults) {
        self.shared.lanes()[side].faults = faults;
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and the counts of the test have shown it.
            thread.join().ok();
        }
    }
}

/// Makes an interface; its packets come out of the file.
fn tunnel(end: &End<'_>) -> File {
    let file = end.namespace.enter(|| {
        let name = Interface::new(end.interface).expect("a name of an interface");
        let mut tun = Tun::new_named(name).expect("root may make a TUN (is /dev/net/tun there?)");
        tun.set_nonblocking(true)
            .expect("a TUN can be read like a file");
        let descriptor = tun.as_fd().try_clone_to_owned();
        File::from(descriptor.expect("descriptors are left"))
    });
    let no_link_local = format!("net/ipv6/conf/{}/addr_gen_mode", end.interface);
    end.namespace.sysctl(&no_link_local, "1");
    for address in end.addresses {
        let mut arguments = vec!["address", "add", address, "dev", end.interface];
        if address.contains(':') {
            arguments.push("nodad");
        }
        end.namespace.ip(&arguments);
    }
    // The default queue of 500 packets would add losses of its own to a burst.
    end.namespace
        .ip(&["link", "set", end.interface, "txqueuelen", "10000", "up"]);
    file
}

/// The thread of a link.
fn forward(shared: &Shared, mut ends: [File; 2]) {
    let mut buffer = vec![0; PACKET_BYTES];
    while !shared.stop.load(Ordering::Acquire) {
        let due = shared.lanes().iter().filter_map(Lane::next_due).min();
        let wait = due.map_or(LOOK_AROUND, |due| {
            due.saturating_sub(shared.started.elapsed())
                .min(LOOK_AROUND)
        });
        if !wait.is_zero() {
            let mut polled = ends
                .each_ref()
                .map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
            // Interrupted or not: what is there is read below.
            ppoll(&mut polled, Some(TimeSpec::from_duration(wait)), None).ok();
        }
        for side in 0..2 {
            take_in(shared, side, &mut ends[side], &mut buffer);
            let now = shared.started.elapsed();
            let out = &mut ends[1 - side];
            shared.lanes()[side].release(now, |packet| out.write_all(packet).is_ok());
        }
    }
}

fn take_in(shared: &Shared, side: usize, end: &mut File, buffer: &mut [u8]) {
    for _ in 0..READ_LIMIT {
        match end.read(buffer) {
            Ok(length) => {
                let now = shared.started.elapsed();
                let packet = &buffer[..length];
                shared.lanes()[side].admit(now, packet);
                let mut capture = locked(&shared.capture);
                if capture.packets.len() < capture.room {
                    capture.packets.push(Captured {
                        forth: side == 0,
                        at: now,
                        packet: packet.to_vec(),
                    });
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Nothing more for now, or the namespace is gone and with it the interface.
            Err(_) => return,
        }
    }
}

/// Source and destination of an IP packet; `None` if it is none.
fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some((source.into(), destination.into()))
        }
        6 => {
            let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some((source.into(), destination.into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
