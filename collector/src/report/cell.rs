//! Cells: what they hold, and how they read in a text format.

use time::OffsetDateTime;
use time::macros::format_description;

use super::ZONE;
use super::figures::Share;
use super::words::{Language, Word};

/// One cell of a table. Empty cells differ (REP-11): a count of 0, not applicable, insufficient data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// As somebody wrote it.
    Text(String),
    /// A word of ours.
    Word(Word),
    /// A number of things.
    Count(u64),
    /// Part of a whole in millionths.
    Share(u64),
    /// A number with this many decimals.
    Decimal(i64, u8),
    /// ms since 1970.
    Time(i64),
    /// Does not apply, or nobody has said.
    NotApplicable,
    /// 数据不足: the bounds of a share in millionths (AV-11).
    Insufficient {
        /// Everything unknown counts as bad.
        low: u64,
        /// Everything unknown counts as good.
        high: u64,
    },
}

impl Cell {
    /// A text; nothing when it is empty.
    pub fn text(text: &str) -> Self {
        if text.is_empty() {
            Self::NotApplicable
        } else {
            Self::Text(text.to_owned())
        }
    }

    /// A share, or nothing.
    pub fn share(share: Option<Share>) -> Self {
        share.map_or(Self::NotApplicable, |share| Self::Share(share.millionths()))
    }

    /// A part of a whole; nothing without a whole.
    pub fn part(part: u64, whole: u64) -> Self {
        Self::share(Share::of(part, whole))
    }

    /// Slots in minutes, with decimals only where slots are no whole minutes.
    pub fn minutes(slots: u64, slot_ms: i64) -> Self {
        let slots = i64::try_from(slots).unwrap_or(i64::MAX);
        let ms = slots.saturating_mul(slot_ms);
        if slot_ms % 60_000 == 0 {
            Self::Decimal(ms / 60_000, 0)
        } else {
            Self::Decimal(ms / 600, 2)
        }
    }

    /// Degrees times 10^6.
    pub fn degrees(e6: Option<i32>) -> Self {
        e6.map_or(Self::NotApplicable, |e6| Self::Decimal(e6.into(), 6))
    }

    /// As text, numbers without any formatting.
    pub fn to_text(&self, language: Language) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Word(word) => word.text(language).to_owned(),
            Self::Count(number) => number.to_string(),
            Self::Share(millionths) => fraction(*millionths),
            Self::Decimal(number, decimals) => decimal(*number, *decimals),
            Self::Time(ms) => time(*ms),
            Self::NotApplicable => Word::NOT_APPLICABLE.text(language).to_owned(),
            Self::Insufficient { low, high } => format!(
                "{} [{}, {}]",
                Word::INSUFFICIENT.text(language),
                fraction(*low),
                fraction(*high)
            ),
        }
    }

    /// Whether somebody else wrote the text, so that it may be made to look like a formula.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// As a number for formats that have numbers.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Count(number) => Some(*number as f64),
            Self::Share(millionths) => Some(*millionths as f64 / 1e6),
            Self::Decimal(number, decimals) => {
                Some(*number as f64 / 10_f64.powi(i32::from(*decimals)))
            }
            _ => None,
        }
    }
}

fn fraction(millionths: u64) -> String {
    format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

/// No zeros behind: 12.5, 91.1.
fn decimal(number: i64, decimals: u8) -> String {
    let unit = 10_u64.pow(decimals.into());
    let sign = if number < 0 { "-" } else { "" };
    let (whole, rest) = (number.unsigned_abs() / unit, number.unsigned_abs() % unit);
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let width = usize::from(decimals);
    let rest = format!("{rest:0width$}");
    format!("{sign}{whole}.{}", rest.trim_end_matches('0'))
}

/// ISO 8601 with offset, Asia/Shanghai.
pub(super) fn time(ms: i64) -> String {
    let format = format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second][offset_hour sign:mandatory]:[offset_minute]"
    );
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1_000))
        .ok()
        .and_then(|at| at.to_offset(ZONE).format(&format).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_read_as_required() {
        for (cell, text) in [
            (Cell::Count(6_918), "6918"),
            (Cell::Count(0), "0"),
            (Cell::Share(998_597), "0.998597"),
            (Cell::Share(1_000_000), "1.000000"),
            (Cell::Decimal(12_500, 3), "12.5"),
            (Cell::Decimal(-500_000, 6), "-0.5"),
            (Cell::minutes(3, 60_000), "3"),
            (Cell::minutes(3, 10_000), "0.5"),
            (Cell::Time(1_793_462_400_000), "2026-11-01T00:00:00+08:00"),
            (Cell::NotApplicable, "—"),
            (
                Cell::Insufficient {
                    low: 930_000,
                    high: 990_000,
                },
                "数据不足 [0.930000, 0.990000]",
            ),
        ] {
            assert_eq!(cell.to_text(Language::Zh), text);
        }
    }
}
