//! Network namespaces that live as long as a thread of this process: nothing is left behind, however a test ends.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

type Job = Box<dyn FnOnce() + Send>;

/// A namespace of its own, with loopback up. Belongs to a thread; what is to happen in it happens on that thread.
pub(crate) struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread: Pid,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
            ready.send(gettid()).unwrap();
            for job in queue {
                job();
            }
        });
        let thread = is_ready.recv().expect("the thread made its namespace");
        let namespace = Self { jobs, thread };
        // Addresses are usable at once, link-local ones too: no duplicate address detection.
        namespace.sysctl("ipv6/conf/all/accept_dad", "0");
        namespace.sysctl("ipv6/conf/default/accept_dad", "0");
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs something inside and gives back what it gives, or its panic.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (give, take) = mpsc::channel();
        self.start(move || {
            give.send(catch_unwind(AssertUnwindSafe(job))).unwrap();
        });
        match take.recv().unwrap() {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Starts something inside and does not wait for it.
    pub(crate) fn start(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.send(Box::new(job)).unwrap();
    }

    /// `ip` with these arguments.
    pub(crate) fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || {
            let output = Command::new("ip")
                .args(arguments.split_whitespace())
                .output()
                .expect("iproute2 is installed");
            assert!(output.status.success(), "ip {arguments}: {output:?}");
        });
    }

    /// Sets a sysctl, by its path under /proc/sys/net.
    pub(crate) fn sysctl(&self, path: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/net/{path}"), value.to_owned());
        self.run(move || std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// Lets every group open datagram ICMP sockets, or none: then a raw socket is all that is left.
    pub(crate) fn allow_datagram_icmp(&self, allow: bool) {
        let groups = if allow { "0 2147483647" } else { "1 0" };
        self.sysctl("ipv4/ping_group_range", groups);
    }

    /// A cable to another namespace: `here` and `there` are the names of its ends.
    pub(crate) fn connect(&self, here: &str, other: &Self, there: &str) {
        let thread = other.thread;
        self.ip(&format!(
            "link add {here} type veth peer name {there} netns {thread}"
        ));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    /// Gives an interface its addresses, usable at once.
    pub(crate) fn address(&self, interface: &str, v4: &str, v6: &str) {
        self.ip(&format!("addr add {v4} dev {interface}"));
        self.ip(&format!("addr add {v6} dev {interface} nodad"));
    }
}

/// ```text
/// site a0 ---- r0 router r1 ---- b0 far
///   10.77.0.1  .254     10.78.0.254  .2
///   fd77::1    ::fe     fd78::fe     ::2
/// ```
///
/// The router answers for 10.79.0.0/24 and `fd79::/64` in all the ways a router can refuse, knows no route to others,
/// and sends 10.81.0.0/16 and `fd81::/64` to the far host, which sends it back: a loop.
pub(crate) struct Laboratory {
    pub(crate) site: Namespace,
    pub(crate) router: Namespace,
    pub(crate) far: Namespace,
}

impl Laboratory {
    pub(crate) fn new() -> Self {
        let (site, router, far) = (Namespace::new(), Namespace::new(), Namespace::new());
        for namespace in [&router, &far] {
            namespace.sysctl("ipv4/ip_forward", "1");
            namespace.sysctl("ipv6/conf/all/forwarding", "1");
            // Errors are rate limited per target by default; here each one is to be seen.
            namespace.sysctl("ipv4/icmp_ratelimit", "0");
            namespace.sysctl("ipv6/icmp/ratelimit", "0");
            namespace.sysctl("ipv4/conf/all/send_redirects", "0");
            namespace.sysctl("ipv4/conf/default/send_redirects", "0");
        }
        site.connect("a0", &router, "r0");
        far.connect("b0", &router, "r1");
        site.address("a0", "10.77.0.1/24", "fd77::1/64");
        router.address("r0", "10.77.0.254/24", "fd77::fe/64");
        router.address("r1", "10.78.0.254/24", "fd78::fe/64");
        far.address("b0", "10.78.0.2/24", "fd78::2/64");
        for (host, v4, v6) in [
            (&site, "10.77.0.254", "fd77::fe"),
            (&far, "10.78.0.254", "fd78::fe"),
        ] {
            host.ip(&format!("route add default via {v4}"));
            host.ip(&format!("-6 route add default via {v6}"));
        }
        for (last, refusal) in [(1, "unreachable"), (2, "prohibit"), (3, "blackhole")] {
            router.ip(&format!("route add {refusal} 10.79.0.{last}"));
            router.ip(&format!("-6 route add {refusal} fd79::{last}"));
        }
        router.ip("route add 10.81.0.0/16 via 10.78.0.2");
        router.ip("-6 route add fd81::/64 via fd78::2");
        for target in ["10.78.0.2:9", "[fd78::2]:9"] {
            site.run(move || wait_until_refused(target.parse().unwrap()));
        }
        Self { site, router, far }
    }
}

/// Waits until a host is reached, which refuses connections: from then on all neighbours know each other. The first
/// packets on a new cable may wait a second for that, and a few packets more are dropped.
fn wait_until_refused(target: SocketAddr) {
    let attempts = 100;
    for _ in 0..attempts {
        let error = TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap_err();
        if error.kind() == ErrorKind::ConnectionRefused {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{target} cannot be reached");
}
