//! A run as a table for the terminal, in Chinese or English.

use std::fmt::Write as _;

use super::report::Report;
use super::rubric::{Check, Rubric, Unit};
use super::score::{Finding, Score, Verdict};

/// Language of what operators read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Language {
    /// 中文
    Zh,
    /// English
    #[default]
    En,
}

impl Language {
    fn pick<'a>(self, zh: &'a str, en: &'a str) -> &'a str {
        match self {
            Self::Zh => zh,
            Self::En => en,
        }
    }
}

/// The whole output of `extranet-agent ipv6 check`.
pub fn table(rubric: &Rubric, report: &Report, score: &Score, language: Language) -> String {
    let mut text = summary(rubric, score, language);
    text.push('\n');
    let rows = rubric
        .checks
        .iter()
        .zip(report.findings())
        .zip(report.notes());
    for ((check, finding), note) in rows {
        let gate = check
            .gate
            .map_or_else(String::new, |level| level.to_string());
        let line = [
            padded(&check.id, 7),
            padded(&verdict(finding.verdict, language), 12),
            padded(&format!("{:>2}", check.points), 3),
            padded(&gate, 3),
            padded(&value(check, finding), 14),
            padded(language.pick(&check.zh, &check.en), 42),
            note.clone(),
        ]
        .join(" ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Level, score and what stands in the way: the first lines.
fn summary(rubric: &Rubric, score: &Score, language: Language) -> String {
    let mut text = String::new();
    let mut line = |zh: String, en: String| {
        let told = writeln!(text, "{}", language.pick(&zh, &en));
        told.expect("a string grows as needed");
    };
    let level = score.level;
    line(
        format!("IPv6 就绪等级: {level} {}", level.zh()),
        format!("IPv6 level: {level} {}", level.en()),
    );
    if score.possible > level {
        let possible = score.possible;
        line(
            format!("  尚有门限未测, 最高可能为 {possible} {}", possible.zh()),
            format!(
                "  gates are not tested yet; nothing contradicts {possible} {}",
                possible.en()
            ),
        );
    }
    if !score.held_back_by.is_empty() {
        let gates = |failed: &str, untested: &str| {
            let one = |gate: &super::score::Gate| {
                format!(
                    "{} ({})",
                    gate.name,
                    if gate.failed { failed } else { untested }
                )
            };
            score
                .held_back_by
                .iter()
                .map(one)
                .collect::<Vec<_>>()
                .join(", ")
        };
        line(
            format!("  下一级的障碍: {}", gates("不合格", "未测")),
            format!(
                "  next level held back by: {}",
                gates("failed", "not tested")
            ),
        );
    }
    let (passed, tested, applicable) = (score.passed, score.tested, score.applicable);
    match score.hundredths {
        None => line(
            "得分: 数据不足".to_owned(),
            "score: insufficient".to_owned(),
        ),
        Some(hundredths) => {
            let number = format!("{}.{}", hundredths / 100, hundredths % 100 / 10);
            let (zh, en) = if score.sufficient {
                ("", "")
            } else {
                (
                    " (暂定: 已测分值不足)",
                    " (provisional: too few points were tested)",
                )
            };
            line(
                format!(
                    "得分: {number}{zh}; 通过 {passed} 分, 已测 {tested} 分, 适用 {applicable} 分"
                ),
                format!(
                    "score: {number}{en}; {passed} points passed, {tested} tested, {applicable} applicable"
                ),
            );
        }
    }
    for cap in rubric
        .caps
        .iter()
        .filter(|cap| score.caps.contains(&cap.name))
    {
        line(
            format!("  {}: 得分不超过 {}", cap.zh, cap.score),
            format!("  {}: score at most {}", cap.en, cap.score),
        );
    }
    text
}

fn verdict(verdict: Verdict, language: Language) -> String {
    let (zh, en) = match verdict {
        Verdict::Pass => ("合格", "pass"),
        Verdict::Fail => ("不合格", "FAIL"),
        Verdict::NotApplicable => ("不适用", "n/a"),
        Verdict::NotTested => ("未测", "not tested"),
    };
    language.pick(zh, en).to_owned()
}

fn value(check: &Check, finding: &Finding) -> String {
    let Some(thousandths) = finding.value else {
        return String::new();
    };
    let sign = if thousandths < 0 { "-" } else { "" };
    let (whole, rest) = (
        thousandths.unsigned_abs() / 1_000,
        thousandths.unsigned_abs() % 1_000,
    );
    let exact = format!("{sign}{whole}.{:02}", rest / 10);
    match check.unit {
        Unit::Count => format!("{sign}{whole}"),
        Unit::S => format!("{sign}{whole} s"),
        Unit::Bytes => format!("{sign}{whole} B"),
        Unit::Ms => format!("{exact} ms"),
        Unit::Percent => format!("{exact} %"),
    }
}

/// Filled up with spaces to a width in columns; a Chinese character takes two.
fn padded(text: &str, columns: usize) -> String {
    let width: usize = text
        .chars()
        .map(|c| if c < '\u{1100}' { 1 } else { 2 })
        .sum();
    format!("{text}{}", " ".repeat(columns.saturating_sub(width)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipv6::rubric::rubric;
    use crate::ipv6::score::{Context, score};

    #[test]
    fn both_languages_show_level_score_and_every_row() {
        let mut report = Report::default();
        for id in ["V6-A1", "V6-A3", "V6-B1", "V6-C1"] {
            report.decide(id, true, 1_230, "");
        }
        report.decide("V6-B3", false, 1_000, "fe80::bad");
        let scored = score(rubric(), report.findings(), &Context::default());
        let en = table(rubric(), &report, &scored, Language::En);
        assert!(en.starts_with("IPv6 level: L1 addressed\n"), "{en}");
        assert!(en.contains("held back by: V6-C2 (not tested)"), "{en}");
        assert!(en.contains("score: 40.0 (provisional"), "{en}");
        assert!(
            en.contains("unapproved router advertisements: score at most 40"),
            "{en}"
        );
        assert!(en.contains("1.23 ms"), "{en}");
        let zh = table(rubric(), &report, &scored, Language::Zh);
        assert!(zh.starts_with("IPv6 就绪等级: L1 已配址\n"), "{zh}");
        assert!(zh.contains("未批准的路由通告: 得分不超过 40"), "{zh}");
        for text in [en, zh] {
            for check in &rubric().checks {
                assert!(text.contains(&check.id), "{} in {text}", check.id);
            }
        }
    }

    #[test]
    fn columns_stand_under_each_other_in_chinese_too() {
        assert_eq!(padded("合格", 6), "合格  ");
        assert_eq!(padded("pass", 6), "pass  ");
    }
}
