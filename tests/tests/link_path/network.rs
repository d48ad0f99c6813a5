//! The network of these tests, and everything that can be done to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use extranet_agent::packet::checksum::internet_checksum;
use extranet_agent::probe::{Measured, ObjectIds, Probes, Run};
use extranet_proto::assignment::{Check, Family, PathProbe, Probe};
use extranet_proto::id::{CheckId, CheckName, TargetId};
use extranet_tests::binary;
use extranet_tests::clock::wait_until;
use extranet_tests::namespace::{End, Namespace, connect};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvfrom,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// The far host in one family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Far {
    pub(crate) address: &'static str,
    pub(crate) v6: bool,
}

/// Both families.
pub(crate) const FAMILIES: [Far; 2] = [
    Far {
        address: "10.70.6.2",
        v6: false,
    },
    Far {
        address: "fd70:6::2",
        v6: true,
    },
];

/// Which of the two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Upper,
    Lower,
}

/// Hosts and routers.
pub(crate) struct Network {
    pub(crate) site: Namespace,
    pub(crate) first: Namespace,
    pub(crate) upper: Namespace,
    _lower: Namespace,
    pub(crate) last: Namespace,
    _far: Namespace,
}

impl Network {
    pub(crate) fn new() -> Self {
        let [site, first, upper, lower, last, far] =
            ["site", "first", "upper", "lower", "last", "far"].map(Namespace::new);
        for namespace in [&site, &first, &upper, &lower, &last, &far] {
            // Routers answer each packet here; how they keep back is looked at elsewhere.
            namespace.sysctl("net/ipv4/icmp_ratelimit", "0");
            namespace.sysctl("net/ipv6/icmp/ratelimit", "0");
            namespace.sysctl("net/ipv4/conf/all/rp_filter", "0");
            namespace.sysctl("net/ipv4/conf/default/rp_filter", "0");
            namespace.sysctl("net/ipv4/conf/all/send_redirects", "0");
            namespace.sysctl("net/ipv4/conf/default/send_redirects", "0");
            namespace.sysctl("net/ipv6/conf/all/accept_dad", "0");
            namespace.sysctl("net/ipv6/conf/default/accept_dad", "0");
        }
        for router in [&first, &upper, &lower, &last] {
            router.forward();
        }
        link(1, (&site, "net1"), (&first, "net1"));
        link(2, (&first, "net2"), (&upper, "net2"));
        link(3, (&first, "net3"), (&lower, "net3"));
        link(4, (&upper, "net4"), (&last, "net4"));
        link(5, (&lower, "net5"), (&last, "net5"));
        link(6, (&last, "net6"), (&far, "net6"));
        for (router, back, forth) in [(&upper, 2, 4), (&lower, 3, 5)] {
            route(router, "default", &format!("via 10.70.{forth}.2"));
            route(router, "10.70.1.0/24", &format!("via 10.70.{back}.1"));
            route(router, "-6 default", &format!("via fd70:{forth}::2"));
            route(router, "-6 fd70:1::/64", &format!("via fd70:{back}::1"));
        }
        for (host, number) in [(&site, 1), (&last, 4), (&far, 6)] {
            // The routes of the last router and the far host lead back; the site's lead out.
            let next = if number == 1 { 2 } else { 1 };
            route(host, "default", &format!("via 10.70.{number}.{next}"));
            route(host, "-6 default", &format!("via fd70:{number}::{next}"));
        }
        let network = Self {
            site,
            first,
            upper,
            _lower: lower,
            last,
            _far: far,
        };
        network.lead(Way::Lower);
        network.warm_up();
        network.lead(Way::Upper);
        network.warm_up();
        network.count();
        network
    }

    /// Waits until the far host answers over both families: then all neighbours on the way know each other.
    fn warm_up(&self) {
        for far in FAMILIES {
            wait_until("the far host", Duration::from_secs(20), || {
                let mut ping = self.site.place().command("ping");
                ping.args(["-c", "1", "-W", "1", far.address]);
                match ping.output() {
                    Ok(output) if output.status.success() => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
        }
    }

    /// All traffic takes one way, there and back.
    pub(crate) fn lead(&self, way: Way) {
        let (number, back) = match way {
            Way::Upper => (2, 4),
            Way::Lower => (3, 5),
        };
        route(&self.last, "default", &format!("via 10.70.{back}.1"));
        self.last.ip(&["-6", "route", "flush", "default"]);
        route(&self.last, "-6 default", &format!("via fd70:{back}::1"));
        route(&self.first, "default", &format!("via 10.70.{number}.2"));
        self.first.ip(&["-6", "route", "flush", "default"]);
        route(&self.first, "-6 default", &format!("via fd70:{number}::2"));
    }

    /// The first router shares load between both ways, by addresses, protocol and ports.
    pub(crate) fn share_load(&self) {
        for family in ["ipv4", "ipv6"] {
            // By what is in the packet (bits 0 to 2, 4, 5). The policy "layer 4" would take the number that came with
            // the packet inside of the kernel: the one that the sender's socket drew, another one for each socket.
            let setting = |name: &str| format!("net/{family}/fib_multipath_hash_{name}");
            self.first.sysctl(&setting("fields"), "0x37");
            self.first.sysctl(&setting("policy"), "3");
        }
        let both = |a: &str, b: &str| format!("nexthop via {a} nexthop via {b}");
        route(&self.first, "default", &both("10.70.2.2", "10.70.3.2"));
        self.first.ip(&["-6", "route", "flush", "default"]);
        route(&self.first, "-6 default", &both("fd70:2::2", "fd70:3::2"));
    }

    /// One run at the site.
    pub(crate) fn measure(&self, probes: &Probes, probe: &PathProbe, far: Far) -> Measured {
        let address: IpAddr = far.address.parse().expect("an address");
        let timeout = Duration::from_secs(30);
        let check = Check {
            id: CheckId(1),
            target: TargetId(1),
            name: CheckName::new("way").expect("a valid name"),
            family: Family::of(address),
            interval: timeout,
            timeout,
            stretch_last: false,
            probe: Probe::Path(probe.clone()),
        };
        self.site.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(probes.run(Run {
                check: &check,
                address,
                vrf: "",
                deadline: tokio::time::Instant::now() + timeout,
            }))
        })
    }

    /// The upper router no longer lets packets through: "loop" sends them back, "drop" swallows them, all else is how
    /// it refuses them. The kernel's own "unreachable" and "prohibit" routes tell five times and then once a second.
    pub(crate) fn spoil(&self, how: &str, far: Far) {
        let router = &self.upper;
        let (family, back, protocol) = if far.v6 {
            ("-6 ", "fd70:2::1", "icmpv6")
        } else {
            ("", "10.70.2.1", "icmp")
        };
        router.nft("add table inet spoil");
        let matching = format!(
            "ip{} daddr {}",
            family.trim_matches(['-', ' ']),
            far.address
        );
        match how {
            "loop" => route(
                router,
                &format!("{family}{}", far.address),
                &format!("via {back}"),
            ),
            "drop" => {
                router.nft("add chain inet spoil through { type filter hook forward priority 0; }");
                router.nft(&format!("add rule inet spoil through {matching} drop"));
            }
            refusal => {
                // Before the time to live is looked at.
                router.nft("add chain inet spoil pre { type filter hook prerouting priority 0; }");
                router.nft(&format!(
                    "add rule inet spoil pre {matching} reject with {protocol} type {refusal}"
                ));
            }
        }
    }

    /// It does again.
    pub(crate) fn mend(&self, far: Far) {
        self.upper.nft("delete table inet spoil");
        let family = if far.v6 { "-6" } else { "-4" };
        self.upper.ip(&[family, "route", "flush", far.address]);
    }

    /// The MTU of the link between the first router and the upper one.
    pub(crate) fn narrow(&self, mtu: u16) {
        let mtu = mtu.to_string();
        for router in [&self.first, &self.upper] {
            router.ip(&["link", "set", "net2", "mtu", &mtu]);
        }
        // What the kernels learnt of the path.
        self.site.ip(&["route", "flush", "cache"]);
        self.site.ip(&["-6", "route", "flush", "cache"]);
    }

    /// The first router keeps "packet too big" to itself.
    pub(crate) fn swallow_too_big(&self) {
        let first = &self.first;
        first.nft("add table inet swallow");
        first.nft("add chain inet swallow out { type filter hook output priority 0; }");
        first.nft("add rule inet swallow out icmp type destination-unreachable icmp code 4 drop");
        first.nft("add rule inet swallow out icmpv6 type packet-too-big drop");
    }

    /// It tells again.
    pub(crate) fn tell_too_big(&self) {
        self.first.nft("delete table inet swallow");
    }

    /// Lets the kernel count what goes to the far host and what comes back, at the site.
    fn count(&self) {
        let site = &self.site;
        site.nft("add table inet count");
        site.nft("add chain inet count out { type filter hook output priority 0; }");
        site.nft("add chain inet count in { type filter hook input priority 0; }");
        for far in FAMILIES {
            let family = if far.v6 { "6" } else { "4" };
            for name in ["out", "in"] {
                site.nft(&format!("add counter inet count {name}{family}"));
            }
        }
        let target = "10.70.6.2";
        site.nft(&format!(
            "add rule inet count out ip daddr {target} counter name out4"
        ));
        site.nft("add rule inet count out ip6 daddr fd70:6::2 counter name out6");
        site.nft("add rule inet count in meta nfproto ipv4 counter name in4");
        // Neighbour discovery is nobody's traffic.
        let nd =
            "{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-query }";
        site.nft(&format!("add rule inet count in icmpv6 type {nd} accept"));
        site.nft("add rule inet count in meta nfproto ipv6 counter name in6");
    }

    /// Bytes sent to the far host, and bytes received, so far.
    pub(crate) fn counted(&self, far: Far) -> (u64, u64) {
        let family = if far.v6 { "6" } else { "4" };
        let read = |name: &str| {
            let text = self
                .site
                .nft(&format!("list counter inet count {name}{family}"));
            let mut words = text.split_whitespace().skip_while(|word| *word != "bytes");
            let bytes = words.nth(1).and_then(|bytes| bytes.parse().ok());
            bytes.unwrap_or_else(|| panic!("no count in {text}"))
        };
        (read("out"), read("in"))
    }

    /// The addresses that mtr finds, with one packet to each hop.
    pub(crate) fn mtr(&self, far: Far, flags: &[&str]) -> Vec<String> {
        let mut mtr = self.site.place().command("mtr");
        mtr.args([
            "--no-dns",
            "--report",
            "--report-cycles",
            "1",
            "--interval",
            "0.1",
            "--gracetime",
            "0.5",
            "--csv",
        ]);
        let output = mtr
            .args(flags)
            .arg(far.address)
            .output()
            .expect("mtr starts");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Mtr_Version,Start_Time,Status,Host,Hop,Ip,Loss%,...
        let rows = text.lines().skip(1);
        rows.filter_map(|row| row.split(',').nth(5).map(str::to_owned))
            .collect()
    }

    /// What the agent's command line shows to a user without any right.
    pub(crate) fn agent_as_nobody(&self, arguments: &[&str]) -> String {
        let program = binary::path("extranet-agent");
        let mut agent = self.site.place().command("setpriv");
        agent.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        agent.args(["--inh-caps=-all", "--bounding-set=-all"]);
        let output = agent.arg(program).args(arguments).output();
        let output = output.expect("the agent starts");
        let shown = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&shown).into_owned()
    }
}

/// The addresses that answer on a way.
pub(crate) fn hops(far: Far, way: Way) -> Vec<String> {
    let (middle, last) = match way {
        Way::Upper => (2, 4),
        Way::Lower => (3, 5),
    };
    let hops = [(1, 2), (middle, 2), (last, 2), (6, 2)];
    let text = |(net, host): (u8, u8)| {
        if far.v6 {
            format!("fd70:{net}::{host}")
        } else {
            format!("10.70.{net}.{host}")
        }
    };
    hops.map(text).to_vec()
}

/// A fresh set of probes, as after a start of the agent.
pub(crate) fn probes() -> Probes {
    Probes::new(ObjectIds::new())
}

/// A router that forwards but never says that the time to live ran out.
pub(crate) fn hush(router: &Namespace) {
    router.nft("add table inet hush");
    router.nft("add chain inet hush out { type filter hook output priority 0; }");
    router.nft("add rule inet hush out icmp type time-exceeded drop");
    router.nft("add rule inet hush out icmpv6 type time-exceeded drop");
}

/// It says so again.
pub(crate) fn speak(router: &Namespace) {
    router.nft("delete table inet hush");
}

/// A router that quotes only the header of IP and eight bytes of what is behind it, over IPv4: it drops what its
/// kernel would say, and says it itself.
pub(crate) fn make_terse(router: &Namespace) -> Terse {
    router.nft("add table inet terse");
    router.nft("add chain inet terse out { type filter hook output priority 0; }");
    router.nft("add rule inet terse out icmp type time-exceeded ip length > 56 drop");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (wire, out) = router.enter(|| {
        let open = |family, kind, protocol| {
            socket(family, kind, SockFlag::empty(), protocol).expect("root may open any socket")
        };
        let (packets, icmp) = (SockProtocol::EthAll, SockProtocol::Icmp);
        (
            open(AddressFamily::Packet, SockType::Datagram, packets),
            open(AddressFamily::Inet, SockType::Raw, icmp),
        )
    });
    let thread = std::thread::spawn(move || quote_eight_bytes(&wire, &out, &stopped));
    Terse {
        stop,
        thread: Some(thread),
    }
}

/// Ends the router's own answers when it is dropped.
pub(crate) struct Terse {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Terse {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// `PACKET_OUTGOING` (packet(7)).
const OUTGOING: u8 = 4;

/// Answers each packet that arrives with a time to live of 1 for the far host, until it is told to stop.
fn quote_eight_bytes(wire: &OwnedFd, out: &OwnedFd, stop: &AtomicBool) {
    setsockopt(wire, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000)).expect("a valid time");
    let mut packet = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = recvfrom::<LinkAddr>(wire.as_raw_fd(), &mut packet) else {
            continue;
        };
        // What leaves again has a time to live of 1 too, if it came with 2.
        let arrives = from.is_some_and(|from| from.pkttype() != OUTGOING);
        let Some(quoted) = packet.get(..28).filter(|_| arrives && length >= 28) else {
            continue;
        };
        // Version and header length, time to live, destination.
        if quoted[0] != 0x45 || quoted[8] != 1 || quoted[16..20] != [10, 70, 6, 2] {
            continue;
        }
        let mut message = vec![11, 0, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(quoted);
        let checksum = internet_checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let source = Ipv4Addr::new(quoted[12], quoted[13], quoted[14], quoted[15]);
        let SocketAddr::V4(to) = SocketAddr::new(source.into(), 0) else {
            unreachable!("an IPv4 address");
        };
        sendto(
            out.as_raw_fd(),
            &message,
            &SockaddrIn::from(to),
            MsgFlags::empty(),
        )
        .expect("the site is a neighbour");
    }
}

/// A cable with the addresses of network `number`.
fn link(number: u8, near: (&Namespace, &str), far: (&Namespace, &str)) {
    let addresses = |host: u8| {
        [
            format!("10.70.{number}.{host}/24"),
            format!("fd70:{number}::{host}/64"),
        ]
    };
    let (one, two) = (addresses(1), addresses(2));
    connect(
        End {
            namespace: near.0,
            interface: near.1,
            addresses: &[&one[0], &one[1]],
        },
        End {
            namespace: far.0,
            interface: far.1,
            addresses: &[&two[0], &two[1]],
        },
    );
}

/// Sets a route; the destination may begin with "-6 ".
fn route(namespace: &Namespace, destination: &str, rest: &str) {
    let (family, destination) = match destination.strip_prefix("-6 ") {
        Some(destination) => ("-6", destination),
        None => ("-4", destination),
    };
    let line = format!("{family} route replace {destination} {rest}");
    namespace.ip(&line.split_whitespace().collect::<Vec<_>>());
}
