//! The way to a target: every router on it, and how large packets may be. Needs no capability.
//!
//! - [`walk`]: which hop is asked next and when a trace is over; pure;
//! - [`search`]: which packet sizes are tried to find the path MTU; pure;
//! - [`line`](mod@line): the socket of a run: what was sent when, what came back, what it cost;
//! - [`flow`]: the source port or identifier of a check, always the same;
//! - [`tcp`]: attempts by TCP, one connection after the other;
//! - [`mtu`]: path MTU discovery;
//! - [`known`]: what is known of a way from run to run, and whether it changed;
//! - [`values`]: what a run found, as values and definitions;
//! - [`shown`]: a trace as a table for people.
//!
//! A trace is [`Outcome::Ok`](extranet_proto::record::Outcome::Ok) when the target answers. A way that changed is no
//! failure; it is counted, and an event of the agent says between which ways.

mod flow;
mod known;
mod line;
mod mtu;
mod search;
pub mod shown;
mod tcp;
mod values;
mod walk;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use extranet_proto::assignment::{PathProbe, PathTransport};
use extranet_proto::id::CheckId;
use extranet_proto::limits;
use extranet_proto::record::Reason;
use tokio::time::{Instant, timeout_at};

use self::known::Known;
use self::line::{INNER_HEADER_BYTES, Line, NotSent, header_bytes};
use self::tcp::Connections;
use self::values::Gathered;
use self::walk::{Answer, Extent, Step, Walk};
use super::{Measured, ObjectIds, Run, Traffic};
use crate::net::refusal::Refusal;

/// Traces paths; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    objects: ObjectIds,
    known: Mutex<Memory>,
}

/// What is remembered between runs.
#[derive(Debug, Default)]
struct Memory {
    paths: HashMap<Key, (u64, Known)>,
    /// Grows with each run; the path with the lowest number was not looked at for longest.
    clock: u64,
}

/// Whose path: a measurement on demand may bear the number of a check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    check: CheckId,
    vrf: String,
    address: IpAddr,
    transport: PathTransport,
    port: u16,
    flow_port: u16,
}

impl Tracer {
    /// Opens nothing yet: each run opens a socket of its own.
    pub fn new(objects: ObjectIds) -> Self {
        Self(Arc::new(Inner {
            objects,
            known: Mutex::default(),
        }))
    }

    /// One look at the way to the target.
    pub async fn run(&self, run: &Run<'_>, probe: &PathProbe) -> Measured {
        let started = Instant::now();
        let mut gathered = Gathered::default();
        let mut traffic = Traffic::default();
        let mut refusal = None;
        if probe.trace {
            match trace(run, probe, &mut traffic).await {
                Ok(walk) => {
                    refusal = values::refusal_of(walk.end());
                    self.remember(run, probe, |known| {
                        gathered.trace(&walk, known, &self.0.objects, run);
                    });
                }
                Err(found) => {
                    return Measured::refused(found, started.elapsed(), Vec::new())
                        .costing(traffic);
                }
            }
        }
        // A target that did not answer small packets answers no large ones; behind `max_hop` it may.
        let may_answer = refusal.is_none_or(|refusal| refusal.reason == Reason::TimeExceeded);
        if probe.path_mtu && may_answer {
            let before = self.remember(run, probe, |known| known.mtu);
            match discover(run, probe, before, &mut traffic).await {
                Ok(discovered) => {
                    let found = self.remember(run, probe, |known| {
                        gathered.mtu(&discovered, probe, known, &self.0.objects, run)
                    });
                    refusal = refusal.or(found);
                }
                Err(found) => refusal = refusal.or(Some(found)),
            }
        }
        gathered
            .measured(refusal, started.elapsed())
            .costing(traffic)
    }

    fn remember<T>(
        &self,
        run: &Run<'_>,
        probe: &PathProbe,
        work: impl FnOnce(&mut Known) -> T,
    ) -> T {
        let key = Key {
            check: run.check.id,
            vrf: run.vrf.to_owned(),
            address: run.address,
            transport: probe.transport,
            port: probe.port,
            flow_port: probe.flow_port,
        };
        let mut memory = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        memory.clock += 1;
        let clock = memory.clock;
        if !memory.paths.contains_key(&key) && memory.paths.len() >= limits::ASSIGNMENT_CHECKS {
            let oldest = memory.paths.iter().min_by_key(|(_, (seen, _))| *seen);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                memory.paths.remove(&oldest);
            }
        }
        let (seen, known) = memory.paths.entry(key).or_default();
        *seen = clock;
        work(known)
    }
}

/// Asks hop by hop; what it cost is told however it ends.
async fn trace(run: &Run<'_>, probe: &PathProbe, traffic: &mut Traffic) -> Result<Walk, Refusal> {
    let mut walk = Walk::new(Extent {
        first_hop: probe.first_hop,
        max_hop: probe.max_hop,
        attempts: probe.attempts,
        parallel: match probe.transport {
            PathTransport::Tcp => 1,
            PathTransport::Icmp | PathTransport::Udp => probe.parallel,
        },
    });
    match probe.transport {
        PathTransport::Tcp => {
            let mut connections = Connections::new(run, probe)?;
            let ended = walk_connections(&mut walk, &mut connections, run.deadline).await;
            *traffic = connections.traffic();
            ended?;
        }
        PathTransport::Icmp | PathTransport::Udp => {
            let mut line = Line::open(run, probe)?;
            let bytes = header_bytes(line.family()) + INNER_HEADER_BYTES + probe.payload_bytes;
            let ended = walk_line(&mut walk, &mut line, bytes, run.deadline).await;
            *traffic = line.traffic();
            ended?;
        }
    }
    Ok(walk)
}

async fn walk_line(
    walk: &mut Walk,
    line: &mut Line,
    bytes: u16,
    deadline: Instant,
) -> Result<(), Refusal> {
    let started = Instant::now();
    loop {
        for event in line.read() {
            let index = event.index.or_else(|| walk.answered_unidentified());
            if let Some(index) = index {
                let answer = Answer {
                    from: event.from,
                    said: event.said,
                    round_trip: line.round_trip(index, &event),
                };
                walk.answered(index, answer);
            }
        }
        if Instant::now() >= deadline {
            return Ok(());
        }
        match walk.next(started.elapsed()) {
            Step::Ask { index, hop } => {
                line.set_hop_limit(hop)?;
                match line.send(index, bytes).await {
                    Ok(()) => {}
                    Err(NotSent::Refused(refusal)) => return Err(refusal),
                    Err(NotSent::TooLarge(_)) => return Err(Refusal::failed(Reason::PacketTooBig)),
                }
            }
            Step::Wait(until) => {
                let until = deadline.min(started + until);
                // Nothing came in time: the walk knows what that means.
                if let Ok(Err(_)) = timeout_at(until, line.readable()).await {
                    return Err(Refusal::not_measured(Reason::LocalError));
                }
            }
            Step::Done => return Ok(()),
        }
    }
}

async fn walk_connections(
    walk: &mut Walk,
    connections: &mut Connections<'_>,
    deadline: Instant,
) -> Result<(), Refusal> {
    let started = Instant::now();
    while Instant::now() < deadline {
        match walk.next(started.elapsed()) {
            Step::Ask { index, hop } => {
                let until = deadline.min(Instant::now() + walk.patience());
                connections.attempt(walk, index, hop, until).await?;
            }
            Step::Wait(until) => tokio::time::sleep_until(deadline.min(started + until)).await,
            Step::Done => break,
        }
    }
    Ok(())
}

async fn discover(
    run: &Run<'_>,
    probe: &PathProbe,
    before: Option<u16>,
    traffic: &mut Traffic,
) -> Result<mtu::Discovered, Refusal> {
    let mut line = Line::open(run, probe)?;
    let discovered = mtu::discover(&mut line, probe.transport, before, run.deadline).await;
    let cost = line.traffic();
    traffic.sent += cost.sent;
    traffic.received += cost.received;
    Ok(discovered)
}
