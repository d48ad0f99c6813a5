//! The sensor: the one process of the agent that may hold a capability (`CAP_NET_RAW`, tier 2 of SEC-G0). It listens for
//! router advertisements on every interface, gives up the capability and all it does not need before it reads the
//! first one, and hands parsed, bounded records to the agent over a socket. It judges nothing and sends nothing to
//! the network.
//!
//! ```text
//! raw ICMPv6 socket -> packet::router_advert -> message -> unix socket (SEQPACKET) -> agent: security::listen
//! ```
//!
//! - [`message`]: what goes over the socket, both directions of the conversion;
//! - [`capture`]: the raw socket;
//! - [`confine`]: what is given up, and the filter of system calls;
//! - [`pace`]: how much is passed on;
//! - [`run`]: the loop.
//!
//! A raw ICMPv6 socket does not see the Ethernet header: the MAC address of a sender is what the advertisement says in
//! its source link-layer address option; the agent compares it with the kernel's neighbour table.

pub mod capture;
pub mod confine;
pub mod message;
pub mod pace;
pub mod run;

/// Where the agent listens, and the sensor connects, when nobody says otherwise: the agent's runtime folder.
pub const DEFAULT_SOCKET: &str = "/run/extranet-agent/sensor.sock";
/// Name of the socket in a runtime folder.
pub const SOCKET_NAME: &str = "sensor.sock";
