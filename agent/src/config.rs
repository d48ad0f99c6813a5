//! Configuration of the agent: /etc/extranet/agent.toml.
//!
//! Every key has a working default; `deploy/examples/agent.toml` shows them all and is checked against this file by a
//! test. The agent knows collector addresses, its state folder and the prefixes it may probe; everything it measures
//! comes as an assignment.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

pub mod reader;

pub use reader::ConfigError;
use reader::{Problems, Reader, read};

/// Where the configuration stands when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/extranet/agent.toml";

/// Private, shared (RFC 6598), link-local and loopback addresses: what an agent may probe when the package says
/// nothing else (OPS-13).
const DEFAULT_PREFIXES: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Collectors, tried in turn.
    pub collectors: Vec<HostPort>,
    /// Key, certificate, spool and last good assignment.
    pub state_dir: PathBuf,
    /// A file with a ticket: an agent that is not enrolled yet enrols with it when it starts.
    pub ticket_file: Option<PathBuf>,
    /// Only addresses inside are probed, whatever an assignment says.
    pub allowed_prefixes: Vec<IpNet>,
    /// Section `[spool]`.
    pub spool: SpoolConfig,
    /// Section `[uplink]`.
    pub uplink: UplinkConfig,
    /// Section `[security]`.
    pub security: SecurityConfig,
    /// Where notifications of SNMP devices are received (`[traps] listen`), beside sockets that systemd hands over; `None` =
    /// nowhere else.
    pub traps_listen: Option<SocketAddr>,
    /// Where statistics about the agent itself are served (`[self] listen`); `None` = not at all.
    pub self_listen: Option<SocketAddr>,
    /// `[log] filter`, in the syntax of tracing-subscriber's `EnvFilter`.
    pub log_filter: String,
}

/// Section `[spool]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Largest size on disk; the oldest records are dropped, and counted, to stay below.
    pub max_bytes: u64,
    /// Older records are dropped, and counted.
    pub max_age: Duration,
    /// What a power cut may take at most: records are forced to disk this often, and before they are sent.
    pub sync_interval: Duration,
}

/// Section `[uplink]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkConfig {
    /// The first retry waits a random time up to this.
    pub backoff_min: Duration,
    /// Each further retry waits up to twice as long, up to this.
    pub backoff_max: Duration,
    /// Address lookup, connection, TLS and greeting together.
    pub connect_timeout: Duration,
    /// A silent connection is asked for a sign of life (HTTP/2 ping) this often...
    pub keepalive_interval: Duration,
    /// ... and given up when none comes within this time; so is one whose data nobody acknowledges.
    pub keepalive_timeout: Duration,
}

/// Section `[security]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityConfig {
    /// Where the agent listens for its sensor; `None` = in the runtime folder that systemd gives, if it gives one.
    pub sensor_socket: Option<PathBuf>,
    /// How long a detection must be quiet before its event is reported as over. The collector's own hold-down of SEC-G3
    /// begins then.
    pub hold_down: Duration,
    /// How long routers and gateways are learnt before anything is judged, where nobody approved any.
    pub learn_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self::parse("default", "").expect("the defaults are valid")
    }
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        reader::load(path, Self::parse)
    }

    /// Reads a text; `origin` names it in problems.
    pub fn parse(origin: &str, text: &str) -> Result<Self, Problems> {
        read(origin, text, |top| {
            let prefixes = DEFAULT_PREFIXES.iter().filter_map(|text| text.parse().ok());
            let default_collector = HostPort {
                host: "collector.extranet.internal".to_owned(),
                port: 8443,
            };
            let collectors = top.list("collectors", vec![default_collector]);
            if collectors.is_empty() {
                top.problem("collectors", "at least one address is needed");
            }
            Self {
                collectors,
                state_dir: top.path("state_dir", "/var/lib/extranet-agent"),
                ticket_file: top.optional_path("ticket_file"),
                allowed_prefixes: top.list("allowed_prefixes", prefixes.collect()),
                spool: top.section("spool", SpoolConfig::read),
                uplink: top.section("uplink", UplinkConfig::read),
                security: top.section("security", SecurityConfig::read),
                traps_listen: top.section("traps", |traps| traps.listen("listen", None)),
                self_listen: top.section("self", |this| this.listen("listen", None)),
                log_filter: top.section("log", log_filter),
            }
        })
    }
}

/// Reads `filter` of a section `[log]` and checks its syntax.
pub fn log_filter(log: &mut Reader<'_>) -> String {
    let filter = log.string("filter", "info");
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&filter) {
        log.problem("filter", format!("{filter:?} cannot be used: {error}"));
    }
    filter
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

impl SpoolConfig {
    fn read(spool: &mut Reader<'_>) -> Self {
        Self {
            // 30 days of a village plan (docs/performance.md). Less than 1 MiB could not hold two segments.
            max_bytes: spool.bytes("max_bytes", 64 << 20, 1 << 20..=1 << 40),
            max_age: spool.duration("max_age", 30 * DAY, 60 * SECOND..=3_650 * DAY),
            sync_interval: spool.duration(
                "sync_interval",
                5 * SECOND,
                Duration::from_millis(50)..=600 * SECOND,
            ),
        }
    }
}

impl UplinkConfig {
    fn read(uplink: &mut Reader<'_>) -> Self {
        let shortest = Duration::from_millis(10);
        let this = Self {
            backoff_min: uplink.duration("backoff_min", SECOND, shortest..=3_600 * SECOND),
            backoff_max: uplink.duration("backoff_max", 60 * SECOND, shortest..=DAY),
            connect_timeout: uplink.duration(
                "connect_timeout",
                30 * SECOND,
                100 * shortest..=600 * SECOND,
            ),
            // A ping costs about 170 bytes of IP traffic both ways: one every five minutes stays below 5 bit/s on a
            // satellite link, where batches flow every minute anyway.
            keepalive_interval: uplink.duration("keepalive_interval", 300 * SECOND, SECOND..=DAY),
            keepalive_timeout: uplink.duration(
                "keepalive_timeout",
                30 * SECOND,
                SECOND..=600 * SECOND,
            ),
        };
        if this.backoff_min > this.backoff_max {
            uplink.problem("backoff_min", "must not be longer than backoff_max");
        }
        this
    }
}

impl SecurityConfig {
    fn read(security: &mut Reader<'_>) -> Self {
        Self {
            sensor_socket: security.optional_path("sensor_socket"),
            hold_down: security.duration("hold_down", 60 * SECOND, SECOND..=DAY),
            learn_after: security.duration("learn_after", 600 * SECOND, Duration::ZERO..=30 * DAY),
        }
    }
}

/// `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 {
                Err("port 0 cannot be connected to")
            } else {
                Ok(address.into())
            };
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("write host:port, as \"collector.example:8443\"")?;
        let valid_host = !host.is_empty()
            && host.len() <= 253
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if !valid_host {
            return Err("the host must be a name, an IPv4 address or an IPv6 address in brackets");
        }
        match port.parse() {
            Ok(0) | Err(_) => Err("the port must be a number from 1 to 65535"),
            Ok(port) => Ok(Self {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/agent.toml");
        let example = Config::load(&path).unwrap();
        assert_eq!(example, Config::default());
        assert_eq!(example.allowed_prefixes.len(), DEFAULT_PREFIXES.len());

        // Each key is in the example, so that the comparison above means something.
        let text = std::fs::read_to_string(&path).unwrap();
        for key in [
            "collectors",
            "state_dir",
            "ticket_file",
            "allowed_prefixes",
            "max_bytes",
            "max_age",
            "sync_interval",
            "backoff_min",
            "backoff_max",
            "connect_timeout",
            "keepalive_interval",
            "keepalive_timeout",
            "sensor_socket",
            "hold_down",
            "learn_after",
            "listen",
            "filter",
        ] {
            let written = |line: &str| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{key} ="))
            };
            assert!(text.lines().any(written), "{key}");
        }
    }

    /// Each file breaks one rule, and says in its first line what should be said about it.
    #[test]
    fn every_rule_has_a_file_that_breaks_it() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config");
        let mut files = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let expected = text
                .lines()
                .next()
                .unwrap()
                .strip_prefix("# expect: ")
                .unwrap();
            let error = Config::load(&path).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(
                error.contains(expected),
                "{error} should contain {expected}"
            );
            files += 1;
        }
        assert!(files >= 28);
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let text =
            "state_dir = 'x'\ncolour = 1\n[spool]\nmax_bytes = '1'\n[uplink]\nbackoff_min = 'x'\n";
        let problems = Config::parse("agent.toml", text).unwrap_err();
        let lines: Vec<Option<usize>> = problems.list.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [Some(1), Some(2), Some(4), Some(6)], "{problems}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Config::load(Path::new("/nonexistent/agent.toml")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/agent.toml"));
    }

    #[test]
    fn addresses_of_collectors_are_shown_as_they_are_read() {
        for text in ["a.example:8443", "192.0.2.1:1", "[2001:db8::1]:65535"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
    }
}
