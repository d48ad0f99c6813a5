//! Bytes only: packets built and parsed. No sockets, no clocks, no state; whatever comes in, nothing here panics.
//!
//! - [`icmp`]: echo requests and replies, and the start of a request that an error message quotes;
//! - [`trouble`]: what the type and code of an ICMP error say about the target or the path;
//! - [`ipv4`]: the header that raw sockets put in front of what they deliver;
//! - [`checksum`]: the Internet checksum.

pub mod checksum;
pub mod icmp;
pub mod ipv4;
pub mod trouble;
