//! Every text an operator reads, in Chinese and English, in one catalogue.
//!
//! Chinese texts go out by SMS: at most [`ZH_CHARACTERS`] characters, names included, so that one message holds them.

use time::UtcOffset;
use time::macros::{format_description, offset};

use extranet_agent::ipv6::rubric::Level;

use extranet_proto::record::SecurityRule;

use crate::security::title;
use crate::state::Cause;

/// Characters of one SMS in UCS-2.
pub const ZH_CHARACTERS: usize = 70;
/// Longest name that is shown whole, characters.
const NAME_CHARACTERS: usize = 20;
/// Asia/Shanghai: no daylight saving (requirements AV-18).
const ZONE: UtcOffset = offset!(+8);

/// A text of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// An access point is down.
    Down(Cause),
    /// It is up again.
    Recovered,
    /// It had not been down: late results show that it worked.
    FalseAlarm,
    /// It is not monitored any more.
    NotMonitored,
    /// The IPv6 level of an access point fell, from and to.
    Ipv6Fell(Level, Level),
    /// It is back at this level.
    Ipv6Recovered(Level),
    /// Its IPv6 readiness is not measured any more.
    Ipv6NotMonitored,
    /// A security event.
    Security {
        /// The rule that was broken.
        rule: SecurityRule,
        /// Reported afterwards (补报).
        late: bool,
    },
    /// It is over.
    SecurityOver {
        /// The rule that was broken.
        rule: SecurityRule,
        /// Reported afterwards (补报).
        late: bool,
    },
    /// It grew worse: another alert takes its place.
    SecurityWorse(SecurityRule),
    /// Nobody looks any more.
    SecurityNotMonitored(SecurityRule),
    /// An operator closed it.
    SecurityByHand(SecurityRule),
}

/// What a text is about.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Name of the access point.
    pub name: &'a str,
    /// The check that caused it, or the object of a security event; empty where there is none.
    pub check: &'a str,
    /// Beginning, ms since 1970.
    pub since_ms: i64,
    /// End, ms since 1970; the beginning where there is none.
    pub until_ms: i64,
}

/// A text in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bilingual {
    /// 中文
    pub zh: String,
    /// English
    pub en: String,
}

impl Text {
    #[cfg(test)]
    const ALL: [Self; 18] = [
        Self::Down(Cause::None),
        Self::Down(Cause::Link),
        Self::Down(Cause::Device),
        Self::Down(Cause::Unattributed),
        Self::Down(Cause::Silence),
        Self::Recovered,
        Self::FalseAlarm,
        Self::NotMonitored,
        Self::Ipv6Fell(Level::L5, Level::L0),
        Self::Ipv6Recovered(Level::L5),
        Self::Ipv6NotMonitored,
        Self::Security {
            rule: SecurityRule::RogueDhcp,
            late: true,
        },
        Self::Security {
            rule: SecurityRule::Certificate,
            late: false,
        },
        Self::SecurityOver {
            rule: SecurityRule::RogueDhcp,
            late: true,
        },
        Self::SecurityOver {
            rule: SecurityRule::Certificate,
            late: false,
        },
        Self::SecurityWorse(SecurityRule::RogueDhcp),
        Self::SecurityNotMonitored(SecurityRule::RogueDhcp),
        Self::SecurityByHand(SecurityRule::RogueDhcp),
    ];

    /// Templates: Chinese, English. `{name}`, `{check}`, `{title}`, `{from}`, `{to}`, `{since}` and `{minutes}` are
    /// filled in.
    const fn templates(self) -> (&'static str, &'static str) {
        match self {
            Self::Down(Cause::Link) => (
                "{name} 中断：上联链路不通，自 {since} 起",
                "{name} is down since {since}: its uplink does not reach the core",
            ),
            Self::Down(Cause::Device) => (
                "{name} 中断：本地网关无响应，自 {since} 起",
                "{name} is down since {since}: its own gateway does not answer",
            ),
            Self::Down(Cause::Unattributed | Cause::None) => (
                "{name} 中断：外部探测不可达，自 {since} 起",
                "{name} is down since {since}: it cannot be reached from outside",
            ),
            Self::Down(Cause::Silence) => (
                "{name} 中断：无任何监测数据，自 {since} 起",
                "{name} is down since {since}: nothing was heard of it",
            ),
            Self::Recovered => (
                "{name} 已恢复，{since} 起中断 {minutes} 分钟",
                "{name} is up again after {minutes} min (down since {since})",
            ),
            Self::FalseAlarm => (
                "{name} 告警撤销：监测中断，补传数据表明 {since} 起业务正常",
                "{name} was not down since {since}: monitoring was interrupted, late results show that it worked",
            ),
            Self::NotMonitored => (
                "{name} 告警关闭：已停止监测（{since} 起中断）",
                "{name} is not monitored any more (down since {since})",
            ),
            Self::Ipv6Fell(..) => (
                "{name} IPv6 等级由 {from} 降至 {to}，自 {since} 起（{check}）",
                "{name}: the IPv6 level fell from {from} to {to} at {since} ({check})",
            ),
            Self::Ipv6Recovered(_) => (
                "{name} IPv6 等级已恢复至 {from}，{since} 起下降 {minutes} 分钟",
                "{name}: the IPv6 level is back at {from} after {minutes} min (fell at {since})",
            ),
            Self::Ipv6NotMonitored => (
                "{name} 告警关闭：已停止 IPv6 检测（{since} 起降级）",
                "{name}: IPv6 readiness is not measured any more (fell at {since})",
            ),
            Self::Security { late: false, .. } => (
                "{name} {title}：{check}，自 {since} 起",
                "{name}: {title}: {check}, since {since}",
            ),
            Self::Security { late: true, .. } => (
                "【补报】{name} {title}：{check}，自 {since} 起",
                "[reported afterwards] {name}: {title}: {check}, since {since}",
            ),
            Self::SecurityOver { late: false, .. } => (
                "{name} {title} 已解除：{check}，{since} 起 {minutes} 分钟",
                "{name}: over after {minutes} min: {title}: {check} (since {since})",
            ),
            Self::SecurityOver { late: true, .. } => (
                "【补报】{name} {title} 已解除：{check}，{since} 起 {minutes} 分钟",
                "[reported afterwards] {name}: over after {minutes} min: {title}: {check} (since {since})",
            ),
            Self::SecurityWorse(_) => (
                "{name} {title} 级别升高：{check}，自 {since} 起，见新告警",
                "{name}: grew worse, see its new alert: {title}: {check} (since {since})",
            ),
            Self::SecurityNotMonitored(_) => (
                "{name} {title} 告警关闭，已停止监测：{check}，{since} 起",
                "{name}: not watched any more: {title}: {check} (since {since})",
            ),
            Self::SecurityByHand(_) => (
                "{name} {title} 已人工关闭：{check}，{since} 起",
                "{name}: closed by an operator: {title}: {check} (since {since})",
            ),
        }
    }

    /// The text with its facts.
    pub fn fill(self, facts: &Facts<'_>) -> Bilingual {
        let mut name: String = facts.name.chars().take(NAME_CHARACTERS).collect();
        if name.len() < facts.name.len() {
            name.push('…');
        }
        let since = local_minute(facts.since_ms);
        let minutes = ((facts.until_ms - facts.since_ms).max(0) / 60_000).to_string();
        let (zh, en) = self.templates();
        let (from, to) = match self {
            Self::Ipv6Fell(from, to) => (from.to_string(), to.to_string()),
            Self::Ipv6Recovered(level) => (level.to_string(), String::new()),
            _ => Default::default(),
        };
        let check = if facts.check.is_empty() {
            "-"
        } else {
            facts.check
        };
        let (title_zh, title_en) = self.titles(facts.check);
        let fill = |template: &str, name: &str, title: &str, check: &str| {
            // What others wrote comes last, so that nothing in it is filled in.
            template
                .replace("{from}", &from)
                .replace("{to}", &to)
                .replace("{since}", &since)
                .replace("{minutes}", &minutes)
                .replace("{title}", title)
                .split("{check}")
                .map(|part| part.replace("{name}", name))
                .collect::<Vec<_>>()
                .join(check)
        };
        let without = fill(zh, &name, title_zh, "").chars().count();
        let room = ZH_CHARACTERS.saturating_sub(without);
        Bilingual {
            zh: fill(zh, &name, title_zh, &shortened(check, room)),
            en: fill(en, facts.name, title_en, check),
        }
    }

    fn titles(self, object: &str) -> (&'static str, &'static str) {
        match self {
            Self::Security { rule, .. }
            | Self::SecurityOver { rule, .. }
            | Self::SecurityWorse(rule)
            | Self::SecurityNotMonitored(rule)
            | Self::SecurityByHand(rule) => title(rule, object),
            _ => ("", ""),
        }
    }
}

/// At most so many characters.
fn shortened(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(characters.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// "11-21 10:32" in the zone of the network.
fn local_minute(ms: i64) -> String {
    let format = format_description!("[month]-[day] [hour]:[minute]");
    time::OffsetDateTime::from_unix_timestamp(ms.div_euclid(1_000))
        .ok()
        .and_then(|moment| moment.to_offset(ZONE).format(&format).ok())
        .unwrap_or_else(|| ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_there_in_both_languages_and_fits_one_message() {
        let facts = Facts {
            name: &"最长的接入点位名称".repeat(20),
            check: "gateway fe80::1234:5678:9abc:def0 on enp3s0f1",
            since_ms: 1_790_000_000_000,
            until_ms: 1_790_000_000_000 + 99_999 * 60_000,
        };
        for text in Text::ALL {
            let filled = text.fill(&facts);
            let characters = filled.zh.chars().count();
            assert!(characters <= ZH_CHARACTERS, "{characters}: {}", filled.zh);
            assert!(
                filled
                    .zh
                    .chars()
                    .any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
            );
            assert!(
                filled.en.replace(facts.name, "").is_ascii(),
                "{}",
                filled.en
            );
            for language in [&filled.zh, &filled.en] {
                assert!(!language.contains(['{', '}']), "{language}");
                assert!(language.contains("09-21 22:13"), "{language}");
            }
        }
    }

    #[test]
    fn a_short_name_is_shown_whole() {
        let facts = Facts {
            name: "阿朗乡",
            check: "V6-C1",
            since_ms: 1_790_000_000_000,
            until_ms: 1_790_000_000_000 + 15 * 60_000,
        };
        assert_eq!(
            Text::Recovered.fill(&facts).zh,
            "阿朗乡 已恢复，09-21 22:13 起中断 15 分钟"
        );
    }
}
