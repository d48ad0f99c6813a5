//! Configuration of the collector: /etc/extranet/collector.toml.
//!
//! Every key has a working default; `deploy/examples/collector.toml` shows them all and is checked against this file by
//! a test. What is measured stands in plans and in the inventory, not here.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use extranet_agent::config::log_filter;
pub use extranet_agent::config::reader::ConfigError;
use extranet_agent::config::reader::{self, Problems, Reader, read};
use ipnet::IpNet;

/// Where the configuration stands when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/extranet/collector.toml";

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The one port for agents: uplink and enrolment.
    pub listen: SocketAddr,
    /// Ingest log, catalogue, certification authority, admin socket.
    pub state_dir: PathBuf,
    /// A plan to start with, in place of the built-in one, as long as none was applied.
    pub plan_file: Option<PathBuf>,
    /// How often time itself is written to the log, so that silence is an input too.
    pub tick: Duration,
    /// Section `[ingest]`.
    pub ingest: IngestConfig,
    /// Section `[state]`.
    pub state: StateConfig,
    /// Section `[vantage]`.
    pub vantage: VantageConfig,
    /// Section `[security]`.
    pub security: SecurityConfig,
    /// Section `[alertmanager]`.
    pub alertmanager: AlertmanagerConfig,
    /// Sections `[[remote_write]]`.
    pub remote_write: Vec<RemoteWriteConfig>,
    /// Sections `[[syslog]]`.
    pub syslog: Vec<SyslogConfig>,
    /// Where statistics about the collector itself are served (`[self] listen`); `None` = not at all.
    pub self_listen: Option<SocketAddr>,
    /// `[log] filter`, in the syntax of tracing-subscriber's `EnvFilter`.
    pub log_filter: String,
}

/// Section `[ingest]`: the log that holds every input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestConfig {
    /// Largest size on disk. What the catalogue has taken over makes room, oldest first; when nothing more can go,
    /// nothing is acknowledged and agents keep their results.
    pub max_bytes: u64,
    /// How far back a replay can go.
    pub max_age: Duration,
}

/// Section `[state]`: when an access point counts as down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    /// Length of a slot, the unit in which availability is decided.
    pub slot: Duration,
    /// Bad slots in a row until an access point is down.
    pub bad_slots: u32,
    /// Good slots in a row until it is up again.
    pub good_slots: u32,
    /// An agent from which nothing came for this long is silent. That alone does not make its site down.
    pub silent_after: Duration,
}

/// Section `[vantage]`: the collector's own measurements, from the centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VantageConfig {
    /// Whether the collector measures at all.
    pub enabled: bool,
    /// Only addresses inside are probed, whatever inventory and plans say.
    pub allowed_prefixes: Vec<IpNet>,
}

/// Section `[security]`: the life of security events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityConfig {
    /// How long an event must be over before it is closed; six times that for what keeps coming back.
    pub hold_down: Duration,
}

/// Section `[alertmanager]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertmanagerConfig {
    /// Base addresses, as `http://127.0.0.1:9093`. Each alert goes to all of them. Empty = no alerts are sent.
    pub urls: Vec<String>,
    /// A firing alert is repeated this often: Alertmanager forgets what is not repeated.
    pub resend: Duration,
}

/// A section `[[remote_write]]`: a metrics engine that takes Prometheus remote write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteWriteConfig {
    /// Names its cursor and its statistics; changing it sends everything again.
    pub name: String,
    /// As `http://127.0.0.1:8428/api/v1/write`.
    pub url: String,
    /// After a restart, what was acknowledged within this time is sent again: `VictoriaMetrics` acknowledges seconds
    /// before data is durable.
    pub cursor_lag: Duration,
    /// Samples wait this long for company.
    pub flush: Duration,
}

/// A section `[[syslog]]`: a receiver of security events (RFC 5424).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogConfig {
    /// Names its cursor and its statistics; a new one gets what happened within the last day.
    pub name: String,
    /// Host or address with port.
    pub address: String,
    /// How messages travel.
    pub transport: Transport,
    /// Number of the facility (RFC 5424 section 6.2.1).
    pub facility: u8,
    /// APP-NAME.
    pub app_name: String,
    /// HOSTNAME; `None` = that of the machine.
    pub hostname: Option<String>,
}

/// How syslog messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// RFC 6587 with octet counting.
    Tcp,
    /// RFC 5426; what is lost on the way is lost.
    Udp,
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            other => Err(format!("unknown transport {other:?} (use tcp, udp)")),
        }
    }
}

/// Facilities by number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

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
        read(origin, text, |top| Self {
            listen: top.parsed("listen", SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8443))),
            state_dir: top.path("state_dir", "/var/lib/extranet-collector"),
            plan_file: top.optional_path("plan_file"),
            tick: top.duration("tick", 60 * SECOND, SECOND / 10..=3_600 * SECOND),
            ingest: top.section("ingest", |ingest| IngestConfig {
                // 30,000 samples/s at 3 bytes for 35 days would be 270 GiB; a machine that small is not the default.
                max_bytes: ingest.bytes("max_bytes", 64 << 30, 1 << 20..=1 << 50),
                max_age: ingest.duration("max_age", 35 * DAY, 60 * SECOND..=3_650 * DAY),
            }),
            state: top.section("state", StateConfig::read),
            vantage: top.section("vantage", |vantage| VantageConfig {
                enabled: vantage.boolean("enabled", true),
                allowed_prefixes: vantage.list(
                    "allowed_prefixes",
                    extranet_agent::config::Config::default().allowed_prefixes,
                ),
            }),
            security: top.section("security", |security| SecurityConfig {
                hold_down: security.duration("hold_down", 300 * SECOND, Duration::ZERO..=DAY),
            }),
            alertmanager: top.section("alertmanager", AlertmanagerConfig::read),
            remote_write: remote_writes(top),
            syslog: syslogs(top),
            self_listen: top.section("self", |this| this.listen("listen", None)),
            log_filter: top.section("log", log_filter),
        })
    }
}

impl StateConfig {
    fn read(state: &mut Reader<'_>) -> Self {
        let slots = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            slot: state.duration("slot", 60 * SECOND, SECOND / 10..=3_600 * SECOND),
            bad_slots: slots(state.integer("bad_slots", 3, 1..=1_000)),
            good_slots: slots(state.integer("good_slots", 3, 1..=1_000)),
            silent_after: state.duration("silent_after", 900 * SECOND, SECOND / 10..=30 * DAY),
        }
    }
}

impl AlertmanagerConfig {
    fn read(section: &mut Reader<'_>) -> Self {
        let urls: Vec<String> = section.list("urls", Vec::new());
        for problem in urls.iter().filter_map(|url| url_problem(url)) {
            section.problem("urls", problem);
        }
        Self {
            urls,
            resend: section.duration("resend", 60 * SECOND, SECOND..=3_600 * SECOND),
        }
    }
}

fn remote_writes(top: &mut Reader<'_>) -> Vec<RemoteWriteConfig> {
    let mut names = std::collections::BTreeSet::new();
    top.sections("remote_write", |target| {
        let name = target.required_string("name");
        if !name.is_empty() && !names.insert(name.clone()) {
            target.problem("name", format!("{name:?} is used twice"));
        }
        let url = target.required_string("url");
        if let Some(problem) = url_problem(&url) {
            target.problem("url", problem);
        }
        RemoteWriteConfig {
            name,
            url,
            cursor_lag: target.duration("cursor_lag", 30 * SECOND, Duration::ZERO..=DAY),
            flush: target.duration("flush", 5 * SECOND, SECOND / 10..=300 * SECOND),
        }
    })
}

fn syslogs(top: &mut Reader<'_>) -> Vec<SyslogConfig> {
    let mut names = std::collections::BTreeSet::new();
    top.sections("syslog", |target| {
        let name = target.required_string("name");
        if !name.is_empty() && !names.insert(name.clone()) {
            target.problem("name", format!("{name:?} is used twice"));
        }
        let address = target.required_string("address");
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if !address.is_empty() && !matches!(port, Some(Ok(1..))) {
            target.problem(
                "address",
                format!("{address:?} must have a port, as in siem.example:514"),
            );
        }
        let transport = target.parsed("transport", Transport::Tcp);
        let word = target.string("facility", "local4");
        let facility = FACILITIES.iter().position(|known| *known == word);
        if facility.is_none() {
            let known = FACILITIES.join(", ");
            target.problem(
                "facility",
                format!("unknown facility {word:?} (use {known})"),
            );
        }
        SyslogConfig {
            name,
            address,
            transport,
            facility: u8::try_from(facility.unwrap_or_default()).unwrap_or_default(),
            app_name: target.string("app_name", "extranet-collector"),
            hostname: target.optional_string("hostname"),
        }
    })
}

/// Both engines sit beside the collector or behind a proxy that does TLS: the collector itself speaks plain HTTP.
fn url_problem(url: &str) -> Option<String> {
    let host = url
        .strip_prefix("http://")
        .map(|rest| rest.split('/').next().unwrap_or_default());
    match host {
        Some(host) if !host.is_empty() => None,
        _ => Some(format!(
            "{url:?} must be an address such as http://127.0.0.1:8428/"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/examples/collector.toml");

    #[test]
    fn the_example_file_shows_the_defaults() {
        assert_eq!(
            Config::parse("example", EXAMPLE).unwrap(),
            Config::default()
        );
    }

    #[test]
    fn the_example_file_with_everything_switched_on_is_valid() {
        let everything = EXAMPLE.replace("#: ", "");
        let config = Config::parse("example", &everything).unwrap();
        assert_eq!(config.remote_write.len(), 1);
        assert_eq!((config.syslog.len(), config.syslog[0].facility), (1, 20));
        assert!(config.plan_file.is_some());
    }

    #[test]
    fn all_problems_come_at_once() {
        let text = "listen = 'here'\ntik = '1s'\n[state]\nbad_slots = 0\n[[remote_write]]\nurl = 'https://x'\n\
                    [[remote_write]]\nname = 'a'\nurl = 'http://x/'\nflush = '9000s'\n\
                    [[syslog]]\nname = 'a'\naddress = 'siem'\ntransport = 'tls'\nfacility = 'local8'\n";
        let problems = Config::parse("c.toml", text).unwrap_err().to_string();
        for expected in [
            "c.toml:1: listen",
            "c.toml:2: tik",
            "state.bad_slots",
            "[0].name",
            "[0].url",
            "[1].flush",
            "syslog[0].address",
            "syslog[0].transport",
            "syslog[0].facility",
        ] {
            assert!(
                problems.contains(expected),
                "{expected} is not in:\n{problems}"
            );
        }
    }
}
