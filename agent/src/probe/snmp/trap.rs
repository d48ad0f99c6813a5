//! Notifications of devices: traps and informs, v1, v2c and v3.
//!
//! - `message`: a datagram in, what it says and how to acknowledge it out; `usm`: the security of v3;
//! - `notice`: what was said, in the words of the modules, as the text of an event;
//! - `repeats`: the same again within a minute is one event with a number.
//!
//! Rules
//!
//! 1. Only devices that this agent polls may notify it, with the credential they are polled with: an address alone can be
//!    forged, a community can be guessed, and an agent that believes anybody would tell the collector anything.
//! 2. An inform is acknowledged when its event is in the spool's hands, not before: what is lost on the way there is sent
//!    again by the device. A repeated inform is acknowledged again and counted as a repetition.
//! 3. Everything that is dropped is counted with its reason.
//!
//! Port 162 comes from systemd (`extranet-agent-traps.socket`), any other port from the configuration.

mod message;
mod notice;
mod repeats;
mod usm;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use extranet_proto::assignment::SnmpCredential;
use extranet_proto::record::EventKind;
use tokio::net::UdpSocket;
use tokio::time::{Instant, interval};

use self::message::Received;
use self::notice::Names;
use self::repeats::Repeats;
use self::usm::Engine;
use super::module::{Module, text_of};
use super::{Poller, lock};
use crate::result::Recorder;
use crate::self_stats::{Stats, count};
use crate::shell::{Shutdown, Stage, spawn_named};

/// Largest UDP payload.
const DATAGRAM_BYTES: usize = 65_535;

/// Why a datagram was dropped; the label `reason` of the agent's own statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// No SNMP message, or none that notifies.
    Malformed,
    /// From a device that is not polled.
    UnknownSource,
    /// Another community or user, a wrong digest, a wrong level of security.
    NotAuthentic,
    /// An old message again.
    Replayed,
    /// A first step of an inform over v3: answered, so that the second can follow.
    Discovery,
}

impl Dropped {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownSource => "unknown_source",
            Self::NotAuthentic => "not_authentic",
            Self::Replayed => "replayed",
            Self::Discovery => "discovery",
        }
    }
}

/// Takes how often something was said, and what.
type Tell = Box<dyn Fn(i64, &str) + Send>;

/// Takes notifications from a socket until it is told to stop.
struct Receiver {
    poller: Poller,
    tell: Tell,
    stats: Arc<Stats>,
    engine: Engine,
    names: Names,
    repeats: Repeats,
}

impl Receiver {
    /// Believes the devices that `poller` polls.
    fn new(poller: Poller, stats: Arc<Stats>, tell: Tell) -> Self {
        Self {
            poller,
            tell,
            stats,
            engine: Engine::new(),
            names: Names::built_in(),
            repeats: Repeats::default(),
        }
    }

    /// Serves one socket.
    async fn run(mut self, socket: UdpSocket, stop: Shutdown) {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let mut tick = interval(repeats::PERIOD);
        loop {
            tokio::select! {
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((length, source)) => {
                        let datagram = buffer.get(..length).unwrap_or_default();
                        let answer = self.take(datagram, source);
                        if let Some(answer) = answer
                            && let Err(error) = socket.send_to(&answer, source).await
                        {
                            tracing::debug!(%source, %error, "an inform cannot be acknowledged");
                        }
                    }
                    // ICMP errors that belong to our answers.
                    Err(error) => tracing::debug!(%error, "receiving notifications failed"),
                },
                _ = tick.tick() => self.tell_repeats(),
                () = stop.reached(Stage::NoNewWork) => break,
            }
        }
        self.tell_repeats();
    }

    /// Records what a datagram says. Returns what to answer.
    fn take(&mut self, datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let credentials = self.poller.credentials_of(source.ip().to_canonical());
        match message::read(datagram, &credentials, &mut self.engine) {
            Ok(Received { notice, answer }) => {
                let names = self.names.with(self.poller.assigned_modules());
                let text = names.text(source.ip().to_canonical(), &notice);
                self.stats.trap_received.inc();
                if let Some(first) = self.repeats.add(text, Instant::now()) {
                    (self.tell)(1, &first);
                }
                answer
            }
            Err((dropped, answer)) => {
                count(&self.stats.trap_dropped, dropped.label(), 1);
                tracing::debug!(%source, reason = dropped.label(), "a notification is dropped");
                answer
            }
        }
    }

    fn tell_repeats(&mut self) {
        for (text, many) in self.repeats.due(Instant::now()) {
            let many = i64::try_from(many).unwrap_or(i64::MAX);
            (self.tell)(many, &text);
        }
    }
}

impl Poller {
    /// The modules that the assignment brought along.
    fn assigned_modules(&self) -> Vec<Arc<Module>> {
        let known = lock(&self.shared.modules);
        let of_assignment = known.iter().filter(|(name, _)| text_of(name).is_none());
        of_assignment
            .map(|(_, module)| Arc::clone(module))
            .collect()
    }

    /// The credentials with which a device is polled.
    fn credentials_of(&self, address: IpAddr) -> Vec<SnmpCredential> {
        let mut credentials: Vec<SnmpCredential> = Vec::new();
        for (key, remembered) in lock(&self.shared.devices).iter() {
            let credential = &remembered.probe.credential;
            if key.address.ip().to_canonical() == address && !credentials.contains(credential) {
                credentials.push(credential.clone());
            }
        }
        credentials
    }
}

/// Reads a datagram as the receiver does: its text if it is believed, and what is answered. For fuzzing.
pub fn read(datagram: &[u8], credentials: &[SnmpCredential]) -> (Option<String>, Option<Vec<u8>>) {
    match message::read(datagram, credentials, &mut Engine::new()) {
        Ok(Received { notice, answer }) => {
            let source = std::net::Ipv4Addr::LOCALHOST.into();
            (Some(Names::built_in().text(source, &notice)), answer)
        }
        Err((_, answer)) => (None, answer),
    }
}

/// Opens the sockets: those that systemd hands over, and the one of the configuration.
pub fn sockets(listen: Option<SocketAddr>) -> std::io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::new();
    let mut handed = listenfd::ListenFd::from_env();
    for index in 0..handed.len() {
        if let Some(socket) = handed.take_udp_socket(index)? {
            socket.set_nonblocking(true)?;
            sockets.push(UdpSocket::from_std(socket)?);
        }
    }
    if let Some(address) = listen {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        sockets.push(UdpSocket::from_std(socket)?);
    }
    Ok(sockets)
}

/// Serves all sockets, each with a receiver of its own.
pub fn serve(
    sockets: Vec<UdpSocket>,
    poller: &Poller,
    recorder: &Recorder,
    stats: &Arc<Stats>,
    stop: &Shutdown,
) {
    for socket in sockets {
        let recorder = recorder.clone();
        let tell: Tell = Box::new(move |many, text| recorder.event(EventKind::Trap, many, text));
        let receiver = Receiver::new(poller.clone(), Arc::clone(stats), tell);
        spawn_named("snmp-traps", receiver.run(socket, stop.clone()));
    }
}

#[cfg(test)]
mod tests;
