//! Security events at the collector: names of the rules, and what follows from times alone. Nothing here reads a clock
//! or the catalogue, so that a replay of the log decides the same.
//!
//! ```text
//!              raised                 nobody sees it          hold-down passed
//!   (none) ------------> active ---------------------> over -------------------> closed
//!                          ^                            |
//!                          +----- raised: a flap -------+
//! ```
//!
//! One event is known by (rule, access point, object), whoever reports it and however often (SEC-G3). What flaps keeps
//! its one event: a hold-down of [`FLAPPING_FACTOR`] times the length after [`FLAPS`] of them.

pub mod certificate;

use extranet_proto::record::{SecurityRule, Severity};

/// So many flaps make an object one that flaps.
pub const FLAPS: u32 = 3;
/// By how much longer it must be quiet then, and how long a closed event counts as a flap of the next one.
pub const FLAPPING_FACTOR: i64 = 6;
/// What is reported so long after it began was reported afterwards (补报), ms: flush intervals are at most a minute.
const LATE_MS: i64 = 120_000;
/// The same for what comes with a backlog.
const LATE_BACKLOG_MS: i64 = 5_000;

/// How long an event must be over before it is closed, ms.
pub const fn hold_down_ms(plain_ms: i64, flaps: u32) -> i64 {
    if flaps >= FLAPS {
        plain_ms.saturating_mul(FLAPPING_FACTOR)
    } else {
        plain_ms
    }
}

/// Flaps of an event that begins, when the last one of the same object was over at `last_over_ms` with `last_flaps`.
pub const fn flaps_of_next(
    plain_ms: i64,
    last_over_ms: i64,
    last_flaps: u32,
    begins_ms: i64,
) -> u32 {
    let near = plain_ms.saturating_mul(FLAPPING_FACTOR);
    if begins_ms.saturating_sub(last_over_ms) < near {
        last_flaps.saturating_add(1)
    } else {
        0
    }
}

/// Whether a report comes afterwards (SEC-32).
pub const fn is_late(at_ms: i64, now_ms: i64, backlog: bool) -> bool {
    let age = now_ms.saturating_sub(at_ms);
    age > LATE_MS || (backlog && age > LATE_BACKLOG_MS)
}

/// The severity that counts: one from a newer agent is taken seriously.
pub const fn known_severity(severity: Severity) -> Severity {
    match severity {
        Severity::Other => Severity::Major,
        known => known,
    }
}

/// 紧急, 重要, 次要, 提示 (SEC-G3).
pub const fn severity_zh(severity: Severity) -> &'static str {
    match known_severity(severity) {
        Severity::Critical => "紧急",
        Severity::Major | Severity::Other => "重要",
        Severity::Minor => "次要",
        Severity::Info => "提示",
    }
}

/// What a rule is called: name of its alert, and titles in Chinese (at most ten characters) and English.
#[expect(clippy::too_many_lines, reason = "a table")]
pub const fn names(rule: SecurityRule) -> (&'static str, &'static str, &'static str) {
    use SecurityRule as R;
    match rule {
        R::RogueRa => (
            "RogueRouterAdvertisement",
            "未批准的路由通告",
            "router advertisement that nobody approved",
        ),
        R::EvasiveNd => (
            "EvasiveNeighbourDiscovery",
            "异常邻居发现报文",
            "neighbour discovery behind fragments or extension headers",
        ),
        R::RogueDhcp => (
            "RogueDhcpServer",
            "未批准的DHCP服务器",
            "DHCP server that nobody approved",
        ),
        R::GatewayMac => (
            "GatewayMacChanged",
            "网关MAC地址变化",
            "the gateway answers with another MAC address",
        ),
        R::DuplicateAddress => ("DuplicateAddress", "地址冲突", "an address is used twice"),
        R::UnknownDevice => (
            "UnknownDevice",
            "网段出现未知设备",
            "a device that the segment did not have before",
        ),
        R::InternetReachable => (
            "IllegalInternetAccess",
            "违规外联",
            "a way to the Internet that is not registered",
        ),
        R::DnsTampering => (
            "DnsTampering",
            "域名解析被篡改",
            "a DNS answer that differs from the authoritative one",
        ),
        R::Certificate => (
            "TlsCertificate",
            "服务证书异常",
            "a certificate changed, expires or does not fit",
        ),
        R::SnmpCredential => (
            "SnmpWeakCredential",
            "SNMP弱口令",
            "SNMP with default or weak credentials",
        ),
        R::InterfaceErrors => ("InterfaceErrors", "接口错误增多", "errors of an interface"),
        R::TrafficAnomaly => ("TrafficAnomaly", "流量异常", "traffic unlike any before"),
        R::Scan => ("NetworkScan", "网段内扫描", "a scan seen from the segment"),
        R::PathChange => (
            "PathChanged",
            "网络路径变化",
            "another way through the network",
        ),
        R::UnexpectedPort => (
            "UnexpectedPort",
            "出现异常监听端口",
            "a port that should not listen",
        ),
        R::TimeSkew => ("TimeSkew", "时钟偏差", "a clock that is wrong"),
        R::AgentTampering => (
            "AgentTampering",
            "监测代理被改动",
            "the agent itself was changed",
        ),
        R::IdentityClone => (
            "IdentityClone",
            "身份被克隆或移机",
            "one identity at two places",
        ),
        R::TransitionTunnel => (
            "TransitionTunnel",
            "未规划的过渡隧道",
            "a transition tunnel that nobody planned",
        ),
        R::FilterMismatch => (
            "FilterMismatch",
            "双栈过滤策略不一致",
            "a filter that differs between IPv4 and IPv6",
        ),
        R::RogueBridge => (
            "RogueBridge",
            "私接无线或交换机",
            "a wireless bridge or switch that nobody approved",
        ),
        R::MobileGateway => (
            "MobileGateway",
            "移动接入网关异常",
            "a gateway of mobile offices that is not what it should be",
        ),
        R::IntrusionAttempt => (
            "IntrusionAttempt",
            "入侵尝试",
            "attempts to enter the agent or to enrol",
        ),
        R::Physical => (
            "PhysicalCondition",
            "机房环境异常",
            "temperature, doors or power",
        ),
        R::Other => (
            "SecurityEvent",
            "安全事件",
            "a security event of a newer agent",
        ),
    }
}

/// Titles of an event, Chinese and English: what it is called, or what happened to the object where that says more.
pub fn title(rule: SecurityRule, object: &str) -> (&'static str, &'static str) {
    if rule == SecurityRule::Certificate {
        for (suffix, zh, en) in [
            (
                certificate::CHANGE,
                "服务证书被更换",
                "the certificate was changed",
            ),
            (
                certificate::EXPIRY,
                "服务证书将到期",
                "the certificate ends soon or has ended",
            ),
            (
                certificate::NAME,
                "服务证书名称不符",
                "the certificate bears another name",
            ),
        ] {
            if object.ends_with(suffix) {
                return (zh, en);
            }
        }
    }
    let (_, zh, en) = names(rule);
    (zh, en)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_flaps_must_be_quiet_for_longer() {
        assert_eq!(hold_down_ms(300_000, 2), 300_000);
        assert_eq!(hold_down_ms(300_000, 3), 1_800_000);
        // Closed 10 minutes ago: the next one is a flap of it. An hour ago: it is not.
        assert_eq!(flaps_of_next(300_000, 1_000_000, 2, 1_600_000), 3);
        assert_eq!(flaps_of_next(300_000, 1_000_000, 2, 4_600_000), 0);
    }

    #[test]
    fn late_is_what_could_have_been_known_before() {
        assert!(!is_late(0, 60_000, false));
        assert!(is_late(0, 121_000, false));
        assert!(is_late(0, 6_000, true));
        assert!(!is_late(5_000, 0, true), "a clock that runs ahead");
    }

    #[test]
    fn every_rule_has_names_of_its_own() {
        let alerts: BTreeSet<_> = SecurityRule::ALL
            .iter()
            .map(|rule| names(*rule).0)
            .collect();
        assert_eq!(alerts.len(), SecurityRule::ALL.len());
        for rule in SecurityRule::ALL {
            let (alert, zh, en) = names(*rule);
            assert!(alert.bytes().all(|b| b.is_ascii_alphanumeric()), "{alert}");
            assert!(zh.chars().count() <= 12 && !zh.is_ascii(), "{zh}");
            assert!(en.is_ascii() && !en.is_empty());
        }
    }

    #[test]
    fn an_event_about_a_certificate_says_what_happened_to_it() {
        let zh = |object| title(SecurityRule::Certificate, object).0;
        assert_eq!(zh("10.1.2.3:443 certificate"), "服务证书被更换");
        assert_eq!(zh("10.1.2.3:443 expiry"), "服务证书将到期");
        assert_eq!(zh("10.1.2.3:443 name"), "服务证书名称不符");
        assert_eq!(zh("something else"), "服务证书异常");
        assert_eq!(title(SecurityRule::Scan, "a name").0, "网段内扫描");
    }
}
