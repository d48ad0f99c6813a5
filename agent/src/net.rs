//! What touches the kernel: sockets and the clock reads that belong to them.
//!
//! - [`refusal`]: what an error of a system call says about a probe;
//! - [`stamp`]: the departure time of a packet, and whether the system clock stepped since;
//! - [`departure`]: how a packet leaves: code point, hop limit, source address;
//! - [`receive`]: reading a socket with everything the kernel tells about a packet;
//! - [`datagram_socket`]: a connected UDP socket with time stamps and its error queue;
//! - [`icmp_socket`]: one ICMP socket, datagram or raw, for all targets of a family and VRF;
//! - [`kernel_counts`]: what the kernel dropped for a wrong checksum;
//! - [`stream_socket`]: a TCP connection and, where there is none, why;
//! - [`path_socket`]: a socket whose packets all belong to one flow, for traces and path MTU;
//! - [`netlink`]: the kernel's tables of links, addresses, routes and neighbours;
//! - [`segment_news`]: changes of those tables as they happen;
//! - [`watched`]: a socket that the runtime watches.

pub mod datagram_socket;
pub mod departure;
pub mod icmp_socket;
pub mod kernel_counts;
pub mod netlink;
pub mod path_socket;
pub mod receive;
pub mod refusal;
pub mod segment_news;
pub mod stamp;
pub mod stream_socket;
pub mod watched;
