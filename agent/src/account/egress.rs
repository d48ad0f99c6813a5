//! Which uplink a destination is reached by. Asked of the kernel, so that a default route that moves from fibre to a
//! mobile device moves the account with it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::net::netlink::Netlink;
use crate::packet::rtnetlink::{Dump, Entry};

/// An answer is believed for this long, µs.
const REMEMBERED_US: u64 = 60_000_000;
/// Most destinations that are remembered: what an assignment can name; beyond, all are asked for again.
const REMEMBERED: usize = extranet_proto::limits::ASSIGNMENT_TARGETS;

/// How a destination is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Egress {
    /// Through this device.
    Uplink(Arc<str>),
    /// On this machine, or on a link of its own: costs nothing.
    Local,
    /// The kernel did not say: charged, to a device without a name.
    Unknown,
}

/// Remembers what the kernel said.
#[derive(Debug, Default)]
pub(super) struct Egresses {
    netlink: Option<Netlink>,
    found: HashMap<(String, IpAddr), (Egress, u64)>,
    devices: HashMap<u32, Arc<str>>,
}

impl Egresses {
    /// How `address` is reached, in the VRF with this device (empty: the default table).
    pub(super) fn of(&mut self, vrf: &str, address: IpAddr, now_us: u64) -> Egress {
        // No question to the kernel, and right in a machine without it, too.
        if address.is_loopback() {
            return Egress::Local;
        }
        let key = (vrf.to_owned(), address);
        if let Some((egress, at)) = self.found.get(&key)
            && now_us.saturating_sub(*at) < REMEMBERED_US
        {
            return egress.clone();
        }
        let egress = self.ask(vrf, address).unwrap_or_else(|error| {
            tracing::debug!(%address, vrf, %error, "the kernel does not say how it is reached");
            // A broken socket is opened again next time.
            self.netlink = None;
            Egress::Unknown
        });
        if self.found.len() >= REMEMBERED {
            self.found.clear();
        }
        self.found.insert(key, (egress.clone(), now_us));
        egress
    }

    /// Puts an answer into the memory.
    #[cfg(test)]
    pub(super) fn remember(&mut self, vrf: &str, address: IpAddr, device: &Arc<str>) {
        let egress = Egress::Uplink(Arc::clone(device));
        self.found
            .insert((vrf.to_owned(), address), (egress, 1_000_000));
    }

    fn ask(&mut self, vrf: &str, address: IpAddr) -> std::io::Result<Egress> {
        let vrf = if vrf.is_empty() {
            0
        } else {
            self.index_of(vrf)?
        };
        let way = self.netlink()?.way_to(address, vrf)?;
        if way.local {
            return Ok(Egress::Local);
        }
        if !self.devices.contains_key(&way.link) {
            self.read_devices()?;
        }
        Ok(match self.devices.get(&way.link) {
            Some(device) => Egress::Uplink(Arc::clone(device)),
            None => Egress::Unknown,
        })
    }

    fn index_of(&mut self, name: &str) -> std::io::Result<u32> {
        let index = |devices: &HashMap<u32, Arc<str>>| {
            let mut found = devices.iter();
            found
                .find(|(_, device)| &***device == name)
                .map(|(index, _)| *index)
        };
        if let Some(index) = index(&self.devices) {
            return Ok(index);
        }
        self.read_devices()?;
        index(&self.devices).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn read_devices(&mut self) -> std::io::Result<()> {
        let links = self.netlink()?.dump(Dump::Links)?;
        self.devices = links
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Link(link) => Some((link.index, Arc::from(link.name))),
                _ => None,
            })
            .collect();
        Ok(())
    }

    fn netlink(&mut self) -> std::io::Result<&mut Netlink> {
        if self.netlink.is_none() {
            self.netlink = Some(Netlink::open()?);
        }
        self.netlink
            .as_mut()
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_itself_is_local() {
        let mut egresses = Egresses::default();
        assert_eq!(
            egresses.of("", "127.0.0.9".parse().unwrap(), 0),
            Egress::Local
        );
        assert_eq!(egresses.of("", "::1".parse().unwrap(), 0), Egress::Local);
        let no_such_device = egresses.of("no-such-vrf", "192.0.2.1".parse().unwrap(), 0);
        assert_eq!(no_such_device, Egress::Unknown);
    }
}
