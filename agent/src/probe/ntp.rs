//! NTP: one exchange with a time server as a client (RFC 5905). No clock is set: the offset is a measurement of the two
//! clocks against each other, and which of them is wrong the other checks of the network tell.
//!
//! An answer counts only if it bears the random number of one of our requests as its origin timestamp; anything else is
//! passed over, but remembered: a run that saw nothing else ends as `mismatched`, not as a timeout.

use std::net::SocketAddr;

use extranet_proto::assignment::NtpProbe;
use extranet_proto::metric;
use extranet_proto::record::{Reason, Value};
use tokio::time::{Instant, timeout_at};

use super::meter::Meter;
use super::{Measured, Run, own_value};
use crate::net::datagram_socket::{Arrival, DatagramBuffer, DatagramSocket};
use crate::net::refusal::Refusal;
use crate::net::stamp::{ClockOffset, real_ns};
use crate::packet::ntp::{self, Answer, Timestamp};

/// Datagrams that are no answer before the run gives up (guess): nobody but an attacker or a broken server sends more.
const STRAYS_MAX: u32 = 64;

/// A request that is on its way.
struct Request {
    nonce: Timestamp,
    real_ns: i64,
    clock: ClockOffset,
}

/// An answer with the times of our clock.
struct Exchange {
    answer: Answer,
    sent_ns: i64,
    received_ns: i64,
    /// Whether our clock was stepped in between.
    stepped: bool,
}

/// One run.
pub async fn run(run: &Run<'_>, probe: &NtpProbe) -> Measured {
    let started = Instant::now();
    let meter = Meter::new(run.address);
    let mut requests = Vec::new();
    let asked = ask(run, probe, &meter, &mut requests).await;
    let sent = own_value(metric::NTP_REQUESTS, requests.len() as u64);
    let measured = match asked {
        Ok(exchange) => {
            let mut values = exchange.values();
            values.push(sent);
            match judge(&exchange.answer) {
                Reason::None => Measured::ok(started.elapsed(), values),
                reason => Measured::failed(reason, started.elapsed(), values),
            }
        }
        Err(refusal) => Measured::refused(refusal, started.elapsed(), vec![sent]),
    };
    measured.costing(meter.traffic())
}

/// Sends requests, the time of the run spread evenly over them, until one is answered.
async fn ask(
    run: &Run<'_>,
    probe: &NtpProbe,
    meter: &Meter,
    requests: &mut Vec<Request>,
) -> Result<Exchange, Refusal> {
    let target = SocketAddr::new(run.address, probe.port);
    let socket = DatagramSocket::connect(target, run.vrf, None)?;
    let mut buffer = DatagramBuffer::new();
    let mut strays = 0;
    for left in (1..=u32::from(probe.tries)).rev() {
        requests.push(send(&socket, probe.version, meter)?);
        let now = Instant::now();
        let until = now + run.deadline.saturating_duration_since(now) / left;
        let listening = listen(&socket, &mut buffer, requests, &mut strays, meter);
        if let Ok(answered) = timeout_at(until, listening).await {
            return answered;
        }
    }
    Err(Refusal::failed(if strays > 0 {
        Reason::Mismatched
    } else {
        Reason::Timeout
    }))
}

fn send(socket: &DatagramSocket, version: u8, meter: &Meter) -> Result<Request, Refusal> {
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(|_| Refusal::not_measured(Reason::LocalError))?;
    // Zero would mean "unknown".
    let nonce = Timestamp(u64::from_ne_bytes(nonce) | 1);
    let packet = ntp::request(version, nonce);
    let clock = ClockOffset::now();
    let real_ns = real_ns();
    socket.send(&packet)?;
    meter.datagram_sent(packet.len());
    Ok(Request {
        nonce,
        real_ns,
        clock,
    })
}

/// Waits for the answer to any of the requests.
async fn listen(
    socket: &DatagramSocket,
    buffer: &mut DatagramBuffer,
    requests: &[Request],
    strays: &mut u32,
    meter: &Meter,
) -> Result<Exchange, Refusal> {
    loop {
        let (payload, received_ns) = match socket.receive(buffer).await? {
            Arrival::Datagram { payload, real_ns } => (payload, real_ns),
            Arrival::Error { reason, payload } => {
                meter.error_received(payload.len());
                return Err(Refusal::failed(reason));
            }
        };
        meter.datagram_received(payload.len());
        let answer = ntp::parse(payload).ok();
        let found = answer.and_then(|answer| {
            let request = requests
                .iter()
                .find(|request| request.nonce == answer.origin)?;
            Some((answer, request))
        });
        if let Some((answer, request)) = found {
            return Ok(Exchange {
                answer,
                sent_ns: request.real_ns,
                received_ns,
                stepped: request.clock.stepped_until(ClockOffset::now()),
            });
        }
        *strays += 1;
        if *strays >= STRAYS_MAX {
            return Err(Refusal::failed(Reason::Mismatched));
        }
    }
}

/// In this order:
/// 1. a kiss-o'-death has no time in it (RFC 5905 section 7.4);
/// 2. a server that is not synchronised has one that is worth nothing;
/// 3. one that left before it came is no time.
fn judge(answer: &Answer) -> Reason {
    if answer.stratum == 0 {
        return Reason::KissOfDeath;
    }
    if answer.is_unsynchronised() {
        return Reason::Unsynchronised;
    }
    let unknown = Timestamp(0);
    if answer.transmit == unknown
        || answer.receive == unknown
        || answer.transmit.since_us(answer.receive) < 0
    {
        return Reason::Malformed;
    }
    Reason::None
}

impl Exchange {
    /// By growing metric number. Without times where the answer has none, or where our own clock was stepped.
    fn values(&self) -> Vec<Value> {
        let answer = &self.answer;
        let root_delay = ntp::short_us(answer.root_delay);
        let root_dispersion = ntp::short_us(answer.root_dispersion);
        let mut values = Vec::with_capacity(10);
        let mut root_distance = None;
        if matches!(judge(answer), Reason::None | Reason::Unsynchronised) && !self.stepped {
            let sent = Timestamp::from_unix_ns(self.sent_ns);
            let received = Timestamp::from_unix_ns(self.received_ns);
            let (offset, delay) = answer.offset_and_delay_us(sent, received);
            values.extend([
                own_value(metric::NTP_OFFSET, offset.cast_unsigned()),
                own_value(metric::NTP_RTT, delay),
            ]);
            root_distance = Some(delay.midpoint(root_delay) + root_dispersion);
        }
        values.extend([
            own_value(metric::NTP_STRATUM, answer.stratum.into()),
            own_value(metric::NTP_ROOT_DELAY, root_delay),
            own_value(metric::NTP_ROOT_DISPERSION, root_dispersion),
        ]);
        values.extend(root_distance.map(|us| own_value(metric::NTP_ROOT_DISTANCE, us)));
        values.push(own_value(metric::NTP_LEAP, answer.leap.into()));
        if answer.reference != Timestamp(0) {
            let set = answer.reference.unix_s_near(self.received_ns);
            values.push(own_value(metric::NTP_REFERENCE_TIME, set.cast_unsigned()));
        }
        let id = u32::from_be_bytes(answer.reference_id);
        values.push(own_value(metric::NTP_REFERENCE_ID, id.into()));
        values
    }
}
