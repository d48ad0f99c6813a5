//! TCP connect: a connection is opened and closed at once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use extranet_proto::assignment::TcpProbe;
use extranet_proto::metric;
use extranet_proto::record::Reason;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::{Measured, Run, micros, own_value};
use crate::net::refusal::{Refusal, errno_of};

/// Connects, and says how long it took from the first SYN to an established connection, retransmissions included.
pub async fn run(run: &Run<'_>, probe: &TcpProbe) -> Measured {
    let started = Instant::now();
    match connect(run, probe.port).await {
        Ok((_stream, took)) => {
            let values = vec![own_value(metric::TCP_CONNECT, micros(took))];
            Measured::ok(started.elapsed(), values)
        }
        Err(refusal) => Measured::refused(refusal, started.elapsed(), Vec::new()),
    }
}

/// A connection to a port of the target, with the time from the first SYN until it was established.
pub(super) async fn connect(run: &Run<'_>, port: u16) -> Result<(TcpStream, Duration), Refusal> {
    let socket = open(run.address, run.vrf)?;
    let target = SocketAddr::new(run.address, port);
    let connecting = Instant::now();
    let result = tokio::time::timeout_at(run.deadline, socket.connect(target)).await;
    let took = connecting.elapsed();
    match result {
        Err(_) => Err(Refusal::failed(Reason::Timeout)),
        Ok(Err(error)) => Err(Refusal::of(errno_of(&error))),
        // On its own machine a connection to a free port of the ephemeral range may meet itself (RFC 9293 section
        // 3.5, simultaneous open): nobody listens there.
        Ok(Ok(stream)) if stream.local_addr().is_ok_and(|local| local == target) => {
            Err(Refusal::failed(Reason::Refused))
        }
        Ok(Ok(stream)) => Ok((stream, took)),
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
