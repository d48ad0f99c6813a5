//! The sensor's loop: one thread, two descriptors, nothing kept but counts.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, Socket, Type};

use super::capture::{Capture, Heard};
use super::confine::{ConfineError, confine};
use super::message::{Loss, Message, Received};
use super::pace::Pace;
use crate::clock::boottime_us;
use crate::identity::AGENT_VERSION;
use crate::packet::router_advert;
use crate::shell::error_chain;

/// How often a missing agent is looked for. It starts in a second or two.
const RECONNECT_MS: u16 = 1_000;
const RECONNECT_US: u64 = 1_000_000;
/// Counts go to the agent at most this often, µs.
const COUNTS_US: u64 = 10_000_000;
/// Hop limit of everything in neighbour discovery: it never crossed a router (RFC 4861 section 6.1.2).
const UNROUTED: u8 = 255;

/// Why the sensor ended.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// No raw socket.
    #[error(
        "cannot open the raw ICMPv6 socket (needs CAP_NET_RAW; under systemd the unit extranet-sensor gives it)"
    )]
    Open(#[source] Errno),
    /// The process cannot be confined, and does not run unconfined.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The raw socket failed.
    #[error("cannot read the raw socket")]
    Receive(#[source] Errno),
    /// Waiting failed.
    #[error("cannot wait for packets")]
    Wait(#[source] Errno),
}

/// Opens, gives up, and listens until the process is ended. Needs the process to have one thread.
pub fn run(socket: &Path) -> Result<std::convert::Infallible, SensorError> {
    let capture = Capture::open().map_err(SensorError::Open)?;
    confine()?;
    tracing::info!(socket = %socket.display(), "listening for router advertisements, without capabilities");
    let now_us = boottime_us();
    let mut sensor = Sensor {
        socket,
        agent: None,
        losses: BTreeMap::new(),
        counts_due: false,
        counts_us: 0,
        connect_us: 0,
        pace: Pace::new(now_us),
        complained: false,
    };
    sensor.listen(capture)
}

struct Sensor<'a> {
    socket: &'a Path,
    agent: Option<Socket>,
    losses: BTreeMap<Loss, u64>,
    counts_due: bool,
    /// When counts were sent last.
    counts_us: u64,
    /// The agent is not looked for before this.
    connect_us: u64,
    pace: Pace,
    /// One line for an agent that stays away, not one a second.
    complained: bool,
}

impl Sensor<'_> {
    fn listen(&mut self, mut capture: Capture) -> Result<std::convert::Infallible, SensorError> {
        loop {
            if self.agent.is_none() && boottime_us() >= self.connect_us {
                self.connect();
            }
            let (heard, hung_up) = wait(&capture, self.agent.as_ref())?;
            if hung_up {
                tracing::warn!("the agent closed the connection");
                self.agent = None;
            }
            if heard {
                self.drain(&mut capture)?;
            }
            self.send_counts();
        }
    }

    fn connect(&mut self) {
        self.connect_us = boottime_us() + RECONNECT_US;
        match connect(self.socket) {
            Ok(agent) => {
                tracing::info!("connected to the agent");
                self.agent = Some(agent);
                self.complained = false;
                self.counts_due = !self.losses.is_empty();
                self.counts_us = 0;
                self.send(&Message::Hello {
                    release: AGENT_VERSION.to_owned(),
                });
            }
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::warn!(
                    error = error_chain(&error),
                    "no agent yet, trying again every second"
                );
            }
            Err(_) => {}
        }
    }

    fn drain(&mut self, capture: &mut Capture) -> Result<(), SensorError> {
        while let Some(heard) = capture.receive().map_err(SensorError::Receive)? {
            let judged = received(&heard);
            match judged {
                Ok(_) if self.agent.is_none() => self.lost(Loss::NoAgent),
                Ok(_) if !self.pace.allow(boottime_us()) => self.lost(Loss::Pace),
                Ok(received) => self.send(&Message::Advert(received)),
                Err(loss) => self.lost(loss),
            }
        }
        Ok(())
    }

    fn lost(&mut self, loss: Loss) {
        *self.losses.entry(loss).or_default() += 1;
        self.counts_due = true;
    }

    /// Hands over or drops: the loop never waits for the agent.
    fn send(&mut self, message: &Message) {
        let Some(agent) = &self.agent else {
            return;
        };
        match agent.send(&message.encode()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.lost(Loss::AgentBusy),
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "the agent is gone");
                self.agent = None;
                self.lost(Loss::NoAgent);
            }
        }
    }

    fn send_counts(&mut self) {
        let now_us = boottime_us();
        let spaced = self.counts_us == 0 || now_us.saturating_sub(self.counts_us) >= COUNTS_US;
        if self.counts_due && spaced && self.agent.is_some() {
            self.counts_due = false;
            self.counts_us = now_us;
            let counts = self.losses.iter().map(|(loss, total)| (*loss, *total));
            let message = Message::Counts(counts.collect());
            self.send(&message);
        }
    }
}

/// What hosts would take of it (RFC 4861 section 6.1.2).
fn received(heard: &Heard<'_>) -> Result<Received, Loss> {
    if heard.hop_limit != UNROUTED {
        return Err(Loss::HopLimit);
    }
    if !heard.source.is_unicast_link_local() {
        return Err(Loss::Source);
    }
    let advert = router_advert::parse(heard.message).ok_or(Loss::Malformed)?;
    Ok(Received {
        link: heard.link,
        source: heard.source,
        advert,
    })
}

fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether there are packets, and whether the agent hung up. Returns at least every [`RECONNECT_MS`] while no agent is
/// connected, and every ten seconds otherwise.
fn wait(capture: &Capture, agent: Option<&Socket>) -> Result<(bool, bool), SensorError> {
    let mut watched = vec![PollFd::new(capture.as_fd(), PollFlags::POLLIN)];
    watched.extend(agent.map(|agent| PollFd::new(agent.as_fd(), PollFlags::POLLIN)));
    let timeout = if agent.is_some() {
        PollTimeout::from(10 * RECONNECT_MS)
    } else {
        PollTimeout::from(RECONNECT_MS)
    };
    match poll(&mut watched, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(SensorError::Wait(errno)),
    }
    let ready = |at: usize| watched.get(at).and_then(PollFd::any).unwrap_or(false);
    // The agent never speaks: whatever there is to read is the end.
    Ok((ready(0), ready(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hosts_drop_is_counted_not_sent() {
        let message = {
            let mut bytes = vec![0; 16];
            bytes[0] = 134;
            bytes
        };
        let heard = |hop_limit, source: &str, message| {
            received(&Heard {
                link: 2,
                source: source.parse().unwrap(),
                hop_limit,
                message,
            })
        };
        assert!(heard(255, "fe80::1", &message).is_ok());
        assert_eq!(heard(254, "fe80::1", &message), Err(Loss::HopLimit));
        assert_eq!(heard(255, "2001:db8::1", &message), Err(Loss::Source));
        assert_eq!(heard(255, "fe80::1", &message[..15]), Err(Loss::Malformed));
    }
}
