//! What touches the kernel: sockets and the clock reads that belong to them.
//!
//! - [`refusal`]: what an error of a system call says about a probe;
//! - [`stamp`]: the departure time of a packet, and whether the system clock stepped since;
//! - [`receive`]: reading a socket with everything the kernel tells about a packet;
//! - [`icmp_socket`]: one ICMP socket, datagram or raw, for all targets of a family and VRF.
//! - [`netlink`]: the kernel's tables of links, addresses, routes and neighbours.

pub mod icmp_socket;
pub mod netlink;
pub mod receive;
pub mod refusal;
pub mod stamp;
