//! What the security watch keeps over a restart, in the state folder as `security`: what was learnt, so that a restart
//! does not trust an attacker who is there at that moment, and open events, so that each is cleared some day.
//!
//! TOML inside the frame of [`crate::state_file`]: `extranet-agent security` shows it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use extranet_proto::id::BootId;
use extranet_proto::mac::MacAddress;
use extranet_proto::record::{RecordTime, SecurityRule, Severity};
use serde::{Deserialize, Serialize};

use super::life::{Key, Life, Open};
use super::routers::{Claims, Known, Routers, Segment};
use super::{gateways, gateways::Gateways};
use crate::state_file::{self, StateFileError};

/// Everything that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Routers that belong to each interface, as learnt.
    pub routers: BTreeMap<String, Vec<Known>>,
    /// MAC addresses that settled gateways had.
    pub gateways: BTreeMap<gateways::Key, Vec<MacAddress>>,
    /// Events that were not cleared.
    pub open: BTreeMap<Key, Open>,
}

/// Where it is kept.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("security")
}

impl Memory {
    /// What the watch knows now.
    pub fn of(routers: &Routers, gateways: &Gateways, life: &Life) -> Self {
        let settled = routers
            .links()
            .iter()
            .filter_map(|(link, segment)| match segment {
                Segment::Settled(known) => Some((link.clone(), known.clone())),
                Segment::Learning { .. } => None,
            });
        Self {
            routers: settled.collect(),
            gateways: gateways.settled(),
            open: life
                .open()
                .iter()
                .map(|(key, open)| (key.clone(), open.as_kept()))
                .collect(),
        }
    }

    /// Reads it; `None` where nothing was kept. What a newer release wrote and this one does not know is left out.
    pub fn load(state_dir: &Path, boot: BootId) -> Result<Option<Self>, MemoryError> {
        let Some(bytes) = state_file::read(&path(state_dir))? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes).map_err(|_| MemoryError::NoText)?;
        let kept: Kept = toml::from_str(&text)?;
        Ok(Some(kept.memory(boot)))
    }

    /// What is written.
    pub fn text(&self, boot: BootId) -> Result<String, MemoryError> {
        Ok(toml::to_string(&Kept::of(self, boot))?)
    }
}

/// Why nothing can be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file.
    #[error(transparent)]
    File(#[from] StateFileError),
    /// Its content.
    #[error("what the security watch kept is no text")]
    NoText,
    /// Its content.
    #[error("what the security watch kept cannot be read")]
    Read(#[from] toml::de::Error),
    /// Its content.
    #[error("what the security watch knows cannot be written")]
    Write(#[from] toml::ser::Error),
}

/// The form on disk: texts and numbers only.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// Times since boot mean something in this boot only.
    boot: String,
    router: Vec<KeptRouter>,
    gateway: Vec<KeptGateway>,
    event: Vec<KeptEvent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptRouter {
    interface: String,
    macs: Vec<String>,
    link_locals: Vec<Ipv6Addr>,
    prefixes: Vec<String>,
    claims: Option<KeptClaims>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptClaims {
    managed: bool,
    other: bool,
    preference: String,
    name_servers: Vec<Ipv6Addr>,
    mtu: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptGateway {
    interface: String,
    address: IpAddr,
    macs: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptEvent {
    rule: String,
    severity: String,
    object: String,
    first_boottime_ms: u64,
    first_wall_ms: i64,
    times: u32,
    evidence: Vec<[String; 2]>,
}

impl Kept {
    fn of(memory: &Memory, boot: BootId) -> Self {
        let texts = |macs: &[MacAddress]| macs.iter().map(ToString::to_string).collect();
        let routers = memory.routers.iter().flat_map(|(link, routers)| {
            routers.iter().map(move |router| KeptRouter {
                interface: link.clone(),
                macs: texts(&router.macs),
                link_locals: router.link_locals.clone(),
                prefixes: router.prefixes.iter().map(ToString::to_string).collect(),
                claims: router.claims.clone().map(|claims| KeptClaims {
                    managed: claims.managed,
                    other: claims.other,
                    preference: claims.preference,
                    name_servers: claims.name_servers,
                    mtu: claims.mtu,
                }),
            })
        });
        let gateways = memory
            .gateways
            .iter()
            .map(|((link, address), macs)| KeptGateway {
                interface: link.clone(),
                address: *address,
                macs: texts(macs),
            });
        let events = memory.open.iter().map(|((rule, object), open)| KeptEvent {
            rule: rule.label().to_owned(),
            severity: open.severity.label().to_owned(),
            object: object.clone(),
            first_boottime_ms: open.first_seen.boottime_ms,
            first_wall_ms: open.first_seen.wall_ms,
            times: open.times,
            evidence: open
                .evidence
                .iter()
                .cloned()
                .map(<[String; 2]>::from)
                .collect(),
        });
        Self {
            boot: boot.to_string(),
            router: routers.collect(),
            gateway: gateways.collect(),
            event: events.collect(),
        }
    }

    fn memory(self, boot: BootId) -> Memory {
        let same_boot = self.boot == boot.to_string();
        let macs = |texts: Vec<String>| texts.iter().filter_map(|text| text.parse().ok()).collect();
        let mut memory = Memory::default();
        for router in self.router {
            let known = Known {
                name: "learnt".to_owned(),
                macs: macs(router.macs),
                link_locals: router.link_locals,
                prefixes: router
                    .prefixes
                    .iter()
                    .filter_map(|text| text.parse().ok())
                    .collect(),
                claims: router.claims.map(|claims| Claims {
                    managed: claims.managed,
                    other: claims.other,
                    preference: claims.preference,
                    name_servers: claims.name_servers,
                    mtu: claims.mtu,
                }),
            };
            memory
                .routers
                .entry(router.interface)
                .or_default()
                .push(known);
        }
        for gateway in self.gateway {
            let key = (gateway.interface, gateway.address);
            memory.gateways.insert(key, macs(gateway.macs));
        }
        for event in self.event {
            let rule = SecurityRule::ALL
                .iter()
                .find(|rule| rule.label() == event.rule);
            let severities = Severity::ALL.iter();
            let mut severities = severities.filter(|known| known.label() == event.severity);
            let (Some(&rule), Some(&severity)) = (rule, severities.next()) else {
                continue;
            };
            // Seen before this boot: the wall clock is all that is left of the time.
            let boottime_ms = if same_boot {
                event.first_boottime_ms
            } else {
                0
            };
            let first_seen = RecordTime {
                boottime_ms,
                wall_ms: event.first_wall_ms,
            };
            let evidence = event
                .evidence
                .into_iter()
                .map(|[name, value]| (name, value));
            let open = Open::kept(severity, first_seen, evidence.collect(), event.times);
            memory.open.insert((rule, event.object), open);
        }
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let mac: MacAddress = "02:00:00:00:00:01".parse().unwrap();
        let router = Known {
            name: "learnt".to_owned(),
            macs: vec![mac],
            link_locals: vec!["fe80::1".parse().unwrap()],
            prefixes: vec!["2001:db8::/64".parse().unwrap()],
            claims: Some(Claims {
                managed: true,
                other: false,
                preference: "high".to_owned(),
                name_servers: vec!["2001:db8::53".parse().unwrap()],
                mtu: Some(1_400),
            }),
        };
        let first_seen = RecordTime {
            boottime_ms: 5_000,
            wall_ms: 1_790_000_000_000,
        };
        let evidence = vec![("mac".to_owned(), "\"quoted\" = '\n' 字".to_owned())];
        let open = Open::kept(Severity::Critical, first_seen, evidence, 3);
        let unclaimed = Known {
            claims: None,
            ..router.clone()
        };
        Memory {
            routers: BTreeMap::from([("eth0".to_owned(), vec![router, unclaimed])]),
            gateways: BTreeMap::from([(("eth0".to_owned(), [10, 0, 0, 1].into()), vec![mac])]),
            open: BTreeMap::from([((SecurityRule::GatewayMac, "gateway".to_owned()), open)]),
        }
    }

    #[test]
    fn it_is_read_as_it_was_written_in_the_same_boot_and_nearly_so_in_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let boot = BootId([1; 16]);
        assert_eq!(Memory::load(folder.path(), boot).unwrap(), None);
        let text = memory().text(boot).unwrap();
        state_file::write(&path(folder.path()), text.as_bytes()).unwrap();
        assert_eq!(Memory::load(folder.path(), boot).unwrap(), Some(memory()));

        let next = Memory::load(folder.path(), BootId([2; 16]))
            .unwrap()
            .unwrap();
        let open = next.open.values().next().unwrap();
        assert_eq!(open.first_seen.boottime_ms, 0);
        assert_eq!(open.first_seen.wall_ms, 1_790_000_000_000);
        assert_eq!(
            (next.routers, next.gateways),
            (memory().routers, memory().gateways)
        );
    }

    #[test]
    fn what_is_no_memory_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for bad in [&b"router = 5"[..], b"\xff"] {
            state_file::write(&path(folder.path()), bad).unwrap();
            assert!(Memory::load(folder.path(), BootId([1; 16])).is_err());
        }
    }
}
