//! UDP echo: datagrams that the target sends back as they are (RFC 862), for networks that treat UDP unlike ICMP.
//!
//! Each run has a socket of its own with a random port. A datagram counts as received when it came back in time and
//! whole; what came back with other bytes is counted, and fails a run in which nothing came back whole.

use std::net::SocketAddr;
use std::time::Duration;

use extranet_proto::assignment::UdpProbe;
use extranet_proto::metric;
use extranet_proto::record::{Reason, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::meter::Meter;
use super::round_trips::RoundTrips;
use super::{Measured, Run, micros, own_value};
use crate::net::datagram_socket::{Arrival, DatagramBuffer, DatagramSocket};
use crate::net::refusal::Refusal;
use crate::net::stamp::{ClockOffset, real_ns};
use crate::packet::udp_echo::{self, Echo};

/// One run.
pub async fn run(run: &Run<'_>, probe: &UdpProbe) -> Measured {
    let started = Instant::now();
    let meter = Meter::new(run.address);
    let mut train = match Train::new(probe) {
        Ok(train) => train,
        Err(refusal) => return Measured::refused(refusal, started.elapsed(), Vec::new()),
    };
    let target = SocketAddr::new(run.address, probe.port);
    let ended = match DatagramSocket::connect(target, run.vrf, probe.source) {
        Ok(socket) => {
            let mut buffer = DatagramBuffer::new();
            let travelling = train.travel(&socket, probe, run.deadline, &mut buffer, &meter);
            if let Ok(ended) = timeout_at(run.deadline, travelling).await {
                ended
            } else {
                // The end of its time is no error. What the kernel received until then counts, however late this
                // machine comes to look at it.
                while let Some(arrival) = socket.receive_now(&mut buffer) {
                    train.note(arrival, &meter);
                }
                Ok(())
            }
        }
        Err(refusal) => Err(refusal),
    };
    let duration = started.elapsed();
    let measured = match ended {
        Ok(()) => train.measured(duration),
        Err(refusal) => Measured::refused(refusal, duration, train.values()),
    };
    measured.costing(meter.traffic())
}

#[derive(Debug, Clone, Copy)]
struct Departure {
    /// By the system clock, ns since 1970.
    real_ns: i64,
    clock: ClockOffset,
    /// From here to the deadline: a reply that took longer is late.
    allowed: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Planned,
    Sent(Departure),
    /// This machine or an ICMP error said why; a reply still has the last word.
    Lost,
    Returned(Option<Duration>),
}

impl Departure {
    /// `None` when the clock was stepped in between.
    fn until(self, arrived_ns: i64) -> Option<Duration> {
        let stepped = self.clock.stepped_until(ClockOffset::now());
        u64::try_from(arrived_ns.saturating_sub(self.real_ns))
            .ok()
            .filter(|_| !stepped)
            .map(Duration::from_nanos)
    }
}

/// The datagrams of a run and what became of each.
struct Train {
    nonce: [u8; 8],
    len: usize,
    fates: Vec<Fate>,
    sent: u64,
    received: u64,
    duplicates: u64,
    reordered: u64,
    altered: u64,
    foreign: u64,
    /// The highest index that came back.
    furthest: Option<u32>,
    /// Why one was lost; of the last one that says why.
    refusal: Option<Refusal>,
}

impl Train {
    fn new(probe: &UdpProbe) -> Result<Self, Refusal> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(|_| Refusal::not_measured(Reason::LocalError))?;
        Ok(Self {
            nonce,
            len: probe.payload_bytes.into(),
            fates: vec![Fate::Planned; probe.packets.into()],
            sent: 0,
            received: 0,
            duplicates: 0,
            reordered: 0,
            altered: 0,
            foreign: 0,
            furthest: None,
            refusal: None,
        })
    }

    /// Sends all datagrams and reads what comes back until nothing more is to come.
    async fn travel(
        &mut self,
        socket: &DatagramSocket,
        probe: &UdpProbe,
        deadline: Instant,
        buffer: &mut DatagramBuffer,
        meter: &Meter,
    ) -> Result<(), Refusal> {
        let begun = Instant::now();
        let mut datagram = Vec::with_capacity(self.len);
        let mut next = 0_u32;
        while !self.is_settled() {
            let all_sent = next >= probe.packets.into();
            let due = begun + probe.packet_interval * next;
            tokio::select! {
                biased;
                arrival = socket.receive(buffer) => self.note(arrival?, meter),
                () = sleep_until(due), if !all_sent => {
                    udp_echo::build(self.nonce, next, self.len, &mut datagram);
                    let allowed = deadline.saturating_duration_since(Instant::now());
                    if self.send(socket, next, &datagram, allowed) {
                        meter.datagram_sent(datagram.len());
                    }
                    next += 1;
                }
            }
        }
        Ok(())
    }

    /// Returns whether the datagram left. One that this machine refused counts as sent, as it does with ping.
    fn send(
        &mut self,
        socket: &DatagramSocket,
        index: u32,
        datagram: &[u8],
        allowed: Duration,
    ) -> bool {
        let departure = Departure {
            clock: ClockOffset::now(),
            real_ns: real_ns(),
            allowed,
        };
        let result = socket.send(datagram);
        self.sent += 1;
        self.refusal = result.err().or(self.refusal);
        if let Some(slot) = self.fate(index) {
            *slot = match result {
                Ok(()) => Fate::Sent(departure),
                Err(_) => Fate::Lost,
            };
        }
        result.is_ok()
    }

    fn fate(&mut self, index: u32) -> Option<&mut Fate> {
        self.fates.get_mut(usize::try_from(index).ok()?)
    }

    fn note(&mut self, arrival: Arrival<'_>, meter: &Meter) {
        match arrival {
            Arrival::Datagram { payload, real_ns } => {
                meter.datagram_received(payload.len());
                match udp_echo::read(self.nonce, self.len, payload) {
                    Echo::Whole(index) => self.returned(index, real_ns),
                    Echo::Altered(_) => self.altered += 1,
                    Echo::Foreign => self.foreign += 1,
                }
            }
            Arrival::Error { reason, payload } => {
                meter.error_received(payload.len());
                let Some(index) = udp_echo::index(self.nonce, payload) else {
                    return;
                };
                self.refusal = Some(Refusal::failed(reason));
                if let Some(fate @ Fate::Sent(_)) = self.fate(index) {
                    *fate = Fate::Lost;
                }
            }
        }
    }

    fn returned(&mut self, index: u32, arrived_ns: i64) {
        let Some(fate) = self.fate(index) else {
            self.foreign += 1;
            return;
        };
        let round_trip = match *fate {
            Fate::Returned(_) => {
                self.duplicates += 1;
                return;
            }
            Fate::Planned => {
                // Guessed: it was not sent yet.
                self.foreign += 1;
                return;
            }
            Fate::Lost => None,
            Fate::Sent(departure) => departure.until(arrived_ns),
        };
        if let Fate::Sent(departure) = *fate
            && round_trip.is_some_and(|round_trip| round_trip > departure.allowed)
        {
            return;
        }
        *fate = Fate::Returned(round_trip);
        self.received += 1;
        if self.furthest.is_some_and(|furthest| furthest > index) {
            self.reordered += 1;
        }
        self.furthest = self.furthest.max(Some(index));
    }

    /// Whether every datagram came back or is known to be lost.
    fn is_settled(&self) -> bool {
        self.fates
            .iter()
            .all(|fate| matches!(fate, Fate::Lost | Fate::Returned(_)))
    }

    fn values(&self) -> Vec<Value> {
        let mut values = vec![
            own_value(metric::UDP_SENT, self.sent),
            own_value(metric::UDP_RECEIVED, self.received),
        ];
        let round_trips: Vec<_> = self
            .fates
            .iter()
            .map(|fate| match fate {
                Fate::Returned(round_trip) => *round_trip,
                _ => None,
            })
            .collect();
        if let Some(found) = RoundTrips::of(&round_trips) {
            values.extend([
                own_value(metric::UDP_RTT_MIN, micros(found.min)),
                own_value(metric::UDP_RTT_AVG, micros(found.avg)),
                own_value(metric::UDP_RTT_MAX, micros(found.max)),
            ]);
            let jitter = found.jitter.map(micros);
            values.extend(jitter.map(|jitter| own_value(metric::UDP_JITTER, jitter)));
        }
        values.extend([
            own_value(metric::UDP_DUPLICATES, self.duplicates),
            own_value(metric::UDP_REORDERED, self.reordered),
            own_value(metric::UDP_ALTERED, self.altered),
        ]);
        values
    }

    /// 1. One datagram that came back whole is a target that answers; how many were lost is a value.
    /// 2. Bytes that changed on the way say more than an error, and that more than silence.
    fn measured(&self, duration: Duration) -> Measured {
        let values = self.values();
        if self.received > 0 {
            return Measured::ok(duration, values);
        }
        let refusal = match self.refusal {
            _ if self.altered > 0 => Refusal::failed(Reason::UnexpectedContent),
            Some(refusal) => refusal,
            None if self.foreign > 0 => Refusal::failed(Reason::Mismatched),
            None => Refusal::failed(Reason::Timeout),
        };
        Measured::refused(refusal, duration, values)
    }
}
