//! IPv6 readiness in the laboratory: a clean dual stack with a real router daemon, IPv4 only, and a router that
//! withdraws itself (lifetime 0).
//!
//! ```text
//! centre 10.60.0.1 ------------ router ------------ site 10.60.1.2
//!        fd60::1                radvd: fd60:1::/64        by SLAAC
//!        portal (HTTP), dnsmasq
//! ```

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use extranet_tests::binary;
use extranet_tests::clock::wait_until;
use extranet_tests::namespace::{End, Namespace, connect};
use extranet_tests::process::Process;
use extranet_tests::sandbox::{Sandbox, Settings};

const PATIENCE: Duration = Duration::from_mins(2);

/// The network, and what runs in it for the whole of a test.
struct Network {
    centre: Namespace,
    router: Namespace,
    site: Namespace,
    folder: tempfile::TempDir,
    resolver: Process,
    /// /etc/netns/NAME of the site: its own resolv.conf.
    site_etc: PathBuf,
}

impl Drop for Network {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.site_etc).ok();
    }
}

impl Network {
    fn new() -> Self {
        let (centre, router, site) = (
            Namespace::new("centre"),
            Namespace::new("router"),
            Namespace::new("site"),
        );
        router.forward();
        connect(
            End {
                namespace: &centre,
                interface: "down0",
                addresses: &["10.60.0.1/30", "fd60::1/64"],
            },
            End {
                namespace: &router,
                interface: "up0",
                addresses: &["10.60.0.2/30", "fd60::2/64"],
            },
        );
        connect(
            End {
                namespace: &router,
                interface: "down0",
                addresses: &["10.60.1.1/30", "fd60:1::1/64"],
            },
            End {
                namespace: &site,
                interface: "up0",
                addresses: &["10.60.1.2/30"],
            },
        );
        centre.ip(&["route", "add", "default", "via", "10.60.0.2"]);
        centre.ip(&["-6", "route", "add", "default", "via", "fd60::2"]);
        site.ip(&["route", "add", "default", "via", "10.60.1.1"]);

        let folder = tempfile::tempdir().expect("a test can make a folder");
        let site_etc = PathBuf::from("/etc/netns").join(site.name());
        std::fs::create_dir_all(&site_etc).expect("root may write to /etc/netns");
        std::fs::write(site_etc.join("resolv.conf"), "nameserver fd60::1\n")
            .expect("root may write to /etc/netns");
        let mut dnsmasq = centre.place().command("dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--pid-file=",
            "--bind-interfaces",
            "--listen-address=fd60::1",
            "--host-record=portal.lab,10.60.0.1,fd60::1",
        ]);
        let resolver = Process::start("dnsmasq", dnsmasq, folder.path());
        portal(&centre);
        Self {
            centre,
            router,
            site,
            folder,
            resolver,
            site_etc,
        }
    }

    /// radvd on the router's link to the site.
    fn advertise(&self, lifetime_seconds: u32) -> Process {
        // Each with files of its own: what a killed radvd leaves behind holds its file a moment longer.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let configuration = format!(
            "interface down0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; \
             AdvDefaultLifetime {lifetime_seconds}; prefix fd60:1::/64 {{ AdvOnLink on; AdvAutonomous on; }}; }};\n"
        );
        let path = self.folder.path().join(format!("radvd-{number}.conf"));
        std::fs::write(&path, configuration).expect("the test's folder is writable");
        let mut radvd = self.router.place().command("radvd");
        radvd
            .args(["--nodaemon", "--logmethod", "stderr", "--config"])
            .arg(&path)
            .arg("--pidfile")
            .arg(self.folder.path().join(format!("radvd-{number}.pid")));
        Process::start("radvd", radvd, self.folder.path())
    }

    /// Waits until the site has, or has no longer, a default route from a router advertisement.
    fn wait_for_route(&self, wanted: bool) {
        wait_until(&format!("a default route: {wanted}"), PATIENCE, || {
            let routes = self.site.ip(&["-6", "route", "show", "default"]);
            if routes.contains("proto ra") == wanted {
                Ok(())
            } else {
                Err(routes)
            }
        });
    }

    /// Waits until the site's address has passed duplicate address detection.
    fn wait_for_address(&self) {
        wait_until("an address by SLAAC", PATIENCE, || {
            let addresses = self.site.ip(&["-6", "address", "show", "dev", "up0"]);
            let usable = |line: &str| line.contains("fd60:1:") && !line.contains("tentative");
            if addresses.lines().any(usable) {
                Ok(())
            } else {
                Err(addresses)
            }
        });
    }

    /// `extranet-agent ipv6 check` at the site.
    fn check(&self) -> Shown {
        let program = binary::path("extranet-agent");
        let output = self
            .site
            .place()
            .command(&program.to_string_lossy())
            .args(["ipv6", "check", "--time", "60"])
            .args(["--anchor6", "fd60::1", "--anchor4", "10.60.0.1"])
            .args(["--collector", "[fd60::1]:80", "--resolver", "fd60::1"])
            .args(["--service", "http://portal.lab", "--prefix", "fd60:1::/48"])
            .args(["--expected-mtu", "1500"])
            .output()
            .expect("the agent starts");
        assert!(output.status.success(), "{output:?}");
        Shown(String::from_utf8(output.stdout).expect("the table is text"))
    }
}

/// What the command shows.
struct Shown(String);

impl Shown {
    /// Verdicts by check, without those that were not tested.
    fn verdicts(&self) -> BTreeMap<&str, &str> {
        let rows = self.0.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let id = words.next()?.strip_prefix("V6-")?;
            Some((id, words.next()?))
        });
        rows.filter(|(_, verdict)| *verdict != "not").collect()
    }

    fn having(&self, verdict: &str) -> Vec<&str> {
        let verdicts = self.verdicts();
        let having = verdicts.into_iter().filter(|(_, found)| *found == verdict);
        having.map(|(id, _)| id).collect()
    }

    fn first_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }
}

/// A home page over IPv6. Its thread ends with the test process.
fn portal(centre: &Namespace) {
    let listener = centre
        .enter(|| TcpListener::bind("[fd60::1]:80"))
        .expect("root may listen on port 80");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 4_096];
                if stream.read(&mut request).is_ok_and(|length| length > 0) {
                    let answer =
                        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nportal";
                    stream.write_all(answer).ok();
                }
            });
        }
    });
}

#[test]
fn a_clean_dual_stack_works_and_nothing_contradicts_more() {
    let network = Network::new();
    let _radvd = network.advertise(1_800);
    network.wait_for_route(true);
    network.wait_for_address();
    let shown = network.check();
    let passing = [
        "A1", "A2", "A3", "A4", "B1", "C1", "C2", "D1", "D3", "E1", "E3", "F1", "F2", "F3", "G1",
        "G2", "H2",
    ];
    assert_eq!(
        shown.having("pass"),
        passing,
        "{}\n{}",
        shown.0,
        network.resolver.log()
    );
    assert_eq!(shown.having("FAIL"), [""; 0], "{}", shown.0);
    assert_eq!(
        shown.first_line(),
        "IPv6 level: L3 dual stack works",
        "{}",
        shown.0
    );
    // Nothing of L4 is contradicted, and the score is said to be provisional.
    assert!(shown.0.contains("score: 100.0 (provisional"), "{}", shown.0);
}

/// The router's link to the centre takes only 1,400 bytes.
fn narrow(network: &Network) {
    for (end, interface) in [(&network.centre, "down0"), (&network.router, "up0")] {
        end.ip(&["link", "set", interface, "mtu", "1400"]);
    }
}

#[test]
fn a_narrow_link_whose_router_says_so_is_no_obstacle() {
    let network = Network::new();
    narrow(&network);
    let _radvd = network.advertise(1_800);
    network.wait_for_route(true);
    network.wait_for_address();
    let shown = network.check();
    assert_eq!(shown.verdicts().get("F2"), Some(&"pass"), "{}", shown.0);
    // Not the 1,500 bytes that are expected.
    assert_eq!(shown.having("FAIL"), ["F3"], "{}", shown.0);
    let level = "IPv6 level: L3 dual stack works";
    assert_eq!(shown.first_line(), level, "{}", shown.0);
}

#[test]
fn a_path_mtu_black_hole_holds_the_level_at_2_and_the_score_at_60() {
    let network = Network::new();
    narrow(&network);
    let router = &network.router;
    router.nft("add table ip6 lab");
    router.nft("add chain ip6 lab out { type filter hook output priority 0; }");
    router.nft("add rule ip6 lab out icmpv6 type packet-too-big drop");
    let _radvd = network.advertise(1_800);
    network.wait_for_route(true);
    network.wait_for_address();
    let shown = network.check();
    assert_eq!(shown.having("FAIL"), ["F2", "F3"], "{}", shown.0);
    let level = "IPv6 level: L2 connected";
    assert_eq!(shown.first_line(), level, "{}", shown.0);
    for text in [
        "held back by: V6-F2 (failed)",
        "path MTU black hole: score at most 60",
        "fd60::1: path_mtu_black_hole path MTU 1400",
    ] {
        assert!(shown.0.contains(text), "{text} in {}", shown.0);
    }
}

#[test]
fn a_site_with_ipv4_only_has_level_0() {
    let network = Network::new();
    let shown = network.check();
    let failing = [
        "A1", "A3", "B1", "C1", "C2", "D1", "D3", "E1", "E3", "F1", "F2", "F3",
    ];
    assert_eq!(shown.having("FAIL"), failing, "{}", shown.0);
    // The link-local address is in order, and there is no tunnel; there is no address to lie outside a prefix.
    assert_eq!(shown.having("pass"), ["A4", "H2"], "{}", shown.0);
    assert_eq!(shown.having("n/a"), ["A2"], "{}", shown.0);
    assert_eq!(shown.first_line(), "IPv6 level: L0 none", "{}", shown.0);
}

#[test]
fn a_router_that_withdraws_itself_lowers_the_level_and_alerts_until_it_is_back() {
    let network = Network::new();
    let radvd = network.advertise(1_800);
    network.wait_for_route(true);
    network.wait_for_address();
    let mut sandbox = Sandbox::start(Settings {
        place: network.centre.place(),
        listen: "10.60.0.1".parse().unwrap(),
        slot: Duration::from_secs(1),
        ..Settings::default()
    });
    sandbox.import(
        "ap_id,name,level,parent,medium,monitoring,division_code\n\
         site,Village 村,village,centre,fibre,agent,540121201201\n",
        "ap_id,name,kind,address\ncentre,core,anchor,10.60.0.1\ncentre,core-v6,anchor,fd60::1\n",
    );
    sandbox.apply_plan(
        "[[plan]]\nname = 'all'\nflush_interval = '500ms'\n[[plan.check]]\nname = 'ipv6'\nprobe = 'ipv6'\n\
         target = 'self'\nfamilies = [6]\ninterval = '6s'\ntimeout = '5s'\ncollector6 = '[fd60::1]:80'\n\
         resolver6 = 'fd60::1'\nservices = ['http://portal.lab']\n",
    );
    let mut agent = sandbox.agent("site", &network.site.place(), sandbox.address(), "");
    let metric = |name: &str| -> Result<f64, String> {
        let query = format!("{name}{{ap_id=\"site\"}}");
        match sandbox.victoria.query(&query)?.as_slice() {
            [row] => Ok(row.value),
            rows => Err(format!("{name}: {rows:?}")),
        }
    };
    let level_is = |wanted: f64| {
        wait_until(&format!("level {wanted}"), PATIENCE, || {
            let level = metric("extranet_ipv6_level")?;
            if (level - wanted).abs() < 0.5 {
                Ok(())
            } else {
                Err(level.to_string())
            }
        });
    };
    level_is(3.0);
    assert!(metric("extranet_ipv6_provisional").unwrap() > 0.5);
    assert!(metric("extranet_ipv6_score_provisional").unwrap() > 99.0);
    assert!(
        metric("extranet_ipv6_score").is_err(),
        "a score that does not count"
    );
    let gate = sandbox
        .victoria
        .query("extranet_ipv6_check{ap_id=\"site\",rubric=\"V6-C1\"}");
    assert!(gate.unwrap().iter().any(|row| row.value > 0.5));

    radvd.kill();
    let radvd = network.advertise(0);
    network.wait_for_route(false);
    level_is(0.0);
    let alert = wait_until("the alert", PATIENCE, || {
        let active = sandbox.alertmanager.active()?;
        let ours = |alert: &&serde_json::Value| {
            alert["labels"]["alertname"] == "Ipv6LevelFell" && alert["labels"]["ap_id"] == "site"
        };
        active
            .iter()
            .find(ours)
            .cloned()
            .ok_or_else(|| format!("{active:?}"))
    });
    let annotations = alert["annotations"].to_string();
    for text in ["fell from L3 to L0", "由 L3 降至 L0", "V6-A3"] {
        assert!(annotations.contains(text), "{text} in {annotations}");
    }

    radvd.kill();
    let _radvd = network.advertise(1_800);
    network.wait_for_route(true);
    level_is(3.0);
    wait_until("the alert to go", PATIENCE, || {
        let active = sandbox.alertmanager.active()?;
        let ours = |alert: &serde_json::Value| alert["labels"]["alertname"] == "Ipv6LevelFell";
        if active.iter().any(ours) {
            Err(format!("{active:?}"))
        } else {
            Ok(())
        }
    });
    sandbox.must_not_have_panicked();
    assert!(agent.stop().success());
    assert!(sandbox.stop_collector().success());
}
