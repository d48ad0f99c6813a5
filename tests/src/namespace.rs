//! Network namespaces and veth links: hosts and routers on one machine.
//!
//! Names are `extlab-PID-NUMBER-ROLE`, so that runs beside each other never meet. A laboratory removes its namespaces
//! when it is dropped; those of a process that died without doing so are removed when the next laboratory is made.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use crate::place::Place;

const PREFIX: &str = "extlab";

/// Number of the next namespace of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Bytes of an Ethernet header: an interface counts them, an IP network does not.
const ETHERNET_HEADER: u64 = 14;

/// A network namespace. Clones are handles to the same one; the last one removes it, with its links.
#[derive(Debug, Clone)]
pub struct Namespace {
    owned: Arc<Owned>,
}

#[derive(Debug)]
struct Owned {
    name: String,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Fails only when it is gone already. Interfaces go with it, and with them their other ends.
        ip(&["netns", "delete", &self.name]).ok();
    }
}

impl Namespace {
    /// Makes a namespace with loopback up; `role` is for people who look at `ip netns`.
    pub fn new(role: &str) -> Self {
        remove_abandoned();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{role}", std::process::id());
        must(&["netns", "add", &name]);
        let namespace = Self {
            owned: Arc::new(Owned { name }),
        };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.owned.name
    }

    /// As a place for processes and sockets.
    pub fn place(&self) -> Place {
        Place::Inside(self.clone())
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &[&str]) -> String {
        let mut all = vec!["-n", self.name()];
        all.extend_from_slice(arguments);
        must(&all)
    }

    /// IP bytes that went over an interface so far, both directions together, without Ethernet headers.
    pub fn ip_bytes(&self, interface: &str) -> u64 {
        let shown = self.ip(&["-s", "-j", "link", "show", interface]);
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("ip prints JSON");
        let counter = |way: &str, what: &str| {
            shown[0]["stats64"][way][what]
                .as_u64()
                .expect("ip counts bytes and packets")
        };
        ["rx", "tx"]
            .iter()
            .map(|way| counter(way, "bytes") - ETHERNET_HEADER * counter(way, "packets"))
            .sum()
    }

    /// Runs `nft` inside with one command, as `add table inet lab`.
    pub fn nft(&self, command: &str) -> String {
        output(self.place().command("nft").arg(command)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sets a kernel parameter of this namespace, as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, parameter: &str, value: &str) {
        let path = Path::new("/proc/sys").join(parameter);
        self.enter(|| std::fs::write(&path, value))
            .unwrap_or_else(|error| panic!("cannot set {parameter}: {error}"));
    }

    /// Forwards packets of both families between its links.
    pub fn forward(&self) {
        self.sysctl("net/ipv4/ip_forward", "1");
        self.sysctl("net/ipv6/conf/all/forwarding", "1");
    }

    /// Pulls the plug of an interface.
    pub fn link_down(&self, interface: &str) {
        self.ip(&["link", "set", interface, "down"]);
    }

    /// Plugs it in again. IPv6 addresses that went away with the link are put back by the caller.
    pub fn link_up(&self, interface: &str) {
        self.ip(&["link", "set", interface, "up"]);
    }

    /// Runs `work` on a new thread inside; sockets made there stay in this namespace wherever they are used.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = PathBuf::from("/run/netns").join(self.name());
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let file = File::open(&path)
                        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
                    setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// One end of a link: which namespace, the interface's name there, its addresses with prefix length.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Where.
    pub namespace: &'a Namespace,
    /// Name of the interface, at most 15 bytes.
    pub interface: &'a str,
    /// Addresses, as `10.1.0.1/30`.
    pub addresses: &'a [&'a str],
}

/// Connects two namespaces by a veth pair, up on both ends.
pub fn connect(one: End<'_>, other: End<'_>) {
    must(&[
        "link",
        "add",
        one.interface,
        "netns",
        one.namespace.name(),
        "type",
        "veth",
        "peer",
        "name",
        other.interface,
        "netns",
        other.namespace.name(),
    ]);
    for end in [one, other] {
        // Without this an IPv6 address goes away with its link and the plug could not be put back.
        let keep = format!("net/ipv6/conf/{}/keep_addr_on_down", end.interface);
        end.namespace.sysctl(&keep, "1");
        for address in end.addresses {
            let mut arguments = vec!["address", "add", address, "dev", end.interface];
            if address.contains(':') {
                // Nobody else is on the link; duplicate address detection would cost a second of every test.
                arguments.push("nodad");
            }
            end.namespace.ip(&arguments);
        }
        end.namespace.ip(&["link", "set", end.interface, "up"]);
    }
}

/// Removes namespaces whose process is gone, and ends what still runs in them.
fn remove_abandoned() {
    let Ok(list) = ip(&["netns", "list"]) else {
        return;
    };
    for name in list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        let mut parts = name.split('-');
        let ours = parts.next() == Some(PREFIX);
        let owner = parts.next().and_then(|pid| pid.parse::<u32>().ok());
        let Some(owner) = owner.filter(|_| ours) else {
            continue;
        };
        if Path::new(&format!("/proc/{owner}"))
            .try_exists()
            .unwrap_or(true)
        {
            continue;
        }
        // Another laboratory may be cleaning up the same ones: what is gone is gone.
        let left_behind = ip(&["netns", "pids", name]).unwrap_or_default();
        for pid in left_behind
            .lines()
            .filter_map(|line| line.trim().parse().ok())
        {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).ok();
        }
        ip(&["netns", "delete", name]).ok();
    }
}

fn must(arguments: &[&str]) -> String {
    ip(arguments).unwrap_or_else(|error| panic!("{error}"))
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    output(Command::new("ip").args(arguments))
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {}: {}", output.status, stderr.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use crate::clock::wait_until;

    /// centre 10.9.0.1 -- parent -- site 10.9.1.2, both families, routed by the parent.
    fn chain() -> (Namespace, Namespace, Namespace) {
        let (centre, parent, site) = (
            Namespace::new("centre"),
            Namespace::new("parent"),
            Namespace::new("site"),
        );
        connect(
            End {
                namespace: &centre,
                interface: "down0",
                addresses: &["10.9.0.1/30", "fd00:9::1/64"],
            },
            End {
                namespace: &parent,
                interface: "up0",
                addresses: &["10.9.0.2/30", "fd00:9::2/64"],
            },
        );
        connect(
            End {
                namespace: &parent,
                interface: "down0",
                addresses: &["10.9.1.1/30", "fd00:9:1::1/64"],
            },
            End {
                namespace: &site,
                interface: "up0",
                addresses: &["10.9.1.2/30", "fd00:9:1::2/64"],
            },
        );
        parent.forward();
        centre.ip(&["route", "add", "default", "via", "10.9.0.2"]);
        centre.ip(&["-6", "route", "add", "default", "via", "fd00:9::2"]);
        site.ip(&["route", "add", "default", "via", "10.9.1.1"]);
        site.ip(&["-6", "route", "add", "default", "via", "fd00:9:1::1"]);
        (centre, parent, site)
    }

    fn hello(from: &Namespace, to: &str) -> Result<(), String> {
        from.enter(|| {
            let address = to.parse().map_err(|_| format!("{to} is no address"))?;
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))
                .map_err(|error| error.to_string())?;
            let mut greeting = [0; 5];
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .map_err(|e| e.to_string())?;
            stream
                .read_exact(&mut greeting)
                .map_err(|error| error.to_string())?;
            if &greeting == b"hello" {
                Ok(())
            } else {
                Err(format!("{greeting:?}"))
            }
        })
    }

    #[test]
    fn a_pulled_plug_cuts_the_site_off_until_it_is_put_back() {
        let (centre, _parent, site) = chain();
        let patience = Duration::from_secs(10);
        for address in ["10.9.0.1:7", "[fd00:9::1]:7"] {
            let listener = centre.enter(|| TcpListener::bind(address)).unwrap();
            // Ends with the test process: nobody waits for it.
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    stream
                        .and_then(|mut stream| stream.write_all(b"hello"))
                        .ok();
                }
            });
            wait_until("the centre from the site", patience, || {
                hello(&site, address)
            });
            site.link_down("up0");
            assert!(hello(&site, address).is_err());
            site.link_up("up0");
            // The default routes went away with the link.
            site.ip(&["route", "replace", "default", "via", "10.9.1.1"]);
            site.ip(&["-6", "route", "replace", "default", "via", "fd00:9:1::1"]);
            wait_until("the centre from the site again", patience, || {
                hello(&site, address)
            });
        }
    }

    #[test]
    fn nft_drops_what_it_is_told_to() {
        let (centre, parent, site) = chain();
        let listener = centre.enter(|| TcpListener::bind("10.9.0.1:7")).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                stream
                    .and_then(|mut stream| stream.write_all(b"hello"))
                    .ok();
            }
        });
        wait_until("the centre", Duration::from_secs(10), || {
            hello(&site, "10.9.0.1:7")
        });
        parent.nft("add table inet lab");
        parent.nft("add chain inet lab forward { type filter hook forward priority 0; }");
        parent.nft("add rule inet lab forward tcp dport 7 drop");
        assert!(hello(&site, "10.9.0.1:7").is_err());
        parent.nft("delete table inet lab");
        hello(&site, "10.9.0.1:7").unwrap();
    }

    #[test]
    fn namespaces_go_with_their_handles_and_abandoned_ones_with_the_next_laboratory() {
        let mut child = Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        let abandoned = format!("{PREFIX}-{dead}-0-left");
        must(&["netns", "add", &abandoned]);
        let namespace = Namespace::new("fresh");
        let name = namespace.name().to_owned();
        let list = must(&["netns", "list"]);
        assert!(list.contains(&name) && !list.contains(&abandoned), "{list}");
        drop(namespace);
        assert!(!must(&["netns", "list"]).contains(&name));
    }
}
