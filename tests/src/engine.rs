//! Engines as Debian ships them, each with a private configuration and state folder, on loopback of its place.

pub mod alertmanager;
pub mod prometheus;
pub mod rsyslog;
pub mod snmpd;
pub mod victoria;

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use crate::place::Place;

pub use alertmanager::Alertmanager;
pub use prometheus::Prometheus;
pub use rsyslog::Rsyslog;
pub use snmpd::Snmpd;
pub use victoria::Victoria;

/// Longest an engine may take to answer after its start, on a busy machine.
pub(crate) const READY_PATIENCE: Duration = Duration::from_secs(30);

/// A TCP port of loopback that nobody listens on now. Only for programs that cannot bind port 0 and say what they got.
pub fn free_tcp_port(place: &Place) -> u16 {
    let listener = place
        .run(|| TcpListener::bind("127.0.0.1:0"))
        .expect("loopback has free ports");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// A UDP port of loopback that nobody listens on now.
pub fn free_udp_port(place: &Place) -> u16 {
    let socket = place
        .run(|| UdpSocket::bind("127.0.0.1:0"))
        .expect("loopback has free ports");
    socket
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}
