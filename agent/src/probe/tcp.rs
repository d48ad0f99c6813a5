//! TCP connect: a connection is opened and closed at once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use extranet_proto::assignment::TcpProbe;
use extranet_proto::metric;
use extranet_proto::record::Reason;
use tokio::time::{Instant, timeout_at};

use super::meter::{Connected, Meter, Metered};
use super::{Measured, Run, micros, own_value};
use crate::net::refusal::Refusal;
use crate::net::stream_socket;

/// Connects, and says how long it took from the first SYN to an established connection, retransmissions included.
pub async fn run(run: &Run<'_>, probe: &TcpProbe) -> Measured {
    let started = Instant::now();
    let meter = Meter::new(run.address);
    let way = Way::of(run, probe.port);
    let way = Way {
        source: probe.source,
        ..way
    };
    let measured = match way.connect(&meter).await {
        Ok((_stream, took)) => {
            let values = vec![own_value(metric::TCP_CONNECT, micros(took))];
            Measured::ok(started.elapsed(), values)
        }
        Err(refusal) => Measured::refused(refusal, started.elapsed(), Vec::new()),
    };
    measured.costing(meter.traffic())
}

/// Where a connection goes, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) target: SocketAddr,
    pub(super) vrf: &'a str,
    pub(super) source: Option<IpAddr>,
    pub(super) deadline: Instant,
}

impl<'a> Way<'a> {
    /// To a port of the target of a run.
    pub(super) const fn of(run: &Run<'a>, port: u16) -> Self {
        Self {
            target: SocketAddr::new(run.address, port),
            vrf: run.vrf,
            source: None,
            deadline: run.deadline,
        }
    }

    /// A connection, with the time from the first SYN until it was established.
    pub(super) async fn connect(&self, meter: &Meter) -> Result<(Metered, Duration), Refusal> {
        let begun = Instant::now();
        let connecting = stream_socket::connect(self.target, self.vrf, self.source);
        let result = timeout_at(self.deadline, connecting)
            .await
            .unwrap_or(Err(Refusal::failed(Reason::Timeout)));
        let took = begun.elapsed();
        let answer = match &result {
            Ok(_) => Some(Connected::Established),
            Err(refusal) if refusal.reason == Reason::Refused => Some(Connected::Refused),
            // Without an address or a route nothing left the machine.
            Err(refusal) if refusal.reason != Reason::Timeout && took.as_millis() == 0 => None,
            Err(_) => Some(Connected::Unanswered),
        };
        if let Some(answer) = answer {
            meter.connected(answer, took);
        }
        Ok((Metered::new(result?, meter.clone()), took))
    }
}
