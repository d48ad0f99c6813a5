//! TCP connect: a connection is opened and closed at once.

use std::net::{IpAddr, SocketAddr};

use extranet_proto::assignment::TcpProbe;
use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::{Measured, Run, micros, own_value};
use crate::net::refusal::{Refusal, errno_of};

/// Connects, and says how long it took from the first SYN to an established connection, retransmissions included.
pub async fn run(run: &Run<'_>, probe: &TcpProbe) -> Measured {
    let started = Instant::now();
    let socket = match open(run.address, run.vrf) {
        Ok(socket) => socket,
        Err(refusal) => return Measured::not_measured(refusal.reason, started.elapsed()),
    };
    let target = SocketAddr::new(run.address, probe.port);
    let connecting = Instant::now();
    let result = tokio::time::timeout_at(run.deadline, socket.connect(target)).await;
    let took = connecting.elapsed();
    let refusal = match result {
        Err(_) => Refusal::failed(Reason::Timeout),
        Ok(Err(error)) => Refusal::of(errno_of(&error)),
        // On its own machine a connection to a free port of the ephemeral range may meet itself (RFC 9293 section
        // 3.5, simultaneous open): nobody listens there.
        Ok(Ok(stream)) if stream.local_addr().is_ok_and(|local| local == target) => {
            Refusal::failed(Reason::Refused)
        }
        Ok(Ok(_stream)) => {
            let values = vec![own_value(metric::TCP_CONNECT, micros(took))];
            return Measured::ok(started.elapsed(), values);
        }
    };
    match refusal.outcome {
        Outcome::NotMeasured => Measured::not_measured(refusal.reason, started.elapsed()),
        _ => Measured::failed(refusal.reason, started.elapsed(), Vec::new()),
    }
}

/// A socket of the family of the address, within the VRF.
fn open(address: IpAddr, vrf: &str) -> Result<TcpSocket, Refusal> {
    let refusal = |error: std::io::Error| Refusal::of_open(errno_of(&error));
    let socket = match address {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(refusal)?;
    if !vrf.is_empty() {
        socket.bind_device(Some(vrf.as_bytes())).map_err(refusal)?;
    }
    Ok(socket)
}
