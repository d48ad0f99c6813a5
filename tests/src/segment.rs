//! A site on a segment of its own with a router and somebody who does not belong there, all with MAC addresses that the
//! laboratory chooses, and a second way from the site to the centre, so that an attack on the gateway cuts nobody off.
//!
//! ```text
//!               router up0=down0 --+
//!   02:..:01, fe80::1, 10.60.1.1   |
//!                                switch -- up0 site sat0 ------- site0 centre
//!   02:..:66, fe80::66, 10.60.1.66 |           10.60.1.2  10.60.9.2   10.60.9.1
//!               rogue  down0 ------+
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::namespace::{End, Namespace, connect};
use crate::process::Process;

/// MAC address of the router.
pub const ROUTER_MAC: &str = "02:00:00:00:00:01";
/// MAC address of who does not belong there.
pub const ROGUE_MAC: &str = "02:00:00:00:00:66";

/// The namespaces.
#[derive(Debug)]
pub struct Segment {
    /// Where the collector stands: 10.60.9.1.
    pub centre: Namespace,
    /// Where the agent stands: 10.60.1.2 on the segment (`up0`), 10.60.9.2 towards the centre.
    pub site: Namespace,
    /// 10.60.1.1 and `fe80::1` on `down0`.
    pub router: Namespace,
    /// 10.60.1.66 and `fe80::66` on `down0`.
    pub rogue: Namespace,
    _switch: Namespace,
}

impl Default for Segment {
    fn default() -> Self {
        Self::new()
    }
}

impl Segment {
    /// Everything connected, the router as the site's IPv4 gateway.
    pub fn new() -> Self {
        let switch = Namespace::new("switch");
        switch.ip(&["link", "add", "br0", "type", "bridge"]);
        switch.ip(&["link", "set", "br0", "up"]);
        let port = |namespace: &Namespace, interface: &str, port: &str, addresses: &[&str]| {
            let inside = End {
                namespace,
                interface,
                addresses,
            };
            let outside = End {
                namespace: &switch,
                interface: port,
                addresses: &[],
            };
            connect(inside, outside);
            switch.ip(&["link", "set", port, "master", "br0"]);
        };
        let (site, router, rogue) = (
            Namespace::new("site"),
            Namespace::new("router"),
            Namespace::new("rogue"),
        );
        port(&site, "up0", "site", &["10.60.1.2/24"]);
        for (namespace, name, mac, addresses) in [
            (
                &router,
                "router",
                ROUTER_MAC,
                ["10.60.1.1/24", "fe80::1/64"],
            ),
            (&rogue, "rogue", ROGUE_MAC, ["10.60.1.66/24", "fe80::66/64"]),
        ] {
            port(namespace, "down0", name, &[]);
            namespace.forward();
            // Announced to everybody, as a real router does after a failover.
            namespace.sysctl("net/ipv4/conf/down0/arp_notify", "1");
            // No link-local address but the chosen one.
            namespace.sysctl("net/ipv6/conf/down0/addr_gen_mode", "1");
            set_mac(namespace, mac);
            for address in addresses {
                let mut arguments = vec!["address", "add", address, "dev", "down0"];
                arguments.extend(address.contains(':').then_some("nodad"));
                namespace.ip(&arguments);
            }
        }
        let centre = Namespace::new("centre");
        connect(
            End {
                namespace: &centre,
                interface: "site0",
                addresses: &["10.60.9.1/30"],
            },
            End {
                namespace: &site,
                interface: "sat0",
                addresses: &["10.60.9.2/30"],
            },
        );
        site.ip(&["route", "add", "default", "via", "10.60.1.1"]);
        Self {
            centre,
            site,
            router,
            rogue,
            _switch: switch,
        }
    }

    /// radvd in `namespace`, from its link-local address `source`; `options` are those of the interface.
    pub fn advertise(
        &self,
        namespace: &Namespace,
        source: &str,
        prefix: &str,
        options: &str,
        folder: &Path,
    ) -> Process {
        // Each with files of its own: what a killed radvd leaves behind holds its file a moment longer.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let configuration = format!(
            "interface down0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; \
             AdvRASrcAddress {{ {source}; }}; {options} \
             prefix {prefix} {{ AdvOnLink on; AdvAutonomous on; }}; }};\n"
        );
        let path = folder.join(format!("radvd-{number}.conf"));
        std::fs::write(&path, configuration).expect("the test's folder is writable");
        let mut radvd = namespace.place().command("radvd");
        radvd
            .args(["--nodaemon", "--logmethod", "stderr", "--config"])
            .arg(&path)
            .arg("--pidfile")
            .arg(folder.join(format!("radvd-{number}.pid")));
        Process::start("radvd", radvd, folder)
    }
}

/// Gives `down0` of a namespace another MAC address; the kernel tells the segment for each of its IPv4 addresses. (It
/// would also when the link comes up, but then nobody forwards yet.)
pub fn set_mac(namespace: &Namespace, mac: &str) {
    namespace.ip(&["link", "set", "down0", "address", mac]);
}
