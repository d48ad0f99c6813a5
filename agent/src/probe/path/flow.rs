//! The source port or identifier of a check: the same in every run, after a restart too, so that routers which balance
//! load send its packets the same way day after day and a changed path is a changed network.

use std::net::IpAddr;

use extranet_proto::assignment::PathProbe;
use extranet_proto::record::Reason;

use super::line::destination;
use crate::net::path_socket::{NotOpened, PathSocket};
use crate::net::refusal::Refusal;
use crate::probe::Run;

/// Above the ports that Linux gives to sockets which do not care (`net.ipv4.ip_local_port_range`, up to 60999).
const FIRST_PORT: u16 = 61_000;
/// How many there are.
const PORTS: u16 = 4_500;
/// How many are tried where somebody else has the first one.
const TRIES: u16 = 8;

/// The socket of a run, with its source port or identifier.
pub(super) fn open(run: &Run<'_>, probe: &PathProbe) -> Result<(PathSocket, u16), Refusal> {
    let ports: Vec<u16> = match probe.flow_port {
        0 => derived(run.check.id.0, run.address)
            .take(usize::from(TRIES))
            .collect(),
        port => vec![port],
    };
    for port in ports {
        let target = destination(run, probe);
        match PathSocket::open(probe.transport, target, port, run.vrf) {
            Ok(socket) => return Ok((socket, port)),
            Err(NotOpened::PortTaken) => {}
            Err(NotOpened::Refused(refusal)) => return Err(refusal),
        }
    }
    Err(Refusal::not_measured(Reason::LocalError))
}

/// The ports of a check, the first one before all.
fn derived(check: u32, target: IpAddr) -> impl Iterator<Item = u16> {
    let mut hash = Fnv::new();
    hash.add(&check.to_be_bytes());
    hash.add_address(target);
    let first = u16::try_from(hash.finish() % u64::from(PORTS)).unwrap_or(0);
    (0..PORTS).map(move |step| FIRST_PORT + (first + step) % PORTS)
}

/// FNV-1a: a hash that is the same on every machine and in every release, unlike those of the standard library.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fnv(u64);

impl Fnv {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn add_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.add(&v4.octets()),
            IpAddr::V6(v6) => self.add(&v6.octets()),
        }
    }

    pub(super) const fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        let mut hash = Fnv::new();
        hash.add(b"foobar");
        // From the authors' own test vectors.
        assert_eq!(hash.finish(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_check_always_has_the_same_port() {
        let target = "10.0.0.9".parse().unwrap();
        let ports: Vec<u16> = derived(7, target).take(3).collect();
        assert_eq!(ports, derived(7, target).take(3).collect::<Vec<_>>());
        assert!(ports.iter().all(|port| (61_000..65_500).contains(port)));
        assert_ne!(derived(8, target).next(), derived(7, target).next());
        assert_eq!(derived(7, target).count(), usize::from(PORTS));
    }
}
